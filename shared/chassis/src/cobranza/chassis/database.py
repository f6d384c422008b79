"""Transactions: the only way a service touches its database, with its events leaving by the outbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar, Final, TypeVar
from uuid import UUID

from sqlalchemy import CursorResult, Executable, text
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from cobranza.chassis import metrics, outbox
from cobranza.chassis.clock import BusinessClock, monotonic
from cobranza.chassis.outbox import Cause
from cobranza.contracts.payloads import Payload

#: SQLSTATE classes and codes of faults that pass by themselves (reliability: connection lost,
#: serialisation, deadlock, resources, lock not available, operator intervention).
_TRANSIENT_STATES: Final = ("08", "40001", "40P01", "53", "55P03", "57")
#: Refused by the database for what the statement says: data and constraint violations.
_PERMANENT_STATES: Final = ("22", "23")


@dataclass(slots=True)
class Transaction:
    """One open transaction: statements, and the events that tell what it changed.

    Application code never commits; `Database.transaction` does, after writing the outbox rows.
    """

    OPERATION: ClassVar[str] = "transaction"

    connection: AsyncConnection
    now: datetime
    cause: Cause
    service: str
    events: list[outbox.Row] = field(default_factory=list)

    async def execute(
        self,
        statement: str | Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> CursorResult[Any]:
        """Run one statement; text gets named parameters (`:name`)."""
        executable = text(statement) if isinstance(statement, str) else statement
        return await self.connection.execute(executable, parameters)

    def publish(
        self,
        payload: Payload,
        *,
        sequence: int,
        cause: Cause | None = None,
        expires_at: datetime | None = None,
    ) -> UUID:
        """Tell a change of the aggregate that `payload` names; returns the event's id.

        Args:
            payload: the full state told.
            sequence: the aggregate's version after the change, from 1, bumped under its row lock.
            cause: another cause than the transaction's, for a batch of many.
            expires_at: business instant after which a reader must not act on it.
        """
        row = outbox.row(
            payload,
            service=self.service,
            sequence=sequence,
            cause=cause or self.cause,
            expires_at=expires_at,
        )
        self.events.append(row)
        return row.event_id

    def because(self, cause: Cause) -> Transaction:
        """The same transaction seen with another cause; events go to the same outbox."""
        return replace(self, cause=cause)


AnyTransaction = TypeVar("AnyTransaction", bound=Transaction)


class Database:
    """A service's database: a pool, transactions, and the knowledge of which faults pass."""

    def __init__(
        self,
        url: str,
        *,
        service: str,
        clock: BusinessClock,
        pool_size: int = 5,
        notifies: bool = False,
    ) -> None:
        """Open lazily; no connection is made before the first statement.

        Args:
            url: `postgresql://user:password@host:port/database` of the app role.
            service: owner of the events written here.
            clock: gives each transaction its business instant.
            pool_size: most connections at a time.
            notifies: tell the relay of another process that the outbox has rows (APIs and commands;
                a worker's batches wake their own relay, because NOTIFY serialises commits).
        """
        self.service = service
        self.clock = clock
        self.pool_size = pool_size
        self._notifies = notifies
        self._written: list[Callable[[], None]] = []
        self.engine: AsyncEngine = create_async_engine(
            driver_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=10,
            pool_pre_ping=False,
            connect_args={
                "server_settings": {
                    "application_name": f"cobranza-{service}",
                    "idle_in_transaction_session_timeout": "60000",
                    "lock_timeout": "10000",
                    # A generic plan made while the tables were empty joins `unnest` by scanning for ever.
                    "plan_cache_mode": "force_custom_plan",
                },
                "timeout": 10,
                "command_timeout": 60,
            },
        )

    @property
    def connections_in_use(self) -> int:
        """Connections of the pool that work now."""
        pool = self.engine.pool
        return pool.checkedout() if isinstance(pool, QueuePool) else 0

    def on_written(self, wake: Callable[[], None]) -> None:
        """Call `wake` after each commit that wrote outbox rows."""
        self._written.append(wake)

    @asynccontextmanager
    async def transaction_of(self, kind: type[AnyTransaction], cause: Cause) -> AsyncIterator[AnyTransaction]:
        """One transaction of `kind`; commits when the block ends, rolls back when it raises."""
        started = monotonic()
        async with self.engine.connect() as connection, connection.begin():
            tx = kind(
                connection=connection,
                now=self.clock.now(),
                cause=cause,
                service=self.service,
            )
            yield tx
            await self._flush(tx)
        metrics.DB_TRANSACTION_SECONDS.labels(operation=kind.OPERATION).observe(monotonic() - started)
        self._announce(tx)

    def transaction(self, cause: Cause | None = None) -> AbstractAsyncContextManager[Transaction]:
        """One transaction; without a cause it is a command's."""
        return self.transaction_of(Transaction, cause or Cause.command())

    async def _flush(self, tx: Transaction) -> None:
        """Write the transaction's events into the outbox, all by one statement."""
        if tx.events:
            await outbox.insert(tx.connection, tx.events)
            if self._notifies:
                await tx.execute("SELECT pg_notify('outbox', '')")

    def _announce(self, tx: Transaction) -> None:
        if tx.events:
            for wake in self._written:
                wake()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for read-only queries, one snapshot for all of them."""
        async with self.engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with connection.begin():
                yield connection

    async def close(self) -> None:
        """Close the pool."""
        await self.engine.dispose()


def driver_url(url: str) -> str:
    """The same address for SQLAlchemy's asyncpg dialect."""
    return url.replace("postgresql://", "postgresql+asyncpg://", 1)


def sqlstate(error: BaseException) -> str:
    """The five-character SQLSTATE of a database error, or an empty text."""
    origin = getattr(error, "orig", None)
    return str(getattr(origin, "sqlstate", None) or getattr(error, "sqlstate", None) or "")


class ChangedMeanwhileError(Exception):
    """What was read has been changed by others: the transaction is rolled back, and its work done again."""

    #: As PostgreSQL calls it: serialization_failure.
    sqlstate = "40001"


def is_locked_out(error: BaseException) -> bool:
    """True when a lock that somebody else holds was waited for in vain: it is about one row, not about the server."""
    return sqlstate(error) == "55P03"


def is_transient(error: BaseException) -> bool:
    """True for a fault that passes by itself: the same work is tried again in place."""
    if isinstance(error, DBAPIError):
        state = sqlstate(error)
        if state:
            return state.startswith(_TRANSIENT_STATES)
        # Without a SQLSTATE the server judged nothing: the connection broke, perhaps in mid-answer.
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError | InternalError)
    return isinstance(error, PoolTimeout | OSError | asyncio.TimeoutError) or sqlstate(error).startswith(
        _TRANSIENT_STATES
    )


def is_refused_by_database(error: BaseException) -> bool:
    """True when a constraint or a type refused what the statement says; trying again is useless."""
    return isinstance(error, DBAPIError) and sqlstate(error).startswith(_PERMANENT_STATES)
