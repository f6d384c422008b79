"""Each notice is handed over once, with the permit's figures, whatever fails around it."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from cobranza.contracts.money import Money
from cobranza.notifications import repository
from cobranza.notifications.domain.notice import State
from cobranza.notifications.gateways.mail import Server, SmtpMail
from cobranza.notifications.use_cases.outcomes import Outcomes
from cobranza.notifications.use_cases.sending import MailServers

AGAIN_AT_ONCE = "UPDATE notice SET try_at = clock_timestamp() - interval '1 second'"
LEASE_IS_OVER = "UPDATE notice SET lease_until = clock_timestamp() - interval '1 second'"


@pytest.fixture
async def asked(service: Any, told: Any) -> None:
    await service.tell(
        told.event(told.customer()),
        told.event(told.invoice()),
        told.event(told.requested(lines=("F-1", "F-2")), name="request"),
    )


class Killed(BaseException):
    """The process ends here."""


class KillableMail(SmtpMail):
    """Mail that ends the process at the point a test names."""

    def __init__(self, at: str) -> None:
        self.at = at

    async def connect(self, server: Any) -> Any:
        connection = await super().connect(server)
        killable = self

        class Connection:
            async def address(self, **ends: Any) -> None:
                if killable.at == "before intent":
                    raise Killed
                await connection.address(**ends)

            async def deliver(self, content: Any, *, within_seconds: Any) -> None:
                if killable.at == "after intent":
                    raise Killed
                await connection.deliver(content, within_seconds=within_seconds)
                if killable.at == "before outcome":
                    raise Killed

            async def close(self) -> None:
                await connection.close()

        return Connection()


async def test_a_requested_notice_becomes_one_mail_with_the_permits_amounts(
    service: Any, asked: Any, sink: Any
) -> None:
    await service.sender.run()
    await service.sender.run()

    (mail,) = sink.taken
    notice = await service.notice()
    assert notice.state == "sent"
    assert mail["Subject"] == "[PRUEBA] 2 facturas: 2,320.00 MXN por pagar"
    assert mail["To"] == "Ana Ruiz <ana@nunez.example>"
    assert mail["Message-ID"] == f"<{notice.notice_id}@acme.example>"
    assert mail["X-Cobranza-Delivery"] == "sandbox"
    (sent,) = await service.published()
    assert (sent.type, sent.sequence) == ("notice-sent", 1)
    assert sent.data["claimed"] == {"amount": "2320.00", "currency": "MXN"}
    assert sent.data["delivery"] == "sandbox"
    assert sent.data["outcome"] == "known"
    assert sent.data["sent_on"] == "2027-01-04"
    assert [line["claimed"]["amount"] for line in sent.data["lines"]] == ["1160.00", "1160.00"]
    assert sent.data["contact_decision"]["rule"] == "none"


async def test_a_refused_line_drops_out_of_the_letter_and_the_event(
    service: Any, asked: Any, ledger: Any, sink: Any
) -> None:
    ledger.refuse("F-2", "settled")

    await service.sender.run()

    (mail,) = sink.taken
    assert "F-2" not in mail.get_body(("plain",)).get_content()
    (sent,) = await service.published()
    assert len(sent.data["lines"]) == 1


async def test_credit_is_shown_and_deducted_once(service: Any, asked: Any, ledger: Any, sink: Any) -> None:
    ledger.credit = Money.of("320.00", "MXN")

    await service.sender.run()

    text = sink.taken[0].get_body(("plain",)).get_content()
    assert "Saldo a su favor: \N{MINUS SIGN}320.00 MXN" in text
    assert "Total a pagar: 2,000.00 MXN" in text


async def test_a_settled_receivable_is_never_asked_for(service: Any, asked: Any, ledger: Any, sink: Any) -> None:
    ledger.refuse("F-1", "settled")
    ledger.refuse("F-2", "settled")

    await service.sender.run()

    assert sink.taken == []
    (suppressed,) = await service.published()
    assert (suppressed.type, suppressed.data["reason"]) == ("notice-suppressed", "settled")
    assert suppressed.data["attempt"] == 1
    assert {refusal["reason"] for refusal in suppressed.data["refusals"]} == {"settled"}


async def test_without_a_line_of_its_own_step_the_notice_is_suppressed_as_a_whole(
    service: Any, told: Any, ledger: Any, sink: Any
) -> None:
    await service.tell(told.event(told.customer()), told.event(told.requested(lines=("F-1",), listed=("F-2",))))
    ledger.refuse("F-1", "settled")

    await service.sender.run()

    assert sink.taken == []
    assert (await service.notice()).reason == "facts_changed"


@pytest.mark.parametrize("reason", ["cash_stale", "holds_stale", "input_parked", "unknown_receivable"])
async def test_a_passing_refusal_leaves_the_notice_waiting_and_then_it_goes(
    service: Any, asked: Any, ledger: Any, sink: Any, reason: Any
) -> None:
    ledger.refuse("F-1", reason)
    ledger.refuse("F-2", reason)
    await service.sender.run()
    waiting = await service.notice()
    ledger.refused.clear()
    await service.change(AGAIN_AT_ONCE)

    await service.sender.run()

    assert (waiting.state, waiting.reason) == ("queued", reason)
    assert (await service.notice()).state == "sent"
    assert len(sink.taken) == 1


async def test_nothing_leaves_while_payments_does_not_answer(service: Any, asked: Any, ledger: Any, sink: Any) -> None:
    ledger.is_away = True

    await service.sender.run()

    notice = await service.notice()
    assert (notice.state, notice.reason) == ("queued", "payments_unreachable")
    assert sink.taken == []
    assert await service.published() == []


async def test_a_notice_past_its_time_expires_and_is_told(
    service: Any, asked: Any, business_clock: Any, sink: Any, ledger: Any
) -> None:
    ledger.is_away = True
    await service.sender.run()
    business_clock.set(business_clock.now() + timedelta(days=3))

    await service.sender.run()

    assert sink.taken == []
    (told,) = await service.published()
    assert (told.type, told.data["reason"]) == ("notice-suppressed", "expired")
    assert (await service.notice()).state == "expired"


async def test_back_off_is_real_time_and_passes_while_the_business_clock_stands_still(
    service: Any, asked: Any, ledger: Any, sink: Any, wait_until: Any
) -> Any:
    ledger.is_away = True
    await service.sender.run()
    ledger.is_away = False

    async def is_sent() -> Any:
        await service.sender.run()
        return len(sink.taken) == 1

    await wait_until(is_sent)


async def test_a_crash_before_the_intent_sends_it_later(service: Any, asked: Any, sink: Any) -> None:
    killed = dataclasses.replace(service.sender, mail=KillableMail("before intent"))
    await killed.run()
    await service.sender.run()
    claimed_too_early = len(sink.taken)
    await service.change(LEASE_IS_OVER)

    await service.sender.run()

    assert claimed_too_early == 0
    assert len(sink.taken) == 1
    assert (await service.notice()).attempt == 2


@pytest.mark.parametrize("point", ["after intent", "before outcome"])
async def test_a_crash_after_the_intent_is_unknown_and_never_handed_over_again(
    service: Any, asked: Any, sink: Any, point: Any
) -> None:
    killed = dataclasses.replace(service.sender, mail=KillableMail(point))
    await killed.run()
    taken = len(sink.taken)
    await service.outcomes.recover()
    still_leased = (await service.notice()).state
    await service.change(LEASE_IS_OVER)

    await service.outcomes.recover()
    await service.sender.run()

    assert still_leased == "sending"
    assert (await service.notice()).state == "unknown"
    assert len(sink.taken) == taken
    assert await service.published() == []


async def test_an_unknown_outcome_is_assumed_sent_after_a_day(service: Any, asked: Any, sink: Any) -> None:
    sink.drops_before_reply = True
    await service.sender.run()
    await service.outcomes.recover()
    within_the_day = (await service.notice()).state
    await service.change("UPDATE notice SET changed_at = clock_timestamp() - interval '24 hours'")

    await service.outcomes.recover()
    await service.sender.run()

    assert within_the_day == "unknown"
    (sent,) = await service.published()
    assert (sent.type, sent.data["outcome"]) == ("notice-sent", "assumed")
    assert len(sink.taken) == 1


async def test_an_unknown_outcome_waits_for_a_person_when_the_step_says_so(service: Any, told: Any, sink: Any) -> None:
    await service.tell(told.event(told.customer()), told.event(told.requested(on_unknown="operator")))
    sink.drops_before_reply = True
    await service.sender.run()
    await service.change("UPDATE notice SET changed_at = clock_timestamp() - interval '7 days'")

    await service.outcomes.recover()

    assert (await service.notice()).state == "unknown"


async def test_an_outcome_known_late_corrects_unknown(service: Any, asked: Any) -> None:
    async with service.database.transaction() as tx:
        (notice,) = await repository.claim(tx, limit=1, lease_seconds=60)
        intent = repository.Intent(
            permit=None,
            delivery="sandbox",
            contact_point_id=notice.notice_id,
            language="es-MX",
            contact_decision=notice.contact_decision,
            subject="s",
            text="t",
            html="h",
            headers={},
        )
        sending = await repository.keep_intent(tx, notice, intent, lease_seconds=60)
        assert sending is not None
        await service.outcomes.unknown(tx, sending, detail="found by another process")
    async with service.database.transaction() as tx:
        await service.outcomes.sent(tx, sending, handed_at=tx.now, outcome="known")

    assert (await service.notice()).state == "sent"


async def test_two_senders_never_send_one_notice_twice(service: Any, told: Any, sink: Any) -> None:
    await service.tell(told.event(told.customer()))
    for run in range(1, 31):
        await service.tell(told.event(told.requested(run=run)))

    async def work() -> None:
        while await service.sender.run():
            pass

    await asyncio.gather(*(work() for _ in range(3)))

    ids = [str(mail["Message-ID"]) for mail in sink.taken]
    assert len(ids) == len(set(ids)) == 30
    assert len(await service.published()) == 30


async def test_a_claim_that_was_taken_over_sends_nothing(service: Any, asked: Any, sink: Any) -> None:
    async with service.database.transaction() as tx:
        (late,) = await repository.claim(tx, limit=1, lease_seconds=0)
        customers = await repository.customers_of(tx, [(late.company, late.customer)])
    await service.sender.run()

    await service.sender._send_all([late], customers)

    assert len(sink.taken) == 1


async def test_a_permit_that_ran_out_is_asked_anew(service: Any, asked: Any, ledger: Any, sink: Any) -> None:
    ledger.ttl_seconds = 0
    await service.sender.run()
    ledger.ttl_seconds = 15
    await service.change(AGAIN_AT_ONCE)

    await service.sender.run()

    assert [request.attempt for request in ledger.asked] == [1, 2]
    assert len(sink.taken) == 1


@pytest.mark.parametrize(
    ("reply", "state", "reason"),
    [("550 no such user", "failed", "bounced"), ("450 busy", "queued", None)],
)
async def test_a_refused_recipient_is_certainly_not_sent(
    service: Any, asked: Any, sink: Any, reply: Any, state: Any, reason: Any
) -> None:
    sink.rcpt_reply = reply

    await service.sender.run()

    notice = await service.notice()
    assert (notice.state, notice.reason) == (state, reason)
    assert notice.body_text is None


@pytest.mark.parametrize(
    ("reply", "state", "reason"),
    [("554 refused", "failed", "provider_refused"), ("451 try later", "queued", None)],
)
async def test_a_message_the_server_does_not_take_is_certainly_not_sent(
    service: Any, asked: Any, sink: Any, reply: Any, state: Any, reason: Any
) -> None:
    sink.data_reply = reply

    await service.sender.run()

    notice = await service.notice()
    assert (notice.state, notice.reason) == (state, reason)
    assert sink.taken == []


async def test_a_message_put_off_by_the_server_goes_later_under_the_same_id(
    service: Any, asked: Any, sink: Any
) -> None:
    sink.data_reply = "451 try later"
    await service.sender.run()
    sink.data_reply = "250 taken"
    await service.change(AGAIN_AT_ONCE)

    await service.sender.run()

    assert [mail["Message-ID"] for mail in sink.taken] == [f"<{(await service.notice()).notice_id}@acme.example>"]


async def test_no_connection_leaves_the_notice_waiting_and_asks_no_permit(
    service: Any, asked: Any, sink: Any, ledger: Any
) -> None:
    nowhere = Server("127.0.0.1", 1)
    sender = dataclasses.replace(service.sender, servers=MailServers(nowhere, nowhere))

    await sender.run()

    assert (await service.notice()).state == "queued"
    assert ledger.asked == []


async def test_a_sandbox_company_never_reaches_the_provider(service: Any, asked: Any, sink: Any) -> None:
    sender = dataclasses.replace(
        service.sender, servers=MailServers(service.sender.servers.mailbox, Server("127.0.0.1", 1))
    )

    await sender.run()

    assert (await service.notice()).state == "sent"


@pytest.mark.parametrize(
    ("contacts", "reason"),
    [
        ([], "no_address"),
        ([{"name": "A", "role": "owner", "channel": "email", "value": "not an address"}], "no_address"),
        ([{"name": "A", "role": "owner", "channel": "email", "value": "a@b.example\r\nBcc: x@y.example"}], None),
        (
            [{"name": "A", "role": "owner", "channel": "email", "value": "a@b.example", "consent": "withdrawn"}],
            "opted_out",
        ),
    ],
)
async def test_without_a_usable_address_nothing_leaves(
    service: Any, told: Any, sink: Any, contacts: Any, reason: Any
) -> None:
    if reason is None:
        with pytest.raises(ValueError, match="value"):
            told.customer(contacts=contacts)
        return
    await service.tell(told.event(told.customer(contacts=contacts)), told.event(told.requested()))

    await service.sender.run()

    assert sink.taken == []
    assert (await service.notice()).reason == reason


async def test_a_request_before_its_customer_waits_for_it(service: Any, told: Any, sink: Any) -> None:
    await service.tell(told.event(told.requested()))
    await service.sender.run()
    await service.tell(told.event(told.customer()))
    await service.change(AGAIN_AT_ONCE)

    await service.sender.run()

    assert len(sink.taken) == 1


async def test_a_customer_that_stays_unknown_has_no_address(service: Any, told: Any) -> None:
    await service.tell(told.event(told.requested()))
    await service.change("UPDATE notice SET created_at = clock_timestamp() - interval '2 minutes'")

    await service.sender.run()

    assert (await service.notice()).reason == "no_address"


async def test_an_end_that_cannot_be_written_keeps_no_other_from_its_own(
    service: Any, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in (1, 2, 3):
        await service.tell(told.event(told.requested(run=run)))
    await service.change("UPDATE notice SET created_at = clock_timestamp() - interval '2 minutes'")
    write = Outcomes.suppressed

    async def fails_for_one(self: Outcomes, tx: Any, notice: Any, **why: Any) -> None:
        if notice.run == 2:
            raise RuntimeError("no")
        await write(self, tx, notice, **why)

    monkeypatch.setattr(Outcomes, "suppressed", fails_for_one)

    await service.sender.run()

    rows = await service.query("SELECT run, state FROM notice ORDER BY run")
    assert [(row.run, row.state) for row in rows] == [(1, "suppressed"), (2, "queued"), (3, "suppressed")]


async def test_a_missing_template_fails_and_nothing_leaves(service: Any, told: Any, sink: Any) -> None:
    await service.tell(told.event(told.customer()), told.event(told.requested(template="nothing-like-it")))

    await service.sender.run()

    assert sink.taken == []
    (failed,) = await service.published()
    assert (failed.type, failed.data["reason"]) == ("notice-failed", "template_missing")


async def test_a_channel_nobody_has_suppresses(service: Any, told: Any) -> None:
    await service.tell(
        told.event(told.customer()), told.event(told.requested(channel_plan=[{"channel": "sms", "role": "main"}]))
    )

    await service.sender.run()

    assert (await service.notice()).reason == "channel_unavailable"


async def test_a_payment_is_confirmed_once_without_a_permit(service: Any, told: Any, ledger: Any, sink: Any) -> None:
    payment = told.event(told.payment(), name="payment")
    await service.tell(told.event(told.customer()), payment, payment)

    await service.sender.run()

    (mail,) = sink.taken
    assert mail["Subject"] == "[PRUEBA] Recibimos su pago por 1,160.00 MXN"
    assert ledger.asked == []
    (sent,) = await service.published()
    assert (sent.data["purpose"], sent.data["lines"]) == ("payment_confirmation", [])


async def test_an_old_payment_or_one_of_nobody_is_not_confirmed(service: Any, told: Any, business_clock: Any) -> None:
    on = business_clock.now().date()

    await service.tell(
        told.event(told.payment(value_on=on - timedelta(days=31))), told.event(told.payment(customer=None))
    )

    assert await service.query("SELECT 1 FROM notice") == []


async def test_hostile_names_come_out_as_text(service: Any, told: Any, sink: Any) -> None:
    name = "{{ 7*7 }} <script>alert(1)</script>"
    await service.tell(
        told.event(told.customer(name=name)),
        told.event(told.invoice(concept="<b>{% raw %}")),
        told.event(told.requested()),
    )

    await service.sender.run()

    (mail,) = sink.taken
    html = mail.get_body(("html",)).get_content()
    text = mail.get_body(("plain",)).get_content()
    assert name in text
    assert "<script>" not in html
    assert "{{ 7*7 }} &lt;script&gt;" in html
    assert "&lt;b&gt;{% raw %}" in html


async def test_a_live_companys_mail_goes_to_its_provider_unmarked(
    service: Any, told: Any, sink: Any, ledger: Any
) -> None:
    ledger.lines = {
        line.receivable_id: line
        for line in (told.permit_line("F-1", currency="USD", issued="10.00", open="10.00", claimable="10.00"),)
    }
    ledger.credit = Money.zero("USD")
    await service.tell(
        told.event(told.customer(company="live-us", language="en")),
        told.event(
            told.requested(company="live-us", template="reminder", tone="neutral", language="en", currency="USD")
        ),
    )

    await service.sender.run()

    (mail,) = sink.taken
    assert mail["Subject"] == "Invoice F-1: 10.00 USD to pay"
    assert mail["X-Cobranza-Delivery"] == "live"


async def test_a_copying_company_sends_and_keeps_a_copy(service: Any, told: Any, sink: Any, companies: Any) -> None:
    profile = companies.get("acme-mx").model_copy(update={"delivery": "copy"})
    outcomes = dataclasses.replace(service.outcomes, companies=type(companies)({"acme-mx": profile}))
    await service.tell(told.event(told.customer()), told.event(told.requested()))

    await dataclasses.replace(service.sender, outcomes=outcomes).run()

    assert len(sink.taken) == 2
    assert (await service.notice()).delivery == "copy"
    assert len(await service.published()) == 1


async def test_a_sender_told_to_stop_ends_what_it_has_begun(service: Any, asked: Any, sink: Any) -> Any:
    taken = asyncio.Event()

    class SlowMail(SmtpMail):
        async def connect(self, server: Any) -> Any:
            connection = await super().connect(server)
            deliver = connection.deliver

            async def slowly(content: Any, *, within_seconds: Any) -> None:
                taken.set()
                await asyncio.sleep(0)
                await deliver(content, within_seconds=within_seconds)

            connection.deliver = slowly  # type: ignore[method-assign]  # the test slows it down
            return connection

    running = asyncio.create_task(dataclasses.replace(service.sender, mail=SlowMail()).run())
    await taken.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (await service.notice()).state == State.SENT


async def test_the_database_refuses_an_intent_without_its_text(service: Any, asked: Any) -> None:
    with pytest.raises(Exception, match="notice_intent"):
        await service.change("UPDATE notice SET state = 'sending'")
