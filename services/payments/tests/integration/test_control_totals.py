"""The ERP's totals against the real ledger: run by run, as of the day, by customer, and when none comes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cobranza.chassis import http, page
from cobranza.contracts import ingress, payments
from cobranza.contracts.money import Money
from cobranza.contracts.payloads import External
from cobranza.payments import metrics, repository
from cobranza.payments.api import router
from cobranza.payments.scheduler import jobs
from cobranza.payments.use_cases import Expectation

DAY = date(2027, 1, 4)
NAMES = count(1)


def total(
    amount: str, instalments: int, customers: dict[str, str] | None = None, *, currency: str = "MXN", **changes: Any
) -> ingress.ControlTotal:
    return ingress.ControlTotal(
        **{
            "company": "acme-mx",
            "system": "sap",
            "currency": currency,
            "total_on": DAY,
            "open_count": instalments,
            "open_total": Money.of(amount, currency),
            "customers": tuple(
                ingress.CustomerTotal(customer=customer, open_total=Money.of(open_, currency))
                for customer, open_ in (customers or {}).items()
            ),
            **changes,
        }
    )


async def told(ledger: Any) -> list[payments.ControlTotalChecked]:
    await ledger.ring()
    return list(await ledger.told(payments.ControlTotalChecked))


def minutes(ledger: Any, more: int) -> None:
    ledger.context.clock.set(ledger.context.clock.now() + timedelta(minutes=more))


async def test_a_total_that_agrees_is_matched_and_told_once(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "10.00", "20.00"), make.of(customer="C2").invoice("F-2", "5.00"))
    statement = total("35.00", 3, {"C1": "30.00", "C2": "5.00"})
    await ledger.tell(statement, statement)
    (event,) = await told(ledger)

    assert (event.verdict, event.standing, event.differing, event.differences) == ("matched", "matched", 0, ())
    assert event.found == event.stated == payments.ControlFigures(open_count=3, open_total=Money.of("35.00", "MXN"))
    assert await told(ledger) == [event]
    assert await ledger.parked() == []


async def test_a_debt_nobody_recorded_is_named_the_largest_first(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "10.00"), make.of(customer="C2").invoice("F-2", "5.00"))
    await ledger.tell(total("112.00", 3, {"C1": "12.00", "C9": "100.00"}))
    (event,) = await told(ledger)

    assert (event.verdict, event.differing) == ("mismatch", 3)
    assert [(d.customer, str(d.stated.amount), str(d.found.amount)) for d in event.differences] == [
        ("C9", "100.00", "0.00"), ("C2", "0.00", "5.00"), ("C1", "12.00", "10.00"),
    ]  # fmt: skip


async def test_a_run_is_compared_when_its_last_message_came_whatever_the_order(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "10.00"), make.of(customer="C2").invoice("F-2", "5.00"))
    first = total("15.00", 2, {"C1": "10.00"}, run_id="r-1", part=1, parts=2)
    second = total("15.00", 2, {"C2": "5.00"}, run_id="r-1", part=2, parts=2)
    await ledger.tell(second, second)
    assert await told(ledger) == []
    await ledger.tell(first)
    (event,) = await told(ledger)

    assert (event.verdict, event.run_id, event.differing) == ("matched", "r-1", 0)


async def test_a_run_that_stays_in_part_is_compared_after_its_deadline(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "10.00"), make.of(customer="C2").invoice("F-2", "5.00"))
    await ledger.tell(total("15.00", 2, {"C1": "9.00"}, run_id="r-1", part=1, parts=2))
    minutes(ledger, 59)
    assert await told(ledger) == []
    minutes(ledger, 1)
    (event,) = await told(ledger)
    assert (event.verdict, [d.customer for d in event.differences]) == ("mismatch", ["C1"])

    # The rest comes late and the run is compared as a whole.
    await ledger.tell(total("15.00", 2, {"C2": "6.00"}, run_id="r-1", part=2, parts=2))
    event = (await told(ledger))[-1]
    assert [d.customer for d in event.differences] == ["C1", "C2"]


async def test_the_ledger_is_taken_as_it_was_at_the_end_of_the_day(ledger: Any, make: Any) -> None:
    ledger.context.clock.set(datetime(2027, 1, 20, 18, tzinfo=UTC))
    await ledger.tell(
        make.invoice("F-1", "100.00"),
        make.invoice("F-2", "40.00"),
        make.payment("P-1", "30.00", "F-1", value_on=DAY),
        make.payment("P-2", "50.00", "F-1", value_on=DAY + timedelta(days=1)),
        make.cancel("F-2", on=DAY + timedelta(days=2)),
    )
    await ledger.tell(
        total("110.00", 2, {"C1": "110.00"}, run_id="1"),
        total("60.00", 2, {"C1": "60.00"}, run_id="2", total_on=DAY + timedelta(days=1)),
        total("20.00", 1, {"C1": "20.00"}, run_id="3", total_on=DAY + timedelta(days=2)),
        total("0.00", 0, run_id="4", total_on=date(2027, 1, 1)),
    )

    assert {event.run_id: event.verdict for event in await told(ledger)} == dict.fromkeys("1234", "matched")


async def test_what_differs_is_compared_again_until_the_ledger_has_caught_up(ledger: Any, make: Any) -> None:
    await ledger.tell(total("10.00", 1, {"C1": "10.00"}))
    assert [event.verdict for event in await told(ledger)] == ["mismatch"]
    minutes(ledger, 5)
    assert len(await told(ledger)) == 1  # nothing new to tell
    await ledger.tell(make.invoice("F-1", "10.00"))
    minutes(ledger, 5)
    assert [event.standing for event in await told(ledger)] == ["mismatch", "matched"]
    sequences = await ledger.rows(
        "SELECT sequence, event_id FROM outbox WHERE type LIKE '%control-total-checked%' ORDER BY 1"
    )
    assert [row.sequence for row in sequences] == [1, 2]
    assert sequences[0].event_id != sequences[1].event_id
    assert await ledger.value("SELECT count(*) FROM timer WHERE state = 'armed'") == 0


async def test_a_later_run_of_the_day_corrects_the_one_before(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "10.00"))
    await ledger.tell(total("11.00", 1, run_id="1"))
    await told(ledger)
    await ledger.tell(total("10.00", 1, run_id="2"))

    assert [(event.run_id, event.standing) for event in await told(ledger)] == [("1", "mismatch"), ("2", "matched")]
    minutes(ledger, 60)
    await told(ledger)
    assert await ledger.value("SELECT count(*) FROM timer WHERE state = 'armed'") == 0


async def test_an_older_day_does_not_undo_what_counts_now(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "10.00"))
    await ledger.tell(total("10.00", 1))
    await told(ledger)
    await ledger.tell(total("99.00", 1, total_on=DAY - timedelta(days=1)))

    assert [(event.verdict, event.standing) for event in await told(ledger)] == [
        ("matched", "matched"), ("mismatch", "matched"),
    ]  # fmt: skip


async def test_each_system_counts_its_own_invoices_and_the_worst_verdict_stands(ledger: Any, make: Any) -> None:
    other = make.invoice("F-2", "7.00").model_copy(update={"external": External(system="oracle", id="F-2")})
    await ledger.tell(make.invoice("F-1", "10.00"), other)
    await ledger.tell(total("10.00", 1), total("8.00", 1, system="oracle"))
    assert sorted((event.system, event.verdict) for event in await told(ledger)) == [
        ("oracle", "mismatch"), ("sap", "matched"),
    ]  # fmt: skip
    assert await ledger.value("SELECT standing FROM control_standing") == "mismatch"
    await ledger.tell(total("7.00", 1, system="oracle", run_id="2"))
    assert (await told(ledger))[-1].standing == "matched"


@pytest.mark.parametrize(
    "wrong",
    [
        total("15.00", 2, {"C1": "11.00"}, run_id="r", part=1, parts=2),
        total("16.00", 2, {"C2": "5.00"}, run_id="r", part=2, parts=2),
        total("15.00", 3, run_id="r", part=2, parts=2),
        total("15.00", 2, run_id="r", part=2, parts=3),
        total("16.00", 2),
    ],
    ids=["another customer", "another total", "another count", "more messages", "without a run"],
)
async def test_repeats_have_no_effect_and_contradictions_are_conflicts(ledger: Any, wrong: Any) -> None:
    one = total("15.00", 2, {"C1": "10.00"}, run_id="r", part=1, parts=2)
    plain = total("15.00", 2)
    await ledger.tell(one, one, plain, plain)
    assert await ledger.parked() == []
    await ledger.tell(wrong)
    assert await ledger.parked() == ["control_total_conflict"]
    assert await ledger.value("SELECT count(*) FROM control_total_part") == 2


async def test_what_was_kept_before_messages_had_runs_is_still_the_same(ledger: Any) -> None:
    await ledger.tell(total("15.00", 2))
    message = await ledger.value("SELECT told FROM control_total_part")
    old = {name: value for name, value in message.items() if name not in {"run_id", "part", "parts"}}

    assert ingress.ControlTotal.model_validate(old) == total("15.00", 2)


@pytest.mark.parametrize(
    "wrong",
    [
        total("1.00", 1, total_on=DAY + timedelta(days=1)),
        total("2.00", 2, {"C1": "1.00"}).model_copy(
            update={"customers": total("1.00", 1, {"C1": "1.00"}).customers * 2}
        ),
    ],
    ids=["of tomorrow", "a customer twice"],
)
async def test_a_total_that_cannot_be_is_refused(ledger: Any, wrong: Any) -> None:
    await ledger.tell(wrong)

    assert await ledger.parked() == ["control_total_refused"]
    assert await ledger.value("SELECT count(*) FROM control_total") == 0


async def test_a_customer_in_two_messages_of_a_run_is_refused(ledger: Any) -> None:
    await ledger.tell(total("2.00", 2, {"C1": "1.00"}, run_id="r", part=1, parts=2))
    await ledger.tell(total("2.00", 2, {"C1": "1.00"}, run_id="r", part=2, parts=2))

    assert await ledger.parked() == ["control_total_refused"]


async def test_a_daily_total_that_does_not_come_is_missing_and_one_that_comes_late_counts(
    ledger: Any, make: Any
) -> None:
    profile = ledger.context.companies.get("daily-mx")
    expectation = Expectation(profile, 6)

    async def look() -> int:
        async with ledger.database.transaction() as tx:
            return await expectation.look(tx)

    daily = make.of(company="daily-mx")
    await ledger.tell(daily.invoice("F-1", "10.00"), make.invoice("F-1", "10.00"))
    ledger.context.clock.set(datetime(2027, 1, 5, 11, 59, tzinfo=UTC))  # before six in Mexico: of Friday
    assert (expectation.day(ledger.context.clock.now()), await look()) == (date(2026, 12, 31), 0)
    ledger.context.clock.set(datetime(2027, 1, 5, 12, tzinfo=UTC))
    assert (expectation.day(ledger.context.clock.now()), await look(), await look()) == (DAY, 1, 0)
    (event,) = await told(ledger)
    assert (event.company, event.verdict, event.standing, event.stated) == ("daily-mx", "missing", "missing", None)
    assert event.found.open_count == 1

    await ledger.tell(total("10.00", 1, company="daily-mx"))
    assert [event.standing for event in await told(ledger)] == ["missing", "matched"]
    ledger.context.clock.set(datetime(2027, 1, 11, 13, tzinfo=UTC))  # Monday: Friday's
    assert (expectation.day(ledger.context.clock.now()), await look()) == (date(2027, 1, 8), 1)


async def test_the_workers_jobs_look_for_daily_totals_and_show_doubt_and_deadlines(ledger: Any, make: Any) -> None:
    work = {job.name: job.run for job in jobs(ledger.context)}
    daily = make.of(company="daily-mx")
    await ledger.tell(daily.invoice("F-1", "10.00", payment_method_code="PPD"), daily.payment("P", "4.00", "F-1"))
    ledger.context.clock.set(datetime(2027, 2, 4, 13, tzinfo=UTC))
    await work["expect-control-totals"]()
    await work["gauge-ledger"]()
    assert metrics.CONTROL_IN_DOUBT.labels("daily-mx", "MXN")._value.get() == 1
    assert metrics.FISCAL_OPEN.labels("daily-mx", "d1")._value.get() == 1
    await ledger.tell(total("6.00", 1, company="daily-mx", total_on=date(2027, 2, 3)))
    await ledger.ring()
    await work["gauge-ledger"]()
    assert metrics.CONTROL_IN_DOUBT.labels("daily-mx", "MXN")._value.get() == 0


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["pay", "pay", "pay", "reverse", "credit", "cancel"]),
        st.integers(0, 3),
        st.integers(1, 12),
        st.integers(1, 60),
    ),
    max_size=8,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    issued=st.lists(st.tuples(st.integers(1, 12), st.integers(20, 60)), min_size=1, max_size=4), operations=OPERATIONS
)
def test_what_was_open_on_any_day_equals_a_plain_recomputation(
    shared_ledger: Any, make: Any, issued: Any, operations: Any
) -> None:
    company = f"as-of-{next(NAMES)}"
    mine = make.of(company=company)

    async def run() -> None:
        ledger = shared_ledger(company)
        try:
            for number, (day, amount) in enumerate(issued):
                invoice = mine.of(customer=f"C{number % 2}").invoice(f"F-{number}", f"{amount}.00")
                await ledger.tell(invoice.model_copy(update={"issued_on": date(2027, 1, day)}))
            for place, (what, number, day, amount) in enumerate(operations):
                on = date(2027, 1, day)
                target = f"F-{number % len(issued)}"
                of = mine.of(customer=f"C{number % len(issued) % 2}")
                match what:
                    case "pay":
                        await ledger.tell(of.payment(f"P-{number}-{place}", f"{amount}.00", target, value_on=on))
                    case "reverse":
                        paid = [p for p, (w, *_) in enumerate(operations[:place]) if w == "pay"]
                        if paid:
                            of = mine.of(customer=f"C{operations[paid[-1]][1] % len(issued) % 2}")
                            await ledger.tell(of.reversal(f"P-{operations[paid[-1]][1]}-{paid[-1]}", on=on))
                    case "credit":
                        note = of.credit_note(f"N-{place}", f"{amount}.00", (target, f"{amount}.00"))
                        await ledger.tell(note.model_copy(update={"effective_on": on}))
                    case _:
                        await ledger.tell(of.cancel(target, on=on))
            lines = await ledger.rows(
                """
                SELECT r.customer, r.receivable_id, greatest(e.effective_on, r.issued_on) AS on, l.amount
                FROM journal_line l JOIN journal_entry e USING (entry_id)
                JOIN receivable r ON r.receivable_id = l.receivable_id
                WHERE l.account = 'AR' AND r.company = :company
                """,
                company=company,
            )
            for day in range(1, 14):
                on = date(2027, 1, day)
                balances: dict[tuple[str, Any], int] = defaultdict(int)
                for line in lines:
                    if line.on <= on:
                        balances[line.customer, line.receivable_id] += line.amount
                expected: dict[str, tuple[int, int]] = {}
                for (customer, _), balance in balances.items():
                    if balance > 0:
                        number, sum_ = expected.get(customer, (0, 0))
                        expected[customer] = (number + 1, sum_ + balance)
                async with ledger.database.transaction() as tx:
                    found = await repository.open_as_of(tx, company=company, currency="MXN", system="sap", on=on)
                assert found == expected, on
        finally:
            await ledger.database.close()

    asyncio.run(run())


# ---------------------------------------------------------------------- reading


@pytest.fixture
async def client(ledger: Any) -> AsyncIterator[httpx.AsyncClient]:
    application = http.create_app(
        {"payments": router(ledger.context)},
        access=http.LocalAccess(),
        frame=page.Frame(companies=ledger.context.companies, clock=ledger.context.clock),
        cursor_secret=b"s" * 32,
    )
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/payments") as client:
        yield client


async def test_totals_and_all_their_differences_are_read_by_http(ledger: Any, client: httpx.AsyncClient) -> None:
    owed = {f"C-{n}": f"{n}.00" for n in range(1, 131)}
    await ledger.tell(total("8515.00", 130, owed))
    (event,) = await told(ledger)
    listed = (await client.get("/v1/control-totals", params={"company": "acme-mx", "verdict": "mismatch"})).json()
    (one,) = listed["items"]
    address = f"/v1/control-totals/{one['control_total_id']}/differences"
    names: list[str] = []
    where = {"company": "acme-mx", "limit": "50"}
    for _ in range(3):
        answer = (await client.get(address, params=where)).json()
        names += [item["customer"] for item in answer["items"]]
        where["cursor"] = answer["next_cursor"]

    assert (event.differing, len(event.differences)) == (130, 100)
    assert (one["differing"], one["stated"]["open_count"], one["found"]["open_total"]["amount"]) == (130, 130, "0.00")
    assert names == [f"C-{n}" for n in range(130, 0, -1)]
    assert (await client.get(address, params={"company": "fed-mx"})).status_code == 404
    matched = await client.get("/v1/control-totals", params={"company": "acme-mx", "verdict": "matched"})
    assert matched.json()["items"] == []


@pytest.mark.parametrize(
    ("language", "words"), [("es", "Clientes con diferencia: 1"), ("en", "Customers that differ: 1")]
)
async def test_the_pages_say_who_differs(
    ledger: Any, make: Any, client: httpx.AsyncClient, language: str, words: str
) -> None:
    await ledger.tell(make.invoice("F-1", "10.00"), total("12.00", 1, {"C1": "12.00"}))
    await ledger.ring()
    where = {"company": "acme-mx", "lang": language}
    listed = await client.get("/control-totals", params=where)
    run = await ledger.value("SELECT control_total_id FROM control_total")
    one = await client.get(f"/control-totals/{run}", params=where)

    assert (listed.status_code, one.status_code) == (200, 200)
    assert words in one.text
    assert ("Totales de control" if language == "es" else "Control totals") in listed.text
    assert ">2.00<" in one.text.replace("\n", "")
    assert (await client.get("/control-totals", params={**where, "company": "fed-mx"})).status_code == 200
