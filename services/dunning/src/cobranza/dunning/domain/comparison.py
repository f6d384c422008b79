"""What two policies would have done, counted side by side; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

from cobranza.contracts.money import to_decimal
from cobranza.dunning.domain.decision import Action, Decision
from cobranza.dunning.domain.policy import CONTACTS
from cobranza.dunning.domain.simulation import Evaluated

#: What is counted: steps by kind, effects by name, and what a person must approve first.
COUNTS: Final = (
    "notice", "call", "task", "fee", "interest", "credit_hold", "suspend_service", "credit_bureau", "agency", "legal",
    "write_off", "approval",
)  # fmt: skip
#: A row per day, segment and thing that is counted.
COLUMNS: Final = ("day", "segment", "count", "policy", "against", "difference")

_SAMPLES: Final = 20
#: Cases that differ in the same things are shown so often, so that rare differences are shown too.
_SAMPLES_ALIKE: Final = 3
_ACTS_IN_SAMPLE: Final = 30
_CONTACTS_DECIMALS: Final = Decimal("0.001")


@dataclass(frozen=True, slots=True)
class Act:
    """One thing done to a debtor; amounts in minor units."""

    on: date
    step: str
    counts: tuple[str, ...]
    channels: tuple[str, ...]
    tone: str | None
    items: tuple[tuple[str, int], ...]
    claimed: int
    currency: str

    def as_values(self) -> dict[str, Any]:
        """As a program reads it."""
        return {
            "on": self.on.isoformat(),
            "step": self.step,
            "counts": list(self.counts),
            "channels": list(self.channels),
            "tone": self.tone,
            "items": [{"number": number, "amount": self._amount(minor)} for number, minor in self.items],
            "claimed": self._amount(self.claimed),
        }

    def _amount(self, minor: int) -> str:
        return f"{to_decimal(minor, self.currency):f} {self.currency}"


@dataclass(slots=True)
class Tally:
    """What one policy did, by day, segment and what is counted; contacts by customer."""

    acts: Counter[tuple[date, str, str]] = field(default_factory=Counter)
    contacts: Counter[str] = field(default_factory=Counter)

    def add(self, customer: str, segment: str, acts: Iterable[Act]) -> None:
        """Count what was done to a customer."""
        for act in acts:
            self.acts.update((act.on, segment, count) for count in act.counts)
            # A notice in several channels is one contact.
            self.contacts[customer] += not CONTACTS.isdisjoint(act.counts)

    def of_contacts(self, debtors: int) -> dict[str, Any]:
        """Contacts per debtor."""
        mean = Decimal(self.contacts.total()) / debtors if debtors else Decimal(0)
        return {"mean": str(mean.quantize(_CONTACTS_DECIMALS)), "max": max(self.contacts.values(), default=0)}


@dataclass(slots=True)
class BackTest:
    """Two policies over the same accounts.

    Args:
        assumes: what the figures rest on, told with them.
        debtors: accounts that at least one of the policies is for.
        others: accounts that neither is for.
        differing: debtors to whom the two do not do the same.
    """

    assumes: Sequence[str]
    debtors: int = 0
    others: int = 0
    differing: int = 0
    policy: Tally = field(default_factory=Tally)
    against: Tally = field(default_factory=Tally)
    samples: list[dict[str, Any]] = field(default_factory=list)
    _alike: Counter[tuple[frozenset[str], frozenset[str]]] = field(default_factory=Counter)

    def add(
        self, customer: str, segment: str, played: Sequence[Evaluated] | None, against: Sequence[Evaluated] | None
    ) -> None:
        """Count one account.

        Args:
            segment: the customer's; empty: not known.
            played: what the policy decided day by day; None: it is not for this account.
            against: the same of the other policy.
        """
        if played is None and against is None:
            self.others += 1
            return
        one, other = _acts(played or ()), _acts(against or ())
        self.debtors += 1
        self.policy.add(customer, segment, one)
        self.against.add(customer, segment, other)
        if one != other:
            self.differing += 1
            self._sample(customer, segment, one, other)

    def as_values(self) -> dict[str, Any]:
        """The comparison as a program reads it; a difference is the policy less what it is compared with."""
        keys = sorted({*self.policy.acts, *self.against.acts}, key=lambda key: (*key[:2], COUNTS.index(key[2])))
        days = [
            {
                "day": on.isoformat(),
                "segment": segment,
                "count": count,
                **_sides(self.policy.acts[on, segment, count], self.against.acts[on, segment, count]),
            }
            for on, segment, count in keys
        ]
        return {
            "debtors": self.debtors,
            "others": self.others,
            "differing": self.differing,
            "totals": summed(days, by=()),
            "contacts": {
                "policy": self.policy.of_contacts(self.debtors),
                "against": self.against.of_contacts(self.debtors),
            },
            "days": days,
            "samples": self.samples,
            "assumes": list(self.assumes),
        }

    def _sample(self, customer: str, segment: str, one: list[Act], other: list[Act]) -> None:
        only_one, only_other = [act for act in one if act not in other], [act for act in other if act not in one]
        kinds = (
            frozenset(count for act in only_one for count in act.counts),
            frozenset(count for act in only_other for count in act.counts),
        )
        if len(self.samples) == _SAMPLES or self._alike[kinds] == _SAMPLES_ALIKE:
            return
        self._alike[kinds] += 1
        self.samples.append(
            {
                "customer": customer,
                "segment": segment,
                "only_policy": [act.as_values() for act in only_one[:_ACTS_IN_SAMPLE]],
                "only_against": [act.as_values() for act in only_other[:_ACTS_IN_SAMPLE]],
            }
        )


def rows_of(days: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The rows of a comparison as a spreadsheet keeps them, in the order of `COLUMNS`."""
    return [(date.fromisoformat(row["day"]), *(row[column] for column in COLUMNS[1:])) for row in days]


