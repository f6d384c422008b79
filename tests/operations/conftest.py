"""What the tests of operations share: the metrics the code declares, the programs they need, a real Prometheus."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import promql_parser
import pytest
import yaml

from cobranza.chassis.metrics import CHASSIS

ROOT = Path(__file__).parents[2]
SERVICES = ("invoicing", "payments", "dunning", "notifications", "analytics")
#: What Prometheus itself says of a target.
_OF_PROMETHEUS = frozenset({"up", "scrape_samples_scraped"})
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}


class Selector(NamedTuple):
    """One metric asked for, and the labels that must be equal to something."""

    metric: str
    equal: dict[str, str]


@pytest.fixture(scope="session")
def exported_names() -> frozenset[str]:
    """The names a query may use, besides recording rules."""
    catalogues = [CHASSIS, *(import_module(f"cobranza.{service}.metrics").CATALOGUE for service in SERVICES)]
    declared = [metric for catalogue in catalogues for metric in catalogue.metrics.values()]
    return _OF_PROMETHEUS | {
        metric.full_name + suffix for metric in declared for suffix in _SUFFIXES.get(metric.kind, ("",))
    }


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """The path of a program, or a skip that says that it is missing."""

    def find(name: str) -> str:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not on the path (Debian's package prometheus has it)")
        return found

    return find


def without_variables(expression: str, *, window: str) -> str:
    """A board's expression with its variables set to everything and its window to `window`."""
    return re.sub(r"\$(service|company|currency)\b", ".*", expression.replace("$__rate_interval", window))


@pytest.fixture(scope="session")
def selected() -> Callable[[str], list[Selector]]:
    """Every selector of an expression of a board or a rule; ValueError when it is none."""
    return _selected


def _selected(expression: str) -> list[Selector]:
    found: list[Selector] = []

    def visit(node: object) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            equal = {m.name: m.value for m in node.matchers.matchers if m.op == promql_parser.MatchOp.Equal}
            found.append(Selector(str(node.name), equal))

    promql_parser.walk(promql_parser.parse(without_variables(expression, window="20s")), visit)
    return found


class Prometheus:
    """A running server, asked as Grafana asks it."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def ask(self, expression: str) -> list[Any]:
        """What an expression answers now; a failed assertion when it is refused."""
        answer = self.client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        result: list[Any] = answer["data"]["result"]
        return result

    def question(self, expression: str, *, window: str) -> list[Any]:
        """The same of a board's expression: of everything it can be asked of, over `window`."""
        return self.ask(without_variables(expression, window=window))

    def unhealthy_rules(self) -> list[tuple[str, str]]:
        """Rules that have not been evaluated without an error, with the error."""
        groups = self.client.get("/api/v1/rules").json()["data"]["groups"]
        return [(r["name"], r.get("lastError", r["health"])) for g in groups for r in g["rules"] if r["health"] != "ok"]


Targets = Sequence[tuple[int, dict[str, str]]]
StartPrometheus = Callable[[Targets], AbstractContextManager[Prometheus]]


@pytest.fixture(scope="session")
def prometheus_of(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> StartPrometheus:
    """Starts a Prometheus with our rules that scrapes loopback ports, each with its labels, once a second."""
    binary = program("prometheus")

    @contextmanager
    def start(targets: Targets) -> Iterator[Prometheus]:
        directory = tmp_path_factory.mktemp("prometheus")
        config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(ROOT / "deploy/prometheus" / file) for file in config["rule_files"]]
        configs = [{"targets": [f"127.0.0.1:{port}"], "labels": labels} for port, labels in targets]
        config["scrape_configs"] = [{"job_name": "cobranza", "static_configs": configs}]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
        port = _free_port()
        with (directory / "log").open("wb") as log:
            server = subprocess.Popen(
                [binary, f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}",
                 f"--web.listen-address=127.0.0.1:{port}"],
                stdout=log, stderr=log,
            )  # fmt: skip
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
                _until_ready(client, server, directory / "log")
                yield Prometheus(client)
        finally:
            server.terminate()
            server.wait(timeout=30)

    return start


def _until_ready(client: httpx.Client, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text("utf-8")[-2000:]
        try:
            if client.get("/-/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.25)
    pytest.fail("Prometheus was not ready within 60 s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
