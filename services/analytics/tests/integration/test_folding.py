"""Whatever order and however often events come in, the read model says what they say once, in order."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from cobranza.analytics import queries
from cobranza.analytics.domain.ageing import Bucket
from cobranza.analytics.invariants import INVARIANTS
from cobranza.analytics.scheduler import jobs
from cobranza.chassis import migrations

TODAY = date(2027, 1, 4)
WHERE = "cobranza.analytics:migrations"
_TABLES = (
    "customer", "receivable", "receivable_movement", "receivable_balance", "credit", "credit_movement",
    "credit_balance", "payment", "notice", "collection_case",
)  # fmt: skip


async def _everything(analytics: Any) -> dict[str, list[str]]:
    found = {}
    for name in _TABLES:
        rows = await analytics.query(f"SELECT t::text AS row FROM {name} t ORDER BY 1")  # noqa: S608 - our own names
        found[name] = [row.row for row in rows]
    return found


async def _open_on(analytics: Any, on: date, *, company: str = "acme-mx") -> dict[str, tuple[int, int]]:
    async with analytics.database.reading() as connection:
        found = await queries.ageing(connection, company=company, as_of=on)
    return {entry.currency: (entry.open, entry.open_count) for entry in found if entry.open}


def _stories(told: Any) -> Any:
    """For each type that is handled: the events of one aggregate in order of their versions."""
    return {
        "customer-changed": (told.customer(), told.customer(name="Renamed", revision=2)),
        "receivable-changed": (
            told.receivable(version=1),
            told.receivable(version=2, allocated="160.00", effective_on=date(2026, 12, 20)),
            told.receivable(version=3, allocated="160.00", credited="60.00", effective_on=TODAY),
        ),
        "credit-changed": (
            told.credit("40.00", version=1, effective_on=date(2026, 12, 30)),
            told.credit("0.00", version=2),
        ),
        "payment-received": (told.payment(), told.payment(customer="C-9", sequence=2)),
        "payment-reversed": (told.payment(), told.reversal()),
        "case-opened": (told.case_opened(),),
        "case-closed": (told.case_opened(), told.case_closed()),
        "notice-sent": (told.notice_sent(),),
        "notice-delivered": (told.notice_sent(), told.notice_delivered()),
        "notice-failed": (told.notice_sent(), told.notice_failed()),
        "notice-suppressed": (told.notice_suppressed(),),
    }


HANDLED = (
    "customer-changed", "receivable-changed", "credit-changed", "payment-received", "payment-reversed", "case-opened",
    "case-closed", "notice-sent", "notice-delivered", "notice-failed", "notice-suppressed",
)  # fmt: skip


@pytest.mark.parametrize("name", HANDLED)
async def test_events_told_twice_have_the_effect_of_once(analytics: Any, told: Any, name: str) -> None:
    story = _stories(told)[name]
    await analytics.tell(*story)
    once = await _everything(analytics)

    await analytics.tell(*(event for event in story for _ in range(2)))
    await analytics.tell(*story)

    assert await _everything(analytics) == once
    assert any(once.values())


@pytest.mark.parametrize("name", HANDLED)
async def test_an_older_version_after_a_newer_one_changes_nothing(analytics: Any, told: Any, name: str) -> None:
    story = _stories(told)[name]
    await analytics.tell(story[-1])
    newest = await _everything(analytics)

    for event in reversed(story[:-1]):
        await analytics.tell(event)

    assert await _everything(analytics) == newest


_FED = (
    "invoice",
    "cancelled",
    "credit_note",
    "payment",
    "case_opened",
    "hold_placed",
    "notice_sent",
    "notice_suppressed",
)


@pytest.mark.parametrize("name", _FED)
async def test_the_feed_tells_a_happening_once(analytics: Any, told: Any, name: str) -> None:
    event = getattr(told, name)()

    await analytics.tell(event, event)
    await analytics.tell(event)

    assert len(await analytics.query("SELECT 1 FROM feed")) == 1


async def test_balances_of_any_day_follow_value_dates_not_the_order_of_recording(analytics: Any, told: Any) -> None:
    """Issued 1-nov, part paid 20-nov but recorded 4-jan, credited 5-dec, and the payment returned 2-jan."""
    await analytics.tell(told.receivable(version=1))
    await analytics.tell(told.receivable(version=2, credited="60.00", effective_on=date(2026, 12, 5)))
    await analytics.tell(
        told.receivable(
            version=3, credited="60.00", allocated="500.00", effective_on=date(2026, 11, 20), recorded_on=TODAY
        )
    )
    await analytics.tell(told.receivable(version=4, credited="60.00", effective_on=date(2027, 1, 2)))

    found = {
        day: await _open_on(analytics, day)
        for day in (
            date(2026, 10, 31), date(2026, 11, 1), date(2026, 11, 19), date(2026, 11, 20), date(2026, 12, 5),
            date(2027, 1, 1), date(2027, 1, 2),
        )
    }  # fmt: skip

    assert found == {
        date(2026, 10, 31): {},
        date(2026, 11, 1): {"MXN": (1160_00, 1)},
        date(2026, 11, 19): {"MXN": (1160_00, 1)},
        date(2026, 11, 20): {"MXN": (660_00, 1)},
        date(2026, 12, 5): {"MXN": (600_00, 1)},
        date(2027, 1, 1): {"MXN": (600_00, 1)},
        date(2027, 1, 2): {"MXN": (1100_00, 1)},
    }


async def test_a_version_that_is_left_out_leaves_the_total_right(analytics: Any, told: Any) -> None:
    await analytics.tell(told.receivable(version=1))

    await analytics.tell(
        told.receivable(version=4, allocated="900.00", credited="100.00", effective_on=date(2026, 12, 20))
    )

    assert await _open_on(analytics, date(2026, 12, 19)) == {"MXN": (1160_00, 1)}
    assert await _open_on(analytics, date(2026, 12, 20)) == {"MXN": (160_00, 1)}


async def test_a_receivable_first_heard_of_when_part_paid_was_owed_whole_before(analytics: Any, told: Any) -> None:
    await analytics.tell(told.receivable(version=3, allocated="1000.00", effective_on=date(2026, 12, 20)))

    assert await _open_on(analytics, date(2026, 11, 1)) == {"MXN": (1160_00, 1)}
    assert await _open_on(analytics, date(2026, 12, 20)) == {"MXN": (160_00, 1)}


async def test_money_paid_before_the_invoice_existed_counts_from_its_issue(analytics: Any, told: Any) -> None:
    await analytics.tell(told.receivable(version=2, allocated="1160.00", effective_on=date(2026, 10, 1)))

    assert await _open_on(analytics, date(2026, 10, 15)) == {}
    assert await _open_on(analytics, date(2026, 11, 1)) == {}


async def test_a_moved_due_date_moves_the_debt_to_another_bucket(analytics: Any, told: Any) -> None:
    await analytics.tell(told.receivable(version=1))
    await analytics.tell(told.receivable(version=2, due_on=date(2027, 2, 1), effective_on=TODAY))

    async with analytics.database.reading() as connection:
        (entry,) = await queries.ageing(connection, company="acme-mx", as_of=TODAY)

    assert entry.amounts[Bucket.CURRENT] == entry.open == 1160_00


async def test_unapplied_money_is_known_as_of_any_day_and_apart_from_debts(analytics: Any, told: Any) -> None:
    await analytics.tell(told.credit("300.00", version=1, effective_on=date(2026, 12, 10)), told.receivable())
    await analytics.tell(told.credit("100.00", version=2, effective_on=date(2026, 12, 20)))

    async with analytics.database.reading() as connection:
        days = (date(2026, 12, 9), date(2026, 12, 10), date(2026, 12, 20))
        found = [(await queries.ageing(connection, company="acme-mx", as_of=day))[0] for day in days]

    assert [entry.unapplied for entry in found] == [0, 300_00, 100_00]
    assert {entry.open for entry in found} == {1160_00}


async def test_a_returned_payment_does_not_count_as_collected(analytics: Any, told: Any) -> None:
    await analytics.tell(told.payment("P-1", "500.00"), told.payment("P-2", "80.00"))
    await analytics.tell(told.reversal("P-1", "500.00"))

    async with analytics.database.reading() as connection:
        (day,) = await queries.collected_on(connection, company="acme-mx", on=TODAY)

    assert (day.collected, day.payments) == (80_00, 1)


async def test_currencies_and_companies_are_never_added_up(analytics: Any, told: Any) -> None:
    await analytics.tell(
        told.receivable("F-1"),
        told.receivable("F-2", currency="USD", issued="10.00"),
        told.receivable("F-3", company="andes-cl", currency="CLP", issued="1500"),
    )

    assert await _open_on(analytics, TODAY) == {"MXN": (1160_00, 1), "USD": (10_00, 1)}
    assert await _open_on(analytics, TODAY, company="andes-cl") == {"CLP": (1500, 1)}


async def test_an_event_of_an_unknown_company_is_parked_and_the_rest_goes_on(analytics: Any, told: Any) -> None:
    await analytics.tell(told.receivable("F-1"), told.receivable("F-2", company="nobody"), told.receivable("F-3"))

    (parked,) = await analytics.query("SELECT error_class FROM parked")
    assert parked.error_class == "company_unknown"
    assert await _open_on(analytics, TODAY) == {"MXN": (2320_00, 2)}


def _invoices() -> float:
    labels = {"company": "acme-mx", "currency": "MXN"}
    return REGISTRY.get_sample_value("cobranza_invoices_issued_total", labels) or 0.0


async def test_an_invoice_is_counted_once_also_when_its_batch_is_tried_again(analytics: Any, told: Any) -> None:
    before = _invoices()
    refused = told.invoice("F-2", company="nobody")

    # The batch is rolled back because of the refused event, and then bisected.
    await analytics.tell(told.invoice("F-1"), refused, told.invoice("F-3"))
    await analytics.tell(told.invoice("F-1"))

    assert _invoices() - before == 2


async def test_the_job_shows_the_portfolio_as_gauges(
    analytics: Any, told: Any, companies: Any, business_clock: Any
) -> None:
    await analytics.tell(told.receivable(), told.credit("5.00"))
    context: Any = SimpleNamespace(
        database=analytics.database, companies=companies, clock=business_clock,
        settings=SimpleNamespace(evaluation_hour=6),
    )  # fmt: skip
    gauges = next(job for job in jobs(context) if job.name == "gauges")

    await gauges.run()
    labels = {"company": "acme-mx", "currency": "MXN"}
    late = REGISTRY.get_sample_value("cobranza_open_amount", {**labels, "bucket": "31-60"})
    await analytics.tell(told.receivable(version=2, allocated="1160.00"), told.credit("0.00", version=2))
    await gauges.run()

    assert late == 1160.0
    assert REGISTRY.get_sample_value("cobranza_open_amount", {**labels, "bucket": "31-60"}) is None


async def test_the_feed_is_trimmed_to_what_is_kept(
    analytics: Any, told: Any, companies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cobranza.analytics.scheduler.FEED_KEPT", 2)
    await analytics.tell(*(told.invoice(f"F-{n}") for n in range(5)))
    context: Any = SimpleNamespace(database=analytics.database, companies=companies)

    await next(job for job in jobs(context) if job.name == "feed").run()

    numbers = [
        row.number for row in await analytics.query("SELECT facts ->> 'number' AS number FROM feed ORDER BY seq")
    ]
    assert numbers[-1] == "F-4"
    assert len(numbers) == 3


async def test_the_invariants_hold_and_find_what_breaks_them(analytics: Any, told: Any) -> None:
    await analytics.tell(told.receivable(version=1), told.receivable(version=2, allocated="60.00"))
    healthy = [await analytics.query(invariant.sql) for invariant in INVARIANTS]

    await analytics.change("UPDATE receivable SET open = open + 1")

    assert healthy == [[]] * len(INVARIANTS)
    assert all([await analytics.query(invariant.sql) for invariant in INVARIANTS])


def test_the_schema_is_what_the_tables_say_and_can_be_taken_back(fresh_database: Any) -> None:
    urls = fresh_database("analytics", lambda url: migrations.upgrade(WHERE, url))

    migrations.check(WHERE, urls.owner_url)
    migrations.downgrade(WHERE, urls.owner_url)
    migrations.upgrade(WHERE, urls.owner_url)
    migrations.check(WHERE, urls.owner_url)
