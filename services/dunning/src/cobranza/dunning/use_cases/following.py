"""Facts that others tell: they are kept, and every account touched is evaluated once per batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.chassis.streams import Event
from cobranza.contracts import invoicing, notifications, payments
from cobranza.contracts.payloads import Payload, Purpose
from cobranza.contracts.reasons import Reason
from cobranza.dunning import repository
from cobranza.dunning.domain.errors import UnknownStepRunError
from cobranza.dunning.domain.ladder import DAY
from cobranza.dunning.use_cases.application import Trigger
from cobranza.dunning.use_cases.evaluation import Desk

_OUTCOMES: Final = (
    notifications.NoticeSent,
    notifications.NoticeDelivered,
    notifications.NoticeFailed,
    notifications.NoticeSuppressed,
)

#: What policies are compared with.
_ANNOUNCED: Final = (notifications.TemplateActivated, notifications.ContactRulesActivated)


async def follow_payments(desk: Desk, tx: Transaction, events: Sequence[Event]) -> None:
    """Balances, credit, cash watermarks and control totals."""
    of_key: dict[repository.AccountKey, list[tuple[Payload, Event]]] = {}
    triggers: dict[UUID, Trigger] = {}
    charges: list[tuple[payments.LateChargeAssessed | payments.LateChargeRefused, Event]] = []
    unknown: list[payments.PaymentReceived] = []
    found: dict[tuple[str, UUID], Event] = {}
    settled: dict[tuple[str, str], Event] = {}
    await repository.save_announced(tx, [e.data for e in events if isinstance(e.data, payments.ChargeRulesActivated)])
    for event in events:
        desk.profile(event.company)
        match event.data:
            case payments.LateChargeAssessed() | payments.LateChargeRefused() as told:
                charges.append((told, event))
            case payments.PaymentReceived(customer=None) as told:
                unknown.append(told)
            case payments.CreditChanged(customer=None) as told:
                settled.pop((told.company, told.currency), None)
                if told.unapplied_minor == 0:
                    settled[(told.company, told.currency)] = event
            case payments.PaymentAllocated() | payments.PaymentReversed() | payments.PaymentRefunded() as told:
                found[(told.company, told.payment_id)] = event
            case payments.ReceivableChanged() as told:
                of_key.setdefault((told.company, told.customer, told.currency), []).append((told, event))
            case payments.CreditChanged(customer=str(customer)) as told:
                of_key.setdefault((told.company, customer, told.currency), []).append((told, event))
            case payments.CashWatermark(all_through_on=date() as through_on) as told:
                await repository.save_cash(tx, told.company, through_on)
                waiting = await repository.accounts_waiting(tx, company=told.company, reason=Reason.CASH_STALE)
                # A promise is judged once cash is known through its limit.
                judged = await repository.accounts_promising(tx, company=told.company, before=through_on + DAY)
                triggers |= dict.fromkeys((*waiting, *judged), Trigger.of(event))
            case payments.ControlTotalChecked() as told:
                await repository.save_control(
                    tx, company=told.company, currency=told.currency, verdict=told.standing_now, total_on=told.total_on
                )
                for account_id in await repository.accounts_waiting(
                    tx, company=told.company, reason=Reason.CONTROL_MISMATCH, currency=told.currency
                ):
                    triggers[account_id] = Trigger.of(event)
            case _:
                continue
    triggers |= await _unknown_receipts(tx, unknown, found, settled)
    accounts = await repository.account_ids(tx, of_key)
    triggers |= {accounts[key]: Trigger.of(told[-1][1]) for key, told in of_key.items()}
    told_of = {accounts[key]: [payload for payload, _ in told] for key, told in of_key.items()}
    of_case = await repository.accounts_by_case(tx, {charge.case_id for charge, _ in charges}) if charges else {}
    for charge, event in charges:
        # A charge of a case that is not dunning's answers nothing here.
        if charge.case_id in of_case:
            triggers[of_case[charge.case_id]] = Trigger.of(event)
            told_of.setdefault(of_case[charge.case_id], []).append(charge)
    await desk.evaluate(tx, triggers, told_of)


async def _unknown_receipts(
    tx: Transaction,
    received: Sequence[payments.PaymentReceived],
    found: Mapping[tuple[str, UUID], Event],
    settled: Mapping[tuple[str, str], Event],
) -> dict[UUID, Trigger]:
    """Keep receipts of nobody until they are applied or gone; the accounts that waited for the latter.

    Args:
        found: payments that were applied, taken back or given back.
        settled: companies and currencies in which no money of nobody is left.
    """
    await repository.save_unknown_receipts(
        tx,
        [
            {
                "company": told.company,
                "payment_id": told.payment_id,
                "currency": told.amount.currency,
                "amount": told.amount.minor,
            }
            for told in received
        ],
    )
    freed = {key: next(iter(found.values())) for key in await repository.drop_unknown_receipts(tx, found)}
    freed |= {
        key: event
        for key, event in settled.items()
        if await repository.clear_unknown_receipts(tx, company=key[0], currency=key[1])
    }
    triggers: dict[UUID, Trigger] = {}
    for (company, currency), event in freed.items():
        waiting = await repository.accounts_waiting(tx, company=company, reason=Reason.PAYER_UNKNOWN, currency=currency)
        triggers |= dict.fromkeys(waiting, Trigger.of(event))
    return triggers


async def follow_invoicing(desk: Desk, tx: Transaction, events: Sequence[Event]) -> None:
    """Due dates are a reason to evaluate; a cancelled invoice is stopped before its balance is told."""
    due: dict[tuple[str, UUID], Event] = {}
    of_invoice: dict[tuple[str, UUID], list[Event]] = {}
    cancelled: dict[tuple[str, UUID], UUID | None] = {}
    lines: dict[tuple[str, UUID], str] = {}
    for event in events:
        desk.profile(event.company)
        match event.data:
            case invoicing.DueDate() as told:
                due[(told.company, told.receivable_id)] = event
            case invoicing.InvoiceCancelled() | invoicing.InvoiceReplaced() as told:
                cancelled[(told.company, told.invoice_id)] = told.replaced_by
                of_invoice.setdefault((told.company, told.invoice_id), []).append(event)
            case (
                invoicing.InvoiceIssued(product_line=str(line))
                | invoicing.InvoiceChanged(product_line=str(line)) as told
            ):
                lines[(told.company, told.invoice_id)] = line
                of_invoice.setdefault((told.company, told.invoice_id), []).append(event)
            case invoicing.InvoiceAcknowledged() as told:
                of_invoice.setdefault((told.company, told.invoice_id), []).append(event)
            case _:
                continue
    await repository.save_product_lines(tx, lines)
    triggers: dict[UUID, Trigger] = {}
    told_of: dict[UUID, list[Payload]] = {}
    if due:
        accounts = await repository.accounts_of_receivables(tx, list(due))
        triggers |= {accounts[key[1]]: Trigger.of(event) for key, event in due.items() if key[1] in accounts}
    if of_invoice:
        by_invoice = {key[1]: found for key, found in of_invoice.items()}
        for invoice_id, account_id in await repository.accounts_of_invoices(tx, list(of_invoice)):
            triggers[account_id] = Trigger.of(by_invoice[invoice_id][-1])
            told_of.setdefault(account_id, []).extend(event.data for event in by_invoice[invoice_id])
    await desk.evaluate(tx, triggers, told_of)
    known = {told.invoice_id for told_here in told_of.values() for told in told_here if hasattr(told, "invoice_id")}
    # The receivables of the others are not heard of yet.
    await repository.save_cancelled(tx, {key: other for key, other in cancelled.items() if key[1] not in known})


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
    """What became of notices: levels rise when they are sent, or delivered; and what notices may be made of."""
    triggers: dict[UUID, Trigger] = {}
    told_of: dict[UUID, list[Payload]] = {}
    await repository.save_announced(tx, [event.data for event in events if isinstance(event.data, _ANNOUNCED)])
    accounts = await repository.accounts_by_case(tx, _cases_of(events))
    await repository.lock(tx, accounts.values())
    for event in events:
        desk.profile(event.company)
        told = event.data
        if not isinstance(told, _OUTCOMES) or told.purpose != Purpose.DUNNING:
            continue
        if told.case_id is None or told.step is None or told.run is None:
            continue
        is_known = await repository.save_answer(
            tx, company=told.company, case_id=told.case_id, step=told.step, run=told.run, answer=_answer(told)
        )
        if not is_known:
            raise UnknownStepRunError(f"no run {told.run} of step {told.step} was requested for case {told.case_id}")
        triggers[accounts[told.case_id]] = Trigger.of(event)
        told_of.setdefault(accounts[told.case_id], []).append(told)
    await desk.evaluate(tx, triggers, told_of)


def _cases_of(events: Sequence[Event]) -> set[UUID]:
    told = (getattr(event.data, "case_id", None) for event in events)
    return {case_id for case_id in told if case_id is not None}


def _answer(
    told: notifications.NoticeSent
    | notifications.NoticeSuppressed
    | notifications.NoticeFailed
    | notifications.NoticeDelivered,
) -> str:
    """What the step run keeps of a notice event: no addresses, only ids, amounts and codes."""
    return told.model_dump_json(include={"notice_id", "channel", "attempt", "claimed", "contact_decision", "delivery"})
