"""Cases, steps and decisions, from the events of others to the events of dunning."""

from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from cobranza.chassis.streams import Event
from cobranza.contracts import identifiers, invoicing, notifications, payments
from cobranza.contracts.envelope import Envelope, Record, decode
from cobranza.contracts.topics import topic
from cobranza.dunning import gateways
from cobranza.dunning.domain.errors import TaskRefusedError, UnknownTaskError
from cobranza.dunning.use_cases import policies
from cobranza.dunning.use_cases.following import follow_payments


def _ids(service: Any, *numbers: str) -> list[str]:
    return [str(service.receivable(number, "01-11").receivable_id) for number in numbers]


async def _first_notice(service: Any) -> Any:
    """Company with a policy, one overdue item, its first notice requested on 2027-01-14."""
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    await service.at("01-14")
    [request] = await service.told("notice-requested")
    return request


async def test_an_overdue_receivable_gives_a_notice_and_a_decision(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))

    await service.at("01-12")
    assert [told["type"] for told in await service.told("case")] == ["case-opened"]
    await service.at("01-14")

    [request] = await service.told("notice-requested")
    assert (request["step"], request["run"], request["template"], request["tone"]) == (
        "aviso-1",
        1,
        "aviso-1",
        "friendly",
    )
    assert [line["step"] for line in request["lines"]] == ["aviso-1"]
    assert request["language"] == "es-MX"
    assert request["expires_at"] == "2027-01-19T18:00:00Z"
    [reached] = await service.told("step-reached")
    assert (reached["step"], reached["run"], reached["position"]) == ("aviso-1", 1, 1)
    [decision] = await service.rows("SELECT * FROM decision WHERE outcome = 'act'")
    assert str(decision.decision_id) == request["decision_id"]
    assert decision.as_of == date(2027, 1, 14)
    assert decision.cause["kind"] == "timer"
    assert await service.broken() == {}


