"""Topics made from the catalogue, and the questions to a broker that need an administrator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import TopicAlreadyExistsError

from cobranza.contracts.topics import CATALOGUE, Topic

_DAY_MS: Final = 24 * 3600 * 1000


class TopicsDifferError(RuntimeError):
    """A topic exists with other partitions than the catalogue says: keys would move."""


def _admin(bootstrap: str) -> Any:
    return KafkaAdminClient(bootstrap_servers=bootstrap, client_id="cobranza-admin")


def _config(entry: Topic) -> dict[str, str]:
    config = {
        "cleanup.policy": "compact" if entry.compacted else "delete",
        "max.message.bytes": "1048576",
    }
    if not entry.compacted:
        days = entry.retention_days
        config["retention.ms"] = str(days * _DAY_MS) if days is not None else "-1"
    return config


def apply(bootstrap: str, *, replication: int = 1) -> list[str]:
    """Create the topics of the catalogue that are missing; returns the names created.

    Raises:
        TopicsDifferError: an existing topic has another number of partitions.
    """
    admin = _admin(bootstrap)
    try:
        existing = set(admin.list_topics())
        missing = [entry for entry in CATALOGUE if entry.name not in existing]
        for entry in missing:
            try:
                admin.create_topics(
                    [
                        NewTopic(
                            name=entry.name,
                            num_partitions=entry.partitions,
                            replication_factor=replication,
                            topic_configs=_config(entry),
                        )
                    ]
                )
            except TopicAlreadyExistsError:
                continue
        present = [entry for entry in CATALOGUE if entry.name in existing]
        for described in admin.describe_topics([entry.name for entry in present]) if present else []:
            expected = next(entry for entry in present if entry.name == described["name"])
            found = len(described["partitions"])
            if found != expected.partitions:
                raise TopicsDifferError(
                    f"{expected.name} has {found} partitions, the catalogue says {expected.partitions}: "
                    "keys would move; make a new topic or restore the number"
                )
        return [entry.name for entry in missing]
    finally:
        admin.close()


def topic_ids(bootstrap: str, topics: Sequence[str]) -> dict[str, UUID]:
    """Kafka's own id of each topic; one deleted and created again has another."""
    admin = _admin(bootstrap)
    try:
        return {
            described["name"]: UUID(str(described["topic_id"])) for described in admin.describe_topics(list(topics))
        }
    finally:
        admin.close()


def end_offsets(bootstrap: str, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    """The next offset to be written of every partition of `topics`."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    try:
        partitions = [
            TopicPartition(topic, partition)
            for topic in topics
            for partition in consumer.partitions_for_topic(topic) or ()
        ]
        return {(tp.topic, tp.partition): end for tp, end in consumer.end_offsets(partitions).items()}
    finally:
        consumer.close()


def recent(bootstrap: str, topic: str, *, most: int) -> list[Any]:
    """The last records of a topic, at most `most` of each partition, oldest first by time of writing."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        first, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        for tp in partitions:
            consumer.seek(tp, max(first[tp], ends[tp] - most))
        left = sum(ends[tp] - max(first[tp], ends[tp] - most) for tp in partitions)
        found = []
        while left > 0 and (batches := consumer.poll(timeout_ms=1500)):
            for records in batches.values():
                found += records
                left -= len(records)
        return sorted(found, key=lambda record: (record.timestamp, record.partition, record.offset))
    finally:
        consumer.close()
