"""Payments by HTTP: events in, the ledger out, permits."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from cobranza.chassis import http, page
from cobranza.contracts.envelope import encode_structured, erp_event
from cobranza.payments.api import router


@pytest.fixture
async def client(ledger: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = http.create_app(
        {"payments": router(ledger.context)},
        access=http.LocalAccess(),
        frame=page.Frame(companies=ledger.context.companies, clock=ledger.context.clock),
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/payments") as client:
        yield client


def event(payload: Any, id_: str = "e-1") -> Any:
    return json.loads(encode_structured(erp_event(payload, external_event_id=id_, system="sap")))


async def post(client: Any, *events: Any) -> list[Any]:
    answer = await client.post("/v1/events", json=events[0] if len(events) == 1 else list(events))
    assert answer.status_code == 200, answer.text
    return [(one["outcome"], one["code"], one["pointer"]) for one in answer.json()["events"]]


async def test_events_are_answered_one_by_one(ledger: Any, make: Any, client: Any) -> None:
    stranger = make.of(company="nobody-mx")
    answers = await post(
        client,
        event(make.payment("P", "60.00"), "e-1"),
        event(make.payment("P", "60.00"), "e-2"),
        event(make.payment("P", "61.00"), "e-3"),
        event(stranger.payment("P", "61.00"), "e-4"),
        event(make.reversal("P"), "e-5"),
    )
    assert answers == [
        ("accepted", None, None),
        ("duplicate", None, None),
        ("refused", "payment_conflict", "/data/external/id"),
        ("refused", "company_unknown", "/data/company"),
        ("accepted", None, None),
    ]
    assert await ledger.unapplied("C1") == 0


async def test_an_event_by_http_and_by_topic_is_one(ledger: Any, make: Any, client: Any) -> None:
    await ledger.tell(make.invoice("F-1", "60.00"), make.payment("P", "60.00", "F-1"))
    assert await post(client, event(make.payment("P", "60.00", "F-1"))) == [("duplicate", None, None)]


BAD_MONEY = [
    {"amount": "0.001", "currency": "MXN"},
    {"amount": "-1.00", "currency": "MXN"},
    {"amount": "0.00", "currency": "MXN"},
    {"amount": "NaN", "currency": "MXN"},
    {"amount": "1e400", "currency": "MXN"},
    {"amount": "12345678901234567890.00", "currency": "MXN"},
    {"amount": 60.0, "currency": "MXN"},
    {"amount": "60.00", "currency": "XXX"},
    {"amount": "60.5", "currency": "CLP"},
    {"amount": "60.00"},
    "60.00 MXN",
]


@pytest.mark.parametrize("amount", BAD_MONEY, ids=str)
async def test_bad_money_is_refused_naming_the_field(ledger: Any, make: Any, client: Any, amount: Any) -> None:
    bad = event(make.payment("P", "60.00"))
    bad["data"]["amount"] = amount
    ((outcome, code, pointer),) = await post(client, bad)
    assert (outcome, code) == ("refused", "invalid_data")
    assert pointer.startswith("/data/amount")
    assert await ledger.value("SELECT count(*) FROM receipt") == 0


async def test_a_body_that_is_not_json_is_a_problem(client: Any) -> None:
    answer = await client.post("/v1/events", content=b"{", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed-request")


async def test_a_receivable_has_its_version_as_etag(ledger: Any, make: Any, client: Any) -> None:
    await ledger.tell(make.invoice("F-1", "60.00"), make.payment("P", "20.00", "F-1"))
    address = f"/v1/receivables/{make.receivable_id('F-1')}"
    answer = await client.get(address, params={"company": "acme-mx"})
    assert answer.headers["etag"] == '"2"'
    body = answer.json()
    assert (body["open"], body["allocated"]) == (
        {"amount": "40.00", "currency": "MXN"},
        {"amount": "20.00", "currency": "MXN"},
    )
    unchanged = await client.get(address, params={"company": "acme-mx"}, headers={"if-none-match": '"2"'})
    assert unchanged.status_code == 304
    elsewhere = await client.get(address, params={"company": "fifo-mx"})
    assert elsewhere.status_code == 404


async def test_receivables_are_read_page_by_page(ledger: Any, make: Any, client: Any) -> None:
    await ledger.tell(
        *(make.invoice(f"F-{n}", "10.00", "10.00") for n in range(3)),
        make.of(customer="C2").invoice("G-1", "10.00"),
        make.payment("P", "10.00", "F-0"),
    )
    query = {"company": "acme-mx", "customer": "C1", "open": "true", "limit": "2"}
    seen = []
    while True:
        answer = (await client.get("/v1/receivables", params=query)).json()
        seen += [(item["due_on"], item["number"]) for item in answer["items"]]
        if answer["next_cursor"] is None:
            break
        query["cursor"] = answer["next_cursor"]
    assert len(seen) == len(set(seen)) == 5
    assert [due for due, _ in seen] == sorted(due for due, _ in seen)
    assert ("2027-01-11", "F-0") not in seen


async def test_receipts_tell_why_money_is_not_applied(ledger: Any, make: Any, client: Any) -> None:
    await ledger.tell(make.invoice("F-1", "60.00"), make.payment("P", "20.00", "F-1", currency="USD"))
    await ledger.tell(make.payment("Q", "60.00", "F-1"))
    answer = (await client.get("/v1/receipts", params={"company": "acme-mx", "unapplied": "true"})).json()
    (item,) = answer["items"]
    assert (item["external_id"], item["reason"]) == ("P", "currency_differs")
    assert item["unapplied"] == {"amount": "20.00", "currency": "USD"}
    assert item["details"]["references"] == ["F-1"]


async def test_a_statement_shows_balances_and_movements(ledger: Any, make: Any, client: Any) -> None:
    await ledger.tell(make.invoice("F-1", "60.00"), make.payment("P", "70.00", "F-1"), make.invoice("F-2", "5.00"))
    answer = await client.get("/v1/customers/C1/statement", params={"company": "acme-mx"})
    body = answer.json()
    assert body["balances"] == [
        {
            "opening": {"amount": "0.00", "currency": "MXN"},
            "open": {"amount": "5.00", "currency": "MXN"},
            "unapplied": {"amount": "10.00", "currency": "MXN"},
        }
    ]
    assert [(m["kind"], m["amount"]["amount"]) for m in body["movements"]][-1:] == [("payment-allocated", "-60.00")]
    nobody = await client.get("/v1/customers/C9/statement", params={"company": "acme-mx"})
    assert nobody.status_code == 404


async def test_a_permit_is_asked_for_by_http(ledger: Any, make: Any, client: Any) -> None:
    await ledger.tell(make.invoice("F-1", "60.00"))
    await ledger.caught_up()
    question = {
        "notice_id": str(UUID(int=1)), "attempt": 1, "company": "acme-mx", "customer": "C1", "purpose": "dunning",
        "receivable_ids": [str(make.receivable_id("F-1"))],
    }  # fmt: skip
    answer = (await client.post("/v1/notice-permits", json=question)).json()
    assert (answer["granted"], answer["claimed"]) == (True, {"amount": "60.00", "currency": "MXN"})
    assert (await client.post("/v1/notice-permits", json=question)).json() == answer
    conflict = await client.post("/v1/notice-permits", json={**question, "customer": "C2"})
    assert (conflict.status_code, conflict.json()["type"]) == (409, "/problems/permit-conflict")
    empty = await client.post("/v1/notice-permits", json={**question, "receivable_ids": []})
    assert (empty.status_code, empty.json()["errors"][0]["pointer"]) == (422, "/receivable_ids")


async def test_a_permit_needs_its_own_scope(ledger: Any, client: Any) -> None:
    document = http.openapi("payments", router(ledger.context))
    scopes = {
        operation["operationId"]: operation["x-required-scope"]
        for path in document["paths"].values()
        for operation in path.values()
    }
    assert scopes["create_notice_permit"] == "permits:write"
    assert scopes["post_events"] == "payments:write"
