"""Taking in what others tell: requests for notices, and the facts that letters and waiting need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.companies import Companies, CompanyProfile
from cobranza.chassis.database import Transaction
from cobranza.chassis.streams import Event
from cobranza.contracts import identifiers
from cobranza.contracts.dunning import HoldPlaced, NoticeRequested
from cobranza.contracts.invoicing import CustomerChanged, InvoiceChanged, InvoiceIssued
from cobranza.contracts.payloads import Channel, Purpose, Tone
from cobranza.contracts.payments import CashWatermark, ControlTotalChecked, PaymentReceived, PermitConditions
from cobranza.notifications import repository
from cobranza.notifications.domain.channel_plan import main_channels
from cobranza.notifications.domain.contact_rules import contact_decision
from cobranza.notifications.domain.errors import UnknownCompanyError
from cobranza.notifications.domain.letter import Receipt

#: A payment of an earlier value date was told late or imported; nobody wants to be thanked for it.
_CONFIRMED_FOR_DAYS: Final = 30
#: Business time within which a confirmation is still worth sending.
_CONFIRMATION_LIVES: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes events in for the companies of this deployment."""

    companies: Companies
    evaluation_hour: int

    async def customers(self, tx: Transaction, events: Sequence[Event]) -> None:
        """Keep customers' contacts and languages."""
        told = []
        for event in events:
            if isinstance(event.data, CustomerChanged):
                self._profile(event)
                told.append(event.data)
        if told:
            await repository.save_customers(tx, told)

    async def invoices(self, tx: Transaction, events: Sequence[Event]) -> None:
        """Keep what letters show of invoices."""
        told = []
        for event in events:
            if isinstance(event.data, InvoiceIssued | InvoiceChanged):
                self._profile(event)
                told.append(event.data)
        if told:
            await repository.save_invoices(tx, told)

    async def payments(self, tx: Transaction, events: Sequence[Event]) -> None:
        """Thank for payments; let notices that waited for fresh cash ask again."""
        thanked: list[tuple[Event, PaymentReceived]] = []
        for event in events:
            match event.data:
                case PaymentReceived():
                    if self._is_thanked(tx, event, event.data):
                        thanked.append((event, event.data))
                case CashWatermark() | ControlTotalChecked():
                    await repository.try_now(tx, company=event.data.company)
                case _:
                    pass
        known = await repository.customers_of(tx, [(told.company, str(told.customer)) for _, told in thanked])
        await repository.add_notices(
            tx,
            [
                self._confirmation(tx, event, told, known.get((told.company, str(told.customer))))
                for event, told in thanked
            ],
        )

    async def dunning(self, tx: Transaction, events: Sequence[Event]) -> None:
        """Queue the notices asked for; a hold makes its customer's waiting notices ask again."""
        queued: list[repository.NewNotice] = []
        for event in events:
            match event.data:
                case NoticeRequested():
                    queued += self._notices(event, event.data)
                case HoldPlaced():
                    await repository.try_now(tx, company=event.data.company, customer=event.data.customer)
                case _:
                    pass
        await repository.add_notices(tx, queued)

    def _notices(self, event: Event, told: NoticeRequested) -> Iterator[repository.NewNotice]:
        self._profile(event)
        for channel in main_channels(told.channel_plan):
            notice_id = identifiers.notice_id(
                company=told.company, case_id=told.case_id, step=told.step, run=told.run, channel=channel
            )
            yield repository.NewNotice(
                notice_id=notice_id,
                company=told.company,
                customer=told.customer,
                purpose=told.purpose,
                channel=channel,
                case_id=told.case_id,
                step=told.step,
                run=told.run,
                template=told.template,
                tone=told.tone,
                language=told.language,
                on_unknown=told.on_unknown,
                lines=told.lines,
                conditions=told.conditions,
                receipt=None,
                contact_decision=contact_decision(),
                expires_at=told.expires_at,
                cause_id=event.id,
                correlation_id=event.cause.correlation_id,
                traceparent=event.cause.traceparent,
            )

    def _is_thanked(self, tx: Transaction, event: Event, told: PaymentReceived) -> bool:
        today = evaluation_date(tx.now, self._profile(event).zone, from_hour=self.evaluation_hour)
        return told.customer is not None and told.value_on >= today - timedelta(days=_CONFIRMED_FOR_DAYS)

    def _confirmation(
        self, tx: Transaction, event: Event, told: PaymentReceived, known: CustomerChanged | None
    ) -> repository.NewNotice:
        profile = self._profile(event)
        return repository.NewNotice(
            notice_id=identifiers.informative_notice_id(
                purpose=Purpose.PAYMENT_CONFIRMATION, cause=event.id, channel=Channel.EMAIL
            ),
            company=told.company,
            customer=str(told.customer),
            purpose=Purpose.PAYMENT_CONFIRMATION,
            channel=Channel.EMAIL,
            case_id=None,
            step=None,
            run=None,
            template="payment-confirmation",
            tone=Tone.FRIENDLY,
            language=profile.languages[0] if known is None else known.language,
            on_unknown="assume_sent",
            lines=(),
            conditions=PermitConditions(),
            receipt=Receipt(amount=told.amount, value_on=told.value_on, references=told.references[:3]),
            contact_decision=contact_decision(),
            expires_at=tx.now + _CONFIRMATION_LIVES,
            cause_id=event.id,
            correlation_id=event.cause.correlation_id,
            traceparent=event.cause.traceparent,
        )

    def _profile(self, event: Event) -> CompanyProfile:
        profile = self.companies.get(event.company)
        if profile is None:
            raise UnknownCompanyError(
                f"no company {event.company!r} here; deploy/companies.yaml lists them", company=event.company
            )
        return profile
