"""What would happen on one day over all accounts, counted; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cobranza.contracts.money import to_decimal
from cobranza.dunning.domain.decision import Action
from cobranza.dunning.domain.simulation import Evaluated

_CASES: Final = 100


@dataclass(slots=True)
class _Step:
    """How often a step would be taken, and what it would claim, in minor units."""

    actions: int = 0
    items: int = 0
    claimed: int = 0


@dataclass(slots=True)
class DayTotals:
    """A day of all accounts.

    Args:
        assumes: what the figures rest on, told with them.
        accounts: all that were looked at.
        acting: those in which something would be done.
    """

    assumes: Sequence[str]
    accounts: int = 0
    acting: int = 0
    _steps: dict[tuple[str, str, str, str, str, str], _Step] = field(default_factory=dict)
    _reasons: dict[str, dict[str, Any]] = field(default_factory=dict)
    _acting_cases: list[dict[str, Any]] = field(default_factory=list)
    _quiet_cases: list[dict[str, Any]] = field(default_factory=list)

    def add(self, policy: str | None, version: int | None, evaluated: Sequence[Evaluated]) -> None:
        """Count what one account's case would see, and by which policy."""
        self.accounts += 1
        is_acting = any(entry.decision.actions for entry in evaluated)
        self.acting += is_acting
        for entry in evaluated:
            for action in entry.decision.actions:
                self._count(policy, action, entry.currency)
        told = [entry.as_values() for entry in evaluated]
        about = {"customer": evaluated[0].customer, "policy": policy, "version": version}
        if is_acting:
            if len(self._acting_cases) < _CASES:
                self._acting_cases.append({**about, "actions": [a for values in told for a in values["actions"]]})
            return
        reasons = told[0]["reasons"]
        code = reasons[0]["code"] if reasons else ""
        found = self._reasons.setdefault(code, {"code": code, "cases": 0, "example": {**about, "reasons": reasons}})
        found["cases"] += 1
        if len(self._quiet_cases) < _CASES:
            self._quiet_cases.append({**about, "reasons": reasons})

    def as_values(self) -> dict[str, Any]:
        """The day as a program reads it: totals, and the first cases with what is done or why nothing is."""
        return {
            "accounts": self.accounts,
            "acting": self.acting,
            "steps": [
                {
                    "policy": policy,
                    "step": step,
                    "kind": kind,
                    "by": by,
                    "state": state,
                    "cases": counted.actions,
                    "items": counted.items,
                    "claimed": f"{to_decimal(counted.claimed, currency):f} {currency}",
                }
                for (policy, step, kind, by, state, currency), counted in sorted(self._steps.items())
            ],
            "reasons": sorted(self._reasons.values(), key=lambda found: (-found["cases"], found["code"])),
            "acting_cases": self._acting_cases,
            "quiet_cases": self._quiet_cases,
            "assumes": list(self.assumes),
        }

    def _count(self, policy: str | None, action: Action, currency: str) -> None:
        step = action.step
        by = " ".join(channel for channel in (step.channel, *step.also) if channel is not None) or step.effect or ""
        state = "requested" if action.approval is None else "proposed"
        counted = self._steps.setdefault((policy or "", step.id, step.kind, by, state, currency), _Step())
        counted.actions += 1
        counted.items += len(action.lines)
        counted.claimed += action.claimed
