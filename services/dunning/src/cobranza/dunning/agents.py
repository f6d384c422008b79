"""Dunning's topics: what others tell is kept as facts and is a reason to evaluate again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from cobranza.chassis.service import Context
from cobranza.chassis.streams import Agent
from cobranza.dunning.settings import DunningSettings
from cobranza.dunning.use_cases.evaluation import Desk
from cobranza.dunning.use_cases.following import follow_customers, follow_invoicing, follow_notices, follow_payments


def agents(context: Context[DunningSettings]) -> Sequence[Agent]:
    """One agent per topic."""
    desk = Desk(context.companies, context.settings.evaluation_hour, context.settings.brake_floor)
    return (
        Agent("cobranza.payments", partial(follow_payments, desk)),
        Agent("cobranza.invoicing", partial(follow_invoicing, desk)),
        Agent("cobranza.customers", partial(follow_customers, desk)),
        Agent("cobranza.notifications", partial(follow_notices, desk)),
    )
