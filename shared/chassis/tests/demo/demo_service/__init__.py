"""A service with one page that uses every piece of the frame."""

from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from zoneinfo import ZoneInfo

from fastapi import APIRouter, FastAPI
from fastapi import Request as HttpRequest
from fastapi.responses import HTMLResponse

from cobranza.chassis import http, page
from cobranza.contracts.money import Money

NOW = datetime(2027, 1, 11, 18, 5, tzinfo=UTC)
MEXICO = ZoneInfo("America/Mexico_City")
COMPANIES = [
    SimpleNamespace(
        company="acme", name="Comercializadora Acme del Centro, S.A. de C.V.", country="MX",
        zone=MEXICO, currencies=("MXN", "USD"), delivery="sandbox",
    ),
    SimpleNamespace(
        company="andes", name="Andes SpA", country="CL", zone=ZoneInfo("America/Santiago"),
        currencies=("CLP", "CLF"), delivery="live",
    ),
]  # fmt: skip
BUCKETS = [
    {"label": label, "value": Decimal(value), "note": "", "href": f"/demo/?bucket={n}"}
    for n, (label, value) in enumerate(
        [("al corriente", "812300.00"), ("1-30", "214500.50"), ("31-60", "96000.00"),
         ("61-90", "41250.00"), ("90+", "60550.25")]
    )
]  # fmt: skip
ROWS = [
    {"customer": f"Cliente {n} de nombre bastante largo, S.A. de C.V.", "open": Decimal(1160 * n),
     "due_on": date(2026, 12, n), "state": tone, "days": 40 - n}
    for n, tone in enumerate(["good", "warn", "bad", "plain", "warn", "bad"], start=1)
]  # fmt: skip
PAGES = page.Pages("demo", package="demo_service")


def create_app() -> FastAPI:
    router = APIRouter()

    @router.get("/", dependencies=[http.scope("demo:read")])
    async def today(request: HttpRequest) -> HTMLResponse:
        view = page.view_of(request)
        return PAGES.render(
            request, "today.html", buckets=BUCKETS, rows=ROWS, now=NOW, zone=view.require_company().zone,
            overdue=Money(amount=Decimal("412300.75"), currency="MXN"),
        )  # fmt: skip

    @router.get("/empty", dependencies=[http.scope("demo:read")])
    async def empty(request: HttpRequest) -> HTMLResponse:
        return PAGES.render(request, "empty.html", now=NOW, zone=MEXICO)

    frame = page.Frame(
        companies=COMPANIES,
        clock=SimpleNamespace(now=lambda: NOW, is_virtual=True),
        navigation=(
            page.Link(label="Today", href="/demo/"),
            page.Link(label="Portfolio", href="/demo/empty"),
            page.Link(label="Mailbox", href="/demo/absent"),
        ),
    )
    return http.create_app({"demo": router}, access=http.LocalAccess(), frame=frame)
