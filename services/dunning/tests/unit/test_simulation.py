"""A policy played over a timeline: the worked example, the presets, and timelines with faults."""

from __future__ import annotations

import contextlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cobranza.contracts.topics import PAYLOADS
from cobranza.dunning import gateways
from cobranza.dunning.commands import commands
from cobranza.dunning.domain.errors import DunningError, TimelineRefusedError, UnknownStepRunError
from cobranza.dunning.domain.policy import Policy
from cobranza.dunning.use_cases import policies, simulation

DATA = Path(__file__).parents[1] / "data"
TIMELINE = (DATA / "one-invoice.yaml").read_text(encoding="utf-8")


def policy(name: str) -> Policy:
    document, report = policies.check_source(gateways.read_source(name))
    assert report.errors == ()
    trial = policies.for_trial(document)
    assert trial is not None
    return trial


EXAMPLE = policy(str(DATA / "mx-b2b.yaml"))


def played(
    timeline: str, known: Policy = EXAMPLE, *, first: str = "2027-01-01", last: str = "2027-06-01"
) -> list[dict[str, Any]]:
    run = simulation.run(known, timeline, first=date.fromisoformat(first), last=date.fromisoformat(last))
    return [evaluated.as_values() for evaluated in run]


def done(values: list[dict[str, Any]], *, state: str = "requested") -> list[tuple[str, str]]:
    return [
        (entry["on"][5:], action["step"]) for entry in values for action in entry["actions"] if action["state"] == state
    ]


def test_the_worked_example_runs_as_it_is_written() -> None:
    values = played(TIMELINE)

    assert done(values) == [
        ("01-04", "preventivo"),
        ("01-11", "vence-hoy"),
        ("01-14", "aviso-1"),
        ("01-18", "llamada-1"),
        ("01-26", "aviso-2"),
        ("02-10", "requerimiento"),
        ("02-11", "cargo"),
        ("02-22", "suspension"),
        ("03-12", "aviso-final"),
        ("03-22", "aviso-final"),
        ("04-01", "aviso-final"),
        ("04-12", "despacho"),
    ]
    actions = {action["step"]: action for entry in values for action in entry["actions"]}
    assert actions["aviso-1"]["channels"] == ["email", "whatsapp"]
    assert actions["aviso-1"]["items"] == [{"number": "F-1", "step": "aviso-1", "amount": "58000.00 MXN"}]
    assert [step for step, action in actions.items() if action["interest"]] == ["requerimiento"]
    assert done(values, state="proposed") == [("02-22", "suspension"), ("04-12", "despacho")]
    assert next(entry["on"] for entry in values if "decide_end" in entry["asked"]) == "2027-04-27"
    # The suspension falls on a Saturday, the hand-over on a Sunday.
    assert all(not entry["skipped"] for entry in values)


def test_a_customer_of_whom_the_policy_is_not_is_not_contacted_until_it_is() -> None:
    small = TIMELINE.replace("segment: standard", "segment: small")
    told = "{ customer: C-1, segment: standard, protected_party: business }"
    grown = f"- {{ on: 2027-01-20, type: customer-changed, data: {told} }}\n"
    gone = grown.replace("2027-01-20", "2027-02-20").replace("standard", "small")

    never = played(small)
    later = played(small + grown + gone)

    assert done(never) == []
    assert {reason["code"] for entry in never for reason in entry["reasons"]} == {"no_policy"}
    # A case that was contacted keeps its policy, whatever becomes of the customer.
    assert done(later)[:1] == [("01-20", "llamada-1")]
    assert "2027-03" in {entry["on"][:7] for entry in later if entry["actions"]}


def test_from_its_amount_on_the_demand_is_proposed_first() -> None:
    values = played(TIMELINE.replace("58000.00", "100000.00"))

    assert ("02-10", "requerimiento") in done(values, state="proposed")
    assert ("02-10", "requerimiento") in done(values)


def test_days_without_a_contact_say_why() -> None:
    values = played(TIMELINE, first="2027-01-01", last="2027-01-05")

    assert [(entry["on"], entry["reasons"]) for entry in values if not entry["actions"]] == [
        (
            f"2027-01-0{day}",
            [{"code": "not_due", "values": {"invoice": "F-1", "step": step, "on": on}}],
        )
        for day, step, on in (
            (1, "preventivo", "2027-01-04"),
            (2, "preventivo", "2027-01-04"),
            (3, "preventivo", "2027-01-04"),
            (5, "vence-hoy", "2027-01-11"),
        )
    ]


