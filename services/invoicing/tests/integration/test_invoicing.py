"""Invoicing on a real database: documents once, conflicts parked, the calendar told once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from cobranza.chassis import http, inbox, migrations, page
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Database
from cobranza.chassis.service import Context
from cobranza.chassis.streams.batch import BatchRunner, FetchedList
from cobranza.chassis.timers import Scheduler
from cobranza.invoicing.__main__ import SERVICE
from cobranza.invoicing.settings import InvoicingSettings

COMPANIES = Path(__file__).parents[4] / "deploy" / "companies.yaml"
TOPIC_ID = UUID("11111111-2222-4333-8444-555555555555")
NOON = datetime(2027, 1, 4, 18, tzinfo=UTC)


@dataclass(frozen=True)
class Record:
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Feed:
    """Feeds structured events to one topic's agent, offset by offset."""

    def __init__(self, context: Context[InvoicingSettings], topic: str) -> None:
        agent = next(agent for agent in SERVICE.agents(context) if agent.topic == topic)
        self._runner = BatchRunner(
            consumer="invoicing", agent=agent, database=context.database, topic_id=lambda: TOPIC_ID
        )
        self._offset = 0

    async def send(self, *values: bytes | None, key: bytes | None = b"acme-mx|C1") -> None:
        headers = [("content-type", b"application/cloudevents+json")]
        records = [Record(self._offset + n, key, value, headers) for n, value in enumerate(values)]
        end = self._offset + len(values)
        fetched = FetchedList(records, partition=0, fetched_from=self._offset, end_offset=end)
        await self._runner.apply([await self._runner.read(fetched)])
        self._offset += len(values)


@pytest.fixture
async def context(
    fresh_database: Callable[..., Any], business_clock: BusinessClock
) -> AsyncIterator[Context[InvoicingSettings]]:
    business_clock.set(NOON)
    urls = fresh_database("invoicing", lambda url: migrations.upgrade(SERVICE.migrations, url))
    settings = InvoicingSettings.model_validate(
        {"database_url": urls.app_url, "kafka_bootstrap": "127.0.0.1:9", "companies_file": COMPANIES}
    )
    database = Database(urls.app_url, service="invoicing", clock=business_clock)
    async with database.transaction() as tx:
        await inbox.start_positions(tx, consumer="invoicing", topic="erp.invoicing", topic_id=TOPIC_ID, earliest={0: 0})
    yield Context("invoicing", settings, database, business_clock, Companies.read(COMPANIES))
    await database.close()


def event(name: str, data: Mapping[str, Any], *, event_id: str = "e1", **attributes: Any) -> bytes:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": "/erp/acme-mx/sap",
            "type": f"erp.{name}.v1",
            "datacontenttype": "application/json",
            "data": {"company": "acme-mx", "customer": "C1", "external": {"system": "sap", "id": "1"}, **data},
            **attributes,
        }
    ).encode()


def invoice(amount: str = "1160.00", **other: Any) -> dict[str, Any]:
    money = {"amount": amount, "currency": "MXN"}
    return {
        "number": "F-1",
        "issued_on": "2027-01-01",
        "payable": money,
        "instalments": [{"number": 1, "due_on": "2027-01-11", "amount": money}],
        **other,
    }


