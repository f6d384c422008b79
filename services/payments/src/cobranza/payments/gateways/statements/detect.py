"""Which format a bank file has, by its content: names lie."""

from __future__ import annotations

import codecs
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cobranza.payments.domain.bank_transaction import Format
from cobranza.payments.domain.errors import StatementError

_HEAD: Final = 64 * 1024
_MT940: Final = re.compile(r"^(\{1:|:(20|25|28C?|60[FM]|61):)", re.MULTILINE)
_NORMA43: Final = re.compile(r"^11\d{18}\d{12}[12]\d{14}\d{3}", re.MULTILINE)
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: How Spanish letters outside ASCII are written in the two code pages that banks use.
_SPANISH: Final = "áéíóúüñÁÉÍÓÚÜÑ¿¡ºª"
_CP1252: Final = frozenset(_SPANISH.encode("cp1252"))
_CP850: Final = frozenset(_SPANISH.encode("cp850"))


def detect_format(path: Path, *, name: str) -> Format:
    """The format of a file.

    Raises:
        StatementError: it is none of those that are read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.strip():
        raise StatementError(file=name, line=0, name="file", expected="a bank file", found="an empty file")
    if head.startswith(b"PK\x03\x04"):
        return _inside_zip(path, name)
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise _unknown(name, "an old Excel file (.xls); save it as .xlsx or CSV")
    if head.startswith(b"%PDF"):
        raise _unknown(name, "a PDF; ask the bank for camt.053, MT940, Norma 43, CSV or XLSX")
    text = head.decode(encoding_of(path), errors="replace").lstrip("\ufeff")
    if text.lstrip().startswith("<"):
        for marker, format_ in _CAMT:
            if marker in text:
                return format_
        raise _unknown(name, "XML that is neither camt.053 nor camt.054")
    if _MT940.search(text):
        return "mt940"
    if _NORMA43.match(text):
        return "norma43"
    lines = [line for line in text.splitlines() if line.strip()]
    if "\0" not in text and any(max(line.count(mark) for mark in ",;\t|") >= 1 for line in lines[:50]):
        return "csv"
    raise _unknown(name, f"a file that begins with {text[:40]!r}; --format says what it is")


_CAMT: Final[tuple[tuple[str, Format], ...]] = (
    ("camt.053", "camt.053"),
    ("BkToCstmrStmt", "camt.053"),
    ("camt.054", "camt.054"),
    ("BkToCstmrDbtCdtNtfctn", "camt.054"),
)


def _inside_zip(path: Path, name: str) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            if "xl/workbook.xml" in archive.namelist():
                return "xlsx"
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _unknown(name, "a damaged archive") from error
    raise _unknown(name, "a ZIP archive; unpack it and import the files in it")


def _unknown(name: str, found: str) -> StatementError:
    return StatementError(
        file=name, line=0, name="format", expected="camt.053, camt.054, MT940, Norma 43, CSV or XLSX", found=found
    )


def encoding_of(path: Path) -> str:
    """The encoding of a text file: by its byte order mark, else UTF-8 if it is, else by its Spanish letters."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    counts = [0, 0]
    is_utf8 = True
    with path.open("rb") as file:
        head = file.read(4)
        for bom, encoding in _BOMS:
            if head.startswith(bom):
                return encoding
        if head[1:2] == b"\0" or head[:1] == b"\0":
            return "utf-16-le" if head[1:2] == b"\0" else "utf-16-be"
        file.seek(0)
        while block := file.read(_HEAD):
            if is_utf8:
                try:
                    decoder.decode(block)
                except UnicodeDecodeError:
                    is_utf8 = False
            counts[0] += sum(byte in _CP1252 for byte in block if byte > 0x7F)  # noqa: PLR2004 - ASCII ends there
            counts[1] += sum(byte in _CP850 for byte in block if byte > 0x7F)  # noqa: PLR2004 - ASCII ends there
    if is_utf8:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            is_utf8 = False
    if is_utf8:
        return "utf-8"
    # Code page 1252 leaves five bytes without a meaning; Latin-1 reads whatever comes.
    return "cp850" if counts[1] > counts[0] else "latin-1"


def lines_of(path: Path, *, encoding: str | None = None, longest: int = 20_000) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers from 1, ends stripped.

    Raises:
        StatementError: it is not in that encoding, or a line is longer than any bank writes.
    """
    chosen = encoding or encoding_of(path)
    number = 0
    try:
        with path.open(encoding=chosen, newline=None) as file:
            while text := file.readline(longest):
                number += 1
                if len(text) >= longest and not text.endswith("\n"):
                    raise StatementError(
                        line=number,
                        name="line",
                        expected="at most {most} characters",
                        values={"most": longest},
                        found="a longer line",
                    )
                yield number, text.rstrip("\n")
    except UnicodeError as error:
        raise StatementError(
            line=number + 1,
            name="encoding",
            expected="text in {encoding}",
            values={"encoding": chosen},
            found=str(error),
        ) from error
