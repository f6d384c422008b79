"""Events of payments: what is owed and paid; and the permit, the one call between services."""

from datetime import date
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cobranza.contracts.identifiers import (
    AllocationId,
    CaseId,
    FiscalReceiptId,
    InvoiceId,
    NoticeId,
    PaymentId,
    ReceivableId,
)
from cobranza.contracts.money import Money, NonNegativeMoney, PositiveMoney
from cobranza.contracts.payloads import (
    Amount,
    AmountsInCurrency,
    Company,
    Count,
    Country,
    Currency,
    Customer,
    External,
    ExternalId,
    Instant,
    Line,
    Ordinal,
    Part,
    Payload,
    PurposeCode,
    Ratio,
    ReasonCode,
    Sha256,
    Slug,
    System,
    Version,
)
from cobranza.contracts.reasons import TRANSIENT_PERMIT_REFUSALS

Method = Annotated[
    Slug,
    Field(description="Open set; known: transfer, card, cash, cheque, direct_debit, voucher, other"),
]
Cause = Annotated[
    Slug,
    Field(description="Stem of the fact behind the change, such as payment-received; open set"),
]
EffectiveOn = Annotated[date, Field(description="Value date: from when the change counts")]


class RemittanceLine(Part):
    """What the payer says an amount is for: an invoice number, a fiscal id or an external id."""

    reference: Line
    amount: PositiveMoney


class _PaymentState(Payload):
    AGGREGATE: ClassVar[str] = "payment"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("payment_id",)

    payment_id: PaymentId
    external: External
    customer: Annotated[Customer | None, Field(description="Absent: payer not known")] = None
    amount: PositiveMoney


class PaymentReceived(_PaymentState):
    """Money arrived. A receipt keeps its key for life, also when its payer becomes known later."""

    TYPE: ClassVar[str] = "cobranza.payments.payment-received.v1"

    value_on: date
    booked_on: date
    method: Method
    references: Annotated[tuple[Line, ...], Field(max_length=200)] = ()
    remittance: Annotated[tuple[RemittanceLine, ...], Field(max_length=200)] = ()


class PaymentReversed(_PaymentState):
    """A payment was taken back; its allocations are undone and what they settled is open again."""

    TYPE: ClassVar[str] = "cobranza.payments.payment-reversed.v1"

    reason: Annotated[Slug, Field(description="Open set; known: returned, chargeback, cheque_bounced, error")]
    effective_on: EffectiveOn


class PaymentRefunded(_PaymentState):
    """Unapplied money of a payment was given back."""

    TYPE: ClassVar[str] = "cobranza.payments.payment-refunded.v1"

    refunded: Annotated[PositiveMoney, Field(description="All that was refunded of it so far")]
    reason: Slug
    effective_on: EffectiveOn


class PaymentAllocated(Payload):
    """A part of a receipt was applied to a receivable, or such an application undone."""

    TYPE: ClassVar[str] = "cobranza.payments.payment-allocated.v1"
    AGGREGATE: ClassVar[str] = "allocation"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("allocation_id",)

    allocation_id: AllocationId
    payment_id: PaymentId
    receivable_id: ReceivableId
    customer: Annotated[Customer, Field(description="The receivable's customer")]
    amount: Annotated[Money, Field(description="Negative when it undoes another allocation")]
    rule: Annotated[str, Field(max_length=64, description="Rule and version, oldest-due@3")]
    confidence: Annotated[Ratio, Field(description="From 0 to 1")]
    effective_on: EffectiveOn
    reverses: AllocationId | None = None


