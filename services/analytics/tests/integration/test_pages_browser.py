"""The pages in a browser: no error, nothing serious for assistive technology, phone and desk, both schemes."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from random import Random
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import async_playwright, expect

TODAY = date(2027, 1, 4)
PATHS = ("/", "/portfolio", "/customers/C-001", "/payments?on=2027-01-04", "/notices?on=2027-01-04")
NAMES = (
    "Ferretería Núñez", "Abarrotes La Económica de Puebla, S.A. de C.V.", "Constructora Peñafiel", "Óptica Ibáñez",
    "Distribuidora de Materiales Eléctricos del Bajío, S. de R.L. de C.V.", "Muebles Ortega e Hijos", "Farmacia Güemes",
    "Hotel Mirador", "Taller Hermanos Cuéllar", "Papelería El Estudiante",
)  # fmt: skip


@pytest.fixture
async def portfolio(analytics: Any, told: Any) -> Any:
    """Forty customers in two currencies, with everything that can happen on a day."""
    random = Random(20270104)  # noqa: S311 - made-up portfolio
    customers = [f"C-{n:03}" for n in range(1, 41)]
    await analytics.tell(
        *(told.customer(code, f"{NAMES[n % len(NAMES)]} {n // 10 or ''}".strip()) for n, code in enumerate(customers))
    )
    receivables, invoices = [], []
    for n in range(220):
        issued_on = TODAY - timedelta(days=random.randrange(1, 190))
        due_on = issued_on + timedelta(days=30)
        amount = f"{random.randrange(900, 90_000)}.{random.randrange(100):02}"
        currency = "USD" if n % 9 == 0 else "MXN"
        customer = customers[min(int(random.expovariate(0.08)), 39)]
        number = f"A-{n + 1:05}"
        invoices.append((issued_on, number, amount, customer, currency))
        paid = random.random() < (0.75 if due_on < TODAY else 0.1)
        receivables.append(
            told.receivable(
                number, issued=amount, issued_on=issued_on, due_on=due_on, customer=customer, currency=currency,
                version=2 if paid else 1, allocated=amount if paid else "0.00", effective_on=due_on if paid else None,
            )
        )  # fmt: skip
    await analytics.tell(
        *(
            told.invoice(number, amount, issued_on=on, customer=customer, currency=currency)
            for on, number, amount, customer, currency in sorted(invoices)
        ),
        *receivables,
        told.credit("4200.00", customer="C-003"),
        told.credit("1350.50", customer=None),
    )
    await analytics.tell(*(told.case_opened(f"case {code}", customer=code) for code in customers[:12]))
    await analytics.tell(
        *(told.notice_sent(f"n-{code}", customer=code, claimed="18450.00") for code in customers[:8]),
        told.notice_suppressed("n-stopped", customer="C-010"),
    )
    await analytics.tell(
        told.payment("P-1", "12500.00", customer="C-001"), told.payment("P-2", "3870.25", customer="C-002"),
        told.payment("P-3", "1350.50", customer=None), told.payment("P-4", "990.00", customer="C-001"),
    )  # fmt: skip
    await analytics.tell(told.reversal("P-4", "990.00", customer="C-001"))
    return analytics


@pytest.fixture
async def browser() -> Any:
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if program is None:
        pytest.skip("neither chromium nor google-chrome is on the path")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        await browser.close()


async def _open(browser: Any, address: str, path: str, *, width: int = 1280, scheme: str = "light") -> Any:
    tab = await browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, locale="es-MX")
    faults: list[str] = []
    tab.on("console", lambda said: faults.append(said.text) if said.type in {"error", "warning"} else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    await tab.goto(f"{address}{path}{'&' if '?' in path else '?'}company=acme-mx", wait_until="load")
    return tab, faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1280])
async def test_every_page_fits_and_is_accessible(
    address: Any, browser: Any, portfolio: Any, tmp_path: Any, width: Any, scheme: Any
) -> None:
    for number, path in enumerate(PATHS):
        tab, faults = await _open(browser, address, path, width=width, scheme=scheme)
        await tab.screenshot(path=tmp_path / f"{number}.png", full_page=True)
        assert await tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        found = await Axe().run(tab)
        serious = [
            (one["id"], one["nodes"][0]["html"])
            for one in found.response["violations"]
            if one["impact"] in {"serious", "critical"}
        ]
        assert serious == [], path
        assert faults == [], path
        await tab.close()


async def test_amounts_of_twenty_thousand_million_fit_a_phone(
    address: Any, browser: Any, portfolio: Any, told: Any
) -> None:
    huge = {"company": "andes-cl", "currency": "CLP"}
    await portfolio.tell(
        told.receivable("CL-1", issued="19935568473", **huge), told.credit("19935568473", customer="C-1", **huge)
    )
    for path in ("/?company=andes-cl", "/portfolio?company=andes-cl&show=unapplied", "/customers/C-1?company=andes-cl"):
        tab = await browser.new_page(viewport={"width": 390, "height": 900}, locale="es-CL")
        await tab.goto(f"{address}{path}")
        await expect(tab.locator("main")).to_contain_text("19.935.568.473")
        assert await tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        await tab.close()


async def test_the_empty_and_the_stale_day_are_accessible_too(address: Any, browser: Any, portfolio: Any) -> None:
    await portfolio.change("UPDATE progress SET caught_up_at = TIMESTAMPTZ '2020-05-06 18:30Z'")
    for path in ("/", "/portfolio?q=zzz", "/portfolio?as_of=x"):
        tab, faults = await _open(browser, address, path)
        await expect(tab.locator(".state").first).to_be_visible()
        found = await Axe().run(tab)
        assert [one["id"] for one in found.response["violations"] if one["impact"] in {"serious", "critical"}] == []
        assert faults == []
        await tab.close()


async def test_what_happens_is_announced_and_shown_at_a_click(
    address: Any, browser: Any, portfolio: Any, told: Any
) -> None:
    tab, faults = await _open(browser, address, "/")
    collected = tab.locator(".figure", has_text="Cobrado hoy")
    await expect(collected).to_contain_text("17,720.75")
    await expect(tab.locator("#now")).to_contain_text("Nada nuevo")
    rows = await tab.locator(".timeline .entry").all_inner_texts()

    await portfolio.tell(told.payment("P-5", "600.00", customer="C-004"))

    await expect(collected).to_contain_text("18,320.75", timeout=15_000)
    assert await tab.locator(".timeline .entry").all_inner_texts() == rows
    await tab.get_by_role("link", name="Ver 1 nuevo").click()
    await expect(tab.locator(".timeline .entry").first).to_contain_text("Pago de 600.00 MXN")
    await expect(tab.locator(".timeline .fresh")).to_have_count(1)
    await expect(tab.locator("#now")).to_contain_text("Nada nuevo")

    await portfolio.tell(told.payment("P-6", "1.00", customer="C-004"))
    await expect(tab.get_by_role("link", name="Ver 1 nuevo")).to_be_visible(timeout=15_000)
    assert faults == []


async def test_focus_stays_where_it_is_when_figures_change(
    address: Any, browser: Any, portfolio: Any, told: Any
) -> None:
    tab, _ = await _open(browser, address, "/")
    link = tab.locator(".figure", has_text="Cobrado hoy").locator("a")
    await link.focus()

    await portfolio.tell(told.payment("P-5", "600.00", customer="C-004"))

    await expect(link).to_have_text("18,320.75", timeout=15_000)
    await expect(link).to_be_focused()


async def test_figures_live_also_when_the_scripts_come_late(
    address: Any, browser: Any, portfolio: Any, told: Any
) -> None:
    tab = await browser.new_page(locale="es-MX")

    async def late(route: Any) -> None:
        await tab.wait_for_timeout(700)
        await route.continue_()

    await tab.route("**/static/hx-sse.*", late)
    await tab.goto(f"{address}/?company=acme-mx", wait_until="load")

    await portfolio.tell(told.payment("P-5", "600.00", customer="C-004"))

    link = tab.locator(".figure", has_text="Cobrado hoy").locator("a")
    await expect(link).to_have_text("18,320.75", timeout=15_000)


async def test_from_a_figure_to_a_document_without_a_mouse(address: Any, browser: Any, portfolio: Any) -> None:
    tab, faults = await _open(browser, address, "/")
    await tab.locator(".figure", has_text="Vencido").locator("a").focus()
    await tab.keyboard.press("Enter")
    await tab.wait_for_url("**/portfolio?**show=overdue**")
    await tab.keyboard.press("j")
    await tab.keyboard.press("Enter")
    await tab.wait_for_url("**/customers/**")
    await tab.keyboard.press("j")
    document = tab.locator("[data-rows] tr:focus a")
    await expect(document).to_have_attribute(
        "href", "/dunning/why?company=acme-mx&invoice=" + await document.inner_text()
    )
    await tab.keyboard.press("Escape")
    await tab.wait_for_url("**/portfolio?**")
    await tab.keyboard.press("/")
    await tab.keyboard.type("peñafiel")
    await tab.keyboard.press("Enter")
    await expect(tab.locator("[data-rows] th").first).to_contain_text("Constructora Peñafiel")
    assert faults == []


async def test_company_and_currency_are_in_the_address(address: Any, browser: Any, portfolio: Any) -> None:
    tab, _ = await _open(browser, address, "/")

    await tab.select_option("select[name=currency]", "USD")
    await tab.wait_for_url("**currency=USD**")

    await expect(tab.locator(".answer")).to_contain_text("USD vencidos")
