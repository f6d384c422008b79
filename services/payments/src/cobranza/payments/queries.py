"""Read-only queries of payments' API, command line and gauges."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Date,
    Select,
    and_,
    case,
    cast,
    func,
    literal,
    not_,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import LateralFromClause

from cobranza.chassis.pagination import Keyset, Window
from cobranza.payments.tables import (
    allocation,
    bank_import,
    bank_line,
    bank_mapping,
    charge_request,
    charge_rules,
    control_total,
    control_total_difference,
    control_total_part,
    fiscal_receipt,
    fiscal_receipt_line,
    invoice,
    journal_entry,
    journal_line,
    late_charge,
    late_charge_credit,
    receipt,
    receivable,
)

BY_DUE = Keyset((receivable.c.due_on, "asc"), (receivable.c.receivable_id, "asc"))
BY_CHECK = Keyset((bank_import.c.checked_at, "desc"), (bank_import.c.import_id, "desc"))
BY_ASSESSMENT = Keyset((late_charge.c.assessed_on, "desc"), (late_charge.c.receivable_id, "asc"))
BY_POSITION = Keyset((bank_line.c.position, "asc"))
#: Accounts that money and credit notes come from and go back to.
SOURCES: Final = ("CASH", "ADJUSTMENT:credit_note")
_ROWS_AT_A_TIME: Final = 1000
BY_DAY = Keyset((control_total.c.total_on, "desc"), (control_total.c.arrived, "desc"))
BY_SIZE = Keyset((control_total_difference.c.distance, "desc"), (control_total_difference.c.customer, "asc"))
BY_DEADLINE = Keyset((fiscal_receipt.c.deadline_on, "asc"), (fiscal_receipt.c.fiscal_receipt_id, "asc"))
BY_VALUE = Keyset((receipt.c.value_on, "desc"), (receipt.c.receipt_id, "asc"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOf:
    """The day at whose end the ledger is read.

    By `value`, what took effect until `on` counts, whenever it was told; by `record`, what was booked
    before `ends_at`, whatever day it takes effect on.
    """

    on: date
    by: Literal["value", "record"]
    ends_at: datetime

    def counts(self, effective_on: ColumnElement[date], booked_at: ColumnElement[datetime]) -> ColumnElement[bool]:
        """The condition that something belongs to what is read."""
        return effective_on <= self.on if self.by == "value" else booked_at < self.ends_at


class ReceivableFilter(NamedTuple):
    """Which receivables; None: any."""

    customer: str | None = None
    currency: str | None = None
    kind: str | None = None
    number: str | None = None
    invoice_id: UUID | None = None
    is_open: bool | None = None
    due_from: date | None = None
    due_through: date | None = None


class ReceiptFilter(NamedTuple):
    """Which receipts; None: any."""

    customer: str | None = None
    currency: str | None = None
    kind: str | None = None
    external_id: str | None = None
    is_unapplied: bool | None = None
    value_from: date | None = None
    value_through: date | None = None


async def receivables(
    connection: AsyncConnection, window: Window, *, company: str, which: ReceivableFilter, as_of: AsOf | None
) -> list[Any]:
    """Receivables of a company by due date, one more than the page to see whether another follows.

    Args:
        as_of: the amounts as they were; None: as they are. Due dates are today's.
    """
    query = _receivables(company, which, as_of)
    return list(await connection.execute(BY_DUE.apply(query, after=window.after, limit=window.limit)))


async def all_receivables(
    connection: AsyncConnection, *, company: str, which: ReceivableFilter, as_of: AsOf | None
) -> AsyncIterator[Sequence[Any]]:
    """The same receivables to the last, in parts."""
    query = _receivables(company, which, as_of).order_by(receivable.c.due_on, receivable.c.receivable_id)
    rows = await connection.stream(query)
    async for part in rows.partitions(_ROWS_AT_A_TIME):
        yield part


def _receivables(company: str, which: ReceivableFilter, as_of: AsOf | None) -> Select[Any]:
    r = receivable.c
    if as_of is None:
        query, is_open = select(receivable), r.open > 0
    else:
        amounts = _amounts_of_receivable(as_of)
        kept = [column for column in r if column.name not in amounts.c]
        query = select(*kept, *amounts.c).join_from(receivable, amounts, true()).where(amounts.c.issued > 0)
        is_open = amounts.c.open > 0
    query = query.where(r.company == company)
    for column, value in (
        (r.customer, which.customer),
        (r.currency, which.currency),
        (r.kind, which.kind),
        (r.number, which.number),
        (r.invoice_id, which.invoice_id),
    ):
        if value is not None:
            query = query.where(column == value)
    if which.due_from is not None:
        query = query.where(r.due_on >= which.due_from)
    if which.due_through is not None:
        query = query.where(r.due_on <= which.due_through)
    return query if which.is_open is None else query.where(is_open if which.is_open else not_(is_open))


def _amounts_of_receivable(as_of: AsOf) -> LateralFromClause:
    """The amounts of a receivable from its journal lines; a debt has none before it was issued."""
    line, entry = journal_line.c, journal_entry.c
    issued = func.coalesce(-func.sum(line.amount).filter(line.account == "ADJUSTMENT:issued"), 0)
    written_off = func.coalesce(func.sum(line.amount).filter(line.account == "ADJUSTMENT:write_off"), 0)
    adjusted = func.coalesce(func.sum(line.amount).filter(line.account.like("ADJUSTMENT:%")), 0)
    still_open = func.coalesce(func.sum(line.amount).filter(line.account == "AR"), 0)
    credited = adjusted + issued - written_off
    return (
        select(
            cast(issued, BigInteger).label("issued"),
            cast(issued - credited - written_off - still_open, BigInteger).label("allocated"),
            cast(credited, BigInteger).label("credited"),
            cast(written_off, BigInteger).label("written_off"),
            cast(still_open, BigInteger).label("open"),
        )
        .join_from(journal_line, journal_entry, line.entry_id == entry.entry_id)
        .where(
            line.receivable_id == receivable.c.receivable_id,
            as_of.counts(_effective_on(entry.effective_on), entry.booked_at),
        )
        .lateral("amounts")
    )


def _effective_on(entry_on: ColumnElement[date]) -> ColumnElement[date]:
    """Money that came before its debt was issued is applied on the day of issue."""
    return func.greatest(entry_on, receivable.c.issued_on, type_=Date())


async def one_receivable(connection: AsyncConnection, *, company: str, receivable_id: UUID) -> Any | None:
    """One receivable, or None."""
    result = await connection.execute(
        select(receivable).where(receivable.c.company == company, receivable.c.receivable_id == receivable_id)
    )
    return result.one_or_none()


async def receipts(
    connection: AsyncConnection, window: Window, *, company: str, which: ReceiptFilter, as_of: AsOf | None
) -> list[Any]:
    """Receipts of a company, newest value date first, one more than the page."""
    query = _receipts(company, which, as_of)
    return list(await connection.execute(BY_VALUE.apply(query, after=window.after, limit=window.limit)))


async def all_receipts(
    connection: AsyncConnection, *, company: str, which: ReceiptFilter, as_of: AsOf | None
) -> AsyncIterator[Sequence[Any]]:
    """The same receipts to the last, in parts."""
    query = _receipts(company, which, as_of).order_by(receipt.c.value_on.desc(), receipt.c.receipt_id)
    rows = await connection.stream(query)
    async for part in rows.partitions(_ROWS_AT_A_TIME):
        yield part


def _receipts(company: str, which: ReceiptFilter, as_of: AsOf | None) -> Select[Any]:
    r = receipt.c
    if as_of is None:
        query, is_unapplied = select(receipt), r.unapplied > 0
    else:
        query, is_unapplied = _receipts_as_of(as_of)
    query = query.where(r.company == company)
    for column, value in (
        (r.customer, which.customer),
        (r.currency, which.currency),
        (r.kind, which.kind),
        (r.external_id, which.external_id),
    ):
        if value is not None:
            query = query.where(column == value)
    if which.value_from is not None:
        query = query.where(r.value_on >= which.value_from)
    if which.value_through is not None:
        query = query.where(r.value_on <= which.value_through)
    return (
        query if which.is_unapplied is None else query.where(is_unapplied if which.is_unapplied else not_(is_unapplied))
    )


def _receipts_as_of(as_of: AsOf) -> tuple[Select[Any], ColumnElement[bool]]:
    """Receipts with their amounts as they were, and the condition that some of it was unapplied."""
    line, entry, applied = journal_line.c, journal_entry.c, allocation.c
    came = entry.kind.in_(("payment-received", "credit-note-issued"))
    amount = func.coalesce(func.sum(line.amount).filter(came), 0)
    refunded = func.coalesce(-func.sum(line.amount).filter(entry.kind == "payment-refunded"), 0)
    reversed_ = func.coalesce(-func.sum(line.amount).filter(entry.kind == "payment-reversed"), 0)
    moved = (
        select(
            cast(amount, BigInteger).label("amount"),
            cast(refunded, BigInteger).label("refunded"),
            cast(reversed_, BigInteger).label("reversed"),
        )
        .join_from(journal_line, journal_entry, line.entry_id == entry.entry_id)
        .where(
            line.receipt_id == receipt.c.receipt_id,
            line.account.in_(SOURCES),
            as_of.counts(entry.effective_on, entry.booked_at),
        )
        .lateral("moved")
    )
    used = (
        select(cast(func.coalesce(func.sum(applied.amount), 0), BigInteger).label("allocated"))
        .join_from(
            allocation,
            journal_entry,
            and_(
                entry.cause_event_id == applied.cause_event_id,
                entry.kind == case((applied.amount > 0, "payment-allocated"), else_="allocation-undone"),
            ),
        )
        .join(
            receivable,
            and_(receivable.c.company == applied.company, receivable.c.receivable_id == applied.receivable_id),
        )
        .where(
            applied.company == receipt.c.company,
            applied.receipt_id == receipt.c.receipt_id,
            as_of.counts(_effective_on(entry.effective_on), entry.booked_at),
        )
        .correlate(receipt)
        .lateral("used")
    )
    rest = moved.c.amount - used.c.allocated - moved.c.refunded - moved.c.reversed
    changing = {"amount", "allocated", "refunded", "reversed", "unapplied"}
    query = (
        select(
            *(column for column in receipt.c if column.name not in changing),
            *moved.c,
            *used.c,
            rest.label("unapplied"),
        )
        .join_from(receipt, moved, true())
        .join(used, true())
        .where(moved.c.amount > 0)
    )
    return query, rest > 0


async def balances(
    connection: AsyncConnection, *, company: str, customer: str, as_of: AsOf | None
) -> dict[str, tuple[int, int]]:
    """Open and unapplied of a customer by currency, in minor units; only currencies it ever had."""
    debts = _receivables(company, ReceivableFilter(customer=customer), as_of).subquery()
    money = _receipts(company, ReceiptFilter(customer=customer), as_of).subquery()
    both = union_all(
        select(debts.c.currency, debts.c.open, literal(0).label("unapplied")),
        select(money.c.currency, literal(0), money.c.unapplied),
    ).subquery()
    rows = await connection.execute(
        select(both.c.currency, func.sum(both.c.open), func.sum(both.c.unapplied))
        .group_by(both.c.currency)
        .order_by(both.c.currency)
    )
    return {currency: (int(still_open), int(unapplied)) for currency, still_open, unapplied in rows}


async def movements(
    connection: AsyncConnection,
    *,
    company: str,
    customer: str,
    as_of: AsOf | None,
    since: date | None,
    most: int | None,
) -> list[Any]:
    """A customer's movements of debt, oldest first: debits above zero, credits below, in minor units.

    Each carries the `balance` after it in its currency.

    Args:
        since: only those that take effect on this day or later; their balances count all before them.
        most: only the newest so many; None: all.
    """
    line, entry, debt = journal_line.c, journal_entry.c, receivable.c
    effective_on = _effective_on(entry.effective_on).label("effective_on")
    in_order = (entry.booked_at, effective_on) if as_of and as_of.by == "record" else (effective_on, entry.booked_at)
    order = (*in_order, line.entry_id, line.line)
    query = (
        select(
            effective_on, entry.booked_at, entry.kind, line.currency, line.amount, line.receivable_id, debt.number,
            debt.instalment, func.row_number().over(order_by=order).label("place"),
            func.sum(line.amount).over(partition_by=line.currency, order_by=order).label("balance"),
        )
        .join_from(receivable, journal_line, and_(line.receivable_id == debt.receivable_id, line.account == "AR"))
        .join(journal_entry, entry.entry_id == line.entry_id)
        .where(debt.company == company, debt.customer == customer)
    )  # fmt: skip
    if as_of is not None:
        query = query.where(as_of.counts(_effective_on(entry.effective_on), entry.booked_at))
    moved = query.subquery("moved")
    newest = select(moved).order_by(moved.c.place.desc()).limit(most)
    if since is not None:
        newest = newest.where(moved.c.effective_on >= since)
    return list(reversed(list(await connection.execute(newest))))


async def totals(connection: AsyncConnection) -> list[Any]:
    """Open and unapplied of every company by currency, in minor units."""
    result = await connection.execute(
        text(
            """
            SELECT company, currency, sum(open) AS open, sum(unapplied) AS unapplied FROM (
                SELECT company, currency, open, 0 AS unapplied FROM receivable WHERE open > 0
                UNION ALL SELECT company, currency, 0, unapplied FROM credit WHERE unapplied > 0) b
            GROUP BY company, currency
            """
        )
    )
    return list(result)


async def watermarks(connection: AsyncConnection) -> list[Any]:
    """The day through which the cash of each company is known."""
    result = await connection.execute(
        text(
            """
            SELECT company, greatest(max(through_on) FILTER (WHERE feed = '-'), min(through_on) FILTER (WHERE feed <> '-'))
                AS through_on FROM cash_feed GROUP BY company
            """
        )
    )
    return list(result)


async def bank_imports(connection: AsyncConnection, window: Window, *, company: str) -> list[Any]:
    """Bank files of a company, newest first, one more than the page."""
    query = select(bank_import).where(bank_import.c.company == company)
    return list(await connection.execute(BY_CHECK.apply(query, after=window.after, limit=window.limit)))


async def newest_bank_imports(connection: AsyncConnection, *, company: str, most: int) -> list[Any]:
    """The newest bank files of a company."""
    query = select(bank_import).where(bank_import.c.company == company)
    return list(await connection.execute(BY_CHECK.apply(query, after=None, limit=most - 1)))


async def one_bank_import(connection: AsyncConnection, *, company: str, import_id: UUID) -> Any | None:
    """One bank file, or None."""
    result = await connection.execute(
        select(bank_import).where(bank_import.c.company == company, bank_import.c.import_id == import_id)
    )
    return result.one_or_none()


async def bank_lines(
    connection: AsyncConnection, window: Window, *, company: str, import_id: UUID, verdict: str | None
) -> list[Any]:
    """Lines of a bank file in its order, one more than the page."""
    query = select(bank_line).where(bank_line.c.company == company, bank_line.c.import_id == import_id)
    if verdict is not None:
        query = query.where(bank_line.c.verdict == verdict)
    return list(await connection.execute(BY_POSITION.apply(query, after=window.after, limit=window.limit)))


async def bank_counts(connection: AsyncConnection, import_ids: Sequence[UUID]) -> dict[UUID, list[Any]]:
    """How many lines of which kind and verdict each import has, and their sums in minor units."""
    rows = await connection.execute(
        text(
            """
            SELECT import_id, kind, verdict, currency, count(*) AS count, sum(amount)::bigint AS amount FROM bank_line
            WHERE import_id = ANY(CAST(:ids AS uuid[])) GROUP BY import_id, kind, verdict, currency
            ORDER BY kind, verdict, currency
            """
        ),
        {"ids": list(import_ids)},
    )
    found: dict[UUID, list[Any]] = {import_id: [] for import_id in import_ids}
    for row in rows:
        found[row.import_id].append(row)
    return found


async def bank_mappings(connection: AsyncConnection, *, company: str) -> list[Any]:
    """The saved mappings of a company by name."""
    result = await connection.execute(
        select(bank_mapping).where(bank_mapping.c.company == company).order_by(bank_mapping.c.name)
    )
    return list(result)


async def control_totals(
    connection: AsyncConnection, window: Window, *, company: str, currency: str | None, verdict: str | None
) -> list[Any]:
    """Runs of control totals of a company, newest day first, one more than the page."""
    query = _control_totals(company)
    if currency is not None:
        query = query.where(control_total.c.currency == currency)
    if verdict is not None:
        query = query.where(control_total.c.verdict == verdict)
    return list(await connection.execute(BY_DAY.apply(query, after=window.after, limit=window.limit)))


async def one_control_total(connection: AsyncConnection, *, company: str, control_total_id: UUID) -> Any | None:
    """One run of a control total, or None."""
    query = _control_totals(company).where(control_total.c.control_total_id == control_total_id)
    return (await connection.execute(query)).one_or_none()


def _control_totals(company: str) -> Select[Any]:
    received = (
        select(func.count())
        .where(control_total_part.c.control_total_id == control_total.c.control_total_id)
        .scalar_subquery()
    )
    return select(control_total, received.label("parts_received")).where(control_total.c.company == company)


async def control_differences(connection: AsyncConnection, window: Window, *, control_total_id: UUID) -> list[Any]:
    """Customers of a run that differ, the largest difference first, one more than the page."""
    query = select(control_total_difference).where(control_total_difference.c.control_total_id == control_total_id)
    return list(await connection.execute(BY_SIZE.apply(query, after=window.after, limit=window.limit)))


async def control_standings(connection: AsyncConnection, company: str | None = None) -> list[Any]:
    """What the last control totals came to, by company and currency."""
    result = await connection.execute(
        text(
            """
            SELECT company, currency, standing FROM control_standing
            WHERE standing IS NOT NULL AND (CAST(:company AS text) IS NULL OR company = :company)
            ORDER BY company, currency
            """
        ),
        {"company": company},
    )
    return list(result)


async def fiscal_receipts(
    connection: AsyncConnection, window: Window, *, company: str, customer: str | None, states: Sequence[str]
) -> list[Any]:
    """Fiscal receipts of a company in these states by deadline, one more than the page."""
    query = select(fiscal_receipt).where(fiscal_receipt.c.company == company, fiscal_receipt.c.state.in_(states))
    if customer is not None:
        query = query.where(fiscal_receipt.c.customer == customer)
    return list(await connection.execute(BY_DEADLINE.apply(query, after=window.after, limit=window.limit)))


async def one_fiscal_receipt(connection: AsyncConnection, *, company: str, fiscal_receipt_id: UUID) -> Any | None:
    """One fiscal receipt, or None."""
    query = select(fiscal_receipt).where(
        fiscal_receipt.c.company == company, fiscal_receipt.c.fiscal_receipt_id == fiscal_receipt_id
    )
    return (await connection.execute(query)).one_or_none()


async def fiscal_receipt_lines(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, list[Any]]:
    """The lines each receipt is for, of a cancelled one those it was for, with their invoice's number."""
    rows = await connection.execute(
        select(fiscal_receipt_line, invoice.c.number)
        .join(fiscal_receipt, fiscal_receipt.c.fiscal_receipt_id == fiscal_receipt_line.c.fiscal_receipt_id)
        .join(
            invoice,
            (invoice.c.company == fiscal_receipt_line.c.company)
            & (invoice.c.invoice_id == fiscal_receipt_line.c.invoice_id),
        )
        .where(
            fiscal_receipt_line.c.fiscal_receipt_id.in_(ids),
            fiscal_receipt_line.c.state == case((fiscal_receipt.c.state == "cancelled", "cancelled"), else_="live"),
        )
        .order_by(fiscal_receipt_line.c.fiscal_receipt_id, fiscal_receipt_line.c.line)
    )
    found: dict[UUID, list[Any]] = {fiscal_receipt_id: [] for fiscal_receipt_id in ids}
    for row in rows:
        found[row.fiscal_receipt_id].append(row)
    return found


