"""Problems (RFC 9457): one catalogue for the answers, the pages that explain them, the document."""

import importlib
import importlib.util
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import entry_points

from fastapi.responses import JSONResponse
from pydantic_core import to_jsonable_python

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class ProblemType:
    """One kind of problem: its name in ``/problems/<name>``, its status and what it means."""

    name: str
    status: int
    title: str
    meaning: str
    remedy: str = ""


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An answer that is a problem of the catalogue; raised by the chassis itself.

    Services raise refusals of their own: any exception with ``code`` and ``status``.
    """

    def __init__(
        self,
        name: str,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **facts: object,
    ) -> None:
        self.type = CATALOGUE[name]
        self.code = name.replace("-", "_")
        self.status = self.type.status
        self.detail = detail
        self.headers = dict(headers or {})
        self.facts = facts
        super().__init__(f"{name}: {detail}")


CATALOGUE: Mapping[str, ProblemType] = {
    problem.name: problem
    for problem in (
        ProblemType(
            name="malformed-request",
            status=400,
            title="The request cannot be read",
            meaning="The body is not JSON, or the address or a header holds characters that are not allowed.",
            remedy="Mend the request; the same request will be refused again.",
        ),
        ProblemType(
            name="invalid-cursor",
            status=400,
            title="The cursor does not belong to this list",
            meaning="The cursor was changed, was issued for another list or other filters, or "
            "the service was given a new secret since.",
            remedy="Start again from the first page.",
        ),
        ProblemType(
            name="unknown-parameter",
            status=400,
            title="The address has a parameter that this list does not know",
            meaning="A filter that is misspelt would be ignored and the answer would be of everything.",
            remedy="Take it away, or use one of those that the detail names.",
        ),
        ProblemType(
            name="idempotency-key-missing",
            status=400,
            title="An Idempotency-Key is required",
            meaning="This request creates or moves money, so it must be safe to repeat.",
            remedy="Send a header Idempotency-Key with a text of your own, new for each intent, "
            "the same for each repeat.",
        ),
        ProblemType(
            name="unauthenticated",
            status=401,
            title="No valid API key",
            meaning="The request carries no API key, or one that is unknown or has expired.",
            remedy="Send Authorization: Bearer <key>.",
        ),
        ProblemType(
            name="forbidden",
            status=403,
            title="Not allowed",
            meaning="The key is valid but lacks the scope this route asks for, or the request came from another site.",
            remedy="Use a key that has the scope named in the answer.",
        ),
        ProblemType(
            name="not-found",
            status=404,
            title="Not found",
            meaning="There is no such thing, or it belongs to a company that the key does not "
            "see. The two are not told apart.",
        ),
        ProblemType(
            name="method-not-allowed",
            status=405,
            title="Method not allowed",
            meaning="The address exists and does not answer this method; Allow names those it answers.",
        ),
        ProblemType(
            name="idempotency-key-in-flight",
            status=409,
            title="The first request with this key is still running",
            meaning="Another request with the same Idempotency-Key has not ended yet.",
            remedy="Repeat after the seconds of Retry-After; the stored answer will come back.",
        ),
        ProblemType(
            name="version-conflict",
            status=412,
            title="It has changed since you read it",
            meaning="If-Match names another version than the present one.",
            remedy="Read it again, decide again, send again.",
        ),
        ProblemType(
            name="payload-too-large",
            status=413,
            title="The body is too large",
            meaning="A body may hold 1 MB; on routes for many lines, 20 MB.",
            remedy="Send it in parts.",
        ),
        ProblemType(
            name="unsupported-media-type",
            status=415,
            title="The body has another media type",
            meaning="This route reads JSON.",
            remedy="Send Content-Type: application/json.",
        ),
        ProblemType(
            name="validation-failed",
            status=422,
            title="Some fields are not valid",
            meaning="The member errors names each field by JSON pointer, with what was expected.",
        ),
        ProblemType(
            name="idempotency-key-reused",
            status=422,
            title="This Idempotency-Key was used for another request",
            meaning="A key stands for one request: the same route and the same body, byte by byte.",
            remedy="Use a new key for a new intent.",
        ),
        ProblemType(
            name="precondition-required",
            status=428,
            title="If-Match is required",
            meaning="A change must name the version it starts from.",
            remedy="Send If-Match with the ETag of your last read.",
        ),
        ProblemType(
            name="rate-limited",
            status=429,
            title="Too many requests",
            meaning="The limit of this key or company is reached.",
            remedy="Repeat after the seconds of Retry-After.",
        ),
        ProblemType(
            name="internal-error",
            status=500,
            title="The service failed",
            meaning="A fault of ours; nothing was changed. The log holds the trace_id.",
            remedy="Repeat later; if it stays, report the trace_id.",
        ),
        ProblemType(
            name="unavailable",
            status=503,
            title="Not available for the moment",
            meaning="A part the service needs, mostly its database, does not answer. Nothing was changed.",
            remedy="Repeat after the seconds of Retry-After.",
        ),
    )
}


def name_of(code: str) -> str:
    """The problem name of a refusal's code: ``allocation_exceeds_open`` is written with dashes."""
    return code.replace("_", "-")


