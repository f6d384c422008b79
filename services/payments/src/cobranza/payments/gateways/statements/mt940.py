"""MT940: the statement of a SWIFT bank, by hand so that a fault names its line and nothing is skipped.

Source: SWIFT category 9, MT940 fields 20, 25, 60a, 61, 86, 62a, as in the design's table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

from cobranza.payments.domain.bank_transaction import (
    Item,
    Kind,
    Movement,
    Statement,
    Tally,
    account_of,
    cleaned,
    cleaned_all,
    in_minor,
)
from cobranza.payments.domain.errors import StatementError
from cobranza.payments.gateways.statements.detect import lines_of

_TAG: Final = re.compile(r":(\d{2}[A-Z]?):(.*)", re.DOTALL)
_BALANCE: Final = re.compile(r"([CD])(\d{6})([A-Z]{3})([0-9,]{1,15})", re.ASCII)
_ENTRY: Final = re.compile(
    r"(?P<value>\d{6})(?P<booked>\d{4})?(?P<mark>R?[CD])(?P<funds>[A-Z])?(?P<amount>[0-9,]{1,15})"
    r"(?P<type>[A-Z][A-Z0-9]{3})(?P<reference>[^\n]{0,60}?)(?://(?P<bank_ref>[^\n]{0,34}))?(?:\n(?P<more>.*))?",
    re.ASCII | re.DOTALL,
)
_SUBFIELD: Final = re.compile(r"\?(\d{2})([^?]*)")
_SEPA: Final = re.compile(r"(EREF|KREF|MREF|CRED|DEBT|SVWZ|ABWA|IBAN|BIC)\+")
_KINDS: Final[dict[str, Kind]] = {"C": "credit", "D": "debit", "RC": "reversal", "RD": "returned_debit"}
_METHODS: Final = {"CHK": "cheque", "DDT": "direct_debit", "CLR": "cash"}
#: Most lines of one field; a message's :86: has six by the standard, some banks write more.
_MOST_LINES: Final = 200


@dataclass(slots=True)
class _Field:
    line: int
    tag: str
    lines: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines).strip()


@dataclass(slots=True)
class _Open:
    line: int
    account: str
    currency: str = ""
    opening: int = 0
    opened_on: date | None = None
    has_opening: bool = False
    tally: Tally = field(default_factory=Tally)
    entry: _Field | None = None
    note: str = ""


def read(path: Path) -> Iterator[Item]:
    """Read the file; opening and closing balance are held against the movements.

    Raises:
        StatementError: a field is wrong, or the closing balance is another one.
    """
    statement: _Open | None = None
    last = 0
    for told in _fields(path):
        last = told.line
        match told.tag:
            case "20":
                if statement is not None:
                    raise _fault(
                        told.line,
                        ":62F:",
                        "the end of the statement begun in line {begun}",
                        ":20:",
                        begun=statement.line,
                    )
            case "25" | "25P":
                if statement is not None:
                    raise _fault(
                        told.line,
                        ":62F:",
                        "the end of the statement begun in line {begun}",
                        ":25:",
                        begun=statement.line,
                    )
                account = account_of(told.lines[0].rpartition("/")[2])
                if not account:
                    raise _fault(told.line, ":25:", "an account", told.text)
                statement = _Open(told.line, account)
            case "60F" | "60M":
                statement = _need(statement, told)
                opening, statement.opened_on, statement.currency = _balance(told)
                statement.opening, statement.has_opening = opening, True
            case "61":
                statement = _need(statement, told)
                if not statement.has_opening:
                    raise _fault(told.line, ":60F:", "an opening balance before the first movement", ":61:")
                if statement.entry is not None:
                    yield _movement(statement)
                statement.entry, statement.note = told, ""
            case "86":
                if statement is not None and statement.entry is not None:
                    statement.note = told.text
            case "62F" | "62M":
                statement = _need(statement, told)
                if statement.entry is not None:
                    yield _movement(statement)
                yield _closed(statement, told)
                statement = None
            case _:
                pass  # Sequence numbers, available balances, the note on the whole statement.
    if statement is not None:
        raise _fault(
            last, ":62F:", "the end of the statement begun in line {begun}", "the end of the file", begun=statement.line
        )
    if not last:
        raise _fault(0, "file", "a statement (:20: … :62F:)", "none")


def _fields(path: Path) -> Iterator[_Field]:
    current: _Field | None = None
    for number, raw in lines_of(path):
        text = raw.rstrip("\r\x03\x1a ")
        if text.startswith("{"):
            # The envelope of the message; its body may begin on the same line.
            text = text.rpartition("{4:")[2] if "{4:" in text else ""
        if text in {"", "-", "-}"} or text.startswith("-}"):
            if current is not None:
                yield current
            current = None
            continue
        tag = _TAG.fullmatch(text)
        if tag:
            if current is not None:
                yield current
            current = _Field(number, tag.group(1), [tag.group(2)])
        elif current is None:
            raise _fault(number, "field", "a field such as :20: or :61:", text[:40])
        else:
            current.lines.append(text)
            if len(current.lines) > _MOST_LINES:
                raise _fault(number, f":{current.tag}:", "at most {most} lines", "more", most=_MOST_LINES)
    if current is not None:
        yield current


def _need(statement: _Open | None, told: _Field) -> _Open:
    if statement is None:
        raise _fault(told.line, ":25:", "the account before", f":{told.tag}:")
    return statement


def _balance(told: _Field) -> tuple[int, date, str]:
    found = _BALANCE.fullmatch(told.text)
    if not found:
        raise _fault(told.line, f":{told.tag}:", "C or D, YYMMDD, currency, amount, as in C270104MXN1000,00", told.text)
    amount = in_minor(_pointed(found[4]), found[3], line=told.line, name=f":{told.tag}: amount")
    return amount if found[1] == "C" else -amount, _date(found[2], told.line, f":{told.tag}: date"), found[3]


def _movement(statement: _Open) -> Movement:
    told = statement.entry
    assert told is not None
    found = _ENTRY.fullmatch(told.text)
    if not found:
        raise _fault(told.line, ":61:", "value date, entry date, C, D, RC or RD, amount, type, reference", told.text)
    value_on = _date(found["value"], told.line, ":61: value date")
    booked_on = _booked(found["booked"], value_on, told.line)
    amount = in_minor(_pointed(found["amount"]), statement.currency, line=told.line, name=":61: amount")
    # RC takes money out again, RD brings it back.
    statement.tally.add(amount, credit=found["mark"] in {"C", "RD"})
    texts, facts = _note(statement.note)
    own, bank_ref = cleaned(found["reference"]), cleaned(found["bank_ref"])
    return Movement(
        line=told.line,
        account=statement.account,
        currency=statement.currency,
        amount=amount,
        kind=_KINDS[found["mark"]] if amount else "empty",
        booked_on=booked_on,
        value_on=value_on,
        bank_ref=bank_ref,
        references=cleaned_all((own, facts.get("EREF"), facts.get("KREF"))),
        texts=cleaned_all((found["more"], *texts)),
        trace=cleaned_all((own, bank_ref, facts.get("EREF"), facts.get("KREF"))),
        payer_name=cleaned(facts.get("NAME")),
        payer_account=cleaned(facts.get("IBAN")),
        method=_METHODS.get(found["type"][1:], "transfer"),
    )


def _note(note: str) -> tuple[list[str], dict[str, str]]:
    """The texts of a :86:, and what its structured parts say."""
    if not _SUBFIELD.search(note):
        texts = note.split("\n")
        joined = "".join(texts)
        return texts, _sepa(joined)
    facts: dict[str, str] = {}
    words = ""
    for code, text in _SUBFIELD.findall(note.replace("\n", "")):
        if "20" <= code <= "29" or "60" <= code <= "63":
            words += text
        elif code in {"32", "33"}:
            facts["NAME"] = facts.get("NAME", "") + text
        elif code == "31":
            facts["IBAN"] = text
    return [words], {**_sepa(words), **facts}


def _sepa(words: str) -> dict[str, str]:
    parts = _SEPA.split(words)
    return {key: text.strip() for key, text in zip(parts[1::2], parts[2::2], strict=False)}


def _closed(statement: _Open, told: _Field) -> Statement:
    if not statement.has_opening:
        raise _fault(told.line, ":60F:", "an opening balance", "none")
    closing, closed_on, currency = _balance(told)
    if currency != statement.currency:
        raise _fault(told.line, f":{told.tag}: currency", "{currency}", currency, currency=statement.currency)
    tally = statement.tally
    tally.check_money(
        "closing balance",
        stated=closing,
        found=statement.opening + tally.credit_sum - tally.debit_sum,
        currency=currency,
        line=told.line,
    )
    return Statement(
        account=statement.account,
        currency=currency,
        from_on=statement.opened_on,
        through_on=closed_on,
        # An intermediate balance (M) means that further messages of the same day follow.
        is_complete=told.tag == "62F",
        opening=statement.opening,
        closing=closing,
        checks=tuple(tally.checks),
    )


def _booked(text: str | None, value_on: date, line: int) -> date:
    """The entry date has no year: it is the one nearest to the value date, also across new year."""
    if text is None:
        return value_on
    candidates = []
    for year in (value_on.year - 1, value_on.year, value_on.year + 1):
        try:
            candidates.append(date(year, int(text[:2]), int(text[2:])))
        except ValueError:
            continue
    if not candidates:
        raise _fault(line, ":61: entry date", "a date MMDD", text)
    return min(candidates, key=lambda day: abs((day - value_on).days))


def _pointed(text: str) -> str:
    return text.replace(",", ".", 1).removesuffix(".")


def _date(text: str, line: int, name: str) -> date:
    try:
        return date(2000 + int(text[:2]), int(text[2:4]), int(text[4:]))
    except ValueError as error:
        raise _fault(line, name, "a date YYMMDD", text) from error


def _fault(line: int, name: str, expected: str, found: str, **values: object) -> StatementError:
    return StatementError(line=line, name=name, expected=expected, values=values, found=found)
