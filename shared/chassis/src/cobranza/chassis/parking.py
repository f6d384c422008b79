"""What operators do with parked events: list, show, fix, release, discard, park-now, resume."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from cobranza.chassis.database import Database, Transaction
from cobranza.chassis.outbox import Cause
from cobranza.chassis.streams.agent import Agent, BatchTransaction, Event, ParkedInput, parties
from cobranza.contracts.envelope import Envelope, EnvelopeError, decode
from cobranza.contracts.topics import topic


class ParkingError(Exception):
    """An operator's verb cannot be carried out; the text says why and what to do instead."""

    code = "parking_refused"
    status = 409


@dataclass(frozen=True, slots=True)
class Parked:
    """One parked record as operators see it; `raw_*` are the bytes as they came."""

    id: int
    key: str
    event_id: UUID
    topic: str
    partition: int
    offset: int
    state: str
    error_class: str | None
    error_text: str | None
    pointer: str | None
    parked_at: datetime
    closed_at: datetime | None
    raw_key: bytes | None
    raw_headers: Sequence[tuple[str, bytes]]
    raw_value: bytes | None


_COLUMNS = (
    'id, key, event_id, topic, partition, "offset", state, error_class, error_text, pointer, parked_at, closed_at, '
    "raw_key, raw_headers, raw_value"
)


def _parked(row: Any) -> Parked:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name
    values["raw_headers"] = [(name, value.encode()) for name, value in values["raw_headers"]]
    return Parked(**values)


