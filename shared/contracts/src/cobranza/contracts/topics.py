"""The catalogue: what is published where, by whom and for whom; the rest derives from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cobranza.contracts import dunning, ingress, invoicing, notifications, payments
from cobranza.contracts.payloads import Payload

PARTITIONS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic.

    Args:
        name: Kafka's name of it.
        purpose: one sentence for people.
        producer: the only writer: a service, or ``erp`` for whoever sends input.
        consumers: services that read it.
        classes: payload classes published on it.
        partitions: number of partitions; changing it moves keys.
        retention_days: days a record is kept; None keeps it for ever.
        compacted: only the newest record per key is kept; a tombstone erases.
    """

    name: str
    purpose: str
    producer: str
    consumers: tuple[str, ...]
    classes: tuple[type[Payload], ...]
    partitions: int = PARTITIONS
    retention_days: int | None = None
    compacted: bool = False

    @property
    def is_ingress(self) -> bool:
        """Whether ERPs write it: input is validated strictly and parked alone."""
        return self.producer == "erp"

    @property
    def payloads(self) -> Mapping[str, type[Payload]]:
        """Payload class of each event type on the topic."""
        return {payload.TYPE: payload for payload in self.classes}


CATALOGUE: tuple[Topic, ...] = (
    Topic(
        name="erp.invoicing",
        purpose="Input: customers, invoices and credit notes, as the ERP states them.",
        producer="erp",
        consumers=("invoicing",),
        retention_days=30,
        classes=(
            ingress.CustomerChanged,
            ingress.InvoiceIssued,
            ingress.InvoiceChanged,
            ingress.InvoiceCancelled,
            ingress.CreditNoteIssued,
        ),
    ),
    Topic(
        name="erp.payments",
        purpose="Input: payments, their reversals, and how complete they are, from ERPs and banks.",
        producer="erp",
        consumers=("payments",),
        retention_days=30,
        classes=(
            ingress.PaymentReceived,
            ingress.PaymentReversed,
            ingress.CashWatermark,
            ingress.ControlTotal,
            ingress.FiscalReceiptAnswered,
        ),
    ),
    Topic(
        name="cobranza.customers",
        purpose="Customers and contacts; personal data lives here only, a tombstone erases it.",
        producer="invoicing",
        consumers=("payments", "dunning", "notifications", "analytics"),
        compacted=True,
        classes=(invoicing.CustomerChanged,),
    ),
    Topic(
        name="cobranza.invoicing",
        purpose="Documents and the due-date calendar.",
        producer="invoicing",
        consumers=("payments", "dunning", "notifications", "analytics"),
        classes=(
            invoicing.InvoiceIssued,
            invoicing.InvoiceChanged,
            invoicing.InvoiceDelivered,
            invoicing.InvoiceAcknowledged,
            invoicing.InvoiceCancelled,
            invoicing.InvoiceReplaced,
            invoicing.CreditNoteIssued,
            invoicing.DueDate,
            invoicing.InputParked,
            invoicing.InputReleased,
        ),
    ),
    Topic(
        name="cobranza.payments",
        purpose="What is owed and paid.",
        producer="payments",
        consumers=("invoicing", "dunning", "notifications", "analytics"),
        classes=(
            payments.PaymentReceived,
            payments.PaymentAllocated,
            payments.PaymentReversed,
            payments.PaymentRefunded,
            payments.ReceivableChanged,
            payments.CreditChanged,
            payments.WrittenOff,
            payments.LateChargeAssessed,
            payments.LateChargeRefused,
            payments.LateChargeWaived,
            payments.CashWatermark,
            payments.ControlTotalChecked,
            payments.FiscalReceiptDue,
            payments.ChargeRulesActivated,
        ),
    ),
    Topic(
        name="cobranza.dunning",
        purpose="Cases, steps, and what suspends or ends collection.",
        producer="dunning",
        consumers=("payments", "notifications", "analytics", "invoicing"),
        classes=(
            dunning.CaseOpened,
            dunning.CaseClosed,
            dunning.CaseHandedOver,
            dunning.CaseRecalled,
            dunning.StepReached,
            dunning.StepSkipped,
            dunning.NoticeRequested,
            dunning.TaskCreated,
            dunning.TaskCompleted,
            dunning.PromiseMade,
            dunning.PromiseKept,
            dunning.PromiseBroken,
            dunning.PromiseWithdrawn,
            dunning.PlanAgreed,
            dunning.PlanEnded,
            dunning.DisputeOpened,
            dunning.DisputeResolved,
            dunning.HoldPlaced,
            dunning.HoldReleased,
            dunning.PolicyActivated,
        ),
    ),
    Topic(
        name="cobranza.notifications",
        purpose="What was said to debtors and what became of it.",
        producer="notifications",
        consumers=("dunning", "payments", "analytics"),
        classes=(
            notifications.NoticeSent,
            notifications.NoticeDelivered,
            notifications.NoticeFailed,
            notifications.NoticeSuppressed,
            notifications.ContactRecorded,
            notifications.ConsentChanged,
            notifications.ContactPointChanged,
            notifications.TemplateActivated,
            notifications.ContactRulesActivated,
            notifications.SendingStopped,
            notifications.SendingResumed,
        ),
    ),
)

PAYLOADS: Mapping[str, type[Payload]] = MappingProxyType(
    {payload.TYPE: payload for topic in CATALOGUE for payload in topic.classes}
)
"""Payload class of every event type."""

TOPIC_OF: Mapping[str, str] = MappingProxyType(
    {payload.TYPE: topic.name for topic in CATALOGUE for payload in topic.classes}
)
"""Topic of every event type."""

_TOPICS = {topic.name: topic for topic in CATALOGUE}


def topic(name: str) -> Topic:
    """The topic of that name.

    Raises:
        KeyError: the catalogue has no such topic.
    """
    return _TOPICS[name]