def summed(days: Iterable[dict[str, Any]], *, by: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a comparison added up by some of its columns and by what is counted, in order.

    Args:
        by: `day`, `segment`, both or none.
    """
    sums: dict[tuple[str, ...], list[int]] = {}
    for row in days:
        found = sums.setdefault((*(row[column] for column in by), row["count"]), [0, 0])
        found[0] += row["policy"]
        found[1] += row["against"]
    ordered = sorted(sums.items(), key=lambda entry: (entry[0][:-1], COUNTS.index(entry[0][-1])))
    return [{**dict(zip((*by, "count"), key, strict=True)), **_sides(one, other)} for key, (one, other) in ordered]


def _sides(one: int, other: int) -> dict[str, int]:
    return {"policy": one, "against": other, "difference": one - other}


def _acts(played: Iterable[Evaluated]) -> list[Act]:
    """What was done, in order."""
    return [
        _act(entry, action, entry.decision)
        for entry in played
        if not entry.repeats
        for action in entry.decision.actions
    ]


def _act(entry: Evaluated, action: Action, decision: Decision) -> Act:
    claimable = {item.receivable_id: (item.number, item.claimable) for item in decision.items}
    return Act(
        on=entry.on,
        step=action.step.id,
        counts=_counts(action),
        channels=tuple(channel for channel in (action.step.channel, *action.step.also) if channel is not None),
        tone=action.tone,
        items=tuple(sorted(claimable[line.receivable_id] for line in action.lines)),
        claimed=action.claimed,
        currency=entry.currency,
    )


def _counts(action: Action) -> tuple[str, ...]:
    # What is proposed first is done by the evaluation after its approval.
    if action.approval is not None:
        return ("approval",)
    done = {action.step.effect or action.step.kind}
    if action.charges_interest:
        done.add("interest")
    return tuple(count for count in COUNTS if count in done)
