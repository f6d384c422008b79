"""What a letter says, as plain values: every figure of it comes from the permit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from cobranza.contracts.money import Money
from cobranza.contracts.payments import NoticePermitAnswer, PermitLine
from cobranza.notifications.domain.errors import LetterError


@dataclass(frozen=True, slots=True)
class Document:
    """What the letter shows of an invoice beside the ledger's figures."""

    concept: str | None
    fiscal_id: str | None


@dataclass(frozen=True, slots=True)
class Party:
    """Who writes, or who is written to; `code` is the tax id or the customer's code."""

    name: str
    code: str


@dataclass(frozen=True, slots=True)
class Person:
    """The named person who answers."""

    name: str
    email: str
    phone: str | None


@dataclass(frozen=True, slots=True)
class HowToPay:
    """The account of one currency; `reference` is what the debtor must quote."""

    bank: str
    holder: str
    account: str
    reference: str
    link: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of what is owed."""

    number: str
    fiscal_id: str | None
    concept: str | None
    issued_on: date
    due_on: date
    original: Money
    paid: Money
    open: Money
    days: int


@dataclass(frozen=True, slots=True)
class Demand:
    """The table and its sums.

    `apart` is what is open and not claimed because it is disputed, promised or planned, so that
    open - apart - credit = claimed.
    """

    rows: tuple[Row, ...]
    open: Money
    apart: Money
    credit: Money
    claimed: Money


@dataclass(frozen=True, slots=True)
class Receipt:
    """The payment a confirmation thanks for."""

    amount: Money
    value_on: date
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LetterFacts:
    """Everything one letter is written from."""

    reference: str
    as_of: datetime
    creditor: Party
    country: str
    debtor: Party
    contact: Person
    how_to_pay: HowToPay | None
    demand: Demand | None
    receipt: Receipt | None


def demand_of(
    answer: NoticePermitAnswer,
    *,
    documents: Mapping[UUID, Document],
    as_of: date,
) -> Demand:
    """The table of a granted permit, oldest first, as of a business date.

    Raises:
        LetterError: the sums do not give what the permit claims, or two currencies meet.
    """
    lines = answer.lines
    currency = lines[0].currency
    if any(line.currency != currency for line in lines):
        raise LetterError("one letter shows one currency")
    rows = tuple(
        _row(line, documents.get(line.invoice_id) if line.invoice_id is not None else None, as_of)
        for line in sorted(lines, key=lambda line: (line.due_on, line.number, line.instalment or 0))
    )
    total = sum((row.open for row in rows), Money.zero(currency))
    claimable = Money.from_minor(sum(line.minor("claimable") for line in lines), currency)
    credit = answer.credit or Money.zero(currency)
    claimed = claimable - credit
    if answer.claimed is not None and answer.claimed != claimed:
        raise LetterError(
            f"the lines claim {claimed}, the permit {answer.claimed}",
            lines=str(claimed),
            permit=str(answer.claimed),
        )
    return Demand(rows=rows, open=total, apart=total - claimable, credit=credit, claimed=claimed)


def reference_of(notice_id: UUID) -> str:
    """What a person quotes to name a notice: twelve of its digits, in groups."""
    digits = notice_id.hex[:12].upper()
    return f"{digits[:4]}-{digits[4:8]}-{digits[8:]}"


def _row(line: PermitLine, document: Document | None, as_of: date) -> Row:
    issued, still_open = line.minor("issued"), line.minor("open")
    return Row(
        number=line.number if line.instalment in (None, 1) else f"{line.number}/{line.instalment}",
        fiscal_id=document.fiscal_id if document else None,
        concept=document.concept if document else None,
        issued_on=line.issued_on,
        due_on=line.due_on,
        original=Money.from_minor(issued, line.currency),
        paid=Money.from_minor(issued - still_open, line.currency),
        open=Money.from_minor(still_open, line.currency),
        days=max(0, (as_of - line.due_on).days),
    )
