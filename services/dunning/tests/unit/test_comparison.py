"""What two policies did is counted side by side, and a day over all accounts."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cobranza.dunning import gateways
from cobranza.dunning.commands import commands
from cobranza.dunning.domain import comparison
from cobranza.dunning.domain.comparison import BackTest
from cobranza.dunning.domain.foreseen import DayTotals
from cobranza.dunning.domain.simulation import Evaluated
from cobranza.dunning.use_cases import policies, simulation

_TIMELINE = """
- assume: delivered_and_approved_same_day
- {{ on: 2026-12-11, type: control-total-checked, data: {{ verdict: matched }} }}
- {{ on: 2026-12-11, type: customer-changed, data: {{ customer: C-1, segment: standard, protected_party: business }} }}
- {{ on: 2026-12-11, type: invoice-issued, data: {{ customer: C-1, number: F-1, due_on: {due}, payable: "{payable}" }} }}
"""


def _played(policy: str, *, due: str = "2027-01-11", payable: str = "58000.00", interest: str = "") -> list[Evaluated]:
    source = gateways.read_source(policy)
    document, report = policies.check_source(source + interest)
    assert report.errors == ()
    trial = policies.for_trial(document)
    assert trial is not None
    timeline = _TIMELINE.format(due=due, payable=payable)
    return simulation.run(trial, timeline, first=date(2026, 12, 11), last=date(2027, 4, 1))


FRIENDLY, STRICT = _played("friendly-b2b"), _played("strict")


def _compared(*pairs: tuple[str, str, list[Evaluated] | None, list[Evaluated] | None]) -> dict[str, Any]:
    found = BackTest(("nothing",))
    for pair in pairs:
        found.add(*pair)
    return found.as_values()


def _total(found: dict[str, Any], count: str) -> tuple[int, int]:
    return next(((row["policy"], row["against"]) for row in found["totals"] if row["count"] == count), (0, 0))


def test_what_is_done_is_counted_by_day_segment_and_kind() -> None:
    found = _compared(("C-1", "standard", STRICT, FRIENDLY), ("C-2", "", STRICT, FRIENDLY))

    done = Counter(
        action.step.effect or action.step.kind
        for entry in STRICT
        for action in entry.decision.actions
        if action.approval is None
    )
    assert {count: number * 2 for count, number in done.items()} == {
        row["count"]: row["policy"] for row in found["totals"] if row["policy"] and row["count"] != "approval"
    }
    assert _total(found, "credit_hold") == (2, 0)
    assert _total(found, "approval") == (2, 0)
    assert {row["segment"] for row in found["days"]} == {"standard", ""}
    assert (found["debtors"], found["differing"], found["others"]) == (2, 2, 0)


def test_contacts_are_notices_and_calls_by_debtor() -> None:
    found = _compared(("C-1", "", STRICT, FRIENDLY), ("C-2", "", [], FRIENDLY))

    contacts = sum(_total(found, count)[0] for count in ("notice", "call"))
    assert found["contacts"]["policy"] == {"mean": f"{contacts / 2:.3f}", "max": contacts}


def test_an_account_that_neither_is_for_is_no_debtor() -> None:
    found = _compared(("C-1", "", None, None), ("C-2", "", None, FRIENDLY))

    assert (found["debtors"], found["others"], found["differing"]) == (1, 1, 1)


def test_the_same_is_no_difference_and_no_sample() -> None:
    found = _compared(("C-1", "", FRIENDLY, list(FRIENDLY)))

    assert (found["differing"], found["samples"]) == (0, [])
    assert {row["difference"] for row in found["days"]} == {0}


def test_another_amount_on_the_same_day_is_a_difference() -> None:
    found = _compared(("C-1", "", FRIENDLY, _played("friendly-b2b", payable="100000.00")))

    assert found["differing"] == 1
    assert {row["difference"] for row in found["totals"]} == {0}
    [sample] = found["samples"]
    assert sample["only_policy"][0]["claimed"] == "58000.00 MXN"
    assert sample["only_against"][0]["items"] == [{"number": "F-1", "amount": "100000.00 MXN"}]


def test_samples_show_each_kind_of_difference_and_not_one_kind_twenty_times() -> None:
    found = BackTest(())
    for n in range(30):
        found.add(f"C-{n}", "", STRICT, FRIENDLY)
    found.add("C-rare", "", [], FRIENDLY)

    assert [sample["customer"] for sample in found.samples] == ["C-0", "C-1", "C-2", "C-rare"]


def test_interest_charged_with_a_notice_is_counted_beside_it() -> None:
    interest = "interest: { rule: mx-moratorio, charge_at: aviso-2 }\n"

    found = _compared(("C-1", "", _played("friendly-b2b", interest=interest), FRIENDLY))

    assert _total(found, "interest") == (1, 0)
    assert _total(found, "notice")[0] == _total(found, "notice")[1]


_ROWS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(
        dict,
        day=st.sampled_from(["2027-01-04", "2027-01-05"]),
        segment=st.sampled_from(["", "standard"]),
        count=st.sampled_from(comparison.COUNTS),
        policy=st.integers(0, 50),
        against=st.integers(0, 50),
    )
)


@given(_ROWS, st.sampled_from([(), ("day",), ("segment",), ("day", "segment")]))
def test_adding_up_loses_nothing(rows: list[dict[str, Any]], by: tuple[str, ...]) -> None:
    summed = comparison.summed(rows, by=by)

    for side in ("policy", "against"):
        assert sum(row[side] for row in summed) == sum(row[side] for row in rows)
    assert all(row["difference"] == row["policy"] - row["against"] for row in summed)
    keys = [tuple(row[column] for column in (*by, "count")) for row in summed]
    assert len(keys) == len(set(keys))


def test_a_day_is_counted_by_step_and_channel_with_what_it_claims() -> None:
    day = next(entry.on for entry in FRIENDLY if entry.decision.contact is not None)
    of_day = [entry for entry in FRIENDLY if entry.on == day]
    quiet = [entry for entry in FRIENDLY if not entry.decision.actions][:1]

    totals = DayTotals(("nothing",))
    totals.add("friendly-b2b", 1, of_day)
    totals.add("friendly-b2b", 1, of_day)
    totals.add("friendly-b2b", 1, quiet)
    found = totals.as_values()

    assert (found["accounts"], found["acting"]) == (3, 2)
    [step] = found["steps"]
    assert (step["by"], step["cases"], step["items"], step["claimed"]) == ("email", 2, 2, "116000.00 MXN")
    [reason] = found["reasons"]
    assert (reason["cases"], reason["example"]["customer"]) == (1, "C-1")
    assert [case["customer"] for case in found["quiet_cases"]] == ["C-1"]
    assert json.loads(json.dumps(found)) == found


def test_only_the_first_hundred_cases_are_kept() -> None:
    totals = DayTotals(())
    quiet = [entry for entry in FRIENDLY if not entry.decision.actions][:1]
    for _ in range(130):
        totals.add(None, None, quiet)

    found = totals.as_values()

    assert (found["accounts"], found["reasons"][0]["cases"], len(found["quiet_cases"])) == (130, 130, 100)


@pytest.mark.parametrize("name", ["far.txt", "far"])
def test_a_comparison_is_kept_as_csv_or_xlsx_only(name: str) -> None:
    days = ["--from", "2027-01-01", "--to", "2027-01-02"]
    told = CliRunner().invoke(
        commands,
        ["back-test", "--company", "acme-mx", *days, "--policy", "strict", "--against", "strict", "--export", name],
    )

    assert told.exit_code == 2
    assert ".csv or .xlsx" in told.output
