"""An ERP's first event: one invoice, published to Kafka with kafka-python.

    KAFKA_BOOTSTRAP=127.0.0.1:9092 python examples/first_event.py acme-mx C-1 F-1 1160.00 MXN 2027-02-28

The key decides the order: everything about a customer carries the key `company|customer`, and the
default partitioner (murmur2) puts it on one partition. Publishing it again changes nothing.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta

from kafka import KafkaProducer


def main(company: str, customer: str, number: str, amount: str, currency: str, due_on: str) -> None:
    """Publish one invoice and wait until the broker has it."""
    money = {"amount": amount, "currency": currency}
    yesterday = datetime.now(UTC) - timedelta(days=1)  # noqa: TID251 - an ERP has a clock of its own
    event = {
        "specversion": "1.0",
        "id": f"invoice-{number}-1",  # system, object and revision: the same statement has the same id
        "source": f"/erp/{company}/erp",
        "type": "erp.invoice-issued.v1",
        "companyid": company,
        "datacontenttype": "application/json",
        "data": {
            "company": company,
            "external": {"system": "erp", "id": number},
            "customer": customer,
            "number": number,
            "issued_on": yesterday.date().isoformat(),
            "payable": money,
            "instalments": [{"number": 1, "due_on": due_on, "amount": money}],
        },
    }
    producer = KafkaProducer(bootstrap_servers=os.environ["KAFKA_BOOTSTRAP"])  # noqa: TID251
    sent = producer.send(
        "erp.invoicing",
        key=f"{company}|{customer}".encode(),
        value=json.dumps(event).encode(),
        headers=[("content-type", b"application/cloudevents+json")],
    )
    where = sent.get(timeout=30)
    producer.close()
    print(f"published to {where.topic}, partition {where.partition}, offset {where.offset}")


if __name__ == "__main__":
    main(*sys.argv[1:7])
