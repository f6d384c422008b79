"""Keyset pages: a list is read on from where the last page ended, at the same cost anywhere."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Select, and_, false, or_

from cobranza.chassis.http import Problem

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
_SIGNATURE_BYTES = 16

SortValue = str | int | Decimal | date | datetime | UUID
Direction = Literal["asc", "desc"]
Item = TypeVar("Item")
Row = TypeVar("Row")


class Page(BaseModel, Generic[Item]):
    """One page of a list; ``next_cursor`` is absent on the last."""

    model_config = ConfigDict(frozen=True)

    items: list[Item]
    next_cursor: str | None = None


@dataclass(frozen=True)
class Keyset:
    """A total order to page by: columns that are never null, the last of them unique.

    >>> ORDER = Keyset((receivable.c.due_on, "desc"), (receivable.c.receivable_id, "asc"))
    """

    columns: tuple[tuple[ColumnElement[Any], Direction], ...]

    def __init__(self, *columns: tuple[ColumnElement[Any], Direction]) -> None:
        object.__setattr__(self, "columns", columns)

    def apply(self, statement: Select[Any], *, after: Sequence[SortValue] | None, limit: int) -> Select[Any]:
        """The statement in this order, from after the given row, with one row more than ``limit``.

        The extra row tells whether another page follows; ``Window.page`` cuts it off.
        """
        order = [column.asc() if direction == "asc" else column.desc() for column, direction in self.columns]
        if after is not None:
            statement = statement.where(self._is_after(after))
        return statement.order_by(*order).limit(limit + 1)

    def _is_after(self, after: Sequence[SortValue]) -> ColumnElement[bool]:
        """Strictly after the row, written out because the directions may differ by column."""
        alternatives: list[ColumnElement[bool]] = []
        equal: list[ColumnElement[bool]] = []
        for (column, direction), value in zip(self.columns, after, strict=True):
            beyond = column > value if direction == "asc" else column < value
            alternatives.append(and_(*equal, beyond))
            equal.append(column == value)
        return or_(false(), *alternatives)


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of a list that a request asks for."""

    limit: int
    after: tuple[SortValue, ...] | None
    request: Request
    response: Response

    def page(
        self,
        rows: Sequence[Row],
        *,
        key: Callable[[Row], tuple[SortValue, ...]],
        item: Callable[[Row], Item],
    ) -> Page[Item]:
        """The answer for rows read with ``Keyset.apply``; also sets the ``Link`` header.

        Args:
            rows: in order, at most ``limit + 1``.
            key: the values of the keyset's columns in a row, in their order.
            item: a row as it is answered.
        """
        shown = rows[: self.limit]
        next_cursor = None
        if len(rows) > self.limit:
            next_cursor = _encode(self.request, key(shown[-1]))
            following = self.request.url.include_query_params(cursor=next_cursor)
            self.response.headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
        return Page(items=[item(row) for row in shown], next_cursor=next_cursor)


def _window(
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> Window:
    after = None if cursor is None else _decode(request, cursor)
    return Window(limit=limit, after=after, request=request, response=response)


#: A route's parameter: ``async def list_cases(window: PageWindow) -> Page[CaseItem]``.
PageWindow = Annotated[Window, Depends(_window)]


def _encode(request: Request, values: Sequence[SortValue]) -> str:
    payload = json.dumps([_tagged(value) for value in values], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_sign(request, payload) + payload).rstrip(b"=").decode()


def _decode(request: Request, cursor: str) -> tuple[SortValue, ...]:
    try:
        signed = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    except (binascii.Error, UnicodeEncodeError, ValueError) as error:
        raise Problem("invalid-cursor") from error
    signature, payload = signed[:_SIGNATURE_BYTES], signed[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _sign(request, payload)):
        raise Problem("invalid-cursor")
    return tuple(_untagged(tag, text) for tag, text in json.loads(payload))


def _sign(request: Request, payload: bytes) -> bytes:
    """A signature over the position and the list it belongs to: its path and its filters."""
    filters = sorted(
        (name, value) for name, value in request.query_params.multi_items() if name not in {"cursor", "limit", "lang"}
    )
    subject = json.dumps([request.url.path, filters]).encode()
    secret: bytes = request.app.state.cursor_secret
    return hmac.digest(secret, subject + b"\0" + payload, hashlib.sha256)[:_SIGNATURE_BYTES]


def _tagged(value: SortValue) -> tuple[str, str]:
    match value:
        case str():
            return "text", value
        case int():
            return "int", str(value)
        case Decimal():
            return "decimal", str(value)
        case datetime():
            return "instant", value.isoformat()
        case date():
            return "date", value.isoformat()
        case UUID():
            return "uuid", str(value)


_PARSERS: dict[str, Callable[[str], SortValue]] = {
    "text": str,
    "int": int,
    "decimal": Decimal,
    "instant": datetime.fromisoformat,
    "date": date.fromisoformat,
    "uuid": UUID,
}


def _untagged(tag: str, text: str) -> SortValue:
    return _PARSERS[tag](text)
