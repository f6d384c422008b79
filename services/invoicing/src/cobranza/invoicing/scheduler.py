"""Everything time-driven in invoicing."""

from __future__ import annotations

from collections.abc import Mapping

from cobranza.chassis.service import Context
from cobranza.chassis.timers import Handler
from cobranza.invoicing.settings import InvoicingSettings
from cobranza.invoicing.use_cases import TIMER_KIND, Intake


def timers(context: Context[InvoicingSettings]) -> Mapping[str, Handler]:
    """One timer per open instalment: its next due-date event."""
    intake = Intake(context.companies, context.settings.evaluation_hour)
    return {TIMER_KIND: intake.tell_due_date}
