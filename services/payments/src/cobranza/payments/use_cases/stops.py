"""Following what dunning stops, so that the permit knows it: holds, promises, plans, disputes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.contracts import dunning
from cobranza.contracts.payloads import Payload
from cobranza.payments import repository
from cobranza.payments.domain.permit import Stop, StopKind


async def follow_stop(tx: Transaction, told: Payload) -> None:
    """Put what `told` stops in the place of what the same hold, promise, plan or dispute stopped."""
    kind: StopKind
    stop_id: UUID
    match told:
        case dunning.HoldPlaced():
            kind, stop_id, stops = "hold", told.hold_id, _of_hold(told)
        case dunning.HoldReleased():
            kind, stop_id, stops = "hold", told.hold_id, []
        case dunning.PromiseMade():
            # A promise that is an instalment of a plan stops nothing more than its plan does.
            lines = () if told.plan_id is not None else told.lines
            kind, stop_id, stops = "promise", told.promise_id, _of_lines("promise", lines)
        case dunning.PromiseKept() | dunning.PromiseBroken() | dunning.PromiseWithdrawn():
            kind, stop_id, stops = "promise", told.promise_id, []
        case dunning.PlanAgreed():
            kind, stop_id, stops = "plan", told.plan_id, _of_lines("plan", told.lines)
        case dunning.PlanEnded():
            kind, stop_id, stops = "plan", told.plan_id, []
        case dunning.DisputeOpened():
            line = dunning.ReceivableAmount(receivable_id=told.receivable_id, amount=told.amount)
            kind, stop_id, stops = "dispute", told.dispute_id, _of_lines("dispute", (line,))
        case dunning.DisputeResolved():
            kind, stop_id, stops = "dispute", told.dispute_id, _after_dispute(told)
        case dunning.CaseHandedOver():
            # Somebody else collects now; a notice under way is not sent any more.
            kind, stop_id, stops = "hold", told.case_id, _handed_over(told)
        case dunning.CaseRecalled():
            kind, stop_id, stops = "hold", told.case_id, []
        case _:
            # Dunning's other facts stop nothing here.
            return
    await repository.replace_stop(
        tx, company=told.company, kind=kind, stop_id=stop_id, customer=told.customer, stops=stops
    )


def _of_hold(told: dunning.HoldPlaced) -> list[Stop]:
    return [
        Stop(kind="hold", receivable_id=receivable_id, amount=None, reason=told.reason, until_on=told.until_on)
        for receivable_id in told.receivable_ids or (None,)
    ]


def _handed_over(told: dunning.CaseHandedOver) -> list[Stop]:
    return [
        Stop(kind="hold", receivable_id=receivable_id, amount=None, reason="handed_over", until_on=None)
        for receivable_id in told.receivable_ids
    ]


def _of_lines(kind: StopKind, lines: Iterable[dunning.ReceivableAmount]) -> list[Stop]:
    return [
        Stop(kind=kind, receivable_id=line.receivable_id, amount=line.amount.minor, reason=kind, until_on=None)
        for line in lines
    ]


def _after_dispute(told: dunning.DisputeResolved) -> list[Stop]:
    """What stays stopped after a decision: upheld until its credit note, rejected until its grace is over."""
    parts = []
    if told.stopped.minor:
        parts.append((told.stopped.minor, told.stopped_until))
    if told.returning.minor and told.returns_on is not None:
        parts.append((told.returning.minor, told.returns_on - timedelta(days=1)))
    return [
        Stop(kind="dispute", receivable_id=told.receivable_id, amount=amount, reason="dispute", until_on=until)
        for amount, until in parts
    ]
