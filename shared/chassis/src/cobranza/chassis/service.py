"""What a service is made of, and what every part of it is given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import typer
from fastapi import APIRouter
from sqlalchemy import MetaData

from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Database
from cobranza.chassis.page import Link
from cobranza.chassis.settings import ServiceSettings, load
from cobranza.chassis.streams.agent import Agent
from cobranza.chassis.timers import Handler

SomeSettings = TypeVar("SomeSettings", bound=ServiceSettings)


@dataclass(frozen=True, slots=True)
class Context(Generic[SomeSettings]):
    """What a service's router, agents, timers and jobs are built from."""

    service: str
    settings: SomeSettings
    database: Database
    clock: BusinessClock
    companies: Companies


@dataclass(frozen=True, slots=True)
class Job:
    """Work that a worker repeats: `run` says whether there may be more to do at once.

    With `one_at_a_time` only the worker that holds the service's relay lock runs it.
    """

    name: str
    every_seconds: float
    run: Callable[[], Awaitable[bool]]
    one_at_a_time: bool = False


@dataclass(frozen=True, slots=True)
class Invariant:
    """Something that must never be true: a query that must return no rows."""

    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that all services which know it must agree on: a query of `key` and `value`, both texts."""

    name: str
    sql: str


def _no_agents(_: Context[Any]) -> Sequence[Agent]:
    return ()


def _no_timers(_: Context[Any]) -> Mapping[str, Handler]:
    return {}


def _no_jobs(_: Context[Any]) -> Sequence[Job]:
    return ()


@dataclass(frozen=True, slots=True)
class Service(Generic[SomeSettings]):
    """One service, composed in its `__main__` and found by the `cobranza` command."""

    name: str
    settings: type[SomeSettings]
    metadata: MetaData
    router: Callable[[Context[SomeSettings]], APIRouter]
    agents: Callable[[Context[SomeSettings]], Sequence[Agent]] = _no_agents
    timers: Callable[[Context[SomeSettings]], Mapping[str, Handler]] = _no_timers
    jobs: Callable[[Context[SomeSettings]], Sequence[Job]] = _no_jobs
    commands: typer.Typer | None = None
    pages: tuple[Link, ...] = ()
    invariants: tuple[Invariant, ...] = ()
    figures: tuple[Figure, ...] = ()

    @property
    def migrations(self) -> str:
        """Where Alembic finds the service's revisions, inside its package."""
        return f"cobranza.{self.name}:migrations"

    def context(self, *, notifies: bool, pool_size: int = 5) -> Context[SomeSettings]:
        """The service's context, from the environment; see `make_context`."""
        return make_context(self.name, self.settings, notifies=notifies, pool_size=pool_size)


def make_context(
    service: str, settings_class: type[SomeSettings], *, notifies: bool, pool_size: int = 5
) -> Context[SomeSettings]:
    """Build a context from the environment.

    Args:
        service: the service's name.
        settings_class: its settings.
        notifies: True in processes without a relay of their own (APIs, commands).
        pool_size: most database connections at a time.

    Raises:
        SettingsError: a setting is missing or wrong.
        CompaniesError: the companies file is missing or wrong.
    """
    settings = load(settings_class)
    clock = BusinessClock(settings.clock_file)
    return Context(
        service=service,
        settings=settings,
        database=Database(
            settings.database_url.get_secret_value(),
            service=service,
            clock=clock,
            pool_size=pool_size,
            notifies=notifies,
        ),
        clock=clock,
        companies=Companies.read(settings.companies_file),
    )


@asynccontextmanager
async def command_context(service: str, settings_class: type[SomeSettings]) -> AsyncIterator[Context[SomeSettings]]:
    """A context for one verb of the command line; its connections are closed afterwards."""
    context = make_context(service, settings_class, notifies=True, pool_size=2)
    try:
        yield context
    finally:
        await context.database.close()
