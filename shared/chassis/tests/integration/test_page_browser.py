"""The frame in a real browser: layout, keyboard, accessibility, no console error."""

import asyncio
import importlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
import uvicorn
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

DEMO = str(Path(__file__).parents[1] / "demo")
WIDTHS = (390, 820, 1280)
Scheme = Literal["light", "dark"]


@pytest.fixture
async def address(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    monkeypatch.syspath_prepend(DEMO)
    demo_service = importlib.import_module("demo_service")

    server = uvicorn.Server(uvicorn.Config(demo_service.create_app(), host="127.0.0.1", port=0, log_config=None))
    config_socket = server.config.bind_socket()
    serving = asyncio.create_task(server.serve(sockets=[config_socket]))
    yield f"http://127.0.0.1:{config_socket.getsockname()[1]}"
    server.should_exit = True
    await serving
    config_socket.close()
    del sys.modules["demo_service"]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if program is None:
        pytest.skip("neither chromium nor google-chrome is on the path")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        await browser.close()


async def open_page(
    browser: Browser, address: str, *, width: int = 1280, scheme: Scheme = "light"
) -> tuple[Page, list[str]]:
    page = await browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        locale="es-MX",
    )
    faults: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            faults.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: faults.append(str(error)))
    await page.goto(address)
    return page, faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
async def test_the_page_fits_and_is_accessible(
    browser: Browser, address: str, tmp_path: Path, width: int, scheme: Scheme
) -> None:
    for path in ("/demo/", "/demo/empty", "/demo/absent"):
        page, faults = await open_page(browser, address + path, width=width, scheme=scheme)
        await page.screenshot(path=tmp_path / "page.png", full_page=True)
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(overflow) <= 0
        found = await Axe().run(page)
        serious = [
            (one["id"], [node["html"] for node in one["nodes"]])
            for one in found.response["violations"]
            if one["impact"] in {"serious", "critical"}
        ]
        assert serious == []
        # A missing page is refused with 404, which the browser itself reports.
        assert [fault for fault in faults if "404" not in fault] == []
        await page.close()


async def test_every_journey_works_by_keyboard(browser: Browser, address: str) -> None:
    page, faults = await open_page(browser, f"{address}/demo/")
    await page.keyboard.press("/")
    search = page.locator("[data-search]")
    await expect(search).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(search).not_to_be_focused()
    rows = page.locator("[data-rows] tr")
    for key, row in (("j", 0), ("j", 1), ("k", 0), ("j", 1)):
        await page.keyboard.press(key)
        await expect(rows.nth(row)).to_be_focused()
    await page.keyboard.press("?")
    await expect(page.locator("#keys")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator("#keys")).to_be_hidden()
    await rows.nth(1).focus()
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/demo/empty?row=2")
    await page.keyboard.press("Escape")
    await page.wait_for_url("**/demo/")
    assert faults == []


async def test_another_company_is_chosen_without_a_button(browser: Browser, address: str) -> None:
    page, _ = await open_page(browser, f"{address}/demo/")
    await page.select_option("select[name=company]", "andes")
    await page.wait_for_url("**company=andes**")
    await expect(page.locator(".band")).to_have_count(1)


async def test_what_cannot_be_taken_back_is_asked_first(browser: Browser, address: str) -> None:
    page, _ = await open_page(browser, f"{address}/demo/")
    await page.click("[data-open=release]")
    dialog = page.locator("#release")
    await expect(dialog).to_contain_text("Se enviarán 214 correos a 198 clientes.")
    await dialog.get_by_role("button", name="Cancelar").click()
    await expect(dialog).to_be_hidden()
