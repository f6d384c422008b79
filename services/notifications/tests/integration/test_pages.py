"""Every notice can be read by a person and by a program: state, history, text as sent."""

from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from cobranza.chassis import http, page
from cobranza.notifications.api import PAGES, router


@pytest.fixture
async def client(service: Any, companies: Any, business_clock: Any) -> Any:
    context: Any = SimpleNamespace(
        database=service.database, companies=companies, settings=SimpleNamespace(local_mode=True), clock=business_clock
    )
    app = http.create_app(
        {"notifications": router(context)},
        access=http.LocalAccess(),
        frame=page.Frame(companies=companies, clock=business_clock),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
async def sent(service: Any, told: Any) -> Any:
    await service.tell(told.event(told.customer()), told.event(told.invoice()), told.event(told.requested()))
    await service.sender.run()
    return await service.notice()


async def test_the_list_finds_a_message_by_its_customers_name(client: Any, sent: Any) -> None:
    found = await client.get("/notifications/?company=acme-mx&q=ferreter")
    missed = await client.get("/notifications/?company=acme-mx&q=nobody")

    assert "Factura F-1: 1,160.00 MXN por pagar" in found.text
    assert found.status_code == missed.status_code == 200
    assert "Ningún mensaje coincide." in missed.text


async def test_the_list_filters_by_state(client: Any, sent: Any) -> None:
    waiting = await client.get("/notifications/?company=acme-mx&state=queued")

    assert "Factura F-1" not in waiting.text


async def test_an_empty_state_filter_shows_everything(client: Any, sent: Any) -> None:
    shown = await client.get("/notifications/?company=acme-mx&q=&state=")

    assert "Factura F-1" in shown.text


async def test_a_message_shows_text_headers_and_history(client: Any, sent: Any) -> None:
    shown = await client.get(f"/notifications/messages/{sent.notice_id}?company=acme-mx&lang=en")

    assert shown.status_code == 200
    for words in ("permit granted", "Message-ID", "Le escribe Acme", "1,160.00 MXN"):
        assert words in shown.text


async def test_the_letter_is_shown_without_any_right(client: Any, sent: Any) -> None:
    shown = await client.get(f"/notifications/messages/{sent.notice_id}/html?company=acme-mx")

    assert shown.text == sent.body_html
    assert shown.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


async def test_a_program_reads_notices_and_pages_through_them(client: Any, service: Any, sent: Any, told: Any) -> None:
    await service.tell(told.event(told.requested(run=2)))

    first = (await client.get("/notifications/v1/notices?company=acme-mx&limit=1")).json()
    second = (
        await client.get(
            "/notifications/v1/notices", params={"company": "acme-mx", "limit": 1, "cursor": first["next_cursor"]}
        )
    ).json()

    assert {first["items"][0]["run"], second["items"][0]["run"]} == {1, 2}
    assert second["next_cursor"] is None


async def test_one_notice_is_answered_with_its_text_and_its_permit(client: Any, sent: Any) -> None:
    answered = await client.get(f"/notifications/v1/notices/{sent.notice_id}?company=acme-mx")

    notice = answered.json()
    assert notice["permit"]["claimed"] == {"amount": "1160.00", "currency": "MXN"}
    assert [moment["state"] for moment in notice["history"]] == ["queued", "permitted", "sending", "sent"]
    unchanged = await client.get(answered.request.url, headers={"If-None-Match": answered.headers["etag"]})
    assert unchanged.status_code == 304


async def test_another_companys_notice_does_not_exist(client: Any, sent: Any) -> None:
    answered = await client.get(f"/notifications/v1/notices/{sent.notice_id}?company=live-us")

    assert answered.status_code == 404


def test_every_text_of_the_pages_has_its_spanish() -> None:
    assert PAGES.untranslated() == set()
