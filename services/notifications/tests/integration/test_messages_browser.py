"""The pages in a browser: no error, nothing serious for assistive technology, phone and desk, both schemes."""

from __future__ import annotations

import asyncio
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import async_playwright

from cobranza.chassis import http, page
from cobranza.notifications.api import router


@pytest.fixture
async def address(service: Any, told: Any, companies: Any, business_clock: Any, wait_until: Any) -> Any:
    await service.tell(
        told.event(told.customer()), told.event(told.invoice()), told.event(told.requested(lines=("F-1", "F-2")))
    )
    await service.tell(told.event(told.requested(run=2, template="nothing-like-it")), told.event(told.payment()))
    await service.sender.run()
    await service.tell(told.event(told.requested(run=3)))
    context: Any = SimpleNamespace(
        database=service.database, companies=companies, settings=SimpleNamespace(local_mode=True), clock=business_clock
    )
    app = http.create_app(
        {"notifications": router(context)},
        access=http.LocalAccess(),
        frame=page.Frame(companies=companies, clock=business_clock),
    )
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, ws="none"))
    running = asyncio.create_task(server.serve())
    await wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/notifications"
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_list_and_message_work_in_a_browser(
    address: Any, browser: Any, service: Any, tmp_path: Any, width: Any, scheme: Any
) -> None:
    context = await browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, locale="es-MX")
    tab = await context.new_page()
    faults: list[str] = []
    tab.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))

    await tab.goto(f"{address}/?company=acme-mx")
    await tab.screenshot(path=tmp_path / "list.png", full_page=True)
    axe_list = await Axe().run(tab)
    overflow = await tab.evaluate("document.documentElement.scrollWidth - innerWidth")
    await tab.get_by_role("link", name="2 facturas: 2,320.00 MXN por pagar").click()
    letter = tab.frame_locator("iframe.letter")
    await letter.get_by_text("Total a pagar").wait_for()
    await tab.screenshot(path=tmp_path / "message.png", full_page=True)
    axe_message = await Axe().run(tab)

    assert faults == []
    assert overflow <= 0
    serious = [
        (violation["id"], violation["nodes"][0]["html"])
        for result in (axe_list, axe_message)
        for violation in result.response["violations"]
        if violation["impact"] in {"serious", "critical"}
    ]
    assert serious == []
    assert await tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    await context.close()
