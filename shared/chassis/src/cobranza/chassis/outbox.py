"""Events on their way out: rows written in the transaction that made the change they tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis.clock import utc_now
from cobranza.chassis.ids import new_id
from cobranza.contracts import envelope, identifiers
from cobranza.contracts.payloads import Payload
from cobranza.contracts.topics import TOPIC_OF

#: Largest event; a larger one dies in its own transaction and not in somebody's consumer.
MAX_EVENT_BYTES: Final = 64 * 1024


class EventTooLargeError(ValueError):
    """An event is larger than every reader accepts."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a change happens: what its events are derived from and correlated by.

    `seed` is what a repeat of the same cause repeats, so that its events get the same ids; None for
    a command, whose events get new ones.
    """

    seed: str | None
    correlation_id: str
    causation_id: str | None
    traceparent: str | None = None

    @classmethod
    def command(cls, *, correlation_id: str | None = None, traceparent: str | None = None) -> Cause:
        """A person or another program asked for it."""
        return cls(None, correlation_id or str(new_id()), None, traceparent)

    @classmethod
    def event(cls, event_id: UUID, *, correlation_id: str | None, traceparent: str | None = None) -> Cause:
        """An event asked for it; what it causes is the same however often it is delivered."""
        identity = str(event_id)
        return cls(identity, correlation_id or identity, identity, traceparent)

    @classmethod
    def timer(cls, timer_key: str, business_date: date) -> Cause:
        """A date came; what it causes is the same however often the timer fires that day."""
        seed = f"{timer_key}|{business_date.isoformat()}"
        return cls(seed, str(new_id()), None)


@dataclass(frozen=True, slots=True)
class Row:
    """One outbox row, ready to insert."""

    event_id: UUID
    topic: str
    key: str
    type: str
    subject: str
    sequence: int
    headers: str
    value: bytes
    occurred_at: datetime


def row(payload: Payload, *, service: str, sequence: int, cause: Cause, expires_at: datetime | None) -> Row:
    """The outbox row that tells `payload`.

    Raises:
        EventTooLargeError: the encoded payload exceeds 64 KiB.
    """
    if sequence < 1:
        raise ValueError(f"a sequence starts at 1, got {sequence} for {payload.subject}")
    # Each is put together anew whenever it is asked for.
    key, subject = payload.partition_key, payload.subject
    event_id = (
        new_id()
        if cause.seed is None
        else identifiers.event_id(
            cause=cause.seed,
            service=service,
            type=payload.TYPE,
            subject=f"{key}|{subject}",
        )
    )
    occurred_at = utc_now()
    told = envelope.Envelope(
        event_id=identifiers.EventId(event_id),
        source=f"/cobranza/{service}",
        time=occurred_at,
        sequence=sequence,
        correlation_id=cause.correlation_id,
        causation_id=cause.causation_id,
        traceparent=cause.traceparent,
        expires_at=expires_at,
        data=payload,
    )
    value = envelope.json_of(payload)
    if len(value) > MAX_EVENT_BYTES:
        raise EventTooLargeError(f"{payload.TYPE} {subject} has {len(value)} bytes, at most {MAX_EVENT_BYTES}")
    return Row(
        event_id=event_id,
        topic=TOPIC_OF[payload.TYPE],
        key=key,
        type=payload.TYPE,
        subject=subject,
        sequence=sequence,
        headers=to_json(envelope.headers_of(told, key=key, subject=subject)).decode(),
        value=value,
        occurred_at=occurred_at,
    )


_INSERT = text(
    """
    INSERT INTO outbox (event_id, topic, key, type, subject, sequence, headers, value, occurred_at)
    SELECT * FROM unnest(
        CAST(:event_ids AS uuid[]), CAST(:topics AS text[]), CAST(:keys AS text[]), CAST(:types AS text[]),
        CAST(:subjects AS text[]), CAST(:sequences AS bigint[]), CAST(:headers AS jsonb[]), CAST(:values AS bytea[]),
        CAST(:instants AS timestamptz[]))
    """
)


async def insert(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    """Write `rows` in their order by one statement."""
    await connection.execute(
        _INSERT,
        {
            "event_ids": [r.event_id for r in rows],
            "topics": [r.topic for r in rows],
            "keys": [r.key for r in rows],
            "types": [r.type for r in rows],
            "subjects": [r.subject for r in rows],
            "sequences": [r.sequence for r in rows],
            "headers": [r.headers for r in rows],
            "values": [r.value for r in rows],
            "instants": [r.occurred_at for r in rows],
        },
    )
