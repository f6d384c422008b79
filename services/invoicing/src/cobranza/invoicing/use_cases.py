"""What invoicing does: accept the ERP's documents once, tell them, and keep the due-date calendar."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal
from uuid import UUID, uuid5

from cobranza.chassis import timers
from cobranza.chassis.clock import evaluation_date, evaluation_instant
from cobranza.chassis.companies import Companies, CompanyProfile
from cobranza.chassis.database import Transaction
from cobranza.chassis.outbox import Cause
from cobranza.chassis.streams import Event, ParkedInput
from cobranza.contracts import identifiers, ingress, invoicing
from cobranza.contracts.identifiers import InvoiceId, ReceivableId
from cobranza.contracts.payments import ReceivableChanged
from cobranza.invoicing import repository
from cobranza.invoicing.domain.due_dates import next_mark
from cobranza.invoicing.domain.errors import (
    RevisionConflictError,
    UnknownCompanyError,
    UnknownInvoiceError,
)
from cobranza.invoicing.domain.invoice import check_change, check_credit_note, check_invoice

Outcome = Literal["accepted", "duplicate"]
TIMER_KIND: Final = "due-date"


@dataclass(frozen=True, slots=True)
class Intake:
    """Accepts documents for the companies of this deployment."""

    companies: Companies
    evaluation_hour: int

    async def accept(self, tx: Transaction, event: Event) -> Outcome:
        """Accept one document; the same content again has no effect.

        Raises:
            InvoicingError: the document is refused; nothing of it was written.
        """
        told = event.data
        if not isinstance(told, ingress.IngressPayload):
            raise TypeError(f"not an input of invoicing: {event.type}")
        profile = self.companies.get(told.company)
        if profile is None:
            raise UnknownCompanyError(
                f"no company {told.company!r} here; deploy/companies.yaml lists them", pointer="/company"
            )
        tx = tx.because(event.cause)
        match told:
            case ingress.CustomerChanged():
                return await self._customer(tx, told, profile)
            case ingress.InvoiceIssued() | ingress.InvoiceChanged():
                return await self._invoice(tx, told, profile)
            case ingress.InvoiceCancelled():
                return await self._cancellation(tx, told)
            case ingress.CreditNoteIssued():
                return await self._credit_note(tx, told)
            case _:
                raise TypeError(f"not an input of invoicing: {event.type}")

    async def _customer(self, tx: Transaction, told: ingress.CustomerChanged, profile: CompanyProfile) -> Outcome:
        if await _seen(tx, told):
            return "duplicate"
        known = await repository.customer_revision(tx, told.company, told.customer)
        if known is not None and told.revision < known:
            return "duplicate"
        changed = invoicing.CustomerChanged(
            company=told.company,
            customer=told.customer,
            revision=told.revision,
            name=told.name,
            tax_id=told.tax_id,
            country=told.country,
            language=told.language or profile.languages[0],
            zone=told.zone or profile.zone.key,
            segment=told.segment,
            protected_party=told.protected_party,
            owner=told.owner,
            contacts=told.contacts,
            virtual_accounts=told.virtual_accounts,
            risk=told.risk,
            tags=told.tags,
            customer_since=told.customer_since,
        )
        tx.publish(changed, sequence=await repository.save_customer(tx, changed))
        return "accepted"

    async def _invoice(
        self,
        tx: Transaction,
        told: ingress.InvoiceIssued | ingress.InvoiceChanged,
        profile: CompanyProfile,
    ) -> Outcome:
        check_invoice(told)
        invoice_id = identifiers.invoice_id(told.company, told.external.system, told.external.id)
        if isinstance(told, ingress.InvoiceChanged) and not await _is_issued(tx, told.company, invoice_id):
            raise UnknownInvoiceError(
                f"invoice {told.external.id!r} of {told.external.system} was never issued here", pointer="/external/id"
            )
        before = await repository.lock_invoice(tx, told.company, invoice_id)
        if before is not None and told.revision > before.state.revision:
            check_change(before.state, told)
        if await _seen(tx, told) or (before is not None and told.revision < before.state.revision):
            return "duplicate"
        if before is not None and told.revision == before.state.revision:
            # An invoice-changed at the revision of the invoice it changes.
            raise RevisionConflictError(
                f"revision {told.revision} of invoice {told.number} was already accepted; send a higher one",
                pointer="/revision",
            )
        kind = invoicing.InvoiceIssued if before is None else invoicing.InvoiceChanged
        state = kind.model_validate({**told.model_dump(), "invoice_id": invoice_id})
        status = before.status if before is not None else "issued"
        tx.publish(state, sequence=await repository.save_invoice(tx, state, status=status))
        stored = await repository.save_instalments(
            tx,
            company=told.company,
            invoice_id=invoice_id,
            customer=told.customer,
            dues=[(identifiers.receivable_id(invoice_id, part.number), part.due_on) for part in told.instalments],
        )
        if status == "issued":
            for part in stored:
                await self.arm(tx, part, profile)
        return "accepted"

    async def _cancellation(self, tx: Transaction, told: ingress.InvoiceCancelled) -> Outcome:
        invoice_id = identifiers.invoice_id(told.company, told.external.system, told.external.id)
        before = await repository.lock_invoice(tx, told.company, invoice_id)
        if before is None:
            raise UnknownInvoiceError(
                f"invoice {told.external.id!r} of {told.external.system} was never issued here", pointer="/external/id"
            )
        if await _seen(tx, told) or before.status == "cancelled":
            return "duplicate"
        replaced_by = (
            identifiers.invoice_id(told.company, told.external.system, told.replaced_by_external_id)
            if told.replaced_by_external_id is not None
            else None
        )
        cancelled = invoicing.InvoiceCancelled(
            company=told.company,
            invoice_id=invoice_id,
            customer=before.state.customer,
            number=before.state.number,
            cancelled_on=told.cancelled_on,
            motive=told.motive,
            replaced_by=replaced_by,
        )
        version = await repository.save_invoice(tx, before.state, status="cancelled")
        tx.publish(cancelled, sequence=version)
        for receivable_id in await repository.instalments_of(tx, told.company, invoice_id):
            await timers.cancel(tx, key=timer_key(told.company, receivable_id))
        return "accepted"

    async def _credit_note(self, tx: Transaction, told: ingress.CreditNoteIssued) -> Outcome:
        check_credit_note(told)
        parts = []
        for part in told.applies_to:
            invoice_id = identifiers.invoice_id(told.company, told.external.system, part.invoice_external_id)
            if not await _is_issued(tx, told.company, invoice_id):
                raise UnknownInvoiceError(
                    f"invoice {part.invoice_external_id!r} of {told.external.system} was never issued here",
                    pointer="/applies_to",
                )
            parts.append(invoicing.CreditedInvoice(invoice_id=invoice_id, amount=part.amount))
        if await _seen(tx, told):
            return "duplicate"
        issued = invoicing.CreditNoteIssued(
            company=told.company,
            credit_note_id=identifiers.credit_note_id(told.company, told.external.system, told.external.id),
            external=told.external,
            revision=told.revision,
            customer=told.customer,
            number=told.number,
            issued_on=told.issued_on,
            effective_on=told.effective_on or told.issued_on,
            amount=told.amount,
            applies_to=tuple(parts),
        )
        await repository.save_credit_note(tx, issued)
        tx.publish(issued, sequence=1)
        return "accepted"

    async def arm(self, tx: Transaction, instalment: repository.StoredInstalment, profile: CompanyProfile) -> None:
        """Arm the timer of an instalment's next due-date event, or cancel it when none is left."""
        due_at = self._next_due_at(tx, instalment, profile)
        key = timer_key(instalment.company, instalment.receivable_id)
        if due_at is None:
            await timers.cancel(tx, key=key)
        else:
            await timers.arm(
                tx,
                key=key,
                kind=TIMER_KIND,
                company=instalment.company,
                subject_id=instalment.receivable_id,
                due_at=due_at,
            )

    def _next_due_at(
        self, tx: Transaction, instalment: repository.StoredInstalment, profile: CompanyProfile
    ) -> datetime | None:
        if instalment.settled:
            return None
        mark = next_mark(
            instalment.due_on,
            offsets_of(profile),
            told_until=instalment.told_until,
            as_of=evaluation_date(tx.now, profile.zone, from_hour=self.evaluation_hour),
        )
        if mark is None:
            return None
        return evaluation_instant(mark.on, profile.zone, from_hour=self.evaluation_hour)

    async def tell_due_date(self, tx: Transaction, timer: timers.Timer) -> datetime | None:
        """Tell every due-date event of an instalment that has come; returns when the next comes."""
        profile = self.companies.get(timer.company)
        instalment = await repository.lock_instalment(tx, timer.company, timer.subject_id)
        if profile is None or instalment is None or instalment.settled:
            return None
        as_of = evaluation_date(tx.now, profile.zone, from_hour=self.evaluation_hour)
        told_until = instalment.told_until
        while True:
            mark = next_mark(instalment.due_on, offsets_of(profile), told_until=told_until, as_of=as_of)
            if mark is None:
                return None
            if mark.on > as_of:
                return evaluation_instant(mark.on, profile.zone, from_hour=self.evaluation_hour)
            version = await repository.note_told(tx, timer.company, timer.subject_id, offset_days=mark.offset_days)
            tx.publish(
                invoicing.DueDate(
                    company=timer.company,
                    invoice_id=InvoiceId(instalment.invoice_id),
                    receivable_id=ReceivableId(instalment.receivable_id),
                    customer=instalment.customer,
                    due_on=instalment.due_on,
                    phase=mark.phase,
                    offset_days=mark.offset_days,
                    business_date=mark.on,
                ),
                sequence=version,
                cause=Cause.timer(f"{timer.key}|{instalment.due_on}|{mark.offset_days}", mark.on),
            )
            told_until = mark.offset_days

    async def follow_receivables(self, tx: Transaction, changes: Sequence[ReceivableChanged]) -> None:
        """Stop the calendar of what is settled; a reversal starts it again where it stood."""
        by_company: dict[str, dict[UUID, bool]] = {}
        for change in changes:
            by_company.setdefault(change.company, {})[change.receivable_id] = change.open == 0
        for company, states in by_company.items():
            profile = self.companies.get(company)
            changed = await repository.note_settled(tx, company, sorted(states.items()))
            if profile is not None:
                for instalment in changed:
                    await self.arm(tx, instalment, profile)


