"""Plays a policy file over a timeline of published events; needs no broker and no database."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final, cast

from pydantic import ValidationError

from cobranza.chassis.calendars import country_calendar
from cobranza.contracts import identifiers, invoicing, payments, topics
from cobranza.contracts.money import decimal_from_text
from cobranza.contracts.payloads import Payload
from cobranza.dunning import gateways
from cobranza.dunning.domain.document import Items, Node, Scalar, Table, did_you_mean, to_plain
from cobranza.dunning.domain.errors import TimelineRefusedError
from cobranza.dunning.domain.ladder import Ladder
from cobranza.dunning.domain.policy import Policy
from cobranza.dunning.domain.simulation import Assumption, DatedFact, Evaluated, simulate
from cobranza.dunning.use_cases.policies import require_calendar

#: Days of one simulation.
MOST_DAYS: Final = 3660
_ASSUMPTIONS: Final = ("nothing", "delivered_and_approved_same_day")
_ENTRY_KEYS: Final = ("on", "type", "data")
#: Ids of what a timeline does not name are made from these.
_NAMESPACE: Final = uuid.UUID("5f1a0c5e-8a0a-5d0e-9c3a-7d1f4b2e6a90")
#: Fields that hold an amount with its currency; a bare amount is of the policy's currency.
_MONEY: Final = frozenset(
    {"amount", "payable", "paid", "stopped", "returning", "claimed", "total", "waived", "open_total", "refunded"}
)


@dataclass(frozen=True, slots=True)
class Timeline:
    """Dated facts, and what is assumed of everything that is asked for."""

    facts: tuple[DatedFact, ...]
    assume: Assumption


def run(policy: Policy, source: str, *, first: date, last: date) -> list[Evaluated]:
    """Play the policy over a timeline.

    Args:
        source: YAML list, or JSON lines.

    Raises:
        TimelineRefusedError: the timeline has faults; or the days are not in order, or too many.
        PolicyRefusedError: there is no such calendar.
    """
    if not 0 <= (last - first).days < MOST_DAYS:
        raise TimelineRefusedError(f"expected --from before --to and at most {MOST_DAYS} days, got {first} to {last}")
    require_calendar(policy.calendar)
    timeline = read(policy, source)
    ladder = Ladder(policy, country_calendar(policy.calendar[:2].upper()))
    return simulate(ladder, timeline.facts, first=first, last=last, assume=timeline.assume)


def read(policy: Policy, source: str) -> Timeline:
    """The facts of a timeline, each checked as the event it is.

    Raises:
        TimelineRefusedError: with every fault as `line:column text`.
    """
    reader = _Reader(policy)
    faults: list[str] = []
    facts: list[_Fact] = []
    assume: Assumption = "nothing"
    for offset, entry in _entries(source, faults):
        try:
            named = entry.get("assume")
            if named is not None:
                assume = reader.assumption(named)
            else:
                facts += reader.facts(entry)
        except _EntryError as fault:
            faults.append(f"{fault.place.line + offset}:{fault.place.column} {fault}")
    if faults:
        raise TimelineRefusedError("\n".join(faults), faults=faults)
    stated = {
        (fact.told.receivable_id, fact.on)
        for fact in facts
        if isinstance(fact.told, payments.ReceivableChanged) and not fact.of_invoice
    }
    # A balance that the timeline states the same day says more than the invoice does.
    kept = [f for f in facts if not (f.of_invoice and (getattr(f.told, "receivable_id", None), f.on) in stated)]
    return Timeline(tuple(DatedFact(fact.on, fact.told) for fact in kept), assume)


class _EntryError(Exception):
    def __init__(self, node: Node, text: str) -> None:
        self.place = node.place
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class _Fact:
    """A fact; `of_invoice` when it is the balance that an invoice begins with."""

    on: date
    told: Payload
    of_invoice: bool = False


def _entries(source: str, faults: list[str]) -> Iterator[tuple[int, Table]]:
    """Each entry, with the number of lines before the document it stands in."""
    lines = source.splitlines()
    documents: Iterable[tuple[int, str]] = [(0, source)]
    if source.lstrip().startswith("{") and len([line for line in lines if line.strip()]) > 1:
        documents = [(number, line) for number, line in enumerate(lines) if line.strip()]
    for offset, text in documents:
        node, found = gateways.parse_any(text)
        faults += [f"{fault.place_line + offset}:{fault.place_column} {fault.text}" for fault in found]
        nodes: Sequence[Node] = node.items if isinstance(node, Items) else (node,)
        for entry in nodes if not found else ():
            if isinstance(entry, Table):
                yield offset, entry
            else:
                faults.append(
                    f"{entry.place.line + offset}:{entry.place.column} expected an event with on, type and data"
                )


class _Reader:
    """Turns entries into events; what an event leaves out and the timeline implies is filled in."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._types = {kind.split(".")[2]: kind for kind in topics.PAYLOADS if kind.startswith("cobranza.")}
        self._ledger: dict[str, dict[str, Any]] = {}

    def assumption(self, node: Node) -> Assumption:
        text = node.text if isinstance(node, Scalar) else ""
        if text not in _ASSUMPTIONS:
            raise _EntryError(
                node, f"assume: expected {' or '.join(_ASSUMPTIONS)}, got {text!r}{did_you_mean(text, _ASSUMPTIONS)}"
            )
        return cast("Assumption", text)

    def facts(self, entry: Table) -> list[_Fact]:
        for key, _ in entry.entries:
            if key.text not in _ENTRY_KEYS:
                raise _EntryError(key, f"unknown key {key.text!r}{did_you_mean(key.text, _ENTRY_KEYS)}")
        on = self._on(entry)
        kind = self._kind(entry)
        data = entry.get("data") or Table(())
        if not isinstance(data, Table):
            raise _EntryError(data, "data: expected the event's fields")
        values = cast("dict[str, Any]", to_plain(data))
        told = self._typed(kind, self._filled(kind, values, on), data)
        facts = [_Fact(on, told)]
        if isinstance(told, invoicing.InvoiceIssued):
            facts += [_Fact(on, balance, of_invoice=True) for balance in self._balances(told, on)]
        return facts

    def _on(self, entry: Table) -> date:
        node = entry.get("on")
        try:
            if isinstance(node, Scalar):
                return date.fromisoformat(node.text)
        except ValueError:
            pass
        raise _EntryError(node or entry, "on: expected the business date on which it is known, such as 2027-01-14")

    def _kind(self, entry: Table) -> str:
        node = entry.get("type")
        text = node.text if isinstance(node, Scalar) else ""
        kind = self._types.get(text, text)
        if kind not in topics.PAYLOADS:
            raise _EntryError(
                node or entry, f"type: expected an event type, got {text!r}{did_you_mean(text, sorted(self._types))}"
            )
        return kind

    def _typed(self, kind: str, values: Mapping[str, Any], data: Table) -> Payload:
        try:
            return topics.PAYLOADS[kind].model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            node: Node = data
            for part in first["loc"]:
                inner = node.get(str(part)) if isinstance(node, Table) else None
                if isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
                    inner = node.items[part]
                node = inner or node
            where = ".".join(str(part) for part in first["loc"])
            raise _EntryError(node, f"{kind.split('.')[2]}: {where}: {first['msg']}") from None

    # What is filled in.

    def _filled(self, kind: str, given: dict[str, Any], on: date) -> dict[str, Any]:
        payload = topics.PAYLOADS[kind]
        values = {key: self._money(key, self._lines(value), payload) for key, value in given.items()}
        number = values.get("number")
        if kind.endswith(".invoice-issued.v1"):
            self._invoice(values, on)
        if payload is payments.ReceivableChanged:
            self._receivable(values, on)
        for name, field in payload.model_fields.items():
            if name in values or not field.is_required():
                continue
            values[name] = self._implied(name, values, on, number)
        return {name: value for name, value in values.items() if value is not None}

    def _implied(self, name: str, values: Mapping[str, Any], on: date, number: object) -> Any:
        """What a field that is left out must mean in a timeline of one company."""
        match name:
            case "company":
                return self._policy.company or "company"
            case "customer":
                return "C-1"
            case "currency":
                return self._policy.currency
            case "receivable_id" if number is not None:
                return self._receivable_id(str(number))
            case "invoice_id" if number is not None:
                return self._invoice_id(str(number))
            case "cause":
                return "payment-received"
            case "purpose":
                return "dunning"
            case "channel":
                return "email"
            case "delivery":
                return "sandbox"
            case "outcome":
                return "known"
            case "external":
                return {"system": "timeline", "id": str(number or name)}
            case "version" | "revision" | "attempt" | "run":
                return 1
            case "lines":
                return [
                    {
                        "receivable_id": known["receivable_id"],
                        "open": self._amount(known),
                        "claimed": self._amount(known),
                    }
                    for known in self._ledger.values()
                ]
            case "name" | "by" | "captured_by" | "number":
                return "timeline"
            case "country":
                return "MX"
            case "language":
                return self._policy.languages[0] if self._policy.languages else "es"
            case "zone":
                return self._policy.timezone or "UTC"
            case "found":
                return {"open_count": 0, "open_total": {"amount": "0", "currency": self._policy.currency}}
            case _ if name.endswith("_on"):
                return on.isoformat()
            case _ if name.endswith("_at"):
                return f"{on.isoformat()}T18:00:00Z"
            case _ if name.endswith("_id"):
                return uuid.uuid5(_NAMESPACE, f"{name}|{values.get('customer', 'C-1')}")
            case _:
                return None

    def _lines(self, value: Any) -> Any:
        """Lines may name a receivable by its invoice's number."""
        if not isinstance(value, list):
            return value
        return [
            {
                "receivable_id": self._receivable_id(str(entry["number"])),
                **{k: self._as_money(k, v) for k, v in entry.items() if k != "number"},
            }
            if isinstance(entry, dict) and "number" in entry and "due_on" not in entry
            else {k: self._as_money(k, v) for k, v in entry.items()}
            if isinstance(entry, dict)
            else entry
            for entry in value
        ]

    def _money(self, key: str, value: Any, payload: type[Payload]) -> Any:
        # Balances are bare amounts beside their currency; everything else says its currency.
        return value if payload in (payments.ReceivableChanged, payments.CreditChanged) else self._as_money(key, value)

    def _as_money(self, key: str, value: Any) -> Any:
        if key in _MONEY and isinstance(value, str):
            return {"amount": value, "currency": self._policy.currency}
        return value

    def _invoice(self, values: dict[str, Any], on: date) -> None:
        """An invoice of one instalment may say `due_on` and `payable` alone."""
        values.setdefault("issued_on", on.isoformat())
        due_on = values.pop("due_on", None)
        if "instalments" not in values and due_on is not None and "payable" in values:
            values["instalments"] = [{"number": 1, "due_on": due_on, "amount": values["payable"]}]
        elif "payable" not in values and isinstance(values.get("instalments"), list):
            parts = [entry.get("amount") for entry in values["instalments"] if isinstance(entry, dict)]
            total = sum(map(_decimal, parts), Decimal(0))
            values["payable"] = {"amount": format(total, "f"), "currency": self._policy.currency}

    def _receivable(self, values: dict[str, Any], on: date) -> None:
        """A balance may say what is open alone; the rest stands as it was last told."""
        number = str(values.get("number", "timeline"))
        instalment = int(values.get("instalment", 1)) if str(values.get("instalment", 1)).isdigit() else 1
        key = f"{number}|{instalment}"
        values.setdefault("invoice_id", self._invoice_id(number))
        values["instalment"] = instalment
        values.setdefault("receivable_id", identifiers.receivable_id(self._invoice_id(number), instalment))
        known = self._ledger.get(key, {})
        for name in ("issued", "due_on", "issued_on", "customer", "credited", "written_off"):
            if name in known:
                values.setdefault(name, known[name])
        values.setdefault("credited", "0")
        values.setdefault("written_off", "0")
        values.setdefault("issued", values.get("open", "0"))
        values.setdefault("open", values["issued"])
        if "allocated" not in values:
            parts = [_decimal(values[name]) for name in ("issued", "credited", "written_off", "open")]
            values["allocated"] = format(parts[0] - sum(parts[1:], Decimal(0)), "f")
        values.setdefault("kind", "invoice")
        values.setdefault("cause", "payment-received")
        values.setdefault("effective_on", on.isoformat())
        values.setdefault("recorded_on", on.isoformat())
        values.setdefault("number", number)
        self._ledger[key] = values

    def _balances(self, told: invoicing.InvoiceIssued, on: date) -> list[Payload]:
        """The balances that an invoice begins with, as payments would tell them."""
        balances: list[Payload] = []
        for part in told.instalments:
            values: dict[str, Any] = {
                "customer": told.customer,
                "number": told.number,
                "invoice_id": told.invoice_id,
                "instalment": str(part.number),
                "receivable_id": told.receivable_id(part.number),
                "issued_on": told.issued_on.isoformat(),
                "due_on": part.due_on.isoformat(),
                "issued": format(part.amount.amount, "f"),
                "cause": "invoice-issued",
            }
            self._receivable(values, on)
            filled = {"company": told.company, "currency": part.amount.currency, "version": 1, **values}
            balances.append(payments.ReceivableChanged.model_validate(filled))
        return balances

    def _invoice_id(self, number: str) -> identifiers.InvoiceId:
        company = identifiers.Company(self._policy.company or "company")
        return identifiers.invoice_id(company, identifiers.System("timeline"), identifiers.ExternalId(number))

    def _receivable_id(self, number: str) -> identifiers.ReceivableId:
        return identifiers.receivable_id(self._invoice_id(number), 1)

    def _amount(self, known: Mapping[str, Any]) -> dict[str, str]:
        return {"amount": str(known["open"]), "currency": self._policy.currency}


