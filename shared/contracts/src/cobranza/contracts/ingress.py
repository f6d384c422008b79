"""Events that ERPs and banks may send: the same words, external references only, never our ids."""

from datetime import date
from typing import Annotated, ClassVar, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from cobranza.contracts.identifiers import FiscalReceiptId
from cobranza.contracts.invoicing import Contact, InvoiceTerms
from cobranza.contracts.money import NonNegativeMoney, PositiveMoney
from cobranza.contracts.payloads import (
    Count,
    Country,
    Currency,
    Customer,
    External,
    ExternalId,
    Instant,
    Language,
    Line,
    Ordinal,
    Part,
    Payload,
    Slug,
    System,
    Url,
    Zone,
)
from cobranza.contracts.payments import Method, RemittanceLine


def _real_zone(zone: str) -> str:
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{zone!r} is not an IANA time zone") from error
    return zone


class IngressPayload(Payload):
    """What an ERP states about one of its documents; a higher revision supersedes a lower one."""

    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("external_id",)

    external: External
    revision: Ordinal = 1

    @property
    def external_id(self) -> ExternalId:
        """The system's own id of the document."""
        return self.external.id


class CustomerChanged(IngressPayload):
    """A customer is new or has changed: full state, not only the difference."""

    TYPE: ClassVar[str] = "erp.customer-changed.v1"
    AGGREGATE: ClassVar[str] = "customer"

    customer: Customer
    name: Line
    tax_id: Line | None = None
    country: Country
    language: Annotated[Language | None, Field(description="Absent: the company's first")] = None
    zone: Annotated[Annotated[Zone, AfterValidator(_real_zone)] | None, Field(description="Absent: the company's")] = (
        None
    )
    segment: Slug = "standard"
    protected_party: Annotated[
        Slug, Field(description="Protection class; open set; known: business, consumer, unknown")
    ] = "unknown"
    owner: Line | None = None
    contacts: Annotated[tuple[Contact, ...], Field(max_length=100)] = ()
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


class InvoiceIssued(InvoiceTerms, IngressPayload):
    """An invoice was issued; its instalments sum to what is payable."""

    TYPE: ClassVar[str] = "erp.invoice-issued.v1"
    AGGREGATE: ClassVar[str] = "invoice"


class InvoiceChanged(InvoiceTerms, IngressPayload):
    """Dates or texts of an issued invoice changed: full state, with a higher revision."""

    TYPE: ClassVar[str] = "erp.invoice-changed.v1"
    AGGREGATE: ClassVar[str] = "invoice"


class InvoiceCancelled(IngressPayload):
    """An issued invoice was cancelled; ``external`` is the invoice's."""

    TYPE: ClassVar[str] = "erp.invoice-cancelled.v1"
    AGGREGATE: ClassVar[str] = "invoice"

    customer: Customer
    cancelled_on: date
    motive: Line | None = None
    replaced_by_external_id: ExternalId | None = None


class CreditedInvoice(Part):
    """The part of a credit note that goes to one invoice of the same system."""

    invoice_external_id: ExternalId
    amount: PositiveMoney


class CreditNoteIssued(IngressPayload):
    """A credit note was issued, on invoices or free."""

    TYPE: ClassVar[str] = "erp.credit-note-issued.v1"
    AGGREGATE: ClassVar[str] = "credit-note"

    customer: Customer
    number: Line | None = None
    issued_on: date
    effective_on: Annotated[date | None, Field(description="Absent: the day it was issued")] = None
    amount: PositiveMoney
    applies_to: Annotated[tuple[CreditedInvoice, ...], Field(max_length=200)] = ()


class Payer(Part):
    """Who paid, as the bank names them, while the customer is not known."""

    name: Line | None = None
    account: Line | None = None
    tax_id: Line | None = None
    to_account: Annotated[
        Line | None, Field(description="Account of the company that they paid to; one customer's own says who it was")
    ] = None


class PaymentReceived(IngressPayload):
    """Money arrived; references name invoices by number, fiscal id or external id."""

    TYPE: ClassVar[str] = "erp.payment-received.v1"
    AGGREGATE: ClassVar[str] = "payment"

    customer: Annotated[Customer | None, Field(description="Absent: not known")] = None
    payer: Payer | None = None
    amount: PositiveMoney
    value_on: date
    booked_on: Annotated[date | None, Field(description="Absent: the value date")] = None
    method: Method = "transfer"
    references: Annotated[tuple[Line, ...], Field(max_length=200)] = ()
    remittance: Annotated[tuple[RemittanceLine, ...], Field(max_length=200)] = ()


class PaymentReversed(IngressPayload):
    """A payment was taken back; ``external`` is the payment's, and so is the customer."""

    TYPE: ClassVar[str] = "erp.payment-reversed.v1"
    AGGREGATE: ClassVar[str] = "payment"

    customer: Annotated[Customer | None, Field(description="As on the payment")] = None
    reversed_on: date
    reason: Annotated[Slug, Field(description="Open set; known: returned, chargeback, cheque_bounced, error")] = (
        "returned"
    )


class CashWatermark(Payload):
    """All cash of a feed, or of the company, is known through a day."""

    TYPE: ClassVar[str] = "erp.cash-watermark.v1"
    AGGREGATE: ClassVar[str] = "cash-feed"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("feed",)

    system: System
    feed: Annotated[Slug | None, Field(description="Absent: all cash of the company")] = None
    through_on: Annotated[date, Field(description="Last complete day, inclusive")]
    stated_at: Instant | None = None


class CustomerTotal(Part):
    """What is open of one customer."""

    customer: Customer
    open_total: NonNegativeMoney


class ControlTotal(Payload):
    """How many instalments of a system's invoices are open in the ERP on a date, and what they sum to.

    A run takes as many messages as its customers need; each repeats the company's figures. A later
    run of the same date, under another run id, corrects the one before.
    """

    TYPE: ClassVar[str] = "erp.control-total.v1"
    AGGREGATE: ClassVar[str] = "control-total"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("currency",)

    system: System
    currency: Currency
    total_on: Annotated[date, Field(description="At the end of this day")]
    open_count: Count
    open_total: NonNegativeMoney
    customers: Annotated[
        tuple[CustomerTotal, ...],
        Field(max_length=500, description="So that a difference is named; each customer once in a run"),
    ] = ()
    run_id: Annotated[
        ExternalId | None,
        Field(description="The system's own name of the run; absent: the message is a run by itself"),
    ] = None
    part: Annotated[Ordinal, Field(description="Which of the run's messages this is")] = 1
    parts: Annotated[Ordinal, Field(description="How many messages the run has")] = 1

    @model_validator(mode="after")
    def _is_one_of_its_run(self) -> Self:
        if self.part > self.parts:
            raise ValueError(f"part {self.part} of a run of {self.parts}")
        if self.run_id is None and self.parts > 1:
            raise ValueError("several messages of one run need its run_id")
        return self


class FiscalReceiptAnswered(Payload):
    """The fiscal receipt that Cobranza asked for was issued or rejected."""

    TYPE: ClassVar[str] = "erp.fiscal-receipt-answered.v1"
    AGGREGATE: ClassVar[str] = "fiscal-receipt"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("fiscal_receipt_id",)

    system: System
    fiscal_receipt_id: Annotated[FiscalReceiptId, Field(description="As asked for")]
    customer: Customer
    outcome: Annotated[Slug, Field(description="Open set; known: issued, rejected")]
    fiscal_id: Line | None = None
    url: Url | None = None
    code: Annotated[Line | None, Field(description="Why it was rejected")] = None
    answered_on: date
