"""How another service follows collections: every notice and every settled receivable, with kafka-python.

    KAFKA_BOOTSTRAP=127.0.0.1:9092 python examples/follow_events.py [--from-beginning] [--most N]

Rules for a reader: ignore unknown fields and types, drop what has a `ce_sequence` at or below the one
already seen for its `ce_subject`, and expect any event more than once.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator

from kafka import KafkaConsumer

TOPICS = ("cobranza.payments", "cobranza.dunning", "cobranza.notifications")


def follow(*, from_beginning: bool, idle_seconds: float) -> Iterator[str]:
    """One line per event that is news to this reader; ends after `idle_seconds` of silence."""
    consumer = KafkaConsumer(
        *TOPICS,
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP"],  # noqa: TID251 - an outside program
        auto_offset_reset="earliest" if from_beginning else "latest",
        consumer_timeout_ms=int(idle_seconds * 1000),
    )
    seen: dict[tuple[str, str], int] = {}
    for record in consumer:
        headers = {name: value.decode() for name, value in record.headers}
        company, subject, sequence = headers["ce_companyid"], headers["ce_subject"], int(headers["ce_sequence"])
        if record.value is None or sequence <= seen.get((company, subject), 0):
            continue
        seen[company, subject] = sequence
        data = json.loads(record.value)
        match headers["ce_type"]:
            case "cobranza.notifications.notice-sent.v1":
                claimed = data.get("claimed") or {}
                yield f"{data['sent_on']} notice to {data['customer']}: {claimed.get('amount', '')} {claimed.get('currency', '')}"
            case "cobranza.payments.receivable-changed.v1" if data["open"].strip("0.") == "":
                yield f"{data['effective_on']} {data['number']} of {data['customer']} is settled"
            case _:
                continue
    consumer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from-beginning", action="store_true")
    parser.add_argument("--most", type=int, default=1_000_000)
    arguments = parser.parse_args()
    for count, line in enumerate(follow(from_beginning=arguments.from_beginning, idle_seconds=10.0), start=1):
        print(line)
        if count >= arguments.most:
            break
