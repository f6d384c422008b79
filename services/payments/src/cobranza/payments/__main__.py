"""Payments, composed."""

from __future__ import annotations

from typing import Final

from cobranza.chassis.page import Link
from cobranza.chassis.service import Service
from cobranza.payments.agents import agents
from cobranza.payments.api import router
from cobranza.payments.commands import commands
from cobranza.payments.invariants import FIGURES, INVARIANTS
from cobranza.payments.scheduler import jobs, timers
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.tables import metadata

SERVICE: Final = Service(
    name="payments",
    settings=PaymentsSettings,
    metadata=metadata,
    router=router,
    agents=agents,
    timers=timers,
    jobs=jobs,
    commands=commands,
    invariants=INVARIANTS,
    figures=FIGURES,
    pages=(
        Link(label="Import", href="/payments/imports"),
        Link(label="Unapplied payments", href="/payments/unapplied"),
        Link(label="Control totals", href="/payments/control-totals"),
        Link(label="Fiscal receipts", href="/payments/fiscal-receipts"),
        Link(label="Late charges", href="/payments/charges"),
    ),
)
