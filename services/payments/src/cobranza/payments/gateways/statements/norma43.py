"""Norma 43 (AEB43, CSB43): the statement of Spanish banks, records of 80 characters.

Source: field positions of the AEB's "Cuaderno 43", as in the design's table.
"""

from __future__ import annotations

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
)
from cobranza.payments.domain.errors import StatementError
from cobranza.payments.gateways.statements.detect import lines_of

_WIDTH: Final = 80
#: Amounts have two decimals whatever the currency, so only currencies with two are read.
_CURRENCIES: Final = {"978": "EUR", "840": "USD", "826": "GBP", "756": "CHF", "484": "MXN", "170": "COP"}
_CREDIT: Final = "2"
#: Common concepts that say how it was paid.
_METHODS: Final = {"01": "cash", "03": "direct_debit", "05": "card", "07": "cheque", "11": "cheque", "12": "card"}


@dataclass(slots=True)
class _Open:
    line: int
    account: str
    currency: str
    from_on: date
    to_on: date
    opening: int
    tally: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class _Entry:
    line: int
    record: str
    items: list[str] = field(default_factory=list)


def read(path: Path) -> Iterator[Item]:
    """Read the file; totals of record 33 and the count of record 88 are held against the movements.

    Raises:
        StatementError: a record is wrong, or a total differs.
    """
    account: _Open | None = None
    entry: _Entry | None = None
    records, ended, accounts = 0, False, 0
    number = 0
    for number, text in lines_of(path):
        record = text.rstrip("\r\x1a")
        if not record.strip():
            continue
        if ended:
            raise _fault(number, "record", "nothing after record 88", record[:12])
        if len(record) > _WIDTH:
            raise _fault(number, "record", "{width} characters", f"{len(record)} characters", width=_WIDTH)
        record = record.ljust(_WIDTH)
        code = record[:2]
        if code in {"22", "33"} and entry is not None and account is not None:
            yield _movement(account, entry)
            entry = None
        match code:
            case "11":
                if account is not None:
                    raise _fault(
                        number,
                        "record",
                        "record 33 closing the account opened in line {opened}",
                        "11",
                        opened=account.line,
                    )
                account = _opened(number, record)
                accounts += 1
            case "22":
                if account is None:
                    raise _fault(number, "record", "record 11 before record 22", "22")
                _amount(record, 28, 42, number, "amount")
                _mark(record[27], number)
                entry = _Entry(number, record)
            case "23":
                if entry is None:
                    raise _fault(number, "record", "record 22 before record 23", "23")
                entry.items += [record[4:42], record[42:80]]
            case "24":
                if entry is None:
                    raise _fault(number, "record", "record 22 before record 24", "24")
            case "33":
                if account is None:
                    raise _fault(number, "record", "record 11 before record 33", "33")
                yield _closed(account, record, number)
                account = None
            case "88":
                stated = record[20:26].strip()
                if stated.isdigit() and int(stated) != records:
                    raise _fault(
                        number,
                        "record count",
                        "{count}, as record 88 says",
                        f"{records} records before it",
                        count=int(stated),
                    )
                ended = True
            case "00":
                pass  # The header that some banks put before the first account.
            case _:
                raise _fault(number, "record", "a record 11, 22, 23, 24, 33 or 88", record[:12])
        records += code not in {"88", "00"}
    if account is not None:
        raise _fault(
            number, "record", "record 33 closing the account opened in line {opened}", "the end", opened=account.line
        )
    if not accounts:
        raise _fault(0, "file", "an account (record 11)", "none")
    if not ended:
        raise _fault(number, "record", "record 88 at the end; without it the file is cut off", "the end")


def _opened(line: int, record: str) -> _Open:
    code = record[47:50]
    if code not in _CURRENCIES:
        raise _fault(line, "currency", "one of the numeric codes {codes}", code, codes=", ".join(_CURRENCIES))
    opening = _amount(record, 33, 47, line, "opening balance")
    return _Open(
        line=line,
        account=account_of(record[2:20]),
        currency=_CURRENCIES[code],
        from_on=_date(record[20:26], line, "first day"),
        to_on=_date(record[26:32], line, "last day"),
        opening=opening if _mark(record[32], line) else -opening,
    )


