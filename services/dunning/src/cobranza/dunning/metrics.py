"""Dunning's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cobranza.chassis.metrics import Catalogue, Metric

CASE_STATES: Final = ("preventive", "active", "waiting", "held", "ended", "handed_over")

CATALOGUE: Final = Catalogue(
    (
        Metric(
            name="dunning_decisions_total",
            kind="counter",
            meaning="Decisions to contact and not to contact; step and channel are 'none' without a contact.",
            labels={"step": 30, "channel": 6, "outcome": 5},
        ),
        Metric(name="cases", kind="gauge", meaning="Open cases by state.", labels={"state": 6}),
        Metric(
            name="cases_rearmed_total",
            kind="counter",
            meaning="Accounts with open items that the sweep found without a timer; 0 in a healthy system.",
        ),
        Metric(
            name="brakes_tripped",
            kind="gauge",
            meaning="Companies whose notices wait because they are more than usual; a person releases them.",
        ),
        Metric(
            name="accounts_without_policy",
            kind="gauge",
            meaning="Debtors' accounts that no policy in force applies to: nobody is contacted about them.",
        ),
        Metric(
            name="wrongful_notices_total",
            kind="counter",
            meaning="Debts that a notice asked for although money recorded later had been there before it.",
        ),
    )
)
_DECISIONS: Final = CATALOGUE.counter("dunning_decisions_total")
_CASES: Final = CATALOGUE.gauge("cases")
_BRAKES: Final = CATALOGUE.gauge("brakes_tripped")
_WITHOUT_POLICY: Final = CATALOGUE.gauge("accounts_without_policy")
_WRONGFUL: Final = CATALOGUE.counter("wrongful_notices_total")
_REARMED: Final = CATALOGUE.counter("cases_rearmed_total")


def count_decision(*, step: str | None, channel: str | None, outcome: str) -> None:
    """Count one recorded decision."""
    _DECISIONS.labels(step=step or "none", channel=channel or "none", outcome=outcome).inc()


def gauge_cases(counts: Mapping[str, int]) -> None:
    """Show how many cases are open in each state."""
    for state in CASE_STATES:
        _CASES.labels(state=state).set(counts.get(state, 0))


def count_rearmed(accounts: int) -> None:
    """Count what the sweep found."""
    _REARMED.inc(accounts)


def gauge_brakes(companies: int) -> None:
    """Show how many companies' notices wait for a person."""
    _BRAKES.set(companies)


def gauge_without_policy(accounts: int) -> None:
    """Show how many accounts no policy applies to."""
    _WITHOUT_POLICY.set(accounts)


def count_wrongful(debts: int) -> None:
    """Count debts that were asked for although they were paid."""
    _WRONGFUL.inc(debts)
