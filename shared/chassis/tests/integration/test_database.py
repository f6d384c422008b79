"""Which faults pass by themselves and which never will, as the real driver raises them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
import toy_service as toy
from sqlalchemy.exc import DBAPIError, InternalError

from cobranza.chassis.database import Database, is_refused_by_database, is_transient


@pytest.fixture
async def db(fresh_database: Callable[..., Any]) -> AsyncIterator[Database]:
    database = toy.database(fresh_database("dunning", toy.migrate).app_url)
    yield database
    await database.close()


async def _fault(db: Database, sql: str, **parameters: object) -> DBAPIError:
    with pytest.raises(DBAPIError) as caught:
        await toy.rows(db, sql, **parameters)
    return caught.value


async def test_a_value_of_the_wrong_type_never_passes(db: Database) -> None:
    fault = await _fault(db, "SELECT CAST(:x AS int)", x="not a number")

    assert (is_transient(fault), is_refused_by_database(fault)) == (False, True)


async def test_a_broken_constraint_never_passes(db: Database) -> None:
    fault = await _fault(
        db, "INSERT INTO balance VALUES (CAST(:i AS uuid), -1, 1)", i="11111111-1111-4111-8111-111111111111"
    )

    assert (is_transient(fault), is_refused_by_database(fault)) == (False, True)


async def test_a_connection_that_the_server_ends_passes(db: Database) -> None:
    assert is_transient(await _fault(db, "SELECT pg_terminate_backend(pg_backend_pid())"))


def test_a_server_that_dies_in_mid_answer_passes() -> None:
    assert is_transient(
        InternalError("SELECT 1", {}, asyncpg.InternalClientError("got result for unknown protocol state"))
    )
