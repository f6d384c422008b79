"""What a repeated request gets, by the algorithm alone; the race is tried on a real database."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import Response

from cobranza.chassis import http, idempotency, page
from cobranza.chassis.database import Transaction

PATH = "/payments/v1/receipts"


class ReceiptRefusedError(Exception):
    code = "receipt_refused"
    status = 409


class FakeResult:
    def __init__(self, row: Any) -> None:
        self._row = row

    def scalar_one(self) -> Any:
        return self._row

    def one_or_none(self) -> Any:
        return self._row


class FakeTransaction:
    """The table and the lock in memory, for the three statements that `once` runs."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.locked: set[str] = set()

    async def execute(self, statement: object, parameters: dict[str, Any]) -> FakeResult:
        if statement is idempotency._TRY_LOCK:
            return FakeResult(parameters["lock"] not in self.locked)
        identity = (parameters["company"], parameters["principal"], parameters["key"])
        if statement is idempotency._FIND:
            row = self.rows.get(identity)
            return FakeResult(row and SimpleNamespace(**row))
        assert statement is idempotency._STORE
        assert identity not in self.rows
        self.rows[identity] = parameters
        return FakeResult(None)


class Desk:
    """A service with one POST that books what it is told."""

    def __init__(self) -> None:
        self.tx = FakeTransaction()
        self.booked: list[bytes] = []
        self.refuses = False

    def router(self) -> APIRouter:
        router = APIRouter()
        tx = cast("Transaction", self.tx)

        @router.post("/v1/receipts", dependencies=[http.scope("payments:write")])
        async def book(request: HttpRequest, company: str = "acme") -> Response:
            async def run() -> Response:
                if self.refuses:
                    raise ReceiptRefusedError
                self.booked.append(await request.body())
                return Response(
                    b'{"receipt": 1}',
                    status_code=201,
                    media_type="application/json",
                    headers={"Location": "/payments/v1/receipts/1", "X-Passing": "not stored"},
                )

            return await idempotency.once(tx, request=request, company=company, run=run)

        return router


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def client(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    frame = page.Frame(companies=[], clock=SimpleNamespace(is_virtual=False))
    app = http.create_app({"payments": desk.router()}, access=http.LocalAccess(), frame=frame)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


def key(text: str) -> dict[str, str]:
    return {"Idempotency-Key": text}


async def test_a_repeat_gets_the_stored_answer_and_acts_once(desk: Desk, client: httpx.AsyncClient) -> None:
    first = await client.post(PATH, content=b"1160.00", headers=key("k-1"))
    again = await client.post(PATH, content=b"1160.00", headers=key("k-1"))
    assert desk.booked == [b"1160.00"]
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert "x-passing" not in again.headers


@pytest.mark.parametrize(
    ("headers", "status", "name"),
    [
        ({}, 400, "idempotency-key-missing"),
        (key(""), 400, "malformed-request"),
        (key("two words"), 400, "malformed-request"),
        (key("x" * 256), 400, "malformed-request"),
    ],
)
async def test_a_missing_or_unusable_key_is_refused(
    desk: Desk, client: httpx.AsyncClient, headers: dict[str, str], status: int, name: str
) -> None:
    response = await client.post(PATH, content=b"1", headers=headers)
    assert (response.status_code, response.json()["type"]) == (status, f"/problems/{name}")
    assert desk.booked == []


async def test_a_key_stands_for_one_body(desk: Desk, client: httpx.AsyncClient) -> None:
    await client.post(PATH, content=b"1160.00", headers=key("k-1"))
    other = await client.post(PATH, content=b"1160.01", headers=key("k-1"))
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert desk.booked == [b"1160.00"]


async def test_two_companies_may_use_the_same_key(desk: Desk, client: httpx.AsyncClient) -> None:
    await client.post(PATH, content=b"1", headers=key("k-1"))
    await client.post(f"{PATH}?company=other", content=b"2", headers=key("k-1"))
    assert desk.booked == [b"1", b"2"]


async def test_a_repeat_that_overtakes_is_asked_to_wait(desk: Desk, client: httpx.AsyncClient) -> None:
    desk.tx.locked.add("acme|local|k-1")
    response = await client.post(PATH, content=b"1", headers=key("k-1"))
    assert (response.status_code, response.headers["retry-after"]) == (409, "1")
    assert response.json()["type"] == "/problems/idempotency-key-in-flight"


async def test_a_refused_request_runs_again(desk: Desk, client: httpx.AsyncClient) -> None:
    desk.refuses = True
    refused = await client.post(PATH, content=b"1", headers=key("k-1"))
    desk.refuses = False
    accepted = await client.post(PATH, content=b"1", headers=key("k-1"))
    assert (refused.status_code, accepted.status_code) == (409, 201)
