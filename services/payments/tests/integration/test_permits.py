"""The last gate: each reason to refuse, one by one, on the real ledger."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from cobranza.chassis import clock
from cobranza.contracts import dunning, ingress, invoicing, notifications
from cobranza.contracts.money import Money
from cobranza.contracts.payments import NoticePermitRequest, PermitConditions
from cobranza.payments.domain.errors import MixedCurrenciesError, PermitConflictError, UnknownCompanyError
from cobranza.payments.use_cases import Expectation, Gatekeeper, Matcher

NOTICE = UUID(int=1)


@pytest.fixture
def ask(ledger: Any, make: Any) -> Any:
    gatekeeper = Gatekeeper(ledger.context.companies, 6)

    async def ask(
        *numbers: Any,
        notice_id: Any = NOTICE,
        attempt: Any = 1,
        company: Any = "acme-mx",
        customer: Any = "C1",
        purpose: Any = "dunning",
        **conditions: Any,
    ) -> Any:
        request = NoticePermitRequest(
            notice_id=notice_id,
            attempt=attempt,
            company=company,
            customer=customer,
            purpose=purpose,
            conditions=PermitConditions(**conditions),
            receivable_ids=tuple(make.of(company=company).receivable_id(number) for number in numbers),
        )
        async with ledger.database.transaction() as tx:
            return await gatekeeper.ask(tx, request)

    return ask


def reasons(answer: Any) -> list[str]:
    return [refusal.reason for refusal in answer.refusals]


def lines(amount: str, receivable_id: Any) -> tuple[dunning.ReceivableAmount, ...]:
    return (dunning.ReceivableAmount(receivable_id=receivable_id, amount=Money.of(amount, "MXN")),)


def promise(receivable_id: Any, amount: str, **changes: Any) -> dunning.PromiseMade:
    return dunning.PromiseMade(
        company="acme-mx", customer="C1", promise_id=UUID(int=3), case_id=UUID(int=4),
        lines=lines(amount, receivable_id), amount=Money.of(amount, "MXN"), promised_on=date(2027, 1, 20),
        limit_on=date(2027, 1, 22), made_on=date(2027, 1, 4), captured_by="ana", channel="call", **changes,
    )  # fmt: skip


def hold(**changes: Any) -> dunning.HoldPlaced:
    return dunning.HoldPlaced(
        **{
            "company": "acme-mx", "customer": "C1", "hold_id": UUID(int=2), "scope": "customer",
            "reason": "legal_claim", "placed_on": date(2027, 1, 4), "by": "ana", **changes,
        }
    )  # fmt: skip


async def test_what_is_open_may_be_claimed_for_fifteen_seconds(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), make.payment("P", "30.00", "F-1"))
    await ledger.caught_up()
    answer = await ask("F-1")
    assert (answer.granted, answer.ttl_seconds, answer.refusals) == (True, 15, ())
    assert answer.expires_at == answer.asked_at + timedelta(seconds=15)
    assert abs(answer.asked_at - clock.utc_now()) < timedelta(seconds=60)  # real time, whatever the business date
    (line,) = answer.lines
    assert (str(line.open), str(line.claimable), line.version, line.number) == ("70.00", "70.00", 2, "F-1")
    assert (answer.claimed, answer.credit) == (Money.of("70.00", "MXN"), Money.zero("MXN"))


async def test_the_same_question_gets_the_stored_answer(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), make.payment("Q", "1.00"))
    await ledger.caught_up()
    first = await ask("F-1")
    await ledger.tell(make.payment("P", "100.00", "F-1"))
    assert await ask("F-1") == first
    assert reasons(await ask("F-1", attempt=2)) == ["settled"]
    with pytest.raises(PermitConflictError):
        await ask("F-1", customer="C2")


async def test_a_refusal_is_stored_too(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), hold())
    await ledger.caught_up()
    first = await ask("F-1")
    assert (reasons(first), first.refusals[0].hold, first.is_transient) == (["on_hold"], "legal_claim", False)
    assert await ask("F-1") == first


async def test_settled_is_final_even_when_facts_are_stale(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), make.payment("P", "100.00", "F-1"))
    answer = await ask("F-1")
    assert (reasons(answer), answer.granted, answer.is_transient) == (["settled"], False, False)


async def test_a_settled_line_drops_out_and_the_rest_is_granted(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), make.invoice("F-2", "50.00"), make.payment("P", "100.00", "F-1"))
    await ledger.caught_up()
    answer = await ask("F-1", "F-2")
    assert (answer.granted, reasons(answer), [line.number for line in answer.lines]) == (True, ["settled"], ["F-2"])


async def test_a_receivable_not_known_yet_is_asked_again_later(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"))
    await ledger.caught_up()
    answer = await ask("F-1", "F-2")
    assert (reasons(answer), answer.granted, answer.is_transient, answer.lines) == (
        ["unknown_receivable"], False, True, (),
    )  # fmt: skip


async def test_the_receivable_of_another_customer_is_unknown(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"))
    await ledger.caught_up()
    assert reasons(await ask("F-1", customer="C2")) == ["unknown_receivable"]


async def test_a_hold_stops_until_its_last_day(ledger: Any, make: Any, ask: Any, business_clock: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), hold(until_on=date(2027, 1, 4)))
    await ledger.caught_up()
    assert reasons(await ask("F-1")) == ["on_hold"]
    business_clock.set(datetime(2027, 1, 5, 11, 59, tzinfo=UTC))  # 05:59 in Mexico City: still the 4th
    assert reasons(await ask("F-1", attempt=2)) == ["on_hold"]
    business_clock.set(datetime(2027, 1, 5, 12, 0, tzinfo=UTC))
    assert (await ask("F-1", attempt=3)).granted


async def test_a_case_that_is_handed_over_is_not_asked_for_until_it_comes_back(
    ledger: Any, make: Any, ask: Any
) -> None:
    case = {"company": "acme-mx", "customer": "C1", "case_id": UUID(int=5), "currency": "MXN"}
    await ledger.tell(make.invoice("F-1", "100.00"), make.invoice("F-2", "50.00"))
    await ledger.tell(
        dunning.CaseHandedOver.model_validate(
            {**case, "to": "Bufete", "kind": "agency", "package_sha256": "0" * 64, "handed_on": date(2027, 1, 4),
             "receivable_ids": [make.receivable_id("F-1")]}
        )
    )  # fmt: skip

    answer = await ask("F-1", "F-2")
    assert ([line.number for line in answer.lines], reasons(answer)) == (["F-2"], ["on_hold"])
    assert answer.refusals[0].hold == "handed_over"

    await ledger.tell(
        dunning.CaseRecalled.model_validate(
            {**case, "reason": "no_result", "by": "ana", "recalled_on": date(2027, 1, 5)}
        )
    )
    assert [line.number for line in (await ask("F-1", attempt=2)).lines] == ["F-1"]


async def test_a_hold_on_one_receivable_leaves_the_others(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), make.invoice("F-2", "50.00"))
    await ledger.tell(hold(scope="receivable", receivable_ids=(make.receivable_id("F-1"),)))
    await ledger.caught_up()
    answer = await ask("F-1", "F-2")
    assert ([line.number for line in answer.lines], reasons(answer)) == (["F-2"], ["on_hold"])


async def test_a_promise_lowers_the_claim_and_its_own_reminder_passes_it(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), promise(make.receivable_id("F-1"), "40.00"))
    await ledger.caught_up()
    (line,) = (await ask("F-1")).lines
    assert (str(line.open), str(line.promised), str(line.claimable)) == ("100.00", "40.00", "60.00")
    (line,) = (await ask("F-1", purpose="promise_reminder", attempt=2)).lines
    assert (str(line.promised), str(line.claimable)) == ("0.00", "100.00")


async def test_a_promise_of_all_stops_the_notice(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), promise(make.receivable_id("F-1"), "100.00"))
    await ledger.caught_up()
    answer = await ask("F-1")
    assert (reasons(answer), answer.refusals[0].hold) == (["on_hold"], "promise")


async def test_a_promise_of_a_plan_is_counted_once(ledger: Any, make: Any, ask: Any) -> None:
    receivable_id = make.receivable_id("F-1")
    plan = dunning.PlanAgreed(
        company="acme-mx", customer="C1", plan_id=UUID(int=6), case_id=UUID(int=4), lines=lines("30.00", receivable_id),
        total=Money.of("30.00", "MXN"), agreed_on=date(2027, 1, 4), by="ana",
        instalments=({"number": 1, "due_on": date(2027, 2, 1), "amount": Money.of("30.00", "MXN"), "promise_id": UUID(int=3)},),
    )  # fmt: skip
    await ledger.tell(make.invoice("F-1", "100.00"), promise(receivable_id, "30.00", plan_id=UUID(int=6)), plan)
    await ledger.caught_up()
    (line,) = (await ask("F-1")).lines
    assert (str(line.promised), str(line.planned), str(line.claimable)) == ("0.00", "30.00", "70.00")
    (line,) = (await ask("F-1", purpose="plan_reminder", attempt=2)).lines
    assert str(line.claimable) == "100.00"


async def test_a_rejected_dispute_returns_after_its_grace(
    ledger: Any, make: Any, ask: Any, business_clock: Any
) -> None:
    dispute = {
        "company": "acme-mx", "customer": "C1", "dispute_id": UUID(int=7), "receivable_id": make.receivable_id("F-1"),
        "amount": Money.of("8.00", "MXN"), "kind": "price", "opened_on": date(2027, 1, 15),
        "deadline_on": date(2027, 1, 29),
    }  # fmt: skip
    await ledger.tell(make.invoice("F-1", "58.00"), dunning.DisputeOpened(**dispute))
    await ledger.caught_up()
    assert str((await ask("F-1")).lines[0].claimable) == "50.00"
    await ledger.tell(
        dunning.DisputeResolved(
            **dispute, outcome="rejected", stopped=Money.zero("MXN"), returning=Money.of("8.00", "MXN"),
            returns_on=date(2027, 2, 2), by="ana", resolved_on=date(2027, 1, 28),
        )
    )  # fmt: skip
    business_clock.set(datetime(2027, 2, 1, 18, tzinfo=UTC))
    assert str((await ask("F-1", attempt=2)).lines[0].claimable) == "50.00"
    business_clock.set(datetime(2027, 2, 2, 18, tzinfo=UTC))
    assert str((await ask("F-1", attempt=3)).lines[0].claimable) == "58.00"


async def test_credit_covers_the_oldest_once_and_the_rest_is_netted(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(
        make.invoice("OLD", "30.00", due_on=date(2027, 1, 10)),
        make.invoice("NEW", "100.00", due_on=date(2027, 1, 11)),
        make.payment("P", "50.00"),
    )
    await ledger.caught_up()
    answer = await ask("NEW", "OLD")
    assert [(r.reason, r.receivable_id) for r in answer.refusals] == [("covered_by_credit", make.receivable_id("OLD"))]
    assert [line.number for line in answer.lines] == ["NEW"]
    assert (answer.credit, answer.claimed) == (Money.of("20.00", "MXN"), Money.of("80.00", "MXN"))


async def test_credit_in_another_currency_covers_nothing(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "30.00"), make.payment("P", "50.00", currency="USD"))
    await ledger.caught_up()
    answer = await ask("F-1")
    assert (answer.granted, answer.credit) == (True, Money.zero("MXN"))


async def test_any_credit_stops_where_the_policy_holds_on_it(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "30.00"), make.payment("P", "0.01"))
    await ledger.caught_up()
    assert reasons(await ask("F-1", unapplied="hold")) == ["covered_by_credit"]
    assert (await ask("F-1", attempt=2)).claimed == Money.of("29.99", "MXN")


async def test_holds_not_read_lately_refuse_for_the_moment(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "30.00"))
    never = await ask("F-1")
    await ledger.caught_up()
    await ledger.run(
        "UPDATE progress SET caught_up_at = clock_timestamp() - interval '61 seconds' WHERE topic = 'cobranza.dunning'"
    )
    late = await ask("F-1", attempt=2)
    assert [(reasons(answer), answer.is_transient) for answer in (never, late)] == [(["holds_stale"], True)] * 2


async def test_cash_must_be_known_where_the_company_has_a_feed(ledger: Any, make: Any, ask: Any) -> None:
    fed = make.of(company="fed-mx")
    await ledger.tell(fed.invoice("F-1", "30.00"))
    await ledger.caught_up()
    through = {"company": "fed-mx", "cash_through": date(2027, 1, 3)}
    assert reasons(await ask("F-1", **through)) == ["cash_stale"]

    async def known(feed: str | None, day: int) -> None:
        await ledger.tell(
            ingress.CashWatermark(company="fed-mx", system="bank", feed=feed, through_on=date(2027, 1, day))
        )

    await known("bank-a", 3)
    await known("bank-b", 2)
    assert reasons(await ask("F-1", attempt=2, **through)) == ["cash_stale"]
    await known("bank-b", 3)
    assert (await ask("F-1", attempt=3, **through)).granted
    assert (await ask("F-1", attempt=4, company="fed-mx")).granted  # the policy asks for no day


async def test_cash_is_not_asked_about_without_a_feed(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "30.00"))
    await ledger.caught_up()
    assert (await ask("F-1", cash_through=date(2027, 1, 3))).granted


async def test_a_control_total_that_differs_stops_where_it_is_required(ledger: Any, make: Any, ask: Any) -> None:
    def total(run: str, amount: str) -> ingress.ControlTotal:
        return ingress.ControlTotal(
            company="acme-mx", system="sap", currency="MXN", total_on=date(2027, 1, 3), open_count=1,
            open_total=Money.of(amount, "MXN"), run_id=run,
        )  # fmt: skip

    await ledger.tell(make.invoice("F-1", "30.00"))
    await ledger.caught_up()
    assert (await ask("F-1", control_total="required")).granted  # none is due, and none ever came
    await ledger.tell(total("1", "99.00"))
    await ledger.ring()
    assert reasons(await ask("F-1", attempt=2, control_total="required")) == ["control_mismatch"]
    assert (await ask("F-1", attempt=3, control_total="effects")).granted
    assert (await ask("F-1", attempt=4, control_total="off")).granted
    await ledger.tell(total("2", "30.00"))
    await ledger.ring()
    assert (await ask("F-1", attempt=5, control_total="required")).granted


async def test_a_daily_control_total_that_did_not_come_stops_where_it_is_required(
    ledger: Any, make: Any, ask: Any
) -> None:
    profile = ledger.context.companies.get("daily-mx")
    await ledger.tell(make.of(company="daily-mx").invoice("F-1", "30.00"))
    await ledger.caught_up()
    ledger.context.clock.set(datetime(2027, 1, 5, 13, tzinfo=UTC))
    async with ledger.database.transaction() as tx:
        assert await Expectation(profile, 6).look(tx) == 1
    refused = await ask("F-1", company="daily-mx", control_total="required")
    assert (reasons(refused), refused.is_transient) == (["control_mismatch"], True)
    assert (await ask("F-1", company="daily-mx", attempt=2, control_total="effects")).granted


async def test_input_that_invoicing_parked_holds_its_customer_only(ledger: Any, make: Any, ask: Any) -> None:
    parked = {"company": "acme-mx", "input_id": UUID(int=9), "event_type": "erp.invoice-issued.v1", "customer": "C1"}
    instant = datetime(2027, 1, 4, tzinfo=UTC)
    await ledger.tell(make.invoice("F-1", "30.00"), make.of(customer="C2").invoice("F-2", "30.00"))
    await ledger.tell(invoicing.InputParked(**parked, code="invalid_data", parked_at=instant))
    await ledger.caught_up()
    assert reasons(await ask("F-1")) == ["input_parked"]
    assert (await ask("F-2", customer="C2", notice_id=UUID(int=2))).granted
    await ledger.tell(invoicing.InputReleased(**parked, outcome="fixed", released_at=instant))
    assert (await ask("F-1", attempt=2)).granted


async def test_a_payment_that_is_parked_here_holds_its_customer(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "30.00"), make.payment("P", "1.00"), make.payment("P", "2.00"))
    await ledger.caught_up()
    assert await ledger.parked() == ["payment_conflict"]
    assert reasons(await ask("F-1")) == ["input_parked"]


async def test_a_ledger_that_does_not_balance_asks_nobody_for_money(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "30.00"))
    await ledger.caught_up()
    await ledger.run("UPDATE ledger_stop SET stopped = true")
    assert reasons(await ask("F-1")) == ["ledger_stopped"]


async def test_receivables_in_two_currencies_are_refused(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "30.00"), make.invoice("F-2", "30.00", currency="USD"))
    with pytest.raises(MixedCurrenciesError):
        await ask("F-1", "F-2")


async def test_an_unknown_company_is_refused(ask: Any) -> None:
    with pytest.raises(UnknownCompanyError):
        await ask("F-1", company="nobody-mx")


async def test_a_permit_waits_for_a_payment_that_is_being_booked(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "30.00"))
    await ledger.caught_up()
    async with ledger.database.transaction() as paying:
        await paying.execute("SELECT 1 FROM ledger_customer WHERE customer = 'C1' FOR UPDATE")
        asked = asyncio.create_task(ask("F-1"))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not (await paying.execute(waits)).scalar_one():
            await asyncio.sleep(0.01)
            await paying.execute("SELECT pg_stat_clear_snapshot()")
        assert not asked.done()
    assert (await asked).granted


async def test_twenty_questions_at_once_get_one_answer(ledger: Any, make: Any, ask: Any) -> None:
    await ledger.tell(make.invoice("F-1", "30.00"))
    await ledger.caught_up()
    answers = await asyncio.gather(*(ask("F-1") for _ in range(20)))
    assert len({answer.model_dump_json() for answer in answers}) == 1
    assert await ledger.value("SELECT count(*) FROM permit") == 1


async def test_a_notice_handed_over_is_audited(ledger: Any, make: Any, ask: Any) -> Any:
    await ledger.tell(make.invoice("F-1", "30.00"))
    await ledger.caught_up()
    answer = await ask("F-1")

    def sent(at: datetime, notice_id: UUID) -> notifications.NoticeSent:
        return notifications.NoticeSent(
            company="acme-mx", notice_id=notice_id, customer="C1", purpose="dunning", channel="email", attempt=1,
            delivery="live", handed_at=at, sent_on=date(2027, 1, 4), outcome="known",
        )  # fmt: skip

    await ledger.tell(sent(answer.asked_at + timedelta(seconds=5), NOTICE))
    assert await ledger.value("SELECT handed_at FROM permit") == answer.asked_at + timedelta(seconds=5)
    await ask("F-1", notice_id=UUID(int=2))
    await ledger.tell(make.payment("P", "30.00", "F-1"))
    await ledger.tell(sent(clock.utc_now() + timedelta(seconds=20), UUID(int=2)))
    ledger.expected_broken = {"notice_after_settlement"}


async def test_money_of_nobody_that_may_be_this_debt_s_stops_its_notice_until_a_person_says_no(
    ledger: Any, make: Any, ask: Any
) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), make.invoice("F-2", "50.00"))
    await ledger.tell(make.payment("P", "100.00", nobody=True))
    matcher = Matcher(ledger.database, ledger.context.companies)
    while await matcher.run():
        pass
    await ledger.caught_up()

    answer = await ask("F-1", "F-2")
    assert ([line.number for line in answer.lines], reasons(answer)) == (["F-2"], ["covered_by_credit"])

    suggestion_id = await ledger.value("SELECT suggestion_id FROM suggestion WHERE state = 'open'")
    async with ledger.database.transaction() as tx:
        await matcher.reject(tx, company="acme-mx", suggestion_id=suggestion_id, by="ana", reason="of another company")
    assert [line.number for line in (await ask("F-1", attempt=2)).lines] == ["F-1"]
