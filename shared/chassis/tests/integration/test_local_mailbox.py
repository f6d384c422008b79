"""The mail sink keeps every message whole and shows it without running it."""

import asyncio
import smtplib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path

import pytest
from httpx import ASGITransport, AsyncClient

from cobranza.chassis import http, page
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.local import ports
from cobranza.chassis.local.mailbox import MAX_MESSAGE_BYTES, Mailbox, serve
from cobranza.chassis.local.mailbox_pages import PAGES, mailbox_router


@pytest.fixture
async def smtp_port(tmp_path: Path) -> AsyncIterator[int]:
    port = ports.choose(())
    async with await serve(Mailbox(tmp_path), port=port):
        yield port


def _letter(subject: str = "Factura vencida") -> EmailMessage:
    letter = EmailMessage()
    letter["From"] = "Cobranza Acme <cobranza@acme.test>"
    letter["To"] = "peña@cliente.test"
    letter["Subject"] = subject
    letter.set_content("Le debemos recordar MXN 1,160.00 — ñandú")
    letter.add_alternative("<p>Le <script>alert(1)</script>recordamos</p>", subtype="html")
    return letter


def _send(port: int, *letters: EmailMessage) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        for letter in letters:
            client.send_message(letter, "bounces@acme.test", ["pena@cliente.test"])


async def test_a_received_message_is_kept_with_text_html_headers_and_envelope(smtp_port: int, tmp_path: Path) -> None:
    await asyncio.to_thread(_send, smtp_port, _letter())

    (summary,) = Mailbox(tmp_path).messages()
    message = Mailbox(tmp_path).message(summary.id)
    assert (summary.sender, summary.recipients) == ("bounces@acme.test", ("pena@cliente.test",))
    assert summary.subject == "Factura vencida"
    assert "ñandú" in message.text
    assert "recordamos" in message.html
    assert dict(message.headers)["To"] == "peña@cliente.test"


async def test_a_thousand_messages_over_many_connections_are_all_kept(smtp_port: int, tmp_path: Path) -> None:
    def send_fifty(sender: int) -> None:
        _send(smtp_port, *(_letter(f"Aviso {sender}-{number}") for number in range(50)))

    def send_all() -> None:
        with ThreadPoolExecutor(max_workers=20) as senders:
            list(senders.map(send_fifty, range(20)))

    await asyncio.to_thread(send_all)

    subjects = {message.subject for message in Mailbox(tmp_path).messages()}
    assert subjects == {f"Aviso {sender}-{number}" for sender in range(20) for number in range(50)}


async def test_a_message_over_ten_megabytes_is_refused(smtp_port: int, tmp_path: Path) -> None:
    letter = _letter()
    letter.add_attachment(b"x" * MAX_MESSAGE_BYTES, maintype="application", subtype="octet-stream", filename="x")

    with pytest.raises(smtplib.SMTPException):
        await asyncio.to_thread(_send, smtp_port, letter)

    assert Mailbox(tmp_path).messages() == []


async def test_search_looks_into_the_text_without_regard_to_capitals(smtp_port: int, tmp_path: Path) -> None:
    await asyncio.to_thread(_send, smtp_port, _letter("Uno"), _letter("Dos"))

    mailbox = Mailbox(tmp_path)

    assert [message.subject for message in mailbox.messages(search="dos")] == ["Dos"]
    assert len(mailbox.messages(search="ÑANDÚ")) == 2
    assert mailbox.messages(search="nowhere") == []


async def test_pages_show_the_message_and_never_run_it(tmp_path: Path, business_clock: BusinessClock) -> None:
    kept = Mailbox(tmp_path).keep(
        _letter("<b>Factura</b>").as_bytes(), sender="a@acme.test", recipients=["b@cliente.test"]
    )
    app = http.create_app(
        {"mailbox": mailbox_router(tmp_path)},
        access=http.LocalAccess(),
        frame=page.Frame(clock=business_clock, companies=()),
    )
    async with AsyncClient(transport=ASGITransport(app), base_url="http://127.0.0.1") as client:
        inbox = await client.get("/mailbox/")
        shown = await client.get(f"/mailbox/messages/{kept.id}")
        html = await client.get(f"/mailbox/messages/{kept.id}/html")
        listed = await client.get("/mailbox/v1/messages")
        missing = await client.get("/mailbox/messages/none")

    assert "&lt;b&gt;Factura" in inbox.text
    assert "<script>" not in shown.text
    assert 'sandbox title="' in shown.text
    assert html.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert listed.json()[0]["subject"] == "<b>Factura</b>"
    assert missing.status_code == 404


def test_every_text_of_the_pages_has_its_spanish() -> None:
    assert PAGES.untranslated() == set()
