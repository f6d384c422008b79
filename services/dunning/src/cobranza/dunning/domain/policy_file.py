"""Turns a policy file into a typed policy, or into all of its faults at once.

The schema is `policy.Policy`: a file is read by the annotations of its fields, and what concerns several
keys together is checked by `policy_rules`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from datetime import date
from decimal import Decimal
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cobranza.contracts.money import EXPONENTS, checked_amount, decimal_from_text, to_minor
from cobranza.dunning.domain.condition import (
    COMPARISONS,
    FIELDS,
    OF_CUSTOMER,
    AllOf,
    Always,
    AnyOf,
    Compared,
    Comparison,
    Condition,
    Not,
    OneOf,
    Value,
)
from cobranza.dunning.domain.document import (
    COMPANY_KEYS,
    Fault,
    Items,
    Node,
    Place,
    Scalar,
    Table,
    did_you_mean,
    fault_at,
    is_preset,
    said,
)
from cobranza.dunning.domain.policy import (
    COMMON_KEYS,
    KIND_KEYS,
    Amount,
    CurrencyCode,
    Percent,
    Policy,
    Several,
    Step,
    Whole,
    Word,
    ZoneName,
)
from cobranza.dunning.domain.policy_rules import NOTHING_KNOWN, Entry, Known, Rules, not_checked

_WHOLE: Final = re.compile(r"-?(0|[1-9][0-9]{0,8})", re.ASCII)
_PERCENT: Final = re.compile(r"(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
_FLAGS: Final[Mapping[str, bool]] = MappingProxyType({"true": True, "yes": True, "false": False, "no": False})
_DEEPEST_CONDITION: Final = 3
_MOST_NUMBER: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Report:
    """What checking a file found, in line order.

    Args:
        policy: None when there is an error. Of a preset it has no company: fill it before it is used.
        not_checked: codes for which there was nothing to compare with.
    """

    policy: Policy | None
    faults: tuple[Fault, ...]
    not_checked: tuple[str, ...]

    @property
    def errors(self) -> tuple[Fault, ...]:
        """The faults that are no mere warnings."""
        return tuple(fault for fault in self.faults if not fault.is_warning)


def check(document: Table, known: Known = NOTHING_KNOWN) -> Report:
    """Type the whole document in one pass and compare it with what is known elsewhere.

    Args:
        known: what is loaded and announced; what it leaves out is not checked.
    """
    reader = _Reader(document)
    policy = reader.policy()
    reader.faults += Rules(document, reader.entries, reader.top, known).faults()
    faults = tuple(sorted(set(reader.faults)))
    is_sound = all(fault.is_warning for fault in faults)
    return Report(policy if is_sound else None, faults, not_checked(known))


class _Bad:
    """Stands for a value that could not be read; its fault is noted."""


_BAD: Final = _Bad()


@cache
def _schema(of: type) -> Mapping[str, tuple[Any, bool]]:
    """The keys of a table: what each holds, and whether it is required."""
    hints = get_type_hints(of, include_extras=True)
    return {
        key.name: (hints[key.name], key.default is MISSING and key.default_factory is MISSING)
        for key in fields(of)
        if not key.metadata.get("computed")
    }


class _Reader:
    """Walks the document once; what cannot be read is noted and left out."""

    def __init__(self, document: Table) -> None:
        self._document = document
        currency = document.get("currency")
        self._currency = currency.text if isinstance(currency, Scalar) and currency.text in EXPONENTS else None
        self.faults: list[Fault] = []
        self.entries: list[Entry] = []
        self.top: Mapping[str, Any] = {}

    def policy(self) -> Policy | None:
        """The typed policy; None when something was not readable."""
        schema = _schema(Policy)
        required = [key for key, (_, is_required) in schema.items() if is_required]
        left_out = COMPANY_KEYS if is_preset(self._document) else ()
        self.top, is_whole = self._keys_of(
            Policy, self._document, "", known=schema, required=[key for key in required if key not in left_out]
        )
        if not is_whole:
            return None
        empty: dict[str, Any] = {key: () if key == "languages" else "" for key in left_out}
        return Policy(**{**empty, **self.top})

    # Tables.

    def _table(self, of: type, node: Node, path: str) -> Any:
        schema = _schema(of)
        if not isinstance(node, Table):
            self._fault(node, "P104", path, f"expected keys {', '.join(schema)}, got {said(node)}")
            return _BAD
        required = [key for key, (_, is_required) in schema.items() if is_required]
        values, is_whole = self._keys_of(of, node, path, known=schema, required=required)
        return of(**values) if is_whole else _BAD

    def _keys_of(
        self, of: type, table: Table, path: str, *, known: Iterable[str], required: Sequence[str]
    ) -> tuple[dict[str, Any], bool]:
        """The values that could be read, and whether all could."""
        allowed = list(known)
        is_whole = self._check_keys(table, path, allowed, required)
        values: dict[str, Any] = {}
        for key, node in table.entries:
            if key.text not in allowed:
                continue
            where = f"{path}.{key.text}" if path else key.text
            value = self._value(_schema(of)[key.text][0], node, where)
            if value is _BAD:
                is_whole = False
            else:
                values[key.text] = value
        return values, is_whole

    def _check_keys(self, table: Table, path: str, known: Sequence[str], required: Sequence[str]) -> bool:
        """Unknown keys, and required ones that are missing; a misspelt required key is told once."""
        present = {key.text for key, _ in table.entries}
        meant: set[str] = set()
        is_whole = True
        for key, _ in table.entries:
            if key.text in known:
                continue
            is_whole = False
            nearest = difflib.get_close_matches(key.text[:64], [k for k in known if k not in present], n=1)
            meant.update(nearest)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            self._note(key.place, "P102", path or key.text[:60], f"unknown key {key.text[:60]!r}{hint}")
        for name in required:
            if name not in present:
                is_whole = False
                if name in meant:
                    continue
                if path.endswith(".repeat") and name == "max":
                    self._note(table.place, "P207", path, "a repeat without 'max' never ends")
                else:
                    self._note(table.place, "P103", path or name, f"key {name!r} is missing")
        return is_whole

    def _step(self, node: Node, place: int) -> Any:
        if not isinstance(node, Table):
            self._fault(node, "P104", f"steps[{place}]", f"expected a step, got {said(node)}")
            return _BAD
        named = node.get("id")
        label = named.text[:64] if isinstance(named, Scalar) and named.text else str(place)
        path = f"steps[{label}]"
        kind = node.get("kind")
        of_kind = KIND_KEYS.get(kind.text) if isinstance(kind, Scalar) else None
        if of_kind is None:
            # The kind is told as wrong or missing; what it would allow is not known.
            known, required = list(_schema(Step)), ["id", "offset", "kind"]
        else:
            known, required = [*COMMON_KEYS, *of_kind[0], *of_kind[1]], ["id", "offset", "kind", *of_kind[0]]
        values, is_whole = self._keys_of(Step, node, path, known=known, required=required)
        entry = Entry(place, label, path, node, values)
        self.entries.append(entry)
        return replace(Step(**values), position=place) if is_whole else _BAD

    # Values.

    def _value(self, hint: Any, node: Node, path: str) -> Any:
        origin, args = get_origin(hint), get_args(hint)
        if origin in (Union, UnionType):
            if Always in args:
                return self._condition(node, path, depth=1)
            return self._value(next(arg for arg in args if arg is not NoneType), node, path)
        if origin is Annotated:
            return self._marked(args[0], args[1], node, path)
        if origin is Literal:
            return self._choice(node, path, args)
        if origin is tuple:
            return self._list(args[0], Several(0, 20, "a list"), node, path)
        if hint is bool:
            return self._choice(node, path, ("true", "false"), _FLAGS.get)
        if hint is date:
            return self._date(node, path)
        if is_dataclass(hint):
            return self._table(cast("type", hint), node, path)
        return self._map(args[1], node, path)

    def _marked(self, hint: Any, mark: Any, node: Node, path: str) -> Any:
        match mark:
            case Whole(least, most):
                return self._whole(node, path, least, most)
            case Word(pattern, expected):
                return self._word(node, path, pattern, expected)
            case Amount():
                return self._amount(node, path)
            case Percent():
                if isinstance(node, Scalar) and _PERCENT.fullmatch(node.text):
                    return Decimal(node.text)
                return self._fault(node, "P104", path, f"expected a percent 0 to 100, got {said(node)}")
            case CurrencyCode():
                if self._currency is not None:
                    return self._currency
                return self._fault(node, "P104", path, f"expected an ISO 4217 currency such as MXN, got {said(node)}")
            case ZoneName():
                return self._zone(node, path)
            case _:
                return self._list(get_args(hint)[0], mark, node, path)

    def _list(self, hint: Any, bounds: Several, node: Node, path: str) -> Any:
        if not isinstance(node, Items) or not bounds.least <= len(node.items) <= bounds.most:
            return self._fault(node, "P104", path, f"expected {bounds.expected}, got {said(node)}")
        read = [
            self._step(item, place) if hint is Step else self._value(hint, item, f"{path}[{place}]")
            for place, item in enumerate(node.items, start=1)
        ]
        return _BAD if _BAD in read else tuple(read)

    def _map(self, hint: Any, node: Node, path: str) -> Any:
        if not isinstance(node, Table):
            return self._fault(node, "P104", path, f"expected names and their values, got {said(node)}")
        read: dict[str, Any] = {}
        is_whole = True
        for key, entry in node.entries:
            if not _NAME.fullmatch(key.text):
                self._note(key.place, "P104", path, f"expected a name of a-z, 0-9, _ and -, got {key.text[:60]!r}")
                is_whole = False
                continue
            value = self._value(hint, entry, f"{path}.{key.text}")
            read[key.text] = value
            is_whole = is_whole and value is not _BAD
        return MappingProxyType(read) if is_whole else _BAD

    def _word(self, node: Node, path: str, pattern: str, expected: str) -> Any:
        if isinstance(node, Scalar) and re.fullmatch(pattern, node.text):
            return node.text
        return self._fault(node, "P104", path, f"expected {expected}, got {said(node)}")

    def _whole(self, node: Node, path: str, least: int, most: int) -> Any:
        if isinstance(node, Scalar) and _WHOLE.fullmatch(node.text) and least <= int(node.text) <= most:
            return int(node.text)
        return self._fault(node, "P104", path, f"expected a whole number {least} to {most}, got {said(node)}")

    def _amount(self, node: Node, path: str) -> Any:
        text = node.text if isinstance(node, Scalar) else ""
        try:
            amount = decimal_from_text(text)
        except ValueError:
            return self._fault(node, "P105", path, f"expected an amount such as 200.00, got {said(node)}")
        if amount < 0:
            return self._fault(node, "P105", path, f"expected zero or more, got {text[:60]!r}")
        if self._currency is None:
            return 0
        if amount != round(amount, EXPONENTS[self._currency]):
            places = EXPONENTS[self._currency]
            return self._fault(
                node, "P105", path, f"{self._currency} has {places} decimal{'s' * (places != 1)}, got {text[:60]!r}"
            )
        try:
            return to_minor(checked_amount(amount, self._currency), self._currency)
        except ValueError as error:
            return self._fault(node, "P105", path, str(error))

    def _zone(self, node: Node, path: str) -> Any:
        text = node.text if isinstance(node, Scalar) else ""
        try:
            if re.fullmatch(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,3}", text):
                return ZoneInfo(text).key
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
        return self._fault(node, "P104", path, f"expected a time zone such as America/Mexico_City, got {said(node)}")

    def _date(self, node: Node, path: str) -> Any:
        text = node.text if isinstance(node, Scalar) else ""
        try:
            if _DATE.fullmatch(text):
                return date.fromisoformat(text)
        except ValueError:
            pass
        return self._fault(node, "P104", path, f"expected a date such as 2027-01-01, got {said(node)}")

    def _choice(self, node: Node, path: str, choices: Sequence[str], read: Callable[[str], Any] | None = None) -> Any:
        text = node.text if isinstance(node, Scalar) else ""
        value = read(text) if read is not None else (text if text in choices else None)
        if value is not None:
            return value
        return self._fault(
            node, "P104", path, f"expected {' or '.join(choices)}, got {said(node)}{did_you_mean(text, choices)}"
        )

    # Conditions.

    def _condition(self, node: Node, path: str, *, depth: int) -> Any:
        if not isinstance(node, Table):
            return self._fault(node, "P104", path, f"expected fields and what they must be, got {said(node)}")
        if depth > _DEEPEST_CONDITION:
            return self._fault(node, "P104", path, f"nested deeper than {_DEEPEST_CONDITION} levels")
        self._check_keys(node, path, [*FIELDS, "any", "not"], ())
        parts: list[Any] = []
        for key, value in node.entries:
            where = f"{path}.{key.text[:60]}"
            if key.text == "any":
                parts.append(self._any_of(value, where, depth=depth))
            elif key.text == "not":
                part = self._condition(value, where, depth=depth + 1)
                parts.append(_BAD if part is _BAD else Not(part))
            elif key.text in FIELDS:
                if path.startswith("applies_to") and key.text not in OF_CUSTOMER:
                    parts.append(self._fault(key, "P104", where, "a policy is chosen by the customer alone"))
                parts += self._asked(key.text, value, where)
            else:
                parts.append(_BAD)
        if _BAD in parts:
            return _BAD
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts)) if parts else Always()

    def _any_of(self, node: Node, path: str, *, depth: int) -> Any:
        if not isinstance(node, Items) or not node.items:
            return self._fault(node, "P104", path, f"expected a list of conditions, got {said(node)}")
        read = [
            self._condition(item, f"{path}[{place}]", depth=depth + 1) for place, item in enumerate(node.items, start=1)
        ]
        return _BAD if _BAD in read else AnyOf(cast("tuple[Condition, ...]", tuple(read)))

    def _asked(self, name: str, node: Node, path: str) -> list[Any]:
        match node:
            case Scalar():
                value = self._operand(name, node, path)
                return [_BAD if value is _BAD else OneOf(name, (value,))]
            case Items(items) if items:
                values = [self._operand(name, item, path) for item in items]
                return [_BAD if _BAD in values else OneOf(name, tuple(values))]
            case Table(entries) if entries:
                ordered = FIELDS[name] in ("number", "amount")
                known: Sequence[Comparison] = COMPARISONS if ordered else COMPARISONS[:2]
                if not self._check_keys(node, path, known, ()):
                    return [_BAD]
                read: list[Any] = []
                for key, value_node in entries:
                    value = self._operand(name, value_node, f"{path}.{key.text}")
                    read.append(
                        _BAD if value is _BAD else Compared(name, cast("Comparison", key.text), cast("Value", value))
                    )
                return read
            case _:
                return [self._fault(node, "P104", path, f"expected a value, a list or a comparison, got {said(node)}")]

    def _operand(self, name: str, node: Node, path: str) -> Any:
        match FIELDS[name]:
            case "amount":
                return self._amount(node, path)
            case "number":
                return self._whole(node, path, -_MOST_NUMBER, _MOST_NUMBER)
            case "flag":
                return self._choice(node, path, ("true", "false"), _FLAGS.get)
            case "text" | "texts":
                if isinstance(node, Scalar) and _TEXT.fullmatch(node.text):
                    return node.text
                return self._fault(node, "P104", path, f"expected a word, got {said(node)}")

    def _fault(self, node: Node, code: str, key: str, text: str) -> _Bad:
        self._note(node.place, code, key, text)
        return _BAD

    def _note(self, place: Place, code: str, key: str, text: str) -> None:
        self.faults.append(fault_at(place, code, key, text))
