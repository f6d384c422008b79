"""Keeping the ledger: what ERPs, banks and invoicing state becomes balances, allocations and events."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal
from uuid import UUID, uuid5

from cobranza.chassis.companies import Companies, CompanyProfile
from cobranza.chassis.database import Transaction
from cobranza.chassis.outbox import Cause
from cobranza.chassis.streams import Event
from cobranza.contracts import identifiers, ingress, invoicing, payments
from cobranza.contracts.identifiers import Company, Customer, ExternalId, InvoiceId, PaymentId, ReceivableId, System
from cobranza.contracts.money import Money, to_decimal, to_minor
from cobranza.contracts.payloads import External, Payload
from cobranza.contracts.reasons import Reason
from cobranza.payments import metrics, repository
from cobranza.payments.domain.allocation import (
    BY_REFERENCE,
    OLDEST_DUE,
    Claim,
    Given,
    close_by_reference,
    share_by_reference,
    share_oldest_first,
)
from cobranza.payments.domain.errors import (
    MixedCurrenciesError,
    PaymentConflictError,
    PaymentsError,
    ReversalConflictError,
    UnknownCompanyError,
)
from cobranza.payments.domain.ledger import (
    CANCELLATION_RULE,
    NOBODY,
    REVERSAL_RULE,
    Books,
    Posted,
    Posting,
    Receipt,
    Receivable,
    entry_id,
)
from cobranza.payments.domain.matching import CONFIDENCE, Tolerance, key_of
from cobranza.payments.domain.matching import R5 as EXACT_DEBT
from cobranza.payments.domain.references import Invoice, normalised, references_of
from cobranza.payments.repository import Facts, Naming, Needs, Reversal
from cobranza.payments.use_cases.control_totals import keep_control_total
from cobranza.payments.use_cases.fiscal_receipts import Applied, FiscalDesk, grouping_of

Outcome = Literal["accepted", "duplicate"]
#: Why a rest within the company's tolerance is given up.
SMALL_BALANCE: Final = "small_balance"
#: Why less is given up than before: money came in for it, or went back.
RECOVERY: Final = "recovery"


@dataclass(frozen=True, slots=True)
class Bookkeeper:
    """Books events for the companies of this deployment."""

    companies: Companies

    async def accept(self, tx: Transaction, event: Event) -> Outcome:
        """Book one event.

        Raises:
            PaymentsError: it is refused; nothing of it was written.
        """
        outcome = (await self.book(tx, [event]))[event.id]
        if isinstance(outcome, PaymentsError):
            raise outcome
        return outcome

    async def book(self, tx: Transaction, events: Sequence[Event]) -> dict[UUID, Outcome | PaymentsError]:
        """Book events in their order, all by a fixed number of statements; a repeat has no effect.

        Returns:
            What became of each; of a refused one nothing was written.
        """
        outcomes: dict[UUID, Outcome | PaymentsError] = {}
        known: list[Event] = []
        for event in events:
            if event.company in self.companies:
                known.append(event)
            else:
                outcomes[event.id] = UnknownCompanyError(
                    f"no company {event.company!r} here; deploy/companies.yaml lists them", pointer="/company"
                )
        ledger_events = [event for event in known if isinstance(event.data, _LEDGER)]
        if ledger_events:
            facts = await repository.open_books(tx, self._needs(ledger_events))
            desk = Desk(facts, self.companies, tx.now)
            for event in ledger_events:
                try:
                    outcomes[event.id] = desk.take(event)
                except PaymentsError as refusal:
                    outcomes[event.id] = refusal
            await repository.save(tx, facts)
            await self._leave_to_matching(tx, facts)
            await desk.publish(tx)
        for event in known:
            if event.id not in outcomes:
                try:
                    outcomes[event.id] = await self._statement(tx, event)
                except PaymentsError as refusal:
                    outcomes[event.id] = refusal
        return outcomes

    async def _leave_to_matching(self, tx: Transaction, facts: Facts) -> None:
        """What no reference applied is for the rules; costs nothing where all was applied."""
        books = facts.books
        receipts = [
            (receipt.company, receipt_id)
            for receipt_id in books.changed_receipts
            if (receipt := books.receipts[receipt_id]).kind == "cash"
            # One that is used up by something else loses its suggestions.
            and (receipt.unapplied or receipt_id not in books.new_receipts)
        ]
        customers = {
            (debt.company, debt.customer)
            for debt in map(books.receivables.__getitem__, books.new_receivables)
            if (credit := books.credits.get((debt.company, debt.customer, debt.currency))) and credit.unapplied
        }
        accounts = [
            (receipt.company, account, receipt.customer, "reference", receipt_id)
            for receipt_id, payer in facts.new_payers.items()
            if (receipt := books.receipts[receipt_id]).customer is not None
            and (account := key_of(json.loads(payer).get("account") or ""))
        ]
        if accounts:
            await repository.learn_accounts(tx, accounts)
        if receipts or customers:
            await repository.enqueue_matching(tx, receipts=receipts, customers=sorted(customers))

    def _needs(self, events: Sequence[Event]) -> Needs:
        needs = Needs()
        for event in events:
            data, company = event.data, event.company
            customer = getattr(data, "customer", None)
            needs.customers.add((company, customer or NOBODY))
            profile = self.companies.get(company)
            spreads = profile is not None and profile.fifo_auto and customer is not None
            match data:
                case ingress.PaymentReceived():
                    payment_id = _payment_id(data)
                    needs.receipts.add((company, payment_id))
                    needs.naming |= {(company, reference) for reference, _ in _stated_references(data)}
                    if spreads:
                        needs.spread.add((company, str(customer)))
                case ingress.PaymentReversed():
                    needs.receipts.add((company, _payment_id(data)))
                    needs.undone_receipts.add((company, _payment_id(data)))
                case invoicing.InvoiceIssued() | invoicing.InvoiceChanged():
                    needs.invoices.add((company, data.invoice_id))
                    needs.named |= {(company, reference) for reference in references_of(data)}
                    if spreads:
                        needs.spread.add((company, str(customer)))
                case invoicing.InvoiceCancelled() | invoicing.InvoiceReplaced():
                    needs.undone_invoices.add((company, data.invoice_id))
                case invoicing.CreditNoteIssued():
                    needs.invoices |= {(company, part.invoice_id) for part in data.applies_to}
                    needs.naming |= {(company, str(part.invoice_id)) for part in data.applies_to}
                    needs.receipts.add((company, data.credit_note_id))
                    needs.entries.add(entry_id(data.credit_note_id, "credit-note-issued"))
                case _:
                    raise TypeError(f"nothing to book: {event.type}")
        return needs

    def _today(self, tx: Transaction, company: str) -> date:
        profile = self.companies.get(company)
        assert profile is not None  # events of unknown companies are refused before
        return tx.now.astimezone(profile.zone).date()

    async def _statement(self, tx: Transaction, event: Event) -> Outcome:
        """Accept what an ERP states about its data as a whole, beside the ledger."""
        match event.data:
            case ingress.CashWatermark() as told:
                stated_at = told.stated_at or tx.now
                version = await repository.move_watermark(
                    tx, company=told.company, feed=told.feed, through_on=told.through_on, stated_at=stated_at
                )
                if version is None:
                    return "duplicate"
                tx.publish(
                    payments.CashWatermark(
                        company=told.company,
                        feed=told.feed,
                        through_on=told.through_on,
                        stated_at=stated_at,
                        company_through_on=await repository.cash_through(tx, told.company),
                    ),
                    sequence=version,
                    cause=event.cause,
                )
                return "accepted"
            case ingress.ControlTotal() as told:
                _check_currency(
                    told.currency, (told.open_total, *(c.open_total for c in told.customers)), "/open_total"
                )
                return await keep_control_total(tx, told, today=self._today(tx, told.company))
            case ingress.FiscalReceiptAnswered() as told:
                return await FiscalDesk(self.companies).answer(tx, told, event.cause)
            case _:
                raise TypeError(f"not an input of payments: {event.type}")


_NOTHING: Final = Given()


def _beside_the_content(told: ingress.PaymentReceived) -> dict[str, Any]:
    """What does not make a payment another one: fields that came later leave it what it was without them."""
    later: dict[str, Any] = (
        {"payer": {"to_account"}} if told.payer is not None and told.payer.to_account is None else {}
    )
    return {"revision": True, **later}


_LEDGER: Final = (
    ingress.PaymentReceived,
    ingress.PaymentReversed,
    invoicing.InvoiceIssued,
    invoicing.InvoiceChanged,
    invoicing.InvoiceCancelled,
    invoicing.InvoiceReplaced,
    invoicing.CreditNoteIssued,
)


@dataclass(frozen=True, slots=True)
class _Telling:
    payload: Payload
    sequence: int
    cause: Cause


@dataclass(slots=True)
class Desk:
    """Decides events one after the other on the books of their batch; touches no database."""

    facts: Facts
    companies: Companies
    now: datetime
    tellings: list[_Telling] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)
    _todays: dict[str, date] = field(default_factory=dict)

    @property
    def books(self) -> Books:
        """The part of the ledger that is open."""
        return self.facts.books

    async def publish(self, tx: Transaction) -> None:
        """Tell all that was decided and saved, and what it means for fiscal receipts."""
        for telling in self.tellings:
            tx.publish(telling.payload, sequence=telling.sequence, cause=telling.cause)
        await FiscalDesk(self.companies).follow(tx, self.books, self.applied)

    def take(self, event: Event) -> Outcome:
        """Book one event.

        Raises:
            PaymentsError: it is refused; nothing of it was booked.
        """
        match event.data:
            case ingress.PaymentReceived() as told:
                return self._receive(event, told)
            case ingress.PaymentReversed() as told:
                return self._take_reversal(event, told)
            case invoicing.InvoiceIssued() | invoicing.InvoiceChanged() as told:
                return self._invoice(event, told)
            case invoicing.InvoiceCancelled() as told:
                return self._cancel(event, told.invoice_id, told.cancelled_on)
            case invoicing.InvoiceReplaced() as told:
                return self._cancel(event, told.invoice_id, told.replaced_on)
            case invoicing.CreditNoteIssued() as told:
                return self._credit_note(event, told)
            case _:
                raise TypeError(f"nothing to book: {event.type}")

    # ------------------------------------------------------------------ payments

    def _receive(self, event: Event, told: ingress.PaymentReceived) -> Outcome:
        payment_id = _payment_id(told)
        content = hashlib.sha256(told.model_dump_json(exclude=_beside_the_content(told)).encode()).digest()
        known = self.books.receipts.get(payment_id)
        if known is not None:
            if known.sha256 != content:
                raise PaymentConflictError(
                    f"payment {told.external.id!r} of {told.external.system} was accepted with other content;"
                    " reverse it and send a new one",
                    pointer="/external/id",
                )
            return "duplicate"
        _check_currency(told.amount.currency, (line.amount for line in told.remittance), "/remittance")
        stated = list(_stated_references(told))
        claims, reason = self._claims(event, told, stated)
        customer = told.customer or _only_customer(claims)
        receipt = Receipt(
            company=told.company,
            receipt_id=payment_id,
            customer=customer,
            told_customer=customer,
            kind="cash",
            currency=told.amount.currency,
            system=told.external.system,
            external_id=told.external.id,
            sha256=content,
            amount=told.amount.minor,
            value_on=told.value_on,
            reason=reason or (Reason.PAYER_UNKNOWN if customer is None else None),
        )
        self.facts.new_details[payment_id] = told.model_dump_json(
            include={"method", "booked_on", "references", "remittance"}
        )
        if told.payer is not None:
            self.facts.new_payers[payment_id] = told.payer.model_dump_json()
        for position, (reference, at_most) in enumerate(stated):
            self._keep_naming(told.company, reference, Naming(payment_id, position, at_most))
        self._tell(
            event.cause,
            payments.PaymentReceived(
                company=told.company,
                payment_id=payment_id,
                external=told.external,
                customer=None if customer is None else Customer(customer),
                amount=told.amount,
                value_on=told.value_on,
                booked_on=told.booked_on or told.value_on,
                method=told.method,
                references=told.references,
                remittance=told.remittance,
            ),
            sequence=receipt.version,
        )
        posting = self.books.posting(
            company=told.company, cause_id=event.id, kind="payment-received", effective_on=told.value_on
        )
        posting.receive(receipt)
        shares, given = close_by_reference(
            receipt.amount,
            claims,
            discounts=partial(self._discounts, receipt.value_on),
            is_small=partial(self._is_small, told.company, receipt.currency),
        )
        _apply(posting, payment_id, shares, rule=BY_REFERENCE, given=given)
        self._spread(posting, payment_id, named=shares.keys())
        self._clear_reason(posting, payment_id)
        self.tell_posted(event.cause, posting.close())
        metrics.count_payment(amount=receipt.amount, applied=self.books.receipts[payment_id].allocated)
        waiting = self.facts.reversals.get((told.company, payment_id))
        if waiting is not None:
            self._reverse(_follow_up(event.cause, "reversal"), uuid5(event.id, "reversal"), payment_id, waiting)
        return "accepted"

    def _claims(
        self, event: Event, told: ingress.PaymentReceived, stated: Iterable[tuple[str, int | None]]
    ) -> tuple[list[Claim], Reason | None]:
        """What a payment names, as far as it can be applied, and what stands in the way of the rest."""
        claims: list[Claim] = []
        reason: Reason | None = None
        for reference, at_most in stated:
            found = self.facts.directory.resolve(event.company, reference, customer=told.customer)
            if isinstance(found, Reason):
                reason = reason or found
                continue
            claim = self._claim(found.invoice_id, told.amount.currency, at_most)
            if claim is None:
                reason = reason or Reason.CURRENCY_DIFFERS
            else:
                claims.append(claim)
        return claims, reason

    def _discounts(self, value_on: date, receivables: Iterable[Receivable]) -> dict[UUID, int]:
        """What may be deducted of whole debts for money of a day, in minor units."""
        found = {}
        for receivable in receivables:
            assert receivable.invoice_id is not None  # an invoice's receivable names it
            stated = self.facts.new_discounts.get(receivable.invoice_id)
            discount, until_on = self.facts.discounts.get(receivable.invoice_id, (0, date.min))
            if stated is not None:
                _, discount, until_on = stated
            is_whole = receivable.open == receivable.issued and discount < receivable.open
            if discount and is_whole:
                grace = timedelta(days=self._profile(receivable.company).discount_grace_days)
                if value_on <= until_on + grace:
                    found[receivable.receivable_id] = discount
        return found

    def _is_small(self, company: str, currency: str, rest: int, owed: int) -> bool:
        return tolerance_of(self._profile(company), currency).covers(rest, owed)

    def _claim(self, invoice_id: UUID, currency: str, at_most: int | None) -> Claim | None:
        """The receivables of an invoice as a claim, or None when they are in another currency."""
        receivables = tuple(self.books.of_invoice(invoice_id))
        if any(receivable.currency != currency for receivable in receivables):
            return None
        return Claim(receivables, at_most)

    def _take_reversal(self, event: Event, told: ingress.PaymentReversed) -> Outcome:
        payment_id = _payment_id(told)
        stated = Reversal(told.reversed_on, told.reason)
        known = self.facts.reversals.get((told.company, payment_id))
        if known is not None:
            if known != stated:
                raise ReversalConflictError(
                    f"payment {told.external.id!r} of {told.external.system} was already reversed on"
                    f" {known.reversed_on} ({known.reason})",
                    pointer="/reversed_on",
                )
            return "duplicate"
        self.facts.reversals[told.company, payment_id] = stated
        self.facts.new_reversals.append((told.company, payment_id, stated))
        if payment_id in self.books.receipts:
            self._reverse(event.cause, event.id, payment_id, stated)
        # Otherwise it waits: the payment will find it when it comes.
        return "accepted"

    def _reverse(self, cause: Cause, cause_id: UUID, payment_id: UUID, reversal: Reversal) -> None:
        receipt = self.books.receipts[payment_id]
        posting = self.books.posting(
            company=receipt.company, cause_id=cause_id, kind="payment-reversed", effective_on=reversal.reversed_on
        )
        for allocation in self.books.live_of_receipt(payment_id):
            posting.undo(allocation, rule=REVERSAL_RULE)
        posting.reverse(payment_id)
        posted = posting.close()
        self._tell(
            cause,
            payments.PaymentReversed(
                company=Company(receipt.company),
                payment_id=PaymentId(payment_id),
                external=External(system=System(receipt.system), id=ExternalId(receipt.external_id)),
                customer=None if receipt.told_customer is None else Customer(receipt.told_customer),
                amount=Money.from_minor(receipt.amount, receipt.currency),
                reason=reversal.reason,
                effective_on=reversal.reversed_on,
            ),
            sequence=self.books.receipts[payment_id].version,
        )
        self.tell_posted(cause, posted)

    # ------------------------------------------------------------------ documents

    def _invoice(self, event: Event, told: invoicing.InvoiceState) -> Outcome:
        directory = self.facts.directory
        before = directory.get(told.invoice_id)
        if before is not None and before.cancelled:
            return "duplicate"
        references = references_of(told)
        directory.learn(
            Invoice(
                company=told.company,
                invoice_id=told.invoice_id,
                customer=told.customer,
                number=told.number,
                system=told.external.system,
            ),
            references,
        )
        self.facts.changed_invoices[told.invoice_id] = None
        self.facts.new_names |= {(told.company, reference, told.invoice_id) for reference in references}
        is_known = told.fiscal_id is not None or told.payment_method_code is not None
        if is_known and grouping_of(self._profile(told.company)) is not None:
            self.facts.new_fiscal[told.invoice_id] = (told.company, told.fiscal_id, told.payment_method_code)
        if told.discount is not None:
            until_on = told.discount.until_on
            self.facts.new_discounts[told.invoice_id] = (told.company, told.discount.amount.minor, until_on)
        is_new = not self.books.of_invoice(told.invoice_id)
        kind = "invoice-issued" if is_new else "invoice-changed"
        posting = self.books.posting(
            company=told.company,
            cause_id=event.id,
            kind=kind,
            effective_on=told.issued_on if is_new else self._today(told.company),
        )
        for instalment in told.instalments:
            receivable_id = told.receivable_id(instalment.number)
            known = self.books.receivables.get(receivable_id)
            if known is None:
                posting.issue(_receivable(told, instalment))
            elif known.due_on != instalment.due_on:
                posting.move_due(receivable_id, instalment.due_on)
        self.tell_posted(event.cause, posting.close())
        if is_new:
            self._apply_waiting(event, told, references)
        return "accepted"

    def _apply_waiting(self, event: Event, told: invoicing.InvoiceState, references: Iterable[str]) -> None:
        """Money that named this invoice before it came is applied now, each receipt for itself."""
        namings: dict[UUID, list[Naming]] = {}
        for reference in references:
            for naming in self.facts.namings.get((told.company, reference), ()):
                namings.setdefault(naming.receipt_id, []).append(naming)
        waiting = [self.books.receipts[i] for i in namings]
        profile = self._profile(told.company)
        if profile.fifo_auto:
            waiting += [
                receipt
                for receipt in self.books.receipts.values()
                if receipt.customer == told.customer and receipt.reason is None and receipt.receipt_id not in namings
            ]
        # In the order of arrival, so that it ends as if the invoice had come first.
        for receipt in sorted(waiting, key=lambda r: r.arrived):
            if not receipt.unapplied:
                continue
            currency = told.payable.currency
            posting = self.books.posting(
                company=told.company,
                cause_id=uuid5(event.id, str(receipt.receipt_id)),
                kind="payment-allocated",
                effective_on=max(receipt.value_on, told.issued_on),
            )
            if receipt.receipt_id in namings:
                claims = [
                    claim
                    for naming in _once_per_place(namings[receipt.receipt_id])
                    if (claim := self._claim(told.invoice_id, receipt.currency, naming.at_most)) is not None
                ]
                if not claims:
                    posting.explain(receipt.receipt_id, Reason.CURRENCY_DIFFERS)
                elif receipt.customer is None:
                    posting.identify(receipt.receipt_id, told.customer)
                shares, given = close_by_reference(
                    receipt.unapplied,
                    claims,
                    discounts=partial(self._discounts, receipt.value_on),
                    is_small=partial(self._is_small, told.company, receipt.currency),
                )
                rule = BY_REFERENCE
            elif receipt.currency == currency:
                given = {}
                shares = share_oldest_first(receipt.unapplied, self.books.of_invoice(told.invoice_id))
                rule = OLDEST_DUE
            else:
                continue
            _apply(posting, receipt.receipt_id, shares, rule=rule, given=given)
            self._clear_reason(posting, receipt.receipt_id)
            self.tell_posted(_follow_up(event.cause, str(receipt.receipt_id)), posting.close())

    def _cancel(self, event: Event, invoice_id: UUID, cancelled_on: date) -> Outcome:
        known = self.facts.directory.get(invoice_id)
        if known is None or known.cancelled:
            return "duplicate"
        self.facts.directory.cancel(invoice_id)
        self.facts.changed_invoices[invoice_id] = None
        posting = self.books.posting(
            company=event.company, cause_id=event.id, kind="invoice-cancelled", effective_on=cancelled_on
        )
        for receivable in self.books.of_invoice(invoice_id):
            for allocation in self.books.live_of_receivable(receivable.receivable_id):
                posting.undo(allocation, rule=CANCELLATION_RULE)
                posting.explain(allocation.receipt_id, Reason.CANCELLED)
            still_open = self.books.receivables[receivable.receivable_id].open
            if still_open:
                posting.credit(receivable.receivable_id, still_open, kind="cancellation", of=invoice_id)
        self.tell_posted(event.cause, posting.close())
        return "accepted"

    def _credit_note(self, event: Event, told: invoicing.CreditNoteIssued) -> Outcome:
        """Credit each named invoice up to open; what is left is the customer's credit."""
        note_id = told.credit_note_id
        booked = entry_id(note_id, "credit-note-issued")
        if booked in self.facts.entries:
            return "duplicate"
        self.facts.entries.add(booked)
        posting = self.books.posting(
            company=told.company, cause_id=event.id, kind="credit-note-issued", effective_on=told.effective_on
        )
        left = told.amount.minor
        waiting: list[Naming] = []
        reason: Reason | None = None
        for part in told.applies_to:
            found = self.facts.directory.get(part.invoice_id)
            claim = self._claim(part.invoice_id, told.amount.currency, part.amount.minor)
            if found is None:
                waiting.append(Naming(note_id, len(waiting), part.amount.minor))
                self._keep_naming(told.company, normalised(str(part.invoice_id)), waiting[-1])
                reason = reason or Reason.REFERENCE_UNKNOWN
            elif claim is None:
                reason = reason or Reason.CURRENCY_DIFFERS
            else:
                # A credit note is about what was sold, not about what lateness cost.
                sold = Claim(tuple(r for r in claim.receivables if r.kind == "invoice"), claim.at_most)
                for receivable_id, amount in share_by_reference(left, [sold]).items():
                    posting.credit(receivable_id, amount, kind="credit_note", of=note_id)
                    left -= amount
        if left:
            posting.receive(
                Receipt(
                    company=told.company,
                    receipt_id=note_id,
                    customer=told.customer,
                    told_customer=told.customer,
                    kind="credit",
                    currency=told.amount.currency,
                    system=told.external.system,
                    external_id=told.external.id,
                    sha256=hashlib.sha256(told.model_dump_json().encode()).digest(),
                    amount=left,
                    value_on=told.effective_on,
                    reason=reason,
                ),
                source="ADJUSTMENT:credit_note",
            )
        self.tell_posted(event.cause, posting.close())
        return "accepted"

    # ------------------------------------------------------------------ shared

    def _spread(self, posting: Posting, receipt_id: UUID, *, named: Collection[UUID]) -> None:
        """Where the company wants it, what no reference decides pays the customer's oldest other debts."""
        receipt = self.books.receipts[receipt_id]
        if receipt.customer is None or receipt.reason is not None or not self._profile(receipt.company).fifo_auto:
            return
        debts = self.books.open_of(receipt.company, receipt.customer, receipt.currency)
        others = [debt for debt in debts if debt.receivable_id not in named]
        exact = [debt for debt in others if debt.open == receipt.unapplied]
        if len(exact) == 1 and not named:
            posting.allocate(
                receipt_id,
                exact[0].receivable_id,
                receipt.unapplied,
                rule=EXACT_DEBT,
                confidence=CONFIDENCE[EXACT_DEBT],
            )
        else:
            _apply(posting, receipt_id, share_oldest_first(receipt.unapplied, others), rule=OLDEST_DUE)

    def _clear_reason(self, posting: Posting, receipt_id: UUID) -> None:
        """Nothing stands in the way of a receipt that is applied in full."""
        receipt = self.books.receipts[receipt_id]
        if receipt.reason is not None and not receipt.unapplied:
            posting.explain(receipt_id, None)

    def _keep_naming(self, company: str, reference: str, naming: Naming) -> None:
        self.facts.namings.setdefault((company, reference), []).append(naming)
        self.facts.new_namings.append((company, reference, naming))

    def _profile(self, company: str) -> CompanyProfile:
        profile = self.companies.get(company)
        assert profile is not None  # events of unknown companies are refused before
        return profile

    def _today(self, company: str) -> date:
        today = self._todays.get(company)
        if today is None:
            today = self._todays[company] = self.now.astimezone(self._profile(company).zone).date()
        return today

    def _tell(self, cause: Cause, payload: Payload, *, sequence: int) -> None:
        self.tellings.append(_Telling(payload, sequence, cause))

    def tell_posted(self, cause: Cause, posted: Posted) -> None:
        """Note the events of a posting."""
        if posted.allocations:
            self.applied.append(Applied.of(self.books, cause, posted))
        for allocation in posted.allocations:
            receivable = self.books.receivables[allocation.receivable_id]
            self._tell(
                cause,
                payments.PaymentAllocated(
                    company=Company(allocation.company),
                    allocation_id=identifiers.AllocationId(allocation.allocation_id),
                    payment_id=PaymentId(allocation.receipt_id),
                    receivable_id=ReceivableId(allocation.receivable_id),
                    customer=Customer(receivable.customer),
                    amount=Money.from_minor(allocation.amount, allocation.currency),
                    rule=allocation.rule,
                    confidence=allocation.confidence,
                    effective_on=allocation.effective_on or posted.effective_on,
                    reverses=None if allocation.reverses is None else identifiers.AllocationId(allocation.reverses),
                ),
                sequence=1,
            )
        for receivable in posted.receivables:
            self._tell(
                cause,
                _changed(receivable, posted, recorded_on=self._today(receivable.company)),
                sequence=receivable.version,
            )
        given_up = {
            allocation.receivable_id: RECOVERY if allocation.is_recovery else SMALL_BALANCE
            for allocation in posted.allocations
            if allocation.written_off
        }
        for receivable in posted.receivables:
            if receivable.receivable_id in given_up:
                self._tell(
                    cause,
                    payments.WrittenOff(
                        company=Company(receivable.company),
                        receivable_id=ReceivableId(receivable.receivable_id),
                        customer=Customer(receivable.customer),
                        amount=Money.from_minor(receivable.written_off, receivable.currency),
                        reason=given_up[receivable.receivable_id],
                        effective_on=max(posted.effective_on, receivable.issued_on),
                    ),
                    sequence=receivable.version,
                )
        for credit in posted.credits:
            self._tell(
                cause,
                payments.CreditChanged(
                    company=Company(credit.company),
                    customer=None if credit.customer == NOBODY else Customer(credit.customer),
                    currency=credit.currency,
                    unapplied=to_decimal(credit.unapplied, credit.currency),
                    version=credit.version,
                    cause=posted.kind,
                    effective_on=posted.effective_on,
                ),
                sequence=credit.version,
            )


