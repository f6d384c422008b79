"""Everything time-driven in payments: the ledger's checks, imports cut short, money to be matched, charges, gauges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Final, get_args

from cobranza.chassis.logs import logger
from cobranza.chassis.metrics import CompanyLabel
from cobranza.chassis.service import Context, Job
from cobranza.chassis.timers import Handler
from cobranza.contracts.money import to_decimal
from cobranza.payments import metrics, queries
from cobranza.payments.domain.fiscal_receipts import Alert, alert_of
from cobranza.payments.invariants import LEDGER, STOPPING
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.use_cases import (
    COMPARE,
    REMIND,
    Charger,
    Expectation,
    FiscalDesk,
    Importer,
    Matcher,
    check_ledger,
    compare_run,
    grouping_of,
)

_CHECK_EVERY_SECONDS: Final = 600.0
_GAUGE_EVERY_SECONDS: Final = 10.0
_RESUME_EVERY_SECONDS: Final = 10.0
_MATCH_EVERY_SECONDS: Final = 1.0
_EXPECT_EVERY_SECONDS: Final = 300.0


def timers(context: Context[PaymentsSettings]) -> Mapping[str, Handler]:
    """Control totals are compared when their run is here; fiscal receipts have deadlines."""
    return {COMPARE: compare_run, REMIND: FiscalDesk(context.companies).remind}


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
            standings = await queries.control_standings(connection)
            deadlines = await queries.fiscal_deadlines(connection)
        for gauge_ in (metrics.OPEN, metrics.UNAPPLIED):
            gauge_.clear()
        for row in totals:
            metrics.OPEN.labels(label(row.company), row.currency).inc(float(to_decimal(int(row.open), row.currency)))
            metrics.UNAPPLIED.labels(label(row.company), row.currency).inc(
                float(to_decimal(int(row.unapplied), row.currency))
            )
        now = context.clock.now()
        # Zero is an answer too: whoever asks sees that it was counted.
        for each in context.companies:
            for currency in each.currencies:
                metrics.CONTROL_IN_DOUBT.labels(label(each.company), currency).set(0)
            if grouping_of(each) is not None:
                for bucket in ("later", *get_args(Alert)):
                    metrics.FISCAL_OPEN.labels(label(each.company), bucket).set(0)
        for row in standings:
            metrics.CONTROL_IN_DOUBT.labels(label(row.company), row.currency).set(row.standing != "matched")
        for row in deadlines:
            profile = context.companies.get(row.company)
            if profile is not None:
                bucket = alert_of(row.deadline_on, now.astimezone(profile.zone).date()) or "later"
                metrics.FISCAL_OPEN.labels(label(row.company), bucket).inc(row.receipts)
        for row in watermarks:
            profile = context.companies.get(row.company)
            if profile is not None:
                end = datetime.combine(row.through_on + timedelta(days=1), time(), tzinfo=profile.zone)
                metrics.WATERMARK_AGE.labels(label(row.company)).set((now - end).total_seconds())
        return False

    async def expect() -> bool:
        for profile in context.companies:
            if profile.control_totals == "daily":
                async with context.database.transaction() as tx:
                    await Expectation(profile, context.settings.evaluation_hour).look(tx)
        return False

    return (
        Job("check-ledger", _CHECK_EVERY_SECONDS, check, one_at_a_time=True),
        Job("resume-bank-imports", _RESUME_EVERY_SECONDS, importer.resume, one_at_a_time=True),
        Job("match-receipts", _MATCH_EVERY_SECONDS, matcher.run, one_at_a_time=True),
        Job("expect-control-totals", _EXPECT_EVERY_SECONDS, expect, one_at_a_time=True),
        Job("late-charges", _MATCH_EVERY_SECONDS, charger.run, one_at_a_time=True),
        Job("gauge-ledger", _GAUGE_EVERY_SECONDS, gauge, one_at_a_time=True),
    )
