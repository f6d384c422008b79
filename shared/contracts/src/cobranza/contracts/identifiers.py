"""Identifiers and the pure functions that derive them, so that a repeat gives the same id."""

from datetime import date
from hashlib import sha1
from typing import NewType
from uuid import UUID, uuid5

Company = NewType("Company", str)
Customer = NewType("Customer", str)
System = NewType("System", str)
ExternalId = NewType("ExternalId", str)
EventId = NewType("EventId", UUID)
InvoiceId = NewType("InvoiceId", UUID)
ReceivableId = NewType("ReceivableId", UUID)
CreditNoteId = NewType("CreditNoteId", UUID)
# A payment's id is the ledger's receipt id too; a credit receipt has the id of its credit note.
PaymentId = NewType("PaymentId", UUID)
AllocationId = NewType("AllocationId", UUID)
FiscalReceiptId = NewType("FiscalReceiptId", UUID)
CaseId = NewType("CaseId", UUID)
DecisionId = NewType("DecisionId", UUID)
PromiseId = NewType("PromiseId", UUID)
PlanId = NewType("PlanId", UUID)
DisputeId = NewType("DisputeId", UUID)
HoldId = NewType("HoldId", UUID)
TaskId = NewType("TaskId", UUID)
NoticeId = NewType("NoticeId", UUID)
ContactId = NewType("ContactId", UUID)
ContactPointId = NewType("ContactPointId", UUID)

_ROOT = UUID("6f1c7a52-9d0e-4b6a-8c35-2e7f41d8b090")
# One namespace per kind: an invoice, a payment and a credit note may share an external id.
_INVOICE = uuid5(_ROOT, "invoice")
_RECEIVABLE = uuid5(_ROOT, "receivable")
_CREDIT_NOTE = uuid5(_ROOT, "credit-note")
_PAYMENT = uuid5(_ROOT, "payment")
_ALLOCATION = uuid5(_ROOT, "allocation")
_LATE_CHARGE = uuid5(_ROOT, "late-charge")
_FISCAL_RECEIPT = uuid5(_ROOT, "fiscal-receipt")
_CONTROL_TOTAL = uuid5(_ROOT, "control-total")
_NOTICE = uuid5(_ROOT, "notice")
_CONTACT_POINT = uuid5(_ROOT, "contact-point")
_EVENT = uuid5(_ROOT, "event")
_INGRESS_EVENT = uuid5(_ROOT, "ingress-event")

NO_CUSTOMER = "-"


def partition_key(company: str, customer: str | None) -> str:
    """Kafka key of a fact: ``company|customer``, or ``company|-`` without a known customer."""
    return f"{company}|{customer or NO_CUSTOMER}"


def invoice_id(company: str, system: str, external_id: str) -> InvoiceId:
    """Id of the invoice that this company's ``system`` calls ``external_id``."""
    return InvoiceId(derived(_INVOICE, company, system, external_id))


def receivable_id(invoice: UUID, instalment: int) -> ReceivableId:
    """Id of the receivable of one instalment of an invoice; instalments count from 1."""
    return ReceivableId(derived(_RECEIVABLE, invoice, instalment))


def credit_note_id(company: str, system: str, external_id: str) -> CreditNoteId:
    """Id of the credit note that this company's ``system`` calls ``external_id``."""
    return CreditNoteId(derived(_CREDIT_NOTE, company, system, external_id))


def payment_id(company: str, system: str, external_id: str) -> PaymentId:
    """Id of the payment that this company's ``system`` calls ``external_id``."""
    return PaymentId(derived(_PAYMENT, company, system, external_id))


def allocation_id(*, cause: UUID, payment: UUID, receivable: UUID, reverses: UUID | None = None) -> AllocationId:
    """Id of the allocation that one event causes between a receipt and a receivable."""
    return AllocationId(derived(_ALLOCATION, cause, payment, receivable, reverses or ""))


def late_charge_receivable_id(
    *, company: str, case_id: UUID, step: str, run: int, receivable: UUID | None, code: str
) -> ReceivableId:
    """Id of the receivable of a late charge: the charge's own key, so that it exists once.

    ``receivable`` is the debt the charge is on; None for a charge on the whole case.
    """
    return ReceivableId(derived(_LATE_CHARGE, company, case_id, step, run, receivable or "", code))


def fiscal_receipt_id(*, company: str, customer: str, period: str) -> FiscalReceiptId:
    """Id of the fiscal receipt owed for ``period``: a payment's id, or a month such as 2027-01."""
    return FiscalReceiptId(derived(_FISCAL_RECEIPT, company, customer, period))


def control_total_id(*, company: str, system: str, currency: str, total_on: date, run: str) -> UUID:
    """Id of one run of a system's control total of a day; ``run`` is empty for a message that names none."""
    return derived(_CONTROL_TOTAL, company, system, currency, total_on.isoformat(), run)


def notice_id(*, company: str, case_id: UUID, step: str, run: int, channel: str) -> NoticeId:
    """Id of the notice of one step run on one channel."""
    return NoticeId(derived(_NOTICE, company, case_id, step, run, channel))


def informative_notice_id(*, purpose: str, cause: UUID, channel: str) -> NoticeId:
    """Id of a notice that an event causes without a step, such as a payment confirmation."""
    return NoticeId(derived(_NOTICE, purpose, cause, channel))


def contact_point_id(*, company: str, customer: str, channel: str, value: str) -> ContactPointId:
    """Id that stands for an address or number wherever personal data must not travel."""
    return ContactPointId(derived(_CONTACT_POINT, company, channel, customer, value))


def event_id(*, cause: UUID | str, service: str, type: str, subject: str) -> EventId:  # noqa: A002
    """Id of an event that another event, or a timer, causes.

    Args:
        cause: id of the causing event, or ``timer key|business date``.
        service: the producing service.
        type: full type of the event that is caused.
        subject: its subject.
    """
    return EventId(derived(_EVENT, cause, service, type, subject))


def ingress_event_id(source: str, external_event_id: str) -> EventId:
    """Identity of an event an ERP published, whose own id is any text unique in its source."""
    return EventId(derived(_INGRESS_EVENT, source, external_event_id))


def derived(namespace: UUID, *parts: object) -> UUID:
    """Id of what ``parts`` name within a namespace: the version 5 UUID of their texts, joined by ``|``."""
    # uuid5 gives the same at one and a half times the cost; an event takes ten of them.
    name = "|".join(map(str, parts)).encode()
    return UUID(bytes=sha1(namespace.bytes + name, usedforsecurity=False).digest()[:16], version=5)
