"""Movements of a bank account as a bank tells them, before anybody asks whose money they are.

A bank tells the same movement again and again: statements overlap, notifications (camt.054) come
before the statement (camt.053). `identify` gives each movement the identity under which it is
imported once.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Final, Literal

from cobranza.contracts.money import exponent, to_decimal, to_minor
from cobranza.payments.domain.errors import StatementError

Format = Literal["camt.053", "camt.054", "mt940", "norma43", "csv", "xlsx"]

#: `credit` is money in; `reversal` takes a credit back; `debit`, `returned_debit` (an own payment that
#: came back) and `pending` are counted and left alone.
#: An `empty` one moves nothing: banks book remarks with an amount of zero.
Kind = Literal["credit", "reversal", "debit", "returned_debit", "pending", "empty"]
BOOKED_KINDS: Final[frozenset[Kind]] = frozenset({"credit", "reversal"})

_AMOUNT: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{0,6})?", re.ASCII)
#: Longest text kept of one field.
_LONGEST: Final = 200
#: What banks write where there is nothing to say.
_NOTHING: Final = frozenset({"", "NOTPROVIDED", "NONREF", "NOREF", "NOT PROVIDED", "0"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """One movement of one account.

    Attributes:
        line: where the file tells it, from 1.
        amount: minor units, above zero; the kind says the direction.
        bank_ref: the bank's own reference of the movement, unique in the account.
        entry_ref: the bank's reference of the booking that it is a part of.
        references: what the payer names in structured fields.
        remittance: amounts (minor units) that the payer states for a reference.
        trace: every reference of the movement, by which a reversal finds it.
    """

    line: int
    account: str
    currency: str
    amount: int
    kind: Kind
    booked_on: date
    value_on: date
    bank_ref: str | None = None
    entry_ref: str | None = None
    references: tuple[str, ...] = ()
    remittance: tuple[tuple[str, int], ...] = ()
    texts: tuple[str, ...] = ()
    trace: tuple[str, ...] = ()
    payer_name: str | None = None
    payer_account: str | None = None
    payer_tax_id: str | None = None
    to_account: str | None = None
    method: str = "transfer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The end of one account's statement: what the file says of it as a whole, after its own checks.

    Attributes:
        is_complete: every booked movement from `from_on` through `through_on` is in it.
        opening: minor units; None where the file does not say.
        checks: which control records were compared.
    """

    account: str
    currency: str
    from_on: date | None = None
    through_on: date | None = None
    is_complete: bool = False
    opening: int | None = None
    closing: int | None = None
    checks: tuple[str, ...] = ()


#: What a parser gives: movements in file order, each statement's end after its movements.
Item = Movement | Statement


@dataclass(slots=True)
class Tally:
    """Running totals of one statement, to hold against its control records; in minor units."""

    credits: int = 0
    credit_sum: int = 0
    debits: int = 0
    debit_sum: int = 0
    checks: list[str] = field(default_factory=list)

    def add(self, amount: int, *, credit: bool) -> None:
        """Count one booked entry."""
        if credit:
            self.credits, self.credit_sum = self.credits + 1, self.credit_sum + amount
        else:
            self.debits, self.debit_sum = self.debits + 1, self.debit_sum + amount

    def check(self, name: str, *, stated: int | None, found: int, line: int) -> None:
        """Compare one control figure.

        Raises:
            StatementError: they differ; both figures are told.
        """
        if stated is None:
            return
        if stated != found:
            raise StatementError(
                line=line,
                name=name,
                expected="{stated}, as the file's own control record says",
                values={"stated": stated},
                found=f"{found} in its movements; the file is incomplete or changed, ask the bank for it again",
            )
        self.checks.append(name)

    def check_money(self, name: str, *, stated: int | None, found: int, currency: str, line: int) -> None:
        """Compare one control amount, in minor units of `currency`.

        Raises:
            StatementError: they differ; both figures are told.
        """
        if stated is None:
            return
        if stated != found:
            raise StatementError(
                line=line,
                name=name,
                expected="{stated}, as the file's own control record says",
                values={"stated": f"{to_decimal(stated, currency)} {currency}"},
                found=f"{to_decimal(found, currency)} {currency} by its movements; "
                "the file is incomplete or changed, ask the bank for it again",
            )
        self.checks.append(name)


@dataclass(frozen=True, slots=True)
class Identified:
    """A movement with its identity (64 hexadecimal digits)."""

    identity: str
    movement: Movement

    @property
    def content(self) -> str:
        """What must be the same whenever the movement is told again."""
        told = self.movement
        return f"{told.amount} {told.currency} {told.value_on.isoformat()}"


class Identifier:
    """Gives the movements of one file their identities, in file order.

    With the bank's reference: (account, kind, reference, running number among equal ones); without:
    (account, kind, booking date, amount, texts, running number among equal ones), so that two equal
    payments of a day are two, in every file that tells that day.
    """

    def __init__(self) -> None:
        self._seen: Counter[bytes] = Counter()

    def identify(self, movement: Movement) -> Identified:
        """The movement with its identity; call once per movement."""
        told = movement
        parts: tuple[object, ...]
        if told.bank_ref is not None:
            parts = ("ref", told.account, told.kind, told.bank_ref)
        elif told.entry_ref is not None:
            parts = ("entry", told.account, told.kind, told.entry_ref)
        else:
            words = " ".join((*told.references, *told.texts))
            parts = ("text", told.account, told.kind, told.booked_on, told.currency, told.amount, comparable(words))
        key = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()[:16]
        self._seen[key] += 1
        return Identified(hashlib.sha256(key + str(self._seen[key]).encode()).hexdigest(), told)


def in_minor(text: str, currency: str, *, line: int, name: str) -> int:
    """An amount with a decimal point as minor units, zero or above.

    Raises:
        StatementError: it is no amount of that currency.
    """
    try:
        decimals = exponent(currency)
    except ValueError as error:
        raise StatementError(line=line, name=name, expected="an ISO 4217 currency", found=currency) from error
    fault = StatementError(
        line=line,
        name=name,
        expected="an amount in {currency} with at most {decimals} decimals, such as {example}",
        values={"currency": currency, "decimals": decimals, "example": to_decimal(123456, currency)},
        found=text,
    )
    if not _AMOUNT.fullmatch(text):
        raise fault
    try:
        return to_minor(Decimal(text), currency)
    except ValueError as error:
        raise fault from error


def account_of(text: str) -> str:
    """An account number as it is compared: letters and digits."""
    return "".join(c for c in text.upper() if c.isascii() and c.isalnum())[:64]


def cleaned(text: str | None) -> str | None:
    """One line without control characters, at most 200 characters; None when nothing is said."""
    if text is None:
        return None
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_LONGEST].strip()
    return None if words.upper() in _NOTHING else words


def cleaned_all(texts: Iterable[str | None]) -> tuple[str, ...]:
    """Every text that says something, once, in order; at most 200."""
    found = dict.fromkeys(text for text in map(cleaned, texts) if text is not None)
    return tuple(found)[:_LONGEST]


def comparable(text: str) -> str:
    """Letters and digits without accents and case: how texts are compared across encodings."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(c for c in plain.casefold() if c.isascii() and c.isalnum())
