"""Payment service providers: whether a webhook is theirs, and what they say of a payment when asked again.

A webhook is a hint: it may repeat, come late or out of order. What counts is the payment as the provider tells it now.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias
from urllib.parse import quote

import httpx
import yaml
from pydantic import BaseModel, ConfigDict, HttpUrl, SecretStr, TypeAdapter, ValidationError

from cobranza.chassis.settings import SettingsError
from cobranza.contracts.money import Money
from cobranza.contracts.payloads import Company
from cobranza.payments.domain.errors import ProviderUnavailableError, WebhookRefusedError

Provider: TypeAlias = Literal["stripe", "mercadopago"]
State: TypeAlias = Literal["pending", "paid", "part_reversed", "reversed"]

#: How old, or how far ahead, a signature may be; both providers' own libraries use five minutes.
TOLERANCE_SECONDS: Final = 300
_TIMEOUT_SECONDS: Final = 8.0
#: A time stamp above it counts milliseconds.
_MILLISECONDS_FROM: Final = 10**11
_ADDRESSES: Final[Mapping[Provider, str]] = {
    "stripe": "https://api.stripe.com",
    "mercadopago": "https://api.mercadopago.com",
}


class Account(BaseModel):
    """One company's account at a provider; `base_url` is the provider's own unless another is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    company: Company
    provider: Provider
    webhook_secret: SecretStr
    api_key: SecretStr
    base_url: HttpUrl | None = None

    @property
    def address(self) -> str:
        """Where its API is."""
        return str(self.base_url or _ADDRESSES[self.provider]).rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """What a signed webhook points at; `payment` is None when it is of no interest here."""

    event_id: str
    kind: str
    payment: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PspPayment:
    """A payment as its provider tells it now.

    `references` are what the shop gave the provider for it; `reversed_at` and `reason` belong to a reversal.
    """

    payment: str
    state: State
    amount: Money
    paid_at: datetime
    method: str
    references: tuple[str, ...]
    customer: str | None
    payer_name: str | None
    payer_tax_id: str | None
    reason: str = "returned"


class Psp(Protocol):
    """One provider's dialect."""

    def read(
        self, account: Account, *, headers: Mapping[str, str], query: Mapping[str, str], body: bytes, now: datetime
    ) -> Hint:
        """The hint of a webhook whose signature over the raw body holds.

        Raises:
            WebhookRefusedError: it is not signed with the account's secret, or not in time.
        """
        ...

    async def fetch(self, client: httpx.AsyncClient, account: Account, payment: str) -> PspPayment:
        """Ask the provider for a payment.

        Raises:
            ProviderUnavailableError: no answer that can be trusted; the provider delivers the webhook again.
        """
        ...


def read_accounts(file: Path | None) -> dict[tuple[str, str], Account]:
    """The accounts by company and provider; none without a file.

    Raises:
        SettingsError: the file is missing or an entry is not as described.
    """
    if file is None:
        return {}
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8"))
        accounts = TypeAdapter(tuple[Account, ...]).validate_python(entries)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise SettingsError(f"PAYMENTS_PSP_FILE: the provider accounts in {file} cannot be used: {error}") from error
    return {(account.company, account.provider): account for account in accounts}


