"""Fiscal receipts on the real ledger: owed in time, answered once, cancelled with the money, never one too few."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from cobranza.chassis import http, page
from cobranza.chassis.streams import Event
from cobranza.contracts import ingress, payments
from cobranza.contracts.envelope import Envelope, decode
from cobranza.contracts.money import Money
from cobranza.payments.api import router
from cobranza.payments.use_cases import Bookkeeper, Matcher, Share

MARCH, APRIL = date(2027, 3, 10), date(2027, 4, 28)


@pytest.fixture(autouse=True)
def in_march(ledger: Any) -> None:
    at(ledger, MARCH)


def at(ledger: Any, day: date) -> None:
    """Noon in Mexico."""
    ledger.context.clock.set(datetime(day.year, day.month, day.day, 18, tzinfo=UTC))


def ppd(make: Any, number: str, *amounts: str, **changes: Any) -> Any:
    return make.invoice(number, *amounts, fiscal_id=f"uuid-{number}", payment_method_code="PPD", **changes)


def answered(receipt: Any, outcome: str = "issued", **changes: Any) -> ingress.FiscalReceiptAnswered:
    return ingress.FiscalReceiptAnswered(
        **{
            "company": receipt.company,
            "system": "sap",
            "fiscal_receipt_id": receipt.fiscal_receipt_id,
            "customer": receipt.customer,
            "outcome": outcome,
            "fiscal_id": "rep-1" if outcome == "issued" else None,
            "answered_on": date(2027, 3, 11),
            **changes,
        }
    )


async def told(ledger: Any) -> list[Any]:
    return list(await ledger.told(payments.FiscalReceiptDue))


async def now(ledger: Any) -> dict[UUID, Any]:
    """The last told of each receipt, in the order in which they were first told."""
    return {one.fiscal_receipt_id: one for one in await told(ledger)}


def figures(receipt: Any) -> list[tuple[int, str, str, str]]:
    return [
        (line.part_number, *(str(m.amount) for m in (line.previous, line.paid, line.remaining)))
        for line in receipt.lines
    ]


async def agrees(ledger: Any) -> None:
    """Sum of what is on receipts that count = what is applied, by invoice."""
    assert (
        await ledger.rows(
            """
            SELECT * FROM (SELECT invoice_id, sum(paid) AS paid FROM fiscal_receipt_line WHERE state = 'live' GROUP BY 1) l
            FULL JOIN (
                SELECT r.invoice_id, sum(a.amount) AS applied FROM allocation a
                JOIN receivable r ON r.company = a.company AND r.receivable_id = a.receivable_id
                JOIN receipt p ON p.company = a.company AND p.receipt_id = a.receipt_id AND p.kind = 'cash'
                GROUP BY 1 HAVING sum(a.amount) <> 0) a USING (invoice_id)
            WHERE paid IS DISTINCT FROM applied
            """
        )
        == []
    )


async def test_the_example_of_the_law_gives_both_receipts_and_deadlines(ledger: Any, make: Any) -> None:
    await ledger.tell(ppd(make, "A-1", "58000.00"))
    await ledger.tell(make.payment("P-1", "30000.00", "A-1", value_on=MARCH))
    at(ledger, APRIL)
    await ledger.tell(make.payment("P-2", "28000.00", "A-1", value_on=APRIL))
    first, second = await told(ledger)

    assert (first.received_on, first.deadline_on, first.state) == (MARCH, date(2027, 4, 5), "due")
    assert figures(first) == [(1, "58000.00", "30000.00", "28000.00")]
    assert (second.received_on, second.deadline_on, second.state) == (APRIL, date(2027, 5, 5), "due")
    assert figures(second) == [(2, "28000.00", "28000.00", "0.00")]
    assert [line.fiscal_id for one in (first, second) for line in one.lines] == ["uuid-A-1"] * 2
    assert (first.grouping, first.method, str(first.amount.amount)) == ("per_payment", "transfer", "30000.00")
    await agrees(ledger)


@pytest.mark.parametrize(
    ("company", "code", "owed"),
    [
        ("acme-mx", "PPD", 1), ("acme-mx", "PUE", 0), ("acme-mx", None, 0), ("abroad-cl", "PPD", 0),
        ("monthly-mx", "PUE", 0), ("monthly-mx", None, 1), ("monthly-mx", "PPD", 1),
    ],
)  # fmt: skip
async def test_only_what_is_paid_later_needs_receipts(
    ledger: Any, make: Any, company: str, code: str | None, owed: int
) -> None:
    mine = make.of(company=company)
    await ledger.tell(mine.invoice("A-1", "10.00", payment_method_code=code), mine.payment("P", "4.00", "A-1"))

    assert await ledger.value("SELECT count(*) FROM fiscal_receipt") == owed


async def test_instalments_of_an_invoice_are_one_line_and_all_of_it_is_what_was_open(ledger: Any, make: Any) -> None:
    await ledger.tell(ppd(make, "A-1", "10.00", "20.00", "30.00"), make.payment("P", "15.00", "A-1"))
    (receipt,) = await told(ledger)

    assert figures(receipt) == [(1, "60.00", "15.00", "45.00")]
    assert receipt.lines[0].receivable_id == make.receivable_id("A-1", 1)


async def test_a_discount_given_with_a_payment_was_open_before_it(ledger: Any, make: Any) -> None:
    discount = {"amount": Money.of("5.00", "MXN"), "until_on": MARCH}
    await ledger.tell(ppd(make, "A-1", "100.00", discount=discount))
    await ledger.tell(make.payment("P", "95.00", value_on=MARCH))
    matcher = Matcher(ledger.database, ledger.context.companies)
    while await matcher.run():
        pass
    (receipt,) = await told(ledger)

    assert (figures(receipt), await ledger.open("A-1")) == ([(1, "100.00", "95.00", "5.00")], 0)


async def test_money_that_came_before_its_invoice_is_owed_by_when_it_came(ledger: Any, make: Any) -> None:
    await ledger.tell(make.payment("P", "15.00", "A-1", value_on=date(2027, 2, 20)), ppd(make, "A-1", "10.00"))
    (receipt,) = await told(ledger)

    assert (receipt.deadline_on, receipt.alert) == (date(2027, 3, 5), "overdue")


async def test_a_payment_applied_by_people_and_by_rules_is_owed_too(ledger: Any, make: Any) -> None:
    matcher = Matcher(ledger.database, ledger.context.companies)
    await ledger.tell(ppd(make, "A-1", "10.00"), ppd(make, "A-2", "30.00"), make.payment("P", "30.00"))
    while await matcher.run():
        pass
    assert [figures(one) for one in await told(ledger)] == [[(1, "30.00", "30.00", "0.00")]]
    async with ledger.database.transaction() as tx:
        await matcher.act(
            tx, "move", company="acme-mx", receipt_id=(await told(ledger))[0].payment_ids[0],
            shares=[Share(receivable_id=make.receivable_id("A-1"), amount=1000),
                    Share(receivable_id=make.receivable_id("A-2"), amount=500)],
            action_id=UUID(int=1), by="ana", reason="told by phone",
        )  # fmt: skip

    states = [(one.state, sorted(figures(one))) for one in (await now(ledger)).values()]
    assert states == [
        ("cancelled", [(1, "30.00", "30.00", "0.00")]),
        ("due", [(1, "10.00", "10.00", "0.00"), (1, "30.00", "5.00", "25.00")]),
    ]
    await agrees(ledger)


async def test_a_reversal_cancels_and_the_next_is_numbered_by_those_that_count(ledger: Any, make: Any) -> None:
    await ledger.tell(ppd(make, "A-1", "100.00"))
    await ledger.tell(
        make.payment("P-1", "30.00", "A-1", value_on=MARCH), make.payment("P-2", "20.00", "A-1", value_on=MARCH)
    )
    first, second = (await now(ledger)).values()
    await ledger.tell(answered(first), answered(second, fiscal_id="rep-2"))
    await ledger.tell(make.reversal("P-1", on=date(2027, 3, 12)))
    await ledger.tell(make.payment("P-3", "10.00", "A-1", value_on=MARCH))
    receipts = list((await now(ledger)).values())

    assert [(one.state, one.fiscal_id, figures(one)) for one in receipts] == [
        ("cancelled", "rep-1", [(1, "100.00", "30.00", "70.00")]),
        ("answered", "rep-2", [(2, "70.00", "20.00", "50.00")]),
        ("due", None, [(2, "80.00", "10.00", "70.00")]),
    ]
    await agrees(ledger)


async def test_a_cancelled_invoice_takes_its_line_from_receipts_of_several(ledger: Any, make: Any) -> None:
    await ledger.tell(ppd(make, "A-1", "10.00"), ppd(make, "A-2", "30.00"))
    await ledger.tell(make.payment("P", "40.00", remittance=[("A-1", "10.00"), ("A-2", "30.00")], value_on=MARCH))
    (receipt,) = await told(ledger)
    await ledger.tell(answered(receipt))
    await ledger.tell(make.cancel("A-1", on=date(2027, 3, 11)))
    issued, rest = (await now(ledger)).values()

    assert (issued.state, len(issued.lines)) == ("cancelled", 2)
    assert (rest.state, rest.replaces, figures(rest)) == (
        "due", issued.fiscal_receipt_id, [(1, "30.00", "30.00", "0.00")],
    )  # fmt: skip
    await agrees(ledger)


async def test_a_repeat_owes_nothing_twice(ledger: Any, make: Any) -> None:
    payment = make.payment("P", "4.00", "A-1")
    await ledger.tell(ppd(make, "A-1", "10.00"), payment, payment, make.reversal("P"), make.reversal("P"))

    assert [one.state for one in await told(ledger)] == ["due", "cancelled"]
    rows = await ledger.rows(
        "SELECT sequence, event_id FROM outbox WHERE type LIKE '%fiscal-receipt-due%' ORDER BY seq"
    )
    assert [row.sequence for row in rows] == [1, 2]
    assert len({row.event_id for row in rows}) == 2


async def test_several_changes_in_one_batch_are_told_one_by_one(ledger: Any, make: Any) -> None:
    await ledger.tell(ppd(make, "A-1", "100.00"))
    await ledger.tell_at_once(
        make.payment("P-1", "30.00", "A-1"), make.payment("P-2", "20.00", "A-1"), make.reversal("P-1"),
        make.payment("P-3", "10.00", "A-1"),
    )  # fmt: skip

    one_by_one = [(one.state, figures(one)) for one in await told(ledger)]
    assert one_by_one[:2] == [("due", [(1, "100.00", "30.00", "70.00")]), ("due", [(2, "70.00", "20.00", "50.00")])]
    assert sorted(one_by_one[2:4]) == [
        ("cancelled", [(1, "100.00", "30.00", "70.00")]), ("due", [(1, "100.00", "20.00", "80.00")]),
    ]  # fmt: skip
    assert one_by_one[4:] == [("due", [(2, "80.00", "10.00", "70.00")])]
    assert {one.state for one in (await now(ledger)).values()} == {"due", "cancelled"}
    await agrees(ledger)


async def test_payments_reversals_and_answers_at_once_end_in_one_truth(ledger: Any, make: Any) -> None:
    await ledger.tell(ppd(make, "A-1", "100.00"), *(make.payment(f"P-{n}", "10.00", "A-1") for n in range(4)))
    bookkeeper = Bookkeeper(ledger.context.companies)
    asked = list((await now(ledger)).values())

    async def book(payload: Any) -> None:
        record = ledger.record(payload)
        decoded = decode(record.key, record.headers, record.value, strict=True)
        assert isinstance(decoded, Envelope)
        event = Event.of(decoded, offset=0)
        async with ledger.database.transaction(event.cause) as tx:
            await bookkeeper.accept(tx, event)

    await asyncio.gather(
        *(book(answered(receipt, fiscal_id=f"rep-{n}")) for n, receipt in enumerate(asked)),
        *(book(make.reversal(f"P-{n}", on=MARCH)) for n in (0, 2)),
        *(book(make.payment(f"Q-{n}", "10.00", "A-1", value_on=MARCH)) for n in range(4)),
        ledger.ring(),
    )
    await agrees(ledger)
    receipts = (await now(ledger)).values()
    assert sorted(one.state for one in receipts) == ["answered"] * 2 + ["cancelled"] * 2 + ["due"] * 4
    assert {one.fiscal_id for one in receipts if one.state == "cancelled"} == {"rep-0", "rep-2"}
    rows = await ledger.rows("SELECT subject, sequence FROM outbox WHERE type LIKE '%fiscal-receipt-due%'")
    assert len({tuple(row) for row in rows}) == len(rows)


# ---------------------------------------------------------------------- the ERP answers


async def owed(ledger: Any, make: Any) -> Any:
    await ledger.tell(ppd(make, "A-1", "10.00"), make.payment("P", "4.00", "A-1", value_on=MARCH))
    (receipt,) = await told(ledger)
    return receipt


async def test_an_issued_receipt_is_answered_once_and_no_longer_alerts(ledger: Any, make: Any) -> None:
    receipt = await owed(ledger, make)
    await ledger.tell(answered(receipt), answered(receipt))
    at(ledger, date(2027, 4, 20))
    await ledger.ring()

    assert await ledger.parked() == []
    assert [(one.state, one.fiscal_id, one.alert) for one in await told(ledger)] == [
        ("due", None, None), ("answered", "rep-1", None),
    ]  # fmt: skip


async def test_a_rejected_receipt_stays_owed_until_it_is_issued(ledger: Any, make: Any) -> None:
    receipt = await owed(ledger, make)
    await ledger.tell(answered(receipt, "rejected", code="CRP20238"))
    at(ledger, date(2027, 4, 6))
    await ledger.ring()
    await ledger.tell(answered(receipt))

    assert [(one.state, one.code, one.alert) for one in await told(ledger)] == [
        ("due", None, None), ("rejected", "CRP20238", None), ("rejected", "CRP20238", "overdue"), ("answered", None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"fiscal_receipt_id": UUID(int=8)}, "fiscal_receipt_unknown"),
        ({"company": "fed-mx"}, "fiscal_receipt_unknown"),
        ({"customer": "C2"}, "fiscal_receipt_conflict"),
        ({"outcome": "perhaps"}, "fiscal_receipt_refused"),
    ],
)
async def test_an_answer_to_nothing_that_was_asked_is_parked(
    ledger: Any, make: Any, changes: dict[str, Any], code: str
) -> None:
    await ledger.tell(answered(await owed(ledger, make), **changes))

    assert await ledger.parked() == [code]
    assert [one.state for one in await told(ledger)] == ["due"]


@pytest.mark.parametrize("changes", [{"fiscal_id": "rep-9"}, {"outcome": "rejected"}])
async def test_an_answer_that_contradicts_an_issued_receipt_is_a_conflict(
    ledger: Any, make: Any, changes: dict[str, Any]
) -> None:
    receipt = await owed(ledger, make)
    await ledger.tell(answered(receipt), answered(receipt, **changes))

    assert await ledger.parked() == ["fiscal_receipt_conflict"]


async def test_a_receipt_issued_after_its_money_went_back_stays_cancelled_and_says_what_was_issued(
    ledger: Any, make: Any
) -> None:
    receipt = await owed(ledger, make)
    await ledger.tell(make.reversal("P", on=date(2027, 3, 12)), answered(receipt))

    assert [(one.state, one.fiscal_id) for one in await told(ledger)][1:] == [
        ("cancelled", None), ("cancelled", "rep-1"),
    ]  # fmt: skip


# ---------------------------------------------------------------------- deadlines and months


async def test_alerts_come_three_days_before_one_day_before_on_the_day_and_after_it(ledger: Any, make: Any) -> None:
    await owed(ledger, make)
    seen = []
    for day in range(1, 8):
        # At six in Mexico, not a minute before.
        ledger.context.clock.set(datetime(2027, 4, day, 11, 59, tzinfo=UTC))
        await ledger.ring()
        before = len(await told(ledger))
        ledger.context.clock.set(datetime(2027, 4, day, 12, 0, tzinfo=UTC))
        await ledger.ring()
        seen += [(day, one.alert) for one in (await told(ledger))[before:]]

    assert seen == [(2, "d3"), (4, "d1"), (5, "d0"), (6, "overdue")]
    assert await ledger.value("SELECT count(*) FROM timer WHERE state = 'armed'") == 0


async def test_the_deadline_is_the_creditors_day(ledger: Any, make: Any) -> None:
    await owed(ledger, make)
    ledger.context.clock.set(datetime(2027, 4, 6, 5, 59, tzinfo=UTC))  # the 5th, 23:59 in Mexico
    await ledger.ring()
    assert (await told(ledger))[-1].alert == "d0"


async def test_a_months_payments_are_told_when_it_is_over(ledger: Any, make: Any) -> None:
    mine = make.of(company="monthly-mx")
    await ledger.tell(mine.invoice("A-1", "100.00"), mine.invoice("A-2", "50.00"))
    await ledger.tell(
        mine.payment("P-1", "30.00", "A-1", value_on=date(2027, 3, 2)),
        mine.payment("P-2", "20.00", "A-1", value_on=MARCH, method="cheque"),
        mine.payment("P-3", "5.00", "A-2", value_on=MARCH),
        mine.reversal("P-1", on=MARCH),
    )
    assert await told(ledger) == []
    at(ledger, date(2027, 4, 1))
    await ledger.ring()
    (month,) = await told(ledger)

    assert (month.grouping, month.state, month.deadline_on, month.method) == (
        "monthly", "due", date(2027, 4, 5), "other",
    )  # fmt: skip
    assert figures(month) == [(1, "100.00", "20.00", "80.00"), (1, "50.00", "5.00", "45.00")]
    assert (month.received_on, str(month.amount.amount), len(month.payment_ids)) == (MARCH, "25.00", 2)

    # What comes late is a receipt of its own; the next month gathers anew.
    await ledger.tell(
        mine.payment("P-4", "10.00", "A-1", value_on=date(2027, 3, 31)),
        mine.payment("P-5", "10.00", "A-1", value_on=date(2027, 4, 1)),
    )
    late = (await told(ledger))[-1]
    assert (late.deadline_on, late.alert, figures(late)) == (date(2027, 4, 5), None, [(2, "80.00", "10.00", "70.00")])
    assert await ledger.value("SELECT count(*) FROM fiscal_receipt WHERE state = 'gathering'") == 1
    await ledger.tell(answered(month.model_copy(update={"fiscal_receipt_id": UUID(int=5)})))
    assert await ledger.parked() == ["fiscal_receipt_unknown"]
    await agrees(ledger)


async def test_a_month_whose_payments_all_went_back_is_never_told(ledger: Any, make: Any) -> None:
    mine = make.of(company="monthly-mx")
    await ledger.tell(mine.invoice("A-1", "100.00"), mine.payment("P-1", "30.00", "A-1", value_on=MARCH))
    await ledger.tell(mine.reversal("P-1", on=MARCH))
    at(ledger, date(2027, 4, 1))
    await ledger.ring()

    assert await told(ledger) == []
    assert await ledger.value("SELECT state FROM fiscal_receipt") == "cancelled"


async def test_a_large_remittance_is_split_into_receipts_an_event_can_carry(ledger: Any, make: Any) -> None:
    numbers = [f"A-{n}" for n in range(150)]
    await ledger.tell(*(ppd(make, number, "1.00") for number in numbers))
    await ledger.tell(make.payment("P", "150.00", *numbers))

    assert [len(one.lines) for one in await told(ledger)] == [100, 50]
    await agrees(ledger)


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


async def test_receipts_are_read_by_state_and_deadline(ledger: Any, make: Any, client: httpx.AsyncClient) -> None:
    receipt = await owed(ledger, make)
    await ledger.tell(make.payment("P-2", "1.00", "A-1", value_on=date(2027, 2, 3)))
    await ledger.tell(answered(receipt))

    async def listed(**where: str) -> list[Any]:
        answer = await client.get("/v1/fiscal-receipts", params={"company": "acme-mx", **where})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    late, issued = await listed()
    assert (late["deadline_on"], late["state"], late["alert"]) == ("2027-03-05", "due", "overdue")
    assert (issued["state"], issued["fiscal_id"], issued["amount"]) == (
        "answered", "rep-1", Money.of("4.00", "MXN").model_dump(mode="json"),
    )  # fmt: skip
    (line,) = issued["lines"]
    assert (line["number"], line["part_number"], line["remaining"]["amount"]) == ("A-1", 1, "6.00")
    assert [one["state"] for one in await listed(state="answered")] == ["answered"]
    assert await listed(customer="C2") == []
    assert await listed(state="cancelled") == []


@pytest.mark.parametrize(
    ("language", "title", "words"),
    [("es", "Recibos fiscales", "vencido"), ("en", "Fiscal receipts", "overdue")],
)
async def test_the_pages_say_what_is_owed_by_when(
    ledger: Any, make: Any, client: httpx.AsyncClient, language: str, title: str, words: str
) -> None:
    receipt = await owed(ledger, make)
    at(ledger, date(2027, 4, 7))
    where = {"company": "acme-mx", "lang": language}
    listed = await client.get("/fiscal-receipts", params=where)
    one = await client.get(f"/fiscal-receipts/{receipt.fiscal_receipt_id}", params=where)

    assert (listed.status_code, one.status_code) == (200, 200)
    assert title in listed.text
    assert words in listed.text
    assert "A-1" in one.text
    assert "uuid-A-1" in one.text
    empty = await client.get("/fiscal-receipts", params={**where, "company": "abroad-cl"})
    assert empty.status_code == 200
    assert (await client.get(f"/fiscal-receipts/{UUID(int=4)}", params=where)).status_code == 404
