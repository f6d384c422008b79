"""Payments' topics: what banks and ERPs state, and what the other services tell."""

from __future__ import annotations

from collections.abc import Sequence

from cobranza.chassis.service import Context
from cobranza.chassis.streams import Agent, BatchTransaction, Event
from cobranza.contracts import invoicing
from cobranza.contracts.notifications import NoticeSent
from cobranza.payments import repository
from cobranza.payments.domain.errors import PaymentsError, UnknownCompanyError
from cobranza.payments.domain.matching import Party, key_of
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.use_cases import Bookkeeper, Charger, follow_claim, follow_promise, follow_stop


def agents(context: Context[PaymentsSettings]) -> Sequence[Agent]:
    """One agent per topic."""
    bookkeeper = Bookkeeper(context.companies)
    charger = Charger(context.database, context.companies)

    def require_companies(events: Sequence[Event]) -> None:
        for event in events:
            if event.company not in context.companies:
                raise UnknownCompanyError(f"no company {event.company!r} here", pointer="/company")

    async def receive(tx: BatchTransaction, events: Sequence[Event]) -> None:
        outcomes = await bookkeeper.book(tx, events)
        for event in events:
            outcome = outcomes[event.id]
            if isinstance(outcome, PaymentsError):
                tx.park(event, outcome, conflict=outcome.is_conflict)

    async def follow_documents(tx: BatchTransaction, events: Sequence[Event]) -> None:
        require_companies(events)
        outcomes = await bookkeeper.book(tx, [event for event in events if isinstance(event.data, _BOOKED)])
        for outcome in outcomes.values():
            if isinstance(outcome, PaymentsError):
                raise outcome
        for event in events:
            match event.data:
                case invoicing.InputParked() as told:
                    await repository.note_parked_input(
                        tx,
                        company=told.company,
                        input_id=told.input_id,
                        customer=told.customer,
                        code=told.code,
                        waiting=True,
                    )
                case invoicing.InputReleased() as told:
                    await repository.note_parked_input(
                        tx,
                        company=told.company,
                        input_id=told.input_id,
                        customer=told.customer,
                        code=told.outcome,
                        waiting=False,
                    )
                case _:
                    continue

    async def follow_customers(tx: BatchTransaction, events: Sequence[Event]) -> None:
        require_companies(events)
        customers = [
            (event.company, event.data.customer)
            for event in events
            if isinstance(event.data, invoicing.CustomerChanged)
        ]
        if customers:
            await repository.note_customers(tx, customers)
            parties = [
                (event.company, _party(event.data))
                for event in events
                if isinstance(event.data, invoicing.CustomerChanged)
            ]
            await repository.note_parties(tx, parties)
            await repository.enqueue_suspense(tx, sorted({company for company, _ in customers}))

    async def follow_dunning(tx: BatchTransaction, events: Sequence[Event]) -> None:
        require_companies(events)
        for event in events:
            await follow_stop(tx, event.data)
            await follow_promise(tx, event.data)
            await follow_claim(tx, event.data)
            await charger.follow(tx, event.data, event.cause)

    async def follow_notices(tx: BatchTransaction, events: Sequence[Event]) -> None:
        handed = [
            (told.notice_id, told.attempt, told.handed_at)
            for event in events
            if isinstance(told := event.data, NoticeSent) and told.attempt is not None
        ]
        if handed:
            await repository.note_handed(tx, handed)

    return (
        Agent("cobranza.customers", follow_customers),
        Agent("cobranza.invoicing", follow_documents),
        Agent("erp.payments", receive),
        Agent("cobranza.dunning", follow_dunning),
        Agent("cobranza.notifications", follow_notices),
    )


_BOOKED = (
    invoicing.InvoiceIssued,
    invoicing.InvoiceChanged,
    invoicing.InvoiceCancelled,
    invoicing.InvoiceReplaced,
    invoicing.CreditNoteIssued,
)


def _party(told: invoicing.CustomerChanged) -> Party:
    accounts = frozenset(key for account in told.virtual_accounts if (key := key_of(account)))
    return Party(told.customer, told.name, told.tax_id, virtual_accounts=accounts)
