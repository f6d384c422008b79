"""Unapplied payments by HTTP: programs and people see what is suggested and why, and decide."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from datetime import date
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import async_playwright, expect

from cobranza.chassis import http, page
from cobranza.contracts import dunning
from cobranza.payments.api import PAGES, router
from cobranza.payments.use_cases import Matcher

MINE = {"company": "acme-mx"}


def application(ledger: Any) -> Any:
    return http.create_app(
        {"payments": router(ledger.context)},
        access=http.LocalAccess(),
        frame=page.Frame(companies=ledger.context.companies, clock=ledger.context.clock),
        cursor_secret=b"s" * 32,
    )


@pytest.fixture
async def client(ledger: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=application(ledger))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/payments") as client:
        yield client


async def three_debts(ledger: Any, make: Any) -> None:
    """Three debts, and money for two of them: only a person may say so."""
    await ledger.tell(*(make.invoice(f"F-{n}", f"{n}0.00") for n in (1, 2, 4)), make.payment("P-1", "50.00"))
    matcher = Matcher(ledger.database, ledger.context.companies)
    while await matcher.run():
        pass


async def listed(client: httpx.AsyncClient) -> list[Any]:
    answer = await client.get("/v1/unapplied", params=MINE)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def test_a_program_sees_suggestions_with_their_reasons_and_accepts_one(
    ledger: Any, make: Any, client: httpx.AsyncClient
) -> None:
    await three_debts(ledger, make)
    (one,) = await listed(client)
    best = one["suggestions"][0]
    assert (one["unapplied"], one["reason"], best["rule"], best["confidence"]) == (
        {"amount": "50.00", "currency": "MXN"}, "below_threshold", "r7-debts-in-sum@1", "0.80",
    )  # fmt: skip
    seen = sorted((debt["number"], debt["open"]) for debt in best["inputs"]["debts"])
    assert seen == [("F-1", "10.00"), ("F-4", "40.00")]
    address = f"/v1/suggestions/{best['suggestion_id']}/accept"
    done = await client.post(address, params=MINE, json={"reason": "told by phone"})
    again = await client.post(address, params=MINE, json={"reason": "told by phone"})
    assert (done.json()["is_repeat"], again.json()["is_repeat"], await listed(client)) == (False, True, [])
    assert (await client.post(address, params={"company": "fed-mx"}, json={"reason": "mine"})).status_code == 404


async def test_a_program_splits_moves_and_undoes_and_every_refusal_says_what_to_do(
    ledger: Any, make: Any, client: httpx.AsyncClient
) -> None:
    await three_debts(ledger, make)
    (one,) = await listed(client)
    address = f"/v1/receipts/{one['receipt_id']}"

    def asked(number: str, amount: str, action: int, currency: str = "MXN", **changes: Any) -> dict[str, Any]:
        money = {"amount": amount, "currency": currency}
        line = {"receivable_id": str(make.receivable_id(number)), "amount": money}
        return {"action_id": str(UUID(int=action)), "lines": [line], "reason": "by phone", **changes}

    async def post(path: str, body: Any) -> tuple[int, Any]:
        answer = await client.post(f"{address}/{path}", params=MINE, json=body)
        return answer.status_code, answer.json()

    assert (await post("allocations", asked("F-2", "20.00", 1)))[1]["unapplied"]["amount"] == "30.00"
    assert (await post("allocations", asked("F-2", "20.00", 1)))[1]["is_repeat"]
    assert (await post("allocations", asked("F-4", "40.00", 2, verb="move")))[1]["unapplied"]["amount"] == "10.00"
    status, problem = await post("allocations", asked("F-2", "10.01", 3))
    assert (status, problem["type"].rpartition("/")[2]) == (409, "match-refused")
    assert "1000 are left" in problem["detail"]
    status, problem = await post("allocations", asked("F-2", "1.00", 4, currency="USD"))
    assert (status, problem["errors"][0]["pointer"]) == (409, "/lines/0/amount/currency")
    assert (await post("allocations", asked("F-2", "1.00", 5, reason="")))[0] == 422
    assert (await post("allocations", asked("F-2", "-1.00", 6)))[0] == 422
    undone = await post("undo", {"action_id": str(UUID(int=7)), "reason": "wrong customer"})
    assert undone[1]["unapplied"]["amount"] == "50.00"


async def test_the_page_tells_who_says_that_they_paid_and_whether_the_money_is_here(
    ledger: Any, make: Any, client: httpx.AsyncClient
) -> None:
    await ledger.tell(make.payment("P", "60.00"))
    for n, code in enumerate(("C1", "C2"), 1):
        await ledger.tell(
            dunning.HoldPlaced(
                company="acme-mx", hold_id=UUID(int=n), customer=code, scope="customer", reason="payment_claim",
                placed_on=date(2027, 1, 4), until_on=date(2027, 1, 7), by="ana",
            )
        )  # fmt: skip
    shown = (await client.get("/unapplied", params={**MINE, "lang": "en"})).text
    rows = dict(re.findall(r'<th scope="row">(C\d)</th>.*?</span> ((?:not )?found)</span>', shown, re.DOTALL))
    assert rows == {"C1": "found", "C2": "not found"}


async def test_the_page_refuses_what_is_no_amount_and_keeps_the_payment(
    ledger: Any, make: Any, client: httpx.AsyncClient
) -> None:
    await three_debts(ledger, make)
    (one,) = await listed(client)
    form = {"verb": "apply", "action_id": str(UUID(int=1)), "reason": "by phone"}
    for amount, why in (
        ("1,50", "1234.50"),
        ("", "no amount was given"),
        ("NaN", "is no amount"),
        ("9999", "are left"),
    ):
        answer = await client.post(
            f"/unapplied/{one['receipt_id']}",
            params=MINE,
            data={**form, f"amount-{make.receivable_id('F-1')}": amount},
        )
        assert (answer.status_code, why in answer.text) == (409, True), (amount, answer.text)
    assert await ledger.unapplied("C1") == 5000
    assert (await client.get(f"/unapplied/{UUID(int=1)}", params=MINE)).status_code == 404


async def test_a_person_notes_that_money_was_given_back(ledger: Any, make: Any, client: httpx.AsyncClient) -> None:
    await three_debts(ledger, make)
    (one,) = await listed(client)
    address = f"/unapplied/{one['receipt_id']}/refund"
    form = {"action_id": str(UUID(int=1)), "note": "by transfer"}
    for amount, why in (("50.01", "Quedan 50.00 MXN"), ("1,5", "1234.50")):
        answer = await client.post(address, params={**MINE, "lang": "es"}, data={**form, "amount": amount})
        assert (answer.status_code, why in answer.text) == (409, True), answer.text
    assert (await client.post(address, params=MINE, data={**form, "amount": "20.00"})).status_code == 303
    assert (await client.post(address, params=MINE, data={**form, "amount": "20.00"})).status_code == 303
    assert await ledger.unapplied("C1") == 3000


def test_every_word_is_translated() -> None:
    assert PAGES.untranslated() == set()


@pytest.fixture
async def address(ledger: Any, wait_until: Any) -> AsyncIterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(
            application(ledger), host="127.0.0.1", port=0, log_config=None, ws="none", timeout_graceful_shutdown=1
        )
    )
    running = asyncio.create_task(server.serve())
    await wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/payments"
    server.should_exit = True
    await running


@pytest.fixture
async def browser() -> Any:
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if program is None:
        pytest.skip("neither chromium nor google-chrome is on the path")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.mark.parametrize("width", [390, 1280])
async def test_a_person_accepts_a_suggestion_and_takes_it_back(
    ledger: Any, make: Any, address: str, browser: Any, tmp_path: Any, width: int
) -> None:
    await three_debts(ledger, make)
    tab = await browser.new_page(viewport={"width": width, "height": 900}, locale="en")
    await tab.goto(f"{address}/unapplied?company=acme-mx&lang=en")
    await tab.screenshot(path=tmp_path / f"list-{width}.png", full_page=True)
    found = await Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()
    await tab.get_by_role("link", name="P-1").click()
    await expect(tab.get_by_role("heading", name="debts that sum to the amount")).to_be_visible()
    await tab.screenshot(path=tmp_path / f"one-{width}.png", full_page=True)
    found = await Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()
    card = tab.get_by_role("article").first
    await card.get_by_label("Reason").fill("told by phone")
    await card.get_by_role("button", name="Accept").click()
    await expect(tab.get_by_role("heading", name="Applied to")).to_be_visible()
    assert await ledger.unapplied("C1") == 0
    undo = tab.locator("form", has=tab.get_by_role("button", name="Undo all of it"))
    await undo.get_by_label("Reason").fill("wrong invoices")
    await undo.get_by_role("button", name="Undo all of it").click()
    await expect(tab.get_by_text("wrong invoices")).to_be_visible()
    await tab.screenshot(path=tmp_path / f"undone-{width}.png", full_page=True)
    assert await ledger.unapplied("C1") == 5000
