"""Comparing what the ERP says is open with the ledger, and noticing when it says nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final, Literal, cast

from cobranza.chassis import timers
from cobranza.chassis.calendars import company_calendar
from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.companies import CompanyProfile
from cobranza.chassis.database import Transaction
from cobranza.chassis.logs import logger
from cobranza.chassis.outbox import Cause
from cobranza.chassis.timers import Timer
from cobranza.contracts import identifiers, ingress, payments
from cobranza.contracts.identifiers import Company, Customer, ExternalId, System
from cobranza.contracts.money import Money
from cobranza.contracts.payments import ControlVerdict
from cobranza.payments import metrics, repository
from cobranza.payments.domain.control_totals import Comparison, Figures, Stated, compare, standing
from cobranza.payments.domain.errors import ControlTotalConflictError, ControlTotalRefusedError
from cobranza.payments.repository import ControlRun

#: Timers of this kind compare a run.
COMPARE: Final = "control-total"
#: A run whose messages are not all here by then is compared as far as it is; business time.
INCOMPLETE_AFTER: Final = timedelta(hours=1)
#: What differs is compared again: payments and invoices of the day may still be on their way; business time.
AGAIN_AFTER: Final = timedelta(minutes=5)
#: Differences that travel on the event; the page and the API have them all.
_MOST_TOLD: Final = 100


async def keep_control_total(
    tx: Transaction, told: ingress.ControlTotal, *, today: date
) -> Literal["accepted", "duplicate"]:
    """Keep one message of a run; the whole run is compared at once, a part of it after its deadline.

    Args:
        today: the company's date.

    Raises:
        ControlTotalRefusedError: it is of a day to come, or names a customer twice.
        ControlTotalConflictError: the same message, or another of its run, was accepted with other figures.
    """
    if told.total_on > today:
        raise ControlTotalRefusedError(
            f"a total of {told.total_on} cannot be known on {today}; send it when that day is over", pointer="/total_on"
        )
    customers: dict[str, int] = {}
    for place, line in enumerate(told.customers):
        if line.customer in customers:
            raise _named_twice(line.customer, place)
        customers[line.customer] = line.open_total.minor
    count, total = told.open_count, told.open_total.minor
    run = await repository.open_control_run(
        tx,
        control_total_id=identifiers.control_total_id(
            company=told.company,
            system=told.system,
            currency=told.currency,
            total_on=told.total_on,
            run="" if told.run_id is None else f"={told.run_id}",
        ),
        company=told.company,
        currency=told.currency,
        system=told.system,
        total_on=told.total_on,
        run_id=told.run_id,
        parts=told.parts,
        stated_count=count,
        stated_total=total,
    )
    kept = await repository.control_part(tx, control_total_id=run.control_total_id, part=told.part)
    if kept is not None and ingress.ControlTotal.model_validate(kept) == told:
        return "duplicate"
    if kept is not None or (run.parts, run.stated_count, run.stated_total) != (told.parts, count, total):
        what = "the control total" if told.run_id is None else f"run {told.run_id!r}"
        raise ControlTotalConflictError(
            f"{what} of {told.total_on} in {told.currency} was accepted with other figures;"
            " send the correction as a run with a run_id of its own",
            pointer="/total_on" if told.run_id is None else "/run_id",
        )
    before = await repository.stated_customers(tx, run.control_total_id)
    for place, line in enumerate(told.customers):
        if line.customer in before:
            raise _named_twice(line.customer, place)
    here = await repository.add_control_part(
        tx,
        control_total_id=run.control_total_id,
        part=told.part,
        told=told.model_dump_json(),
        customers=customers,
    )
    await timers.arm(
        tx,
        key=f"{COMPARE}/{run.control_total_id}",
        kind=COMPARE,
        company=told.company,
        subject_id=run.control_total_id,
        due_at=tx.now if here == run.parts else tx.now + INCOMPLETE_AFTER,
    )
    return "accepted"


def _named_twice(customer: str, place: int) -> ControlTotalRefusedError:
    return ControlTotalRefusedError(
        f"customer {customer!r} is named twice in one run; state one total for it",
        pointer=f"/customers/{place}/customer",
    )


async def compare_run(tx: Transaction, timer: Timer) -> datetime | None:
    """Compare a run with the ledger as of its day; what differs is compared again until a later run counts.

    What matched stays matched: a payment that is dated back afterwards is the next day's total to show.
    """
    run = await repository.control_run(tx, timer.subject_id)
    version = await repository.lock_control_standing(tx, company=run.company, currency=run.currency)
    assert run.stated_count is not None  # a total that is missing has no timer
    assert run.stated_total is not None
    is_complete = await repository.count_control_parts(tx, run.control_total_id) == run.parts
    stated = Stated(
        figures=Figures(count=run.stated_count, total=run.stated_total),
        customers=await repository.stated_customers(tx, run.control_total_id),
        is_complete=is_complete,
    )
    comparison = compare(stated, await _open_as_of(tx, run))
    await _conclude(tx, run, comparison, stated=stated.figures, version=version, cause=tx.cause)
    counting = await repository.last_control_runs(tx, company=run.company, currency=run.currency)
    if comparison.verdict == "matched" or counting[run.system][0] != run.control_total_id:
        return None
    return tx.now + AGAIN_AFTER


async def _open_as_of(tx: Transaction, run: ControlRun) -> dict[str, Figures]:
    found = await repository.open_as_of(
        tx, company=run.company, currency=run.currency, system=run.system, on=run.total_on
    )
    return {customer: Figures(count=count, total=total) for customer, (count, total) in found.items()}


@dataclass(frozen=True, slots=True)
class Expectation:
    """Notices, for a company that sends totals daily, that one did not come."""

    profile: CompanyProfile
    evaluation_hour: int

    def day(self, now: datetime) -> date:
        """The business day whose total must be here by now: the last one that ended before today's evaluation."""
        today = evaluation_date(now, self.profile.zone, from_hour=self.evaluation_hour)
        return company_calendar(self.profile).add(today, -1)

    async def look(self, tx: Transaction) -> int:
        """Note what is missing of the day, and tell it; returns how many totals are missing."""
        day = self.day(tx.now)
        company = self.profile.company
        missing = await repository.without_control_total(tx, company=company, on=day)
        for system, currency in missing:
            version = await repository.lock_control_standing(tx, company=company, currency=currency)
            run = await repository.open_control_run(
                tx,
                control_total_id=identifiers.control_total_id(
                    company=company, system=system, currency=currency, total_on=day, run="missing"
                ),
                company=company,
                currency=currency,
                system=system,
                total_on=day,
                run_id=None,
                parts=0,
                stated_count=None,
                stated_total=None,
            )
            found = await _open_as_of(tx, run)
            comparison = Comparison(
                verdict="missing",
                found=Figures(count=sum(f.count for f in found.values()), total=sum(f.total for f in found.values())),
                differences=(),
            )
            cause = Cause.timer(f"{COMPARE}/{run.control_total_id}", day)
            await _conclude(tx, run, comparison, stated=None, version=version, cause=cause)
        return len(missing)


