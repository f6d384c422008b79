"""Webhooks of payment providers: proved on the raw body, fetched again from a local server, booked once in any order."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from cobranza.chassis import clock, http, page
from cobranza.chassis.settings import SettingsError
from cobranza.contracts.money import Money
from cobranza.payments.api import router
from cobranza.payments.gateways.psp import read_accounts

SIGNED_WITH = "whsec_test"
KEY = "sk_test"
COMPANY = "acme-mx"


class Provider:
    """A provider's API on a local port: answers what a test put there, to whoever has the key."""

    def __init__(self) -> None:
        self.payments: dict[str, dict[str, Any]] = {}
        self.is_down = False
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told = provider.payments.get(urlsplit(self.path).path.rpartition("/")[2])
                status = 200 if told is not None else 404
                if self.headers["Authorization"] != f"Bearer {KEY}":
                    status = 401
                if provider.is_down:
                    status = 500
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(told or {}).encode())

            def log_message(self, *_arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.stop()


@pytest.fixture
async def client(ledger: Any, provider: Provider, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    file = tmp_path / "psp.yaml"
    file.write_text(
        yaml.safe_dump(
            [
                {
                    "company": COMPANY,
                    "provider": name,
                    "webhook_secret": SIGNED_WITH,
                    "api_key": KEY,
                    "base_url": provider.address,
                }
                for name in ("stripe", "mercadopago")
            ]
        )
    )
    settings = ledger.context.settings.model_copy(update={"psp_file": file})
    context = replace(ledger.context, settings=settings)
    app = http.create_app(
        {"payments": router(context)},
        # Nobody has a key: only the signature lets a webhook in.
        access=_NoAccess(),
        frame=page.Frame(companies=context.companies, clock=context.clock),
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://psp.example/payments/v1") as made:
        yield made


class _NoAccess:
    def principal(self, request: Any) -> None:
        del request


def _intent(**changes: Any) -> dict[str, Any]:
    return {
        "id": "pi_1",
        "status": "succeeded",
        "amount": 116_000,
        "amount_received": 116_000,
        "currency": "mxn",
        "created": 1_799_000_000,
        "metadata": {"invoice": "F-1", "customer": "C1"},
        "latest_charge": {"created": 1_799_000_100, "amount_refunded": 0, "disputed": False},
        **changes,
    }


def _stripe_event(kind: str = "payment_intent.succeeded", **changes: Any) -> bytes:
    told = {"id": "pi_1"} if kind.startswith("payment_intent") else {"id": "ch_1", "payment_intent": "pi_1"}
    return json.dumps({"id": "evt_1", "type": kind, "data": {"object": told}, **changes}).encode()


async def _stripe(
    client: httpx.AsyncClient, body: bytes, *, signed_with: str = SIGNED_WITH, age: int = 0, sent: bytes | None = None
) -> httpx.Response:
    stamp = int(clock.utc_now().timestamp()) - age
    signature = hmac.new(signed_with.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return await client.post(
        f"/webhooks/stripe/{COMPANY}",
        content=body if sent is None else sent,
        headers={"Stripe-Signature": f"t={stamp},v1=00,v1={signature},v0=11"},
    )


async def _mercadopago(client: httpx.AsyncClient, payment: str, *, signed_for: str | None = None) -> httpx.Response:
    stamp = int(clock.utc_now().timestamp() * 1000)
    manifest = f"id:{signed_for or payment};request-id:r-1;ts:{stamp};"
    signature = hmac.new(SIGNED_WITH.encode(), manifest.encode(), hashlib.sha256).hexdigest()
    return await client.post(
        f"/webhooks/mercadopago/{COMPANY}",
        params={"data.id": payment, "type": "payment"},
        content=json.dumps({"id": 7, "type": "payment", "action": "payment.updated", "data": {"id": payment}}),
        headers={"x-signature": f"ts={stamp},v1={signature}", "x-request-id": "r-1"},
    )


async def test_a_paid_intent_settles_the_invoice_it_names_once(
    ledger: Any, make: Any, client: httpx.AsyncClient, provider: Provider
) -> None:
    await ledger.tell(make.invoice("F-1", "1160.00"))
    provider.payments["pi_1"] = _intent()

    answers = [await _stripe(client, _stripe_event()) for _ in range(3)]

    assert [(a.status_code, a.json()["outcome"]) for a in answers] == [
        (200, "accepted"),
        (200, "duplicate"),
        (200, "duplicate"),
    ]
    (row,) = await ledger.rows("SELECT open FROM receivable")
    assert row.open == 0
    (kept,) = await ledger.rows("SELECT provider, event_id, payment, times FROM webhook")
    assert tuple(kept) == ("stripe", "evt_1", "pi_1", 3)


@pytest.mark.parametrize(
    "deliver",
    [
        pytest.param(lambda c: _stripe(c, _stripe_event(), signed_with="other"), id="another secret"),
        pytest.param(lambda c: _stripe(c, _stripe_event(), age=301), id="replayed after six minutes"),
        pytest.param(lambda c: _stripe(c, _stripe_event(), age=-301), id="from the future"),
        pytest.param(lambda c: _stripe(c, _stripe_event(), sent=_stripe_event() + b" "), id="one byte changed"),
        pytest.param(lambda c: c.post(f"/webhooks/stripe/{COMPANY}", content=_stripe_event()), id="no signature"),
        pytest.param(lambda c: _stripe(c, b"[]"), id="signed, but no object"),
        pytest.param(lambda c: _mercadopago(c, "2", signed_for="1"), id="signed for another payment"),
    ],
)
async def test_what_is_not_signed_for_this_body_and_time_is_refused_and_books_nothing(
    ledger: Any, client: httpx.AsyncClient, provider: Provider, deliver: Any
) -> None:
    provider.payments["pi_1"] = _intent()

    answer = await deliver(client)

    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/webhook-refused")
    assert await ledger.rows("SELECT 1 FROM receipt UNION ALL SELECT 1 FROM webhook") == []


async def test_the_amount_is_the_provider_s_and_not_the_body_s(
    ledger: Any, client: httpx.AsyncClient, provider: Provider
) -> None:
    provider.payments["pi_1"] = _intent(amount_received=5_000)
    body = _stripe_event(data={"object": {"id": "pi_1", "amount_received": 99_999_900}})

    await _stripe(client, body)

    (row,) = await ledger.rows("SELECT amount, currency FROM receipt")
    assert tuple(row) == (5_000, "MXN")


async def test_a_provider_that_is_down_is_asked_again_when_it_delivers_again(
    ledger: Any, client: httpx.AsyncClient, provider: Provider
) -> None:
    provider.payments["pi_1"] = _intent()
    provider.is_down = True
    first = await _stripe(client, _stripe_event())
    provider.is_down = False

    second = await _stripe(client, _stripe_event())

    assert (first.status_code, first.json()["type"]) == (503, "/problems/provider-unavailable")
    assert second.json()["outcome"] == "accepted"
    assert len(await ledger.rows("SELECT 1 FROM receipt")) == 1


@pytest.mark.parametrize("charge", [{"amount_refunded": 116_000}, {"disputed": True}], ids=["refunded", "disputed"])
@pytest.mark.parametrize("order", [("paid", "back"), ("back", "paid"), ("back", "back")], ids="-".join)
async def test_money_taken_back_is_reversed_whatever_arrives_first(
    ledger: Any,
    make: Any,
    client: httpx.AsyncClient,
    provider: Provider,
    charge: dict[str, Any],
    order: tuple[str, ...],
) -> None:
    await ledger.tell(make.invoice("F-1", "1160.00"))
    bodies = {"paid": _stripe_event(), "back": _stripe_event("charge.refunded", id="evt_2")}
    for step in order:
        # Unordered delivery: the newest state is fetched whichever webhook comes.
        taken_back = step == "back" or order[0] == "back"
        provider.payments["pi_1"] = _intent(latest_charge={"created": 1_799_000_100, **(charge if taken_back else {})})
        answer = await _stripe(client, bodies[step])
        assert answer.status_code == 200, answer.text

    (row,) = await ledger.rows("SELECT open FROM receivable")
    (receipt,) = await ledger.rows("SELECT amount, reversed FROM receipt")
    assert row.open == 116_000
    assert receipt.reversed == receipt.amount


async def test_a_refund_of_a_part_waits_for_a_person_and_says_so(
    ledger: Any, client: httpx.AsyncClient, provider: Provider
) -> None:
    provider.payments["pi_1"] = _intent(latest_charge={"created": 1_799_000_100, "amount_refunded": 1_000})

    answer = await _stripe(client, _stripe_event("charge.refunded"))

    assert answer.status_code == 200
    assert answer.json()["outcome"] == "refused"
    assert "in part" in answer.json()["detail"]
    assert [tuple(r) for r in await ledger.rows("SELECT outcome FROM webhook")] == [("refused",)]
    assert [tuple(r) for r in await ledger.rows("SELECT amount, reversed FROM receipt")] == [(116_000, 0)]


async def test_an_approved_mercadopago_payment_is_fetched_and_booked_to_the_cent(
    ledger: Any, make: Any, client: httpx.AsyncClient, provider: Provider
) -> None:
    await ledger.tell(make.invoice("F-1", "1160.10"))
    provider.payments["123"] = {
        "id": 123,
        "status": "approved",
        "transaction_amount": 1160.1,
        "currency_id": "MXN",
        "date_approved": "2027-01-05T23:30:00.000-06:00",
        "external_reference": "F-1",
        "payment_type_id": "ticket",
        "payer": {"first_name": "Ana", "last_name": "Gil", "identification": {"number": "GIAA800101AAA"}},
    }

    answer = await _mercadopago(client, "123")

    assert answer.json()["outcome"] == "accepted", answer.text
    (row,) = await ledger.rows("SELECT amount, allocated, value_on, payer, details ->> 'method' AS method FROM receipt")
    assert Money.from_minor(row.amount, "MXN").amount == Decimal("1160.10")
    assert (row.allocated, row.value_on.isoformat(), row.method) == (116_010, "2027-01-05", "voucher")
    assert row.payer["tax_id"] == "GIAA800101AAA"


async def test_events_of_no_interest_are_kept_and_book_nothing(ledger: Any, client: httpx.AsyncClient) -> None:
    answer = await _stripe(client, _stripe_event("customer.created"))

    assert answer.json()["outcome"] == "ignored"
    assert await ledger.rows("SELECT 1 FROM receipt") == []


@pytest.mark.parametrize("path", ["/webhooks/stripe/nobody-mx", "/webhooks/mercadopago/nobody-mx"])
async def test_a_company_without_an_account_is_told_so(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, content=b"{}")

    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/webhook-unknown")


async def test_every_other_address_still_wants_a_key(client: httpx.AsyncClient) -> None:
    assert (await client.get("/receipts", params={"company": COMPANY})).status_code == 401
    assert (await client.post("/webhooksx", content=b"{}")).status_code == 401


def test_an_accounts_file_with_a_fault_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "psp.yaml"
    file.write_text("- {company: acme-mx, provider: paypal, webhook_secret: a, api_key: b}")

    with pytest.raises(SettingsError, match="provider"):
        read_accounts(file)
    assert read_accounts(None) == {}
