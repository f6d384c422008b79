"""Events of invoicing: customers, documents and the due-date calendar."""

from datetime import date
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from cobranza.contracts import identifiers
from cobranza.contracts.identifiers import CreditNoteId, InvoiceId, ReceivableId
from cobranza.contracts.money import PositiveMoney
from cobranza.contracts.payloads import (
    ChannelCode,
    Country,
    Customer,
    Document,
    External,
    Instant,
    Language,
    Line,
    Ordinal,
    Part,
    Payload,
    Slug,
    Zone,
)


class Contact(Part):
    """A person or department of the customer, and one way to reach it."""

    name: Line
    role: Annotated[Slug, Field(description="Open set; known: accounts_payable, owner, legal, other")]
    channel: ChannelCode
    value: Line
    language: Language | None = None
    consent: Annotated[Slug, Field(description="Open set; known: unknown, given, withdrawn")] = "unknown"


class CustomerState(Payload):
    """All that is known about a customer."""

    AGGREGATE: ClassVar[str] = "customer"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("customer",)

    customer: Customer
    revision: Ordinal
    name: Line
    tax_id: Line | None = None
    country: Country
    language: Language
    zone: Zone
    segment: Slug = "standard"
    protected_party: Annotated[
        Slug, Field(description="Protection class; open set; known: business, consumer, unknown")
    ] = "unknown"
    owner: Annotated[Line | None, Field(description="Collector in charge")] = None
    contacts: tuple[Contact, ...] = ()
    virtual_accounts: Annotated[
        tuple[Line, ...],
        Field(
            max_length=20,
            description="Accounts of the company on which this customer alone pays, such as a virtual CLABE",
        ),
    ] = ()
    risk: Annotated[Slug | None, Field(description="Risk class, as the creditor names it")] = None
    tags: Annotated[tuple[Slug, ...], Field(max_length=50, description="Whatever policies ask of, such as export")] = ()
    customer_since: Annotated[date | None, Field(description="Day of the first business done")] = None


class CustomerChanged(CustomerState):
    """A customer is new or has changed. Personal data travels on this event alone."""

    TYPE: ClassVar[str] = "cobranza.invoicing.customer-changed.v1"


class Instalment(Part):
    """One part of an invoice with its own due date: one receivable."""

    number: Ordinal
    due_on: date
    amount: PositiveMoney


class Discount(Part):
    """Early-payment discount: this much less when paid on or before the last day."""

    amount: PositiveMoney
    until_on: date


class InvoiceTerms(Payload):
    """What an invoice says, whoever states it."""

    customer: Customer
    number: Line
    fiscal_id: Line | None = None
    document_type: Annotated[Slug, Field(description="Open set; known: invoice, debit_note, receipt")] = "invoice"
    issued_on: date
    payable: Annotated[PositiveMoney, Field(description="Sum of the instalments")]
    instalments: Annotated[tuple[Instalment, ...], Field(min_length=1, max_length=200)]
    opening: Annotated[bool, Field(description="Part of the opening balance: issued before Cobranza was in use")] = (
        False
    )
    concept: Line | None = None
    product_line: Line | None = None
    terms: Annotated[Line | None, Field(description="Payment terms in words, for people")] = None
    discount: Discount | None = None
    documents: Annotated[tuple[Document, ...], Field(max_length=20)] = ()
    payment_method_code: Annotated[
        Line | None,
        Field(
            description="How the tax authority is told it is paid; open set; known: PUE (at once), PPD (later, in parts)"
        ),
    ] = None


class InvoiceState(InvoiceTerms):
    """All that is known about an invoice."""

    AGGREGATE: ClassVar[str] = "invoice"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("invoice_id",)

    invoice_id: InvoiceId
    external: External
    revision: Ordinal

    def receivable_id(self, instalment: int) -> ReceivableId:
        """Id of the receivable of one of its instalments."""
        return identifiers.receivable_id(self.invoice_id, instalment)