def _apply(
    posting: Posting,
    receipt_id: UUID,
    shares: dict[UUID, int],
    *,
    rule: str,
    given: Mapping[UUID, Given] = MappingProxyType({}),
) -> None:
    for receivable_id, amount in shares.items():
        also = given.get(receivable_id, _NOTHING)
        posting.allocate(
            receipt_id, receivable_id, amount, rule=rule, discount=also.discount, written_off=also.written_off
        )


def tolerance_of(profile: CompanyProfile, currency: str) -> Tolerance:
    """None in Mexico: a receipt for an invoice paid in parts states what is left, so a rest stays until a person decides."""
    limits = profile.tolerance.get(currency)
    if limits is None or profile.country == "MX":
        return Tolerance()
    return Tolerance(amount=to_minor(limits.amount, currency), percent=limits.percent)


def _receivable(told: invoicing.InvoiceState, instalment: invoicing.Instalment) -> Receivable:
    return Receivable(
        company=told.company,
        receivable_id=told.receivable_id(instalment.number),
        customer=told.customer,
        invoice_id=told.invoice_id,
        instalment=instalment.number,
        number=told.number,
        kind="invoice",
        currency=instalment.amount.currency,
        issued=instalment.amount.minor,
        issued_on=told.issued_on,
        due_on=instalment.due_on,
    )


