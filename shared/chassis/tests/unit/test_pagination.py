"""Pages cover a list once, in order, whatever its order; a cursor fits its own list only."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa
from fastapi import APIRouter
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine

from cobranza.chassis import http, page
from cobranza.chassis.ids import new_id
from cobranza.chassis.pagination import Direction, Keyset, Page, PageWindow, SortValue

FRAME = page.Frame(companies=[], clock=SimpleNamespace(is_virtual=False))
TABLE = sa.Table(
    "receivable",
    sa.MetaData(),
    sa.Column("due_on", sa.Date, nullable=False),
    sa.Column("open_minor", sa.Integer, nullable=False),
    sa.Column("number", sa.Integer, primary_key=True),
)
ROWS: list[dict[str, Any]] = [{"due_on": date(2027, 1, 1 + n % 3), "open_minor": n % 2, "number": n} for n in range(23)]


class ReceivableItem(http.Request):
    number: int


def read(keyset: Keyset, *, after: Sequence[SortValue] | None, limit: int) -> list[sa.Row[Any]]:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        TABLE.metadata.create_all(connection)
        connection.execute(TABLE.insert(), ROWS)
        rows = connection.execute(keyset.apply(sa.select(TABLE), after=after, limit=limit)).all()
    engine.dispose()
    return list(rows)


DIRECTIONS: st.SearchStrategy[Direction] = st.sampled_from(["asc", "desc"])
ORDER = Keyset((TABLE.c.due_on, "desc"), (TABLE.c.number, "asc"))


def router() -> APIRouter:
    router = APIRouter()

    @router.get("/v1/receivables", dependencies=[http.scope("receivables:read")])
    async def list_receivables(window: PageWindow, company: str | None = None) -> Page[ReceivableItem]:
        rows = read(ORDER, after=window.after, limit=window.limit)
        return window.page(
            rows,
            key=lambda row: (row.due_on, row.number),
            item=lambda row: ReceivableItem(number=row.number),
        )

    @router.get("/v1/echo", dependencies=[http.scope("receivables:read")])
    async def echo(window: PageWindow, company: str | None = None) -> Page[str]:
        values = (
            "a|b ñ", -3, Decimal("1.50"), date(2027, 1, 4), datetime(2027, 1, 4, 1, tzinfo=UTC),
            UUID(int=7),
        )  # fmt: skip
        if window.after is not None:
            assert window.after == values
            return Page(items=[])
        return window.page(["x"] * (window.limit + 1), key=lambda _: values, item=str)

    return router


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = http.create_app({"payments": router()}, access=http.LocalAccess(), frame=FRAME)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def test_pages_give_every_row_once_in_order(client: httpx.AsyncClient) -> None:
    numbers: list[int] = []
    path: str | None = "/payments/v1/receivables?limit=5"
    while path:
        response = await client.get(path)
        numbers += [item["number"] for item in response.json()["items"]]
        link = response.links.get("next")
        assert bool(link) == bool(response.json()["next_cursor"])
        path = link["url"] if link else None
    ordered = sorted(ROWS, key=lambda row: (-row["due_on"].toordinal(), row["number"]))
    assert numbers == [row["number"] for row in ordered]


@given(
    directions=st.tuples(*[DIRECTIONS] * 3),
    limit=st.integers(1, 24),
)
def test_any_order_pages_without_gap_or_repeat(directions: tuple[Direction, ...], limit: int) -> None:
    columns = (TABLE.c.due_on, TABLE.c.open_minor, TABLE.c.number)
    keyset = Keyset(*zip(columns, directions, strict=True))
    expected = [tuple(row) for row in read(keyset, after=None, limit=100)]
    got: list[tuple[object, ...]] = []
    after = None
    while True:
        rows = [tuple(row) for row in read(keyset, after=after, limit=limit)]
        got += rows[:limit]
        if len(rows) <= limit:
            break
        after = rows[limit - 1]
    assert got == expected


async def test_every_kind_of_sort_value_comes_back_as_it_was(client: httpx.AsyncClient) -> None:
    first = await client.get("/payments/v1/echo")
    cursor = first.json()["next_cursor"]
    assert (await client.get("/payments/v1/echo", params={"cursor": cursor})).json()["items"] == []


@pytest.mark.parametrize("limit", ["0", "201", "x"])
async def test_a_limit_out_of_bounds_is_refused(client: httpx.AsyncClient, limit: str) -> None:
    assert (await client.get(f"/payments/v1/receivables?limit={limit}")).status_code == 422


async def test_a_misspelt_filter_is_refused_instead_of_answering_with_everything(client: httpx.AsyncClient) -> None:
    near = await client.get("/payments/v1/receivables?compny=acme")
    far = await client.get("/payments/v1/receivables?zzz=1")

    assert [near.status_code, far.status_code] == [400, 400]
    assert near.json()["type"] == "/problems/unknown-parameter"
    assert "did you mean 'company'?" in near.json()["detail"]
    assert "it knows company, cursor, limit" in far.json()["detail"]


async def test_a_cursor_of_another_list_or_filter_is_refused(client: httpx.AsyncClient) -> None:
    first = await client.get("/payments/v1/receivables?limit=5&company=acme")
    cursor = first.json()["next_cursor"]
    accepted = await client.get(f"/payments/v1/receivables?company=acme&cursor={cursor}")
    assert accepted.status_code == 200
    changed = ("B" if cursor[0] == "A" else "A") + cursor[1:]
    for path in (
        f"/payments/v1/receivables?company=other&cursor={cursor}",
        f"/payments/v1/echo?company=acme&cursor={cursor}",
        f"/payments/v1/receivables?company=acme&cursor={changed}",
        "/payments/v1/receivables?cursor=",
        "/payments/v1/receivables?cursor=%C3%B1",
        f"/payments/v1/receivables?cursor={new_id()}",
    ):
        response = await client.get(path)
        assert (response.status_code, response.json()["type"]) == (400, "/problems/invalid-cursor")
