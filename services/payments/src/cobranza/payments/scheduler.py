"""Everything time-driven in payments: the ledger's checks, imports cut short, money to be matched, charges, gauges."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Final

from cobranza.chassis.logs import logger
from cobranza.chassis.metrics import CompanyLabel
from cobranza.chassis.service import Context, Job
from cobranza.contracts.money import to_decimal
from cobranza.payments import metrics, queries
from cobranza.payments.invariants import LEDGER, STOPPING
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.use_cases import Charger, Importer, Matcher, check_ledger

_CHECK_EVERY_SECONDS: Final = 600.0
_GAUGE_EVERY_SECONDS: Final = 10.0
_RESUME_EVERY_SECONDS: Final = 10.0
_MATCH_EVERY_SECONDS: Final = 1.0


def jobs(context: Context[PaymentsSettings]) -> Sequence[Job]:
    """All run on one worker at a time."""
    importer = Importer(context.database, context.companies, context.settings.evaluation_hour)
    matcher = Matcher(context.database, context.companies)
    charger = Charger(context.database, context.companies)
    label = CompanyLabel(profile.company for profile in context.companies)

    async def check() -> bool:
        async with context.database.transaction() as tx:
            found = await check_ledger(tx, LEDGER, stopping=STOPPING)
        broken = [name for name, count in found.items() if count]
        if broken:
            logger().error("ledger does not balance, permits stop", checks=broken)
        return False

    async def gauge() -> bool:
        async with context.database.reading() as connection:
            totals = await queries.totals(connection)
            watermarks = await queries.watermarks(connection)
        for gauge_ in (metrics.OPEN, metrics.UNAPPLIED):
            gauge_.clear()
        for row in totals:
            metrics.OPEN.labels(label(row.company), row.currency).inc(float(to_decimal(int(row.open), row.currency)))
            metrics.UNAPPLIED.labels(label(row.company), row.currency).inc(
                float(to_decimal(int(row.unapplied), row.currency))
            )
        now = context.clock.now()
        for row in watermarks:
            profile = context.companies.get(row.company)
            if profile is not None:
                end = datetime.combine(row.through_on + timedelta(days=1), time(), tzinfo=profile.zone)
                metrics.WATERMARK_AGE.labels(label(row.company)).set((now - end).total_seconds())
        return False

    return (
        Job("check-ledger", _CHECK_EVERY_SECONDS, check, one_at_a_time=True),
        Job("resume-bank-imports", _RESUME_EVERY_SECONDS, importer.resume, one_at_a_time=True),
        Job("match-receipts", _MATCH_EVERY_SECONDS, matcher.run, one_at_a_time=True),
        Job("late-charges", _MATCH_EVERY_SECONDS, charger.run, one_at_a_time=True),
        Job("gauge-ledger", _GAUGE_EVERY_SECONDS, gauge, one_at_a_time=True),
    )
