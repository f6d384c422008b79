"""A worker that is run and killed: balances, an effect row per application and an event out per event in.

Faults are planted in this process alone, by environment:
`TOY_HOLE=FILE` loses one fetched list and makes the file, so that one process of many does it;
`TOY_DIES_UNMARKED=FILE` kills the process once between the broker's acknowledgement and the relay's mark.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import uvloop
from fastapi import APIRouter
from pydantic_settings import SettingsConfigDict
from sqlalchemy import MetaData

from cobranza.chassis import plumbing, worker
from cobranza.chassis.relay import Relay
from cobranza.chassis.service import Service
from cobranza.chassis.settings import ServiceSettings
from cobranza.chassis.streams import Agent, BatchTransaction, Event
from cobranza.chassis.streams.transport import Consumer
from cobranza.contracts.identifiers import InvoiceId
from cobranza.contracts.invoicing import DueDate
from cobranza.contracts.payments import ReceivableChanged

NAME: Final = "toy"
TOPIC: Final = "cobranza.payments"
#: Lists a process delivers before it loses one.
LISTS_BEFORE_HOLE: Final = 3
TABLES: Final = (
    """CREATE TABLE effect (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id uuid NOT NULL,
        customer text NOT NULL, place int NOT NULL)""",
    "CREATE TABLE balance (customer text PRIMARY KEY, paid bigint NOT NULL, times int NOT NULL)",
)


class ToySettings(ServiceSettings):
    """The toy's settings, TOY_*."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, env_prefix="TOY_")


class RefusedError(Exception):
    """The toy's own refusal: final, so it is parked without further tries."""

    code = "toy_refused"


async def handle(tx: BatchTransaction, events: Sequence[Event]) -> None:
    """Add each event to its customer's balance; nothing here would notice a second application."""
    changes = [(event, event.data) for event in events if isinstance(event.data, ReceivableChanged)]
    refused = [change.number for _, change in changes if change.number.startswith("REFUSED")]
    told = [(event, change) for event, change in changes if not change.number.startswith("REFUSED")]
    paid: dict[str, int] = {}
    times: dict[str, int] = {}
    for event, change in told:
        paid[change.customer] = paid.get(change.customer, 0) + change.allocated_minor
        times[change.customer] = times.get(change.customer, 0) + 1
        assert event.sequence is not None
        tx.publish(
            DueDate(
                company=change.company,
                customer=change.customer,
                invoice_id=change.invoice_id or InvoiceId(change.receivable_id),
                receivable_id=change.receivable_id,
                due_on=change.due_on,
                phase="reached",
                offset_days=0,
                business_date=date(2027, 1, 4),
            ),
            sequence=event.sequence,
            cause=event.cause,
        )
    await tx.execute(
        """
        INSERT INTO effect (event_id, customer, place)
        SELECT e, c, p FROM unnest(CAST(:events AS uuid[]), CAST(:customers AS text[]), CAST(:places AS int[]))
            WITH ORDINALITY AS t(e, c, p, n) ORDER BY n
        """,
        {
            "events": [event.id for event, _ in told],
            "customers": [change.customer for _, change in told],
            "places": [int(change.number) for _, change in told],
        },
    )
    ordered = sorted(paid)
    await tx.execute(
        """
        INSERT INTO balance (customer, paid, times)
        SELECT * FROM unnest(CAST(:customers AS text[]), CAST(:paid AS bigint[]), CAST(:times AS int[]))
        ON CONFLICT (customer) DO UPDATE SET paid = balance.paid + excluded.paid, times = balance.times + excluded.times
        """,
        {
            "customers": ordered,
            "paid": [paid[customer] for customer in ordered],
            "times": [times[customer] for customer in ordered],
        },
    )
    if refused:
        # Last, so that the rollback has something to undo.
        raise RefusedError(f"{refused[0]} is refused")


def _first(marker: Path) -> bool:
    """True for the one process that makes the marker."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def lose_one_list(marker: Path) -> None:
    """Make the transport forget one fetched list, as a cancelled fetch does."""
    deliver = Consumer._deliver
    delivered = 0

    async def deliver_all_but_one(self: Any, fetched: Any, fetcher: Any, generation: int) -> None:
        nonlocal delivered
        delivered += 1
        if delivered == LISTS_BEFORE_HOLE and _first(marker):
            sys.stdout.write(f"HOLE {fetched.partition} {fetched[0].offset} {len(fetched)}\n")
            return
        await deliver(self, fetched, fetcher, generation)

    Consumer._deliver = deliver_all_but_one  # type: ignore[method-assign]


class _DiesBeforeMark:
    """A connection on which the relay never comes to mark what the broker has taken."""

    def __init__(self, connection: Any, marker: Path) -> None:
        self._connection = connection
        self._marker = marker

    async def execute(self, *arguments: Any) -> Any:
        if _first(self._marker):
            os.kill(os.getpid(), signal.SIGKILL)
        return await self._connection.execute(*arguments)


def die_between_acknowledgement_and_mark(marker: Path) -> None:
    """Kill this process once, right before it marks the first rows it sent."""
    send = Relay._send

    async def send_and_die(self: Relay, connection: Any, producer: Any, rows: Any) -> None:
        await send(self, _DiesBeforeMark(connection, marker), producer, rows)

    Relay._send = send_and_die  # type: ignore[method-assign]


SERVICE: Final = Service(
    name=NAME,
    settings=ToySettings,
    metadata=MetaData(),
    router=lambda _: APIRouter(),
    agents=lambda _: [Agent(TOPIC, handle)],
)


async def make_tables(owner: Any, *, app_role: str) -> None:
    """Make the plumbing's and the toy's tables over an asyncpg connection of their owner."""

    class Op:
        def __init__(self) -> None:
            self.statements: list[str] = []

        def execute(self, sqltext: str) -> None:
            self.statements.append(sqltext)

    op = Op()
    plumbing.create(op, app_role=app_role)
    for statement in (
        *op.statements,
        *TABLES,
        f"GRANT ALL ON effect, balance TO {app_role}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {app_role}",
    ):
        await owner.execute(statement)


def main() -> None:
    """Run the worker until it is told to stop, or killed."""
    if hole := os.environ.get("TOY_HOLE"):
        lose_one_list(Path(hole))
    if unmarked := os.environ.get("TOY_DIES_UNMARKED"):
        die_between_acknowledgement_and_mark(Path(unmarked))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(worker.run(SERVICE))


if __name__ == "__main__":
    main()
