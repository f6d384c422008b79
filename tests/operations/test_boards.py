"""Grafana's boards are what their code makes, hold together, and every question on them has an answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted(DASHBOARDS.rglob("*.json"))
}
PANELS = [
    pytest.param(board, panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
QUESTIONS = [
    pytest.param(target["expr"], id=f"{name}: {panel['title']} {target['refId']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    for target in panel.get("targets", [])
]
RULES: list[dict[str, Any]] = [
    rule
    for file in ("pipeline", "collections")
    for group in yaml.safe_load((ROOT / f"deploy/prometheus/rules/{file}.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
UNITS = {"short", "s", "eps", "reqps", "percentunit"}


def test_the_committed_boards_are_what_the_code_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "deploy/grafana/build.py", tmp_path], check=True, stdout=subprocess.DEVNULL)

    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.json")}

    assert made == {path.relative_to(DASHBOARDS): path.read_bytes() for path in DASHBOARDS.rglob("*.json")}


def test_boards_are_told_apart_and_cannot_be_edited() -> None:
    assert sorted(board["uid"] for board in BOARDS.values()) == ["cobranza-collections", "cobranza-pipeline"]
    assert all(board["editable"] is False for board in BOARDS.values())


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_have_their_own_number_and_their_own_place(board: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in board["panels"]]
    taken: set[tuple[int, int]] = set()

    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert cells & taken == set(), panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_says_what_it_shows_and_in_what_unit(board: dict[str, Any], panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith((".", "?"))
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_asks_the_chosen_source_each_question_once(board: dict[str, Any], panel: dict[str, Any]) -> None:
    letters = [target["refId"] for target in panel["targets"]]
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]

    assert letters
    assert letters == sorted(set(letters))
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_variables_are_made_and_used(board: dict[str, Any]) -> None:
    made = {variable["name"]: variable for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"]))) - {"__rate_interval"}

    assert used == set(made)
    assert all(v["multi"] and v["allValue"] == ".*" for v in made.values() if v["type"] == "query")


@pytest.mark.parametrize("expression", QUESTIONS)
def test_a_question_asks_for_metrics_that_exist(
    expression: str, exported_names: frozenset[str], selected: Callable[[str], list[Any]]
) -> None:
    asked = {selector.metric for selector in selected(expression)}

    assert asked
    assert asked - exported_names - RECORDED == set()


@pytest.mark.parametrize("expression", QUESTIONS)
def test_a_rate_is_taken_over_the_interval_that_fits_the_screen(expression: str) -> None:
    assert set(re.findall(r"rate\([^[]+\[([^\]]+)\]", expression)) <= {"$__rate_interval"}


def test_money_is_never_added_up_over_currencies() -> None:
    for expression in (parameter.values[0] for parameter in QUESTIONS):
        if re.search(r"_amount\b", str(expression)):
            groups = re.findall(r"(?:by|on) \(([\w, ]+)\)", str(expression))
            assert groups
            assert all("currency" in group for group in groups)


def test_grafana_finds_boards_and_source_where_they_are_mounted() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards/cobranza.yml").read_text("utf-8"))["providers"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text("utf-8"))["datasources"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["grafana"]

    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in compose["volumes"]
    assert provider["options"]["foldersFromFilesStructure"] is True
    assert provider["allowUiUpdates"] is False
    assert source["url"] == "http://prometheus:9090"


# On a real Prometheus


@pytest.fixture(scope="module")
def prometheus(prometheus_of: Callable[..., Any]) -> Iterator[Any]:
    """A Prometheus with our rules that has scraped every declared metric a few times."""
    exporter = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("exporter.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert exporter.stdin is not None
    assert exporter.stdout is not None
    port = int(exporter.stdout.readline())
    try:
        with prometheus_of([(port, {"service": "payments", "role": "worker"})]) as server:
            _wait_for_scrapes(server)
            yield server
    finally:
        exporter.stdin.close()
        exporter.stdout.close()
        exporter.wait(timeout=30)


@pytest.mark.parametrize("expression", QUESTIONS)
def test_a_question_of_a_board_has_an_answer(prometheus: Any, expression: str) -> None:
    assert prometheus.question(expression, window="20s") != []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_runs(prometheus: Any, rule: dict[str, Any]) -> None:
    answer = prometheus.ask(rule["expr"])

    if "record" in rule:
        assert answer != []


def test_prometheus_evaluates_the_rules_without_an_error(prometheus: Any) -> None:
    assert prometheus.unhealthy_rules() == []


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_variable_of_a_board_has_values_to_choose_from(prometheus: Any, board: dict[str, Any]) -> None:
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            values = prometheus.client.get(f"/api/v1/label/{label}/values", params={"match[]": metric}).json()["data"]
            assert values


def test_the_annotations_of_a_board_are_questions_that_run(prometheus: Any) -> None:
    for board in BOARDS.values():
        for annotation in board["annotations"]["list"]:
            prometheus.ask(annotation["expr"])


def _wait_for_scrapes(prometheus: Any) -> None:
    """Until four scrapes are in, so that rates and the rules built on them have values."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if prometheus.ask("count_over_time(up[1m]) >= 4 and on () service:cobranza_http_errors:ratio_5m >= 0"):
            return
        time.sleep(0.25)
    pytest.fail("Prometheus scraped nothing within 60 s")
