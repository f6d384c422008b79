"""What the database and the topics hold after a run, compared with the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from workload import TOPIC, Oracle

OUTPUT: Final = "cobranza.invoicing"


@dataclass(frozen=True, slots=True)
class Effects:
    """How the written effects differ from the oracle's."""

    lost: int
    double: int
    out_of_order: int
    wrong_balances: int

    @property
    def right(self) -> bool:
        """True when nothing differs."""
        return self == Effects(0, 0, 0, 0)


async def effects(database: Any, oracle: Oracle) -> Effects:
    """Count applications lost, doubled and out of order per customer, and balances that differ."""
    rows = await database.fetch("SELECT event_id, customer, place FROM effect ORDER BY id")
    last: dict[str, int] = {}
    seen: set[Any] = set()
    double = out_of_order = 0
    for row in rows:
        if row["event_id"] in seen:
            double += 1
            continue
        seen.add(row["event_id"])
        out_of_order += row["place"] <= last.get(row["customer"], 0)
        last[row["customer"]] = max(row["place"], last.get(row["customer"], 0))
    balances = {row["customer"]: row["paid"] for row in await database.fetch("SELECT customer, paid FROM balance")}
    customers = balances.keys() | oracle.paid.keys()
    return Effects(
        lost=oracle.events - len(seen),
        double=double,
        out_of_order=out_of_order,
        wrong_balances=sum(balances.get(one, 0) != oracle.paid.get(one, 0) for one in customers),
    )


async def at_the_end(database: Any, bootstrap: str) -> bool:
    """True when every partition's position stands at the end of its log."""
    ends = read_ends(bootstrap, TOPIC)
    rows = await database.fetch("SELECT partition, next_offset FROM progress WHERE topic = $1", TOPIC)
    return ends == {row["partition"]: row["next_offset"] for row in rows}


def read_ends(bootstrap: str, topic: str) -> dict[int, int]:
    """The next offset to be written of every partition."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        return {tp.partition: end for tp, end in consumer.end_offsets(partitions).items()}
    finally:
        consumer.close()


@dataclass(frozen=True, slots=True)
class Published:
    """What stands on the output topic: events, copies beyond the first, versions that went back."""

    events: int
    duplicates: int
    inversions: int


def published(bootstrap: str, topic: str = OUTPUT) -> Published:
    """Read the output topic from its beginning to its end."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        left = sum(consumer.end_offsets(partitions).values())
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        seen: set[bytes] = set()
        last: dict[tuple[bytes, bytes], int] = {}
        duplicates = inversions = 0
        while left > 0:
            for records in consumer.poll(timeout_ms=2000).values():
                left -= len(records)
                for record in records:
                    headers = dict(record.headers)
                    if headers["ce_id"] in seen:
                        duplicates += 1
                        continue
                    seen.add(headers["ce_id"])
                    subject, sequence = (record.key, headers["ce_subject"]), int(headers["ce_sequence"])
                    inversions += sequence <= last.get(subject, 0)
                    last[subject] = sequence
        return Published(len(seen), duplicates, inversions)
    finally:
        consumer.close()
