"""A change of an API is seen: its description is committed, and a difference names the operation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cobranza.chassis import openapi

SERVICES = ("analytics", "dunning", "invoicing", "notifications", "payments")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    assert openapi.main(["write", "--root", str(tmp_path)]) == 0
    return tmp_path


def test_every_service_is_described_the_same_each_time(written: Path) -> None:
    assert sorted(path.stem for path in (written / openapi.DIRECTORY).iterdir()) == list(SERVICES)
    assert openapi.stale(written) == []


def test_a_difference_is_named(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = written / openapi.DIRECTORY
    analytics = json.loads((directory / "analytics.json").read_text("utf-8"))
    del analytics["paths"]["/analytics/v1/ageing"]["get"]["parameters"]
    (directory / "analytics.json").write_text(json.dumps(analytics), "utf-8")
    (directory / "payments.json").unlink()
    (directory / "billing.json").write_text("{}", "utf-8")

    assert openapi.main(["check", "--root", str(written)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "stale: docs/openapi/billing.json: of no service",
        "stale: docs/openapi/analytics.json: GET /analytics/v1/ageing",
        "stale: docs/openapi/payments.json: missing",
    ]


def test_every_operation_declares_its_scope_and_its_problems() -> None:
    documents = {path: json.loads(text) for path, text in openapi.documents().items()}
    operations = [o for d in documents.values() for path in d["paths"].values() for o in path.values()]

    assert all(o["x-required-scope"] and o["operationId"] and "default" in o["responses"] for o in operations)
    for document in documents.values():
        ids = [o["operationId"] for path in document["paths"].values() for o in path.values()]
        assert len(ids) == len(set(ids))
