"""Everything time-driven in analytics: the gauges of the portfolio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cobranza.analytics import metrics, queries
from cobranza.analytics.settings import AnalyticsSettings
from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.service import Context, Job
from cobranza.contracts.money import to_decimal

_GAUGES_EVERY_SECONDS: Final = 5.0
_FEED_EVERY_SECONDS: Final = 3600.0
#: Entries of the feed that are kept per deployment.
FEED_KEPT: Final = 1_000_000


def jobs(context: Context[AnalyticsSettings]) -> Sequence[Job]:
    """The jobs of an analytics worker."""
    label = metrics.company_label(profile.company for profile in context.companies)

    async def set_gauges() -> bool:
        for profile in context.companies:
            as_of = evaluation_date(context.clock.now(), profile.zone, from_hour=context.settings.evaluation_hour)
            async with context.database.reading() as connection:
                found = await queries.ageing(connection, company=profile.company, as_of=as_of)
            company = label(profile.company)
            for entry in found:
                for bucket, amount in entry.amounts.items():
                    metrics.OPEN.labels(company=company, currency=entry.currency, bucket=bucket).set(
                        float(to_decimal(amount, entry.currency))
                    )
                metrics.UNAPPLIED.labels(company=company, currency=entry.currency).set(
                    float(to_decimal(entry.unapplied, entry.currency))
                )
            metrics.AS_OF.labels(company=company).set(context.clock.now().timestamp())
        return False

    async def trim_feed() -> bool:
        async with context.database.transaction() as tx:
            await tx.execute("DELETE FROM feed WHERE seq < (SELECT max(seq) FROM feed) - :kept", {"kept": FEED_KEPT})
        return False

    return (
        Job("gauges", _GAUGES_EVERY_SECONDS, set_gauges, one_at_a_time=True),
        Job("feed", _FEED_EVERY_SECONDS, trim_feed, one_at_a_time=True),
    )
