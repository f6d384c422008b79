"""Replays a business history on a local platform: publish a day as an ERP would, wait, move the clock.

Used by `demo.py` and `ibm_ar.py`. It knows the platform from outside only: Kafka's topics, the clock
file, the pages, and, to see that a day is over, the bookkeeping tables that every service has.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Self

import asyncpg
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.local.platform import LocalPlatform
from cobranza.contracts.topics import CATALOGUE

SERVICES = ("invoicing", "payments", "dunning", "notifications", "analytics")
#: A day that is not over after this long means that something stands still.
MOST_SECONDS_PER_DAY = 120.0

_STATE = """
    SELECT (SELECT count(*) FROM outbox WHERE sent_at IS NULL) AS unsent,
        (SELECT count(*) FROM timer WHERE state IN ('armed', 'claimed') AND due_at <= $1) AS timers,
        (SELECT json_object_agg(topic || '/' || partition, next_offset) FROM progress) AS positions
"""
_WAITING_NOTICES = "SELECT count(*) FROM notice WHERE state IN ('queued', 'permitted', 'sending')"


class StandstillError(RuntimeError):
    """A day is not over in time; the text says what is still open where."""


class Replay:
    """Drives one platform through business days; an async context manager."""

    def __init__(self, platform: LocalPlatform, clock: BusinessClock) -> None:
        self._platform = platform
        self._clock = clock

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        environment = self._platform.environment()
        self._databases: dict[str, asyncpg.Connection[Any]] = {}
        for service in SERVICES:
            connection = await asyncpg.connect(environment[f"{service.upper()}_DATABASE_URL"])
            self._stack.push_async_callback(connection.close)
            self._databases[service] = connection
        bootstrap = self._platform.bootstrap
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=2)
        self._stack.callback(self._producer.close)
        self._consumer = KafkaConsumer(bootstrap_servers=bootstrap)
        self._stack.callback(self._consumer.close)
        self._partitions = [
            TopicPartition(topic.name, number) for topic in CATALOGUE for number in range(topic.partitions)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def set_clock(self, on: date, at: time) -> None:
        """Let the business instant stand at a UTC time of a day."""
        self._clock.set(datetime.combine(on, at, tzinfo=UTC))

    def publish(self, events: Iterable[tuple[str, str, Mapping[str, Any]]]) -> int:
        """Publish structured CloudEvents as `(topic, key, event)`; returns how many."""
        count = 0
        for topic, key, event in events:
            self._producer.send(
                topic,
                key=key.encode(),
                value=json.dumps(event).encode(),
                headers=[("content-type", b"application/cloudevents+json")],
            )
            count += 1
        return count

    def publish_raw(self, topic: str, key: bytes, value: bytes) -> None:
        """Publish bytes as they are: the broken events that real feeds have."""
        self._producer.send(topic, key=key, value=value, headers=[("content-type", b"application/cloudevents+json")])

    async def until_quiet(self) -> None:
        """Wait until every event is applied, every timer worked and every notice decided.

        Raises:
            StandstillError: not within the time of a day.
        """
        await asyncio.to_thread(self._producer.flush)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + MOST_SECONDS_PER_DAY
        while True:
            # The services first, the topics' ends last: what is sent meanwhile shows in the ends.
            left = await self._open_work()
            if not left:
                ends = await asyncio.to_thread(self._consumer.end_offsets, self._partitions)
                left = self._unread({(tp.topic, tp.partition): end for tp, end in ends.items()})
            if not left:
                return
            if loop.time() > deadline:
                raise StandstillError(f"not over after {MOST_SECONDS_PER_DAY:.0f} s: {'; '.join(left[:5])}")
            await asyncio.sleep(0.03)

    async def _open_work(self) -> list[str]:
        now = self._clock.now()
        states = await asyncio.gather(*(connection.fetchrow(_STATE, now) for connection in self._databases.values()))
        self._positions: dict[str, dict[str, int]] = {}
        left = []
        for service, state in zip(self._databases, states, strict=True):
            self._positions[service] = json.loads(state["positions"] or "{}")
            if state["unsent"]:
                left.append(f"{service}: {state['unsent']} events not yet sent")
            if state["timers"]:
                left.append(f"{service}: {state['timers']} timers due")
        waiting = await self._databases["notifications"].fetchval(_WAITING_NOTICES)
        if waiting:
            left.append(f"notifications: {waiting} notices in work")
        return left

    def _unread(self, ends: Mapping[tuple[str, int], int]) -> list[str]:
        return [
            f"{service}: {topic.name}/{number} at {position} of {ends[topic.name, number]}"
            for topic in CATALOGUE
            for service in topic.consumers
            for number in range(topic.partitions)
            if (position := self._positions[service].get(f"{topic.name}/{number}", 0)) < ends[topic.name, number]
        ]

    async def parked(self) -> int:
        """Inputs that wait for a person, in all services."""
        counts = [
            await connection.fetchval("SELECT count(*) FROM parked WHERE closed_at IS NULL")
            for connection in self._databases.values()
        ]
        return sum(counts)

    def read_all(self, topic: str) -> list[tuple[str, dict[str, Any]]]:
        """Everything on a canonical topic, as another service would read it: `(type, data)`."""
        partitions = [tp for tp in self._partitions if tp.topic == topic]
        ends = self._consumer.end_offsets(partitions)
        self._consumer.assign(partitions)
        self._consumer.seek_to_beginning(*partitions)
        found: list[tuple[str, dict[str, Any]]] = []
        left = {tp for tp in partitions if ends[tp] > 0}
        while left:
            for tp, records in self._consumer.poll(timeout_ms=1000).items():
                found += [
                    (dict(record.headers)["ce_type"].decode(), json.loads(record.value))
                    for record in records
                    if record.value is not None
                ]
                if records and records[-1].offset + 1 >= ends[tp]:
                    left.discard(tp)
        return found


def clock_at(path: Path, on: date) -> BusinessClock:
    """A standing business clock in a file, at the first minute of a day."""
    clock = BusinessClock(path)
    clock.set(datetime.combine(on, time(0, 1), tzinfo=UTC))
    return clock


def erp_event(
    *, company: str, system: str, event: str, customer: str, event_id: str, data: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """Key and structured CloudEvent of one ERP statement; `event` without the `erp.` and the version."""
    return f"{company}|{customer}", {
        "specversion": "1.0",
        "id": event_id,
        "source": f"/erp/{company}/{system}",
        "type": f"erp.{event}.v1",
        "companyid": company,
        "datacontenttype": "application/json",
        "data": {"company": company, **data},
    }


def command(platform: LocalPlatform, *arguments: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """How to run a `cobranza` verb against a platform: program with arguments, and environment."""
    import sys

    return (sys.executable, "-c", "from cobranza.chassis.cli import main; main()", *arguments), platform.environment()


async def use_policy(platform: LocalPlatform, preset: str, company: str) -> None:
    """Load a shipped policy for every currency of a company and put it into force."""
    loaded = await run_verb(platform, "dunning", "policy", "load", preset, "--company", company)
    for line in loaded.splitlines():
        await run_verb(platform, "dunning", "policy", "activate", line.split()[0], "--company", company)


async def run_verb(platform: LocalPlatform, *arguments: str, also: tuple[int, ...] = ()) -> str:
    """Run a `cobranza` verb against a platform and return what it printed.

    Args:
        platform: where.
        arguments: the verb and its arguments.
        also: exit codes beside 0 that are an answer and not a failure.

    Raises:
        RuntimeError: it failed; the text is what it said.
    """
    program, environment = command(platform, *arguments)
    process = await asyncio.create_subprocess_exec(
        *program, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    if process.returncode not in (0, *also):
        raise RuntimeError(f"cobranza {' '.join(arguments)}: {err.decode().strip() or out.decode().strip()}")
    return out.decode()
