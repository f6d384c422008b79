"""The shapes every API shares: the base of request bodies and the body of an error."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Request(BaseModel):
    """The base of every request body: unknown fields are refused, and so are NUL characters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _holds_no_nul(cls, value: Any) -> Any:
        # PostgreSQL cannot store the character, so it is refused before it gets there.
        if _has_nul(value):
            raise ValueError("a text holds the NUL character")
        return value


class FieldFault(BaseModel):
    """One field that is not valid."""

    pointer: str = Field(examples=["/amount/currency"])
    detail: str
    code: str


class ProblemBody(BaseModel):
    """An error, as RFC 9457 describes it."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["/problems/not-found"])
    title: str
    status: int
    detail: str
    instance: str
    trace_id: str
    errors: list[FieldFault] | None = None


def _has_nul(value: object) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_has_nul(key) or _has_nul(part) for key, part in value.items())
        case list():
            return any(_has_nul(part) for part in value)
        case _:
            return False
