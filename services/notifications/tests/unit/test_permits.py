"""Every permit gateway keeps the same contract: one answer per question, or the refusal to trust one."""

from __future__ import annotations

from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from cobranza.contracts.payments import NoticePermitAnswer, NoticePermitRequest
from cobranza.notifications.gateways.permits import HttpPermits, PermitUnavailableError


def payments_api(ledger: Any) -> Any:
    """Payments' route as it is published, over a ledger of a few facts."""
    app = FastAPI()

    @app.post("/payments/v1/notice-permits")
    async def ask(request: NoticePermitRequest) -> NoticePermitAnswer:
        return cast(NoticePermitAnswer, await ledger.ask(request))

    return app


@pytest.fixture(params=["fake", "http"])
async def permits(request: Any, ledger: Any) -> Any:
    if request.param == "fake":
        yield ledger
        return
    gateway = HttpPermits("http://payments.test", transport=httpx.ASGITransport(payments_api(ledger)))
    yield gateway
    await gateway.close()


def question(told: Any, *numbers: Any, attempt: Any = 1) -> Any:
    return NoticePermitRequest.model_validate(
        {
            "notice_id": told.permit_line("notice").receivable_id,
            "attempt": attempt,
            "company": "acme-mx",
            "customer": "C-1",
            "purpose": "dunning",
            "receivable_ids": [told.permit_line(number).receivable_id for number in numbers],
        }
    )


async def test_a_grant_carries_lines_sum_and_life(permits: Any, told: Any) -> None:
    answer = await permits.ask(question(told, "F-1", "F-2"))

    assert answer.granted
    assert [line.number for line in answer.lines] == ["F-1", "F-2"]
    assert str(answer.claimed) == "2320.00 MXN"
    assert answer.ttl_seconds == 15
    assert answer.expires_at is not None


async def test_a_refused_line_is_named_with_its_reason(permits: Any, told: Any, ledger: Any) -> None:
    ledger.refuse("F-2", "settled")

    answer = await permits.ask(question(told, "F-1", "F-2"))

    assert [line.number for line in answer.lines] == ["F-1"]
    assert [(refusal.reason, refusal.is_transient) for refusal in answer.refusals] == [("settled", False)]


async def test_a_refusal_of_everything_is_no_grant(permits: Any, told: Any, ledger: Any) -> None:
    ledger.refuse("F-1", "cash_stale")

    answer = await permits.ask(question(told, "F-1"))

    assert not answer.granted
    assert answer.is_transient
    assert answer.expires_at is None


async def test_a_receivable_nobody_knows_is_refused_for_now(permits: Any, told: Any) -> None:
    answer = await permits.ask(question(told, "F-99"))

    assert answer.is_transient


async def test_the_same_attempt_gets_the_same_answer_and_the_next_a_new_one(
    permits: Any, told: Any, ledger: Any
) -> None:
    first = await permits.ask(question(told, "F-1"))
    ledger.refuse("F-1", "settled")

    assert await permits.ask(question(told, "F-1")) == first
    assert not (await permits.ask(question(told, "F-1", attempt=2))).granted


def answering(status: Any, body: Any) -> Any:
    return HttpPermits(
        "http://payments.test", transport=httpx.MockTransport(lambda _: httpx.Response(status, content=body))
    )


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (403, b"{}"), (404, b""), (302, b""), (200, b"<html>"), (200, b"{}"), (200, b'{"granted": true}')],
)
async def test_anything_but_a_permit_is_no_permit(told: Any, status: Any, body: Any) -> None:
    gateway = answering(status, body)

    with pytest.raises(PermitUnavailableError):
        await gateway.ask(question(told, "F-1"))
    await gateway.close()


async def test_an_answer_to_another_question_is_no_permit(told: Any, ledger: Any) -> None:
    other = await ledger.ask(question(told, "F-1", attempt=7))
    gateway = answering(200, other.model_dump_json().encode())

    with pytest.raises(PermitUnavailableError):
        await gateway.ask(question(told, "F-1"))
    await gateway.close()


async def test_nobody_there_is_no_permit(told: Any) -> None:
    gateway = HttpPermits("http://127.0.0.1:1")

    with pytest.raises(PermitUnavailableError):
        await gateway.ask(question(told, "F-1"))
    await gateway.close()


async def test_the_token_travels_with_the_question(told: Any) -> Any:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(500)

    key = "key-of-notifications"
    gateway = HttpPermits("http://payments.test", token=key, transport=httpx.MockTransport(answer))
    with pytest.raises(PermitUnavailableError):
        await gateway.ask(question(told, "F-1"))
    await gateway.close()

    assert seen == ["Bearer key-of-notifications"]