class ReceivableChanged(AmountsInCurrency, Payload):
    """Full balance of one receivable: issued = allocated + credited + written_off + open."""

    TYPE: ClassVar[str] = "cobranza.payments.receivable-changed.v1"
    AGGREGATE: ClassVar[str] = "receivable"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("receivable_id",)

    receivable_id: ReceivableId
    invoice_id: Annotated[InvoiceId | None, Field(description="Absent for a charge on a whole case")] = None
    instalment: Annotated[Ordinal | None, Field(description="Absent for a charge on a whole case")] = None
    customer: Customer
    number: Line
    kind: Literal["invoice", "late_charge"]
    issued_on: date
    due_on: date
    issued: Amount
    allocated: Amount
    credited: Amount
    written_off: Amount
    open: Amount
    version: Version
    cause: Cause
    effective_on: EffectiveOn
    recorded_on: Annotated[date, Field(description="The company's date when it was booked")]

    @property
    def issued_minor(self) -> int:
        """Original amount, in minor units."""
        return self.minor("issued")

    @property
    def allocated_minor(self) -> int:
        """Paid, in minor units."""
        return self.minor("allocated")

    @property
    def credited_minor(self) -> int:
        """Credited, in minor units."""
        return self.minor("credited")

    @property
    def written_off_minor(self) -> int:
        """Written off, in minor units."""
        return self.minor("written_off")

    @property
    def open_minor(self) -> int:
        """Still owed, in minor units."""
        return self.minor("open")


class CreditChanged(AmountsInCurrency, Payload):
    """Unapplied money of a customer in one currency after a change."""

    TYPE: ClassVar[str] = "cobranza.payments.credit-changed.v1"
    AGGREGATE: ClassVar[str] = "credit"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("customer", "currency")

    customer: Annotated[Customer | None, Field(description="Absent: payer not known")] = None
    unapplied: Amount
    version: Version
    cause: Cause
    effective_on: EffectiveOn

    @property
    def unapplied_minor(self) -> int:
        """Unapplied credit, in minor units."""
        return self.minor("unapplied")


class WrittenOff(Payload):
    """What was open of a receivable was given up, in whole or in part."""

    TYPE: ClassVar[str] = "cobranza.payments.written-off.v1"
    AGGREGATE: ClassVar[str] = "write-off"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("receivable_id",)

    receivable_id: ReceivableId
    customer: Customer
    amount: Annotated[NonNegativeMoney, Field(description="All that is written off of it now")]
    reason: Slug
    approved_by: Line | None = None
    effective_on: EffectiveOn


class _LateCharge(Payload):
    AGGREGATE: ClassVar[str] = "late-charge"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("receivable_id",)

    receivable_id: Annotated[ReceivableId, Field(description="The charge's own receivable")]
    customer: Customer
    case_id: CaseId
    step: Slug
    run: Ordinal
    code: Slug
    kind: Annotated[Slug, Field(description="Open set; known: fee, interest, compensation")]
    principal_receivable_id: Annotated[
        ReceivableId | None, Field(description="The debt it is on; absent: the whole case")
    ] = None
    amount: PositiveMoney


class LateChargeAssessed(_LateCharge):
    """A fee or interest was booked; the charge is a receivable of its own."""

    TYPE: ClassVar[str] = "cobranza.payments.late-charge-assessed.v1"

    rule: Annotated[str, Field(max_length=64, description="Rule and version, mx-ccom-362@2")]
    from_on: Annotated[date | None, Field(description="First day of interest, inclusive")] = None
    through_on: Annotated[date | None, Field(description="Last day of interest, inclusive")] = None
    assessed_on: date
    due_on: date


class LateChargeWaived(_LateCharge):
    """A late charge was forgiven by a credit."""

    TYPE: ClassVar[str] = "cobranza.payments.late-charge-waived.v1"

    waived: Annotated[PositiveMoney, Field(description="All that was forgiven or withdrawn of it so far")]
    reason: Annotated[
        Slug,
        Field(description="Open set; known: principal_paid, recomputed, goodwill, settlement, error"),
    ]
    approved_by: Line | None = None
    waived_on: date


class RefusedCharge(Part):
    """One debt on which nothing was charged."""

    receivable_id: Annotated[ReceivableId | None, Field(description="Absent: the whole case")] = None
    code: Slug
    reason: Slug


class LateChargeRefused(Payload):
    """Nothing was charged of what a step asked for, and nothing will be."""

    TYPE: ClassVar[str] = "cobranza.payments.late-charge-refused.v1"
    AGGREGATE: ClassVar[str] = "late-charge-request"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("case_id", "step", "run")

    customer: Customer
    case_id: CaseId
    step: Slug
    run: Ordinal
    reason: Annotated[
        Slug,
        Field(description="Of the first debt. Open set; known: settled, nothing_due, cap_reached, charged_before"),
    ]
    debts: Annotated[tuple[RefusedCharge, ...], Field(max_length=1000)]
    refused_on: date