async def tell_parked_input(tx: Transaction, parked: ParkedInput, companies: Companies) -> None:
    """Tell that an input waits for a person, or no longer: nobody is asked for money meanwhile."""
    if parked.company is None or parked.company not in companies:
        return
    # An id may be reused with other content, so the parking lot's own number makes it unique.
    input_id = uuid5(parked.event_id, str(parked.parked_id))
    if parked.outcome == "parked":
        tx.publish(
            invoicing.InputParked(
                company=parked.company,
                input_id=input_id,
                event_type=parked.event_type,
                customer=parked.customer,
                code=parked.code,
                parked_at=tx.now,
            ),
            sequence=1,
            cause=parked.cause,
        )
    else:
        tx.publish(
            invoicing.InputReleased(
                company=parked.company,
                input_id=input_id,
                event_type=parked.event_type,
                customer=parked.customer,
                outcome=parked.outcome,
                released_at=tx.now,
            ),
            sequence=2,
            cause=parked.cause,
        )


def offsets_of(profile: CompanyProfile) -> tuple[int, ...]:
    """The company's due-date offsets in days, all phases."""
    offsets = profile.due_date_offsets
    return (*offsets.approaching, *((0,) if offsets.reached else ()), *offsets.passed)


def timer_key(company: str, receivable_id: UUID) -> str:
    """The key of an instalment's one timer."""
    return f"{TIMER_KIND}|{company}|{receivable_id}"


