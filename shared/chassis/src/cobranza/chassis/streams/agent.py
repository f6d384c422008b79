"""What a service tells the stream runtime: which topic it reads and what it does with a batch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal, cast
from uuid import UUID

from cobranza.chassis.database import Transaction
from cobranza.chassis.outbox import Cause
from cobranza.contracts.envelope import Envelope
from cobranza.contracts.payloads import Payload
from cobranza.contracts.topics import topic


class InputRefusedError(Exception):
    """An input that the runtime itself refuses; it is parked with this code."""

    def __init__(self, code: str, pointer: str, detail: str) -> None:
        self.code = code
        self.pointer = pointer
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Event:
    """One decoded, fresh event, in the place where the topic has it."""

    id: UUID
    type: str
    company: str
    key: str
    subject: str | None
    sequence: int | None
    time: datetime | None
    source: str
    data: Payload
    cause: Cause
    offset: int

    @classmethod
    def of(cls, envelope: Envelope[Payload], *, offset: int) -> Event:
        """The event that `envelope` carries."""
        return cls(
            id=envelope.event_id,
            type=envelope.type,
            company=envelope.company,
            key=envelope.key,
            subject=envelope.subject,
            sequence=envelope.sequence,
            time=envelope.time,
            source=envelope.source,
            data=envelope.data,
            cause=Cause.event(
                envelope.event_id,
                correlation_id=envelope.correlation_id,
                traceparent=envelope.traceparent,
            ),
            offset=offset,
        )


@dataclass(frozen=True, slots=True)
class ParkedInput:
    """An input that was parked, released or discarded; what an agent's `on_parked` is told."""

    parked_id: int
    event_id: UUID
    event_type: str
    topic: str
    company: str | None
    customer: str | None
    code: str
    detail: str
    outcome: Literal["parked", "applied", "fixed", "discarded"]
    cause: Cause


@dataclass(slots=True)
class BatchTransaction(Transaction):
    """A transaction of the stream runtime: it can park single events of its batch."""

    OPERATION: ClassVar[str] = "batch"

    refused: dict[UUID, tuple[Event, Exception, Literal["poison", "conflict"]]] = field(default_factory=dict)

    def park(self, event: Event, refusal: Exception, *, conflict: bool = False) -> None:
        """Set `event` aside with the refusal's code and text; nothing of it may be written before.

        Args:
            conflict: it contradicts what was accepted under the same identity.
        """
        self.refused[event.id] = (event, refusal, "conflict" if conflict else "poison")


Handle = Callable[[BatchTransaction, Sequence[Event]], Awaitable[None]]
OnParked = Callable[[Transaction, ParkedInput], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Agent:
    """One topic and what is done with it.

    `handle` gets the fresh events of one partition in record order, inside the transaction that also
    moves the position. It must leave events it does not know alone, may run again after a rollback,
    and lets exceptions out: the runtime retries, bisects and parks.
    """

    topic: str
    handle: Handle
    on_parked: OnParked | None = None

    @property
    def is_ingress(self) -> bool:
        """True for topics that ERPs write: bodies are compared, a bad event parks alone."""
        return topic(self.topic).is_ingress


def refusal_code(error: BaseException) -> str:
    """The stable code of an error: its `code` attribute, or its class in snake case."""
    code = getattr(error, "code", None)
    if isinstance(code, str) and not type(error).__module__.startswith("sqlalchemy"):
        return code
    name = type(error).__name__.removesuffix("Error")
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def refusal_pointer(error: BaseException) -> str | None:
    """The JSON pointer an error carries, if any."""
    return cast("str | None", getattr(error, "pointer", None))


def parties(key: str) -> tuple[str | None, str | None]:
    """Company and customer of a record's key, as far as it tells them."""
    company, _, customer = key.partition("|")
    if company in ("", "-"):
        return None, None
    return company, customer if customer not in ("", "-") else None
