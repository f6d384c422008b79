"""What a person tells dunning, as HTTP and the command line take it: one form each, one place that acts on it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field

from cobranza.chassis.database import Transaction
from cobranza.chassis.http import Request
from cobranza.contracts import dunning
from cobranza.contracts.money import PositiveMoney
from cobranza.contracts.payloads import ChannelCode, Customer, Line, Part, Payload, Sha256, Slug
from cobranza.dunning.domain.errors import AgreementRefusedError
from cobranza.dunning.use_cases import agreements, brake, holds, tasks
from cobranza.dunning.use_cases.evaluation import Desk

Lines = Annotated[list[dunning.ReceivableAmount], Field(min_length=1, max_length=1000)]


class Told(Request):
    """What a person tells of one company."""

    company: str


class HoldRequest(Told):
    """Suspend contact."""

    customer: Customer
    scope: Literal["receivable", "case", "customer"]
    case_id: UUID | None = Field(default=None, description="For the scope case.")
    receivable_ids: list[UUID] = Field(default=[], max_length=1000, description="For the scope receivable.")
    reason: Slug = Field(
        description="customer_request, internal, payment_claim, data_quality, bereavement, insolvency, legal_claim"
    )
    until_on: date | None = Field(default=None, description="Last day, inclusive.")
    claim: dunning.PaymentClaim | None = Field(
        default=None, description="For payment_claim: what was paid; it is looked for in unapplied money."
    )


class ReleaseRequest(Told):
    """End a hold."""

    reason: Slug


class TaskResult(Told):
    """How a task ended."""

    disposition: Slug = Field(
        description="done, approved, refused, or what a call came to: right_party_…, no_answer, voicemail …"
    )
    receptivity: int | None = Field(default=None, ge=1, le=5, description="Of a call that reached the right person.")


class PromiseRequest(Told):
    """A promise to pay."""

    customer: Customer
    lines: Lines = Field(description="What is promised, by receivable.")
    promised_on: date = Field(description="Day by which the debtor will pay.")
    channel: ChannelCode = Field(description="How it was given: call, email, whatsapp …")
    method: Slug | None = Field(default=None, description="How it will be paid.")
    approved_by: Line | None = Field(default=None, description="Who allowed it beyond the policy's first limits.")


class PromiseWithdrawal(Told):
    """Cancel a promise; it does not count as broken."""

    reason: Slug


class InstalmentRequest(Part):
    """One payment of a plan."""

    due_on: date
    amount: PositiveMoney


class PlanRequest(Told):
    """A payment plan."""

    customer: Customer
    lines: Lines = Field(description="What it covers, by receivable, in the order in which it is paid.")
    instalments: Annotated[list[InstalmentRequest], Field(min_length=1, max_length=120)]
    accelerates: bool = Field(default=False, description="On default the whole rest falls due.")
    evidence_sha256: Sha256 | None = Field(default=None, description="Of the debtor's acceptance.")


class PlanCancellation(Told):
    """Cancel a plan: what is open is asked for again."""


class DisputeRequest(Told):
    """The debtor contests an amount."""

    customer: Customer
    receivable_id: UUID
    amount: PositiveMoney = Field(description="The disputed part of what is open.")
    kind: Slug = Field(
        description="price, quantity, not_received, quality, paperwork, already_paid, wrong_entity, fiscal_receipt"
    )
    owner: Line | None = Field(default=None, description="Who decides it.")


class DisputeResolution(Told):
    """How a dispute was decided."""

    outcome: Literal["upheld", "partly", "rejected", "withdrawn"]
    upheld: PositiveMoney | None = Field(default=None, description="Of partly: what the debtor is right about.")


class HandOverRequest(Told):
    """An agency or a lawyer collects from now on."""

    to: Line
    kind: Slug = Field(description="agency, legal")
    package_sha256: Sha256 = Field(description="Of the documents that were handed over.")
    receivable_ids: list[UUID] = Field(default=[], max_length=1000, description="Empty: all that is open.")


class RecallRequest(Told):
    """A case comes back from whom it was handed to."""

    reason: Slug


class EvidenceRequest(Told):
    """Documents that are at hand for a hand-over."""

    documents: Annotated[list[Slug], Field(min_length=1, max_length=50)]


class Evidence(Part):
    """All documents that are at hand for a hand-over of the case."""

    documents: tuple[str, ...]


class BrakeRelease(Told):
    """Let the notices leave that are more than usual."""


class BrakeReleased(Part):
    """What was let go."""

    tripped_on: tuple[date, ...] = Field(description="Days on which it was tripped; empty: it was not.")
    accounts: int = Field(description="How many accounts are looked at again now.")


#: What follows from what was told: an event, or what there is now.
Recorded = Payload | Evidence | BrakeReleased

#: By the name that the command line knows it by.
FORMS: Final[Mapping[str, type[Told]]] = MappingProxyType(
    {
        "hold": HoldRequest,
        "release": ReleaseRequest,
        "task": TaskResult,
        "promise": PromiseRequest,
        "withdraw-promise": PromiseWithdrawal,
        "plan": PlanRequest,
        "cancel-plan": PlanCancellation,
        "dispute": DisputeRequest,
        "resolve-dispute": DisputeResolution,
        "hand-over": HandOverRequest,
        "recall": RecallRequest,
        "evidence": EvidenceRequest,
        "release-brake": BrakeRelease,
    }
)


async def record(desk: Desk, tx: Transaction, told: Told, *, about: UUID | None = None, by: str) -> Recorded:
    """Act on what a person told; what is told on is returned.

    Args:
        about: the hold, task, promise, plan, dispute or case it is about; None: it is something new.
        by: the person's user name.

    Raises:
        DunningError: it is refused, with its reason.
    """
    match told:
        case HoldRequest():
            return await holds.place_hold(
                desk,
                tx,
                company=told.company,
                customer=told.customer,
                scope=told.scope,
                case_id=told.case_id,
                receivable_ids=told.receivable_ids,
                reason=told.reason,
                until_on=told.until_on,
                by=by,
                claim=told.claim,
            )
        case PromiseRequest():
            return await agreements.make_promise(
                desk,
                tx,
                company=told.company,
                customer=told.customer,
                lines=told.lines,
                promised_on=told.promised_on,
                channel=told.channel,
                method=told.method,
                by=by,
                approved_by=told.approved_by,
            )
        case PlanRequest():
            return await agreements.agree_plan(
                desk,
                tx,
                company=told.company,
                customer=told.customer,
                lines=told.lines,
                instalments=[(part.due_on, part.amount) for part in told.instalments],
                accelerates=told.accelerates,
                evidence_sha256=told.evidence_sha256,
                by=by,
            )
        case DisputeRequest():
            return await agreements.open_dispute(
                desk,
                tx,
                company=told.company,
                customer=told.customer,
                receivable_id=told.receivable_id,
                amount=told.amount,
                kind=told.kind,
                owner=told.owner,
                by=by,
            )
        case BrakeRelease():
            days, accounts = await brake.release_brake(desk, tx, company=told.company, by=by)
            return BrakeReleased(tripped_on=days, accounts=accounts)
        case _ if about is None:
            raise AgreementRefusedError("it is about something: name its id")
        case ReleaseRequest():
            return await holds.release_hold(desk, tx, company=told.company, hold_id=about, reason=told.reason, by=by)
        case TaskResult():
            return await tasks.complete_task(
                desk,
                tx,
                company=told.company,
                task_id=about,
                disposition=told.disposition,
                receptivity=told.receptivity,
                by=by,
            )
        case PromiseWithdrawal():
            return await agreements.withdraw_promise(
                desk, tx, company=told.company, promise_id=about, reason=told.reason, by=by
            )
        case PlanCancellation():
            return await agreements.end_plan(desk, tx, company=told.company, plan_id=about, by=by)
        case DisputeResolution():
            return await agreements.resolve_dispute(
                desk,
                tx,
                company=told.company,
                dispute_id=about,
                outcome=told.outcome,
                upheld=told.upheld,
                by=by,
            )
        case HandOverRequest():
            return await agreements.hand_over(
                desk,
                tx,
                company=told.company,
                case_id=about,
                to=told.to,
                kind=told.kind,
                package_sha256=told.package_sha256,
                receivable_ids=told.receivable_ids,
                by=by,
            )
        case RecallRequest():
            return await agreements.recall(desk, tx, company=told.company, case_id=about, reason=told.reason, by=by)
        case EvidenceRequest():
            kept = await agreements.keep_evidence(
                desk, tx, company=told.company, case_id=about, documents=told.documents
            )
            return Evidence(documents=kept)
        case _:
            raise TypeError(f"no use case for {type(told).__name__}")