def test_a_payment_and_its_return_are_followed() -> None:
    values = played(
        TIMELINE
        + """
- { on: 2027-01-22, type: receivable-changed, data: { customer: C-1, number: F-1, open: "0.00" } }
- { on: 2027-02-05, type: receivable-changed, data: { customer: C-1, number: F-1, open: "58000.00" } }
""",
        last="2027-02-12",
    )

    states = {entry["on"]: entry["case_state"] for entry in values}
    assert (states["2027-01-21"], states["2027-01-23"], states["2027-02-06"]) == ("active", "closed", "active")
    assert done(values)[-1] == ("02-10", "aviso-2")
    assert [entry["on"] for entry in values if entry["told"]] == ["2027-02-05"]


def test_holds_promises_and_outcomes_that_are_told_are_followed() -> None:
    timeline = (
        TIMELINE.replace("- assume: delivered_and_approved_same_day\n", "")
        + """
- { on: 2027-01-04, type: notice-sent, data: { step: preventivo, run: 1 } }
- on: 2027-01-05
  type: hold-placed
  data: { scope: customer, reason: internal, until_on: 2027-01-11 }
- { on: 2027-01-14, type: notice-suppressed, data: { step: aviso-1, run: 1, reason: no_address } }
"""
    )

    values = played(timeline, last="2027-01-16")

    reasons = {entry["on"]: [reason["code"] for reason in entry["reasons"]] for entry in values}
    assert (reasons["2027-01-08"], reasons["2027-01-13"], reasons["2027-01-14"]) == (
        ["on_hold"], ["not_due"], ["no_address"],
    )  # fmt: skip
    # The hold covered the day of the second notice, which makes no sense after the due date.
    assert done(values) == [("01-04", "preventivo"), ("01-14", "aviso-1"), ("01-15", "aviso-1")]


def test_an_outcome_of_what_was_never_requested_is_refused() -> None:
    with pytest.raises(UnknownStepRunError, match="2027-01-05: no run 2 of step aviso-1"):
        played(TIMELINE + "- { on: 2027-01-05, type: notice-sent, data: { step: aviso-1, run: 2 } }\n")


def test_json_lines_are_the_same_timeline() -> None:
    invoice = {"number": "F-1", "due_on": "2027-01-11", "payable": "58000.00"}
    lines = "\n".join(
        [
            '{"assume": "delivered_and_approved_same_day"}',
            '{"on": "2026-12-11", "type": "control-total-checked", "data": {"verdict": "matched"}}',
            '{"on": "2026-12-11", "type": "customer-changed", "data": {"segment": "standard", "protected_party": "business"}}',
            json.dumps({"on": "2026-12-11", "type": "invoice-issued", "data": invoice}),
        ]
    )

    assert done(played(lines)) == done(played(TIMELINE))


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("- assume: everything", "1:11 assume: expected nothing or delivered_and_approved_same_day, got 'everything'"),
        ("- { on: yesterday, type: due-date }", "1:9 on: expected the business date on which it is known"),
        ("- { on: 2027-01-01, type: invoice-isued }",
         "1:27 type: expected an event type, got 'invoice-isued'; did you mean 'invoice-issued'?"),
        ("- { on: 2027-01-01, kind: due-date }", "1:21 unknown key 'kind'"),
        ("- { on: 2027-01-01, type: credit-changed, data: { unapplied: '1.005' } }", "1:49 credit-changed: "),
        ("- { on: 2027-01-01, type: credit-changed, data: [1] }", "1:49 data: expected the event's fields"),
        ("- a", "1:3 expected an event with on, type and data"),
        ("[", "1:2 not YAML"),
        ("- &a { on: 2027-01-01 }", "1:3 anchors are not allowed"),
        ('{"on": "2027-01-01", "type": "due-date"}\n{"on": 1}', "2:8 on: expected the business date"),
    ],
)  # fmt: skip
def test_a_fault_of_a_timeline_is_told_with_its_place(entry: str, fault: str) -> None:
    with pytest.raises(TimelineRefusedError) as refused:
        played(entry)

    assert any(line.startswith(fault) for line in refused.value.detail.splitlines()), refused.value.detail


_values = st.recursive(
    st.text(max_size=4) | st.sampled_from(["0.00", "58000.00", "F-1", "2027-01-11", "x|y", "customer", "NaN", "-1"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["amount", "number"]), inner, max_size=2)
    ),
    max_leaves=4,
)
_fields = st.sampled_from(["number", "open", "issued", "payable", "instalments", "lines", "amount", "customer", "step"])
_entries = st.fixed_dictionaries(
    {
        "on": st.sampled_from(["2027-01-01", "0001-01-01", "9999-12-31", "x"]),
        "type": st.sampled_from(sorted(kind.split(".")[2] for kind in PAYLOADS if kind.startswith("cobranza."))),
        "data": st.dictionaries(_fields, _values, max_size=4),
    }
)


