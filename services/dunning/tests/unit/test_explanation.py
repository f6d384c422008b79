"""Decisions as sentences: no code is shown to a reader, and no sentence contradicts another of its day."""

from __future__ import annotations

import ast
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cobranza.contracts.reasons import FINAL_PERMIT_REFUSALS, TRANSIENT_PERMIT_REFUSALS, Reason
from cobranza.dunning.domain import explanation
from cobranza.dunning.domain.explanation import Explained, Style, explain_all, explain_gate

DAY = date(2027, 4, 1)
#: What notifications may answer beside the permit's refusals.
OF_SENDING = {
    Reason.EXPIRED, Reason.FACTS_CHANGED, Reason.NO_ADDRESS, Reason.OPTED_OUT, Reason.CHANNEL_UNAVAILABLE,
    Reason.TEMPLATE_MISSING, Reason.RENDER_FAILED, Reason.PROVIDER_REFUSED, Reason.BOUNCED, Reason.OUTCOME_UNKNOWN,
}  # fmt: skip


def _style(language: Any) -> Style:
    return Style(language=language, day=date.isoformat, money=str)


def _decision(*, contact: Any = None, runs: Any = ()) -> Explained:
    return Explained(
        as_of=DAY,
        outcome="wait" if contact is None else "act",
        contact=contact,
        reasons=(),
        reasoning={"items": ()},
        next_check_on=date(2027, 4, 7),
        times=1,
        runs=runs,
    )


@pytest.mark.parametrize("language", ["es", "en"])
@pytest.mark.parametrize("reason", sorted(FINAL_PERMIT_REFUSALS | TRANSIENT_PERMIT_REFUSALS | OF_SENDING))
def test_every_reason_a_notice_may_not_leave_for_is_a_sentence(reason: Reason, language: str) -> None:
    run = {
        "step": "aviso-1", "run": 1, "state": "failed", "answered_on": "2027-04-01", "expires_on": "2027-04-06",
        "reason": reason.value,
    }  # fmt: skip

    told = explain_all([_decision(runs=[run])], _style(language), receivable_ids=frozenset(), since=None)

    code = reason.value.replace("_", " ")
    assert not [sentence for sentence in told if sentence.endswith(f": {code}.")]


def test_a_day_with_a_contact_does_not_also_say_that_nobody_was_contacted() -> None:
    contact = {"step": "aviso-1", "channel": "email", "tone": "friendly", "lines": [{"receivable_id": "r"}]}

    told = explain_all([_decision(contact=contact), _decision()], _style("en"), receivable_ids=frozenset(), since=None)

    assert told[0].startswith("2027-04-01: notice aviso-1 was requested")
    assert "Nobody was contacted on 2027-04-01." not in told


#: Why the policy says not now, with the values that an evaluation finds.
OF_POLICY = {
    Reason.BELOW_ITEM: "{needed} {percent} {found} {invoice}",
    Reason.WHEN_FALSE: "",
    Reason.REQUIRES_MISSING: "{invoice} {step}",
    Reason.TERM_RUNNING: "{invoice} {step} {on}",
    Reason.APPROVAL_PENDING: "{step} {run} {until}",
    Reason.APPROVAL_REFUSED: "",
    Reason.APPROVAL_EXPIRED: "",
    Reason.TASK_EXPIRED: "",
    Reason.EXECUTION_REFUSED: "",
    Reason.CAP_REACHED: "",
    Reason.CHARGED_BEFORE: "",
    Reason.NOTHING_DUE: "",
    Reason.REOPENED_GRACE: "{invoice} {step} {on}",
    Reason.GOODWILL: "{invoice} {step} {on}",
    Reason.PAYER_UNKNOWN: "{step}",
    Reason.CONTACT_LIMIT: "",
}


@pytest.mark.parametrize("language", ["es", "en"])
@pytest.mark.parametrize("reason", sorted(OF_POLICY))
def test_every_reason_of_the_policy_is_a_sentence_with_its_values(reason: Reason, language: str) -> None:
    values = {
        "invoice": "A-1", "step": "aviso-2", "on": "2027-04-05", "until": "2027-04-06", "run": "3", "needed": "50.00 MXN",
        "percent": "1", "found": "20.00 MXN",
    }  # fmt: skip
    told = Explained(
        as_of=DAY, outcome="wait", contact=None, reasons=({"code": reason.value, "values": values},),
        reasoning={"items": ()}, next_check_on=None, times=1,
    )  # fmt: skip

    sentences = explain_all([told], _style(language), receivable_ids=frozenset(), since=None)

    assert reason.value.replace("_", " ") + "." not in sentences[1].lower()
    wanted = [values[name] for name in OF_POLICY[reason].replace("{", "").replace("}", "").split()]
    assert all(value.removesuffix(" MXN") in sentences[1] for value in wanted)


