"""Facts that others tell: they are kept, and every account touched is evaluated once per batch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.chassis.streams import Event
from cobranza.contracts import invoicing, notifications, payments
from cobranza.contracts.payloads import Purpose
from cobranza.contracts.reasons import Reason
from cobranza.dunning import repository
from cobranza.dunning.domain.errors import UnknownStepRunError
from cobranza.dunning.domain.policy import HARDNESS
from cobranza.dunning.use_cases.application import Trigger
from cobranza.dunning.use_cases.evaluation import Desk


async def follow_payments(desk: Desk, tx: Transaction, events: Sequence[Event]) -> None:
    """Balances, credit and cash watermarks."""
    changes: dict[UUID, tuple[payments.ReceivableChanged, Event]] = {}
    unapplied: dict[repository.AccountKey, tuple[int, Event]] = {}
    triggers: dict[UUID, Trigger] = {}
    for event in events:
        desk.profile(event.company)
        match event.data:
            case payments.ReceivableChanged() as told:
                changes[told.receivable_id] = (told, event)
            case payments.CreditChanged(customer=str(customer)) as told:
                unapplied[(told.company, customer, told.currency)] = (told.unapplied_minor, event)
            case payments.CashWatermark(feed=None) as told:
                await repository.save_cash(tx, told.company, told.through_on)
                for account_id in await repository.accounts_waiting(tx, company=told.company, reason=Reason.CASH_STALE):
                    triggers[account_id] = Trigger.of(event)
            case _:
                continue
    keys = [(told.company, told.customer, told.currency) for told, _ in changes.values()]
    accounts = await repository.account_ids(tx, [*keys, *unapplied])
    await repository.lock(tx, accounts.values())
    await repository.save_receivables(
        tx, [(accounts[(told.company, told.customer, told.currency)], told) for told, _ in changes.values()]
    )
    await repository.save_credits(tx, {accounts[key]: amount for key, (amount, _) in unapplied.items()})
    triggers |= {accounts[(t.company, t.customer, t.currency)]: Trigger.of(e) for t, e in changes.values()}
    triggers |= {accounts[key]: Trigger.of(event) for key, (_, event) in unapplied.items()}
    await desk.evaluate(tx, triggers)


async def follow_invoicing(desk: Desk, tx: Transaction, events: Sequence[Event]) -> None:
    """Due dates are a reason to evaluate; a cancelled invoice is stopped before its balance is told."""
    due: dict[tuple[str, UUID], Event] = {}
    cancelled: dict[tuple[str, UUID], Event] = {}
    for event in events:
        desk.profile(event.company)
        match event.data:
            case invoicing.DueDate() as told:
                due[(told.company, told.receivable_id)] = event
            case invoicing.InvoiceCancelled() as told:
                cancelled[(told.company, told.invoice_id)] = event
            case _:
                continue
    triggers: dict[UUID, Trigger] = {}
    if due:
        accounts = await repository.accounts_of_receivables(tx, list(due))
        triggers |= {accounts[key[1]]: Trigger.of(event) for key, event in due.items() if key[1] in accounts}
    if cancelled:
        await repository.save_cancelled(tx, sorted(cancelled))
        by_invoice = {key[1]: event for key, event in cancelled.items()}
        for invoice_id, account_id in await repository.accounts_of_invoices(tx, list(cancelled)):
            triggers[account_id] = Trigger.of(by_invoice[invoice_id])
    await desk.evaluate(tx, triggers)


async def follow_customers(desk: Desk, tx: Transaction, events: Sequence[Event]) -> None:
    """Language and segment; a new address may let a refused notice leave."""
    changes: dict[tuple[str, str], tuple[invoicing.CustomerChanged, Event]] = {}
    for event in events:
        desk.profile(event.company)
        if isinstance(event.data, invoicing.CustomerChanged):
            changes[(event.data.company, event.data.customer)] = (event.data, event)
    await repository.save_customers(tx, [told for told, _ in changes.values()])
    triggers: dict[UUID, Trigger] = {}
    for (company, customer), (_, event) in changes.items():
        for account_id in await repository.accounts_of_customer(tx, company, customer):
            triggers[account_id] = Trigger.of(event)
    await desk.evaluate(tx, triggers)


async def follow_notices(desk: Desk, tx: Transaction, events: Sequence[Event]) -> None:
    """What became of notices: levels rise when they are sent."""
    triggers: dict[UUID, Trigger] = {}
    await repository.lock(tx, await repository.accounts_of_cases(tx, _cases_of(events)))
    for event in events:
        desk.profile(event.company)
        match event.data:
            case notifications.NoticeSent() as told:
                account_id = await _notice_sent(tx, told)
            case notifications.NoticeSuppressed() as told:
                account_id = await _notice_not_sent(
                    tx, told, state="suppressed", reason=told.reason, on=told.suppressed_on
                )
            case notifications.NoticeFailed(next_channel=None) as told:
                account_id = await _notice_not_sent(tx, told, state="failed", reason=told.reason, on=told.failed_on)
            case _:
                continue
        if account_id is not None:
            triggers[account_id] = Trigger.of(event)
    await desk.evaluate(tx, triggers)


async def _notice_sent(tx: Transaction, told: notifications.NoticeSent) -> UUID | None:
    runs = await _runs_of(tx, told)
    if not runs or told.case_id is None or told.step is None or told.run is None:
        return None
    await repository.answer_runs(
        tx,
        case_id=told.case_id,
        step=told.step,
        run=told.run,
        state="sent",
        answered_on=told.sent_on,
        reason=None,
        answer=_answer(told),
    )
    granted = frozenset(line.receivable_id for line in told.lines)
    await repository.raise_levels(tx, company=told.company, runs=runs, granted=granted, sent_on=told.sent_on)
    tones = [run.tone for run in runs if run.tone is not None]
    await repository.note_contact(
        tx,
        account_id=runs[0].account_id,
        case_id=told.case_id,
        sent_on=told.sent_on,
        heard_tone=max(tones, key=lambda tone: HARDNESS.get(tone, 0), default=None),
    )
    return runs[0].account_id


async def _notice_not_sent(
    tx: Transaction,
    told: notifications.NoticeSuppressed | notifications.NoticeFailed,
    *,
    state: str,
    reason: str,
    on: date,
) -> UUID | None:
    runs = await _runs_of(tx, told)
    if not runs or told.case_id is None or told.step is None or told.run is None:
        return None
    await repository.answer_runs(
        tx,
        case_id=told.case_id,
        step=told.step,
        run=told.run,
        state=state,
        answered_on=on,
        reason=reason,
        answer=_answer(told),
    )
    return runs[0].account_id


def _cases_of(events: Sequence[Event]) -> set[UUID]:
    told = (getattr(event.data, "case_id", None) for event in events)
    return {case_id for case_id in told if case_id is not None}


async def _runs_of(
    tx: Transaction, told: notifications.NoticeSent | notifications.NoticeSuppressed | notifications.NoticeFailed
) -> list[repository.AnsweredRun]:
    """The runs that a notice of dunning answers; none for other notices.

    Raises:
        UnknownStepRunError: it names a run that was never requested.
    """
    if told.purpose != Purpose.DUNNING or told.case_id is None or told.step is None or told.run is None:
        return []
    runs = await repository.runs_of_notice(tx, company=told.company, case_id=told.case_id, step=told.step, run=told.run)
    if not runs:
        raise UnknownStepRunError(f"no run {told.run} of step {told.step} was requested for case {told.case_id}")
    return runs


def _answer(told: notifications.NoticeSent | notifications.NoticeSuppressed | notifications.NoticeFailed) -> str:
    """What the step run keeps of a notice event: no addresses, only ids, amounts and codes."""
    return told.model_dump_json(include={"notice_id", "channel", "attempt", "claimed", "contact_decision", "delivery"})
