"""Tasks and what cannot be taken back are listed; what contradicts is refused or parked and the case stays whole."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from cobranza.chassis import http, page
from cobranza.chassis.streams import Event
from cobranza.contracts import payments
from cobranza.contracts.envelope import Envelope, decode
from cobranza.contracts.topics import topic
from cobranza.dunning.domain.errors import AgreementRefusedError
from cobranza.dunning.use_cases import policies
from cobranza.dunning.use_cases.application import Trigger
from cobranza.dunning.use_cases.following import follow_payments


@pytest.fixture
async def client(service: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = http.create_app(
        {"dunning": service.service.router(service.context)},
        access=http.LocalAccess(),
        frame=page.Frame(companies=service.context.companies, clock=service.clock),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as made:
        yield made


def _promise(service: Any, **changes: Any) -> dict[str, Any]:
    receivable = str(service.receivable("A-1", "01-11").receivable_id)
    lines = [{"receivable_id": receivable, "amount": {"amount": "58000.00", "currency": "MXN"}}]
    return {
        "company": "acme-mx", "customer": "C-1", "lines": lines, "promised_on": "2027-01-20", "channel": "call", **changes,
    }  # fmt: skip


async def _post(client: httpx.AsyncClient, path: str, body: Any, key: str) -> httpx.Response:
    return await client.post(f"/dunning/v1/{path}", json=body, headers={"Idempotency-Key": key})


async def test_a_promise_stops_contact_and_is_judged_by_the_money_that_comes(
    service: Any, client: httpx.AsyncClient
) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    await service.at("01-13")

    made = await _post(client, "promises", _promise(service), "k-1")
    second = await _post(client, "promises", _promise(service), "k-2")
    for day in ("01-14", "01-20", "01-22"):
        await service.at(day)
    waiting = await service.told("notice-requested")
    await service.at("01-23")

    assert (made.status_code, made.json()["limit_on"]) == (201, "2027-01-22")
    assert second.status_code == 422
    assert waiting == []
    [broken] = await service.told("promise-broken")
    assert (broken["kept_fraction"], broken["judged_on"]) == ("0.00", "2027-01-23")
    assert "broken_promise" in [task["kind"] for task in await service.told("task-created")]
    # Recorded late, valued in time: judged again.
    late = service.receivable("A-1", "01-11", open="0.00", cause="payment-received")
    await service.tell(late.model_copy(update={"effective_on": late.due_on}))
    assert [told["paid"]["amount"] for told in await service.told("promise-kept")] == ["58000.00"]
    ended = await _post(
        client, f"promises/{made.json()['promise_id']}/withdraw", {"company": "acme-mx", "reason": "error"}, "k-3"
    )
    assert ended.status_code == 409
    assert await service.broken() == {}


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"promised_on": "2027-01-12"}, "/promised_on"),
        ({"promised_on": "2027-03-30"}, "/promised_on"),
        ({"customer": "C-2"}, "/lines"),
        ({"lines": [{"receivable_id": str(UUID(int=9)), "amount": {"amount": "1.00", "currency": "MXN"}}]}, "/lines"),
    ],
)
async def test_a_promise_that_breaks_a_rule_is_refused(
    service: Any, client: httpx.AsyncClient, changes: dict[str, Any], pointer: str
) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"), service.receivable("B-1", "01-11", customer="C-2"))
    await service.at("01-13")

    answer = await _post(client, "promises", _promise(service, **changes), "k-1")

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert await service.told("promise") == []


async def test_a_promise_beyond_the_limits_waits_for_a_second_person_and_contact_goes_on(
    service: Any, client: httpx.AsyncClient
) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"), service.receivable("B-1", "01-11", customer="C-2"))
    await service.at("01-13")

    # The policy allows fifteen days, and thirty when somebody approves.
    asked = await _post(client, "promises", _promise(service, promised_on="2027-02-04"), "k-1")
    other = service.receivable("B-1", "01-11", customer="C-2")
    lines = [{"receivable_id": str(other.receivable_id), "amount": {"amount": "58000.00", "currency": "MXN"}}]
    unwanted = await _post(
        client, "promises", _promise(service, customer="C-2", lines=lines, promised_on="2027-02-04"), "k-2"
    )
    await service.at("01-14")
    meanwhile = [told["customer"] for told in await service.told("notice-requested")]
    tasks = [one.json() for one in (asked, unwanted)]
    url = "tasks/{}/complete"
    alone = await _post(
        client, url.format(tasks[0]["task_id"]), {"company": "acme-mx", "disposition": "approved"}, "k-3"
    )
    unclear = await _post(client, url.format(tasks[0]["task_id"]), {"company": "acme-mx", "disposition": "done"}, "k-4")
    await service.complete(tasks[0], "approved")
    await service.complete(tasks[1], "refused")
    states = await service.rows("SELECT state, recorded_by, approved_by FROM agreement ORDER BY state")

    assert [(one.status_code, one.json()["kind"], one.json()["role"]) for one in (asked, unwanted)] == [
        (201, "promise_approval", "supervisor")
    ] * 2
    assert sorted(meanwhile) == ["C-1", "C-2"]
    assert (alone.status_code, unclear.status_code) == (409, 409)
    [made] = await service.told("promise-made")
    assert (made["customer"], made["made_on"], made["promised_on"]) == ("C-1", "2027-01-14", "2027-02-04")
    assert [tuple(row) for row in states] == [("open", "local", "Lucía"), ("refused", "local", None)]
    [stopped] = await service.rows("SELECT stops FROM account WHERE customer = 'C-1'")
    assert [stop["reason"] for stop in stopped.stops] == ["promised"]
    assert await service.broken() == {}


async def test_a_proposed_promise_for_what_was_paid_meanwhile_cannot_be_approved(
    service: Any, client: httpx.AsyncClient
) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    await service.at("01-13")
    asked = await _post(client, "promises", _promise(service, promised_on="2027-02-04"), "k-1")
    await service.tell(service.receivable("A-1", "01-11", open="100.00", cause="payment-received"))

    with pytest.raises(AgreementRefusedError):
        await service.complete(asked.json(), "approved")
    await service.complete(asked.json(), "refused")

    assert await service.told("promise-made") == []


@pytest.mark.parametrize(("open_", "amount"), [("0.00", "58000.00"), ("50000.00", "50000.01")])
async def test_a_promise_or_dispute_of_more_than_is_open_is_refused(
    service: Any, client: httpx.AsyncClient, open_: str, amount: str
) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"), service.receivable("A-2", "01-11"))
    await service.at("01-13")
    await service.tell(service.receivable("A-1", "01-11", open=open_, cause="payment-received"))
    before = await service.rows("SELECT state, version FROM collection_case")
    money = {"amount": amount, "currency": "MXN"}
    receivable = str(service.receivable("A-1", "01-11").receivable_id)

    promise = await _post(
        client, "promises", _promise(service, lines=[{"receivable_id": receivable, "amount": money}]), "k-1"
    )
    dispute = await _post(
        client,
        "disputes",
        {"company": "acme-mx", "customer": "C-1", "receivable_id": receivable, "amount": money, "kind": "price"},
        "k-2",
    )

    assert (promise.status_code, dispute.status_code) == (422, 422)
    assert promise.json()["errors"][0]["pointer"] == "/lines/0/amount"
    assert await service.rows("SELECT state, version FROM collection_case") == before
    assert await service.broken() == {}


async def test_an_unknown_step_in_an_outcome_is_parked_and_the_case_goes_on(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    await service.at("01-14")
    [request] = await service.told("notice-requested")

    await service.sent(request, "01-14")
    await service.sent({**request, "step": "no-such-step"}, "01-14")
    await service.at("01-21")

    [parked] = await service.rows("SELECT error_class FROM parked")
    assert parked.error_class == "step_run_unknown"
    assert [told["step"] for told in await service.told("notice-requested")] == ["aviso-1", "aviso-2"]
    assert await service.broken() == {}


async def test_a_balance_paid_beyond_what_was_open_is_parked_and_the_case_stays(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    await service.at("01-14")
    before = await service.rows("SELECT open, level FROM receivable")
    record = service.event(service.receivable("A-1", "01-11", open="8000.00", cause="payment-received"))
    data = {**json.loads(record.value), "allocated": "60000.00", "open": "-2000.00"}

    await service.deliver(dataclasses.replace(record, value=json.dumps(data).encode()))

    assert len(await service.rows("SELECT 1 FROM parked")) == 1
    assert await service.rows("SELECT open, level FROM receivable") == before
    assert await service.broken() == {}


async def test_a_plan_is_kept_as_promises_completed_by_its_money_and_listed(
    service: Any, client: httpx.AsyncClient
) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    await service.at("01-13")
    halves = [{"amount": {"amount": "29000.00", "currency": "MXN"}, "due_on": f"2027-01-{day}"} for day in (18, 25)]
    body = _promise(service)
    plan = {"company": "acme-mx", "customer": "C-1", "lines": body["lines"], "instalments": halves}

    agreed = await _post(client, "plans", plan, "k-1")
    short = await _post(client, "plans", {**plan, "instalments": halves[:1]}, "k-2")
    await service.at("01-15")
    contacts = await service.told("notice-requested")
    await service.tell(service.receivable("A-1", "01-11", open="29000.00", cause="payment-received"))
    listed = (await client.get("/dunning/v1/agreements?company=acme-mx&kind=promise&state=open")).json()["items"]
    await service.tell(service.receivable("A-1", "01-11", open="0.00", cause="payment-received"))

    assert (agreed.status_code, short.status_code, contacts) == (201, 422, [])
    assert [one["told"]["promised_on"] for one in listed] == ["2027-01-25"]
    assert [told["promised_on"] for told in await service.told("promise-kept")] == ["2027-01-18", "2027-01-25"]
    assert [(told["outcome"], told["paid"]["amount"]) for told in await service.told("plan-ended")] == [
        ("completed", "58000.00")
    ]
    assert await service.broken() == {}


async def test_a_disputed_part_leaves_the_claim_and_returns_after_its_grace(
    service: Any, client: httpx.AsyncClient
) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    await service.at("01-13")
    body = {
        "company": "acme-mx", "customer": "C-1", "kind": "price", "amount": {"amount": "58000.00", "currency": "MXN"},
        "receivable_id": str(service.receivable("A-1", "01-11").receivable_id),
    }  # fmt: skip

    opened = (await _post(client, "disputes", body, "k-1")).json()
    await service.at("01-14")
    stopped = await service.told("notice-requested")
    # Nobody decides it in its ten business days.
    await service.at("01-28")
    url = f"disputes/{opened['dispute_id']}/resolve"
    resolved = await _post(client, url, {"company": "acme-mx", "outcome": "rejected"}, "k-2")
    again = await _post(client, url, {"company": "acme-mx", "outcome": "rejected"}, "k-3")
    other = await _post(client, url, {"company": "acme-mx", "outcome": "upheld"}, "k-4")
    await service.at("02-02")

    assert stopped == []
    assert opened["deadline_on"] == "2027-01-27"
    assert [t["kind"] for t in await service.told("task-created")] == ["overdue_dispute"]
    assert (resolved.json()["returns_on"], again.json(), other.status_code) == ("2027-02-02", resolved.json(), 409)
    assert [r["step"] for r in await service.told("notice-requested")] == ["aviso-1"]
    assert await service.broken() == {}


async def test_a_case_that_was_handed_over_is_not_contacted_and_goes_on_when_it_is_recalled(
    service: Any, client: httpx.AsyncClient
) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    await service.at("01-13")
    [case] = await service.rows("SELECT case_id FROM collection_case")
    body = {"company": "acme-mx", "to": "Bufete Ruiz", "kind": "agency", "package_sha256": "ab" * 32}

    handed = await _post(client, f"cases/{case.case_id}/hand-over", body, "k-1")
    twice = await _post(client, f"cases/{case.case_id}/hand-over", body, "k-2")
    await service.at("01-14")
    contacts, state = await service.told("notice-requested"), await service.rows("SELECT state FROM collection_case")
    recalled = await _post(client, f"cases/{case.case_id}/recall", {"company": "acme-mx", "reason": "no_result"}, "k-3")
    await service.at("01-25")

    assert (handed.status_code, twice.status_code, recalled.status_code) == (200, 422, 200)
    assert (contacts, state[0].state) == ([], "handed_over")
    assert len(await service.told("notice-requested")) == 1
    assert await service.broken() == {}


async def test_two_workers_on_one_case_give_one_run_and_one_notice(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    await service.rows("DELETE FROM timer RETURNING 1")
    await service.at("01-14")
    [account] = await service.rows("SELECT account_id FROM account")

    async def work(number: int) -> None:
        async with service.database.transaction() as tx:
            await service.desk.evaluate(tx, {account.account_id: Trigger("test", str(number), tx.cause)})

    await asyncio.gather(*(work(number) for number in range(8)))

    assert len(await service.told("notice-requested")) == 1
    assert len(await service.rows("SELECT 1 FROM step_run")) == 1
    assert await service.broken() == {}


async def test_a_worker_that_dies_in_the_middle_leaves_nothing_and_the_next_does_it_once(service: Any) -> None:
    await service.activate()
    record = service.event(service.receivable("A-1", "01-02"))
    decoded = decode(
        record.key, record.headers, record.value, payloads=topic("cobranza.payments").payloads, strict=False
    )
    assert isinstance(decoded, Envelope)
    await service.at("01-11")

    async def die() -> None:
        async with service.database.transaction() as tx:
            await follow_payments(service.desk, tx, [Event.of(decoded, offset=0)])
            raise ConnectionError("the worker dies before it commits")

    with pytest.raises(ConnectionError):
        await die()
    nothing = await service.rows("SELECT 1 FROM account")
    await service.deliver(record)

    assert nothing == []
    assert len(await service.told("notice-requested")) == 1
    assert await service.broken() == {}


async def test_nothing_is_forgotten_by_a_policy_change_and_a_day_down_on_due_dates(service: Any) -> None:
    await service.activate()
    await service.tell(*(service.receivable(f"N-{n}", f"01-{n:02}", customer=f"C-{n}") for n in range(5, 15)))
    async with service.database.transaction() as tx:
        await policies.retire_policy(service.desk, tx, company="acme-mx", policy="friendly-b2b")
        await policies.retire_policy(service.desk, tx, company="acme-mx", policy="friendly-b2b-usd")
    await service.activate("strict")
    assert await service.broken() == {}
    # Down from the 8th to the 13th, in which most of them fell due.
    await service.at("01-08")
    await service.at("01-13")

    more = await service.desk.sweep(service.database)

    assert (more, await service.broken()) == (False, {})
    [left] = await service.rows("SELECT count(*) AS n FROM account WHERE evaluated_on IS NULL")
    assert left.n == 0


async def test_tasks_are_listed_by_page_and_by_closed_filters(service: Any, client: httpx.AsyncClient) -> None:
    await service.activate("small-business")
    await service.tell(*(service.receivable(f"N-{n}", "01-11", customer=f"C-{n}") for n in range(3)))
    await service.tell(*(service.credit("60000.00", customer=f"C-{n}") for n in range(3)))
    await service.at("01-14")

    url = "/dunning/v1/tasks?company=acme-mx&limit=2"
    first = (await client.get(url)).json()
    second = (await client.get(f"{url}&cursor={first['next_cursor']}")).json()
    other = (await client.get(f"{url}&role=supervisor")).json()
    refused = await client.get(f"{url}&state=late")
    pages = [await client.get(f"/dunning/tasks?company=acme-mx&lang={lang}") for lang in ("es", "en")]

    assert [len(answer["items"]) for answer in (first, second, other)] == [2, 1, 0]
    assert {item["kind"] for item in first["items"]} == {"match_cash"}
    assert refused.status_code == 422
    assert ["aplicar el saldo" in pages[0].text, "match cash" in pages[1].text] == [True, True]


async def test_what_cannot_be_taken_back_is_listed_a_business_day_before(
    service: Any, client: httpx.AsyncClient
) -> None:
    await service.activate_file("mx-b2b.yaml")
    matched = {
        "company": "acme-mx", "currency": "MXN", "total_on": "2027-01-04", "verdict": "matched",
        "found": {"open_count": 1, "open_total": {"amount": "58000.00", "currency": "MXN"}},
        "checked_at": "2027-01-04T12:00:00Z",
    }  # fmt: skip
    await service.tell(payments.ControlTotalChecked.model_validate(matched))
    await service.customer("C-1")
    await service.tell(service.receivable("A-1", "01-11"))
    listed: dict[str, list[str]] = {}
    answered = 0
    for day in [f"01-{d:02}" for d in range(4, 32)] + [f"02-{d:02}" for d in range(1, 20)]:
        await service.at(day)
        requests = await service.told("notice-requested")
        for request in requests[answered:]:
            await service.sent(request, day)
            await service.delivered(request, day)
        answered = len(requests)
        for task in await service.told("task-created"):
            rows = await service.rows(
                "SELECT 1 FROM task WHERE completed_at IS NULL AND task_id = :i", i=UUID(task["task_id"])
            )
            if rows and task["kind"] == "call":
                await service.complete(task, "right_party_no_commitment")
        ahead = (await client.get("/dunning/v1/irreversible?company=acme-mx")).json()
        listed[day] = [one["effect"] for one in ahead]
    shown = await client.get("/dunning/tasks?company=acme-mx&lang=es")

    # The suspension is for Monday 02-22: it is seen on Friday, not before.
    assert (listed["02-18"], listed["02-19"]) == ([], ["suspend_service"])
    assert "suspender el servicio" in shown.text


async def test_an_effect_waits_while_money_of_nobody_may_be_its_own(service: Any) -> None:
    await service.activate("strict")
    matched = {
        "company": "acme-mx", "currency": "MXN", "total_on": "2027-01-04", "verdict": "matched",
        "found": {"open_count": 1, "open_total": {"amount": "58000.00", "currency": "MXN"}},
        "checked_at": "2027-01-04T12:00:00Z",
    }  # fmt: skip
    received = {
        "company": "acme-mx", "payment_id": UUID(int=5), "amount": {"amount": "58000.00", "currency": "MXN"},
        "external": {"system": "bank", "id": "5"}, "value_on": "2027-01-05", "booked_on": "2027-01-05", "method": "transfer",
    }  # fmt: skip
    nobody = service.credit("58000.00").model_copy(update={"customer": None})
    await service.tell(
        payments.ControlTotalChecked.model_validate(matched), payments.PaymentReceived.model_validate(received), nobody
    )
    await service.tell(service.receivable("A-1", "01-11"))
    answered = 0
    for day in [f"01-{d:02}" for d in range(4, 32)] + [f"02-{d:02}" for d in range(1, 5)]:
        await service.at(day)
        requests = await service.told("notice-requested")
        for request in requests[answered:]:
            await service.sent(request, day)
        answered = len(requests)
    held = await service.rows("SELECT reason, unapplied FROM account")
    before = [task["kind"] for task in await service.told("task-created")]

    await service.tell(service.credit("0.00").model_copy(update={"customer": None}))

    assert tuple(held[0]) == ("payer_unknown", 0)
    assert before == ["call"]
    assert [task["kind"] for task in await service.told("task-created")] == ["call", "approval"]
    assert await service.rows("SELECT 1 FROM unknown_receipt") == []
    assert await service.broken() == {}
