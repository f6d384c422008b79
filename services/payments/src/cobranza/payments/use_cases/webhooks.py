"""Money that a payment provider announces: the webhook is proved, the payment is asked for again, then it is booked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Literal

import httpx

from cobranza.chassis import clock
from cobranza.chassis.companies import CompanyProfile
from cobranza.chassis.database import Database
from cobranza.chassis.streams import Event
from cobranza.contracts import identifiers, ingress
from cobranza.contracts.envelope import erp_event
from cobranza.contracts.identifiers import Company, Customer, ExternalId, System
from cobranza.contracts.payloads import External, Payload
from cobranza.payments import metrics, repository
from cobranza.payments.domain.errors import PaymentsError, WebhookUnknownError
from cobranza.payments.gateways.psp import PROVIDERS, Account, PspPayment
from cobranza.payments.use_cases.bookkeeping import Bookkeeper

Outcome = Literal["accepted", "duplicate", "ignored", "refused"]

_MOST_OF_AN_ID: Final = 200


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a webhook, and why."""

    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True)
class WebhookReceiver:
    """Takes the webhooks of the companies' accounts at payment providers."""

    database: Database
    bookkeeper: Bookkeeper
    accounts: Mapping[tuple[str, str], Account]
    client: httpx.AsyncClient = field(repr=False)

    async def take(
        self, *, company: str, provider: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes
    ) -> Told:
        """Prove, ask again, book. Repeats and any order end in the same ledger.

        Raises:
            WebhookUnknownError: the company has no account at that provider.
            WebhookRefusedError: the signature does not hold.
            ProviderUnavailableError: the provider does not answer; it delivers the webhook again.
        """
        account = self.accounts.get((company, provider))
        profile = self.bookkeeper.companies.get(company)
        if account is None or profile is None:
            raise WebhookUnknownError(
                f"no account of {company!r} at {provider!r}; the provider accounts' file lists them"
            )
        psp = PROVIDERS[provider]
        hint = psp.read(account, headers=headers, query=query, body=body, now=clock.utc_now())
        if hint.payment is None:
            told = Told("ignored", f"{hint.kind or 'an event without a type'} is of no interest to the ledger")
        else:
            payment = await psp.fetch(self.client, account, hint.payment)
            told = await self._book(profile, provider, payment)
        async with self.database.transaction() as tx:
            await repository.note_webhook(
                tx,
                company=company,
                provider=provider,
                event_id=hint.event_id[:_MOST_OF_AN_ID],
                kind=hint.kind[:_MOST_OF_AN_ID],
                payment=None if hint.payment is None else hint.payment[:_MOST_OF_AN_ID],
                outcome=told.outcome,
                detail=told.detail,
            )
        metrics.WEBHOOKS.labels(kind=provider, outcome=told.outcome).inc()
        return told

    async def _book(self, profile: CompanyProfile, provider: str, payment: PspPayment) -> Told:
        """Bring the ledger to what the provider says: received, and taken back where it was."""
        if payment.state == "pending":
            return Told("ignored", f"payment {payment.payment} is not paid yet")
        external = External(system=System(provider), id=ExternalId(payment.payment))
        customer = None if payment.customer is None else Customer(payment.customer)
        steps: list[Payload] = [
            ingress.PaymentReceived(
                company=Company(profile.company),
                external=external,
                customer=customer,
                payer=_payer(payment),
                amount=payment.amount,
                value_on=payment.paid_at.astimezone(profile.zone).date(),
                method=payment.method,
                references=payment.references,
            )
        ]
        if payment.state == "reversed":
            reversed_on = await self._day_of_reversal(profile, provider, payment)
            if reversed_on is not None:
                steps.append(
                    ingress.PaymentReversed(
                        company=Company(profile.company),
                        external=external,
                        customer=customer,
                        reversed_on=reversed_on,
                        reason=payment.reason,
                    )
                )
        outcomes = []
        for step in steps:
            kind = type(step).__name__
            event = Event.of(erp_event(step, external_event_id=f"{payment.payment}/{kind}", system=provider), offset=0)
            try:
                async with self.database.transaction(event.cause) as tx:
                    outcomes.append(await self.bookkeeper.accept(tx, event))
            except PaymentsError as refusal:
                return Told("refused", f"payment {payment.payment}: {refusal.detail}")
        if payment.state == "part_reversed":
            # A part of a payment cannot be taken back by event: a person refunds it in the ledger.
            return Told("refused", f"payment {payment.payment} was refunded in part; book the refund by hand")
        return Told(
            "accepted" if "accepted" in outcomes else "duplicate", f"payment {payment.payment} is {payment.state}"
        )

    async def _day_of_reversal(self, profile: CompanyProfile, provider: str, payment: PspPayment) -> date | None:
        """Today in the company's zone, or None when the reversal is booked: a repeat on a later day is no second one."""
        receipt_id = identifiers.payment_id(profile.company, provider, payment.payment)
        async with self.database.transaction() as tx:
            if await repository.is_reversed(tx, company=profile.company, receipt_id=receipt_id):
                return None
            return tx.now.astimezone(profile.zone).date()


def _payer(payment: PspPayment) -> ingress.Payer | None:
    if payment.payer_name is None and payment.payer_tax_id is None:
        return None
    return ingress.Payer(name=payment.payer_name, tax_id=payment.payer_tax_id)
