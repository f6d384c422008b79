"""A policy file as it is written: values as text, each with its place, and the faults found in it."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

#: Keys that shipped presets leave out, all of them; loading fills them from the company.
COMPANY_KEYS: Final = ("company", "currency", "timezone", "calendar", "languages")


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column in the file, both from 1; 0 when the value did not come from a file."""

    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value as it is written."""

    text: str
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class Table:
    """Keys and their values in the order written; keys are unique."""

    entries: tuple[tuple[Scalar, Node], ...]
    place: Place = Place()

    def get(self, key: str) -> Node | None:
        """The value of `key`."""
        return next((value for name, value in self.entries if name.text == key), None)


Node = Scalar | Items | Table
Document = str | list["Document"] | dict[str, "Document"]


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault of a policy file; `file:line:column code key: text` is how it is told."""

    place_line: int
    place_column: int
    code: str
    key: str
    text: str

    @property
    def is_warning(self) -> bool:
        """True when the policy may be used all the same."""
        return self.code.startswith("W")

    def told(self, file: str) -> str:
        """The fault as one line."""
        return f"{file}:{self.place_line}:{self.place_column} {self.code} {self.key}: {self.text}"


def fault_at(place: Place, code: str, key: str, text: str) -> Fault:
    """A fault at a place."""
    return Fault(place.line, place.column, code, key, text)


def is_preset(document: Table) -> bool:
    """True when the file leaves all of the company's keys out, to be filled when it is loaded."""
    return all(document.get(key) is None for key in COMPANY_KEYS)


def filled(document: Table, values: Mapping[str, str | Sequence[str]]) -> Table:
    """The document with `values` for the keys it leaves out."""
    added: list[tuple[Scalar, Node]] = [
        (
            Scalar(key),
            Scalar(value) if isinstance(value, str) else Items(tuple(Scalar(entry) for entry in value)),
        )
        for key, value in values.items()
        if document.get(key) is None
    ]
    return replace(document, entries=(*added, *document.entries))


def renamed(document: Table, policy: str) -> Table:
    """The document with another policy id."""
    entries = tuple((key, Scalar(policy) if key.text == "policy" else value) for key, value in document.entries)
    return replace(document, entries=entries)


def to_plain(node: Node) -> Document:
    """The document without places, to be kept as JSON."""
    match node:
        case Scalar():
            return node.text
        case Items():
            return [to_plain(item) for item in node.items]
        case Table():
            return {key.text: to_plain(value) for key, value in node.entries}


def from_plain(document: Document) -> Node:
    """The document that was kept as JSON."""
    match document:
        case str():
            return Scalar(document)
        case list():
            return Items(tuple(from_plain(item) for item in document))
        case dict():
            return Table(tuple((Scalar(key), from_plain(value)) for key, value in document.items()))


def digest(document: Table) -> str:
    """SHA-256 of the content, whatever its layout and the order of its keys."""
    plain = json.dumps(to_plain(document), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(plain.encode()).hexdigest()


def said(node: Node) -> str:
    """A value as a fault quotes it."""
    match node:
        case Scalar():
            return repr(node.text[:60])
        case Items():
            return "a list" if node.items else "an empty list"
        case Table():
            return "keys and values"


def did_you_mean(text: str, choices: Iterable[str]) -> str:
    """The nearest of the choices, as the end of a fault's text."""
    nearest = difflib.get_close_matches(text[:64], list(choices), n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
