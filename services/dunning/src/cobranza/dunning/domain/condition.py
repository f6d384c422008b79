"""Conditions of a policy: what must hold of an item, its case and its customer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Comparison = Literal["eq", "ne", "lt", "le", "gt", "ge"]
FieldType = Literal["text", "texts", "number", "amount", "flag"]
Value = str | int | bool

#: What a condition may ask about, and of which type it is.
FIELDS: Final[Mapping[str, FieldType]] = MappingProxyType(
    {
        "segment": "text",
        "risk": "text",
        "country": "text",
        "language": "text",
        "tag": "texts",
        "product_line": "text",
        "protected_party": "text",
        "item_amount": "amount",
        "case_amount": "amount",
        "items": "number",
        "oldest_dpd": "number",
        "broken_promises": "number",
        "months_as_customer": "number",
        "acknowledged": "flag",
        "reachable": "flag",
    }
)
COMPARISONS: Final[tuple[Comparison, ...]] = ("eq", "ne", "lt", "le", "gt", "ge")
#: Those that ask about the customer alone: a policy is chosen by these.
OF_CUSTOMER: Final = frozenset(
    {"segment", "risk", "country", "language", "tag", "protected_party", "broken_promises", "months_as_customer",
     "reachable"}
)  # fmt: skip


@dataclass(slots=True)
class Subject:
    """What conditions are asked of; changed from item to item of a case. None: not known, and nothing that is asked of it holds.

    Args:
        item_amount, case_amount: dunnable amounts in minor units.
        oldest_dpd: days past due of the oldest overdue item, 0 when none is.
    """

    segment: str | None = None
    risk: str | None = None
    country: str | None = None
    language: str | None = None
    tag: frozenset[str] = frozenset()
    product_line: str | None = None
    protected_party: str | None = None
    item_amount: int | None = None
    case_amount: int | None = None
    items: int | None = None
    oldest_dpd: int | None = None
    broken_promises: int | None = None
    months_as_customer: int | None = None
    acknowledged: bool | None = None
    reachable: bool | None = None


@dataclass(frozen=True, slots=True)
class Always:
    """Nothing is asked."""

    def holds(self, _subject: Subject) -> bool:
        """True of everything."""
        return True

    def fields(self) -> frozenset[str]:
        """What it asks about."""
        return frozenset()


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field has one of the values; of tags, the customer bears one of them."""

    field: str
    values: tuple[Value, ...]

    def holds(self, subject: Subject) -> bool:
        """Whether the subject has one of the values."""
        found = getattr(subject, self.field)
        return not found.isdisjoint(self.values) if isinstance(found, frozenset) else found in self.values

    def fields(self) -> frozenset[str]:
        """What it asks about."""
        return frozenset({self.field})


_COMPARED: Final[Mapping[Comparison, Callable[[Value, Value], bool]]] = MappingProxyType(
    {
        "eq": lambda found, value: found == value,
        "ne": lambda found, value: found != value,
        "lt": lambda found, value: found < value,  # type: ignore[operator]
        "le": lambda found, value: found <= value,  # type: ignore[operator]
        "gt": lambda found, value: found > value,  # type: ignore[operator]
        "ge": lambda found, value: found >= value,  # type: ignore[operator]
    }
)


@dataclass(frozen=True, slots=True)
class Compared:
    """The field compares so with the value; never when it is not known."""

    field: str
    comparison: Comparison
    value: Value

    def holds(self, subject: Subject) -> bool:
        """Whether the subject's value compares so."""
        found = getattr(subject, self.field)
        if isinstance(found, frozenset):
            return (self.value in found) == (self.comparison == "eq")
        return found is not None and _COMPARED[self.comparison](found, self.value)

    def fields(self) -> frozenset[str]:
        """What it asks about."""
        return frozenset({self.field})


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds."""

    parts: tuple[Condition, ...]

    def holds(self, subject: Subject) -> bool:
        """Whether every part holds."""
        return all(part.holds(subject) for part in self.parts)

    def fields(self) -> frozenset[str]:
        """What it asks about."""
        return frozenset().union(*(part.fields() for part in self.parts))


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple[Condition, ...]

    def holds(self, subject: Subject) -> bool:
        """Whether a part holds."""
        return any(part.holds(subject) for part in self.parts)

    def fields(self) -> frozenset[str]:
        """What it asks about."""
        return frozenset().union(*(part.fields() for part in self.parts))


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Condition

    def holds(self, subject: Subject) -> bool:
        """Whether the part does not hold."""
        return not self.part.holds(subject)

    def fields(self) -> frozenset[str]:
        """What it asks about."""
        return self.part.fields()


ALWAYS: Final = Always()
Condition = Always | OneOf | Compared | AllOf | AnyOf | Not


def can_hold(condition: Condition) -> bool:
    """Whether some subject could meet it: False only when its own parts contradict each other.

    It looks at what must hold together; below `any` and `not` everything is taken to be possible.
    """
    wanted: dict[str, set[Value]] = {}
    low: dict[str, int] = {}
    high: dict[str, int] = {}
    for part in _together(condition):
        match part:
            case OneOf(name, values) if FIELDS[name] != "texts":
                wanted[name] = wanted[name] & set(values) if name in wanted else set(values)
            case Compared(name, "eq", value) if FIELDS[name] != "texts":
                wanted[name] = wanted[name] & {value} if name in wanted else {value}
            case Compared(name, comparison, int(value)):
                if comparison in ("ge", "gt"):
                    low[name] = max(low.get(name, value), value + (comparison == "gt"))
                elif comparison in ("le", "lt"):
                    high[name] = min(high.get(name, value), value - (comparison == "lt"))
            case _:
                continue
    if any(not values for values in wanted.values()) or any(low[name] > high[name] for name in low.keys() & high):
        return False
    return all(
        any(isinstance(v, int) and low.get(name, v) <= v <= high.get(name, v) for v in wanted[name])
        for name in wanted.keys() & (low.keys() | high.keys())
    )


def _together(condition: Condition) -> list[Condition]:
    if isinstance(condition, AllOf):
        return [part for each in condition.parts for part in _together(each)]
    return [condition]
