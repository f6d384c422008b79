"""What must be true of several keys of a policy file together, and of the file beside what is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from cobranza.dunning.domain.condition import AllOf, Condition, can_hold
from cobranza.dunning.domain.document import (
    Fault,
    Items,
    Node,
    Place,
    Scalar,
    Table,
    did_you_mean,
    digest,
    fault_at,
)
from cobranza.dunning.domain.policy import CONTACTS, HARDNESS, NEED_APPROVAL, ROLES


@dataclass(frozen=True, slots=True)
class Entry:
    """A step as it was read: its table, and the values that could be read."""

    position: int
    label: str
    path: str
    table: Table
    values: Mapping[str, Any]

    def at(self, key: str) -> Place:
        """Where the key is written; the step itself when it is not."""
        return next((name.place for name, _ in self.table.entries if name.text == key), self.table.place)

    def value_at(self, key: str) -> Place:
        """Where the key's value is written; the step itself when it is not."""
        return _place(self.table, key)


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A policy version that is loaded for the company."""

    policy: str
    version: int
    currency: str
    priority: int
    sha256: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class Caps:
    """What law and contact rules allow.

    Args:
        most_fee_percent: of the debt, however small it is.
        first_fee_day: first day past due on which a fee may be booked.
        forbidden_channels: closed by a contact rule.
    """

    most_fee_percent: Decimal | None = None
    first_fee_day: int = 1
    forbidden_channels: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Known:
    """What a file is compared with; None: not known, not checked.

    Args:
        templates: (template, channel, language, tone) in use; a language serves those of the same first part.
        lacking: required content that a (template, channel, language) lacks.
        issued_steps: steps that open cases have been taken to under the version they would leave.
        mapping: the new step of each old one, for a migration.
    """

    calendars: frozenset[str] | None = None
    contact_rules: frozenset[str] | None = None
    interest_rules: frozenset[str] | None = None
    roles: frozenset[str] | None = ROLES
    segments: frozenset[str] | None = None
    scripts: frozenset[str] | None = None
    templates: frozenset[tuple[str, str, str, str]] | None = None
    lacking: Mapping[tuple[str, str, str], Sequence[str]] | None = None
    versions: Sequence[LoadedVersion] | None = None
    issued_steps: frozenset[str] | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    caps: Caps | None = None


NOTHING_KNOWN: Final = Known()


def not_checked(known: Known) -> tuple[str, ...]:
    """Codes for which there was nothing to compare with; of P301 what it is about."""
    missing = {
        "P301 calendar": known.calendars is None,
        "P301 contact rule": known.contact_rules is None,
        "P301 interest rule": known.interest_rules is None,
        "P301 role": known.roles is None,
        "P301 segment": known.segments is None,
        "P301 script": known.scripts is None,
        "P302": known.templates is None,
        "P303": known.lacking is None,
        "P402": known.versions is None,
        "P403": known.versions is None,
        "P404": known.issued_steps is None,
        "P501": known.caps is None,
    }
    return tuple(code for code, is_missing in missing.items() if is_missing)


class Rules:
    """Checks over what could be read of a file; what could not is told already and left alone."""

    def __init__(self, document: Table, entries: Sequence[Entry], top: Mapping[str, Any], known: Known) -> None:
        self._document = document
        self._entries = entries
        self._top = top
        self._known = known
        self._names = [str(entry.values["id"]) for entry in entries if "id" in entry.values]

    def faults(self) -> Iterator[Fault]:
        """Every fault, in no order."""
        yield from self._of_order()
        for entry in self._entries:
            yield from self._of_references(entry)
            if entry.values.get("kind") == "effect":
                yield from self._of_effect(entry)
            yield from self._of_repeat(entry)
            if entry.values.get("roll") == "preceding" and not _is_before_due(entry):
                yield fault_at(
                    entry.at("roll"), "P208", f"{entry.path}.roll", "'preceding' is for steps before the due date"
                )
        yield from self._of_named_steps()
        yield from self._unreachable()
        yield from self._of_gaps_and_tones()
        yield from self._of_names()
        yield from self._of_templates()
        yield from self._of_versions()
        yield from self._of_migration()
        yield from self._of_caps()

    # From the file alone.

    def _of_order(self) -> Iterator[Fault]:
        seen: set[str] = set()
        highest: dict[str, int] = {}
        for entry in self._entries:
            step = entry.values.get("id")
            if step in seen:
                yield fault_at(
                    entry.value_at("id"), "P201", f"{entry.path}.id", "this id is already taken by an earlier step"
                )
            if step is not None:
                seen.add(step)
            offset, base = entry.values.get("offset"), entry.values.get("base", "due")
            if offset is None:
                continue
            if base == "previous":
                if offset < 0:
                    yield fault_at(
                        entry.at("offset"), "P202", f"{entry.path}.offset", f"{offset} is before the previous step"
                    )
                continue
            if base in highest and offset < highest[base]:
                yield fault_at(
                    entry.at("offset"),
                    "P202",
                    f"{entry.path}.offset",
                    f"{offset} after {highest[base]}; steps are written in date order",
                )
            highest[base] = max(highest.get(base, offset), offset)

    def _of_references(self, entry: Entry) -> Iterator[Fault]:
        named = _scalar(entry.table.get("requires"), "issued")
        if named is None:
            return
        key = f"{entry.path}.requires.issued"
        if named.text not in self._names:
            yield self._unknown_step(named, key)
        elif self._position(named.text) >= entry.position:
            what = "itself" if named.text == entry.values.get("id") else f"the later step {named.text!r}"
            yield fault_at(named.place, "P205", key, f"a step cannot require {what}")

    def _of_effect(self, entry: Entry) -> Iterator[Fault]:
        effect = entry.values.get("effect")
        if effect is None:
            return
        requires = entry.table.get("requires")
        present = {key.text for key, _ in requires.entries} if isinstance(requires, Table) else set()
        if requires is None or (isinstance(requires, Table) and not {"issued", "term_days"} <= present):
            missing = [f"'{key}'" for key in ("issued", "term_days") if key not in present]
            place = entry.table.place if requires is None else requires.place
            yield fault_at(place, "P204", entry.path, f"{effect!r} needs 'requires' with {' and '.join(missing)}")
        later = next((known.label for known in self._entries if known.position > entry.position), None)
        if effect == "write_off" and later is not None:
            yield fault_at(
                entry.at("effect"),
                "P204",
                f"{entry.path}.effect",
                f"'write_off' needs the end of the ladder, and {later!r} comes after it",
            )
        if entry.table.get("approval") is None:
            if effect in NEED_APPROVAL:
                yield fault_at(entry.at("effect"), "P206", f"{entry.path}.effect", f"{effect!r} needs 'approval'")
            elif _text(_scalar(self._document.get("cash"), "control_total")) == "off":
                yield fault_at(
                    entry.at("effect"),
                    "P206",
                    f"{entry.path}.effect",
                    f"{effect!r} needs 'approval', because 'cash.control_total' is off",
                )
        yield from self._of_fee(entry, effect)

    def _of_fee(self, entry: Entry, effect: str) -> Iterator[Fault]:
        named = entry.table.get("fee")
        if effect == "fee" and named is None:
            yield fault_at(entry.table.place, "P103", entry.path, "key 'fee' is missing")
        elif effect != "fee" and named is not None:
            yield fault_at(named.place, "P104", f"{entry.path}.fee", f"{effect!r} has no fee")
        if not isinstance(named, Scalar):
            return
        fees = self._document.get("fees")
        codes = [key.text for key, _ in fees.entries] if isinstance(fees, Table) else []
        if named.text not in codes:
            yield fault_at(
                named.place,
                "P301",
                f"{entry.path}.fee",
                f"no fee {named.text[:60]!r} under 'fees'{did_you_mean(named.text, codes)}",
            )

    def _of_repeat(self, entry: Entry) -> Iterator[Fault]:
        repeat = entry.table.get("repeat")
        if repeat is None or entry.values.get("kind") != "notice":
            return
        later = [e.label for e in self._entries if e.position > entry.position and e.values.get("kind") == "notice"]
        if later:
            yield fault_at(
                entry.at("repeat"),
                "P207",
                f"{entry.path}.repeat",
                f"only the last notice repeats, and {later[-1]!r} comes after it",
            )

    def _of_named_steps(self) -> Iterator[Fault]:
        kinds = {entry.values.get("id"): entry.values.get("kind") for entry in self._entries}
        for table, key, allowed, expected in (
            ("catch_up", "first_contact_max", CONTACTS, "a notice or a call"),
            ("interest", "show_from", {"notice"}, "a notice"),
            ("interest", "charge_at", {"notice"}, "a notice"),
        ):
            named = _scalar(self._document.get(table), key)
            if named is None:
                continue
            if named.text not in self._names:
                yield self._unknown_step(named, f"{table}.{key}")
            elif kinds.get(named.text) is not None and kinds[named.text] not in allowed:
                yield fault_at(
                    named.place,
                    "P209",
                    f"{table}.{key}",
                    f"expected {expected}, and {named.text!r} is a step of kind {kinds[named.text]}",
                )

    def _unreachable(self) -> Iterator[Fault]:
        applies_to = self._top.get("applies_to")
        kinds = {entry.values.get("id"): entry.values for entry in self._entries}
        never: set[str] = set()
        for entry in self._entries:
            why = self._never(entry, applies_to, kinds, never)
            if why is not None:
                never.add(str(entry.values.get("id")))
                yield fault_at(entry.table.place, "P401", entry.path, f"this step can never be reached: {why}")

    def _never(
        self, entry: Entry, applies_to: Condition | None, steps: Mapping[Any, Mapping[str, Any]], never: set[str]
    ) -> str | None:
        when: Condition | None = entry.values.get("when")
        if when is not None and not can_hold(when):
            return "its 'when' contradicts itself"
        if when is not None and applies_to is not None and not can_hold(AllOf((applies_to, when))):
            return "its 'when' contradicts 'applies_to'"
        requires = entry.values.get("requires")
        if requires is None or requires.issued not in steps or requires.issued == entry.values.get("id"):
            return None
        required = steps[requires.issued]
        if requires.issued in never:
            return f"it requires {requires.issued!r}, which never is"
        if requires.delivered and required.get("kind") in ("call", "task", "effect"):
            return f"{requires.issued!r} is no notice and cannot be delivered"
        offset, from_offset = entry.values.get("offset"), required.get("offset")
        if offset is None or from_offset is None or not _is_due(entry.values) or not _is_due(required):
            return None
        if offset <= 0 and from_offset + (requires.term_days or 0) + 1 > 0 and from_offset < offset:
            return f"the term after {requires.issued!r} ends after the due date"
        return None

    def _of_gaps_and_tones(self) -> Iterator[Fault]:
        gap = self._top.get("min_gap_days", 3)
        before: Entry | None = None
        hardest: tuple[str, str] | None = None
        for entry in self._entries:
            if entry.values.get("kind") not in CONTACTS:
                continue
            offset = entry.values.get("offset")
            wanted = entry.values.get("min_gap_days", gap)
            if (
                before is not None
                and offset is not None
                and "offset" in before.values
                and before.values.get("base", "due") == entry.values.get("base", "due") != "previous"
                and 0 <= offset - before.values["offset"] < wanted
            ):
                yield fault_at(
                    entry.at("offset"),
                    "W601",
                    f"{entry.path}.offset",
                    f"{offset - before.values['offset']} days after {before.label!r}, and the least gap is {wanted}",
                )
            before = entry
            tone = entry.values.get("tone")
            if tone is None:
                continue
            if hardest is not None and HARDNESS[tone] < HARDNESS[hardest[0]]:
                yield fault_at(
                    entry.at("tone"), "W602", f"{entry.path}.tone", f"{tone} after {hardest[0]} of {hardest[1]!r}"
                )
            else:
                hardest = (tone, entry.label)

    # Beside what is known.

    def _of_names(self) -> Iterator[Fault]:
        known = self._known
        calendar = self._document.get("calendar")
        if known.calendars is not None and isinstance(calendar, Scalar) and calendar.text not in known.calendars:
            yield fault_at(
                calendar.place,
                "P301",
                "calendar",
                f"no calendar {calendar.text[:60]!r}; it begins with a country such as mx",
            )
        rules = self._document.get("contact_rules")
        for node in rules.items if isinstance(rules, Items) else ():
            yield from self._unknown(node, "contact_rules", known.contact_rules, "contact rule")
        yield from self._unknown(
            _scalar(self._document.get("interest"), "rule"), "interest.rule", known.interest_rules, "interest rule"
        )
        yield from self._unknown_segments(self._document.get("applies_to"), "applies_to")
        for entry in self._entries:
            yield from self._unknown_segments(entry.table.get("when"), f"{entry.path}.when")
            for part in ("approval", "task"):
                role = _scalar(entry.table.get(part), "role")
                yield from self._unknown(role, f"{entry.path}.{part}.role", known.roles, "role")
            script = entry.table.get("script")
            yield from self._unknown(script, f"{entry.path}.script", known.scripts, "script")
        end = self._document.get("end")
        task = end.get("task") if isinstance(end, Table) else None
        yield from self._unknown(_scalar(task, "role"), "end.task.role", known.roles, "role")

    def _unknown_segments(self, node: Node | None, path: str) -> Iterator[Fault]:
        if self._known.segments is None:
            return
        match node:
            case Table(entries):
                for key, value in entries:
                    if key.text == "segment":
                        for scalar in _scalars(value):
                            yield from self._unknown(scalar, f"{path}.segment", self._known.segments, "segment")
                    elif key.text in ("any", "not"):
                        yield from self._unknown_segments(value, f"{path}.{key.text}")
            case Items(items):
                for item in items:
                    yield from self._unknown_segments(item, path)
            case _:
                return

    def _of_templates(self) -> Iterator[Fault]:
        languages: tuple[str, ...] = self._top.get("languages", ())
        for entry in self._entries:
            template, tone = entry.values.get("template"), entry.values.get("tone")
            if entry.values.get("kind") != "notice" or template is None or tone is None:
                continue
            channels = [entry.values.get("channel"), *entry.values.get("also", ()), *entry.values.get("fallback", ())]
            for channel in filter(None, channels):
                for language in languages:
                    where = f"{channel} in {language}"
                    if not self._is_written(template, channel, language, tone):
                        yield fault_at(
                            entry.value_at("template"),
                            "P302",
                            f"{entry.path}.template",
                            f"no template {template!r} for {where}, tone {tone}",
                        )
                    for content in (self._known.lacking or {}).get((template, channel, language), ()):
                        yield fault_at(
                            entry.value_at("template"),
                            "P303",
                            f"{entry.path}.template",
                            f"template {template!r} for {where} lacks {content}",
                        )

    def _is_written(self, template: str, channel: str, language: str, tone: str) -> bool:
        known = self._known.templates
        return known is None or any(
            (template, channel, tone) == (other, by, spoken) and language.partition("-")[0] == tag.partition("-")[0]
            for other, by, tag, spoken in known
        )

    def _of_versions(self) -> Iterator[Fault]:
        policy, version, currency = (self._top.get(key) for key in ("policy", "version", "currency"))
        if self._known.versions is None or policy is None or version is None or currency is None:
            return
        own = [loaded for loaded in self._known.versions if loaded.policy == policy]
        place = _place(self._document, "version")
        same = next((loaded for loaded in own if loaded.version == version), None)
        if same is not None:
            if same.sha256 != digest(self._document):
                yield fault_at(
                    place, "P403", "version", f"version {version} is loaded with other content; give it the next number"
                )
        elif own and version != max(loaded.version for loaded in own) + 1:
            newest = max(loaded.version for loaded in own)
            yield fault_at(place, "P403", "version", f"expected {newest + 1} after {newest}, got {version}")
        priority = self._top.get("priority", 0)
        for other in self._known.versions:
            if other.is_active and (other.currency, other.priority) == (currency, priority) and other.policy != policy:
                yield fault_at(
                    _place(self._document, "priority"),
                    "P402",
                    "priority",
                    f"{priority} is taken by the active policy {other.policy!r} in {currency}",
                )

    def _of_migration(self) -> Iterator[Fault]:
        for step in sorted(self._known.issued_steps or ()):
            target = self._known.mapping.get(step, step)
            if target not in self._names:
                yield fault_at(
                    _place(self._document, "steps"),
                    "P404",
                    "steps",
                    f"open cases were taken to {step!r}, and the migration says no step of this version for it",
                )

    def _of_caps(self) -> Iterator[Fault]:
        caps = self._known.caps
        if caps is None:
            return
        fees: Mapping[str, Any] = self._top.get("fees", {})
        written = self._document.get("fees")
        for code, fee in fees.items():
            node = written.get(code) if isinstance(written, Table) else None
            most = caps.most_fee_percent
            if most is not None and isinstance(node, Table) and fee.percent > most:
                yield fault_at(
                    _place(node, "percent"),
                    "P501",
                    f"fees.{code}.percent",
                    f"the law allows {most.normalize():f} % of the debt, got {fee.percent.normalize():f}",
                )
        for entry in self._entries:
            if entry.values.get("effect") == "fee" and entry.values.get("offset", 0) < caps.first_fee_day:
                yield fault_at(
                    entry.at("offset"),
                    "P501",
                    f"{entry.path}.offset",
                    f"a fee is allowed from day {caps.first_fee_day} past due",
                )
            for key in ("channel", "also", "fallback"):
                for scalar in _scalars(entry.table.get(key)):
                    if scalar.text in caps.forbidden_channels:
                        yield fault_at(
                            scalar.place, "P501", f"{entry.path}.{key}", f"a contact rule forbids {scalar.text!r}"
                        )

    def _unknown(self, node: Node | None, path: str, known: Iterable[str] | None, what: str) -> Iterator[Fault]:
        if known is not None and isinstance(node, Scalar) and node.text not in known:
            yield fault_at(
                node.place, "P301", path, f"no {what} {node.text[:60]!r}{did_you_mean(node.text, sorted(known))}"
            )

    def _unknown_step(self, named: Scalar, key: str) -> Fault:
        return fault_at(named.place, "P203", key, f"no step {named.text[:60]!r}{did_you_mean(named.text, self._names)}")

    def _position(self, step: str) -> int:
        return next(entry.position for entry in self._entries if entry.values.get("id") == step)


def _scalar(node: Node | None, key: str) -> Scalar | None:
    value = node.get(key) if isinstance(node, Table) else None
    return value if isinstance(value, Scalar) else None


def _scalars(node: Node | None) -> Iterator[Scalar]:
    match node:
        case Scalar():
            yield node
        case Items(items):
            yield from (item for item in items if isinstance(item, Scalar))
        case _:
            return


def _text(node: Scalar | None) -> str | None:
    return None if node is None else node.text


def _place(document: Table, key: str) -> Place:
    node = document.get(key)
    return document.place if node is None else node.place


def _is_due(values: Mapping[str, Any]) -> bool:
    return bool(values.get("base", "due") == "due" and values.get("unit", "calendar") == "calendar")


def _is_before_due(entry: Entry) -> bool:
    offset = entry.values.get("offset")
    return offset is None or offset < 0 or entry.values.get("base", "due") == "issue"