def with_services(services: Iterable[str]) -> dict[str, ProblemType]:
    """The catalogue together with the refusals in ``cobranza.<service>.domain.errors``.

    Each class there that has a text ``code`` and a number ``status`` is one problem; its title is
    the first line of its docstring.
    """
    known = dict(CATALOGUE)
    for service in services:
        root = f"cobranza.{service}"
        if importlib.util.find_spec(root) is None:
            continue
        if importlib.util.find_spec(f"{root}.domain") is None:
            continue
        if importlib.util.find_spec(f"{root}.domain.errors") is None:
            continue
        module = importlib.import_module(f"{root}.domain.errors")
        for refusal in vars(module).values():
            problem = _of_class(refusal)
            if problem is not None:
                known.setdefault(problem.name, problem)
    return known


def _of_class(refusal: object) -> ProblemType | None:
    if not (inspect.isclass(refusal) and issubclass(refusal, Exception)):
        return None
    code, status = getattr(refusal, "code", None), getattr(refusal, "status", None)
    if not (isinstance(code, str) and isinstance(status, int)):
        return None
    title, _, meaning = (inspect.cleandoc(refusal.__doc__ or refusal.__name__)).partition("\n")
    # What follows is for who reads the code.
    meaning = meaning.partition("Attributes:")[0]
    return ProblemType(
        name=name_of(code),
        status=status,
        title=title.rstrip("."),
        meaning=" ".join(meaning.split()),
    )


def body_of(
    name: str,
    *,
    status: int,
    title: str,
    detail: str,
    instance: str,
    trace_id: str,
    facts: Mapping[str, object],
) -> dict[str, object]:
    """The members of one problem; ``facts`` become extension members and never replace ours."""
    members: dict[str, object] = {
        "type": f"/problems/{name}",
        "title": title,
        "status": status,
        "detail": detail or title,
        "instance": instance,
        "trace_id": trace_id,
    }
    extensions = to_jsonable_python(facts, fallback=str, inf_nan_mode="strings")
    return {**extensions, **members}


class ProblemResponse(JSONResponse):
    """A JSON answer with the media type of RFC 9457."""

    media_type = MEDIA_TYPE


def title_of(name: str, status: int) -> str:
    """The title of a problem, also of a refusal that is in no catalogue."""
    known = CATALOGUE.get(name)
    return known.title if known else name.replace("-", " ").capitalize() or _phrase(status)


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase


def name_of_status(status: int) -> str:
    """The problem of the catalogue for an HTTP status that a framework raised without a name."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "unavailable" if status == HTTPStatus.SERVICE_UNAVAILABLE else "internal-error"
    return _NAME_OF_STATUS.get(status, "malformed-request")


_NAME_OF_STATUS = {
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    412: "version-conflict",
    413: "payload-too-large",
    415: "unsupported-media-type",
    422: "validation-failed",
    428: "precondition-required",
    429: "rate-limited",
}


def document() -> str:
    """``docs/problems.md``: the catalogue of the chassis and of every installed service."""
    services = sorted(entry.name for entry in entry_points(group="cobranza.services"))
    lines = [
        "# Problems",
        "",
        "Every error of every API is an RFC 9457 problem (`application/problem+json`). Its `type`",
        "is one of the paths below, which each deployment serves as a page. `make docs` writes this file.",
        "",
        "| Type | Status | Title | Meaning | What to do |",
        "|---|---:|---|---|---|",
    ]
    lines += [
        f"| `/problems/{problem.name}` | {problem.status} | {problem.title} | "
        f"{problem.meaning or '-'} | {problem.remedy or '-'} |"
        for problem in sorted(with_services(services).values(), key=lambda problem: (problem.status, problem.name))
    ]
    return "\n".join(lines) + "\n"