def _decimal(value: Any) -> Decimal:
    """An amount, or zero for what is none: the event's own check tells that."""
    text = value.get("amount") if isinstance(value, dict) else value
    try:
        return decimal_from_text(text)
    except ValueError:
        return Decimal(0)


def told(evaluated: Sequence[Evaluated], *, as_json: bool) -> Iterator[str]:
    """A simulation line by line: per day what is done, or why nothing is; equal days are told together."""
    if as_json:
        for entry in evaluated:
            yield json.dumps(entry.as_values(), ensure_ascii=False)
        return
    many = len({entry.customer for entry in evaluated}) > 1
    waiting: dict[str, tuple[date, date, str]] = {}
    for entry in evaluated:
        lines = [*_actions(entry)]
        quiet = "" if lines else _quiet(entry)
        since = waiting.get(entry.customer)
        if quiet and since is not None and since[2] == quiet:
            waiting[entry.customer] = (since[0], entry.on, quiet)
            continue
        if since is not None:
            yield _days(since, entry.customer if many else "")
            del waiting[entry.customer]
        if quiet:
            waiting[entry.customer] = (entry.on, entry.on, quiet)
        for line in lines:
            yield f"{entry.on}  {f'{entry.customer}  ' if many else ''}{line}"
    for customer, since in sorted(waiting.items()):
        yield _days(since, customer if many else "")