async def fiscal_deadlines(connection: AsyncConnection, company: str | None = None) -> list[Any]:
    """How many receipts wait for the ERP by company and deadline."""
    result = await connection.execute(
        text(
            """
            SELECT company, deadline_on, count(*) AS receipts FROM fiscal_receipt
            WHERE state IN ('due', 'rejected') AND (CAST(:company AS text) IS NULL OR company = :company)
            GROUP BY company, deadline_on ORDER BY company, deadline_on
            """
        ),
        {"company": company},
    )
    return list(result)


async def late_charges(connection: AsyncConnection, window: Window, *, company: str, customer: str | None) -> list[Any]:
    """Late charges of a company, newest first, with their balances, one more than the page."""
    credited = (
        select(
            late_charge_credit.c.company,
            late_charge_credit.c.receivable_id,
            func.sum(late_charge_credit.c.amount)
            .filter(late_charge_credit.c.kind == "waiver")
            .cast(BigInteger)
            .label("waived"),
            func.sum(late_charge_credit.c.amount)
            .filter(late_charge_credit.c.kind == "withdrawal")
            .cast(BigInteger)
            .label("withdrawn"),
        )
        .group_by(late_charge_credit.c.company, late_charge_credit.c.receivable_id)
        .subquery()
    )
    query = (
        select(
            late_charge,
            receivable.c.open,
            receivable.c.allocated,
            receivable.c.number,
            func.coalesce(credited.c.waived, 0).label("waived"),
            func.coalesce(credited.c.withdrawn, 0).label("withdrawn"),
        )
        .join(
            receivable,
            (receivable.c.company == late_charge.c.company)
            & (receivable.c.receivable_id == late_charge.c.receivable_id),
        )
        .outerjoin(
            credited,
            (credited.c.company == late_charge.c.company) & (credited.c.receivable_id == late_charge.c.receivable_id),
        )
        .where(late_charge.c.company == company)
    )
    if customer is not None:
        query = query.where(late_charge.c.customer == customer)
    return list(await connection.execute(BY_ASSESSMENT.apply(query, after=window.after, limit=window.limit)))


