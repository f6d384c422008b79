"""What a consumer has already seen: its position, its event ids, its versions, its parked keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from cobranza.chassis.database import Transaction


@dataclass(frozen=True, slots=True)
class Position:
    """Where one partition continues; `at_end` says that nothing more was there when it was fetched."""

    next_offset: int
    at_end: bool = False


async def start_positions(
    tx: Transaction, *, consumer: str, topic: str, topic_id: UUID, earliest: Mapping[int, int]
) -> dict[int, int]:
    """The next offset of each partition in `earliest`; partitions never read start there.

    A partition's first position is written before its first record is read, so that a list lost
    before the first commit is seen as a hole like any other.
    """
    await tx.execute(
        """
        INSERT INTO progress (consumer, topic_id, partition, topic, next_offset)
        SELECT :consumer, :topic_id, p, :topic, o FROM unnest(CAST(:partitions AS int[]), CAST(:offsets AS bigint[])) AS t(p, o)
        ON CONFLICT DO NOTHING
        """,
        {
            "consumer": consumer,
            "topic_id": topic_id,
            "topic": topic,
            "partitions": list(earliest),
            "offsets": list(earliest.values()),
        },
    )
    rows = await tx.execute(
        """
        SELECT partition, next_offset FROM progress
        WHERE consumer = :consumer AND topic_id = :topic_id AND partition = ANY(CAST(:partitions AS int[]))
        """,
        {"consumer": consumer, "topic_id": topic_id, "partitions": list(earliest)},
    )
    return {row.partition: row.next_offset for row in rows}


async def lock_positions(
    tx: Transaction, *, consumer: str, topic_id: UUID, partitions: Collection[int]
) -> dict[int, int]:
    """Lock and return the next offsets; these rows exclude a zombie worker from the new owner."""
    rows = await tx.execute(
        """
        SELECT partition, next_offset FROM progress
        WHERE consumer = :consumer AND topic_id = :topic_id AND partition = ANY(CAST(:partitions AS int[]))
        ORDER BY partition FOR UPDATE
        """,
        {"consumer": consumer, "topic_id": topic_id, "partitions": sorted(partitions)},
    )
    return {row.partition: row.next_offset for row in rows}


async def move_positions(tx: Transaction, *, consumer: str, topic_id: UUID, positions: Mapping[int, Position]) -> None:
    """Move the positions; `at_end` also refreshes the instant at which the consumer was caught up."""
    await tx.execute(
        """
        UPDATE progress SET next_offset = t.o,
            caught_up_at = CASE WHEN t.e THEN clock_timestamp() ELSE caught_up_at END
        FROM unnest(CAST(:partitions AS int[]), CAST(:offsets AS bigint[]), CAST(:ends AS boolean[])) AS t(p, o, e)
        WHERE consumer = :consumer AND topic_id = :topic_id AND partition = t.p
        """,
        {
            "consumer": consumer,
            "topic_id": topic_id,
            "partitions": list(positions),
            "offsets": [position.next_offset for position in positions.values()],
            "ends": [position.at_end for position in positions.values()],
        },
    )


async def parked_keys(tx: Transaction, *, consumer: str, keys: Sequence[str]) -> set[str]:
    """Those of `keys` that have parked events; waits for a release in progress."""
    rows = await tx.execute(
        """
        SELECT key FROM parked_key WHERE consumer = :consumer AND key = ANY(CAST(:keys AS text[])) FOR SHARE
        """,
        {"consumer": consumer, "keys": sorted(keys)},
    )
    return {row.key for row in rows}


async def mark_seen(tx: Transaction, *, consumer: str, bodies: Mapping[UUID, bytes | None]) -> set[UUID]:
    """Insert the ids and return the fresh ones; `bodies` carries a body hash on ingress topics."""
    ordered = sorted(bodies)
    rows = await tx.execute(
        """
        INSERT INTO inbox (consumer, event_id, body_sha256)
        SELECT :consumer, e, b FROM unnest(CAST(:ids AS uuid[]), CAST(:bodies AS bytea[])) AS t(e, b)
        ON CONFLICT DO NOTHING RETURNING event_id
        """,
        {"consumer": consumer, "ids": ordered, "bodies": [bodies[i] for i in ordered]},
    )
    return {row.event_id for row in rows}


async def other_bodies(tx: Transaction, *, consumer: str, bodies: Mapping[UUID, bytes | None]) -> set[UUID]:
    """Those already seen ids whose kept body hash differs from the one given."""
    rows = await tx.execute(
        """
        SELECT i.event_id FROM inbox i JOIN unnest(CAST(:ids AS uuid[]), CAST(:bodies AS bytea[])) AS t(e, b)
            ON i.event_id = t.e WHERE i.consumer = :consumer AND i.body_sha256 IS NOT NULL AND i.body_sha256 <> t.b
        """,
        {"consumer": consumer, "ids": list(bodies), "bodies": list(bodies.values())},
    )
    return {row.event_id for row in rows}


async def versions(
    tx: Transaction, *, consumer: str, subjects: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], int]:
    """The last applied sequence of each (company, subject); absent when none was."""
    rows = await tx.execute(
        """
        SELECT v.company, v.subject, v.sequence FROM version_seen v
        JOIN unnest(CAST(:companies AS text[]), CAST(:subjects AS text[])) AS t(c, s) ON v.company = t.c AND v.subject = t.s
        WHERE v.consumer = :consumer
        """,
        {
            "consumer": consumer,
            "companies": [company for company, _ in subjects],
            "subjects": [subject for _, subject in subjects],
        },
    )
    return {(row.company, row.subject): row.sequence for row in rows}


async def keep_versions(tx: Transaction, *, consumer: str, seen: Mapping[tuple[str, str], int]) -> None:
    """Keep the last applied sequences, in key order."""
    ordered = sorted(seen)
    await tx.execute(
        """
        INSERT INTO version_seen (consumer, company, subject, sequence)
        SELECT :consumer, c, s, q
        FROM unnest(CAST(:companies AS text[]), CAST(:subjects AS text[]), CAST(:sequences AS bigint[])) AS t(c, s, q)
        ON CONFLICT (consumer, company, subject) DO UPDATE SET sequence = greatest(version_seen.sequence, excluded.sequence)
        """,
        {
            "consumer": consumer,
            "companies": [company for company, _ in ordered],
            "subjects": [subject for _, subject in ordered],
            "sequences": [seen[item] for item in ordered],
        },
    )


async def refresh_caught_up(tx: Transaction, *, consumer: str, at_end: Sequence[tuple[UUID, int, int]]) -> None:
    """Note that partitions (topic id, partition, end offset) are still caught up while idle."""
    await tx.execute(
        """
        UPDATE progress p SET caught_up_at = clock_timestamp()
        FROM unnest(CAST(:ids AS uuid[]), CAST(:partitions AS int[]), CAST(:ends AS bigint[])) AS t(i, n, e)
        WHERE p.consumer = :consumer AND p.topic_id = t.i AND p.partition = t.n AND p.next_offset >= t.e
        """,
        {
            "consumer": consumer,
            "ids": [topic_id for topic_id, _, _ in at_end],
            "partitions": [partition for _, partition, _ in at_end],
            "ends": [end for _, _, end in at_end],
        },
    )


async def oldest_caught_up_age_seconds(
    connection: AsyncConnection, *, consumer: str, topics: Sequence[str]
) -> float | None:
    """Age of the oldest instant at which the consumer was caught up on `topics`.

    None when some partition was never caught up or a topic was never read.
    """
    row = (
        await connection.execute(
            text(
                """
                SELECT count(DISTINCT topic) AS topics, bool_or(caught_up_at IS NULL) AS never,
                    extract(epoch FROM clock_timestamp() - min(caught_up_at)) AS age
                FROM progress WHERE consumer = :consumer AND topic = ANY(CAST(:topics AS text[]))
                """
            ),
            {"consumer": consumer, "topics": list(topics)},
        )
    ).one()
    if row.topics < len(set(topics)) or row.never:
        return None
    return float(row.age)