def _days(since: tuple[date, date, str], customer: str) -> str:
    first, last, text = since
    days = str(first) if first == last else f"{first}…{last.isoformat()[5:]}"
    return f"{days}  {f'{customer}  ' if customer else ''}- {text}"


def _actions(entry: Evaluated) -> Iterator[str]:
    values = entry.as_values()
    for action in values["actions"]:
        what = "proposed for approval: " if action["state"] == "proposed" else ""
        by = "+".join(action["channels"]) or action["effect"] or ""
        items = ", ".join(
            f"{item['number']} {item['amount']}"
            + ("" if item["step"] == action["step"] else f" ({item['step'] or 'listed'})")
            for item in action["items"]
        )
        interest = "; interest is charged" if action["interest"] else ""
        tone = f" {action['tone']}" if action["tone"] else ""
        yield f"{what}{action['step']}  {action['kind']}{f' {by}' if by else ''}{tone}  {action['claimed']}: {items}{interest}"
    for number, step, why in values["skipped"]:
        yield f"skipped {step} for {number}: {why}"
    for step, why in values["closed"]:
        yield f"ended {step}: {why}"
    for by, why in values["undone"]:
        yield f"{by}: {why}"
    for purpose, items in values["told"]:
        yield f"{purpose} notice about {items} item{'s' * (items != 1)}"
    for kind in values["asked"]:
        yield f"task {kind}"


def _quiet(entry: Evaluated) -> str:
    values = entry.as_values()
    reasons = [
        " ".join([reason["code"], *(f"{name}={value}" for name, value in reason["values"].items())])
        for reason in values["reasons"]
    ]
    return f"{values['outcome']}: {'; '.join(reasons) or values['case_state']}"