@pytest.mark.parametrize(
    ("contact", "told"),
    [
        ({"kind": "call", "channel": "call"}, "a call was asked for (step x)"),
        ({"kind": "effect", "channel": "credit_hold"}, "the effect credit hold was asked for (step x)"),
        ({"kind": "task", "channel": "task"}, "a person was asked for step x"),
        ({"kind": "effect", "channel": "agency", "state": "proposed"}, "step x was proposed and waits"),
    ],
)
def test_what_is_no_notice_is_not_called_one(contact: dict[str, Any], told: str) -> None:
    done = {"step": "x", "tone": None, "lines": [{"receivable_id": "r"}], **contact}

    [sentence, *_] = explain_all([_decision(contact=done)], _style("en"), receivable_ids=frozenset(), since=None)

    assert sentence.startswith(f"2027-04-01: {told}")


def _evaluation() -> str:
    """The source of all that an evaluation is made of."""
    domain = Path(explanation.__file__).parent
    parts = ("agreements", "case", "gates", "ladder", "timing")
    return "\n".join(
        (domain / f"{part}.py").read_text(encoding="utf-8").replace("from __future__", "#") for part in parts
    )


def _gates_asked() -> set[str]:
    """Names of gates: of `Gate(name, …)`, and of `(name, needed, found, holds)` as a date's gates are noted."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(_evaluation())):
        values: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Gate":
            values = node.args
        elif isinstance(node, ast.Tuple) and len(node.elts) == 4:
            values = node.elts
        if values and isinstance(values[0], ast.Constant) and isinstance(values[0].value, str):
            names.add(values[0].value)
    return names


def test_the_gates_are_found_in_the_sources() -> None:
    assert {"date", "term", "requires", "min_gap", "when", "cash", "materiality", "start", "catch_up"} <= _gates_asked()


@pytest.mark.parametrize("language", ["es", "en"])
@pytest.mark.parametrize("name", sorted(_gates_asked()))
def test_every_gate_is_a_sentence(name: str, language: str) -> None:
    told = explain_gate([name, "2027-01-14", "200.00 MXN", False], _style(language))

    assert told.endswith(".")
    assert told[0].isupper() or told[0].isdigit()
    assert not told.lower().startswith(f"{name}: ")


def test_a_condition_tells_what_it_asked_about_in_words() -> None:
    found = "segment standard, case_amount 58000.00 MXN, acknowledged no, reachable -"

    assert explain_gate(["when", "llamada-1", found, True], _style("es")) == (
        "Condición del paso llamada-1: segmento standard, importe del caso 58000.00 MXN,"
        " acuse de recibo no, localizable —."
    )


@pytest.mark.parametrize("reason", sorted(reason for reason in Reason if f"Reason.{reason.name}" in _evaluation()))
@pytest.mark.parametrize("language", ["es", "en"])
def test_every_reason_of_an_evaluation_is_a_sentence(reason: Reason, language: str) -> None:
    decision = replace(_decision(), reasons=({"code": reason.value, "values": {}},))

    told = explain_all([decision], _style(language), receivable_ids=frozenset(), since=None)

    assert reason.value.replace("_", " ").capitalize() + "." not in told


def test_an_invoice_that_was_not_open_is_told_so_and_not_explained_by_the_others() -> None:
    other = {"code": "not_due", "values": {"invoice": "F-2", "step": "aviso-1", "on": "2027-04-07"}}
    item = {"receivable_id": "other", "number": "F-2", "step": None, "skipped": (), "finding": other}
    decision = replace(_decision(), reasons=(other,), reasoning={"items": (item,)})

    told = explain_all([decision], _style("en"), receivable_ids=frozenset({"mine"}), since=None)

    assert told[1].startswith("Nothing of this invoice was left to collect that day")
    assert not any("F-2" in sentence for sentence in told)
