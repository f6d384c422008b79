"""Events of notifications: what was said to whom, by which channel, and what became of it."""

from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cobranza.contracts.identifiers import (
    CaseId,
    ContactId,
    ContactPointId,
    NoticeId,
    ReceivableId,
    TaskId,
)
from cobranza.contracts.money import NonNegativeMoney
from cobranza.contracts.payloads import (
    ChannelCode,
    Count,
    Country,
    Customer,
    DeliveryMode,
    Instant,
    Language,
    Line,
    Ordinal,
    Part,
    Payload,
    PurposeCode,
    ReasonCode,
    Sha256,
    Slug,
    ToneCode,
)
from cobranza.contracts.payments import PermitRefusal


class GrantedLine(Part):
    """A receivable the notice claimed, with the permit's amounts."""

    receivable_id: ReceivableId
    open: NonNegativeMoney
    claimed: NonNegativeMoney


class ContactCounter(Part):
    """How much of a contact limit was used before this contact."""

    limit: Slug
    used: Count
    allowed: Count


class ContactDecision(Part):
    """What the contact rules said about this contact, and by which rule."""

    verdict: Annotated[Slug, Field(description="Open set; known: allow, defer, deny, exempt")]
    rule: Slug
    version: Ordinal
    counters: tuple[ContactCounter, ...] = ()
    not_before: Annotated[Instant | None, Field(description="Of a deferred contact")] = None


class _NoticeState(Payload):
    AGGREGATE: ClassVar[str] = "notice"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("notice_id",)

    notice_id: NoticeId
    customer: Customer
    purpose: PurposeCode
    channel: ChannelCode
    case_id: Annotated[CaseId | None, Field(description="Of a notice that a step asked for")] = None
    step: Slug | None = None
    run: Ordinal | None = None
    attempt: Annotated[Ordinal | None, Field(description="Of the permit request; absent when none was made")] = None
    lines: Annotated[tuple[GrantedLine, ...], Field(max_length=1000, description="Granted by the permit")] = ()
    claimed: Annotated[NonNegativeMoney | None, Field(description="Sum claimed less the credit shown")] = None
    template: Slug | None = None
    template_version: Ordinal | None = None
    language: Language | None = None
    contact_point_id: ContactPointId | None = None
    contact_decision: ContactDecision | None = None
    delivery: Annotated[DeliveryMode, Field(description="sandbox: it went to the mailbox only")]


class NoticeSent(_NoticeState):
    """A notice was handed to the provider, or is assumed to have been."""

    TYPE: ClassVar[str] = "cobranza.notifications.notice-sent.v1"

    handed_at: Annotated[Instant, Field(description="Real instant of the hand-over")]
    sent_on: Annotated[date, Field(description="Business date of the hand-over, company's zone")]
    outcome: Literal["known", "assumed"]


class NoticeDelivered(_NoticeState):
    """The provider or the post proved that the notice arrived."""

    TYPE: ClassVar[str] = "cobranza.notifications.notice-delivered.v1"

    delivered_at: Instant
    delivered_on: date


class NoticeFailed(_NoticeState):
    """A notice did not reach the debtor on this channel."""

    TYPE: ClassVar[str] = "cobranza.notifications.notice-failed.v1"

    reason: ReasonCode
    handed_at: Annotated[Instant | None, Field(description="When it had been handed over")] = None
    failed_on: date
    next_channel: Annotated[ChannelCode | None, Field(description="Fallback tried next")] = None


class NoticeSuppressed(_NoticeState):
    """A notice was not sent and will not be."""

    TYPE: ClassVar[str] = "cobranza.notifications.notice-suppressed.v1"

    reason: ReasonCode
    refusals: Annotated[tuple[PermitRefusal, ...], Field(max_length=1000)] = ()
    suppressed_on: date


class ContactRecorded(Payload):
    """A contact with the debtor took place outside a notice and counts for the contact rules."""

    TYPE: ClassVar[str] = "cobranza.notifications.contact-recorded.v1"
    AGGREGATE: ClassVar[str] = "contact"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("contact_id",)

    contact_id: ContactId
    customer: Customer
    case_id: CaseId | None = None
    task_id: TaskId | None = None
    channel: ChannelCode
    direction: Literal["outbound", "inbound"]
    counted_as: Annotated[Slug, Field(description="Open set; known: attempt, connected, right_party, nothing")]
    disposition: Slug | None = None
    contact_point_id: ContactPointId | None = None
    contacted_at: Instant


class ConsentChanged(Payload):
    """The debtor gave or took back the consent to be contacted on a channel or at one address."""

    TYPE: ClassVar[str] = "cobranza.notifications.consent-changed.v1"
    AGGREGATE: ClassVar[str] = "consent"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("customer", "channel", "contact_point_id")

    customer: Customer
    channel: ChannelCode
    contact_point_id: Annotated[ContactPointId | None, Field(description="Absent: the whole channel")] = None
    consent: Annotated[Slug, Field(description="Open set; known: unknown, given, withdrawn")]
    source: Annotated[Slug, Field(description="Open set; known: link, call, letter, import")]
    evidence_sha256: Sha256 | None = None
    changed_at: Instant


class ContactPointChanged(Payload):
    """An address or number became usable or unusable."""

    TYPE: ClassVar[str] = "cobranza.notifications.contact-point-changed.v1"
    AGGREGATE: ClassVar[str] = "contact-point"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("contact_point_id",)

    contact_point_id: ContactPointId
    customer: Customer
    channel: ChannelCode
    state: Annotated[Slug, Field(description="Open set; known: usable, resting, suppressed")]
    reason: ReasonCode | None = None
    changed_at: Instant


class TemplateActivated(Payload):
    """A version of a template came into use for a channel, language and tone."""

    TYPE: ClassVar[str] = "cobranza.notifications.template-activated.v1"
    AGGREGATE: ClassVar[str] = "template"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("template", "channel", "language", "tone")

    template: Slug
    channel: ChannelCode
    language: Language
    tone: ToneCode
    version: Ordinal
    sha256: Sha256
    activated_on: date


class ContactRulesActivated(Payload):
    """A version of the rules on contacting debtors came into force."""

    TYPE: ClassVar[str] = "cobranza.notifications.contact-rules-activated.v1"
    AGGREGATE: ClassVar[str] = "contact-rules"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("rules",)

    rules: Slug
    version: Ordinal
    sha256: Sha256
    country: Annotated[Country | None, Field(description="Absent: house rules")] = None
    activated_on: date
    forbidden_channels: Annotated[
        tuple[ChannelCode, ...], Field(max_length=20, description="No notice leaves by them")
    ] = ()


class _SendingState(Payload):
    AGGREGATE: ClassVar[str] = "sending"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("channel",)

    scope: Annotated[
        Literal["platform", "company", "channel"],
        Field(description="A stop of the platform is told once per company"),
    ]
    channel: Annotated[ChannelCode | None, Field(description="For the scope channel")] = None
    reason: Line
    by: Line


class SendingStopped(_SendingState):
    """The stop switch was set: nothing leaves in its scope."""

    TYPE: ClassVar[str] = "cobranza.notifications.sending-stopped.v1"

    stopped_at: Instant


class SendingResumed(_SendingState):
    """The stop switch was released."""

    TYPE: ClassVar[str] = "cobranza.notifications.sending-resumed.v1"

    resumed_at: Instant