class CashWatermark(Payload):
    """Cash of the company is known through a day, in one feed or in all."""

    TYPE: ClassVar[str] = "cobranza.payments.cash-watermark.v1"
    AGGREGATE: ClassVar[str] = "cash-feed"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("feed",)

    feed: Annotated[Slug | None, Field(description="Absent: all cash of the company")] = None
    through_on: Annotated[date, Field(description="Last day that is complete, inclusive")]
    stated_at: Instant
    company_through_on: Annotated[
        date | None,
        Field(description="Last day of which all cash of the company is known now, whatever its feeds"),
    ] = None

    @property
    def all_through_on(self) -> date | None:
        """Last day of which all cash of the company is known, as far as this event tells it."""
        return self.company_through_on or (self.through_on if self.feed is None else None)


class ControlFigures(Part):
    """How many receivables are open and what they sum to."""

    open_count: Count
    open_total: NonNegativeMoney


class CustomerDifference(Part):
    """A customer for whom the ERP and the ledger differ."""

    customer: Customer
    stated: NonNegativeMoney
    found: NonNegativeMoney


ControlVerdict = Literal["matched", "mismatch", "missing"]


class ControlTotalChecked(Payload):
    """A run of the ERP's totals of open receivables was compared with the ledger, or did not come in time."""

    TYPE: ClassVar[str] = "cobranza.payments.control-total-checked.v1"
    AGGREGATE: ClassVar[str] = "control-total"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("currency",)

    currency: Currency
    total_on: Annotated[date, Field(description="The date the totals are for")]
    system: Annotated[System | None, Field(description="Whose invoices the total counts")] = None
    run_id: ExternalId | None = None
    verdict: ControlVerdict
    standing: Annotated[
        ControlVerdict | None,
        Field(
            description="What counts for the company and currency now: the worst of its systems' last verdicts;"
            " absent: the verdict"
        ),
    ] = None
    stated: Annotated[ControlFigures | None, Field(description="Absent when missing")] = None
    found: ControlFigures
    differences: Annotated[
        tuple[CustomerDifference, ...], Field(max_length=100, description="The largest come first")
    ] = ()
    differing: Annotated[Count | None, Field(description="How many customers differ, also beyond the list")] = None
    checked_at: Instant

    @property
    def standing_now(self) -> ControlVerdict:
        """What counts for the company and currency after this check."""
        return self.standing or self.verdict


class FiscalReceiptLine(Part):
    """One invoice paid by one payment the receipt is for."""

    invoice_id: InvoiceId
    receivable_id: Annotated[ReceivableId, Field(description="The first of its instalments that was paid")]
    payment_id: PaymentId | None = None
    fiscal_id: Line | None = None
    part_number: Annotated[Ordinal, Field(description="Count of payments of the invoice so far")]
    previous: Annotated[NonNegativeMoney, Field(description="Open of the whole invoice before")]
    paid: PositiveMoney
    remaining: Annotated[NonNegativeMoney, Field(description="previous less paid")]


class FiscalReceiptDue(Payload):
    """The law asks for a fiscal receipt of a payment, or of a month's payments, by a day; told anew when it changes."""

    TYPE: ClassVar[str] = "cobranza.payments.fiscal-receipt-due.v1"
    AGGREGATE: ClassVar[str] = "fiscal-receipt"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("fiscal_receipt_id",)

    fiscal_receipt_id: FiscalReceiptId
    customer: Customer
    grouping: Literal["per_payment", "monthly"]
    payment_ids: Annotated[tuple[PaymentId, ...], Field(min_length=1, max_length=500)]
    amount: PositiveMoney
    method: Method
    received_on: Annotated[date, Field(description="Value date; of the last payment where it is for several")]
    deadline_on: Annotated[date, Field(description="Last day, of the creditor")]
    state: Annotated[Slug, Field(description="Open set; known: due, answered, rejected, cancelled")] = "due"
    alert: Annotated[
        Slug | None,
        Field(
            description="How near its deadline is; open set; known: d3, d1, d0, overdue; absent: farther, or answered"
        ),
    ] = None
    replaces: Annotated[FiscalReceiptId | None, Field(description="The cancelled receipt whose rest this is")] = None
    fiscal_id: Annotated[Line | None, Field(description="Of the receipt, once issued")] = None
    code: Annotated[Line | None, Field(description="Why it was rejected")] = None
    lines: Annotated[tuple[FiscalReceiptLine, ...], Field(max_length=500)]


