"""How an exception is answered: a problem to a program, a fragment or a page to a person."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from cobranza.chassis import logs
from cobranza.chassis.database import is_transient
from cobranza.chassis.http import problems
from cobranza.chassis.http.problems import RETRY_AFTER_SECONDS, Problem, ProblemResponse
from cobranza.chassis.page import problem_page

_log = logs.logger()
_UNREADABLE = {"json_invalid"}


def is_api(request: Request) -> bool:
    """Whether a program is asking: ``/<service>/v…``, or the description of an API."""
    parts = request.url.path.split("/")
    version = parts[2] if len(parts) > 2 else ""  # noqa: PLR2004 - "", service, version
    return (version[:1] == "v" and version[1:].isdecimal()) or version == "openapi.json"


def of_exception(request: Request, error: Exception) -> Response:
    """The answer to any exception that left a route."""
    if isinstance(error, RequestValidationError):
        return of_validation(request, error)
    if isinstance(error, StarletteHTTPException):
        return of_status(request, error)
    code, status = getattr(error, "code", None), getattr(error, "status", None)
    if isinstance(code, str) and isinstance(status, int):
        return _answer(
            request,
            problems.name_of(code),
            status=status,
            detail=str(getattr(error, "detail", "") or ""),
            facts=_facts(error),
            headers=getattr(error, "headers", None) or {},
        )
    if is_transient(error):
        _log.warning("request not served", reason="unavailable", error=type(error).__name__)
        return _answer(
            request,
            "unavailable",
            status=503,
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
    _log.error("request failed", exc_info=error)
    return _answer(request, "internal-error", status=500)


def of_status(request: Request, error: StarletteHTTPException) -> Response:
    """The answer to an HTTP status that the framework raised."""
    name = problems.name_of_status(error.status_code)
    return _answer(request, name, status=problems.CATALOGUE[name].status, headers=error.headers or {})


def of_validation(request: Request, error: RequestValidationError) -> Response:
    """The answer to input that does not fit the route's model."""
    faults = error.errors()
    if any(fault["type"] in _UNREADABLE for fault in faults):
        return of_exception(request, Problem("malformed-request", "the body is not JSON"))
    if _is_other_media_type(request, faults):
        return of_exception(request, Problem("unsupported-media-type"))
    return _answer(
        request,
        "validation-failed",
        status=422,
        facts={"errors": [_fault(fault) for fault in faults]},
    )


def _is_other_media_type(request: Request, faults: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the body was never read as JSON because its media type is another."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = media_type == "application/json" or media_type.endswith("+json")
    has_body = request.headers.get("content-length", "0") != "0"
    return has_body and not is_json and any(fault["loc"] == ("body",) for fault in faults)


def _fault(fault: Mapping[str, Any]) -> dict[str, str]:
    """One field's fault: a JSON pointer into the body, or the parameter's place and name."""
    place, *path = fault["loc"]
    if place == "body":
        escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
        pointer = "".join(f"/{part}" for part in escaped)
    else:
        pointer = "/".join((str(place), *map(str, path)))
    return {"pointer": pointer, "detail": str(fault["msg"]), "code": str(fault["type"])}


def _facts(error: Exception) -> Mapping[str, object]:
    facts: dict[str, object] = dict(getattr(error, "facts", None) or {})
    pointer = getattr(error, "pointer", None)
    if pointer is not None:
        facts["errors"] = [
            {
                "pointer": pointer,
                "detail": getattr(error, "detail", "") or str(error),
                "code": getattr(error, "code", ""),
            }
        ]
    return facts


def _answer(
    request: Request,
    name: str,
    *,
    status: int,
    detail: str = "",
    facts: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = problems.body_of(
        name,
        status=status,
        title=problems.title_of(name, status),
        detail=detail,
        instance=request.url.path,
        trace_id=request.state.trace_id,
        facts=facts or {},
    )
    response: Response
    if is_api(request):
        response = ProblemResponse(body, status_code=status)
    else:
        response = problem_page(request, body)
        response.status_code = status
    response.headers.update(headers or {})
    return response
