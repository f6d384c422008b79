"""Durable timers: rows that are claimed when their business instant has come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from cobranza.chassis import clock, metrics
from cobranza.chassis.database import Database, Transaction, is_locked_out, is_transient
from cobranza.chassis.ids import new_id
from cobranza.chassis.logs import logger
from cobranza.chassis.outbox import Cause

#: Work on one claim must be shorter than this; a claim older than it is taken back.
LEASE_SECONDS: Final = 60
#: How often expired claims are looked for.
REAP_EVERY_SECONDS: Final = 1.0
#: Timers claimed at a time.
CLAIM: Final = 200
#: Having waited for a lock in vain, the halves of a batch wait no longer than this: all is done within the lease.
_IMPATIENT: Final = "SET LOCAL lock_timeout = '500ms'"
#: Until a subject that somebody else holds locked is tried again.
_LOCKED_OUT_SECONDS: Final = 5.0
#: A timer whose handler failed this often waits longer between tries.
_SLOW_AFTER: Final = 3


@dataclass(frozen=True, slots=True)
class Timer:
    """A claimed timer: what it is about and when it was due (business instant)."""

    key: str
    kind: str
    company: str
    subject_id: UUID
    due_at: datetime
    attempts: int


_REAP: Final = (
    "UPDATE timer SET state = 'armed', owner = NULL WHERE state = 'claimed' AND lease_until < clock_timestamp()"
)


@dataclass(frozen=True, slots=True)
class Together:
    """A handler of many timers in one transaction: returns the next due of each, by key; the others have fired."""

    handle: Callable[[Transaction, Sequence[Timer]], Awaitable[Mapping[str, datetime]]]


Handler = Callable[[Transaction, Timer], Awaitable[datetime | None]] | Together


async def arm(tx: Transaction, *, key: str, kind: str, company: str, subject_id: UUID, due_at: datetime) -> None:
    """Arm or move the timer `key`; a claim in progress loses its fence and rolls back."""
    await tx.execute(
        """
        INSERT INTO timer (timer_key, kind, company, subject_id, due_at)
        VALUES (:key, :kind, :company, :subject_id, :due_at)
        ON CONFLICT (timer_key) DO UPDATE SET due_at = excluded.due_at, state = 'armed', owner = NULL, lease_until = NULL,
            attempts = 0
        """,
        {"key": key, "kind": kind, "company": company, "subject_id": subject_id, "due_at": due_at},
    )


async def arm_many(tx: Transaction, rows: list[Mapping[str, Any]]) -> None:
    """Arm many timers by one statement; each row has the keywords of `arm`."""
    if rows:
        await tx.execute(
            """
            INSERT INTO timer (timer_key, kind, company, subject_id, due_at)
            SELECT * FROM unnest(CAST(:keys AS text[]), CAST(:kinds AS text[]), CAST(:companies AS text[]),
                CAST(:subjects AS uuid[]), CAST(:dues AS timestamptz[]))
            ON CONFLICT (timer_key) DO UPDATE SET due_at = excluded.due_at, state = 'armed', owner = NULL,
                lease_until = NULL, attempts = 0
            """,
            {
                "keys": [r["key"] for r in rows],
                "kinds": [r["kind"] for r in rows],
                "companies": [r["company"] for r in rows],
                "subjects": [r["subject_id"] for r in rows],
                "dues": [r["due_at"] for r in rows],
            },
        )


async def cancel(tx: Transaction, *, key: str) -> None:
    """Cancel the timer `key`; nothing happens when there is none."""
    await tx.execute(
        "UPDATE timer SET state = 'cancelled', owner = NULL WHERE timer_key = :key AND state IN ('armed', 'claimed')",
        {"key": key},
    )


class Scheduler:
    """Claims due timers and works them, each kind as its handler says, fenced by the claim."""

    def __init__(self, database: Database, handlers: Mapping[str, Handler], *, idle_seconds: float) -> None:
        """Args: `idle_seconds` is the wait between looks when nothing is due."""
        self._database = database
        self._handlers = handlers
        self._owner = new_id()
        self._idle_seconds = idle_seconds
        self._reaped = float("-inf")
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the timer in progress."""
        self._stopping.set()

    async def run(self) -> None:
        """Work timers until stopped; no fault of one timer stops the others."""
        while not self._stopping.is_set():
            try:
                worked = await self.work_due()
            except Exception as error:  # noqa: BLE001
                # One of the three broad catches of the chassis: the loop must outlive any fault.
                logger().warning("timers interrupted", error=type(error).__name__)
                worked = 0
            if not worked:
                try:
                    await asyncio.wait_for(self._stopping.wait(), timeout=self._idle_seconds)
                except TimeoutError:
                    continue

    async def work_due(self) -> int:
        """Work one claim of due timers; returns how many were claimed."""
        timers = await self._claim()
        metrics.TIMERS_DUE.set(len(timers))
        for kind, found in groupby(timers, key=lambda timer: timer.kind):
            of_kind = list(found)
            together = isinstance(self._handlers[kind], Together)
            for batch in [of_kind] if together else [[timer] for timer in of_kind]:
                if self._stopping.is_set():
                    break
                await self._try(batch)
        return len(timers)

    async def _claim(self) -> list[Timer]:
        async with self._database.transaction() as tx:
            if clock.monotonic() - self._reaped > REAP_EVERY_SECONDS:
                await tx.execute(_REAP)
                self._reaped = clock.monotonic()
            result = await tx.execute(
                f"""
                UPDATE timer SET state = 'claimed', owner = :owner, attempts = attempts + 1,
                    lease_until = clock_timestamp() + interval '{LEASE_SECONDS} seconds'
                WHERE timer_key IN (
                    SELECT timer_key FROM timer WHERE state = 'armed' AND due_at <= :now ORDER BY due_at, timer_key
                    LIMIT :most FOR UPDATE SKIP LOCKED)
                RETURNING timer_key, kind, company, subject_id, due_at, attempts
                """,  # noqa: S608 - constant
                {"owner": self._owner, "now": tx.now, "most": CLAIM},
            )
            timers = [
                Timer(row.timer_key, row.kind, row.company, row.subject_id, row.due_at, row.attempts) for row in result
            ]
        return sorted(timers, key=lambda timer: (timer.kind, timer.due_at, timer.key))

    async def _try(self, timers: Sequence[Timer], *, is_patient: bool = True) -> None:
        """Work timers of one kind; those at fault, or locked by others, are found by halving and stop no other.

        Args:
            is_patient: wait for locks as long as usual.
        """
        try:
            await self._work(timers, is_patient=is_patient)
        except _ClaimLostError as error:
            if kept := [timer for timer in timers if timer.key not in error.keys]:
                await self._try(kept, is_patient=is_patient)
        except Exception as error:  # noqa: BLE001 - one timer's fault stops no other
            locked_out = is_locked_out(error)
            if is_transient(error) and not locked_out:
                await self._give_back({timer.key: 0.0 for timer in timers})
            elif len(timers) > 1:
                middle = len(timers) // 2
                for half in (timers[:middle], timers[middle:]):
                    await self._try(half, is_patient=is_patient and not locked_out)
            elif locked_out:
                logger().warning("timer waits for a lock", timer=timers[0].key)
                await self._give_back({timers[0].key: _LOCKED_OUT_SECONDS})
            else:
                timer = timers[0]
                logger().error("timer failed", timer=timer.key, attempts=timer.attempts, exc_info=True)
                await self._give_back({timer.key: min(3600.0, 10.0 * max(0, timer.attempts - _SLOW_AFTER))})

    async def _work(self, timers: Sequence[Timer], *, is_patient: bool) -> None:
        handler = self._handlers[timers[0].kind]
        now = self._database.clock.now()
        async with self._database.transaction(Cause.timer(timers[0].key, now.date())) as tx:
            if not is_patient:
                await tx.execute(_IMPATIENT)
            if isinstance(handler, Together):
                due = await handler.handle(tx, timers)
            else:
                next_due = await handler(tx, timers[0])
                due = {} if next_due is None else {timers[0].key: next_due}
            # The fence comes last: subjects are locked before timers everywhere, so an event that
            # re-arms one of them meanwhile cannot deadlock with us; it makes us roll back instead.
            keys = [timer.key for timer in timers]
            fenced = await tx.execute(
                """
                UPDATE timer SET state = CASE WHEN next.due IS NULL THEN 'fired' ELSE 'armed' END,
                    due_at = coalesce(next.due, due_at), owner = NULL, lease_until = NULL, attempts = 0
                FROM unnest(CAST(:keys AS text[]), CAST(:dues AS timestamptz[])) AS next(key, due)
                WHERE timer_key = next.key AND owner = :owner AND state = 'claimed'
                RETURNING timer_key
                """,
                {"keys": keys, "dues": [due.get(key) for key in keys], "owner": self._owner},
            )
            if lost := frozenset(keys) - {row.timer_key for row in fenced}:
                raise _ClaimLostError(lost)
        for timer in timers:
            metrics.TIMER_LATENESS.labels(kind=timer.kind).observe(max(0.0, (now - timer.due_at).total_seconds()))

    async def _give_back(self, waits: Mapping[str, float]) -> None:
        """Let timers be claimed again, each after so many seconds."""
        async with self._database.transaction() as tx:
            # Back-off runs on real time through the lease, never on the business instant.
            await tx.execute(
                """
                UPDATE timer SET lease_until = clock_timestamp() + make_interval(secs => back.wait)
                FROM unnest(CAST(:keys AS text[]), CAST(:waits AS float8[])) AS back(key, wait)
                WHERE timer_key = back.key AND owner = :owner AND state = 'claimed'
                """,
                {
                    "keys": list(waits),
                    "owner": self._owner,
                    "waits": [max(0.05, wait) for wait in waits.values()],
                },
            )


class _ClaimLostError(Exception):
    """Events moved timers while they were worked: the transaction is rolled back, the others are worked again."""

    def __init__(self, keys: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(keys)))
        self.keys = keys
