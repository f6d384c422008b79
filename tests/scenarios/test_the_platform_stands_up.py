"""`cobranza up` as a newcomer meets it: it says where things are, takes a first event, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cobranza.chassis import cli

ROOT = Path(__file__).parents[2]
COBRANZA = [sys.executable, "-c", "from cobranza.chassis.cli import main; main()"]


@dataclass(frozen=True)
class Up:
    process: subprocess.Popen[str]
    base: str
    bootstrap: str
    state: Path


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, postgres: str, kafka_bootstrap: str) -> Iterator[Up]:
    state = tmp_path_factory.mktemp("a state with spaces") / "state dir"
    process = subprocess.Popen(
        [*COBRANZA, "up", "--state", str(state), "--companies", str(ROOT / "deploy" / "companies.yaml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "COLUMNS": "500"},
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Kafka:" in line:
            break
    found = re.search(r"ready: (http://127\.0\.0\.1:\d+)/.*Kafka: (127\.0\.0\.1:\d+)", said, flags=re.DOTALL)
    assert found, said
    yield Up(process, found.group(1), found.group(2), state)
    children = [int(path.read_text(encoding="utf-8")) for path in (state / "run").glob("*.pid")]
    process.send_signal(signal.SIGTERM)
    try:
        # The promise: everything is gone within thirty seconds, whatever the tests did.
        assert process.wait(timeout=30) is not None
        assert len(children) >= 9
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _run(up: Up, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "KAFKA_BOOTSTRAP": up.bootstrap, **environment},
    )


def _eventually(look: Any, *, seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def test_the_first_event_becomes_an_invoice_a_receivable_and_a_figure(up: Up) -> None:
    for _ in range(2):
        published = _run(up, "examples/first_event.py", "acme-mx", "C-1", "F-1", "1160.00", "MXN", "2099-02-28")
        assert published.returncode == 0, published.stderr
    assert "published to erp.invoicing" in published.stdout

    def ageing() -> Any:
        asked = {"company": "acme-mx", "by": "customer"}
        answer = httpx.get(f"{up.base}/analytics/v1/ageing", params=asked, trust_env=False)
        return [(line["open"], line["open_count"]) for line in answer.json()["lines"] if line["customer"] == "C-1"]

    assert _eventually(ageing) == [("1160.00", 1)]
    invoices = httpx.get(
        f"{up.base}/invoicing/v1/invoices", params={"company": "acme-mx", "customer": "C-1"}, trust_env=False
    ).json()
    assert [one["invoice"]["number"] for one in invoices["items"]] == ["F-1"]


def test_an_event_by_http_takes_the_same_way(up: Up) -> None:
    money = {"amount": "58.00", "currency": "USD"}
    invoice = {
        "external": {"system": "erp", "id": "H-1"},
        "number": "H-1",
        "issued_on": "2026-01-02",
        "payable": money,
        "instalments": [{"number": 1, "due_on": "2099-01-31", "amount": money}],
    }
    payment = {
        "external": {"system": "erp", "id": "H-1"},
        "amount": money,
        "value_on": "2026-01-05",
        "references": ["H-1"],
    }

    def post(path: str, kind: str, data: dict[str, Any]) -> str:
        event = {
            "specversion": "1.0",
            "id": f"{kind}-1",
            "source": "/erp/acme-mx/erp",
            "type": f"erp.{kind}.v1",
            "datacontenttype": "application/json",
            "data": {"company": "acme-mx", "customer": "C-2", **data},
        }
        answer = httpx.post(f"{up.base}/{path}/v1/events", json=event, trust_env=False).json()
        return str(answer["events"][0]["outcome"])

    outcomes = [
        post("payments", "payment-received", payment),
        post("invoicing", "invoice-issued", invoice),
        post("payments", "payment-received", payment),
        post("invoicing", "invoice-issued", invoice),
    ]

    assert outcomes == ["accepted", "accepted", "duplicate", "duplicate"]
    followed = _run(up, "examples/follow_events.py", "--from-beginning", "--most", "1")
    assert "H-1 of C-2 is settled" in followed.stdout


PAGES = sorted(link.href for service in cli.services().values() for link in service.pages)


@pytest.mark.parametrize("path", [*PAGES, "/mailbox/", "/payments/docs", "/problems/conflict"])
def test_every_page_answers(up: Up, path: str) -> None:
    answer = httpx.get(f"{up.base}{path}", follow_redirects=True, trust_env=False)

    assert answer.status_code == 200, answer.text[:500]
    assert "text/html" in answer.headers["content-type"]


def test_events_are_checked_with_no_broker_and_no_database(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    bad = {"specversion": "1.0", "id": "1", "source": "/erp/acme-mx/erp", "type": "erp.invoice-issued.v1", "data": {}}
    file.write_text(json.dumps(bad) + "\n{\n", encoding="utf-8")

    checked = subprocess.run([*COBRANZA, "events", "validate", str(file)], capture_output=True, text=True, check=False)

    assert checked.returncode == 4
    assert "events.jsonl:1" in checked.stdout
    assert "events.jsonl:2 not_json" in checked.stdout


def test_a_second_start_on_the_same_state_says_who_has_it(up: Up) -> None:
    second = subprocess.run(
        [*COBRANZA, "up", "--state", str(up.state)], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )

    assert second.returncode == 3
    assert str(up.process.pid) in second.stderr
    assert "Traceback" not in second.stderr


def test_a_killed_decision_worker_forgets_no_overdue_invoice(up: Up) -> None:
    pid_file = up.state / "run" / "dunning-worker.pid"
    killed = int(pid_file.read_text(encoding="utf-8"))
    environment = dict(
        entry.split("=", 1)
        for entry in Path(f"/proc/{killed}/environ").read_text(encoding="utf-8").split("\0")
        if entry
    )

    def cobranza(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COBRANZA, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, env=environment
        )

    for verb in ("load", "activate"):
        done = cobranza("dunning", "policy", verb, "friendly-b2b", "--company", "acme-mx")
        assert done.returncode == 0, done.stderr
    for number in range(24):
        if number == 8:
            os.kill(killed, signal.SIGKILL)
        money = {"amount": "100.00", "currency": "MXN"}
        event = {
            "specversion": "1.0",
            "id": f"overdue-{number}",
            "source": "/erp/acme-mx/erp",
            "type": "erp.invoice-issued.v1",
            "datacontenttype": "application/json",
            "data": {
                "company": "acme-mx",
                "customer": f"L-{number}",
                "external": {"system": "erp", "id": f"L-{number}"},
                "number": f"L-{number}",
                "issued_on": "2026-01-02",
                "payable": money,
                "instalments": [{"number": 1, "due_on": "2026-01-31", "amount": money}],
            },
        }
        assert httpx.post(f"{up.base}/invoicing/v1/events", json=event, trust_env=False).status_code < 300

    def collected() -> bool:
        answer = httpx.get(f"{up.base}/dunning/v1/cases", params={"company": "acme-mx", "limit": 100}, trust_env=False)
        return len({case["customer"] for case in answer.json()["items"] if case["customer"].startswith("L-")}) == 24

    assert _eventually(collected, seconds=90)
    assert int(pid_file.read_text(encoding="utf-8")) != killed

    def broken() -> dict[str, int]:
        verified = cobranza("verify", "--json")
        return {name: count for name, count in json.loads(verified.stdout.splitlines()[-1]).items() if count}

    assert _eventually(lambda: not broken()), broken()
