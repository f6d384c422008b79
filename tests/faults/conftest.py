"""Faults on real servers: those of `make test`, and the long ones that only `make faults` runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    # Imported where they are used: this file is read before warnings are arranged.
    from bench import Bench

    from cobranza.chassis.testing.parts import Parts


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks of this directory."""
    config.addinivalue_line("markers", "faults: kills processes on purpose; `make faults` runs them all")
    config.addinivalue_line("markers", "long: runs only when marks are chosen by -m")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark everything here, and leave the long ones out unless marks were asked for."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")
    if not config.option.markexpr:
        long = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def make_toy(owner_url: str) -> None:
    """The toy's migration."""

    import asyncpg
    from toy_worker import make_tables

    async def make() -> None:
        owner = await asyncpg.connect(owner_url)
        try:
            await make_tables(owner, app_role="dunning_app")
        finally:
            await owner.close()

    asyncio.run(make())


@pytest.fixture(scope="session")
def mortal() -> Iterator[Parts]:
    """Servers of their own for the tests that kill servers."""
    from cobranza.chassis.testing.parts import Parts

    with Parts() as parts:
        yield parts


@pytest.fixture
async def bench(mortal: Parts, tmp_path: Path) -> AsyncIterator[Bench]:
    """Empty topics and tables on the mortal servers, and no worker yet."""
    from bench import Bench

    from cobranza.chassis.testing.databases import Databases
    from cobranza.chassis.testing.topics import renew

    databases = await asyncio.to_thread(Databases, mortal.postgres())
    urls = databases.clone("dunning", make_toy)
    bootstrap = mortal.kafka()
    await asyncio.to_thread(renew, bootstrap)
    made = Bench(urls=urls, bootstrap=bootstrap, directory=tmp_path)
    yield made
    await made.fleet.stop()
    databases.drop(urls.name)
    databases.drop_templates()


@pytest.fixture
async def small_bench(fresh_database: Any, clean_topics: str, tmp_path: Path) -> AsyncIterator[Bench]:
    """The same on the servers that all tests share; nobody kills those."""
    from bench import Bench

    made = Bench(urls=fresh_database("dunning", make_toy), bootstrap=clean_topics, directory=tmp_path)
    yield made
    await made.fleet.stop()
