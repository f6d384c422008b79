"""Turns a policy file into a typed policy, or into all of its faults at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Final, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cobranza.contracts.calendar import Roll
from cobranza.contracts.money import EXPONENTS, decimal_from_text, to_minor
from cobranza.dunning.domain.policy import TONES, CatchUp, CatchUpMode, End, EndTask, Materiality, Policy, Step, Tone

#: Keys that shipped presets leave out, all of them; loading fills them from the company.
COMPANY_KEYS: Final = ("company", "currency", "timezone", "calendar", "languages")
MOST_STEPS: Final = 30
_ID = r"[a-z0-9-]{3,48}"
_CALENDAR = r"[a-z]{2}(-[a-z0-9-]+)?"
_SLUG = r"[a-z0-9][a-z0-9_-]{0,63}"
_LANGUAGE = r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*"
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,8})", re.ASCII)
_PERCENT = re.compile(r"(100|[0-9]{1,2})(\.[0-9]{1,4})?", re.ASCII)


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


def check(document: Table) -> tuple[Policy | None, tuple[Fault, ...]]:
    """Type the whole document in one pass.

    Returns:
        The policy and no faults, or None and all faults in line order. A preset without faults
        gives a policy whose company is empty: fill it before it is used.
    """
    checker = _Checker(document)
    policy = checker.policy()
    return (None if checker.faults else policy), tuple(sorted(checker.faults))


class _Checker:
    """Walks the document once; every reader gives a stand-in value after noting a fault."""

    def __init__(self, document: Table) -> None:
        self._document = document
        self._is_preset = is_preset(document)
        self._currency: str | None = None
        self.faults: list[Fault] = []

    def policy(self) -> Policy:
        top = self._document
        known = (
            *("policy", "version", "title", *COMPANY_KEYS, "effective_from", "priority", "grace_days", "min_gap_days"),
            *("roll", "catch_up", "materiality", "steps", "end"),
        )
        self._keys(
            top,
            "",
            known,
            required=(
                *("policy", "version", "effective_from", "steps", "end"),
                *(() if self._is_preset else COMPANY_KEYS),
            ),
        )
        self._currency = self._currency_of(top)
        roll = self._roll(top, "roll", default="following")
        gap = self._whole(top, "min_gap_days", 0, 60, default=3)
        steps = self._steps(top, roll=roll, gap=gap)
        return Policy(
            policy=self._text(top, "policy", _ID, "3 to 48 of a-z, 0-9 and -"),
            version=self._whole(top, "version", 1, 1_000_000, default=1),
            title=self._text(top, "title", r"[^\x00-\x1f\x7f]{1,200}", "one line of text"),
            company=self._text(top, "company", r"[a-z0-9-]{2,40}", "2 to 40 of a-z, 0-9 and -"),
            currency=self._currency or "",
            timezone=self._zone(top),
            calendar=self._text(top, "calendar", _CALENDAR, "a calendar such as mx-business"),
            languages=self._languages(top),
            effective_from=self._date(top, "effective_from"),
            priority=self._whole(top, "priority", 0, 1_000_000, default=0),
            grace_days=self._whole(top, "grace_days", 0, 60, default=0),
            case_materiality=self._materiality(top),
            catch_up=self._catch_up(top, steps),
            steps=steps,
            end=self._end(top),
        )

    # Parts of the document.

    def _steps(self, top: Table, *, roll: Roll, gap: int) -> tuple[Step, ...]:
        node = top.get("steps")
        if node is None:
            return ()
        if not isinstance(node, Items) or not 1 <= len(node.items) <= MOST_STEPS:
            self._fault(node, "P104", "steps", f"expected a list of 1 to {MOST_STEPS} steps, got {_said(node)}")
            return ()
        steps: list[Step] = []
        seen: set[str] = set()
        highest: int | None = None
        for place, entry in enumerate(node.items, start=1):
            if not isinstance(entry, Table):
                self._fault(entry, "P104", f"steps[{place}]", f"expected a step, got {_said(entry)}")
                continue
            step, offset = self._step(entry, place, roll=roll, gap=gap)
            identity = entry.get("id")
            if identity is not None and step.id in seen:
                self._fault(identity, "P201", f"steps[{step.id}].id", "this id is already taken by an earlier step")
            seen.add(step.id)
            if offset is not None:
                if highest is not None and offset < highest:
                    self._fault(
                        cast("Node", entry.get("offset")),
                        "P202",
                        f"steps[{step.id}].offset",
                        f"{offset} after {highest}; steps are written in date order",
                    )
                highest = offset if highest is None else max(highest, offset)
            steps.append(step)
        return tuple(steps)

    def _step(self, entry: Table, place: int, *, roll: Roll, gap: int) -> tuple[Step, int | None]:
        named = entry.get("id")
        label = named.text if isinstance(named, Scalar) else str(place)
        path = f"steps[{label}]"
        self._keys(
            entry,
            path,
            ("id", "offset", "kind", "channel", "tone", "template", "roll", "min_gap_days"),
            required=("id", "offset", "kind", "channel", "tone", "template"),
        )
        before = len(self.faults)
        offset = self._whole(entry, "offset", -365, 730, default=0, path=path)
        has_offset = entry.get("offset") is not None and len(self.faults) == before
        self._choice(entry, "kind", ("notice",), default="notice", path=path)
        self._choice(entry, "channel", ("email",), default="email", path=path)
        step = Step(
            id=self._text(entry, "id", _SLUG, "up to 64 of a-z, 0-9, _ and -", path=path) or str(place),
            position=place,
            offset=offset,
            tone=cast("Tone", self._choice(entry, "tone", TONES, default="neutral", path=path)),
            template=self._text(entry, "template", _SLUG, "up to 64 of a-z, 0-9, _ and -", path=path),
            roll=self._roll(entry, "roll", default=roll, path=path),
            min_gap_days=self._whole(entry, "min_gap_days", 0, 60, default=gap, path=path),
        )
        return step, offset if has_offset else None

    def _catch_up(self, top: Table, steps: Sequence[Step]) -> CatchUp:
        table = self._table(top, "catch_up", ("mode", "first_contact_max", "stale_after_days"))
        first = table.get("first_contact_max")
        position = None
        if first is not None:
            named = first.text if isinstance(first, Scalar) else ""
            position = next((step.position for step in steps if step.id == named), None)
            if position is None:
                self._fault(
                    first,
                    "P104",
                    "catch_up.first_contact_max",
                    f"expected a step, got {_said(first)}{_hint(named, [step.id for step in steps])}",
                )
        mode = self._choice(table, "mode", ("collapse", "next", "none"), default="collapse", path="catch_up")
        return CatchUp(
            mode=cast("CatchUpMode", mode),
            first_contact_max=position,
            stale_after_days=self._whole(table, "stale_after_days", 0, 365, default=5, path="catch_up"),
        )

    def _materiality(self, top: Table) -> Materiality:
        case = self._table(
            self._table(top, "materiality", ("case",)), "case", ("amount", "percent"), path="materiality"
        )
        return Materiality(
            amount=self._money(case, "amount", path="materiality.case"),
            percent=self._percent(case, "percent", path="materiality.case"),
        )

    def _end(self, top: Table) -> End:
        table = self._table(top, "end", ("after_days", "task"), required=("after_days", "task"))
        task = self._table(table, "task", ("kind", "role", "due_business_days"), required=("kind", "role"), path="end")
        return End(
            after_days=self._whole(table, "after_days", 0, 365, default=0, path="end"),
            task=EndTask(
                kind=self._text(task, "kind", _SLUG, "up to 64 of a-z, 0-9, _ and -", path="end.task"),
                role=self._text(task, "role", _SLUG, "up to 64 of a-z, 0-9, _ and -", path="end.task"),
                due_business_days=self._whole(task, "due_business_days", 0, 60, default=2, path="end.task"),
            ),
        )

    def _languages(self, top: Table) -> tuple[str, ...]:
        node = top.get("languages")
        if node is None:
            return ()
        entries = node.items if isinstance(node, Items) else ()
        tags = [entry.text for entry in entries if isinstance(entry, Scalar) and re.fullmatch(_LANGUAGE, entry.text)]
        if not tags or len(tags) != len(entries):
            self._fault(
                node, "P104", "languages", f"expected a list of languages such as [es-MX, en], got {_said(node)}"
            )
        return tuple(tags)

    def _currency_of(self, top: Table) -> str | None:
        node = top.get("currency")
        if node is None:
            return None
        if isinstance(node, Scalar) and node.text in EXPONENTS:
            return node.text
        self._fault(node, "P104", "currency", f"expected an ISO 4217 currency such as MXN, got {_said(node)}")
        return None

    def _zone(self, top: Table) -> str:
        text = self._text(
            top, "timezone", r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", "a time zone such as America/Mexico_City"
        )
        if text:
            try:
                ZoneInfo(text)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                node = cast("Node", top.get("timezone"))
                self._fault(node, "P104", "timezone", f"expected a time zone such as America/Mexico_City, got {text!r}")
        return text

    # Values.

    def _text(self, table: Table, key: str, pattern: str, expected: str, *, path: str = "") -> str:
        node = table.get(key)
        if node is None:
            return ""
        if isinstance(node, Scalar) and re.fullmatch(pattern, node.text):
            return node.text
        self._fault(node, "P104", _path(path, key), f"expected {expected}, got {_said(node)}")
        return ""

    def _whole(self, table: Table, key: str, least: int, most: int, *, default: int, path: str = "") -> int:
        node = table.get(key)
        if node is None:
            return default
        if isinstance(node, Scalar) and _WHOLE.fullmatch(node.text) and least <= int(node.text) <= most:
            return int(node.text)
        self._fault(node, "P104", _path(path, key), f"expected a whole number {least} to {most}, got {_said(node)}")
        return default

    def _percent(self, table: Table, key: str, *, path: str) -> Decimal:
        node = table.get(key)
        if node is None:
            return Decimal(0)
        if isinstance(node, Scalar) and _PERCENT.fullmatch(node.text) and Decimal(node.text) <= 100:  # noqa: PLR2004
            return Decimal(node.text)
        self._fault(node, "P104", _path(path, key), f"expected a percent 0 to 100, got {_said(node)}")
        return Decimal(0)

    def _money(self, table: Table, key: str, *, path: str) -> int:
        node = table.get(key)
        if node is None:
            return 0
        where = _path(path, key)
        text = node.text if isinstance(node, Scalar) else ""
        try:
            amount = decimal_from_text(text)
        except ValueError:
            self._fault(node, "P105", where, f"expected an amount such as 200.00, got {_said(node)}")
            return 0
        if amount < 0:
            self._fault(node, "P105", where, f"expected zero or more, got {text!r}")
            return 0
        if self._currency is None:
            return 0
        if amount != round(amount, EXPONENTS[self._currency]):
            self._fault(node, "P105", where, f"{self._currency} has {EXPONENTS[self._currency]} decimals, got {text!r}")
            return 0
        return to_minor(amount, self._currency)

    def _date(self, table: Table, key: str) -> date:
        node = table.get(key)
        if node is None:
            return date.min
        text = node.text if isinstance(node, Scalar) else ""
        try:
            if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
                return date.fromisoformat(text)
        except ValueError:
            pass
        self._fault(node, "P104", key, f"expected a date such as 2027-01-01, got {_said(node)}")
        return date.min

    def _choice(self, table: Table, key: str, choices: Sequence[str], *, default: str, path: str = "") -> str:
        node = table.get(key)
        if node is None:
            return default
        text = node.text if isinstance(node, Scalar) else ""
        if text in choices:
            return text
        hint = _hint(text, choices)
        self._fault(node, "P104", _path(path, key), f"expected {' or '.join(choices)}, got {_said(node)}{hint}")
        return default

    def _roll(self, table: Table, key: str, *, default: Roll, path: str = "") -> Roll:
        return cast("Roll", self._choice(table, key, ("none", "following", "preceding"), default=default, path=path))

    def _table(
        self, parent: Table, key: str, known: Sequence[str], *, required: Sequence[str] = (), path: str = ""
    ) -> Table:
        node = parent.get(key)
        if node is None:
            return Table(())
        where = _path(path, key)
        if not isinstance(node, Table):
            self._fault(node, "P104", where, f"expected keys {', '.join(known)}, got {_said(node)}")
            return Table(())
        self._keys(node, where, known, required=required)
        return node

    def _keys(self, table: Table, path: str, known: Sequence[str], *, required: Sequence[str]) -> None:
        """Unknown keys, and required ones that are missing; a misspelt required key is told once."""
        present = {key.text for key, _ in table.entries}
        meant: set[str] = set()
        for key, _ in table.entries:
            if key.text in known:
                continue
            nearest = difflib.get_close_matches(key.text, [k for k in known if k not in present], n=1)
            meant.update(nearest)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            self._note(key.place, "P102", path or key.text, f"unknown key {key.text!r}{hint}")
        for key_name in required:
            if key_name not in present and key_name not in meant:
                self._note(table.place, "P103", path or key_name, f"key {key_name!r} is missing")

    def _fault(self, node: Node, code: str, key: str, text: str) -> None:
        self._note(node.place, code, key, text)

    def _note(self, place: Place, code: str, key: str, text: str) -> None:
        self.faults.append(fault_at(place, code, key, text))


def _path(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _said(node: Node) -> str:
    match node:
        case Scalar():
            return repr(node.text[:60])
        case Items():
            return "a list" if node.items else "an empty list"
        case Table():
            return "keys and values"


def _hint(text: str, choices: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(text, list(choices), n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