class InvoiceIssued(InvoiceState):
    """An invoice was issued; each instalment is a receivable."""

    TYPE: ClassVar[str] = "cobranza.invoicing.invoice-issued.v1"


class InvoiceChanged(InvoiceState):
    """Dates or texts of an invoice changed; amounts, currency and customer never do."""

    TYPE: ClassVar[str] = "cobranza.invoicing.invoice-changed.v1"


class _InvoiceFact(Payload):
    AGGREGATE: ClassVar[str] = "invoice"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("invoice_id",)

    invoice_id: InvoiceId
    customer: Customer
    number: Line


class InvoiceDelivered(_InvoiceFact):
    """The document reached the customer."""

    TYPE: ClassVar[str] = "cobranza.invoicing.invoice-delivered.v1"

    channel: ChannelCode
    delivered_at: Instant


class InvoiceAcknowledged(_InvoiceFact):
    """The customer acknowledged the invoice, or the law counts silence as acceptance."""

    TYPE: ClassVar[str] = "cobranza.invoicing.invoice-acknowledged.v1"

    kind: Literal["explicit", "tacit"]
    acknowledged_at: Instant
    by: Line | None = None


class InvoiceCancelled(_InvoiceFact):
    """An invoice was cancelled; what it is paid with becomes unapplied credit."""

    TYPE: ClassVar[str] = "cobranza.invoicing.invoice-cancelled.v1"

    cancelled_on: date
    motive: Line | None = None
    replaced_by: InvoiceId | None = None


class InvoiceReplaced(_InvoiceFact):
    """An invoice gives way to another that says the same debt anew."""

    TYPE: ClassVar[str] = "cobranza.invoicing.invoice-replaced.v1"

    replaced_on: date
    replaced_by: InvoiceId
    motive: Line | None = None


class CreditedInvoice(Part):
    """The part of a credit note that goes to one invoice."""

    invoice_id: InvoiceId
    amount: PositiveMoney


class CreditNoteIssued(Payload):
    """A credit note lowers what is owed; the part that names no invoice is credit."""

    TYPE: ClassVar[str] = "cobranza.invoicing.credit-note-issued.v1"
    AGGREGATE: ClassVar[str] = "credit-note"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("credit_note_id",)

    credit_note_id: CreditNoteId
    external: External
    revision: Ordinal = 1
    customer: Customer
    number: Line | None = None
    issued_on: date
    effective_on: date
    amount: PositiveMoney
    applies_to: Annotated[tuple[CreditedInvoice, ...], Field(max_length=200)] = ()


class DueDate(Payload):
    """A day of the due-date calendar of one open instalment has come."""

    TYPE: ClassVar[str] = "cobranza.invoicing.due-date.v1"
    AGGREGATE: ClassVar[str] = "instalment"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("receivable_id",)

    invoice_id: InvoiceId
    receivable_id: ReceivableId
    customer: Customer
    due_on: date
    phase: Literal["approaching", "reached", "passed"]
    offset_days: Annotated[int, Field(ge=-3650, le=3650, description="Days after the due date; negative before it")]
    business_date: Annotated[date, Field(description="The company's date on which it was told")]


class _Input(Payload):
    AGGREGATE: ClassVar[str] = "input"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("input_id",)

    input_id: Annotated[UUID, Field(description="Identity of the event that was received")]
    event_type: Annotated[str, Field(max_length=128)]
    customer: Customer | None = None


class InputParked(_Input):
    """Input about a customer was not understood and waits; nobody is asked for money meanwhile."""

    TYPE: ClassVar[str] = "cobranza.invoicing.input-parked.v1"

    code: Slug
    parked_at: Instant


class InputReleased(_Input):
    """Parked input was dealt with."""

    TYPE: ClassVar[str] = "cobranza.invoicing.input-released.v1"

    outcome: Annotated[Slug, Field(description="Open set; known: applied, fixed, discarded")]
    released_at: Instant
