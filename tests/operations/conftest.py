"""What the tests of operations share: the metrics the code declares, and the programs they need."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import promql_parser
import pytest

from cobranza.chassis.metrics import CHASSIS

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


@pytest.fixture(scope="session")
def selected() -> Callable[[str], list[Selector]]:
    """Every selector of a PromQL expression; ValueError when it is none."""
    return _selected


def _selected(expression: str) -> list[Selector]:
    found: list[Selector] = []

    def visit(node: object) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            equal = {m.name: m.value for m in node.matchers.matchers if m.op == promql_parser.MatchOp.Equal}
            found.append(Selector(str(node.name), equal))

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found
