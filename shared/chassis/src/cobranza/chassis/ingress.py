"""Events by HTTP: the same use case as the topic, answered event by event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from cobranza.chassis.database import Database, Transaction
from cobranza.chassis.http import BULK, CurrentPrincipal, Problem, scope
from cobranza.chassis.streams.agent import Event, refusal_code, refusal_pointer
from cobranza.contracts.envelope import EnvelopeError, UnknownType, decode_event, parse_json_strict
from cobranza.contracts.topics import topic

#: Largest batch in one request.
MOST_EVENTS = 5000
_MAX_BYTES = 20 * 1024 * 1024
_FAULT = 500

Outcome = Literal["accepted", "duplicate"]
Accept = Callable[[Transaction, Event], Awaitable[Outcome]]


class EventAnswer(BaseModel):
    """What became of one event of the request, in the request's order."""

    index: int = Field(description="Place in the request, from 0.")
    id: str | None = Field(description="The event's own id, when it could be read.")
    outcome: Literal["accepted", "duplicate", "refused"]
    code: str | None = None
    pointer: str | None = None
    detail: str | None = None


class EventsAnswer(BaseModel):
    """What became of every event of the request."""

    accepted: int
    duplicate: int
    refused: int
    events: list[EventAnswer]


def add_events_route(
    router: APIRouter, *, topic_name: str, database: Database, accept: Accept, needs_scope: str
) -> None:
    """Add `POST /v1/events`: one structured CloudEvent, or an array of them.

    Each event is its own transaction: a refused one stops no other. Natural keys make a repeat
    harmless, so no Idempotency-Key is asked for.

    Args:
        accept: the use case; raises an exception with `code` and `status` to refuse.
    """
    entry = topic(topic_name)

    @router.post(
        "/v1/events",
        operation_id="post_events",
        tags=["events"],
        dependencies=[scope(needs_scope), BULK],
        summary="Publish events by HTTP instead of Kafka.",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/cloudevents+json": {"schema": {"type": "object"}},
                    "application/cloudevents-batch+json": {"schema": {"type": "array", "items": {"type": "object"}}},
                },
            }
        },
    )
    async def post_events(request: Request, principal: CurrentPrincipal) -> EventsAnswer:
        try:
            document = parse_json_strict(await request.body(), max_bytes=_MAX_BYTES)
        except EnvelopeError as error:
            raise Problem("malformed-request", detail=str(error)) from error
        items = document if isinstance(document, list) else [document]
        if len(items) > MOST_EVENTS:
            raise Problem("payload-too-large", detail=f"at most {MOST_EVENTS} events in one request, got {len(items)}")
        answers = [await one(index, item, principal) for index, item in enumerate(items)]
        return EventsAnswer(
            accepted=sum(a.outcome == "accepted" for a in answers),
            duplicate=sum(a.outcome == "duplicate" for a in answers),
            refused=sum(a.outcome == "refused" for a in answers),
            events=answers,
        )

    async def one(index: int, item: Any, principal: CurrentPrincipal) -> EventAnswer:
        own_id = item["id"] if isinstance(item, dict) and isinstance(item.get("id"), str) else None
        if not isinstance(item, dict):
            return _refused(index, None, "not_an_event", "", "expected an object: one structured CloudEvent")
        try:
            decoded = decode_event(item, payloads=entry.payloads)
            if isinstance(decoded, UnknownType):
                return _refused(index, own_id, "unknown_type", "/type", f"no event type {decoded.type!r} here")
            principal.require_company(decoded.company)
            event = Event.of(decoded, offset=index)
            async with database.transaction(event.cause) as tx:
                outcome = await accept(tx, event)
        except Exception as error:
            # A refusal carries a code; anything else is a fault of ours and ends the request.
            if getattr(error, "code", None) is None or getattr(error, "status", _FAULT) >= _FAULT:
                raise
            return _refused(index, own_id, refusal_code(error), _in_event(refusal_pointer(error)), str(error))
        return EventAnswer(index=index, id=own_id, outcome=outcome)


def _in_event(pointer: str | None) -> str | None:
    """A pointer into an event's data, or the name of an attribute, as a pointer into the event."""
    if pointer is None:
        return None
    return f"/{pointer.removeprefix('ce_')}" if pointer.startswith("ce_") else f"/data{pointer}"


def _refused(index: int, own_id: str | None, code: str, pointer: str | None, detail: str) -> EventAnswer:
    return EventAnswer(index=index, id=own_id, outcome="refused", code=code, pointer=pointer, detail=detail)
