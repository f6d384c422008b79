"""Events of dunning: cases, steps, and everything that suspends or ends collection."""

from datetime import date
from decimal import Decimal
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cobranza.contracts.identifiers import (
    CaseId,
    DecisionId,
    DisputeId,
    HoldId,
    PlanId,
    PromiseId,
    ReceivableId,
    TaskId,
)
from cobranza.contracts.money import NonNegativeMoney, PositiveMoney
from cobranza.contracts.payloads import (
    ChannelCode,
    Count,
    Currency,
    Customer,
    Instant,
    Language,
    Line,
    Ordinal,
    Part,
    Payload,
    PolicyVersion,
    PurposeCode,
    Ratio,
    ReasonCode,
    Sha256,
    Slug,
    StepKind,
    ToneCode,
)
from cobranza.contracts.payments import PermitConditions

Actor = Annotated[Line, Field(description="Who did it: a person's user name, or a service")]


class ReceivableAmount(Part):
    """A part of what is owed, by receivable."""

    receivable_id: ReceivableId
    amount: PositiveMoney


class _CaseFact(Payload):
    AGGREGATE: ClassVar[str] = "case"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("case_id",)

    case_id: CaseId
    customer: Customer
    currency: Currency


class CaseOpened(_CaseFact):
    """Collection of what one debtor owes one company in one currency has begun."""

    TYPE: ClassVar[str] = "cobranza.dunning.case-opened.v1"

    opened_on: date
    policy: Annotated[PolicyVersion | None, Field(description="Absent: no policy applies")] = None
    owner: Line | None = None
    previous_case_id: Annotated[CaseId | None, Field(description="The closed case whose levels it carries")] = None


class CaseClosed(_CaseFact):
    """Nothing is left to collect in the case."""

    TYPE: ClassVar[str] = "cobranza.dunning.case-closed.v1"

    outcome: Annotated[Slug, Field(description="Open set; known: cured, paid, written_off, cancelled, merged")]
    opened_on: date
    closed_on: date


class CaseHandedOver(_CaseFact):
    """An agency or a lawyer collects from now on; own contact stops."""

    TYPE: ClassVar[str] = "cobranza.dunning.case-handed-over.v1"

    to: Line
    kind: Annotated[Slug, Field(description="Open set; known: agency, legal")]
    package_sha256: Sha256
    receivable_ids: Annotated[tuple[ReceivableId, ...], Field(min_length=1, max_length=1000)]
    handed_on: date


class CaseRecalled(_CaseFact):
    """A case that was handed over came back."""

    TYPE: ClassVar[str] = "cobranza.dunning.case-recalled.v1"

    reason: Slug
    by: Actor
    recalled_on: date


class _StepFact(Payload):
    AGGREGATE: ClassVar[str] = "step-run"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("case_id", "step", "run")

    case_id: CaseId
    customer: Customer
    currency: Currency
    step: Slug
    run: Annotated[Ordinal, Field(description="Counts the executions of the step for the case")]
    position: Annotated[Ordinal, Field(description="Place of the step in its policy, from 1")]
    kind: StepKind
    receivable_ids: Annotated[tuple[ReceivableId, ...], Field(max_length=1000)]
    policy: PolicyVersion
    decision_id: DecisionId


class FeeTerms(Part):
    """What the policy asks for a fee; payments charges it within the law, and never more than once."""

    amount: Annotated[PositiveMoney | None, Field(description="Fixed; absent: a percentage")] = None
    percent: Annotated[
        Decimal | None,
        Field(gt=0, le=100, max_digits=9, decimal_places=6, description="Of what is overdue and open"),
    ] = None
    per: Annotated[Slug, Field(description="Open set; known: item, case")] = "item"
    max: Annotated[PositiveMoney | None, Field(description="The most one fee may be")] = None
    settle: Annotated[Slug, Field(description="Open set; known: enforce, waive_on_principal")] = "enforce"


class StepReached(_StepFact):
    """All gates of a step were passed; it is about to be executed."""

    TYPE: ClassVar[str] = "cobranza.dunning.step-reached.v1"

    effect: Annotated[
        Slug | None,
        Field(description="Of an effect step, or interest charged with a notice; open set"),
    ] = None
    fee: Annotated[Slug | None, Field(description="Fee code, for the effect fee")] = None
    fee_terms: Annotated[FeeTerms | None, Field(description="For the effect fee")] = None
    charge_rules: Annotated[
        Slug | None,
        Field(description="Late charge rules the policy names; absent: the company's own"),
    ] = None
    reached_on: date


class StepSkipped(_StepFact):
    """A step was passed over for good in this run."""

    TYPE: ClassVar[str] = "cobranza.dunning.step-skipped.v1"

    reason: ReasonCode
    skipped_on: date


class NoticeLine(Part):
    """A receivable a notice is about."""

    receivable_id: ReceivableId
    step: Annotated[Slug | None, Field(description="Step it moves to; absent: listed, not moving")] = None
    last_notice_on: Annotated[date | None, Field(description="Of an earlier notice")] = None


