"""Whoever runs the demo and looks at the boards sees something on every panel, and every alert could fire."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
#: The API process, which holds the five APIs, and a worker of each service.
PROCESSES = 6
#: Longer than the demo takes, so that what happened in it is in every rate.
WINDOW = "30m"
MOST_SECONDS_TO_APPEAR = 60.0

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, prometheus_of: Callable[..., Any], postgres: str, kafka_bootstrap: str
) -> Iterator[Any]:
    """A Prometheus that has scraped the demo from its start to its last day, the demo still up."""
    state = tmp_path_factory.mktemp("demo")
    demo = subprocess.Popen(
        [sys.executable, ROOT / "examples/demo.py", "--state", state, "--customers", "12", "--months", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert demo.stdout is not None
    try:
        with prometheus_of(_targets(demo, state)) as server:
            said = []
            for line in demo.stdout:
                said.append(line)
                if "Ctrl-C stops everything" in line:
                    break
            else:
                pytest.fail("the demo ended: " + "".join(said)[-3000:])
            yield server
    finally:
        demo.send_signal(signal.SIGTERM)
        try:
            demo.wait(timeout=60)
        finally:
            demo.kill()
            demo.stdout.close()


def _targets(demo: subprocess.Popen[str], state: Path) -> list[tuple[int, dict[str, str]]]:
    """The operations port of each process, as soon as local mode has chosen all of them."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert demo.poll() is None, demo.communicate()[0][-3000:]
        kept = state / "cobranza-state.json"
        ports = json.loads(kept.read_text("utf-8"))["ports"] if kept.exists() else {}
        found = {name.removesuffix("-operations"): port for name, port in ports.items() if name.endswith("-operations")}
        if len(found) == PROCESSES:
            return [
                (port, {"service": name.removesuffix("-worker"), "role": "worker" if "-worker" in name else "api"})
                for name, port in found.items()
            ]
        time.sleep(0.2)
    pytest.fail(f"the demo started no {PROCESSES} processes within 120 s")


def test_every_question_of_the_boards_has_an_answer(prometheus: Any) -> None:
    boards = [json.loads(path.read_text("utf-8")) for path in (ROOT / "deploy/grafana/dashboards").rglob("*.json")]
    questions = {target["expr"] for board in boards for panel in board["panels"] for target in panel.get("targets", [])}

    assert questions
    assert _without_an_answer(prometheus, questions) == []


def test_every_recorded_series_has_values(prometheus: Any) -> None:
    assert _without_an_answer(prometheus, {rule["record"] for rule in _rules() if "record" in rule}) == []


def test_what_every_alert_watches_is_there(prometheus: Any, selected: Callable[[str], list[Any]]) -> None:
    watched = {selector for rule in _rules() if "alert" in rule for selector in _series(selected(rule["expr"]))}

    assert watched
    assert _without_an_answer(prometheus, watched) == []


def test_the_rules_are_evaluated_without_an_error(prometheus: Any) -> None:
    assert prometheus.unhealthy_rules() == []


def _rules() -> list[dict[str, Any]]:
    files = [ROOT / f"deploy/prometheus/rules/{name}.yml" for name in ("pipeline", "collections")]
    return [r for file in files for group in yaml.safe_load(file.read_text("utf-8"))["groups"] for r in group["rules"]]


def _series(selectors: list[Any]) -> set[str]:
    """The selectors as expressions; a label that must be empty or not is left to the alert."""
    return {
        s.metric + "{" + ",".join(f'{name}="{value}"' for name, value in sorted(s.equal.items())) + "}"
        for s in selectors
    }


def _without_an_answer(prometheus: Any, questions: set[str]) -> list[str]:
    """Those of which not a single number comes, after what is shown only now and then had its time."""
    deadline = time.monotonic() + MOST_SECONDS_TO_APPEAR
    while True:
        silent = sorted(q for q in questions if not _answered(prometheus.question(q, window=WINDOW)))
        if not silent or time.monotonic() > deadline:
            return silent
        time.sleep(1)


def _answered(series: list[Any]) -> bool:
    return any(not math.isnan(float(one["value"][1])) for one in series)
