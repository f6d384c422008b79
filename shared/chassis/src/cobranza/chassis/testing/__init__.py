"""The pytest plugin: real servers, fresh databases and topics, a business clock that stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    # Imported where they are used: most runs of unit tests need none of them.
    from cobranza.chassis.clock import BusinessClock
    from cobranza.chassis.testing.databases import DatabaseUrls
    from cobranza.chassis.testing.parts import Parts
    from cobranza.chassis.testing.waiting import WaitUntil

FreshDatabase = Callable[[str, Callable[[str], None]], "DatabaseUrls"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say where the servers come from."""
    group = parser.getgroup("cobranza")
    group.addoption(
        "--require-services",
        action="store_true",
        help="fail instead of skip when no PostgreSQL or Kafka is to be had",
    )
    group.addoption(
        "--containers",
        action="store_true",
        help="take PostgreSQL and Kafka from containers instead of local mode's parts",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let the Kafka client's own deprecation, which we cannot mend, be no error."""
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")


@pytest.fixture(scope="session")
def local_parts() -> Iterator[Parts]:
    """Local mode's PostgreSQL and Kafka, each started at its first use, stopped with the run."""
    from cobranza.chassis.testing.parts import Parts  # noqa: PLC0415

    with Parts() as parts:
        yield parts


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a real PostgreSQL server's superuser.

    From ``COBRANZA_TEST_POSTGRES``, a container with ``--containers``, or local mode's parts.
    """
    from cobranza.chassis import settings  # noqa: PLC0415

    with ExitStack() as stack:
        if given := settings.environment().get("COBRANZA_TEST_POSTGRES"):
            yield given
        elif request.config.getoption("--containers"):
            yield _container(request, "postgres", stack)
        else:
            yield _local(request, "postgres")


@pytest.fixture(scope="session")
def kafka_bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    """Bootstrap address of a real Kafka broker.

    From ``COBRANZA_TEST_KAFKA``, a container with ``--containers``, or local mode's parts.
    """
    from cobranza.chassis import settings  # noqa: PLC0415

    with ExitStack() as stack:
        if given := settings.environment().get("COBRANZA_TEST_KAFKA"):
            yield given
        elif request.config.getoption("--containers"):
            yield _container(request, "kafka", stack)
        else:
            yield _local(request, "kafka")


@pytest.fixture(scope="session")
def _databases(postgres: str) -> Iterator[object]:
    from cobranza.chassis.testing.databases import Databases  # noqa: PLC0415

    databases = Databases(postgres)
    yield databases
    databases.drop_templates()


@pytest.fixture
def fresh_database(_databases: object) -> Iterator[FreshDatabase]:
    """Make an empty, migrated database of a service: ``fresh_database(service, migrate)``.

    ``migrate`` gets the owner's URL and runs once per service and session; each call then clones
    what it made. The databases are dropped after the test.
    """
    from cobranza.chassis.testing.databases import Databases  # noqa: PLC0415

    assert isinstance(_databases, Databases)
    made: list[str] = []

    def fresh(service: str, migrate: Callable[[str], None]) -> DatabaseUrls:
        urls = _databases.clone(service, migrate)
        made.append(urls.name)
        return urls

    yield fresh
    for name in made:
        _databases.drop(name)


@pytest.fixture
def clean_topics(kafka_bootstrap: str) -> str:
    """Bootstrap address of a broker on which every topic of the catalogue is new and empty."""
    from cobranza.chassis.testing.topics import renew  # noqa: PLC0415

    renew(kafka_bootstrap)
    return kafka_bootstrap


@pytest.fixture
def business_clock(tmp_path: Path) -> BusinessClock:
    """A business clock that stands at noon UTC on Monday 2027-01-04 until a test moves it."""
    from cobranza.chassis.clock import BusinessClock  # noqa: PLC0415

    clock = BusinessClock(tmp_path / "business-clock")
    clock.set(datetime(2027, 1, 4, 12, tzinfo=UTC))
    return clock


@pytest.fixture
def wait_until() -> WaitUntil:
    """The way to wait for something: call it with a plain or async predicate and a timeout."""
    from cobranza.chassis.testing.waiting import wait_until  # noqa: PLC0415

    return wait_until


def _local(request: pytest.FixtureRequest, part: str) -> str:
    from cobranza.chassis.local.faults import LocalModeError  # noqa: PLC0415

    parts = request.getfixturevalue("local_parts")
    try:
        return str(parts.postgres() if part == "postgres" else parts.kafka())
    except LocalModeError as fault:
        _without(request, f"no {part}: {fault}")


def _container(request: pytest.FixtureRequest, part: str, stack: ExitStack) -> str:
    from cobranza.chassis.testing import containers  # noqa: PLC0415

    if not containers.engine_answers():
        _without(request, f"no {part}: no container engine answers")
    start = containers.postgres if part == "postgres" else containers.kafka
    return stack.enter_context(start())


def _without(request: pytest.FixtureRequest, reason: str) -> NoReturn:
    if request.config.getoption("--require-services"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
