"""Analytics reads every canonical topic and writes none."""

from __future__ import annotations

from collections.abc import Sequence

from cobranza.analytics import use_cases
from cobranza.analytics.settings import AnalyticsSettings
from cobranza.chassis.service import Context
from cobranza.chassis.streams import Agent


def agents(_context: Context[AnalyticsSettings]) -> Sequence[Agent]:
    """One agent per topic."""
    return (
        Agent("cobranza.customers", use_cases.fold_customers),
        Agent("cobranza.invoicing", use_cases.fold_invoicing),
        Agent("cobranza.payments", use_cases.fold_payments),
        Agent("cobranza.dunning", use_cases.fold_dunning),
        Agent("cobranza.notifications", use_cases.fold_notifications),
    )
