"""Invoicing, composed."""

from __future__ import annotations

from typing import Final

from cobranza.chassis.service import Service
from cobranza.invoicing.agents import agents
from cobranza.invoicing.api import router
from cobranza.invoicing.invariants import INVARIANTS
from cobranza.invoicing.scheduler import timers
from cobranza.invoicing.settings import InvoicingSettings
from cobranza.invoicing.tables import metadata

SERVICE: Final = Service(
    name="invoicing",
    settings=InvoicingSettings,
    metadata=metadata,
    router=router,
    agents=agents,
    timers=timers,
    invariants=INVARIANTS,
)
