"""What a person tells dunning by HTTP: a new hold, promise, plan or dispute, or what became of one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request, Response

from cobranza.chassis import http
from cobranza.chassis.http import CurrentPrincipal, answer, scope
from cobranza.chassis.idempotency import once
from cobranza.chassis.service import Context
from cobranza.contracts.dunning import (
    CaseHandedOver,
    CaseRecalled,
    DisputeOpened,
    DisputeResolved,
    HoldPlaced,
    HoldReleased,
    PlanAgreed,
    PlanEnded,
    PromiseMade,
    PromiseWithdrawn,
    TaskCompleted,
    TaskCreated,
)
from cobranza.dunning.settings import DunningSettings
from cobranza.dunning.use_cases import recording
from cobranza.dunning.use_cases.evaluation import Desk


@dataclass(frozen=True, slots=True)
class _Command:
    """One address; a path that names something is about that, another makes something new."""

    path: str
    operation_id: str
    form: type[recording.Told]
    answer: Any
    tag: str
    scope: str
    summary: str
    description: str | None = None

    @property
    def about(self) -> str | None:
        """The path's parameter."""
        found = re.search(r"{(\w+)}", self.path)
        return None if found is None else found[1]


_COMMANDS: Final = (
    _Command(
        "/v1/holds",
        "place_hold",
        recording.HoldRequest,
        HoldPlaced,
        tag="holds",
        scope="holds:write",
        summary="Suspend contact with a customer, a case or some receivables",
    ),
    _Command(
        "/v1/holds/{hold_id}/release",
        "release_hold",
        recording.ReleaseRequest,
        HoldReleased,
        tag="holds",
        scope="holds:write",
        summary="End a hold",
    ),
    _Command(
        "/v1/tasks/{task_id}/complete",
        "complete_task",
        recording.TaskResult,
        TaskCompleted,
        tag="tasks",
        scope="tasks:write",
        summary="End a task: approve, refuse, or say what a call or an effect came to",
    ),
    _Command(
        "/v1/promises",
        "make_promise",
        recording.PromiseRequest,
        PromiseMade | TaskCreated,
        tag="agreements",
        scope="agreements:write",
        summary="Keep a promise to pay: it is not asked for until its limit, then judged",
        description="Beyond the policy's first limits a supervisor's task `promise_approval` is answered, and contact goes on.",
    ),
    _Command(
        "/v1/promises/{promise_id}/withdraw",
        "withdraw_promise",
        recording.PromiseWithdrawal,
        PromiseWithdrawn,
        tag="agreements",
        scope="agreements:write",
        summary="Cancel a promise",
    ),
    _Command(
        "/v1/plans",
        "agree_plan",
        recording.PlanRequest,
        PlanAgreed,
        tag="agreements",
        scope="agreements:write",
        summary="Keep a payment plan; each instalment is a promise",
    ),
    _Command(
        "/v1/plans/{plan_id}/cancel",
        "cancel_plan",
        recording.PlanCancellation,
        PlanEnded,
        tag="agreements",
        scope="agreements:write",
        summary="Cancel a plan",
    ),
    _Command(
        "/v1/disputes",
        "open_dispute",
        recording.DisputeRequest,
        DisputeOpened,
        tag="agreements",
        scope="agreements:write",
        summary="Keep that an amount is disputed: it is not asked for until that is decided",
    ),
    _Command(
        "/v1/disputes/{dispute_id}/resolve",
        "resolve_dispute",
        recording.DisputeResolution,
        DisputeResolved,
        tag="agreements",
        scope="agreements:write",
        summary="Decide a dispute",
    ),
    _Command(
        "/v1/brake/release",
        "release_brake",
        recording.BrakeRelease,
        recording.BrakeReleased,
        tag="brake",
        scope="brake:write",
        summary="Let the notices leave that wait for being more than usual",
    ),
    _Command(
        "/v1/cases/{case_id}/hand-over",
        "hand_over_case",
        recording.HandOverRequest,
        CaseHandedOver,
        tag="cases",
        scope="agreements:write",
        summary="An agency or a lawyer collects from now on",
    ),
    _Command(
        "/v1/cases/{case_id}/recall",
        "recall_case",
        recording.RecallRequest,
        CaseRecalled,
        tag="cases",
        scope="agreements:write",
        summary="A case that was handed over comes back",
    ),
    _Command(
        "/v1/cases/{case_id}/evidence",
        "keep_evidence",
        recording.EvidenceRequest,
        recording.Evidence,
        tag="cases",
        scope="agreements:write",
        summary="Note which documents are at hand for a hand-over",
    ),
)


def add_recording(routes: APIRouter, context: Context[DunningSettings]) -> None:
    """Add an address for each thing that can be told."""
    desk = Desk(context.companies, context.settings.evaluation_hour, context.settings.brake_floor)
    for command in _COMMANDS:
        routes.add_api_route(
            command.path,
            _endpoint(command, desk, context),
            methods=["POST"],
            operation_id=command.operation_id,
            tags=[command.tag],
            dependencies=[scope(command.scope)],
            status_code=201 if command.about is None else 200,
            response_model=command.answer,
            summary=f"{command.summary}; needs an Idempotency-Key.",
            description=command.description,
        )


def _endpoint(command: _Command, desk: Desk, context: Context[DunningSettings]) -> Callable[..., Any]:
    async def endpoint(request: Request, body: recording.Told, principal: http.Principal, **named: UUID) -> Response:
        principal.require_company(body.company)
        about = named.get(command.about or "")
        async with context.database.transaction() as tx:

            async def run() -> Response:
                made = await recording.record(desk, tx, body, about=about, by=principal.name)
                return answer(made, status=201 if about is None else 200)

            return await once(tx, request=request, company=body.company, run=run)

    parameters: dict[str, Any] = {"request": Request, "body": command.form, "principal": CurrentPrincipal}
    if command.about is not None:
        parameters[command.about] = UUID
    # What the framework reads the body and the path by.
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind) for name, kind in parameters.items()]
    )
    return endpoint