async def charge_requests(
    connection: AsyncConnection, *, company: str, customer: str | None, is_unanswered: bool, most: int
) -> list[Any]:
    """The newest steps that asked for a charge; unanswered ones were refused in part or whole, or wait."""
    query = select(charge_request).where(charge_request.c.company == company)
    if customer is not None:
        query = query.where(charge_request.c.customer == customer)
    if is_unanswered:
        query = query.where(charge_request.c.state != "booked")
    return list(await connection.execute(query.order_by(charge_request.c.asked_at.desc()).limit(most)))


async def charge_looks(connection: AsyncConnection, *, company: str, most: int) -> list[Any]:
    """Debts whose charges cannot be kept right until a rate or rules are added."""
    rows = await connection.execute(
        text(
            """
            SELECT k.debt_id, k.reason, r.number, r.customer FROM charge_look k
            JOIN receivable r ON r.company = k.company AND r.receivable_id = k.debt_id
            WHERE k.company = :company AND k.reason IS NOT NULL ORDER BY r.number LIMIT :most
            """
        ),
        {"company": company, "most": most},
    )
    return list(rows)


async def ledger_actions(
    connection: AsyncConnection, *, company: str, customer: str | None, state: str | None, most: int
) -> list[Any]:
    """What people decided or asked for, newest first, with what it is about."""
    rows = await connection.execute(
        text(
            """
            SELECT a.*, coalesce(r.number, m.external_id) AS number, coalesce(r.customer, m.customer) AS customer
            FROM ledger_action a
            LEFT JOIN receivable r ON r.company = a.company AND r.receivable_id = a.subject_id AND a.verb <> 'refund'
            LEFT JOIN receipt m ON m.company = a.company AND m.receipt_id = a.subject_id AND a.verb = 'refund'
            WHERE a.company = :company AND (CAST(:state AS text) IS NULL OR a.state = :state)
                AND (CAST(:customer AS text) IS NULL OR coalesce(r.customer, m.customer) = :customer)
            ORDER BY a.asked_at DESC LIMIT :most
            """
        ),
        {"company": company, "customer": customer, "state": state, "most": most},
    )
    return list(rows)


async def charge_rules_of(connection: AsyncConnection, *, company: str) -> list[Any]:
    """Every version of charge rules that a company activated, newest first."""
    result = await connection.execute(
        select(charge_rules)
        .where(charge_rules.c.company == company)
        .order_by(charge_rules.c.rules, charge_rules.c.version.desc())
    )
    return list(result)
