"""Analytics, composed."""

from __future__ import annotations

from typing import Final

from cobranza.analytics.agents import agents
from cobranza.analytics.api import router
from cobranza.analytics.commands import COMMANDS
from cobranza.analytics.invariants import FIGURES, INVARIANTS
from cobranza.analytics.scheduler import jobs
from cobranza.analytics.settings import AnalyticsSettings
from cobranza.analytics.tables import metadata
from cobranza.chassis import page
from cobranza.chassis.service import Service

SERVICE: Final = Service(
    name="analytics",
    settings=AnalyticsSettings,
    metadata=metadata,
    router=router,
    agents=agents,
    jobs=jobs,
    commands=COMMANDS,
    pages=(page.Link(label="Today", href="/analytics/"), page.Link(label="Portfolio", href="/analytics/portfolio")),
    invariants=INVARIANTS,
    figures=FIGURES,
)