class ChargeRulesActivated(Payload):
    """A version of the rules that late charges follow came into force."""

    TYPE: ClassVar[str] = "cobranza.payments.charge-rules-activated.v1"
    AGGREGATE: ClassVar[str] = "charge-rules"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("rules",)

    rules: Slug
    version: Ordinal
    sha256: Sha256
    country: Country | None = None
    effective_from: date
    activated_on: date
    first_fee_day: Annotated[Ordinal | None, Field(description="First day past due of a fee; absent: no cap")] = None
    most_fee_percent: Annotated[
        Decimal | None,
        Field(ge=0, le=100, max_digits=9, decimal_places=6, description="Of the debt, however small; absent: no cap"),
    ] = None


class PermitConditions(Part):
    """What dunning took from the case's pinned policy; payments checks it under its locks."""

    cash_through: Annotated[date | None, Field(description="Cash must be known through this day; absent: no gate")] = (
        None
    )
    unapplied: Annotated[
        Literal["net", "hold"],
        Field(description="net: credit lowers the claim; hold: any credit stops it"),
    ] = "net"
    control_total: Annotated[
        Literal["required", "effects", "off"],
        Field(description="required: a mismatch or missing total stops every notice"),
    ] = "effects"


class NoticePermitRequest(Part):
    """Notifications asks, at the last moment, whether a notice may ask for money."""

    notice_id: NoticeId
    attempt: Ordinal
    company: Company
    customer: Customer
    purpose: PurposeCode
    conditions: PermitConditions = PermitConditions()
    receivable_ids: Annotated[tuple[ReceivableId, ...], Field(min_length=1, max_length=1000)]


class PermitLine(AmountsInCurrency):
    """A receivable the notice may claim; claimable = open - disputed - promised - planned."""

    receivable_id: ReceivableId
    invoice_id: InvoiceId | None = None
    instalment: Ordinal | None = None
    number: Line
    kind: Literal["invoice", "late_charge"]
    issued_on: date
    due_on: date
    issued: Amount
    open: Amount
    disputed: Amount
    promised: Amount
    planned: Amount
    claimable: Amount
    version: Version


class PermitRefusal(Part):
    """Why a receivable, or without one the whole notice, is refused."""

    reason: ReasonCode
    receivable_id: ReceivableId | None = None
    hold: Annotated[Slug | None, Field(description="For on_hold: kind of the hold, promise, plan or dispute")] = None

    @property
    def is_transient(self) -> bool:
        """Whether asking again later makes sense."""
        return self.reason in TRANSIENT_PERMIT_REFUSALS


class NoticePermitAnswer(Part):
    """The ledger's answer; with the same notice and attempt it is the same answer again.

    A permit is granted when at least one line is left. It lives ``ttl_seconds`` from the moment the
    sender *began* to ask, by the sender's own clock, so that a difference of clocks cannot hurt.
    """

    notice_id: NoticeId
    attempt: Ordinal
    granted: bool
    asked_at: Instant
    expires_at: Annotated[Instant | None, Field(description="Absent when refused")] = None
    ttl_seconds: Annotated[int, Field(ge=0, le=300)] = 0
    lines: tuple[PermitLine, ...] = ()
    credit: Annotated[
        NonNegativeMoney | None,
        Field(description="Customer's unapplied credit that covers no line whole; absent when refused"),
    ] = None
    claimed: Annotated[
        NonNegativeMoney | None,
        Field(description="Sum of claimable less the credit; absent when refused"),
    ] = None
    refusals: tuple[PermitRefusal, ...] = ()

    @property
    def is_transient(self) -> bool:
        """Whether a refused permit may be granted later: some refusal is transient."""
        return not self.granted and any(refusal.is_transient for refusal in self.refusals)