def _movement(account: _Open, entry: _Entry) -> Movement:
    record, line = entry.record, entry.line
    amount = _amount(record, 28, 42, line, "amount")
    is_credit = _mark(record[27], line)
    account.tally.add(amount, credit=is_credit)
    kind: Kind = "empty" if not amount else "credit" if is_credit else "debit"
    document, one, two = (_reference(text) for text in (record[42:52], record[52:64], record[64:80]))
    shorter = (text and text.lstrip("0") for text in (one, two))
    return Movement(
        line=line,
        account=account.account,
        currency=account.currency,
        amount=amount,
        kind=kind,
        booked_on=_date(record[10:16], line, "booking date"),
        value_on=_date(record[16:22], line, "value date"),
        # The bank's references are the payer's or of a booking office: none is unique.
        references=cleaned_all((one, two, *shorter)),
        texts=cleaned_all((*entry.items, document, record[22:27])),
        trace=cleaned_all((document, one, two)),
        method=_METHODS.get(record[22:24], "transfer"),
    )


def _reference(text: str) -> str | None:
    """A reference field; banks fill those they do not use with zeros."""
    return cleaned(text) if text.strip("0 ") else None


def _closed(account: _Open, record: str, line: int) -> Statement:
    tally = account.tally
    if account_of(record[2:20]) != account.account:
        raise _fault(line, "account", "{account}, as in record 11", account_of(record[2:20]), account=account.account)
    tally.check("debit entries", stated=_digits(record, 20, 25, line, "debit entries"), found=tally.debits, line=line)
    tally.check(
        "credit entries", stated=_digits(record, 39, 44, line, "credit entries"), found=tally.credits, line=line
    )
    currency = account.currency
    for name, start, end, found in (
        ("debit sum", 25, 39, tally.debit_sum),
        ("credit sum", 44, 58, tally.credit_sum),
    ):
        tally.check_money(
            name, stated=_amount(record, start, end, line, name), found=found, currency=currency, line=line
        )
    closing = _amount(record, 59, 73, line, "closing balance")
    closing = closing if _mark(record[58], line) else -closing
    found = account.opening + tally.credit_sum - tally.debit_sum
    tally.check_money("closing balance", stated=closing, found=found, currency=currency, line=line)
    return Statement(
        account=account.account,
        currency=currency,
        from_on=account.from_on,
        through_on=account.to_on,
        is_complete=True,
        opening=account.opening,
        closing=closing,
        checks=tuple(tally.checks),
    )


def _mark(mark: str, line: int) -> bool:
    if mark not in {"1", "2"}:
        raise _fault(line, "debit or credit", "1 (debit) or 2 (credit)", mark)
    return mark == _CREDIT


def _digits(record: str, start: int, end: int, line: int, name: str) -> int:
    text = record[start:end]
    if not (text.isascii() and text.isdigit()):
        raise _fault(
            line,
            name,
            "{digits} digits in columns {first} to {last}",
            text,
            digits=end - start,
            first=start + 1,
            last=end,
        )
    return int(text)


def _amount(record: str, start: int, end: int, line: int, name: str) -> int:
    """Fourteen digits, the last two decimals: of every currency, whatever its own decimals are."""
    return _digits(record, start, end, line, name)


def _date(text: str, line: int, name: str) -> date:
    if not (text.isascii() and text.isdigit()):
        raise _fault(line, name, "a date YYMMDD", text)
    try:
        return date(2000 + int(text[:2]), int(text[2:4]), int(text[4:]))
    except ValueError as error:
        raise _fault(line, name, "a date YYMMDD", text) from error


def _fault(line: int, name: str, expected: str, found: str, **values: object) -> StatementError:
    return StatementError(line=line, name=name, expected=expected, values=values, found=found)
