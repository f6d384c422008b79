"""Following what dunning stops, so that the permit knows it: holds, promises, plans, disputes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from cobranza.chassis.database import Transaction
from cobranza.contracts import dunning
from cobranza.contracts.payloads import Payload
from cobranza.payments import repository
from cobranza.payments.domain.permit import Stop, StopKind


async def follow_stop(tx: Transaction, told: Payload) -> None:
    """Put what `told` stops in the place of what the same hold, promise, plan or dispute stopped."""
    match told:
        case dunning.HoldPlaced():
            receivables = told.receivable_ids or (None,)
            stops = [
                Stop(kind="hold", receivable_id=receivable, amount=None, reason=told.reason, until_on=told.until_on)
                for receivable in receivables
            ]
            await _replace(tx, "hold", told.hold_id, told, stops)
        case dunning.HoldReleased():
            await _replace(tx, "hold", told.hold_id, told, [])
        case dunning.PromiseMade():
            # A promise that is an instalment of a plan stops nothing more than its plan does.
            lines = () if told.plan_id is not None else told.lines
            await _replace(tx, "promise", told.promise_id, told, _of_lines("promise", lines))
        case dunning.PromiseKept() | dunning.PromiseBroken() | dunning.PromiseWithdrawn():
            await _replace(tx, "promise", told.promise_id, told, [])
        case dunning.PlanAgreed():
            await _replace(tx, "plan", told.plan_id, told, _of_lines("plan", told.lines))
        case dunning.PlanEnded():
            await _replace(tx, "plan", told.plan_id, told, [])
        case dunning.DisputeOpened():
            line = dunning.ReceivableAmount(receivable_id=told.receivable_id, amount=told.amount)
            await _replace(tx, "dispute", told.dispute_id, told, _of_lines("dispute", (line,)))
        case dunning.DisputeResolved():
            await _replace(tx, "dispute", told.dispute_id, told, _after_dispute(told))
        case _:
            # Dunning's other facts stop nothing here.
            return


def _of_lines(kind: StopKind, lines: Iterable[dunning.ReceivableAmount]) -> list[Stop]:
    return [
        Stop(kind=kind, receivable_id=line.receivable_id, amount=line.amount.minor, reason=kind, until_on=None)
        for line in lines
    ]


def _after_dispute(told: dunning.DisputeResolved) -> list[Stop]:
    """What stays stopped after a decision: upheld until its credit note, rejected until its grace is over."""
    stops = []
    if told.stopped.minor:
        stops.append((told.stopped.minor, told.stopped_until))
    if told.returning.minor and told.returns_on is not None:
        stops.append((told.returning.minor, told.returns_on - timedelta(days=1)))
    return [
        Stop(kind="dispute", receivable_id=told.receivable_id, amount=amount, reason="dispute", until_on=until)
        for amount, until in stops
    ]


async def _replace(tx: Transaction, kind: StopKind, stop_id: object, told: Payload, stops: list[Stop]) -> None:
    await repository.replace_stop(
        tx,
        company=told.company,
        kind=kind,
        stop_id=stop_id,  # type: ignore[arg-type]
        customer=told.customer,  # type: ignore[attr-defined]
        stops=stops,
    )
