"""The page Simulator in a browser: a day and a comparison, watched until they are played; phone and desk, both schemes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import async_playwright, expect

from cobranza.chassis import http, page
from cobranza.dunning import gateways
from cobranza.dunning.use_cases import policies


@pytest.fixture
async def address(service: Any, wait_until: Any) -> AsyncIterator[str]:
    application = http.create_app(
        {"dunning": service.service.router(service.context)},
        access=http.LocalAccess(),
        frame=page.Frame(
            companies=service.context.companies, clock=service.clock, navigation=(*page.NAVIGATION, *service.service.pages)
        ),
        cursor_secret=b"s" * 32,
    )  # fmt: skip
    server = uvicorn.Server(
        uvicorn.Config(application, host="127.0.0.1", port=0, log_config=None, ws="none", timeout_graceful_shutdown=1)
    )
    running = asyncio.create_task(server.serve())
    await wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/dunning/simulator"
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


@pytest.fixture
async def portfolio(service: Any) -> None:
    """Twelve debtors of two segments, some of whom have paid, and a draft that is stricter than what is in force."""
    await service.activate()
    document, _ = gateways.parse(
        gateways.read_source("strict").replace("policy: strict", "policy: friendly-b2b").replace("version: 1", "version: 2")
    )  # fmt: skip
    async with service.database.transaction() as tx:
        await policies.load_policy(service.desk, tx, document, company="acme-mx")
    for n in range(1, 11):
        await service.customer(f"C-{n:02}")
    await service.tell(
        *(
            service.receivable(f"A-{n:05}", f"01-{n + 2:02}", customer=f"C-{n % 12 + 1:02}", issued=owed, open=owed)
            for n, owed in ((n, f"{1800 * n}.50") for n in range(1, 26))
        ),
        service.receivable("A-00099", "01-08", customer="Distribuidora-de-Materiales-Electricos-del-Bajio-0001"),
    )  # fmt: skip


async def _play(service: Any) -> None:
    (job,) = [job for job in service.service.jobs(service.context) if job.name == "trials"]
    assert await job.run()


async def _looks_right(tab: Any, picture: Path) -> None:
    await tab.screenshot(path=picture, full_page=True)
    assert await tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, picture.name
    found = await Axe().run(tab)
    serious = [
        (one["id"], one["nodes"][0]["html"])
        for one in found.response["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == [], picture.name


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1280])
async def test_a_person_simulates_a_day_and_compares_two_versions(
    service: Any, address: str, browser: Any, portfolio: None, tmp_path: Path, width: int, scheme: Any
) -> None:
    tab = await browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, locale="es-MX")
    faults: list[str] = []
    tab.on("console", lambda said: faults.append(said.text) if said.type in {"error", "warning"} else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    language = "es" if scheme == "light" else "en"
    simulate, compare = {"es": ("Simular el día", "Comparar"), "en": ("Simulate the day", "Compare")}[language]
    ready, differ = {
        "es": ("de 13 cuentas", "se les habría tratado de otro modo"),
        "en": ("of 13 accounts", "would have been treated otherwise"),
    }[language]

    await tab.goto(f"{address}?company=acme-mx&lang={language}")
    await _looks_right(tab, tmp_path / "1-empty.png")
    await tab.locator("#on").fill("2027-01-14")
    await tab.get_by_role("button", name=simulate).click()
    await expect(tab.locator("#progress")).to_be_visible()
    await _looks_right(tab, tmp_path / "2-waiting.png")
    await _play(service)
    await expect(tab.locator(".answer")).to_contain_text(ready, timeout=15_000)
    await _looks_right(tab, tmp_path / "3-day.png")

    await tab.locator("main a[href*='/dunning/simulator?']").first.click()
    await tab.locator("#from").fill("2026-12-20")
    await tab.locator("#to").fill("2027-02-28")
    await tab.get_by_role("button", name=compare).click()
    await expect(tab.locator("#progress")).to_be_visible()
    await _play(service)
    await expect(tab.locator(".answer")).to_contain_text(differ, timeout=15_000)
    await _looks_right(tab, tmp_path / "4-comparison.png")
    assert faults == []

    await tab.goto(f"{address}?company=acme-mx")
    await tab.locator("#to").fill("2026-01-01")
    await tab.locator("#from").fill("2026-12-20")
    await tab.get_by_role("button", name=compare).click()
    await expect(tab.get_by_role("alert")).to_be_visible()
    await _looks_right(tab, tmp_path / "5-refused.png")
    await tab.get_by_role("alert").get_by_role("link").click()
    await expect(tab.locator("#to")).to_be_focused()


async def test_without_a_mouse_and_without_a_script(service: Any, address: str, browser: Any, portfolio: None) -> None:
    context = await browser.new_context(java_script_enabled=False, locale="es-MX")
    tab = await context.new_page()
    await tab.goto(f"{address}?company=acme-mx")
    await tab.locator("#on").focus()
    await tab.locator("#on").fill("2027-01-14")
    await tab.keyboard.press("Enter")
    await tab.wait_for_url("**/simulator/*")
    await _play(service)
    await tab.get_by_role("link", name="Volver a mirar").click()
    await expect(tab.locator(".answer")).to_contain_text("se haría algo")
    await context.close()

    tab = await browser.new_page(locale="es-MX")
    await tab.goto(f"{address}?company=acme-mx")
    await tab.keyboard.press("j")
    await tab.keyboard.press("Enter")
    await tab.wait_for_url("**/simulator/*")
    await expect(tab.locator(".answer")).to_contain_text("se haría algo")
    await tab.keyboard.press("Escape")
    await tab.wait_for_url("**/simulator?**")
