"""Bank files, read as a stream: memory stays flat, and every fault names its line, field and remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cobranza.payments.domain.bank_transaction import Format, Item
from cobranza.payments.domain.errors import StatementError
from cobranza.payments.gateways.statements import camt, detect, mapped, mt940, norma43
from cobranza.payments.gateways.statements.mapped import Mapping

__all__ = ["FORMATS", "MOST_BYTES", "Mapping", "detect_format", "presets", "read"]

FORMATS: Final[tuple[Format, ...]] = ("camt.053", "camt.054", "mt940", "norma43", "csv", "xlsx")
#: Largest file.
MOST_BYTES: Final = 256 * 1024 * 1024

detect_format = detect.detect_format
presets = mapped.presets


def read(
    path: Path, *, name: str, format_: Format, mapping: Mapping | None = None, account: str | None = None
) -> Iterator[Item]:
    """Read a bank file: its movements in order, each statement's end after its movements.

    What was yielded before a fault must be thrown away: the file is refused as a whole.

    Args:
        name: what the file is called in faults.
        mapping: which columns mean what; for CSV and XLSX.
        account: the account where the file does not say it.

    Raises:
        StatementError: the file is refused.
    """
    try:
        match format_:
            case "camt.053" | "camt.054":
                yield from camt.read(path)
            case "mt940":
                yield from mt940.read(path)
            case "norma43":
                yield from norma43.read(path)
            case "csv" | "xlsx":
                if mapping is None:
                    raise mapped.mapping_missing(path, format_)
                yield from mapped.read(path, format_, mapping, account=account)
    except StatementError as error:
        raise error.of_file(name) from error
