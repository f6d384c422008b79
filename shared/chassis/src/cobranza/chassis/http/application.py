"""Builds the HTTP application: one service, or all of them in one process, under their prefixes."""

import difflib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.exceptions import HTTPException as StarletteHTTPException

from cobranza.chassis import page
from cobranza.chassis.http import answers, problems
from cobranza.chassis.http.access import Access, RequiredScope
from cobranza.chassis.http.middleware import (
    BODY_LIMIT_BYTES,
    BULK_BODY_LIMIT_BYTES,
    Guarded,
    Observed,
    RouteFacts,
)
from cobranza.chassis.http.models import ProblemBody
from cobranza.chassis.http.problems import MEDIA_TYPE, Problem

API_VERSION = "1"


class ApplicationError(Exception):
    """The application must not start; the text names the route and what it lacks."""


def _allow_bulk() -> None:
    """Marks a route; the middleware finds it and lets larger bodies pass."""


#: Declares a route that takes many lines: ``dependencies=[scope("…"), BULK]`` allows 20 MB.
BULK: Any = Depends(_allow_bulk)


async def _only_known_parameters(request: Request) -> None:
    """A misspelt filter must not answer with everything.

    Raises:
        Problem: `unknown-parameter`, with the names that are known.
    """
    known: frozenset[str] | None = request.app.state.parameters.get(id(request.scope["route"]))
    if known is None:
        return
    for name in request.query_params:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise Problem(
                "unknown-parameter",
                detail=f"{name!r} is not a parameter of this address"
                + (f"; did you mean {near[0]!r}?" if near else f"; it knows {', '.join(sorted(known)) or 'none'}"),
            )


def create_app(
    routers: Mapping[str, APIRouter],
    *,
    access: Access,
    frame: page.Frame,
    cursor_secret: bytes = b"",
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """The application that serves each router under ``/<service>``.

    API routes are ``/<service>/v1/…``, pages everything else under the prefix; each service is
    described at ``/<service>/openapi.json`` and ``/<service>/docs``; ``/`` leads to the first page
    of the navigation.

    Args:
        routers: by service name; their paths carry no prefix.
        access: who may call (``access_for``).
        frame: what all pages show around their content.
        cursor_secret: signs the cursors of lists; empty = a new one per process, so that a cursor
            ends with its process.
        lifespan: opens what the routes need, as Starlette defines it.

    Raises:
        ApplicationError: a route declares no scope.
    """
    app = FastAPI(title="Cobranza", openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.frame = frame
    app.state.cursor_secret = cursor_secret or secrets.token_bytes(32)
    for service, router in routers.items():
        _require_scopes(service, router)
        app.include_router(router, prefix=f"/{service}", dependencies=[Depends(_only_known_parameters)])
        _describe(app, service, router)
    _add_own_routes(app, problems.with_services(routers))

    async def answer(request: Request, error: Exception) -> Response:
        return answers.of_exception(request, error)

    app.add_exception_handler(RequestValidationError, answer)
    app.add_exception_handler(StarletteHTTPException, answer)
    routes = {id(route.original_route): _facts(route) for route in iter_route_contexts(app.routes)}
    app.state.parameters = {
        id(route.original_route): _parameters(route)
        for route in iter_route_contexts(app.routes)
        # Others post with parameters of their own, as providers' webhooks do.
        if "GET" in (route.methods or ()) and any((route.path or "").startswith(f"/{service}/v") for service in routers)
    }
    app.add_middleware(Guarded, access=access, routes=routes)
    app.add_middleware(Observed, routes=routes)
    return app


def openapi(service: str, router: APIRouter) -> dict[str, Any]:
    """The OpenAPI document of one service, with full paths, scopes and problem answers."""
    outer = APIRouter()
    outer.include_router(router, prefix=f"/{service}")
    described = [route for route in iter_route_contexts(outer.routes) if (route.path or "").startswith(f"/{service}/v")]
    document = get_openapi(
        title=f"Cobranza {service}",
        version=API_VERSION,
        routes=[*described, *_problem_schema_carrier()],
    )
    del document["paths"][_CARRIER_PATH]
    document["components"]["securitySchemes"] = {"apiKey": {"type": "http", "scheme": "bearer"}}
    for route in described:
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            operation["x-required-scope"] = next(_scopes(route))
            operation["security"] = [{"apiKey": []}]
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _PROBLEM_ANSWER
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    return document


_CARRIER_PATH = "/problem"
_PROBLEM_ANSWER = {
    "description": "A problem (RFC 9457)",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}},
}


def _problem_schema_carrier() -> Iterable[RouteContext]:
    """A route that exists only so that the schema of a problem gets into the document."""
    carrier = APIRouter()

    @carrier.get(_CARRIER_PATH)
    async def problem() -> ProblemBody:
        raise NotImplementedError

    return iter_route_contexts(carrier.routes)


def _describe(app: FastAPI, service: str, router: APIRouter) -> None:
    @app.get(f"/{service}/openapi.json", include_in_schema=False)
    async def describe() -> JSONResponse:
        return JSONResponse(openapi(service, router))

    @app.get(f"/{service}/docs", include_in_schema=False)
    async def reference(request: Request) -> Response:
        return page.reference_page(request, openapi(service, router))


def _add_own_routes(app: FastAPI, catalogue: Mapping[str, problems.ProblemType]) -> None:
    @app.get("/", include_in_schema=False)
    async def home(request: Request) -> RedirectResponse:
        start = page.frame_of(request).navigation[0].href
        return RedirectResponse(start, status_code=307)

    @app.get("/problems/{name}", include_in_schema=False)
    async def explain(request: Request, name: str) -> Response:
        if name not in catalogue:
            raise Problem("not-found")
        return page.explanation_page(request, catalogue[name])

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        file = page.static_file(name)
        if file is None:
            raise Problem("not-found")
        return file


def _require_scopes(service: str, router: APIRouter) -> None:
    for route in iter_route_contexts(router.routes):
        if next(_scopes(route), None) is None:
            methods = ", ".join(sorted(route.methods or ()))
            raise ApplicationError(f"{methods} /{service}{route.path} declares no scope")


def _scopes(route: RouteContext) -> Iterator[str]:
    return (call.name for call in _calls(route) if isinstance(call, RequiredScope))


def _calls(route: RouteContext) -> Iterator[object]:
    """Everything a route depends on, at any depth."""
    return (dependant.call for dependant in _dependants(route))


def _dependants(route: RouteContext) -> Iterator[Dependant]:
    if not isinstance(route.original_route, APIRoute):
        return
    waiting: list[Dependant] = [route.dependant]
    while waiting:
        dependant = waiting.pop()
        yield dependant
        waiting.extend(dependant.dependencies)


def _parameters(route: RouteContext) -> frozenset[str]:
    """The names that may stand after the `?` of a route's address."""
    return frozenset(field.alias for dependant in _dependants(route) for field in dependant.query_params)


def _facts(route: RouteContext) -> RouteFacts:
    is_bulk = any(call is _allow_bulk for call in _calls(route))
    return RouteFacts(
        template=route.path or "",
        body_limit_bytes=BULK_BODY_LIMIT_BYTES if is_bulk else BODY_LIMIT_BYTES,
    )
