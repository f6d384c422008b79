"""Conditional requests: the ETag of a resource is its version, so nobody overwrites unseen work."""

from fastapi import Request, Response
from pydantic import BaseModel

from cobranza.chassis.http.problems import Problem


def etag(version: int) -> str:
    """The strong entity tag of a version: 7 is ``"7"``, quotes included."""
    return f'"{version}"'


def not_modified(request: Request, *, version: int) -> Response | None:
    """The 304 answer when If-None-Match names the present version, else None.

    >>> if (unchanged := not_modified(request, version=case.version)) is not None:
    ...     return unchanged
    """
    tags = _tags(request.headers.get("if-none-match", ""))
    if etag(version) in tags or "*" in tags:
        return Response(status_code=304, headers={"ETag": etag(version)})
    return None


def require_match(request: Request, *, version: int) -> None:
    """Refuse a change that does not start from the present version.

    Raises:
        Problem: ``precondition-required`` (428) without If-Match, ``version-conflict`` (412) when
            it names another version.
    """
    header = request.headers.get("if-match")
    if header is None:
        raise Problem("precondition-required")
    if etag(version) not in _strong_tags(header):
        raise Problem("version-conflict", current_version=version)


def answer(model: BaseModel, *, status: int = 200, version: int | None = None, location: str | None = None) -> Response:
    """A model as a JSON response, with the ETag of its version and its address where they exist."""
    headers = {}
    if version is not None:
        headers["ETag"] = etag(version)
    if location is not None:
        headers["Location"] = location
    return Response(
        model.model_dump_json(by_alias=True),
        status_code=status,
        media_type="application/json",
        headers=headers,
    )


def _tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def _strong_tags(header: str) -> set[str]:
    return {tag.strip() for tag in header.split(",")}