class PlannedChannel(Part):
    """One channel of the plan, in the order of the plan."""

    channel: ChannelCode
    role: Annotated[
        Literal["main", "also", "fallback"],
        Field(description="also: part of the same contact; fallback: tried in order when main fails"),
    ]


class NoticeRequested(Payload):
    """Dunning asks notifications to contact the debtor; one per step run, whatever the channels."""

    TYPE: ClassVar[str] = "cobranza.dunning.notice-requested.v1"
    AGGREGATE: ClassVar[str] = "notice-request"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("case_id", "step", "run")

    case_id: CaseId
    step: Slug
    run: Ordinal
    purpose: PurposeCode
    customer: Customer
    currency: Currency
    lines: Annotated[tuple[NoticeLine, ...], Field(min_length=1, max_length=1000)]
    channel_plan: Annotated[tuple[PlannedChannel, ...], Field(min_length=1, max_length=10)]
    template: Slug
    tone: ToneCode
    language: Annotated[Language, Field(description="Preferred; the customer's, when there is one")]
    contact_rules: Annotated[tuple[Slug, ...], Field(description="Rules on top of those of the debtor's country")] = ()
    conditions: PermitConditions = PermitConditions()
    requires_delivery: bool = False
    on_unknown: Annotated[Slug, Field(description="Open set; known: assume_sent, operator, resend")] = "assume_sent"
    policy: PolicyVersion
    decision_id: DecisionId
    expires_at: Annotated[Instant, Field(description="Business instant after which it is not sent")]


class _TaskState(Payload):
    AGGREGATE: ClassVar[str] = "task"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("task_id",)

    task_id: TaskId
    customer: Customer | None = None
    case_id: CaseId | None = None
    kind: Annotated[
        Slug,
        Field(description="Open set; known: call, approval, match_cash, fix_contact, no_policy, decide_end"),
    ]
    role: Slug
    assignee: Line | None = None
    due_on: date
    receivable_ids: Annotated[tuple[ReceivableId, ...], Field(max_length=1000)] = ()
    step: Slug | None = None
    run: Ordinal | None = None
    reason: ReasonCode | None = None


class TaskCreated(_TaskState):
    """A person is asked to do something."""

    TYPE: ClassVar[str] = "cobranza.dunning.task-created.v1"

    created_on: date


class TaskCompleted(_TaskState):
    """A task came to its end, whatever the result."""

    TYPE: ClassVar[str] = "cobranza.dunning.task-completed.v1"

    disposition: Annotated[
        Slug,
        Field(
            description="Open set; known: done, approved, refused, expired, cancelled, and call"
            " outcomes such as no_answer, voicemail, right_party_promise, callback_requested"
        ),
    ]
    by: Actor
    contacted_at: Annotated[Instant | None, Field(description="Of a call that was made")] = None
    receptivity: Annotated[int | None, Field(ge=1, le=5)] = None
    completed_at: Instant


class _PromiseState(Payload):
    AGGREGATE: ClassVar[str] = "promise"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("promise_id",)

    promise_id: PromiseId
    case_id: CaseId
    customer: Customer
    lines: Annotated[tuple[ReceivableAmount, ...], Field(min_length=1, max_length=1000)]
    amount: Annotated[PositiveMoney, Field(description="Sum of the lines")]
    promised_on: Annotated[date, Field(description="Day by which the debtor will pay")]
    limit_on: Annotated[date, Field(description="Last value date that keeps it, with grace")]
    plan_id: Annotated[PlanId | None, Field(description="When it is a plan's instalment")] = None


class PromiseMade(_PromiseState):
    """The debtor promised to pay; the amount is not asked for until the limit."""

    TYPE: ClassVar[str] = "cobranza.dunning.promise-made.v1"

    made_on: date
    captured_by: Actor
    channel: ChannelCode
    method: Slug | None = None


class PromiseKept(_PromiseState):
    """Enough was paid in time."""

    TYPE: ClassVar[str] = "cobranza.dunning.promise-kept.v1"

    paid: NonNegativeMoney
    judged_on: date


class PromiseBroken(_PromiseState):
    """Less than promised, or nothing, was paid in time; the rest is asked for again."""

    TYPE: ClassVar[str] = "cobranza.dunning.promise-broken.v1"

    paid: NonNegativeMoney
    kept_fraction: Annotated[Ratio, Field(description="paid / amount, from 0 to 1")]
    judged_on: date


class PromiseWithdrawn(_PromiseState):
    """A promise was cancelled or superseded; it does not count as broken."""

    TYPE: ClassVar[str] = "cobranza.dunning.promise-withdrawn.v1"

    reason: Slug
    by: Actor
    superseded_by: PromiseId | None = None
    withdrawn_on: date


class PlanInstalment(Part):
    """One payment of a plan; each is a promise."""

    number: Ordinal
    due_on: date
    amount: PositiveMoney
    promise_id: PromiseId