@settings(max_examples=80, deadline=None)
@given(st.lists(_entries, max_size=2).map(json.dumps) | st.text(max_size=40))
def test_any_timeline_is_played_or_refused(timeline: str) -> None:
    with contextlib.suppress(DunningError):
        played(timeline, last="2027-01-03")


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("friendly-b2b", "01-14 aviso-1, 01-21 aviso-2, 02-02 requerimiento"),
        ("reminder-5", "01-16 reminder"),
        ("small-business", "01-08 recordatorio, 01-14 aviso-1, 01-21 aviso-2, 01-26 llamada, 02-05 requerimiento"),
        (
            "strict",
            "01-04 recordatorio, 01-12 aviso-1, 01-18 aviso-2, 01-21 llamada, 01-26 requerimiento, 02-02 bloqueo, 02-10 final",
        ),
    ],
)
def test_a_preset_does_what_its_readme_says(name: str, steps: str) -> None:
    values = played(TIMELINE, policy(name))

    assert ", ".join(f"{on} {step}" for on, step in done(values)).replace("aviso-final", "final") == steps
    assert "decide_end" in [asked for entry in values for asked in entry["asked"]]
    assert gateways.read_preset_readme(name).startswith(f"# {name}\n")


def test_every_preset_has_a_simulation() -> None:
    assert gateways.presets() == ["friendly-b2b", "reminder-5", "small-business", "strict"]


# The command line; neither broker nor database.


def command(*arguments: str) -> Any:
    return CliRunner().invoke(commands, list(arguments), catch_exceptions=False)


def test_the_command_simulates_checks_and_writes_a_file_to_start_from(tmp_path: Path) -> None:
    timeline = str(DATA / "one-invoice.yaml")
    span = ("--from", "2027-01-01", "--to", "2027-01-14")
    written = tmp_path / "mine.yaml"
    written.write_text(command("policy", "init", "--preset", "strict").output, encoding="utf-8")

    text = command("simulate", "--policy", str(DATA / "mx-b2b.yaml"), "--timeline", timeline, *span)
    as_json = command("simulate", "--policy", str(written), "--timeline", timeline, *span, "--json")
    checked = command("policy", "check", str(written))

    assert text.output.splitlines() == [
        "2027-01-01…01-03  - wait: not_due invoice=F-1 step=preventivo on=2027-01-04",
        "2027-01-04  preventivo  notice email friendly  58000.00 MXN: F-1 58000.00 MXN",
        "2027-01-05…01-10  - wait: not_due invoice=F-1 step=vence-hoy on=2027-01-11",
        "2027-01-11  vence-hoy  notice email friendly  58000.00 MXN: F-1 58000.00 MXN",
        "2027-01-12…01-13  - wait: not_due invoice=F-1 step=aviso-1 on=2027-01-14",
        "2027-01-14  aviso-1  notice email+whatsapp friendly  58000.00 MXN: F-1 58000.00 MXN",
    ]
    assert done([json.loads(line) for line in as_json.output.splitlines()]) == [
        ("01-04", "recordatorio"), ("01-12", "aviso-1"),
    ]  # fmt: skip
    assert (checked.exit_code, written.read_text(encoding="utf-8").count("#") > 5) == (0, True)
    assert "not checked" in checked.stderr


def test_the_command_refuses_what_it_cannot_play(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("- { on: never }\n", encoding="utf-8")
    faulty = tmp_path / "faulty.yaml"
    faulty.write_text("policy: x\n", encoding="utf-8")
    span = ("--from", "2027-01-01", "--to", "2027-01-14")

    timeline = command("simulate", "--policy", "strict", "--timeline", str(bad), *span)
    file = command("simulate", "--policy", str(faulty), "--timeline", str(bad), *span)
    missing = command("simulate", "--policy", "strict", "--timeline", str(tmp_path / "none"), *span)
    days = command(
        "simulate", "--policy", "strict", "--timeline", str(bad), "--from", "2027-02-01", "--to", "2027-01-01"
    )
    preset = command("policy", "init", "--preset", "[nothing]")
    faults = command("policy", "check", str(faulty), "--json")

    assert (timeline.exit_code, timeline.stderr.splitlines()) == (
        1,
        [f"{bad}:1:9 on: expected the business date on which it is known, such as 2027-01-14"],
    )
    assert (file.exit_code, missing.exit_code, days.exit_code, preset.exit_code) == (1, 2, 1, 2)
    assert "P103" in file.stderr
    report = json.loads(faults.output.splitlines()[0])
    assert (report["ok"], report["faults"][0]["line"], faults.exit_code) == (False, 1, 1)