def _changed(receivable: Receivable, posted: Posted, *, recorded_on: date) -> payments.ReceivableChanged:
    def major(minor: int) -> Decimal:
        return to_decimal(minor, receivable.currency)

    return payments.ReceivableChanged(
        company=Company(receivable.company),
        receivable_id=ReceivableId(receivable.receivable_id),
        invoice_id=None if receivable.invoice_id is None else InvoiceId(receivable.invoice_id),
        instalment=receivable.instalment,
        customer=Customer(receivable.customer),
        number=receivable.number,
        kind=receivable.kind,
        currency=receivable.currency,
        issued_on=receivable.issued_on,
        due_on=receivable.due_on,
        issued=major(receivable.issued),
        allocated=major(receivable.allocated),
        credited=major(receivable.credited),
        written_off=major(receivable.written_off),
        open=major(receivable.open),
        version=receivable.version,
        cause=posted.kind,
        effective_on=max(posted.effective_on, receivable.issued_on),
        recorded_on=recorded_on,
    )


def _payment_id(told: ingress.PaymentReceived | ingress.PaymentReversed) -> PaymentId:
    return identifiers.payment_id(told.company, told.external.system, told.external.id)


def _stated_references(told: ingress.PaymentReceived) -> Iterator[tuple[str, int | None]]:
    """What a payment names, in its order: amounts stated for a reference first, then bare references."""
    stated = set()
    for line in told.remittance:
        stated.add(normalised(line.reference))
        yield normalised(line.reference), line.amount.minor
    for reference in dict.fromkeys(normalised(reference) for reference in told.references):
        if reference not in stated:
            yield reference, None


def _only_customer(claims: Iterable[Claim]) -> str | None:
    """Whose money it is when all it names belongs to one customer."""
    customers = {receivable.customer for claim in claims for receivable in claim.receivables}
    return customers.pop() if len(customers) == 1 else None


def _once_per_place(namings: Iterable[Naming]) -> list[Naming]:
    """A reference may be both the number and the external id of an invoice: it counts once."""
    return sorted({(n.receipt_id, n.position): n for n in namings}.values())


def _check_currency(currency: str, amounts: Iterable[Money], pointer: str) -> None:
    for amount in amounts:
        if amount.currency != currency:
            raise MixedCurrenciesError(f"{currency} and {amount.currency} in one statement", pointer=pointer)


def _follow_up(cause: Cause, what: str) -> Cause:
    """The cause of a second step of the same event, so that each step tells its own events."""
    return replace(cause, seed=f"{cause.seed}|{what}")
