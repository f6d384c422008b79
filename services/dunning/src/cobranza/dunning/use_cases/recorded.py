"""What is recorded of an account, told again as the events it came from, so that another policy may meet it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from cobranza.contracts import dunning, invoicing, payments
from cobranza.contracts.money import to_decimal
from cobranza.contracts.payloads import Payload
from cobranza.dunning.domain.simulation import DatedFact
from cobranza.dunning.repository import Balance, StoredAccount


def recorded_facts(stored: StoredAccount, balances: Sequence[Balance], agreements: Sequence[Any]) -> list[DatedFact]:
    """The facts of an account in the order of their days; what a policy did about them is none.

    Args:
        balances: in the order of their days.
        agreements: rows of what was agreed, disputed or handed over.
    """
    facts = [*_balances(stored, balances), *_holds(stored), *(fact for row in agreements for fact in _agreement(row))]
    return sorted(facts, key=lambda fact: fact.on)


def _told(payload: type[Payload], on: date, stored: StoredAccount, **values: Any) -> DatedFact:
    """An event of the account; nothing is checked again that was checked when it was recorded."""
    identity: dict[str, Any] = {"company": stored.company, "customer": stored.customer, "currency": stored.currency}
    return DatedFact(on, payload.model_construct(**identity, **values))


def _balances(stored: StoredAccount, balances: Sequence[Balance]) -> Iterator[DatedFact]:
    known: set[UUID] = set()
    for balance in balances:
        is_new = balance.receivable_id not in known
        known.add(balance.receivable_id)
        if is_new and balance.product_line is not None:
            yield _told(
                invoicing.InvoiceIssued,
                balance.on,
                stored,
                invoice_id=balance.invoice_id,
                product_line=balance.product_line,
            )
        yield _told(
            payments.ReceivableChanged,
            balance.on,
            stored,
            receivable_id=balance.receivable_id,
            invoice_id=balance.invoice_id,
            number=balance.number,
            issued_on=balance.issued_on,
            due_on=balance.due_on,
            issued=to_decimal(balance.issued, stored.currency),
            allocated=to_decimal(balance.allocated, stored.currency),
            open=to_decimal(balance.open, stored.currency),
            # No rule asks how the rest was ended.
            credited=to_decimal(max(balance.issued - balance.allocated - balance.open, 0), stored.currency),
            written_off=to_decimal(0, stored.currency),
            effective_on=balance.on,
            recorded_on=balance.on,
        )
        if is_new and balance.acknowledged:
            yield _told(invoicing.InvoiceAcknowledged, balance.on, stored, invoice_id=balance.invoice_id)


def _holds(stored: StoredAccount) -> Iterator[DatedFact]:
    for place, hold in enumerate(stored.holds):
        yield _told(
            dunning.HoldPlaced,
            hold.placed_on,
            stored,
            hold_id=UUID(int=place),
            scope="receivable" if hold.receivable_ids else "customer",
            receivable_ids=hold.receivable_ids,
            reason=hold.reason,
            placed_on=hold.placed_on,
            until_on=hold.until_on,
        )


def _agreement(row: Any) -> Iterator[DatedFact]:
    """What people agreed or ended; whether a promise was kept is judged anew."""
    told: dict[str, Any] = row.told
    match row.kind:
        case "promise":
            made = dunning.PromiseMade.model_validate(told)
            yield DatedFact(made.made_on, made)
            if row.state == "withdrawn":
                withdrawn = dunning.PromiseWithdrawn.model_validate(told)
                yield DatedFact(withdrawn.withdrawn_on, withdrawn)
        case "plan":
            agreed = dunning.PlanAgreed.model_validate(told)
            yield DatedFact(agreed.agreed_on, agreed)
            if row.state == "cancelled":
                ended = dunning.PlanEnded.model_validate(told)
                yield DatedFact(ended.ended_on, ended)
        case "dispute":
            opened = dunning.DisputeOpened.model_validate(told)
            yield DatedFact(opened.opened_on, opened)
            if row.state != "open":
                resolved = dunning.DisputeResolved.model_validate(told)
                yield DatedFact(resolved.resolved_on, resolved)
        case _:
            handed = dunning.CaseHandedOver.model_validate(told)
            yield DatedFact(handed.handed_on, handed)
            if row.state == "recalled":
                recalled = dunning.CaseRecalled.model_validate(told)
                yield DatedFact(recalled.recalled_on, recalled)