class Stripe:
    """Stripe: `Stripe-Signature` is an HMAC of time stamp and raw body; payments are payment intents."""

    _OF_A_CHARGE: Final = ("charge.refunded", "charge.dispute.", "invoice.paid")

    def read(
        self, account: Account, *, headers: Mapping[str, str], query: Mapping[str, str], body: bytes, now: datetime
    ) -> Hint:
        """The hint of a signed webhook."""
        del query
        parts = _pairs(headers.get("stripe-signature", ""))
        stamp = _one(parts, "t")
        _check(account, signed=f"{stamp}.".encode() + body, given=parts.get("v1", ()), stamp=stamp, now=now)
        event = _object(body)
        kind = str(event.get("type", ""))
        told = _member(event, "data", "object")
        payment = None
        if kind == "payment_intent.succeeded":
            payment = told.get("id")
        elif kind.startswith(self._OF_A_CHARGE):
            payment = told.get("payment_intent")
        return Hint(event_id=str(event.get("id", "")), kind=kind, payment=payment if isinstance(payment, str) else None)

    async def fetch(self, client: httpx.AsyncClient, account: Account, payment: str) -> PspPayment:
        """The payment intent with its newest charge."""
        told = await _get(
            client, account, f"/v1/payment_intents/{quote(payment, safe='')}", params={"expand[]": "latest_charge"}
        )
        try:
            charge = told.get("latest_charge") or {}
            amount = Money.from_minor(
                int(told["amount_received"]) or int(told["amount"]), str(told["currency"]).upper()
            )
            state: State = "paid" if told["status"] == "succeeded" else "pending"
            refunded = int(charge.get("amount_refunded") or 0)
            if charge.get("disputed"):
                state = "reversed"
            elif refunded:
                state = "reversed" if refunded >= amount.minor else "part_reversed"
            metadata = told.get("metadata") or {}
            return PspPayment(
                payment=str(told["id"]),
                state=state,
                amount=amount,
                paid_at=datetime.fromtimestamp(int(charge.get("created") or told["created"]), tz=UTC),
                method="card",
                references=_texts(metadata.get(name) for name in ("invoice", "invoice_number", "reference")),
                customer=_text(metadata.get("customer")),
                payer_name=_text((charge.get("billing_details") or {}).get("name")),
                payer_tax_id=None,
                reason="chargeback" if charge.get("disputed") else "returned",
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProviderUnavailableError(f"stripe's answer is no payment: {type(error).__name__}") from error


class MercadoPago:
    """MercadoPago: `x-signature` is an HMAC over ids and a time stamp; the body carries only the payment's id."""

    _METHODS: Final[Mapping[str, str]] = {
        "credit_card": "card",
        "debit_card": "card",
        "prepaid_card": "card",
        "bank_transfer": "transfer",
        "ticket": "voucher",
        "atm": "cash",
    }
    _STATES: Final[Mapping[str, State]] = {
        "approved": "paid",
        "refunded": "reversed",
        "charged_back": "reversed",
    }

    def read(
        self, account: Account, *, headers: Mapping[str, str], query: Mapping[str, str], body: bytes, now: datetime
    ) -> Hint:
        """The hint of a signed webhook."""
        parts = _pairs(headers.get("x-signature", ""))
        stamp = _one(parts, "ts")
        # An id of letters and digits is signed in lower case; what is absent is left out of what is signed.
        signed = "".join(
            f"{name}:{value};"
            for name, value in (
                ("id", query.get("data.id", "").lower()),
                ("request-id", headers.get("x-request-id", "")),
                ("ts", stamp),
            )
            if value
        )
        _check(account, signed=signed.encode(), given=parts.get("v1", ()), stamp=stamp, now=now)
        event = _object(body)
        kind = str(event.get("type", ""))
        payment = query.get("data.id")
        # The body is not signed: only what the signed id names is looked at.
        return Hint(
            event_id=f"{payment}/{event.get('id', '')}/{event.get('action', '')}",
            kind=kind,
            payment=payment if kind == "payment" else None,
        )

    async def fetch(self, client: httpx.AsyncClient, account: Account, payment: str) -> PspPayment:
        """The payment."""
        told = await _get(client, account, f"/v1/payments/{quote(payment, safe='')}")
        try:
            currency = str(told["currency_id"])
            amount = Money(amount=Decimal(str(told["transaction_amount"])), currency=currency)
            state = self._STATES.get(str(told["status"]), "pending")
            if state == "paid" and Decimal(told.get("transaction_amount_refunded") or 0) > 0:
                state = "part_reversed"
            payer = told.get("payer") or {}
            name = " ".join(_texts((payer.get("first_name"), payer.get("last_name"))))
            return PspPayment(
                payment=str(told["id"]),
                state=state,
                amount=amount,
                paid_at=datetime.fromisoformat(told.get("date_approved") or told["date_created"]),
                method=self._METHODS.get(str(told.get("payment_type_id")), "other"),
                references=_texts((told.get("external_reference"),)),
                customer=None,
                payer_name=name or None,
                payer_tax_id=_text((payer.get("identification") or {}).get("number")),
                reason="chargeback" if told["status"] == "charged_back" else "returned",
            )
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise ProviderUnavailableError(f"mercadopago's answer is no payment: {type(error).__name__}") from error


PROVIDERS: Final[Mapping[str, Psp]] = {"stripe": Stripe(), "mercadopago": MercadoPago()}


def http_client() -> httpx.AsyncClient:
    """Connections to providers."""
    return httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=False)


async def _get(
    client: httpx.AsyncClient, account: Account, path: str, *, params: Mapping[str, str] | None = None
) -> dict[str, Any]:
    try:
        answer = await client.get(
            f"{account.address}{path}",
            params=params,
            headers={"Authorization": f"Bearer {account.api_key.get_secret_value()}"},
        )
    except httpx.HTTPError as error:
        raise ProviderUnavailableError(f"{account.provider} does not answer: {type(error).__name__}") from error
    if not answer.is_success:
        raise ProviderUnavailableError(f"{account.provider} answered {answer.status_code}")
    try:
        # Amounts are numbers there: read as they are written, never as binary fractions.
        told = json.loads(answer.content, parse_float=Decimal)
    except ValueError as error:
        raise ProviderUnavailableError(f"{account.provider}'s answer is not JSON") from error
    if not isinstance(told, dict):
        raise ProviderUnavailableError(f"{account.provider}'s answer is no object")
    return told


def _check(account: Account, *, signed: bytes, given: Sequence[str], stamp: str, now: datetime) -> None:
    secret = account.webhook_secret.get_secret_value().encode()
    expected = hmac.new(secret, signed, hashlib.sha256).hexdigest()
    # Every signature is compared, in constant time: a provider sends two while a secret is being replaced.
    if not any([hmac.compare_digest(expected.encode(), each.encode()) for each in given]):  # noqa: C419
        raise WebhookRefusedError("the signature does not fit the body; check the webhook secret of this account")
    seconds = int(stamp) if stamp.isdecimal() else 0
    if seconds >= _MILLISECONDS_FROM:
        seconds //= 1000
    if abs(now.timestamp() - seconds) > TOLERANCE_SECONDS:
        raise WebhookRefusedError(f"signed more than {TOLERANCE_SECONDS} seconds away from now; check the clocks")


def _pairs(header: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for part in header[:2000].split(","):
        name, _, value = part.strip().partition("=")
        found[name] = (*found.get(name, ()), value)
    return found


def _one(parts: Mapping[str, Sequence[str]], name: str) -> str:
    values = parts.get(name, ())
    if len(values) != 1:
        raise WebhookRefusedError(f"expected a signature header with one {name!r}; is this the provider's webhook?")
    return values[0]


def _object(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WebhookRefusedError("the body is not JSON") from error
    if not isinstance(told, dict):
        raise WebhookRefusedError("the body is not a JSON object")
    return told


def _member(told: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    for name in path:
        inner = told.get(name)
        told = inner if isinstance(inner, dict) else {}
    return told


def _text(value: object) -> str | None:
    text = " ".join(value.split())[:200] if isinstance(value, str) else ""
    return text or None


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(text for value in values if (text := _text(value)) is not None)
