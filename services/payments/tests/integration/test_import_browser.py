"""The page Importar in a browser: a person checks a file, imports it and takes it back; phone and desk."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import async_playwright, expect

from cobranza.chassis import http, page
from cobranza.payments.api import router

_SPEC = importlib.util.spec_from_file_location("bank_files", Path(__file__).parents[1] / "bank_files.py")
assert _SPEC is not None
assert _SPEC.loader is not None
bank = sys.modules["bank_files"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bank)
Entry = bank.Entry


@pytest.fixture
async def address(ledger: Any, wait_until: Any) -> AsyncIterator[str]:
    application = http.create_app(
        {"payments": router(ledger.context)},
        access=http.LocalAccess(),
        frame=page.Frame(companies=ledger.context.companies, clock=ledger.context.clock),
        cursor_secret=b"s" * 32,
    )
    server = uvicorn.Server(
        uvicorn.Config(application, host="127.0.0.1", port=0, log_config=None, ws="none", timeout_graceful_shutdown=1)
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
async def test_a_person_imports_a_file_and_takes_it_back(
    ledger: Any, make: Any, address: str, browser: Any, tmp_path: Path, width: int
) -> None:
    await ledger.tell(make.invoice("F-1", "60.00", currency="USD"))
    file, wrong = tmp_path / "enero.xml", tmp_path / "cortado.xml"
    told = bank.camt(
        Entry("60.00", "A1", invoice="F-1", text="Pago factura F-1"), Entry("5.00", "A2"),
        Entry("9.00", "A3", mark="DBIT"), currency="USD",
    )  # fmt: skip
    file.write_text(told)
    wrong.write_text(told.replace("156.00", "157.00"))
    tab = await browser.new_page(viewport={"width": width, "height": 900}, locale="es-MX")
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))

    async def looks_right(name: str) -> None:
        await tab.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        assert await tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
        found = await Axe().run(tab)
        serious = [
            (one["id"], one["nodes"][0]["html"])
            for one in found.response["violations"]
            if one["impact"] in {"serious", "critical"}
        ]
        assert serious == [], name

    await tab.goto(f"{address}/imports?company=acme-mx")
    await looks_right("empty")
    await tab.locator("input[type=file]").set_input_files(wrong)
    await tab.get_by_role("button", name="Revisar").click()
    await expect(tab.get_by_role("alert")).to_contain_text("closing balance")
    await looks_right("refused")
    await tab.locator("input[type=file]").set_input_files(file)
    await tab.get_by_role("button", name="Revisar").click()
    await expect(tab.locator(".answer")).to_contain_text("2 movimientos nuevos")
    await looks_right("checked")
    assert await ledger.open("F-1") == 6000
    await tab.locator("[data-open=run]").click()
    await tab.locator("dialog[open]").get_by_role("button", name="Importar").click()
    await expect(tab.locator(".answer")).to_contain_text("importado")
    assert await ledger.open("F-1") == 0
    await looks_right("imported")
    await tab.locator("[data-open=undo]").click()
    await tab.locator("dialog[open]").get_by_role("button", name="Deshacer la importación").click()
    await expect(tab.locator(".answer")).to_contain_text("deshecho")
    assert await ledger.open("F-1") == 6000
    await tab.goto(f"{address}/imports?company=acme-mx&lang=en")
    await expect(tab.locator("main")).to_contain_text("undone")
    await looks_right("history")
    assert faults == []