async def test_the_ladder_runs_to_its_end_and_asks_a_person_once(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    contacts: list[tuple[str, str]] = []

    for day in [f"01-{d:02}" for d in range(12, 32)] + [f"02-{d:02}" for d in range(1, 25)]:
        await service.at(day)
        requests = await service.told("notice-requested")
        if len(requests) > len(contacts):
            contacts.append((day, requests[-1]["step"]))
            await service.sent(requests[-1], day)

    assert contacts == [("01-14", "aviso-1"), ("01-21", "aviso-2"), ("02-02", "requerimiento")]
    [task] = await service.told("task-created")
    assert (task["kind"], task["reason"], task["created_on"]) == ("decide_end", "end_reached", "2027-02-17")
    [case] = await service.rows("SELECT * FROM collection_case")
    assert case.state == "ended"
    assert await service.broken() == {}


async def test_every_event_delivered_twice_and_out_of_order_changes_nothing(service: Any) -> None:
    await service.activate()
    first = service.receivable("A-1", "01-11")
    paid = service.receivable("A-1", "01-11", open="20000.00", cause="payment-received")
    money = service.credit("10.00")
    records = [service.event(first), service.event(paid), service.event(money)]

    await service.deliver(records[1], records[2], records[0], *records)
    await service.deliver(*records)

    [row] = await service.rows("SELECT open FROM receivable")
    [account] = await service.rows("SELECT unapplied FROM account")
    assert (row.open, account.unapplied) == (20_000_00, 10_00)
    [decision] = await service.rows("SELECT * FROM decision")
    assert decision.times == 1


async def test_a_notice_event_delivered_twice_raises_the_level_once(service: Any) -> None:
    request = await _first_notice(service)

    await service.sent(request, "01-14")
    await service.sent(request, "01-14")

    [item] = await service.rows("SELECT level, level_step, passed, last_notice_on FROM receivable")
    assert tuple(item) == (1, "aviso-1", 1, date(2027, 1, 14))
    [run] = await service.rows("SELECT state, answered_on FROM step_run")
    assert tuple(run) == ("sent", date(2027, 1, 14))
    assert len(await service.told("notice-requested")) == 1


async def test_a_line_that_the_permit_refused_does_not_rise(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"), service.receivable("A-2", "01-11"))
    await service.at("01-14")
    [request] = await service.told("notice-requested")
    [granted, refused] = _ids(service, "A-1", "A-2")

    await service.sent(request, "01-14", granted=[granted])

    levels = {str(r.receivable_id): r.level for r in await service.rows("SELECT receivable_id, level FROM receivable")}
    assert levels == {granted: 1, refused: 0}


async def test_settlement_closes_the_case_at_once(service: Any) -> None:
    request = await _first_notice(service)
    await service.sent(request, "01-14")

    await service.tell(service.receivable("A-1", "01-11", open="0.00", cause="payment-received"))

    closed = [told for told in await service.told("case") if told["type"] == "case-closed"]
    assert [(told["outcome"], told["closed_on"]) for told in closed] == [("paid", "2027-01-14")]
    await service.at("02-20")
    assert len(await service.told("notice-requested")) == 1
    assert await service.rows("SELECT 1 FROM timer WHERE state IN ('armed', 'claimed')") == []
    assert await service.broken() == {}


async def test_paying_what_is_overdue_cures_the_case_though_more_is_to_come(service: Any) -> None:
    request = await _first_notice(service)
    await service.sent(request, "01-14")
    await service.tell(service.receivable("A-2", "06-01"))

    await service.tell(service.receivable("A-1", "01-11", open="0.00", cause="payment-received"))

    assert [t["outcome"] for t in await service.told("case-closed")] == ["cured"]
    assert await service.broken() == {}


async def test_a_reversal_opens_a_new_case_that_carries_the_level(service: Any) -> None:
    request = await _first_notice(service)
    await service.sent(request, "01-14")
    await service.tell(service.receivable("A-1", "01-11", open="0.00", cause="payment-received"))

    await service.tell(service.receivable("A-1", "01-11", cause="payment-reversed"))

    [first, second] = await service.told("case-opened")
    assert second["previous_case_id"] == first["case_id"]
    await service.at("01-21")
    assert [r["step"] for r in await service.told("notice-requested")] == ["aviso-1", "aviso-2"]


async def test_a_cancelled_invoice_stops_before_its_balance_is_told(service: Any) -> None:
    await service.activate()
    told = service.receivable("A-1", "01-11")
    await service.tell(told)
    await service.at("01-12")

    cancelled = invoicing.InvoiceCancelled.model_validate(
        {
            "company": "acme-mx",
            "invoice_id": told.invoice_id,
            "customer": "C-1",
            "number": "A-1",
            "cancelled_on": "2027-01-12",
        }
    )
    record = service.event(cancelled)
    await service.deliver(record, record, topic="cobranza.invoicing")
    await service.at("01-14")

    assert [t["outcome"] for t in await service.told("case-closed")] == ["cancelled"]
    assert await service.told("notice-requested") == []
    assert await service.broken() == {}


async def test_an_invoice_cancelled_before_its_balance_is_never_collected(service: Any) -> None:
    await service.activate()
    told = service.receivable("A-1", "01-11")
    cancelled = {
        "company": "acme-mx",
        "invoice_id": told.invoice_id,
        "customer": "C-1",
        "number": "A-1",
        "cancelled_on": "2027-01-04",
    }
    await service.tell(invoicing.InvoiceCancelled.model_validate(cancelled), topic="cobranza.invoicing")

    await service.tell(told)
    await service.at("01-14")

    assert await service.told("case") == []


async def test_a_due_date_is_a_reason_to_evaluate_and_changes_no_fact(service: Any) -> None:
    await service.activate()
    told = service.receivable("A-1", "01-11")
    due = invoicing.DueDate.model_validate(
        {
            "company": "acme-mx",
            "invoice_id": told.invoice_id,
            "receivable_id": told.receivable_id,
            "customer": "C-1",
            "due_on": "2027-01-11",
            "phase": "approaching",
            "offset_days": -7,
            "business_date": "2027-01-04",
        }
    )
    await service.tell(due, topic="cobranza.invoicing")
    await service.tell(told)

    record = service.event(due)
    await service.deliver(record, record, topic="cobranza.invoicing")

    [decision] = await service.rows("SELECT times, outcome FROM decision")
    assert tuple(decision) == (2, "wait")


async def test_a_suppressed_notice_is_tried_again_after_the_date_changed_and_never_in_a_loop(service: Any) -> None:
    request = await _first_notice(service)

    await service.suppressed(request, "01-14")
    await service.work_timers()
    assert len(await service.told("notice-requested")) == 1
    await service.at("01-15")

    assert [r["run"] for r in await service.told("notice-requested")] == [1, 2]


async def test_a_suppressed_notice_is_tried_again_at_once_when_the_customer_changed(service: Any) -> None:
    request = await _first_notice(service)
    await service.suppressed(request, "01-14")

    changed = invoicing.CustomerChanged.model_validate(
        {
            "company": "acme-mx",
            "customer": "C-1",
            "revision": 2,
            "name": "Cliente",
            "country": "MX",
            "language": "en",
            "zone": "America/Mexico_City",
        }
    )
    record = service.event(changed)
    await service.deliver(record, record, topic="cobranza.customers")

    requests = await service.told("notice-requested")
    assert [(r["run"], r["language"]) for r in requests] == [(1, "es-MX"), (2, "en")]
    columns = await service.rows("SELECT column_name FROM information_schema.columns WHERE table_name = 'customer'")
    assert "name" not in {row.column_name for row in columns}


async def test_nothing_else_is_issued_while_a_run_is_unanswered(service: Any) -> None:
    await _first_notice(service)
    await service.tell(service.receivable("A-2", "01-12"))

    await service.at("01-25")

    assert len(await service.told("notice-requested")) == 1
    last = (await service.rows("SELECT outcome, reasons FROM decision ORDER BY decision_id DESC LIMIT 1"))[0]
    assert last.reasons[0]["code"] == "run_open"


async def test_an_item_that_reaches_a_step_later_gets_a_new_run(service: Any) -> None:
    request = await _first_notice(service)
    await service.sent(request, "01-14")
    await service.tell(service.receivable("A-2", "01-15"))

    await service.at("01-18")

    [_, second] = await service.told("notice-requested")
    assert (second["step"], second["run"]) == ("aviso-1", 2)
    lines = {line["receivable_id"]: line for line in second["lines"]}
    [old, new] = _ids(service, "A-1", "A-2")
    assert lines[old]["last_notice_on"] == "2027-01-14"
    assert lines[old].get("step") is None
    assert lines[new]["step"] == "aviso-1"


async def test_catch_up_sends_one_notice_and_tells_what_was_skipped(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))

    await service.at("02-03")

    [request] = await service.told("notice-requested")
    [skipped] = await service.told("step-skipped")
    assert request["step"] == "aviso-2"
    assert (skipped["step"], skipped["reason"], skipped["run"]) == ("aviso-1", "catch_up", 1)


async def test_two_items_on_two_steps_share_one_notice(service: Any) -> None:
    request = await _first_notice(service)
    await service.sent(request, "01-14")
    await service.tell(service.receivable("A-2", "01-18"))

    await service.at("01-21")

    reached = (await service.told("step-reached"))[1:]
    assert sorted((r["step"], r["run"]) for r in reached) == [("aviso-1", 2), ("aviso-2", 1)]
    [_, notice] = await service.told("notice-requested")
    assert notice["step"] == "aviso-2"
    await service.sent(notice, "01-21")
    rows = await service.rows("SELECT number, level FROM receivable ORDER BY number")
    assert [tuple(row) for row in rows] == [("A-1", 2), ("A-2", 1)]


async def test_credit_that_covers_all_stops_and_its_use_resumes(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"), service.credit("60000.00"))
    await service.at("01-14")
    assert await service.told("notice-requested") == []
    assert await service.broken() == {}

    await service.tell(service.credit("0.00"))

    assert len(await service.told("notice-requested")) == 1


async def test_currencies_are_cases_of_their_own(service: Any) -> None:
    await service.activate()
    await service.tell(
        service.receivable("A-1", "01-11"),
        service.receivable("U-1", "01-11", currency="USD", open="100.00", issued="100.00"),
    )

    await service.at("01-14")

    requests = await service.told("notice-requested")
    assert sorted((r["currency"], r["policy"]["id"]) for r in requests) == [
        ("MXN", "friendly-b2b"),
        ("USD", "friendly-b2b-usd"),
    ]


@pytest.mark.parametrize("profile_changes", [{"dunning_start": "2027-01-20"}])
async def test_nothing_happens_before_the_start(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))

    await service.at("01-19")
    assert await service.told("case") == []
    assert (await service.rows("SELECT reason FROM account"))[0].reason == "before_start"
    assert await service.broken() == {}
    await service.at("01-20")

    assert len(await service.told("notice-requested")) == 1


@pytest.mark.parametrize(
    "stated",
    [
        {"through_on": "2027-01-13"},
        # One of several accounts of the company, the last one to be known.
        {"feed": "bank-b", "through_on": "2027-01-15", "company_through_on": "2027-01-13"},
    ],
)
@pytest.mark.parametrize("profile_changes", [{"cash_feed": "watermark"}])
async def test_a_step_waits_until_cash_is_known_and_asks_the_permit_for_it(
    service: Any, stated: dict[str, str]
) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    await service.at("01-14")
    assert (await service.rows("SELECT reason FROM account"))[0].reason == "cash_stale"

    # Of one feed alone nobody knows yet whether it is all.
    for told in ({"feed": "bank-a", "through_on": "2027-01-14"}, stated):
        assert await service.told("notice-requested") == []
        watermark = payments.CashWatermark.model_validate(
            {"company": "acme-mx", "stated_at": "2027-01-14T17:05:00Z", **told}
        )
        await service.tell(watermark)
    record = service.event(watermark)
    await service.deliver(record, record)

    [request] = await service.told("notice-requested")
    assert request["conditions"] == {"cash_through": "2027-01-13", "unapplied": "net", "control_total": "effects"}


async def test_without_a_policy_a_person_is_asked_once_and_activation_evaluates_at_once(service: Any) -> None:
    await service.tell(service.receivable("A-1", "01-11"), service.receivable("B-1", "01-11", customer="C-2"))
    await service.at("01-14")
    tasks = await service.told("task-created")
    assert [(task["kind"], task["reason"]) for task in tasks] == [("no_policy", "no_policy")]
    assert await service.broken() == {}

    await service.activate()
    await service.work_timers()

    assert {r["customer"] for r in await service.told("notice-requested")} == {"C-1", "C-2"}
    cases = await service.rows("SELECT policy, policy_version FROM collection_case")
    assert {tuple(case) for case in cases} == {("friendly-b2b", 1)}


async def test_the_reminder_preset_lists_all_overdue_items_on_any_weekday(service: Any) -> None:
    await service.activate("reminder-5")
    await service.tell(service.receivable("A-1", "01-11"), service.receivable("A-2", "01-14"))

    await service.at("01-16")

    [request] = await service.told("notice-requested")
    assert (request["template"], len(request["lines"])) == ("reminder", 2)


async def test_an_unknown_company_is_parked(service: Any) -> None:
    await service.tell(service.receivable("A-1", "01-11", company="nobody"))

    [parked] = await service.rows("SELECT error_class, state FROM parked")
    assert tuple(parked) == ("company_unknown", "poison")
    assert await service.rows("SELECT 1 FROM account") == []


async def test_an_outcome_of_an_unknown_run_is_parked_and_the_case_stays(service: Any) -> None:
    request = await _first_notice(service)

    await service.sent({**request, "run": 9}, "01-14")

    [parked] = await service.rows("SELECT error_class FROM parked")
    assert parked.error_class == "step_run_unknown"
    assert (await service.rows("SELECT state FROM step_run"))[0].state == "requested"


async def test_a_notice_of_another_purpose_is_ignored(service: Any) -> None:
    request = await _first_notice(service)

    await service.sent({**request, "purpose": "payment_confirmation"}, "01-14")

    assert (await service.rows("SELECT state FROM step_run"))[0].state == "requested"
    assert await service.rows("SELECT 1 FROM parked") == []


async def test_the_sweep_finds_and_arms_what_was_forgotten(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    async with service.database.transaction() as tx:
        await tx.execute("DELETE FROM timer")
    assert await service.broken() == {"open_receivable_forgotten": 1}

    more = await service.desk.sweep(service.database)

    assert more is False
    assert await service.broken() == {}
    await service.at("01-14")
    assert len(await service.told("notice-requested")) == 1


async def test_an_evaluation_that_finds_the_same_only_counts(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    [account] = await service.rows("SELECT account_id FROM account")

    for _ in range(2):
        async with service.database.transaction() as tx:
            record = service.event(service.credit("0.00"))
            await follow_payments(service.desk, tx, [_event(record)])

    rows = await service.rows("SELECT times FROM decision WHERE account_id = :id", id=account.account_id)
    assert [row.times for row in rows] == [3]


def _event(record: Record) -> Event:
    decoded = decode(
        record.key, record.headers, record.value, payloads=topic("cobranza.payments").payloads, strict=False
    )
    assert isinstance(decoded, Envelope)
    return Event.of(decoded, offset=0)


async def test_hundreds_of_cases_are_evaluated_in_one_batch_and_by_their_timers(service: Any) -> None:
    await service.activate()
    await service.tell(
        *(service.receivable(f"N-{n}", "01-11", customer=f"C-{n}") for n in range(300)),
    )

    await service.at("01-14")

    assert len(await service.told("notice-requested")) == 300
    assert await service.broken() == {}


async def test_a_part_payment_a_reversal_and_a_delivery_are_kept_with_the_receivable(service: Any) -> None:
    request = await _first_notice(service)
    await service.sent(request, "01-14")
    delivered = {
        "company": "acme-mx", "customer": "C-1", "purpose": "dunning", "channel": "email", "delivery": "sandbox",
        "notice_id": identifiers.notice_id(
            company="acme-mx", case_id=UUID(request["case_id"]), step="aviso-1", run=1, channel="email"
        ),
        "case_id": request["case_id"], "step": "aviso-1", "run": 1, "delivered_at": "2027-01-15T18:00:00Z",
        "delivered_on": "2027-01-15",
    }  # fmt: skip
    await service.tell(notifications.NoticeDelivered.model_validate(delivered), topic="cobranza.notifications")
    await service.tell(service.receivable("A-1", "01-11", open="20000.00", cause="payment-received"))
    await service.tell(service.receivable("A-1", "01-11", cause="payment-reversed"))

    [item] = await service.rows("SELECT history, payments, reopened_on, told_reversal, level FROM receivable")
    assert item.history == {"aviso-1": {"on": "2027-01-14", "times": 1, "delivered_on": "2027-01-15"}}
    assert item.payments == [["2026-12-11", 38_000_00, 58_000_00]]
    assert (item.reopened_on, item.told_reversal, item.level) == (date(2026, 12, 11), True, 1)
    assert [task["kind"] for task in await service.told("task-created")] == ["reversal"]
    assert await service.broken() == {}


async def test_an_effect_waits_for_the_control_total_and_for_a_person(service: Any) -> None:
    await service.activate("strict")
    checked = {
        "company": "acme-mx", "currency": "MXN", "total_on": "2027-01-01", "verdict": "matched", "system": "sap",
        "standing": "missing", "checked_at": "2027-01-02T12:00:00Z",
        "found": {"open_count": 1, "open_total": {"amount": "58000.00", "currency": "MXN"}},
    }  # fmt: skip
    await service.tell(payments.ControlTotalChecked.model_validate(checked))
    await service.tell(service.receivable("A-1", "01-11"))
    days = [f"01-{d:02}" for d in range(4, 32)] + [f"02-{d:02}" for d in range(1, 5)]
    answered = 0
    for day in days:
        await service.at(day)
        requests = await service.told("notice-requested")
        if len(requests) > answered:
            await service.sent(requests[-1], day)
            answered = len(requests)
    held = (await service.rows("SELECT reason FROM account"))[0].reason
    before = [task["kind"] for task in await service.told("task-created")]

    await service.tell(payments.ControlTotalChecked.model_validate(checked | {"standing": "matched"}))

    assert (held, before) == ("control_mismatch", ["call"])
    [task] = (await service.told("task-created"))[1:]
    assert (task["kind"], task["role"], task["step"], task["due_on"]) == (
        "approval", "credit_manager", "bloqueo", "2027-02-09",
    )  # fmt: skip
    [run] = await service.rows("SELECT state, kind FROM step_run WHERE step = 'bloqueo'")
    assert tuple(run) == ("proposed", "effect")

    await service.complete(task, "approved")
    effect = (await service.told("task-created"))[-1]
    await service.complete(effect, "done")

    assert (effect["kind"], effect["role"]) == ("credit_hold", "operations")
    assert [told["step"] for told in await service.told("step-reached")][-1] == "bloqueo"
    [run] = await service.rows("SELECT state FROM step_run WHERE step = 'bloqueo'")
    [item] = await service.rows("SELECT level_step FROM receivable")
    assert (run.state, item.level_step) == ("sent", "bloqueo")
    assert await service.broken() == {}


async def _asked_fee(service: Any) -> dict[str, Any]:
    """Live until a policy with interest and a fee asks for the fee."""
    source = gateways.read_source("friendly-b2b").replace(
        "steps:\n",
        "interest: { rule: mx-ccom-362, charge_at: requerimiento }\n"
        'fees: { gestion: { amount: "250.00", max: "300.00", settle: waive_on_principal } }\n'
        "steps:\n",
    )
    charge = (
        "  - { id: cargo, offset: 24, kind: effect, effect: fee, fee: gestion,"
        " requires: { issued: aviso-1, term_days: 0 } }\n"
    )
    source = source.replace("end:", charge + "end:")
    document, faults = gateways.parse(source)
    assert not faults, faults
    async with service.database.transaction() as tx:
        for policy, _ in await policies.load_policy(service.desk, tx, document, company="acme-mx"):
            await policies.activate_policy(service.desk, tx, company="acme-mx", policy=policy.policy, version=None)
    await service.tell(service.receivable("A-1", "01-11"))
    answered = 0
    for day in [f"01-{d:02}" for d in range(12, 32)] + [f"02-{d:02}" for d in range(1, 12)]:
        await service.at(day)
        requests = await service.told("notice-requested")
        if len(requests) > answered:
            await service.sent(requests[-1], day)
            answered = len(requests)
        for told in await service.told("step-reached"):
            if told["step"] == "cargo":
                return dict(told)
    raise AssertionError("the fee was never asked for")


async def test_steps_that_charge_carry_the_terms_of_the_policy(service: Any) -> None:
    fee = await _asked_fee(service)
    reached = {told["step"]: told for told in await service.told("step-reached")}
    interest = reached["requerimiento"]
    assert (interest["effect"], interest["charge_rules"], "fee_terms" in interest) == ("interest", "mx-ccom-362", False)
    assert (fee["effect"], fee["fee"], fee["charge_rules"]) == ("fee", "gestion", "mx-ccom-362")
    assert fee["fee_terms"] == {
        "amount": {"amount": "250.00", "currency": "MXN"}, "per": "item",
        "max": {"amount": "300.00", "currency": "MXN"}, "settle": "waive_on_principal",
    }  # fmt: skip
    assert "charge_rules" not in reached["aviso-1"]


async def test_a_charge_that_payments_books_is_the_step_taken(service: Any) -> None:
    fee = await _asked_fee(service)
    [before] = await service.rows("SELECT state FROM step_run WHERE step = 'cargo'")
    assessed = {
        "company": "acme-mx", "receivable_id": str(UUID(int=77)), "customer": "C-1", "case_id": fee["case_id"],
        "step": "cargo", "run": fee["run"], "code": "gestion", "kind": "fee",
        "amount": {"amount": "250.00", "currency": "MXN"}, "rule": "friendly-b2b@1",
        "assessed_on": fee["reached_on"], "due_on": fee["reached_on"],
    }  # fmt: skip

    await service.tell(payments.LateChargeAssessed.model_validate(assessed))

    [after] = await service.rows("SELECT state FROM step_run WHERE step = 'cargo'")
    [item] = await service.rows("SELECT level_step FROM receivable")
    assert (before.state, after.state, item.level_step) == ("requested", "sent", "cargo")


async def test_a_call_that_reaches_nobody_lets_the_ladder_go_on_and_a_task_ends_once(service: Any) -> None:
    await service.activate("small-business")
    await service.tell(service.receivable("A-1", "01-11"))
    answered = 0
    for day in [f"01-{d:02}" for d in range(8, 28)]:
        await service.at(day)
        requests = await service.told("notice-requested")
        if len(requests) > answered:
            await service.sent(requests[-1], day)
            answered = len(requests)
    [call] = await service.told("task-created")

    await service.complete(call, "refused")
    await service.complete(call, "refused")
    with pytest.raises(TaskRefusedError):
        await service.complete(call, "done")
    with pytest.raises(UnknownTaskError):
        await service.complete({**call, "task_id": str(UUID(int=1))}, "done")

    assert (call["kind"], call["role"], call["step"]) == ("call", "collector", "llamada")
    assert [told["disposition"] for told in await service.told("task-completed")] == ["refused"]
    [run] = await service.rows("SELECT state, reason FROM step_run WHERE step = 'llamada'")
    [item] = await service.rows("SELECT level_step, passed FROM receivable")
    assert (run.state, run.reason, item.level_step, item.passed) == ("skipped", "execution_refused", "aviso-2", 4)
    [skipped] = [told for told in await service.told("step-skipped") if told["step"] == "llamada"]
    assert (skipped["run"], skipped["reason"]) == (call["run"], "execution_refused")
    assert await service.broken() == {}


async def test_each_attempt_of_a_call_is_a_task_until_they_are_used_up(service: Any) -> None:
    await service.activate("small-business")
    await service.tell(service.receivable("A-1", "01-11"))
    answered = 0
    for day in [f"01-{d:02}" for d in range(8, 28)]:
        await service.at(day)
        requests = await service.told("notice-requested")
        if len(requests) > answered:
            await service.sent(requests[-1], day)
            answered = len(requests)
    calls = await service.told("task-created")
    assert len(calls) == 1

    await service.complete(calls[0], "system_error")
    for outcome in ("no_answer", "voicemail", "busy"):
        calls = [told for told in await service.told("task-created") if told["step"] == "llamada"]
        await service.complete(calls[-1], outcome)

    assert len({call["task_id"] for call in calls}) == len(calls) == 3
    assert [told["disposition"] for told in await service.told("task-completed")] == ["no_answer", "voicemail", "busy"]
    [run] = await service.rows("SELECT state, reason, attempts FROM step_run WHERE step = 'llamada'")
    assert (run.state, run.reason) == ("skipped", "unreachable")
    [skipped] = [told for told in await service.told("step-skipped") if told["step"] == "llamada"]
    assert skipped["reason"] == "unreachable"
    assert await service.rows("SELECT 1 FROM task WHERE completed_at IS NULL") == []


async def test_a_task_to_apply_credit_ends_when_the_credit_is_applied(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"), service.credit("58000.00"))
    await service.at("01-14")
    [task] = await service.told("task-created")
    assert task["kind"] == "match_cash"

    await service.tell(service.credit("0.00"), service.receivable("A-1", "01-11", open="0.00", on="2027-01-14"))

    assert [(told["task_id"], told["disposition"]) for told in await service.told("task-completed")] == [
        (task["task_id"], "cancelled")
    ]


async def test_a_charge_that_payments_refuses_is_passed_over_for_its_reason(service: Any) -> None:
    fee = await _asked_fee(service)
    refused = {
        "company": "acme-mx", "customer": "C-1", "case_id": fee["case_id"], "step": "cargo", "run": fee["run"],
        "reason": "cap_reached", "debts": [], "refused_on": fee["reached_on"],
    }  # fmt: skip

    await service.tell(payments.LateChargeRefused.model_validate(refused))
    await service.tell(payments.LateChargeRefused.model_validate(refused))

    [run] = await service.rows("SELECT state, reason FROM step_run WHERE step = 'cargo'")
    assert (run.state, run.reason) == ("skipped", "cap_reached")
    assert [told["reason"] for told in await service.told("step-skipped") if told["step"] == "cargo"] == ["cap_reached"]
    assert await service.broken() == {}


async def test_a_replacement_inherits_the_level_of_the_invoice_it_replaces(service: Any) -> None:
    request = await _first_notice(service)
    await service.sent(request, "01-14")
    old, new = (
        service.receivable("A-1", "01-11"),
        service.receivable("A-2", "01-11", issued="52000.00", open="52000.00"),
    )
    replaced = {
        "company": "acme-mx", "customer": "C-1", "number": "A-1", "invoice_id": old.invoice_id,
        "replaced_by": new.invoice_id, "replaced_on": "2027-01-15",
    }  # fmt: skip
    await service.tell(invoicing.InvoiceReplaced.model_validate(replaced), topic="cobranza.invoicing")
    await service.tell(new)

    rows = await service.rows("SELECT number, level, level_step FROM receivable ORDER BY number")
    assert [tuple(row) for row in rows] == [("A-1", 1, "aviso-1"), ("A-2", 1, "aviso-1")]
    assert [task["kind"] for task in await service.told("task-created")] == ["correction"]


async def test_risk_tags_and_age_of_a_customer_are_asked_by_conditions(service: Any, tmp_path: Path) -> None:
    file = tmp_path / "asking.yaml"
    when = "when: { risk: [high], tag: [export], months_as_customer: { ge: 12 } }"
    preset = gateways.read_source("friendly-b2b").replace("template: aviso-1 }", f"template: aviso-1, {when} }}")
    file.write_text(preset, encoding="utf-8")
    await service.activate(str(file))
    known = {
        "company": "acme-mx", "revision": 1, "name": "Uno", "country": "MX", "language": "es-MX",
        "zone": "America/Mexico_City", "risk": "high", "tags": ["export", "vip"], "customer_since": "2025-01-14",
    }  # fmt: skip
    others: list[dict[str, object]] = [{}, {"risk": "low"}, {"tags": []}, {"customer_since": "2026-01-15"}]
    customers = [{**known, **other, "customer": f"C-{number}"} for number, other in enumerate(others)]

    await service.tell(
        *(invoicing.CustomerChanged.model_validate(told) for told in customers), topic="cobranza.customers"
    )
    await service.tell(*(service.receivable(f"A-{n}", "01-11", customer=f"C-{n}") for n in range(4)))
    await service.at("01-14")

    assert [told["customer"] for told in await service.told("notice-requested")] == ["C-0"]
    skipped = await service.told("step-skipped")
    assert skipped == [] or {(told["step"], told["reason"]) for told in skipped} == {("aviso-1", "when_false")}


async def test_a_debt_that_is_written_off_closes_its_case_as_such(service: Any) -> None:
    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"))
    await service.at("01-14")

    await service.tell(service.receivable("A-1", "01-11", open="0.00", cause="written-off"))

    assert [told["outcome"] for told in await service.told("case-closed")] == ["written_off"]
    assert await service.broken() == {}


async def test_d20_money_that_was_there_before_the_notice_is_counted_as_wrongful_once(service: Any) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("cobranza_wrongful_notices_total") or 0.0

    await service.activate()
    await service.tell(service.receivable("A-1", "01-11"), service.receivable("B-1", "01-12"))
    await service.at("01-15")
    [request] = await service.told("notice-requested")
    await service.sent(request, "01-15")
    before = counted()
    paid = service.receivable("A-1", "01-11", open="0.00", cause="payment-received")
    late = paid.model_copy(update={"effective_on": date(2027, 1, 14), "recorded_on": date(2027, 1, 18)})
    in_time = service.receivable("B-1", "01-12", open="0.00", cause="payment-received").model_copy(
        update={"effective_on": date(2027, 1, 18), "recorded_on": date(2027, 1, 18)}
    )

    await service.at("01-18")
    await service.tell(late)
    await service.tell(in_time)

    assert [told["kind"] for told in await service.told("task-created")] == ["correction"]
    assert counted() - before == 1