#: Fields of events that came after the first version: absent, they leave the content what it was without them.
_LATER_FIELDS: Final = ("payment_method_code", "virtual_accounts", "risk", "tags", "customer_since")


async def _seen(tx: Transaction, told: ingress.IngressPayload) -> bool:
    """Keep the natural key; True when the same content was accepted before.

    Raises:
        RevisionConflictError: the same revision was accepted with other content.
    """
    later = {name for name in _LATER_FIELDS if not getattr(told, name, None)}
    content = hashlib.sha256(told.model_dump_json(exclude=later).encode()).digest()
    kept = await repository.accept_once(
        tx,
        company=told.company,
        system=told.external.system,
        type_=told.TYPE,
        external_id=told.external.id,
        revision=told.revision,
        sha256=content,
    )
    if kept is not None and kept != content:
        raise RevisionConflictError(
            f"revision {told.revision} of {told.external.system}/{told.external.id} was accepted with other content; "
            "send a higher revision, or a credit note or a replacement where the amount changes",
            pointer="/revision",
        )
    return kept is not None


async def _is_issued(tx: Transaction, company: str, invoice_id: UUID) -> bool:
    result = await tx.execute(
        "SELECT 1 FROM invoice WHERE company = :company AND invoice_id = :id",
        {"company": company, "id": invoice_id},
    )
    return result.first() is not None
