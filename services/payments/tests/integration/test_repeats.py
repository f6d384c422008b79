"""Every event payments reads, delivered twice and out of order, leaves what one delivery in order leaves."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from cobranza.contracts import dunning, identifiers, ingress, invoicing, notifications
from cobranza.contracts.money import Money
from cobranza.contracts.topics import TOPIC_OF
from cobranza.payments.agents import agents

ACME = "acme-mx"
ONE = Money.of("1.00", "MXN")
IDS = {name: UUID(int=number) for number, name in enumerate(("case", "hold", "promise", "plan", "dispute"), 1)}
INSTANT = datetime(2027, 1, 4, 15, tzinfo=UTC)


def of_customers(make: Any) -> Any:
    return [
        invoicing.CustomerChanged(
            company=ACME, customer="C1", revision=revision, name="Uno", country="MX", language="es-MX",
            zone="America/Mexico_City",
        )
        for revision in (1, 2)
    ]  # fmt: skip


def of_documents(make: Any) -> Any:
    parked = {"company": ACME, "input_id": UUID(int=9), "event_type": "erp.invoice-issued.v1", "customer": "C1"}
    return [
        make.invoice("F-1", "60.00", "40.00"),
        make.invoice("F-1", "60.00", "40.00", due_on=date(2027, 2, 1), kind=invoicing.InvoiceChanged),
        make.credit_note("N-1", "30.00", ("F-1", "10.00")),
        invoicing.InvoiceDelivered(
            company=ACME, invoice_id=make.invoice_id("F-1"), customer="C1", number="F-1", channel="email",
            delivered_at=INSTANT,
        ),
        invoicing.DueDate(
            company=ACME, invoice_id=make.invoice_id("F-1"), receivable_id=make.receivable_id("F-1"), customer="C1",
            due_on=date(2027, 1, 11), phase="reached", offset_days=0, business_date=date(2027, 1, 11),
        ),
        make.cancel("F-1"),
        make.invoice("F-2", "5.00"),
        invoicing.InvoiceReplaced(
            company=ACME, invoice_id=make.invoice_id("F-2"), customer="C1", number="F-2",
            replaced_on=date(2027, 1, 20), replaced_by=make.invoice_id("F-3"),
        ),
        invoicing.InputParked(**parked, code="invalid_data", parked_at=INSTANT),
        invoicing.InputReleased(**parked, outcome="fixed", released_at=INSTANT),
    ]  # fmt: skip


def of_money(make: Any) -> Any:
    return [
        make.payment("P-1", "30.00", "F-1"),
        make.reversal("P-1"),
        ingress.CashWatermark(company=ACME, system="bank", through_on=date(2027, 1, 3), stated_at=INSTANT),
        ingress.ControlTotal(
            company=ACME, system="sap", currency="MXN", total_on=date(2027, 1, 3), open_count=0,
            open_total=Money.zero("MXN"),
        ),
        ingress.FiscalReceiptAnswered(
            company=ACME, system="sap", customer="C1", outcome="issued", answered_on=date(2027, 1, 3),
            fiscal_receipt_id=identifiers.fiscal_receipt_id(
                company=ACME, customer="C1", period=str(identifiers.payment_id(ACME, "sap", "P-9"))
            ),
        ),
    ]  # fmt: skip


def of_dunning(make: Any) -> Any:
    receivable = make.receivable_id("F-1")
    case = {"company": ACME, "customer": "C1", "case_id": IDS["case"]}
    lines = (dunning.ReceivableAmount(receivable_id=receivable, amount=ONE),)
    hold = {
        "company": ACME, "customer": "C1", "hold_id": IDS["hold"], "scope": "customer", "reason": "internal",
        "placed_on": date(2027, 1, 4), "by": "ana",
    }  # fmt: skip
    promise = {
        **case, "lines": lines, "amount": ONE, "promised_on": date(2027, 1, 20), "limit_on": date(2027, 1, 22),
    }  # fmt: skip
    judged = {"paid": ONE, "judged_on": date(2027, 1, 23)}
    plan = {
        **case, "plan_id": IDS["plan"], "lines": lines, "total": ONE,
        "instalments": ({"number": 1, "due_on": date(2027, 2, 1), "amount": ONE, "promise_id": UUID(int=77)},),
    }  # fmt: skip
    dispute = {
        "company": ACME, "customer": "C1", "dispute_id": IDS["dispute"], "receivable_id": receivable, "amount": ONE,
        "kind": "price", "opened_on": date(2027, 1, 4), "deadline_on": date(2027, 1, 14),
    }  # fmt: skip
    made = {"made_on": date(2027, 1, 4), "captured_by": "ana", "channel": "call"}
    return [
        dunning.HoldPlaced(**hold),
        dunning.HoldReleased(**hold, release_reason="released", released_on=date(2027, 1, 5)),
        dunning.PromiseMade(**promise, **made, promise_id=UUID(int=31)),
        dunning.PromiseKept(**promise, **judged, promise_id=UUID(int=31)),
        dunning.PromiseMade(**promise, **made, promise_id=UUID(int=32)),
        dunning.PromiseBroken(**promise, **judged, promise_id=UUID(int=32), kept_fraction="0.5"),
        dunning.PromiseMade(**promise, **made, promise_id=UUID(int=33)),
        dunning.PromiseWithdrawn(
            **promise, promise_id=UUID(int=33), reason="error", by="ana", withdrawn_on=date(2027, 1, 5)
        ),
        dunning.PromiseMade(**promise, **made, promise_id=UUID(int=34), plan_id=IDS["plan"]),
        dunning.PlanAgreed(**plan, agreed_on=date(2027, 1, 4), by="ana"),
        dunning.PlanEnded(**plan, outcome="completed", paid=ONE, ended_on=date(2027, 2, 2)),
        dunning.DisputeOpened(**dispute),
        dunning.DisputeResolved(
            **dispute, outcome="rejected", stopped=Money.zero("MXN"), returning=ONE, returns_on=date(2027, 2, 2),
            by="ana", resolved_on=date(2027, 1, 28),
        ),
    ]  # fmt: skip


def of_notices(make: Any) -> Any:
    return [
        notifications.NoticeSent(
            company=ACME, notice_id=UUID(int=5), customer="C1", purpose="dunning", channel="email", attempt=1,
            delivery="live", handed_at=INSTANT, sent_on=date(2027, 1, 4), outcome="known",
        )
    ]  # fmt: skip


TOPICS = [of_customers, of_documents, of_money, of_dunning, of_notices]


@pytest.fixture
async def two(ledger: Any, shared_ledger: Any) -> Any:
    other = shared_ledger(ACME)
    yield ledger, other
    await other.database.close()


async def prepare(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-9", "9.00", payment_method_code="PPD"), make.payment("P-9", "9.00", "F-9"))
    await ledger.run(
        """
        INSERT INTO permit (notice_id, attempt, company, customer, granted, asked_at, expires_at, lines, refusals)
        VALUES (:id, 1, 'acme-mx', 'C1', true, :at, :at, '[]', '[]')
        """,
        id=UUID(int=5),
        at=INSTANT,
    )


@pytest.mark.parametrize("events", TOPICS, ids=[t.__name__.removeprefix("of_") for t in TOPICS])
async def test_twice_and_out_of_order_is_as_once_and_in_order(two: Any, make: Any, events: Any) -> None:
    once, often = two
    told = events(make)
    for ledger in two:
        await prepare(ledger, make)
    records = [(TOPIC_OF[event.TYPE], once.record(event)) for event in told]
    for topic_name, record in records:
        await once.deliver(topic_name, [record])
    in_order = await once.dump()
    # Each again at once and later, and older events after younger ones of the same aggregate.
    for topic_name, record in records:
        await often.deliver(topic_name, [record, record])
    for topic_name, record in reversed(records):
        await often.run("DELETE FROM inbox")
        await often.deliver(topic_name, [record])
    assert await often.dump() == in_order
    assert await often.parked() == []


async def test_an_older_event_after_a_younger_one_changes_nothing(two: Any, make: Any) -> None:
    ledger, _ = two
    placed, released, *_ = of_dunning(make)
    first, second = ledger.record(placed), ledger.record(released)
    await ledger.deliver("cobranza.dunning", [second])
    await ledger.deliver("cobranza.dunning", [first])
    assert await ledger.value("SELECT count(*) FROM stop") == 0


async def test_an_invoice_cancelled_before_it_is_known_is_never_owed(two: Any, make: Any) -> None:
    ledger, _ = two
    issued, cancelled = ledger.record(make.invoice("F-1")), ledger.record(make.cancel("F-1"))
    await ledger.deliver("cobranza.invoicing", [cancelled])
    await ledger.deliver("cobranza.invoicing", [issued])
    assert await ledger.value("SELECT count(*) FROM receivable") == 0


async def test_a_reversal_before_its_payment_ends_as_after_it(two: Any, make: Any) -> None:
    ledger, other = two
    payment, reversal = make.payment("P", "30.00", "F-1"), make.reversal("P")
    await ledger.tell(make.invoice("F-1", "60.00"), payment, reversal)
    await other.tell(make.invoice("F-1", "60.00"), reversal, payment)
    mine, theirs = await ledger.dump(), await other.dump()
    for table in ("receivable", "receipt", "credit", "allocation", "journal"):
        assert mine[table] == theirs[table]
    assert [(type_, sequence) for type_, _, sequence in mine["outbox"]] == [
        (type_, sequence) for type_, _, sequence in theirs["outbox"]
    ]


async def test_a_payment_before_its_invoice_ends_as_after_it(two: Any, make: Any) -> None:
    ledger, other = two
    invoice, first, second = (
        make.invoice("F-1", "60.00"),
        make.payment("P-2", "50.00", "F-1", value_on=date(2027, 1, 20)),
        make.payment("P-1", "50.00", "F-1", value_on=date(2027, 1, 10)),
    )
    await ledger.tell(invoice, first, second)
    await other.tell(first, second, invoice)
    mine, theirs = await ledger.dump(), await other.dump()
    assert mine["receivable"] == theirs["receivable"]
    assert mine["allocation"] == theirs["allocation"]
    assert [row[:-1] for row in mine["credit"]] == [row[:-1] for row in theirs["credit"]]


def test_every_topic_that_payments_reads_is_repeated_here(ledger: Any, make: Any) -> None:
    told = {TOPIC_OF[event.TYPE] for events in TOPICS for event in events(make)}
    assert told == {agent.topic for agent in agents(ledger.context)}