class _PlanState(Payload):
    AGGREGATE: ClassVar[str] = "plan"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("plan_id",)

    plan_id: PlanId
    case_id: CaseId
    customer: Customer
    lines: Annotated[tuple[ReceivableAmount, ...], Field(min_length=1, max_length=1000)]
    total: Annotated[PositiveMoney, Field(description="Sum of the lines and of the instalments")]
    instalments: Annotated[tuple[PlanInstalment, ...], Field(min_length=1, max_length=120)]
    accelerates: Annotated[bool, Field(description="On default the whole rest falls due")] = False


class PlanAgreed(_PlanState):
    """The debtor and the company agreed to pay in instalments; the invoices stay as they are."""

    TYPE: ClassVar[str] = "cobranza.dunning.plan-agreed.v1"

    agreed_on: date
    by: Actor
    evidence_sha256: Sha256 | None = None


class PlanEnded(_PlanState):
    """A plan was paid, broken or cancelled."""

    TYPE: ClassVar[str] = "cobranza.dunning.plan-ended.v1"

    outcome: Annotated[Slug, Field(description="Open set; known: completed, defaulted, cancelled")]
    paid: NonNegativeMoney
    ended_on: date


class _DisputeState(Payload):
    AGGREGATE: ClassVar[str] = "dispute"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("dispute_id",)

    dispute_id: DisputeId
    case_id: CaseId | None = None
    customer: Customer
    receivable_id: ReceivableId
    amount: Annotated[PositiveMoney, Field(description="The disputed part of what is open")]
    kind: Annotated[
        Slug,
        Field(
            description="Open set; known: price, quantity, not_received, quality, paperwork,"
            " already_paid, wrong_entity, fiscal_receipt"
        ),
    ]
    opened_on: date
    deadline_on: date
    owner: Line | None = None


class DisputeOpened(_DisputeState):
    """The debtor contests an amount; it is not asked for until it is resolved."""

    TYPE: ClassVar[str] = "cobranza.dunning.dispute-opened.v1"


class DisputeResolved(_DisputeState):
    """A dispute was decided."""

    TYPE: ClassVar[str] = "cobranza.dunning.dispute-resolved.v1"

    outcome: Annotated[Slug, Field(description="Open set; known: upheld, partly, rejected, withdrawn")]
    stopped: Annotated[NonNegativeMoney, Field(description="Part that stays stopped: its credit note is awaited")]
    stopped_until: Annotated[date | None, Field(description="Last day on which it stays stopped")] = None
    returning: Annotated[NonNegativeMoney, Field(description="Part that is asked for again")]
    returns_on: Annotated[date | None, Field(description="First day on which it is")] = None
    by: Actor
    resolved_on: date


class _HoldState(Payload):
    AGGREGATE: ClassVar[str] = "hold"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("hold_id",)

    hold_id: HoldId
    customer: Customer
    scope: Literal["receivable", "case", "customer"]
    case_id: Annotated[CaseId | None, Field(description="For the scope case")] = None
    receivable_ids: Annotated[
        tuple[ReceivableId, ...],
        Field(max_length=1000, description="What it stops; empty: all of the customer"),
    ] = ()
    reason: Annotated[
        Slug,
        Field(
            description="Open set; known: customer_request, internal, payment_claim, data_quality,"
            " bereavement, insolvency, legal_claim"
        ),
    ]
    placed_on: date
    until_on: Annotated[date | None, Field(description="Last day, inclusive; absent: until released")] = None


class PaymentClaim(Part):
    """What a debtor says to have paid, as far as it is known."""

    amount: PositiveMoney
    paid_on: date | None = None
    reference: Annotated[Line | None, Field(description="Of the transfer, as the payer's proof shows it")] = None


class HoldPlaced(_HoldState):
    """Somebody suspended contact, or changed the end of a hold."""

    TYPE: ClassVar[str] = "cobranza.dunning.hold-placed.v1"

    by: Actor
    claim: Annotated[
        PaymentClaim | None, Field(description="For payment_claim: payments looks for it in unapplied money")
    ] = None


class HoldReleased(_HoldState):
    """A hold ended."""

    TYPE: ClassVar[str] = "cobranza.dunning.hold-released.v1"

    release_reason: Annotated[Slug, Field(description="Open set; known: expired, released, settled")]
    by: Actor
    released_on: date


class PolicyStep(Part):
    """What others need to know of a step."""

    id: Slug
    position: Ordinal
    offset_days: Annotated[int, Field(ge=-365, le=730)]
    kind: StepKind
    channel: ChannelCode | None = None
    template: Slug | None = None
    tone: ToneCode | None = None


class PolicyActivated(Payload):
    """A version of a dunning policy came into force for new cases."""

    TYPE: ClassVar[str] = "cobranza.dunning.policy-activated.v1"
    AGGREGATE: ClassVar[str] = "policy"
    AGGREGATE_ID: ClassVar[tuple[str, ...]] = ("policy",)

    policy: Slug
    version: Ordinal
    sha256: Sha256
    currency: Currency
    priority: Count = 0
    effective_from: date
    steps: Annotated[tuple[PolicyStep, ...], Field(min_length=1, max_length=30)]
    activated_on: date
