"""Notifications, composed."""

from __future__ import annotations

from typing import Final

from cobranza.chassis.page import Link
from cobranza.chassis.service import Service
from cobranza.notifications.agents import agents
from cobranza.notifications.api import router
from cobranza.notifications.invariants import INVARIANTS
from cobranza.notifications.scheduler import jobs
from cobranza.notifications.settings import NotificationsSettings
from cobranza.notifications.tables import metadata

SERVICE: Final = Service(
    name="notifications",
    settings=NotificationsSettings,
    metadata=metadata,
    router=router,
    agents=agents,
    jobs=jobs,
    invariants=INVARIANTS,
    pages=(Link(label="Messages", href="/notifications/"),),
)