class Parking:
    """The parking lot of one consumer."""

    def __init__(self, database: Database, *, consumer: str, agents: Sequence[Agent]) -> None:
        self._database = database
        self._consumer = consumer
        self._agents: Mapping[str, Agent] = {agent.topic: agent for agent in agents}

    async def list(self, *, key: str | None = None, most: int = 200) -> list[Parked]:
        """Open entries, oldest first."""
        async with self._database.transaction() as tx:
            rows = await tx.execute(
                f"""
                SELECT {_COLUMNS} FROM parked WHERE consumer = :consumer AND closed_at IS NULL
                    AND (CAST(:key AS text) IS NULL OR key = :key) ORDER BY id LIMIT :most
                """,  # noqa: S608 - constant columns
                {"consumer": self._consumer, "key": key, "most": most},
            )
            return [_parked(row) for row in rows]

    async def show(self, parked_id: int) -> Parked:
        """One entry, open or closed.

        Raises:
            ParkingError: there is none with that number.
        """
        async with self._database.transaction() as tx:
            return await self._get(tx, parked_id)

    async def discard(self, parked_id: int, *, actor: str, reason: str) -> None:
        """Close an entry without applying it; the reason is kept.

        Raises:
            ParkingError: no such open entry, or later events of its key wait behind it: release the key.
        """
        _demand(reason)
        async with self._database.transaction() as tx:
            entry = await self._lock_open(tx, parked_id)
            await self._close(tx, entry, outcome="discarded", actor=actor, reason=reason)
            await self._free_key_if_empty(tx, entry.key)

    async def release(self, key: str, *, actor: str, reason: str) -> int:
        """Apply a key's parked events in order and free the key; returns how many were applied.

        All in one transaction: either every event of the key is applied or nothing changed.

        Raises:
            ParkingError: an event is still refused; fix or discard it first.
        """
        _demand(reason)
        async with self._database.transaction_of(BatchTransaction, Cause.command()) as tx:
            await tx.execute(
                "SELECT 1 FROM parked_key WHERE consumer = :consumer AND key = :key FOR UPDATE",
                {"consumer": self._consumer, "key": key},
            )
            rows = await tx.execute(
                f"""
                SELECT {_COLUMNS} FROM parked WHERE consumer = :consumer AND key = :key AND closed_at IS NULL
                    AND state IN ('poison', 'behind') ORDER BY id FOR UPDATE
                """,  # noqa: S608 - constant columns
                {"consumer": self._consumer, "key": key},
            )
            entries = [_parked(row) for row in rows]
            if not entries:
                raise ParkingError(f"nothing is parked for the key {key!r}")
            for entry in entries:
                await self._apply(tx, entry, value=entry.raw_value)
                await self._close(tx, entry, outcome="applied", actor=actor, reason=reason)
            await tx.execute(
                "DELETE FROM parked_key WHERE consumer = :consumer AND key = :key",
                {"consumer": self._consumer, "key": key},
            )
            return len(entries)

    async def fix(self, parked_id: int, value: bytes, *, actor: str, reason: str) -> None:
        """Apply a corrected value in the place of a parked event and close it.

        Raises:
            ParkingError: no such open entry, or the corrected value is refused as well.
        """
        _demand(reason)
        async with self._database.transaction_of(BatchTransaction, Cause.command()) as tx:
            entry = await self._lock_open(tx, parked_id)
            await self._apply(tx, entry, value=value)
            await self._close(tx, entry, outcome="fixed", actor=actor, reason=reason)
            await self._free_key_if_empty(tx, entry.key)

    async def park_now(self, topic_name: str, partition: int, *, actor: str, reason: str) -> None:
        """Have the worker park the event that a partition is stuck on.

        Raises:
            ParkingError: this consumer does not read the topic.
        """
        _demand(reason)
        if topic_name not in self._agents:
            raise ParkingError(f"{self._consumer} does not read {topic_name}")
        async with self._database.transaction() as tx:
            await _note(tx, actor, "park-now", f"{topic_name}/{partition}", reason)

    async def resume(self, topic_name: str, *, actor: str, reason: str) -> None:
        """Let a consumer that a flood of poison stopped go on.

        Raises:
            ParkingError: it is not stopped.
        """
        _demand(reason)
        async with self._database.transaction() as tx:
            result = await tx.execute(
                "DELETE FROM consumer_stop WHERE consumer = :consumer AND topic = :topic",
                {"consumer": self._consumer, "topic": topic_name},
            )
            if not result.rowcount:
                raise ParkingError(f"{self._consumer} is not stopped on {topic_name}")
            await _note(tx, actor, "resume", topic_name, reason)

    async def _apply(self, tx: BatchTransaction, entry: Parked, *, value: bytes | None) -> None:
        agent = self._agents[entry.topic]
        try:
            decoded = decode(
                entry.raw_key,
                entry.raw_headers,
                value,
                payloads=topic(entry.topic).payloads,
                strict=agent.is_ingress,
            )
        except EnvelopeError as error:
            raise ParkingError(f"#{entry.id} is still refused: {error}; fix or discard it") from error
        if not isinstance(decoded, Envelope):
            raise ParkingError(f"#{entry.id} holds nothing this release knows; discard it")
        event = Event.of(decoded, offset=entry.offset)
        tx.refused.clear()
        await agent.handle(tx, [event])
        for _, refusal, _ in tx.refused.values():
            raise ParkingError(f"#{entry.id} is still refused: {refusal}; fix or discard it")

    async def _get(self, tx: Transaction, parked_id: int, *, lock: str = "") -> Parked:
        row = (
            await tx.execute(
                f"SELECT {_COLUMNS} FROM parked WHERE consumer = :consumer AND id = :id {lock}",  # noqa: S608 - constants
                {"consumer": self._consumer, "id": parked_id},
            )
        ).one_or_none()
        if row is None:
            raise ParkingError(f"{self._consumer} has no parked event #{parked_id}")
        return _parked(row)

    async def _lock_open(self, tx: Transaction, parked_id: int) -> Parked:
        entry = await self._get(tx, parked_id, lock="FOR UPDATE")
        if entry.closed_at is not None:
            raise ParkingError(f"#{parked_id} was already {entry.state}")
        return entry

    async def _close(
        self,
        tx: Transaction,
        entry: Parked,
        *,
        outcome: Literal["applied", "fixed", "discarded"],
        actor: str,
        reason: str,
    ) -> None:
        await tx.execute(
            """
            UPDATE parked SET state = :state, closed_at = clock_timestamp(), closed_by = :actor, close_reason = :reason
            WHERE id = :id
            """,
            {
                "state": "discarded" if outcome == "discarded" else "released",
                "actor": actor,
                "reason": reason,
                "id": entry.id,
            },
        )
        await _note(tx, actor, outcome, f"parked #{entry.id}", reason)
        agent = self._agents.get(entry.topic)
        if agent is not None and agent.on_parked is not None:
            company, customer = parties(entry.key)
            await agent.on_parked(
                tx,
                ParkedInput(
                    parked_id=entry.id,
                    event_id=entry.event_id,
                    event_type=_type_of(entry),
                    topic=entry.topic,
                    company=company,
                    customer=customer,
                    code=entry.error_class or entry.state,
                    detail=reason,
                    outcome=outcome,
                    cause=tx.cause,
                ),
            )

    async def _free_key_if_empty(self, tx: Transaction, key: str) -> None:
        """Free the key once its poison is gone and nothing waits behind; else release applies the rest."""
        await tx.execute(
            """
            DELETE FROM parked_key k WHERE k.consumer = :consumer AND k.key = :key AND NOT EXISTS (
                SELECT 1 FROM parked p WHERE p.consumer = k.consumer AND p.key = k.key AND p.closed_at IS NULL
                    AND p.state IN ('poison', 'behind'))
            """,
            {"consumer": self._consumer, "key": key},
        )


def _type_of(entry: Parked) -> str:
    return next((value.decode("utf-8", "replace") for name, value in entry.raw_headers if name == "ce_type"), "unknown")


def _demand(reason: str) -> None:
    if not reason.strip():
        raise ParkingError("a reason is required; it is kept with what was done")


async def _note(tx: Transaction, actor: str, verb: str, subject: str, reason: str) -> None:
    await tx.execute(
        "INSERT INTO operator_action (actor, verb, subject, reason) VALUES (:actor, :verb, :subject, :reason)",
        {"actor": actor, "verb": verb, "subject": subject, "reason": reason},
    )


def as_text(entry: Parked) -> str:
    """A parked event for a person: where, why, and the bytes as far as they are text."""
    headers = json.dumps({name: value.decode("utf-8", "replace") for name, value in entry.raw_headers}, indent=2)
    value = "(no value)" if entry.raw_value is None else entry.raw_value[:20_000].decode("utf-8", "replace")
    return (
        f"#{entry.id} {entry.state} {entry.topic}/{entry.partition}@{entry.offset} key {entry.key}\n"
        f"{entry.error_class or ''} {entry.pointer or ''}: {entry.error_text or ''}\n{headers}\n{value}\n"
    )
