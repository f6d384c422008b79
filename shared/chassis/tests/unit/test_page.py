"""The frame in both languages, its formats, its pieces and its colours."""

import hashlib
import importlib
import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from babel import Locale

from cobranza.chassis import page
from cobranza.chassis.http.problems import CATALOGUE
from cobranza.chassis.page import formats
from cobranza.contracts.money import Money

DEMO = str(Path(__file__).parents[1] / "demo")
STYLE = (resources.files(page) / "static" / "frame.css").read_text(encoding="utf-8")


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.syspath_prepend(DEMO)
    demo_service = importlib.import_module("demo_service")

    transport = httpx.ASGITransport(app=demo_service.create_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
    del sys.modules["demo_service"]


async def test_a_page_speaks_the_language_asked_for(client: httpx.AsyncClient) -> None:
    by_header = await client.get("/demo/", headers={"Accept-Language": "de, en;q=0.8, es;q=0.7"})
    assert by_header.headers["content-language"] == "en"
    assert "18 customers need a call today; 412,300.75 MXN overdue." in by_header.text
    by_address = await client.get("/demo/?lang=es", headers={"Accept-Language": "en"})
    assert "18 clientes necesitan una llamada hoy; 412,300.75 MXN vencidos." in by_address.text
    # The choice is kept by the cookie that came with it.
    kept = await client.get("/demo/", headers={"Accept-Language": "en"})
    assert kept.headers["content-language"] == "es"


async def test_the_frame_shows_company_currency_date_and_mode(client: httpx.AsyncClient) -> None:
    text = (await client.get("/demo/?lang=es")).text
    assert "lun 11-ene-2027" in text
    assert "Fecha simulada" in text
    assert "Modo prueba: no sale ningún mensaje." in text
    other = (await client.get("/demo/?lang=es&company=andes&currency=CLF")).text
    assert "Modo prueba" not in other
    assert "<option selected>CLF</option>" in other
    assert "412.300,7500" in other


async def test_an_unknown_company_is_not_found(client: httpx.AsyncClient) -> None:
    response = await client.get("/demo/?company=nobody&lang=es")
    assert response.status_code == 404
    assert "No encontrado" in response.text


async def test_the_rail_marks_the_page_one_is_on(client: httpx.AsyncClient) -> None:
    text = (await client.get("/demo/?lang=en")).text
    assert re.findall(r'<li><a href="([^"]+)" aria-current="page">(\w+)</a>', text) == [("/demo/", "Today")]


async def test_links_of_the_page_keep_its_address(client: httpx.AsyncClient) -> None:
    text = (await client.get("/demo/?company=acme&q=luna&lang=es")).text
    assert 'href="/demo/?company=acme&amp;q=luna&amp;lang=en"' in text


async def test_pages_hold_no_inline_script_or_style(client: httpx.AsyncClient) -> None:
    for path in ("/demo/", "/demo/empty", "/demo/absent", "/problems/not-found", "/demo/docs"):
        text = (await client.get(path)).text
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", text)


async def test_static_files_are_kept_for_ever_under_their_hash(client: httpx.AsyncClient) -> None:
    text = (await client.get("/demo/")).text
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', text)
    assert len(addresses) == 4
    for address in addresses:
        assert re.fullmatch(r"/static/[\w.-]+\.[0-9a-f]{8}\.(css|js)", address)
        response = await client.get(address)
        assert response.status_code == 200
        assert "immutable" in response.headers["cache-control"]
    assert (await client.get("/static/frame.css")).status_code == 404
    assert (await client.get("/static/..%2F__init__.py")).status_code == 404


async def test_what_a_customer_writes_stays_text(client: httpx.AsyncClient) -> None:
    text = (await client.get("/demo/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")).text
    assert "<script>alert" not in text


async def test_every_page_of_a_company_says_as_of_when_it_is(client: httpx.AsyncClient) -> None:
    shown = (await client.get("/demo/?company=acme&lang=es")).text

    assert re.search(r'<p class="as-of muted">Al <time datetime="\d{4}-\d\d-\d\dT[^"]+" data-age>', shown)


async def test_every_text_has_its_spanish(client: httpx.AsyncClient) -> None:
    assert page.untranslated() == set()
    assert sys.modules["demo_service"].PAGES.untranslated() == set()
    dynamic = {problem.title for problem in CATALOGUE.values()}
    dynamic |= {link.label for link in page.NAVIGATION}
    assert dynamic - page._known_texts(None) == set()


def test_vendored_files_are_those_that_the_list_names() -> None:
    folder = resources.files(page) / "static"
    rows = re.findall(r"\| `([\w.-]+)` \|.*`([0-9a-f]{64})`", (folder / "VENDORED.md").read_text("utf-8"))
    assert {name for name, _ in rows} == {"htmx.min.js", "hx-sse.min.js"}
    for name, digest in rows:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


MX, CL, ES, EN = (
    formats.locale_for("es", "MX"),
    formats.locale_for("es", "CL"),
    formats.locale_for("es", "ES"),
    formats.locale_for("en", None),
)


@pytest.mark.parametrize(
    ("amount", "currency", "locale", "written"),
    [
        ("1160.00", "MXN", MX, "1,160.00"),
        ("1160", "CLP", CL, "1.160"),
        ("0.1234", "CLF", CL, "0,1234"),
        ("1234567.5", "EUR", ES, "1.234.567,50"),
        ("-5", "USD", EN, "\N{MINUS SIGN}5.00"),
        ("0", "USD", EN, "0.00"),
        ("999999999999999.99", "MXN", MX, "999,999,999,999,999.99"),
    ],
)
def test_amounts_are_written_as_the_country_writes_them(
    amount: str, currency: str, locale: Locale, written: str
) -> None:
    money = Money(amount=Decimal(amount), currency=currency)
    assert formats.amount(money, currency=currency, locale=locale) == written
    assert formats.money(money, locale=locale) == f"{written} {currency}"


def test_dates_instants_and_shares_are_written_for_the_reader() -> None:
    assert formats.day(date(2027, 1, 11), locale=MX) == "lun 11-ene-2027"
    assert formats.day(date(2027, 1, 11), locale=EN) == "Mon 11-Jan-2027"
    instant = datetime(2027, 1, 11, 5, 59, tzinfo=UTC)
    zone = ZoneInfo("America/Mexico_City")
    assert formats.moment(instant, zone=zone, locale=MX) == "10-ene-2027 23:59"
    assert formats.percent(Decimal("0.1234"), locale=MX) == "12.3%"
    assert formats.number(1234567, locale=MX) == "1,234,567"


def test_what_is_unknown_is_a_dash_and_not_a_zero() -> None:
    assert formats.amount(None, currency="MXN", locale=MX) == "—"
    assert formats.day(None, locale=MX) == formats.money(None, locale=MX) == "—"


def test_a_country_that_a_language_does_not_know_falls_back() -> None:
    assert str(formats.locale_for("es", "JP")) == "es_419"
    assert str(formats.locale_for("en", "MX")) == "en"


def test_a_long_name_is_cut_in_the_middle() -> None:
    name = "Comercializadora de Materiales del Noroeste, S.A. de C.V."
    cut = formats.middle(name)
    assert len(cut) <= formats.MAX_NAME_CHARACTERS
    assert cut.startswith("Comercializadora")
    assert cut.endswith("S.A. de C.V.")
    assert formats.middle("Acme") == "Acme"


def _palettes() -> list[dict[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
    first = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    return [first, {**first, **dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark))}]


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("palette", _palettes(), ids=["light", "dark"])
def test_every_colour_is_told_from_its_ground(palette: dict[str, str]) -> None:
    for text in ("ink", "muted", "accent", "good", "warn", "bad"):
        for ground in ("surface", "raised"):
            assert _contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
    assert _contrast(palette["on-accent"], palette["accent"]) >= 4.5
    assert _contrast(palette["band-ink"], palette["band"]) >= 4.5
    ages = [palette[f"age-{n}"] for n in range(5)]
    assert all(_contrast(age, palette["surface"]) >= 3 for age in ages)
    lightness = [_luminance(age) for age in ages]
    assert lightness == sorted(lightness, reverse=True)