async def _conclude(
    tx: Transaction, run: ControlRun, comparison: Comparison, *, stated: Figures | None, version: int, cause: Cause
) -> None:
    """Keep a comparison, and tell it unless it says what the one before said."""
    found = comparison.found
    said = (run.verdict, run.found_count, run.found_total, run.differing)
    says = (comparison.verdict, found.count, found.total, len(comparison.differences))
    await repository.save_control_check(
        tx,
        control_total_id=run.control_total_id,
        verdict=comparison.verdict,
        found_count=found.count,
        found_total=found.total,
        differences=[(d.customer, d.stated, d.found) for d in comparison.differences],
    )
    if said == says:
        return
    counting = await repository.last_control_runs(tx, company=run.company, currency=run.currency)
    stands = standing(cast("ControlVerdict", verdict) for _, verdict in counting.values())
    await repository.save_control_standing(
        tx, company=run.company, currency=run.currency, standing=stands, version=version + 1
    )

    def money(minor: int) -> Money:
        return Money.from_minor(minor, run.currency)

    def figures(of: Figures) -> payments.ControlFigures:
        return payments.ControlFigures(open_count=of.count, open_total=money(of.total))

    tx.publish(
        payments.ControlTotalChecked(
            company=Company(run.company),
            currency=run.currency,
            total_on=run.total_on,
            system=System(run.system),
            run_id=None if run.run_id is None else ExternalId(run.run_id),
            verdict=comparison.verdict,
            standing=stands,
            stated=None if stated is None else figures(stated),
            found=figures(found),
            differences=tuple(
                payments.CustomerDifference(customer=Customer(d.customer), stated=money(d.stated), found=money(d.found))
                for d in comparison.differences[:_MOST_TOLD]
            ),
            differing=len(comparison.differences),
            checked_at=tx.now,
        ),
        sequence=version + 1,
        # A second look on the same day tells an event of its own.
        cause=replace(cause, seed=f"{cause.seed}|{version + 1}"),
    )
    metrics.CONTROL_TOTALS.labels(outcome=comparison.verdict).inc()
    if comparison.verdict != "matched":
        logger().warning(
            "the control total does not hold",
            company=run.company,
            currency=run.currency,
            system=run.system,
            total_on=run.total_on.isoformat(),
            verdict=comparison.verdict,
            differing=len(comparison.differences),
        )
