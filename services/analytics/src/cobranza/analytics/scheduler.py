"""Everything time-driven in analytics: the gauges of the portfolio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cobranza.analytics import metrics, queries
from cobranza.analytics.domain.ageing import Ageing
from cobranza.analytics.settings import AnalyticsSettings
from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.service import Context, Job

_GAUGES_EVERY_SECONDS: Final = 5.0
_FEED_EVERY_SECONDS: Final = 3600.0
#: Entries of the feed that are kept per deployment.
FEED_KEPT: Final = 1_000_000


def jobs(context: Context[AnalyticsSettings]) -> Sequence[Job]:
    """The jobs of an analytics worker."""
    label = metrics.company_label(profile.company for profile in context.companies)

    async def show_portfolio() -> bool:
        figures: list[tuple[str, Ageing]] = []
        as_of: dict[str, float] = {}
        for profile in context.companies:
            now = context.clock.now()
            on = evaluation_date(now, profile.zone, from_hour=context.settings.evaluation_hour)
            company = label(profile.company)
            async with context.database.reading() as connection:
                found = await queries.ageing(connection, company=profile.company, as_of=on)
            figures += [(company, entry) for entry in found]
            as_of[company] = now.timestamp()
        metrics.show_portfolio(figures, as_of=as_of)
        return False

    async def trim_feed() -> bool:
        async with context.database.transaction() as tx:
            await tx.execute("DELETE FROM feed WHERE seq < (SELECT max(seq) FROM feed) - :kept", {"kept": FEED_KEPT})
        return False

    return (
        Job("gauges", _GAUGES_EVERY_SECONDS, show_portfolio, one_at_a_time=True),
        Job("feed", _FEED_EVERY_SECONDS, trim_feed, one_at_a_time=True),
    )
