"""Each page answers its question first, leads from every figure to its rows, and has its designed states."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from datetime import UTC, date, datetime
from typing import Any

import httpx
import pytest

TODAY = date(2027, 1, 4)


@pytest.fixture
async def portfolio(analytics: Any, told: Any) -> Any:
    await analytics.tell(told.customer("C-1", "Ferretería Núñez"), told.customer("C/2", "+Ortega & Hijos"))
    await analytics.tell(told.invoice("F-1"))
    await analytics.tell(
        told.receivable("F-1"),
        told.receivable("F-2", issued="300.00", customer="C/2", issued_on=date(2026, 12, 20), due_on=date(2027, 1, 19)),
        told.receivable("F-3", issued="75.00", currency="USD", due_on=date(2026, 12, 31)),
        told.credit("25.00", customer="C/2"),
        told.payment("P-1", "500.00"),
        told.payment("P-2", "40.00", customer=None),
    )
    await analytics.tell(told.case_opened(), told.hold_placed())
    await analytics.tell(told.notice_sent(), told.notice_suppressed("other", customer="C/2"))
    return analytics


def _text(answered: httpx.Response) -> str:
    assert answered.status_code == 200, answered.text
    content = answered.text.partition("<main")[2].partition("</main>")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"</?strong>", "", content)).split())


async def test_today_opens_with_the_answer(client: Any, portfolio: Any) -> None:
    shown = _text(await client.get("/?company=acme-mx&lang=es"))

    assert "1,160.00 MXN vencidos en 1 cliente, el 79.5% de lo que está por cobrar." in shown
    assert "540.00 MXN" in shown
    assert "2 pagos, lun 04-ene-2027" in shown
    assert "de 2 pedidos, lun 04-ene-2027" in shown
    assert "Cobranza en pausa: lo pidió el cliente" in shown


async def test_today_speaks_english_and_another_currency(client: Any, portfolio: Any) -> None:
    shown = _text(await client.get("/?company=acme-mx&currency=USD&lang=en"))

    assert "75.00 USD overdue at 1 customer, 100.0% of what is open." in shown
    assert "Other currencies" in shown


async def test_every_figure_of_today_leads_to_rows_that_are_there(client: Any, portfolio: Any) -> None:
    shown = await client.get("/?company=acme-mx")

    content = shown.text.partition("<main")[2].partition("</main>")[0]
    links = {link.replace("&amp;", "&") for link in re.findall(r'href="(/analytics/[^"#]*)"', content)}
    answers = {link: (await client.get(link.removeprefix("/analytics"))).status_code for link in links}
    assert len(links) >= 10
    assert {link for link, status in answers.items() if status != 200} == set()
    assert 'href="/dunning/cases?company=acme-mx"' in content


async def test_nothing_overdue_is_said_as_good_news(client: Any, analytics: Any, told: Any) -> None:
    await analytics.tell(told.receivable(due_on=date(2027, 3, 1)))

    shown = _text(await client.get("/?company=acme-mx&lang=es"))

    assert "No hay nada vencido; 1,160.00 MXN aún no vencen." in shown


async def test_a_company_without_events_is_told_what_to_do(client: Any, analytics: Any) -> None:
    shown = _text(await client.get("/?company=andes-cl&lang=es"))

    assert "Todavía no ha llegado nada de esta empresa." in shown
    assert "Cómo publicar el primer evento" in shown


async def test_figures_that_are_behind_say_since_when(client: Any, portfolio: Any) -> None:
    await portfolio.change("UPDATE progress SET caught_up_at = TIMESTAMPTZ '2020-05-06 18:30Z'")

    for path in ("/", "/portfolio", "/customers/C-1", "/payments", "/notices"):
        shown = _text(await client.get(f"{path}?company=acme-mx&lang=es"))
        assert "Las cifras pueden estar atrasadas: no se leen eventos desde 06-may-2020 13:30" in shown


async def test_figures_are_marked_as_incomplete_while_the_history_is_read(client: Any, portfolio: Any) -> None:
    await portfolio.change("UPDATE progress SET caught_up_at = NULL WHERE topic = 'cobranza.payments'")

    shown = _text(await client.get("/?company=acme-mx&lang=es"))

    assert "Se está leyendo la historia: las cifras aún no están completas." in shown


async def test_the_portfolio_lists_customers_and_adds_them_up(client: Any, portfolio: Any) -> None:
    shown = _text(await client.get("/portfolio?company=acme-mx&lang=es"))

    assert "2 clientes deben 1,460.00 MXN, de ellos 1,160.00 vencidos, al cierre del lun 04-ene-2027." in shown


async def test_the_portfolio_is_filtered_by_the_address(client: Any, portfolio: Any) -> None:
    async def names(query: str) -> list[str]:
        answered = await client.get(f"/portfolio?company=acme-mx&{query}")
        return re.findall(r'<th scope="row">\s*<a [^>]*title="([^"]*) ·', answered.text)

    unapplied = _text(await client.get("/portfolio?company=acme-mx&show=unapplied&lang=es"))
    assert "25.00 MXN de 1 pagador sin aplicar al cierre del lun 04-ene-2027." in unapplied
    assert await names("show=overdue") == ["Ferretería Núñez"]
    assert await names("show=unapplied") == ["+Ortega &amp; Hijos"]
    assert await names("bucket=current") == ["+Ortega &amp; Hijos"]
    assert await names("q=NÚÑEZ") == ["Ferretería Núñez"]
    assert await names("bucket=&q=") == ["Ferretería Núñez", "+Ortega &amp; Hijos"]


async def test_the_portfolio_of_a_past_day_is_the_one_of_that_day(client: Any, portfolio: Any) -> None:
    shown = _text(await client.get("/portfolio?company=acme-mx&as_of=2026-12-01&lang=es"))

    assert "1 cliente debe 1,160.00 MXN, de ellos 0.00 vencidos, al cierre del mar 01-dic-2026." in shown


async def test_a_date_that_is_none_is_explained_beside_its_field(client: Any, portfolio: Any) -> None:
    answered = await client.get("/portfolio?company=acme-mx&as_of=31/12/2026&lang=es")

    assert 'href="#as_of"' in answered.text
    assert "La fecha se escribe año-mes-día" in _text(answered)


async def test_the_portfolios_export_holds_what_the_page_shows_and_no_formula(client: Any, portfolio: Any) -> None:
    answered = await client.get("/portfolio?company=acme-mx&show=unapplied&format=csv")

    (row,) = csv.DictReader(io.StringIO(answered.text.removeprefix("\ufeff"), newline=""))
    assert (row["customer"], row["name"], row["unapplied"]) == ("C/2", "'+Ortega & Hijos", "25.00")


async def test_a_long_portfolio_is_turned_in_parts(client: Any, analytics: Any, told: Any) -> None:
    await analytics.tell(*(told.receivable(f"F-{n}", customer=f"C-{n:03}") for n in range(60)))

    first = await client.get("/portfolio?company=acme-mx&lang=es")
    second = await client.get("/portfolio?company=acme-mx&part=2&lang=es")

    assert "1\u201350 de 60" in _text(first)
    assert 'rel="next"' in first.text
    assert "51\u201360 de 60" in _text(second)
    assert 'rel="next"' not in second.text


async def test_a_customers_page_says_what_is_owed_and_what_happened(client: Any, portfolio: Any) -> None:
    shown = await client.get("/customers/C-1?company=acme-mx&lang=es")

    text = _text(shown)
    assert "1,160.00 MXN + 75.00 USD vencidos, lo más antiguo hace 34 días." in text
    assert "34 días vencidos" in text
    assert "Factura F-1 emitida por 1,160.00 MXN" in text
    assert "Aviso enviado (cobranza · aviso-1): 1,160.00 MXN" in text
    assert 'href="/dunning/why?company=acme-mx&invoice=F-1"' in shown.text.replace("&amp;", "&")


async def test_a_settled_document_is_shown_when_asked_for(client: Any, portfolio: Any, told: Any) -> None:
    await portfolio.tell(told.receivable("F-1", version=2, allocated="1160.00", effective_on=TODAY))

    open_ones = _text(await client.get("/customers/C-1?company=acme-mx&lang=es"))
    every = _text(await client.get("/customers/C-1?company=acme-mx&state=all&lang=es"))

    assert "✓ saldado" not in open_ones
    assert "✓ saldado" in every


async def test_a_code_with_a_slash_has_its_page_and_its_export(client: Any, portfolio: Any) -> None:
    assert "Ortega" in _text(await client.get("/customers/C/2?company=acme-mx"))

    exported = await client.get("/customers/C/2?company=acme-mx&format=csv")

    (row,) = csv.DictReader(io.StringIO(exported.text.removeprefix("\ufeff"), newline=""))
    assert (row["number"], row["open"]) == ("F-2", "300.00")


async def test_an_unknown_customer_is_a_page_that_says_so(client: Any, portfolio: Any) -> None:
    answered = await client.get("/customers/nobody?company=acme-mx&lang=es", headers={"accept": "text/html"})

    assert answered.status_code == 404
    assert "No encontrado" in answered.text


async def test_the_days_payments_are_behind_the_figure(client: Any, portfolio: Any) -> None:
    shown = _text(await client.get("/payments?company=acme-mx&on=2027-01-04&lang=es"))
    unknown = _text(await client.get("/payments?company=acme-mx&customer=-&lang=es"))

    assert "540.00 MXN cobrados en 2 pagos con fecha valor lun 04-ene-2027." in shown
    assert "Pagador desconocido" in unknown
    assert "Núñez" not in unknown


async def test_the_days_notices_are_behind_the_figure(client: Any, portfolio: Any) -> None:
    shown = _text(await client.get("/notices?company=acme-mx&on=2027-01-04&lang=es"))
    stopped = _text(await client.get("/notices?company=acme-mx&state=suppressed&lang=es"))

    assert "Avisos del lun 04-ene-2027: enviados, 1; no enviados por una razón, 1; fallidos, 0." in shown
    assert "lo detiene una pausa, promesa, plan o disputa" in stopped
    assert "Núñez" not in stopped


@pytest.mark.parametrize(("path", "columns"), [("/payments", "value_on"), ("/notices", "on_date")])
async def test_the_rows_of_a_day_can_be_taken_away(client: Any, portfolio: Any, path: str, columns: str) -> None:
    answered = await client.get(f"{path}?company=acme-mx&format=csv")

    rows = list(csv.DictReader(io.StringIO(answered.text.removeprefix("\ufeff"), newline="")))
    assert {row[columns] for row in rows} == {"2027-01-04"}
    assert "'+Ortega & Hijos" in {row["name"] for row in rows} or path == "/payments"


async def test_nothing_that_matches_says_so(client: Any, portfolio: Any) -> None:
    for path in ("/portfolio?q=zzz", "/payments?on=1999-01-01", "/notices?on=1999-01-01"):
        shown = _text(await client.get(f"{path}&company=acme-mx&lang=es"))
        assert "coincide" in shown


async def test_the_live_stream_tells_the_figures_again_when_they_change(
    address: Any, portfolio: Any, told: Any
) -> None:
    (newest,) = await portfolio.query("SELECT max(seq) AS seq FROM feed")
    follow = f"{address}/live?company=acme-mx&lang=es&after={newest.seq}"
    async with httpx.AsyncClient(timeout=30) as client, client.stream("GET", follow) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.aiter_lines()
        first = await _message(lines)
        await portfolio.tell(told.payment("P-3", "60.00"))
        second = await _message(lines)

    assert "540.00" in first
    assert "Nada nuevo" in first
    assert "600.00" in second
    assert "Ver 1 nuevo" in second


async def _message(lines: Any) -> str:
    """The data of the next message."""
    data: list[str] = []
    async with asyncio.timeout(20):
        async for line in lines:
            if line.startswith("data:"):
                data.append(line.removeprefix("data:"))
            elif not line and data:
                return "\n".join(data)
    raise AssertionError("the stream ended")


async def test_the_clock_decides_which_day_is_today(client: Any, portfolio: Any, business_clock: Any) -> None:
    business_clock.set(datetime(2027, 2, 10, 18, tzinfo=UTC))

    shown = _text(await client.get("/?company=acme-mx&lang=es"))

    assert "1,460.00 MXN vencidos en 2 clientes" in shown
    assert "0.00 MXN" in shown
