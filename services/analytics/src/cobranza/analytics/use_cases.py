"""What analytics does with a batch of events: fold it into the read model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from cobranza.analytics import metrics, repository
from cobranza.analytics.domain.ageing import Balance, Movement, balances
from cobranza.analytics.repository import CreditKey, FeedEntry, Recorded
from cobranza.chassis.database import Transaction
from cobranza.chassis.metrics import CompanyLabel
from cobranza.chassis.streams import Event
from cobranza.contracts import dunning, invoicing, notifications, payments
from cobranza.contracts.identifiers import NO_CUSTOMER


async def fold_customers(tx: Transaction, events: Sequence[Event]) -> None:
    """Names and segments."""
    await repository.save_customers(tx, [e.data for e in events if isinstance(e.data, invoicing.CustomerChanged)])


async def fold_invoicing(tx: Transaction, events: Sequence[Event], *, label: CompanyLabel) -> None:
    """Documents, for the feed and the count of what came in; what is owed comes from payments."""
    await repository.add_to_feed(tx, [entry for event in events if (entry := _document(event)) is not None])
    issued = [e.data for e in events if isinstance(e.data, invoicing.InvoiceIssued)]
    counts = Counter((label(told.company), told.payable.currency) for told in issued)
    repository.on_commit(tx, lambda: metrics.count_invoices(counts))


async def fold_payments(tx: Transaction, events: Sequence[Event]) -> None:
    """Receivables, credit and payments."""
    await _fold_receivables(tx, [e.data for e in events if isinstance(e.data, payments.ReceivableChanged)])
    await _fold_credits(tx, [e.data for e in events if isinstance(e.data, payments.CreditChanged)])
    await _fold_receipts(tx, events)
    await repository.add_to_feed(tx, [entry for event in events if (entry := _money(event)) is not None])


async def fold_dunning(tx: Transaction, events: Sequence[Event]) -> None:
    """Cases and steps."""
    rows: dict[tuple[str, UUID], Mapping[str, Any]] = {}
    for event in events:
        match event.data:
            case dunning.CaseOpened() as told:
                rows[told.company, told.case_id] = _case(told, told.opened_on, None, None)
            case dunning.CaseClosed() as told:
                rows[told.company, told.case_id] = _case(told, told.opened_on, told.closed_on, told.outcome)
            case _:
                continue
    await repository.save_cases(tx, list(rows.values()))
    await repository.add_to_feed(tx, [entry for event in events if (entry := _decision(event)) is not None])


async def fold_notifications(tx: Transaction, events: Sequence[Event]) -> None:
    """Notices and what became of them."""
    rows: dict[tuple[str, UUID], Mapping[str, Any]] = {}
    for event in events:
        match event.data:
            case notifications.NoticeSent() as told:
                rows[told.company, told.notice_id] = _notice(told, "sent", None, told.sent_on)
            case notifications.NoticeFailed() as told:
                rows[told.company, told.notice_id] = _notice(told, "failed", told.reason, told.failed_on)
            case notifications.NoticeSuppressed() as told:
                rows[told.company, told.notice_id] = _notice(told, "suppressed", told.reason, told.suppressed_on)
            case notifications.NoticeDelivered() as told:
                rows[told.company, told.notice_id] = _notice(told, "delivered", None, told.delivered_on)
            case _:
                continue
    await repository.save_notices(tx, list(rows.values()))
    await repository.add_to_feed(tx, [entry for event in events if (entry := _contact(event)) is not None])


async def _fold_receivables(tx: Transaction, told: Sequence[payments.ReceivableChanged]) -> None:
    """Turn full states into movements against the last known state, and those into balances.

    A version that was skipped changes nothing: the difference to the last known state holds the
    amounts of both.
    """
    if not told:
        return
    keys: list[tuple[str, UUID]] = sorted({(r.company, r.receivable_id) for r in told})
    known = await repository.receivables(tx, keys)
    reduced = {key: row.allocated + row.credited + row.written_off for key, row in known.items()}
    issued = {key: row.issued for key, row in known.items()}
    movements = await repository.receivable_movements(tx, keys)
    added: list[tuple[tuple[str, UUID], Recorded]] = []
    latest: dict[tuple[str, UUID], payments.ReceivableChanged] = {}
    for change in told:
        key: tuple[str, UUID] = (change.company, change.receivable_id)
        now_issued = change.minor("issued")
        now_reduced = change.minor("allocated") + change.minor("credited") + change.minor("written_off")
        amount = (now_issued - issued.get(key, 0)) - (now_reduced - reduced.get(key, 0))
        if key not in issued and now_reduced:
            # First seen already reduced: the debt began when it was issued, the rest came later.
            added.append((key, Recorded(0, Movement(change.issued_on, change.recorded_on, now_issued))))
            amount -= now_issued
        effective_on = change.issued_on if key not in issued and not now_reduced else change.effective_on
        added.append(
            (
                key,
                Recorded(change.version, Movement(max(effective_on, change.issued_on), change.recorded_on, amount)),
            )
        )
        issued[key], reduced[key], latest[key] = now_issued, now_reduced, change
    for key, recorded in added:
        movements.setdefault(key, []).append(recorded)
    await repository.save_receivables(tx, latest.values())
    await repository.add_receivable_movements(tx, added)
    await repository.replace_receivable_balances(
        tx, {key: (latest[key], balances(r.movement for r in movements[key])) for key in keys}
    )


async def _fold_credits(tx: Transaction, told: Sequence[payments.CreditChanged]) -> None:
    if not told:
        return
    keys = sorted({_credit_key(c) for c in told})
    movements = await repository.credit_movements(tx, keys)
    unapplied = {key: sum(r.movement.amount for r in movements.get(key, ())) for key in keys}
    states: dict[CreditKey, tuple[int, int]] = {}
    added: list[tuple[CreditKey, Recorded]] = []
    for change in told:
        key = _credit_key(change)
        now = change.minor("unapplied")
        recorded = Recorded(change.version, Movement(change.effective_on, change.effective_on, now - unapplied[key]))
        added.append((key, recorded))
        movements.setdefault(key, []).append(recorded)
        unapplied[key] = now
        states[key] = (now, change.version)
    stretches: dict[CreditKey, Sequence[Balance]] = {key: balances(r.movement for r in movements[key]) for key in keys}
    await repository.save_credits(tx, states=states, added=added, balances=stretches)


def _credit_key(change: payments.CreditChanged) -> CreditKey:
    return change.company, change.customer or NO_CUSTOMER, change.currency


async def _fold_receipts(tx: Transaction, events: Sequence[Event]) -> None:
    rows: dict[tuple[str, UUID], dict[str, Any]] = {}
    reversals: dict[tuple[str, UUID], date] = {}
    for event in events:
        match event.data:
            case payments.PaymentReceived() as told:
                rows[told.company, told.payment_id] = {
                    "company": told.company,
                    "payment_id": told.payment_id,
                    "customer": told.customer,
                    "currency": told.amount.currency,
                    "amount": told.amount.minor,
                    "value_on": told.value_on,
                    "reversed_on": None,
                }
            case payments.PaymentReversed() as told:
                reversals[told.company, told.payment_id] = told.effective_on
            case _:
                continue
    await repository.save_payments(tx, list(rows.values()))
    for (company, payment_id), effective_on in sorted(reversals.items()):
        await tx.execute(
            "UPDATE payment SET reversed_on = :on WHERE company = :company AND payment_id = :id",
            {"on": effective_on, "company": company, "id": payment_id},
        )


def _case(
    told: dunning.CaseOpened | dunning.CaseClosed, opened_on: date, closed_on: date | None, outcome: str | None
) -> Mapping[str, Any]:
    return {
        "company": told.company,
        "case_id": told.case_id,
        "customer": told.customer,
        "currency": told.currency,
        "opened_on": opened_on,
        "closed_on": closed_on,
        "outcome": outcome,
    }


Notice = (
    notifications.NoticeSent
    | notifications.NoticeFailed
    | notifications.NoticeSuppressed
    | notifications.NoticeDelivered
)


def _notice(told: Notice, state: str, reason: str | None, on_date: date) -> Mapping[str, Any]:
    return {
        "company": told.company,
        "notice_id": told.notice_id,
        "customer": told.customer,
        "purpose": told.purpose,
        "channel": told.channel,
        "state": state,
        "reason": reason,
        "on_date": on_date,
        "delivery": told.delivery,
        "case_id": told.case_id,
        "step": told.step,
        "run": told.run,
        "lines": json.dumps(
            [{"receivable_id": str(line.receivable_id), "claimed": str(line.claimed.amount)} for line in told.lines]
        ),
        "claimed": told.claimed.minor if told.claimed is not None else None,
        "currency": told.claimed.currency if told.claimed is not None else None,
    }


def _entry(event: Event, customer: str | None, happened_on: date | None, facts: Mapping[str, Any]) -> FeedEntry:
    name = event.type.split(".")[2]
    return FeedEntry(event.id, event.company, customer, name, happened_on, facts)


def _document(event: Event) -> FeedEntry | None:
    match event.data:
        case invoicing.InvoiceIssued() as told:
            return _entry(event, told.customer, told.issued_on, {"number": told.number, **_amount(told.payable)})
        case invoicing.InvoiceCancelled() as told:
            return _entry(event, told.customer, told.cancelled_on, {"number": told.number})
        case invoicing.CreditNoteIssued() as told:
            return _entry(event, told.customer, told.issued_on, {"number": told.number or "", **_amount(told.amount)})
        case _:
            return None


def _money(event: Event) -> FeedEntry | None:
    match event.data:
        case payments.PaymentReceived() as told:
            return _entry(event, told.customer, told.value_on, _amount(told.amount))
        case payments.PaymentReversed() as told:
            return _entry(event, told.customer, told.effective_on, {"reason": told.reason, **_amount(told.amount)})
        case _:
            return None


def _decision(event: Event) -> FeedEntry | None:
    match event.data:
        case dunning.CaseOpened() as told:
            return _entry(event, told.customer, told.opened_on, {"currency": told.currency})
        case dunning.CaseClosed() as told:
            return _entry(event, told.customer, told.closed_on, {"outcome": told.outcome})
        case dunning.HoldPlaced() as told:
            return _entry(event, told.customer, told.placed_on, {"reason": told.reason})
        case dunning.HoldReleased() as told:
            return _entry(event, told.customer, told.released_on, {"reason": told.release_reason})
        case _:
            return None


def _contact(event: Event) -> FeedEntry | None:
    match event.data:
        case notifications.NoticeSent() as told:
            claimed = _amount(told.claimed) if told.claimed is not None else {}
            facts = {"purpose": told.purpose, "step": told.step, "delivery": told.delivery, **claimed}
            return _entry(event, told.customer, told.sent_on, facts)
        case notifications.NoticeSuppressed() as told:
            return _entry(event, told.customer, told.suppressed_on, {"step": told.step, "reason": told.reason})
        case notifications.NoticeFailed() as told:
            return _entry(event, told.customer, told.failed_on, {"step": told.step, "reason": told.reason})
        case _:
            return None


def _amount(money: Any) -> dict[str, str]:
    return {"amount": str(money.amount), "currency": money.currency}
