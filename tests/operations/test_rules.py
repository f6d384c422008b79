"""Every alert speaks of metrics that exist, is proved to fire and to keep quiet, and has a page that says what to do."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cobranza.chassis.metrics import LabelName

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules"
FILES = ("pipeline", "collections")
GROUPS = [group for file in FILES for group in yaml.safe_load((RULES / f"{file}.yml").read_text("utf-8"))["groups"]]
ALL: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in ALL if "alert" in rule]
RECORDED = {rule["record"] for rule in ALL if "record" in rule}
NAMES = sorted({alert["alert"] for alert in ALERTS})
RUNBOOKS = ROOT / "docs" / "runbooks"
HEADINGS = ["What it means", "What to look at first", "How to stop the harm", "How to prove it is over"]


def test_promtool_accepts_the_rules_and_the_configuration(program: Callable[[str], str]) -> None:
    promtool = program("promtool")
    prometheus = ROOT / "deploy" / "prometheus" / "prometheus.yml"

    for what, files in (("rules", [RULES / f"{file}.yml" for file in FILES]), ("config", [prometheus])):
        answer = subprocess.run([promtool, "check", what, *files], capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("file", FILES)
def test_alerts_fire_and_keep_quiet_when_they_should(file: str, program: Callable[[str], str]) -> None:
    promtool = program("promtool")

    answer = subprocess.run(
        [promtool, "test", "rules", RULES / f"{file}_test.yml"], capture_output=True, text=True, check=False
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_keeps_quiet(name: str) -> None:
    cases = [
        case
        for file in FILES
        for test in yaml.safe_load((RULES / f"{file}_test.yml").read_text("utf-8"))["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == name
    ]
    severities = {alert["labels"]["severity"] for alert in ALERTS if alert["alert"] == name}

    fired = {alert["exp_labels"]["severity"] for case in cases for alert in case.get("exp_alerts", [])}
    assert fired == severities
    assert any("exp_alerts" not in case for case in cases)


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_metrics_that_exist(
    rule: dict[str, Any], exported_names: frozenset[str], selected: Callable[[str], list[Any]]
) -> None:
    asked = {selector.metric for selector in selected(rule["expr"])}

    assert asked
    assert asked - exported_names - RECORDED == set()


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.get("alert") or rule["record"])
def test_buckets_are_named_as_the_client_writes_them(
    rule: dict[str, Any], selected: Callable[[str], list[Any]]
) -> None:
    """`le="5"` matches nothing: the Python client writes `le="5.0"`."""
    for selector in selected(rule["expr"]):
        assert re.fullmatch(r"\d+\.\d+", selector.equal.get("le", "5.0"))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_who_is_called_and_where_to_look(alert: dict[str, Any]) -> None:
    boards = {
        re.search(r'"uid": "(cobranza-\w+)"', path.read_text("utf-8"))[1]  # type: ignore[index]
        for path in (ROOT / "deploy" / "grafana" / "dashboards").rglob("*.json")
    }
    notes = alert["annotations"]

    assert alert["alert"].startswith("Cobranza")
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["labels"]["team"] in ("platform", "collections")
    assert set(notes) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert notes["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"
    assert notes["dashboard_url"].removeprefix("/d/") in boards


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_has_a_runbook_that_answers_four_questions(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text("utf-8")

    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert all(len(part.strip()) > 20 for part in text.split("\n## ")[1:])


def test_there_is_no_runbook_without_its_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("Cobranza*.md")} == set(NAMES)


def test_a_runbook_asks_for_metrics_that_exist(exported_names: frozenset[str]) -> None:
    for path in RUNBOOKS.glob("Cobranza*.md"):
        said = set(re.findall(r"`[^`]*?\b(cobranza_\w+)", path.read_text("utf-8")))
        assert {name for name in said - exported_names if not any(name in recorded for recorded in RECORDED)} == set()


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_recording_rule_is_named_level_metric_operation(name: str) -> None:
    level, metric, operation = name.split(":")

    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", level)
    assert metric.startswith("cobranza_")
    assert operation


def test_no_rule_invents_a_label() -> None:
    allowed = {"service", "role", "instance", "le", *LabelName.__args__}  # type: ignore[attr-defined]

    used = {
        label
        for rule in ALL
        for found in re.findall(r"(?:by|on) \(([\w, ]+)\)", rule["expr"])
        for label in found.split(", ")
    }

    assert used <= allowed


def test_there_is_one_group_a_file() -> None:
    """Groups are evaluated side by side: an alert in another one would see the recordings of the last evaluation."""
    assert [group["name"] for group in GROUPS] == ["cobranza-pipeline", "cobranza-collections"]


def test_prometheus_loads_both_files() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8"))

    assert config["rule_files"] == [f"rules/{file}.yml" for file in FILES]
