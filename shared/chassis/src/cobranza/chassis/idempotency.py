"""Idempotency-Key: a request that creates or moves money can be repeated and acts once."""

import hashlib
import re
from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from cobranza.chassis.database import Transaction
from cobranza.chassis.http import Problem, current_principal

KEPT_DAYS = 30
_KEY = re.compile(r"[!-~]{1,255}")
_STORED_HEADERS = ("content-type", "etag", "location")

_TRY_LOCK = text("select pg_try_advisory_xact_lock(hashtextextended(:lock, 0))")
_FIND = text(
    "select route, body_sha256, status, headers, body from idempotency "
    "where company = :company and principal = :principal and key = :key"
)
_STORE = text(
    "insert into idempotency (company, principal, key, route, body_sha256, status, headers, body) "
    "values (:company, :principal, :key, :route, :body_sha256, :status, :headers, :body)"
).bindparams(bindparam("headers", type_=JSONB))
_FORGET = text("delete from idempotency where created_at < clock_timestamp() - make_interval(days => :days)")


async def once(tx: Transaction, *, request: Request, company: str, run: Callable[[], Awaitable[Response]]) -> Response:
    """Run a request's effect once per Idempotency-Key; a repeat gets the stored answer.

    Key, answer and effect are one transaction: ``run`` writes through the same ``tx``. An exception
    from ``run`` rolls all of it back, so a refused or failed request runs again when repeated.

    Args:
        tx: the open transaction, committed by the caller.
        request: its header, its body and its route are what the key stands for.
        company: whose key it is; the same text may be used by two companies and two principals.
        run: performs the effect and returns the answer to store.

    Raises:
        Problem: ``idempotency-key-missing`` (400), ``malformed-request`` (400) for a key that is
            not 1 to 255 visible ASCII characters, ``idempotency-key-in-flight`` (409),
            ``idempotency-key-reused`` (422).

    Source: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        raise Problem("idempotency-key-missing")
    if not _KEY.fullmatch(key):
        raise Problem("malformed-request", "Idempotency-Key: 1 to 255 visible ASCII characters")
    identity = {"company": company, "principal": current_principal(request).name, "key": key}
    route = f"{request.method} {request.url.path}"
    body_sha256 = hashlib.sha256(await request.body()).digest()

    locked = await tx.execute(_TRY_LOCK, {"lock": "|".join(identity.values())})
    if not locked.scalar_one():
        raise Problem("idempotency-key-in-flight", headers={"Retry-After": "1"})
    stored = (await tx.execute(_FIND, identity)).one_or_none()
    if stored is not None:
        if (stored.route, bytes(stored.body_sha256)) != (route, body_sha256):
            raise Problem("idempotency-key-reused")
        return Response(
            bytes(stored.body),
            status_code=stored.status,
            headers={**stored.headers, "Idempotent-Replayed": "true"},
        )
    response = await run()
    headers = {name: value for name, value in response.headers.items() if name in _STORED_HEADERS}
    await tx.execute(
        _STORE,
        {
            **identity,
            "route": route,
            "body_sha256": body_sha256,
            "status": response.status_code,
            "headers": headers,
            "body": bytes(response.body),
        },
    )
    return response


async def forget(tx: Transaction) -> int:
    """Delete the keys older than 30 days, after which natural keys alone refuse a repeat."""
    return (await tx.execute(_FORGET, {"days": KEPT_DAYS})).rowcount
