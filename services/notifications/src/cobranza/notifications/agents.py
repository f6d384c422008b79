"""Notifications' topics: who asks for notices, and whose facts they need."""

from __future__ import annotations

from collections.abc import Sequence

from cobranza.chassis.service import Context
from cobranza.chassis.streams import Agent
from cobranza.notifications.settings import NotificationsSettings
from cobranza.notifications.use_cases.intake import Intake


def agents(context: Context[NotificationsSettings]) -> Sequence[Agent]:
    """One agent per topic."""
    intake = Intake(context.companies, context.settings.evaluation_hour)
    return (
        Agent("cobranza.customers", intake.customers),
        Agent("cobranza.invoicing", intake.invoices),
        Agent("cobranza.payments", intake.payments),
        Agent("cobranza.dunning", intake.dunning),
    )
