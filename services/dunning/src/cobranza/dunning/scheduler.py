"""Everything time-driven in dunning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cobranza.chassis.database import Database
from cobranza.chassis.service import Context, Job
from cobranza.chassis.timers import Handler, Together
from cobranza.contracts.reasons import Reason
from cobranza.dunning import metrics, queries
from cobranza.dunning.repository import TIMER_KIND
from cobranza.dunning.settings import DunningSettings
from cobranza.dunning.use_cases.evaluation import Desk
from cobranza.dunning.use_cases.trials import Player

_SWEEP_SECONDS: Final = 3600.0
_GAUGE_SECONDS: Final = 30.0
#: How long a person who asked waits for the worker to look.
_TRIAL_SECONDS: Final = 1.0


def timers(context: Context[DunningSettings]) -> Mapping[str, Handler]:
    """One timer per account: its next evaluation."""
    desk = Desk(context.companies, context.settings.evaluation_hour, context.settings.brake_floor)
    return {TIMER_KIND: Together(desk.check_accounts)}


def jobs(context: Context[DunningSettings]) -> Sequence[Job]:
    """The hourly sweep for what was forgotten, the gauges read from the database, and previews and back-tests."""
    desk = Desk(context.companies, context.settings.evaluation_hour, context.settings.brake_floor)

    def own_database() -> Database:
        url = context.settings.database_url.get_secret_value()
        return Database(url, service=context.service, clock=context.clock, pool_size=1)

    player = Player(desk, context.database, own_database)

    async def sweep() -> bool:
        return await desk.sweep(context.database)

    async def gauge() -> bool:
        async with context.database.reading() as connection:
            metrics.gauge_cases(await queries.cases_by_state(connection))
            metrics.gauge_brakes(len(await queries.brakes(connection)))
            metrics.gauge_without_policy(await queries.waiting_for(connection, company=None, reason=Reason.NO_POLICY))
        return False

    return (
        Job("sweep", _SWEEP_SECONDS, sweep, one_at_a_time=True),
        Job("cases", _GAUGE_SECONDS, gauge, one_at_a_time=True),
        Job("trials", _TRIAL_SECONDS, player.play_next, one_at_a_time=True),
    )
