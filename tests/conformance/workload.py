"""What is published for the conformance runs, and the oracle that says what must come of it."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid5

from kafka import KafkaProducer

from cobranza.contracts import identifiers
from cobranza.contracts.envelope import Envelope, encode
from cobranza.contracts.payments import ReceivableChanged

TOPIC: Final = "cobranza.payments"
#: A record whose number begins so is refused by the toy's handler.
REFUSED: Final = "REFUSED"
COMPANY: Final = "acme-mx"
RECEIVABLES_PER_CUSTOMER: Final = 3
REPEATED: Final = 0.02
POISONED: Final = 0.0014
_RECENT: Final = 5000
_NAMESPACE: Final = UUID("0c7f2a55-7c5e-4a3b-8f55-6a3f6c1d2e90")
_ISSUED: Final = Decimal("1000.00")


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it is published."""

    key: bytes
    headers: tuple[tuple[str, bytes], ...]
    value: bytes | None


@dataclass
class Oracle:
    """What must be true after every record was consumed."""

    events: int = 0
    repeats: int = 0
    poison: int = 0
    behind: int = 0
    paid: dict[str, int] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)


class Workload:
    """Events of many customers, with repeats at other offsets and poison on keys of its own.

    Poison stands alone on its key, or has followers that must wait behind it; so every count is exact.
    The run number fixes everything.
    """

    def __init__(self, *, events: int, run: int, poisoned: float = POISONED) -> None:
        self.events = events
        self._poisoned = poisoned
        self.oracle = Oracle()
        self._random = random.Random(run)
        self._customers = max(10, events // 100)
        self._sequences: dict[UUID, int] = {}

    def records(self) -> Iterator[Record]:
        """All records in the order of publishing; the oracle is complete when they end."""
        recent: list[Record] = []
        waiting: list[Record] = []
        for _ in range(self.events):
            if self._random.random() < self._poisoned:
                poison, followers = self._poison()
                waiting += followers
                yield poison
            if waiting and self._random.random() < 0.01:
                yield waiting.pop(0)
            record = self._good(f"C{self._random.randrange(self._customers)}")
            yield record
            if len(recent) < _RECENT:
                recent.append(record)
            else:
                recent[self._random.randrange(_RECENT)] = record
            if self._random.random() < REPEATED:
                self.oracle.repeats += 1
                yield self._random.choice(recent)
        yield from waiting

    def _good(self, customer: str) -> Record:
        paid = self._random.randrange(1, 50_000)
        times = self.oracle.times.get(customer, 0) + 1
        self.oracle.events += 1
        self.oracle.times[customer] = times
        self.oracle.paid[customer] = self.oracle.paid.get(customer, 0) + paid
        which = self._random.randrange(RECEIVABLES_PER_CUSTOMER)
        return self._record(customer, which=which, number=str(times), paid=paid)

    def _poison(self) -> tuple[Record, list[Record]]:
        self.oracle.poison += 1
        place = self.oracle.poison
        customer = f"P{place}"
        good = self._record(customer, which=0, number=f"{REFUSED}-{place}", paid=1)
        followers = [self._record(customer, which=0, number=str(n), paid=1) for n in (1, 2)] if place % 10 == 0 else []
        self.oracle.behind += len(followers)
        assert good.value is not None
        match place % 6:
            case 0:
                return Record(good.key, good.headers, b"{"), followers
            case 1:
                return Record(good.key, (), b"\xff\xfe"), followers
            case 2:
                return Record(good.key, good.headers, None), followers
            case 3:
                return Record(good.key, good.headers, good.value.replace(b'"open"', b'"opened"')), followers
            case _:
                return good, followers

    def _record(self, customer: str, *, which: int, number: str, paid: int) -> Record:
        receivable_id = identifiers.ReceivableId(uuid5(_NAMESPACE, f"{customer} {which}"))
        sequence = self._sequences[receivable_id] = self._sequences.get(receivable_id, 0) + 1
        allocated = Decimal(paid) / 100
        told = encode(
            Envelope(
                event_id=identifiers.EventId(uuid5(receivable_id, str(sequence))),
                source="/cobranza/payments",
                correlation_id="conformance",
                time=datetime(2027, 1, 4, 12, tzinfo=UTC),
                sequence=sequence,
                data=ReceivableChanged(
                    company=COMPANY,
                    customer=customer,
                    receivable_id=receivable_id,
                    number=number,
                    kind="invoice",
                    invoice_id=identifiers.InvoiceId(uuid5(receivable_id, "invoice")),
                    instalment=1,
                    currency="MXN",
                    issued_on=date(2027, 1, 1),
                    due_on=date(2027, 1, 31),
                    issued=_ISSUED,
                    allocated=allocated,
                    credited=Decimal("0.00"),
                    written_off=Decimal("0.00"),
                    open=_ISSUED - allocated,
                    version=sequence,
                    cause="issued",
                    effective_on=date(2027, 1, 1),
                    recorded_on=date(2027, 1, 1),
                ),
            )
        )
        return Record(told.key, told.headers, told.value)


def producer(bootstrap: str) -> Any:
    """An idempotent producer that keeps what it was given until the broker is back."""
    return KafkaProducer(
        bootstrap_servers=bootstrap, linger_ms=5, compression_type="lz4", delivery_timeout_ms=300_000, retries=10_000
    )


def send(to: Any, record: Record) -> Any:
    """Hand one record to `to`; returns its future."""
    return to.send(TOPIC, key=record.key, value=record.value, headers=list(record.headers))


def publish(bootstrap: str, workload: Workload) -> None:
    """Send the whole workload and wait for its acknowledgements, however long the broker is away."""
    to = producer(bootstrap)
    sent = [send(to, record) for record in workload.records()]
    to.flush()
    for future in sent:
        future.get(timeout=120)
    to.close()


if __name__ == "__main__":
    publish(sys.argv[1], Workload(events=int(sys.argv[2]), run=int(sys.argv[3]), poisoned=0))
