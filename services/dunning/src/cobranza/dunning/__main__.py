"""Dunning, composed."""

from __future__ import annotations

from typing import Final

from cobranza.chassis.page import Link
from cobranza.chassis.service import Service
from cobranza.dunning.agents import agents
from cobranza.dunning.api import router
from cobranza.dunning.commands import commands
from cobranza.dunning.invariants import FIGURES, INVARIANTS
from cobranza.dunning.scheduler import jobs, timers
from cobranza.dunning.settings import DunningSettings
from cobranza.dunning.tables import metadata

SERVICE: Final = Service(
    name="dunning",
    settings=DunningSettings,
    metadata=metadata,
    router=router,
    agents=agents,
    timers=timers,
    jobs=jobs,
    commands=commands,
    invariants=INVARIANTS,
    figures=FIGURES,
    pages=(
        Link(label="Cases", href="/dunning/cases"),
        Link(label="Tasks", href="/dunning/tasks"),
        Link(label="Why?", href="/dunning/why"),
        Link(label="Simulator", href="/dunning/simulator"),
    ),
)
