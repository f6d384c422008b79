"""How many cases one core evaluates: the worked policy of the language, four receivables a case."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from figures import Figure, WrongTotalsError, median

from cobranza.chassis.calendars import country_calendar
from cobranza.dunning.domain.case import evaluate
from cobranza.dunning.domain.facts import AccountFacts, Debtor, Issued, Item
from cobranza.dunning.domain.ladder import Ladder
from cobranza.dunning.domain.policy import Policy
from cobranza.dunning.use_cases import policies

_POLICY: Final = Path(__file__).parents[1] / "services/dunning/tests/data/mx-b2b.yaml"
_AS_OF: Final = date(2027, 3, 22)
_ITEMS: Final = 4
_FIRST_DUE: Final = date(2027, 2, 1)
_DUE_DAYS: Final = 48


async def measure(_directory: Path, *, cases: int, rounds: int) -> list[Figure]:
    """Cases per second of one core, by the processor's time: other work on the machine does not count."""
    policy = _policy()
    ladder = Ladder(policy, country_calendar("MX"))
    quiet, busy = _cases(policy, cases, waits=True), _cases(policy, cases // 4, waits=False)
    figures = []
    for name, portfolio, outcome in (("where nothing is due", quiet, "wait"), ("of which most act", busy, "act")):
        rates = []
        for _ in range(rounds):
            outcomes: Counter[str] = Counter()
            started = time.process_time()
            for facts in portfolio:
                outcomes[evaluate(ladder, facts, _AS_OF).outcome] += 1
            rates.append(len(portfolio) / (time.process_time() - started))
            if outcomes[outcome] * 2 < len(portfolio):
                raise WrongTotalsError(f"expected most cases to {outcome}, found {dict(outcomes)}")
        figures.append(
            Figure(
                f"evaluate, cases of {_ITEMS} receivables {name}",
                median(rates),
                "cases/s",
                wanted="≥ 20,000",
                rounds=rates,
            )
        )
    return figures


def _policy() -> Policy:
    policy = policies.check_source(_POLICY.read_text(encoding="utf-8"))[1].policy
    if policy is None:
        raise WrongTotalsError("the policy has faults")
    return policy


def _cases(policy: Policy, count: int, *, waits: bool) -> list[AccountFacts]:
    """Made-up cases: each receivable stands at the step its age has brought it to, or a few days behind."""
    draw = random.Random(1)  # noqa: S311 - no secret
    cases = []
    for number in range(count):
        items = []
        for place in range(_ITEMS):
            due = _FIRST_DUE + timedelta(days=draw.randrange(_DUE_DAYS))
            amount = draw.randrange(100_00, 50_000_00)
            late = _AS_OF if waits else _AS_OF - timedelta(days=5)
            issued = [step for step in policy.steps if due + timedelta(days=step.offset) <= late]
            history = {step.id: Issued(due + timedelta(days=step.offset)) for step in issued}
            level = issued[-1].position if issued else 0
            items.append(
                Item(
                    UUID(int=number * _ITEMS + place + 1), f"F-{number}-{place}", due, amount, amount, level, level,
                    issued_on=due - timedelta(days=30), history=history,
                )
            )  # fmt: skip
        last = _AS_OF - timedelta(days=5)
        cases.append(
            AccountFacts(
                policy.currency, tuple(items), last_contact_on=last, contacts=(last,), control="matched",
                debtor=Debtor(segment="standard"), evaluated_on=_AS_OF - timedelta(days=1), promised_on=_AS_OF,
            )
        )  # fmt: skip
    return cases


if __name__ == "__main__":
    import asyncio

    for found in asyncio.run(measure(Path(), cases=20_000, rounds=5)):
        sys.stdout.write(json.dumps(found.told()) + "\n")
