"""Twenty requests at once with one key leave one effect, on a real database."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from cobranza.chassis import http, idempotency, page, plumbing
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.database import Database, driver_url
from cobranza.chassis.testing import FreshDatabase


def migrate(owner_url: str) -> None:
    def create(connection: Connection) -> None:
        operations = Operations(MigrationContext.configure(connection))
        plumbing.create(operations, app_role="payments_app")
        operations.execute("create table booked (amount text)")
        operations.execute("grant select, insert on booked to payments_app")

    async def run() -> None:
        engine = create_async_engine(driver_url(owner_url))
        async with engine.begin() as connection:
            await connection.run_sync(create)
        await engine.dispose()

    asyncio.run(run())


@pytest.fixture
async def database(fresh_database: FreshDatabase) -> AsyncIterator[Database]:
    urls = fresh_database("payments", migrate)
    database = Database(urls.app_url, service="payments", clock=BusinessClock(), pool_size=20)
    yield database
    await database.close()


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    router = APIRouter()

    @router.post("/v1/receipts", dependencies=[http.scope("payments:write")])
    async def book(request: HttpRequest) -> Response:
        async with database.transaction() as tx:

            async def run() -> Response:
                amount = (await request.body()).decode()
                await tx.execute("insert into booked values (:amount)", {"amount": amount})
                return Response(b"booked", status_code=201, media_type="text/plain")

            return await idempotency.once(tx, request=request, company="acme", run=run)

    frame = page.Frame(companies=[], clock=SimpleNamespace(is_virtual=False))
    app = http.create_app({"payments": router}, access=http.LocalAccess(), frame=frame)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def test_twenty_requests_at_once_leave_one_effect(client: httpx.AsyncClient, database: Database) -> None:
    headers = {"Idempotency-Key": "k-1"}
    responses = await asyncio.gather(
        *(client.post("/payments/v1/receipts", content=b"7", headers=headers) for _ in range(20))
    )
    assert {response.status_code for response in responses} <= {201, 409}
    created = [response for response in responses if response.status_code == 201]
    assert len([one for one in created if "idempotent-replayed" not in one.headers]) == 1
    late = await client.post("/payments/v1/receipts", content=b"7", headers=headers)
    assert (late.status_code, late.content) == (201, b"booked")
    async with database.transaction() as tx:
        assert (await tx.execute("select amount from booked")).all() == [("7",)]
        assert (await tx.execute("select count(*) from idempotency")).scalar_one() == 1


async def test_keys_are_forgotten_after_thirty_days(client: httpx.AsyncClient, database: Database) -> None:
    for key in ("old", "new"):
        await client.post("/payments/v1/receipts", content=b"7", headers={"Idempotency-Key": key})
    async with database.transaction() as tx:
        await tx.execute("update idempotency set created_at = created_at - interval '31 days' where key = 'old'")
        assert await idempotency.forget(tx) == 1
        assert (await tx.execute("select key from idempotency")).all() == [("new",)]
