"""A worker that is run and killed: balances, an effect row per application and an event out per event in.

Faults are planted in this process alone, by environment:
`TOY_HOLE=FILE` loses one fetched list as soon as FILE exists, and removes it, so that one process of many does it;
`TOY_DIES=POINT:FILE` kills the process likewise at a named point: see `CRASH_POINTS`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import uvloop
from fastapi import APIRouter
from pydantic_settings import SettingsConfigDict
from sqlalchemy import MetaData

from cobranza.chassis import inbox, plumbing, worker
from cobranza.chassis.database import Database
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


def _told_to(fault: Path) -> bool:
    """True once, in one process, after somebody made the file."""
    try:
        fault.unlink()
    except FileNotFoundError:
        return False
    return True


def lose_a_list(fault: Path) -> None:
    """Make the transport forget one fetched list, as a cancelled fetch does."""
    deliver = Consumer._deliver

    async def deliver_unless_told(self: Any, tp: Any, part: Any, last: Any, fetcher: Any, generation: int) -> None:
        if _told_to(fault):
            sys.stdout.write(f"HOLE {part.partition} {part.inputs[0].record.offset} {len(part)}\n")
            sys.stdout.flush()
            return
        await deliver(self, tp, part, last, fetcher, generation)

    Consumer._deliver = deliver_unless_told  # type: ignore[method-assign]


class _Dying:
    """Kills this process at the place it is built into, once somebody made the file."""

    def __init__(self, fault: Path) -> None:
        self._fault = fault

    def here(self) -> None:
        if _told_to(self._fault):
            os.kill(os.getpid(), signal.SIGKILL)


class _DiesBeforeMark:
    """A connection on which the relay never comes to mark what the broker has taken."""

    def __init__(self, connection: Any, dying: _Dying) -> None:
        self._connection = connection
        self._dying = dying

    async def execute(self, *arguments: Any) -> Any:
        self._dying.here()
        return await self._connection.execute(*arguments)


def die_before_commit(dying: _Dying) -> None:
    """All is written, nothing is committed."""
    move = inbox.move_positions

    async def move_and_die(*arguments: Any, **keywords: Any) -> None:
        await move(*arguments, **keywords)
        dying.here()

    inbox.move_positions = move_and_die


def die_after_commit(dying: _Dying) -> None:
    """The batch is committed, Kafka's group knows nothing of it and the relay was not woken."""
    announce = Database._announce

    def die_and_announce(self: Database, tx: Any) -> None:
        if isinstance(tx, BatchTransaction):
            dying.here()
        announce(self, tx)

    Database._announce = die_and_announce  # type: ignore[method-assign]


def die_before_send(dying: _Dying) -> None:
    """The outbox has rows, none has left."""
    send = Relay._send

    async def die_and_send(self: Relay, connection: Any, producer: Any, rows: Any) -> None:
        dying.here()
        await send(self, connection, producer, rows)

    Relay._send = die_and_send  # type: ignore[method-assign]


def die_before_mark(dying: _Dying) -> None:
    """The broker has acknowledged the rows, the outbox does not know."""
    send = Relay._send

    async def send_and_die(self: Relay, connection: Any, producer: Any, rows: Any) -> None:
        await send(self, _DiesBeforeMark(connection, dying), producer, rows)

    Relay._send = send_and_die  # type: ignore[method-assign]


CRASH_POINTS: Final = {
    "before-commit": die_before_commit,
    "after-commit": die_after_commit,
    "before-send": die_before_send,
    "before-mark": die_before_mark,
}


def plant(environment: Mapping[str, str]) -> None:
    """Plant the faults that the environment names."""
    if hole := environment.get("TOY_HOLE"):
        lose_a_list(Path(hole))
    if dies := environment.get("TOY_DIES"):
        point, _, fault = dies.partition(":")
        CRASH_POINTS[point](_Dying(Path(fault)))


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
    plant(os.environ)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(worker.run(SERVICE))


if __name__ == "__main__":
    main()
