"""Analytics reads every canonical topic and writes none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from cobranza.analytics import metrics, use_cases
from cobranza.analytics.domain.errors import UnknownCompanyError
from cobranza.analytics.settings import AnalyticsSettings
from cobranza.chassis.companies import Companies
from cobranza.chassis.service import Context
from cobranza.chassis.streams import Agent, BatchTransaction, Event
from cobranza.chassis.streams.agent import Handle


def agents(context: Context[AnalyticsSettings]) -> Sequence[Agent]:
    """One agent per topic."""
    label = metrics.company_label(profile.company for profile in context.companies)
    handlers: dict[str, Handle] = {
        "cobranza.customers": use_cases.fold_customers,
        "cobranza.invoicing": partial(use_cases.fold_invoicing, label=label),
        "cobranza.payments": use_cases.fold_payments,
        "cobranza.dunning": use_cases.fold_dunning,
        "cobranza.notifications": use_cases.fold_notifications,
    }
    return [Agent(topic, _of_known(context.companies, handle)) for topic, handle in handlers.items()]


def _of_known(companies: Companies, handle: Handle) -> Handle:
    """The handler, which refuses events of companies that this deployment does not know."""

    async def known(tx: BatchTransaction, events: Sequence[Event]) -> None:
        for event in events:
            if event.company not in companies:
                raise UnknownCompanyError(event.company)
        await handle(tx, events)

    return known
