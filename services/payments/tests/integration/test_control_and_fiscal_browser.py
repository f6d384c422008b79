"""Totales de control and Recibos fiscales in a browser, both languages: what is wrong, where, and by when."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import async_playwright, expect

from cobranza.chassis import http, page
from cobranza.contracts import ingress, payments
from cobranza.contracts.money import Money
from cobranza.payments.api import router
from cobranza.payments.use_cases import Expectation


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


@pytest.fixture(params=[390, 1280])
async def tab(request: pytest.FixtureRequest) -> Any:
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if program is None:
        pytest.skip("neither chromium nor google-chrome is on the path")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        tab = await browser.new_page(viewport={"width": request.param, "height": 900})
        faults: list[str] = []
        tab.on("pageerror", lambda error: faults.append(str(error)))
        yield tab
        await browser.close()
    assert faults == []


async def looks_right(tab: Any, path: Path) -> None:
    await tab.screenshot(path=path, full_page=True)
    assert await tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path.name
    found = await Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()


def total(amount: str, count: int, customers: dict[str, str], **changes: Any) -> ingress.ControlTotal:
    return ingress.ControlTotal.model_validate(
        {
            "company": "daily-mx", "system": "sap", "currency": "MXN", "total_on": date(2027, 1, 4),
            "open_count": count, "open_total": Money.of(amount, "MXN"),
            "customers": [{"customer": c, "open_total": Money.of(a, "MXN")} for c, a in customers.items()], **changes,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("language", "answer", "verdict", "differing"),
    [
        ("es", "el ERP y el libro difieren", "difiere", "Clientes con diferencia: 2"),
        ("en", "the ERP and the ledger differ", "differs", "Customers that differ: 2"),
    ],
)
async def test_a_person_sees_which_customers_differ(
    ledger: Any, make: Any, address: str, tab: Any, tmp_path: Path, language: str, answer: str, verdict: str,
    differing: str,
) -> None:  # fmt: skip
    await tab.goto(f"{address}/control-totals?company=daily-mx&lang={language}")
    await looks_right(tab, tmp_path / "empty.png")
    await ledger.tell(make.of(company="daily-mx").invoice("F-1", "41200.00", "8000.00"))
    profile = ledger.context.companies.get("daily-mx")
    ledger.context.clock.set(datetime(2027, 1, 5, 13, tzinfo=UTC))
    async with ledger.database.transaction() as tx:
        assert await Expectation(profile, 6).look(tx) == 1
    await ledger.tell(
        total("49200.00", 2, {"C1": "49200.00"}, run_id="cierre-1", part=1, parts=1),
        total("51200.00", 3, {"C1": "49700.00", "C-9 & Hijos": "1500.00"}, run_id="cierre-2"),
        total("1.00", 1, {}, run_id="cierre-3", part=1, parts=2),
    )
    await ledger.ring()
    await tab.goto(f"{address}/control-totals?company=daily-mx&lang={language}")
    await expect(tab.locator(".answer")).to_contain_text(answer)
    await looks_right(tab, tmp_path / "list.png")
    await tab.get_by_role("row").filter(has_text="cierre-2").get_by_role("link").click()
    await expect(tab.get_by_role("heading", name=differing)).to_be_visible()
    await expect(tab.locator("main")).to_contain_text(verdict)
    await looks_right(tab, tmp_path / "one.png")


@pytest.mark.parametrize(
    ("language", "answer", "issued"),
    [
        ("es", "Recibos vencidos: 1; por emitir en total: 2.", "El ERP lo emitió."),
        ("en", "Receipts overdue: 1; not issued in all: 2.", "The ERP issued it."),
    ],
)
async def test_a_person_sees_which_receipts_are_owed_and_by_when(
    ledger: Any, make: Any, address: str, tab: Any, tmp_path: Path, language: str, answer: str, issued: str
) -> None:
    await tab.goto(f"{address}/fiscal-receipts?company=acme-mx&lang={language}")
    await looks_right(tab, tmp_path / "none.png")
    ledger.context.clock.set(datetime(2027, 4, 28, 18, tzinfo=UTC))
    terms = {"payment_method_code": "PPD", "fiscal_id": "5b6f1d2e-3c4a-4f5b-8d6e-7a8b9c0d1e2f"}
    await ledger.tell(
        make.invoice("A-1", "58000.00", **terms), make.invoice("A-2", "900.00", payment_method_code="PPD")
    )
    await ledger.tell(
        make.payment("P-1", "30000.00", "A-1", value_on=date(2027, 3, 10)),
        make.payment("P-2", "28000.00", "A-1", value_on=date(2027, 4, 28)),
        make.payment("P-3", "100.00", "A-2", value_on=date(2027, 4, 2)),
    )
    last = (await ledger.told(payments.FiscalReceiptDue))[-1]
    answered = ingress.FiscalReceiptAnswered(
        company=last.company, system=make.invoice("X").external.system, customer=last.customer, outcome="issued",
        fiscal_receipt_id=last.fiscal_receipt_id, fiscal_id="8f14e45f-ceea-467f-a0e6-0c5f1d2b3a49",
        answered_on=date(2027, 4, 3),
    )  # fmt: skip
    await ledger.tell(answered)
    await tab.goto(f"{address}/fiscal-receipts?company=acme-mx&lang={language}")
    await expect(tab.locator(".answer")).to_contain_text(answer)
    await looks_right(tab, tmp_path / "open.png")
    await tab.get_by_role("link").filter(has_text="2027").first.click()
    await expect(tab.locator("main")).to_contain_text("5b6f1d2e")
    await looks_right(tab, tmp_path / "due.png")
    await tab.goto(f"{address}/fiscal-receipts/{last.fiscal_receipt_id}?company=acme-mx&lang={language}")
    await expect(tab.locator(".answer")).to_contain_text(issued)
    await looks_right(tab, tmp_path / "issued.png")
    await tab.goto(f"{address}/fiscal-receipts?company=acme-mx&lang={language}&show=answered")
    await expect(tab.locator("tbody")).to_contain_text("A-2 (1)")
