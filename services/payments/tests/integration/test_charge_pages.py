"""The pages of late charges: a person sees why an amount is owed, and forgives it, gives it up, or approves that."""

from __future__ import annotations

import asyncio
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
from cobranza.payments.api import PAGES, router
from cobranza.payments.use_cases import Decider
from cobranza.payments.use_cases.decisions import Asked

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


async def charged(ledger: Any, make: Any) -> tuple[UUID, UUID]:
    """A debt late since January of the year before, with interest, a fee of 900, and a step that waits for rules."""
    await ledger.activate("mx")
    await ledger.tell(
        make.invoice("F-100", "58000.00", due_on=date(2026, 1, 11)).model_copy(update={"issued_on": date(2026, 1, 2)}),
        make.step("F-100", on=date(2026, 2, 2)),
        make.step(
            "F-100", effect="fee", step="cargo", on=date(2026, 2, 3),
            terms={"amount": {"amount": "900.00", "currency": "MXN"}},
        ),
        make.step("F-100", step="otro", on=date(2026, 2, 4), charge_rules="mx-contrato"),
    )  # fmt: skip
    rows = await ledger.rows("SELECT receivable_id FROM late_charge ORDER BY kind")
    return rows[0].receivable_id, rows[1].receivable_id


async def ask(ledger: Any, fee: UUID) -> None:
    async with ledger.database.transaction() as tx:
        await Decider(ledger.context.companies).ask(
            tx,
            Asked(
                verb="waive", company="acme-mx", subject_id=fee, action_id=UUID(int=5), reason="goodwill",
                note="told by phone", by="ana",
            ),
        )  # fmt: skip


async def test_the_page_tells_what_is_charged_what_waits_and_why_not(
    ledger: Any, make: Any, client: httpx.AsyncClient
) -> None:
    fee, _ = await charged(ledger, make)
    await ask(ledger, fee)
    for language, words in {
        "en": (
            "F-100/interest",
            "late interest",
            "Waits for a second person",
            "the rules that the policy names are not",
        ),
        "es": ("F-100/interest", "interés moratorio", "Espera a una segunda persona", "no están en vigor"),
    }.items():
        shown = (await client.get("/charges", params={**MINE, "lang": language, "customer": "C1"})).text
        assert [word for word in words if word not in shown] == []


@pytest.mark.parametrize(("language", "said"), [("en", "a second person must"), ("es", "una segunda persona")])
async def test_a_refusal_is_said_in_the_readers_language(
    ledger: Any, make: Any, client: httpx.AsyncClient, language: str, said: str
) -> None:
    fee, _ = await charged(ledger, make)
    params = {**MINE, "lang": language}
    form = {"verb": "waive", "action_id": str(UUID(int=1)), "reason": "goodwill", "note": "by phone"}
    for amount, why in (("900.01", "900.00 MXN"), ("1,50", "1234.50"), ("NaN", "1234.50")):
        answer = await client.post(f"/charges/{fee}", params=params, data={**form, "amount": amount})
        assert (answer.status_code, why in answer.text) == (409, True), answer.text
    assert (await client.post(f"/charges/{fee}", params=params, data=form)).status_code == 303
    answer = await client.post(
        f"/charges/decisions/{UUID(int=1)}", params=params, data={"approve": "approve", "note": "sure"}
    )
    assert (answer.status_code, said in answer.text) == (409, True)
    assert (await client.get(f"/charges/{UUID(int=1)}", params=params)).status_code == 404


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


@pytest.mark.parametrize(("width", "language"), [(390, "es"), (1280, "en")])
async def test_a_person_forgives_interest_and_approves_what_another_asked(
    ledger: Any, make: Any, address: str, browser: Any, tmp_path: Any, width: int, language: str
) -> None:
    fee, _ = await charged(ledger, make)
    await ask(ledger, fee)
    words = {"en": ("Note", "Waive", "Approve"), "es": ("Nota", "Condonar", "Aprobar")}[language]
    tab = await browser.new_page(viewport={"width": width, "height": 900}, locale=language)
    await tab.goto(f"{address}/charges?company=acme-mx&lang={language}&customer=C1")
    await tab.screenshot(path=tmp_path / f"list-{width}.png", full_page=True)
    found = await Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()
    card = tab.get_by_role("article").first
    await card.get_by_label(words[0]).fill("as agreed")
    await card.get_by_role("button", name=words[2]).click()
    await expect(tab.get_by_role("button", name=words[2])).to_have_count(0)
    assert await ledger.value("SELECT open FROM receivable WHERE receivable_id = :i", i=fee) == 0
    await tab.get_by_role("link", name="F-100/interest").click()
    await tab.get_by_label(words[0]).fill("told by phone")
    await tab.screenshot(path=tmp_path / f"one-{width}.png", full_page=True)
    found = await Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()
    await tab.get_by_role("button", name=words[1]).click()
    await expect(tab.get_by_text("told by phone")).to_be_visible()
    await tab.goto(f"{address}/charges/{make.receivable_id('F-100')}?company=acme-mx&lang={language}")
    await tab.screenshot(path=tmp_path / f"debt-{width}.png", full_page=True)
    found = await Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()
    assert await ledger.value("SELECT sum(open) FROM receivable WHERE kind = 'late_charge'") == 0
