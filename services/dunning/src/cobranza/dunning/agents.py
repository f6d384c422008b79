"""Dunning's topics: what others tell is kept as facts and is a reason to evaluate again."""

from __future__ import annotations

from collections.abc import Sequence

from cobranza.chassis.service import Context
from cobranza.chassis.streams import Agent
from cobranza.dunning.settings import DunningSettings
from cobranza.dunning.use_cases import Desk


def agents(context: Context[DunningSettings]) -> Sequence[Agent]:
    """One agent per topic."""
    desk = Desk(context.companies, context.settings.evaluation_hour)
    return (
        Agent("cobranza.payments", desk.follow_payments),
        Agent("cobranza.invoicing", desk.follow_invoicing),
        Agent("cobranza.customers", desk.follow_customers),
        Agent("cobranza.notifications", desk.follow_notices),
    )
