"""Invoicing's topics: what ERPs state, and what payments tells about receivables."""

from __future__ import annotations

from collections.abc import Sequence

from cobranza.chassis.database import Transaction
from cobranza.chassis.service import Context
from cobranza.chassis.streams import Agent, BatchTransaction, Event, ParkedInput
from cobranza.contracts.payments import ReceivableChanged
from cobranza.invoicing import metrics
from cobranza.invoicing.domain.errors import InvoicingError, RevisionConflictError
from cobranza.invoicing.settings import InvoicingSettings
from cobranza.invoicing.use_cases import Intake, tell_parked_input


def agents(context: Context[InvoicingSettings]) -> Sequence[Agent]:
    """One agent per topic."""
    intake = Intake(context.companies, context.settings.evaluation_hour)

    async def accept(tx: BatchTransaction, events: Sequence[Event]) -> None:
        for event in events:
            try:
                outcome = await intake.accept(tx, event)
            except InvoicingError as refusal:
                # Every refusal is decided before the document's first write.
                tx.park(event, refusal, conflict=isinstance(refusal, RevisionConflictError))
            else:
                metrics.count_input(event, outcome)

    async def follow(tx: BatchTransaction, events: Sequence[Event]) -> None:
        changes = [event.data for event in events if isinstance(event.data, ReceivableChanged)]
        if changes:
            await intake.follow_receivables(tx, changes)

    async def tell(tx: Transaction, parked: ParkedInput) -> None:
        await tell_parked_input(tx, parked, context.companies)

    async def ignore(_tx: BatchTransaction, _events: Sequence[Event]) -> None:
        # Nothing of dunning changes documents yet; reading it keeps the position at the end.
        return

    return (
        Agent("erp.invoicing", accept, on_parked=tell),
        Agent("cobranza.payments", follow),
        Agent("cobranza.dunning", ignore),
    )
