"""What every request passes before and after its route: identity, limits, headers, timing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import HTTPException, Request
from starlette.datastructures import MutableHeaders

from cobranza.chassis import clock, logs
from cobranza.chassis.http import answers
from cobranza.chassis.http.access import SIGNER, Access
from cobranza.chassis.http.problems import Problem
from cobranza.chassis.ids import new_id
from cobranza.chassis.metrics import HTTP_REQUEST_DURATION

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT_BYTES = 1_000_000
BULK_BODY_LIMIT_BYTES = 20_000_000
UNMATCHED = "unmatched"

_CORRELATION = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Explained in public: a problem page must be readable by whoever got the problem, and the style
# sheet by whoever sees that page.
_OPEN_PATHS = ("/problems/", "/static/")
# Called by other companies' servers, which have a signing secret instead of an API key.
_SIGNED_PATH = re.compile(r"/[a-z]+/v1/webhooks/")
_log = logs.logger()

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; frame-src 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class RouteFacts:
    """What the middleware must know of a matched route: its full template and its body limit."""

    template: str
    body_limit_bytes: int


class Observed:
    """Gives each request its correlation id and trace id; counts, times and logs its end."""

    def __init__(self, app: "ASGIApp", *, routes: Mapping[int, RouteFacts]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        correlation_id = _correlation_of(request)
        traceparent = request.headers.get("traceparent", "")
        trace = _TRACEPARENT.fullmatch(traceparent)
        request.state.correlation_id = correlation_id
        request.state.traceparent = traceparent if trace else None
        request.state.trace_id = trace.group(1) if trace else new_id().hex
        status = 500

        async def send_with_headers(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Correlation-Id"] = correlation_id
                # A route may set a stricter or another value; ours are the defaults.
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        started = clock.monotonic()
        with logs.bound(correlation_id=correlation_id, trace_id=request.state.trace_id):
            try:
                await self._app(scope, receive, send_with_headers)
            finally:
                seconds = clock.monotonic() - started
                route = template_of(scope, self._routes)
                HTTP_REQUEST_DURATION.labels(
                    route=route, method=request.method, status_class=f"{status // 100}xx"
                ).observe(seconds)
                _log.debug(
                    "request answered",
                    route=route,
                    method=request.method,
                    status=status,
                    duration_seconds=round(seconds, 4),
                )


class Guarded:
    """Refuses what no route should see, proves who is calling, and turns failures into problems."""

    def __init__(self, app: "ASGIApp", *, access: Access, routes: Mapping[int, RouteFacts]) -> None:
        self._app = app
        self._access = access
        self._routes = routes

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        started = False

        async def send_noted(message: "Message") -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._admit(request)
            await self._app(scope, self._limited(request), send_noted)
        # The edge of a request: every refusal of a use case passes here, and every bug.
        except Exception as error:
            if started:
                raise
            response = answers.of_exception(request, error)
            await response(scope, receive, send)

    def _admit(self, request: Request) -> None:
        if "%00" in request.url.path + request.url.query or "\0" in request.url.path:
            raise Problem("malformed-request", "the address holds a NUL character")
        if request.url.path.startswith(_OPEN_PATHS):
            return
        if _SIGNED_PATH.match(request.url.path):
            request.state.principal = SIGNER
            return
        cross_site = request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}
        if cross_site and request.method not in _SAFE_METHODS:
            raise Problem("forbidden", "a change was asked for by another site")
        principal = self._access.principal(request)
        if principal is None:
            raise Problem(
                "unauthenticated",
                headers={
                    "WWW-Authenticate": "Bearer"
                    if answers.is_api(request)
                    else 'Basic realm="Cobranza", charset="UTF-8"'
                },
            )
        request.state.principal = principal

    def _limited(self, request: Request) -> "Receive":
        """The same body, refused as soon as it is known to be larger than its route allows."""
        scope, receive = request.scope, request.receive
        read_bytes = 0

        async def limited() -> "Message":
            nonlocal read_bytes
            facts = self._routes.get(id(scope.get("route")))
            limit = facts.body_limit_bytes if facts else BODY_LIMIT_BYTES
            declared = request.headers.get("content-length", "")
            if declared.isdecimal() and int(declared) > limit:
                raise HTTPException(413)
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if read_bytes > limit:
                raise HTTPException(413)
            return message

        return limited


def template_of(scope: "Scope", routes: Mapping[int, RouteFacts]) -> str:
    """The matched route's template with its prefix; one constant for what matched nothing."""
    facts = routes.get(id(scope.get("route")))
    return facts.template if facts else UNMATCHED


def _correlation_of(request: Request) -> str:
    given = request.headers.get("x-correlation-id", "")
    return given if _CORRELATION.fullmatch(given) else str(new_id())