async def rows(context: Context[InvoicingSettings], sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    async with context.database.transaction() as tx:
        return [tuple(row) for row in await tx.execute(sql, parameters)]


async def published(context: Context[InvoicingSettings]) -> list[tuple[str, int]]:
    found = await rows(context, "SELECT type, sequence FROM outbox ORDER BY seq")
    return [(kind.split(".")[2], sequence) for kind, sequence in found]


async def test_an_invoice_is_told_once_however_often_it_is_stated(context: Context[InvoicingSettings]) -> None:
    feed = Feed(context, "erp.invoicing")

    await feed.send(
        event("invoice-issued", invoice()),
        event("invoice-issued", invoice()),
        event("invoice-issued", invoice(), event_id="e2"),
    )
    await feed.send(event("invoice-issued", invoice(), event_id="e3"))

    assert await published(context) == [("invoice-issued", 1)]
    assert await rows(context, "SELECT count(*) FROM parked") == [(0,)]


async def test_a_higher_revision_changes_dates_and_a_lower_one_is_ignored(context: Context[InvoicingSettings]) -> None:
    later = [{"number": 1, "due_on": "2027-02-11", "amount": {"amount": "1160.00", "currency": "MXN"}}]
    feed = Feed(context, "erp.invoicing")

    await feed.send(
        event("invoice-issued", invoice()),
        event("invoice-changed", invoice(instalments=later, revision=3), event_id="e2"),
        event("invoice-changed", invoice(concept="older", revision=2), event_id="e3"),
    )

    assert await published(context) == [("invoice-issued", 1), ("invoice-changed", 2)]
    assert [str(due) for (due,) in await rows(context, "SELECT due_on FROM instalment")] == ["2027-02-11"]


@pytest.mark.parametrize(
    ("name", "data", "state", "code"),
    [
        ("invoice-issued", invoice("1170.00"), "conflict", "conflict"),
        ("invoice-changed", invoice("1170.00", revision=2), "conflict", "conflict"),
        ("invoice-issued", invoice(payable={"amount": "9.00", "currency": "MXN"}), "poison", "instalments_mismatch"),
        ("invoice-changed", invoice(external={"system": "sap", "id": "9"}), "poison", "invoice_unknown"),
        (
            "invoice-cancelled",
            {"external": {"system": "sap", "id": "9"}, "cancelled_on": "2027-01-05"},
            "poison",
            "invoice_unknown",
        ),
    ],
)
async def test_a_document_that_contradicts_is_parked_and_told_and_others_flow(
    context: Context[InvoicingSettings], name: str, data: dict[str, Any], state: str, code: str
) -> None:
    feed = Feed(context, "erp.invoicing")

    await feed.send(
        event("invoice-issued", invoice()),
        event(name, data, event_id="bad"),
        event("invoice-issued", invoice(number="F-2", external={"system": "sap", "id": "2"}), event_id="e3"),
    )

    assert await rows(context, "SELECT state, error_class FROM parked") == [(state, code)]
    assert await published(context) == [("invoice-issued", 1), ("invoice-issued", 1), ("input-parked", 1)]


async def test_the_same_event_id_with_another_body_is_a_conflict(context: Context[InvoicingSettings]) -> None:
    await Feed(context, "erp.invoicing").send(
        event("invoice-issued", invoice()),
        event("invoice-issued", invoice(number="F-2", external={"system": "sap", "id": "2"})),
    )

    assert await rows(context, "SELECT state, error_class FROM parked") == [("conflict", "event_id_reused")]


async def test_a_customer_gets_the_company_s_language_and_zone_unless_stated(
    context: Context[InvoicingSettings],
) -> None:
    feed = Feed(context, "erp.invoicing")

    await feed.send(
        event("customer-changed", {"name": "Uno", "country": "MX", "external": {"system": "sap", "id": "C1"}}),
        event(
            "customer-changed",
            {
                "name": "Uno",
                "country": "MX",
                "language": "en",
                "revision": 2,
                "external": {"system": "sap", "id": "C1"},
            },
            event_id="e2",
        ),
    )

    told = [json.loads(bytes(v)) for (v,) in await rows(context, "SELECT value FROM outbox ORDER BY seq")]
    assert [(one["language"], one["zone"]) for one in told] == [
        ("es-MX", "America/Mexico_City"),
        ("en", "America/Mexico_City"),
    ]


async def test_cancellation_and_credit_note_are_told_once(context: Context[InvoicingSettings]) -> None:
    part = {"invoice_external_id": "1", "amount": {"amount": "60.00", "currency": "MXN"}}
    note = {"issued_on": "2027-01-03", "amount": {"amount": "60.00", "currency": "MXN"}, "applies_to": [part]}
    feed = Feed(context, "erp.invoicing")

    await feed.send(
        event("invoice-issued", invoice()),
        event("credit-note-issued", note, event_id="e2"),
        event("credit-note-issued", note, event_id="e3"),
        event("invoice-cancelled", {"cancelled_on": "2027-01-05"}, event_id="e4"),
        event("invoice-cancelled", {"cancelled_on": "2027-01-05"}, event_id="e5"),
    )

    assert await published(context) == [("invoice-issued", 1), ("credit-note-issued", 1), ("invoice-cancelled", 2)]
    assert await rows(context, "SELECT state FROM timer") == [("cancelled",)]


async def _days(context: Context[InvoicingSettings], clock: BusinessClock, *days: datetime) -> list[tuple[str, str]]:
    scheduler = Scheduler(context.database, SERVICE.timers(context), idle_seconds=0.01)
    for day in days:
        clock.set(day)
        while await scheduler.work_due():
            continue
    found = await rows(context, "SELECT value FROM outbox WHERE type LIKE '%due-date%' ORDER BY seq")
    return [(d["phase"], d["business_date"]) for (v,) in found for d in [json.loads(bytes(v))]]


async def test_due_dates_are_told_once_each_also_after_days_of_silence(
    context: Context[InvoicingSettings], business_clock: BusinessClock
) -> None:
    await Feed(context, "erp.invoicing").send(event("invoice-issued", invoice()))

    told = await _days(context, business_clock, NOON, NOON, NOON.replace(day=20), NOON.replace(day=21))

    assert told == [
        ("approaching", "2027-01-04"),
        ("approaching", "2027-01-08"),
        ("reached", "2027-01-11"),
        ("passed", "2027-01-12"),
    ]


async def test_what_is_settled_has_no_calendar_until_a_reversal(
    context: Context[InvoicingSettings], business_clock: BusinessClock
) -> None:
    await Feed(context, "erp.invoicing").send(event("invoice-issued", invoice()))
    ((receivable_id,),) = await rows(context, "SELECT receivable_id FROM instalment")

    async def settle(*, settled: bool) -> None:
        from cobranza.invoicing import repository
        from cobranza.invoicing.use_cases import Intake

        intake = Intake(context.companies, 6)
        async with context.database.transaction() as tx:
            for part in await repository.note_settled(tx, "acme-mx", [(receivable_id, settled)]):
                await intake.arm(tx, part, context.companies.get("acme-mx"))  # type: ignore[arg-type]

    await settle(settled=True)
    assert await _days(context, business_clock, NOON.replace(day=11)) == []
    await settle(settled=False)
    assert await _days(context, business_clock, NOON.replace(day=12)) == [
        ("reached", "2027-01-11"),
        ("passed", "2027-01-12"),
    ]


#: Issue by issue what real feeds bring; each is parked alone, with its bytes and its reason.
BROKEN: dict[str, tuple[bytes | None, str]] = {
    "not JSON": (b"{ not json", "not_json"),
    "empty": (b"", "not_json"),
    "truncated": (event("invoice-issued", invoice())[:-40], "not_json"),
    "5 MB": (b'{"x": "' + b"x" * 5_000_000 + b'"}', "too_large"),
    "deep nesting": (b"[" * 10_000 + b"]" * 10_000, "too_deep"),
    "duplicate keys": (event("invoice-issued", invoice())[:-1] + b', "id": "e9"}', "duplicate_key"),
    "invalid UTF-8": (b'{"id": "\xff"}', "not_utf8"),
    "wrong company in data": (event("invoice-issued", invoice(company="andes-cl")), "company_mismatch"),
    "wrong company in attribute": (event("invoice-issued", invoice(), companyid="andes-cl"), "company_mismatch"),
    "unknown company": (
        event("invoice-issued", invoice(company="nobody"), source="/erp/nobody/sap"),
        "company_unknown",
    ),
    "missing field": (event("invoice-issued", {"number": "F-1"}), "invalid_data"),
    "wrong type": (event("invoice-issued", invoice(issued_on=7)), "invalid_data"),
    "negative": (event("invoice-issued", invoice("-1.00")), "invalid_data"),
    "zero": (event("invoice-issued", invoice("0.00")), "invalid_data"),
    "NaN": (event("invoice-issued", invoice("NaN")), "invalid_data"),
    "1e400": (event("invoice-issued", invoice("1e400")), "invalid_data"),
    "a thousandth": (event("invoice-issued", invoice("0.001")), "invalid_data"),
    "20 digits": (event("invoice-issued", invoice("12345678901234567890.00")), "invalid_data"),
    "unknown currency": (
        event("invoice-issued", invoice(payable={"amount": "1.00", "currency": "XXY"})),
        "invalid_data",
    ),
    "instalments that do not sum": (
        event("invoice-issued", invoice(payable={"amount": "1.00", "currency": "MXN"})),
        "instalments_mismatch",
    ),
    "tombstone": (None, "tombstone"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_input_is_parked_with_raw_bytes_and_reason_and_the_rest_flows(
    context: Context[InvoicingSettings], name: str
) -> None:
    value, code = BROKEN[name]
    key = b"nobody|C1" if name == "unknown company" else b"acme-mx|C1"
    feed = Feed(context, "erp.invoicing")

    await feed.send(value, key=key)
    await feed.send(event("invoice-issued", invoice(), event_id="good"))

    parked = await rows(context, "SELECT error_class, raw_value, state FROM parked")
    assert parked == [(code, value, "poison")]
    assert ("invoice-issued", 1) in await published(context)


async def test_a_key_of_another_company_is_parked(context: Context[InvoicingSettings]) -> None:
    await Feed(context, "erp.invoicing").send(event("invoice-issued", invoice()), key=b"andes-cl|C1")

    assert await rows(context, "SELECT error_class FROM parked") == [("company_mismatch",)]


async def test_unknown_types_and_future_majors_are_skipped_and_counted(context: Context[InvoicingSettings]) -> None:
    feed = Feed(context, "erp.invoicing")
    unknown = event("invoice-issued", invoice()).replace(b"erp.invoice-issued.v1", b"erp.invoice-painted.v1")
    future = event("invoice-issued", invoice()).replace(b"erp.invoice-issued.v1", b"erp.invoice-issued.v2")

    await feed.send(unknown, future, event("invoice-issued", invoice()))

    assert await rows(context, "SELECT count(*) FROM parked") == [(0,)]
    assert await published(context) == [("invoice-issued", 1)]


@pytest.fixture
async def client(context: Context[InvoicingSettings]) -> AsyncIterator[httpx.AsyncClient]:
    app = http.create_app(
        {"invoicing": SERVICE.router(context)},
        access=http.LocalAccess(),
        frame=page.Frame(clock=context.clock, companies=context.companies),
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def test_http_answers_every_event_of_a_batch(
    client: httpx.AsyncClient, context: Context[InvoicingSettings]
) -> None:
    batch = [
        json.loads(event("invoice-issued", invoice())),
        json.loads(event("invoice-issued", invoice(), event_id="e2")),
        json.loads(event("invoice-issued", invoice("1170.00"), event_id="e3")),
        json.loads(event("invoice-issued", invoice("0.001"), event_id="e4")),
        json.loads(event("invoice-painted", invoice(), event_id="e5")),
        7,
    ]

    answer = (await client.post("/invoicing/v1/events", json=batch)).json()

    assert [(one["outcome"], one["code"]) for one in answer["events"]] == [
        ("accepted", None),
        ("duplicate", None),
        ("refused", "conflict"),
        ("refused", "invalid_data"),
        ("refused", "unknown_type"),
        ("refused", "not_an_event"),
    ]
    assert answer["events"][3]["pointer"] == "/data/payable"
    assert await published(context) == [("invoice-issued", 1)]
    listed = (await client.get("/invoicing/v1/invoices", params={"company": "acme-mx"})).json()
    (only,) = listed["items"]
    one = await client.get(f"/invoicing/v1/invoices/{only['invoice']['invoice_id']}", params={"company": "acme-mx"})
    assert one.headers["etag"] == '"1"'
    assert one.json()["invoice"]["number"] == "F-1"


async def test_http_refuses_what_is_no_json_and_an_invoice_of_nobody(client: httpx.AsyncClient) -> None:
    broken = await client.post("/invoicing/v1/events", content=b"{")
    missing = await client.get(f"/invoicing/v1/invoices/{TOPIC_ID}", params={"company": "acme-mx"})

    assert (broken.status_code, broken.json()["type"]) == (400, "/problems/malformed-request")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/not-found")
