"""`cobranza payments verify` tells whether the ledger balances, and stops permits when it does not."""

import json
from typing import Any

import pytest
from prometheus_client import REGISTRY
from typer.testing import CliRunner

from cobranza.payments.commands import commands
from cobranza.payments.invariants import INVARIANTS
from cobranza.payments.scheduler import jobs


@pytest.fixture
def verify(ledger: Any, monkeypatch: Any, tmp_path: Any) -> Any:
    monkeypatch.setenv("PAYMENTS_DATABASE_URL", ledger.app_url)
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("COBRANZA_COMPANIES", str(tmp_path / "companies.yaml"))

    async def verify(*options: str) -> Any:
        import asyncio

        return await asyncio.to_thread(CliRunner().invoke, commands, ["verify", *options])

    return verify


async def test_a_ledger_in_balance_is_told_check_by_check(ledger: Any, make: Any, verify: Any) -> None:
    await ledger.tell(make.invoice("F-1", "60.00"), make.payment("P", "70.00", "F-1"), make.reversal("P"))
    result = await verify("--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {check.name: 0 for check in INVARIANTS}
    assert await ledger.value("SELECT stopped FROM ledger_stop") is False


async def test_a_planted_error_ends_with_one_and_stops_permits_until_it_is_mended(
    ledger: Any, make: Any, verify: Any
) -> None:
    await ledger.tell(make.invoice("F-1", "60.00"))
    await ledger.run("UPDATE receivable SET credited = 1")
    result = await verify()
    assert result.exit_code == 1
    assert "receivable_equals_journal" in result.stdout
    assert await ledger.value("SELECT stopped FROM ledger_stop") is True
    await ledger.run("UPDATE receivable SET credited = 0")
    assert (await verify()).exit_code == 0
    assert await ledger.value("SELECT stopped FROM ledger_stop") is False


async def test_the_worker_checks_and_gauges_by_itself(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "60.00"), make.payment("P", "0.50"))
    await ledger.run("UPDATE receivable SET credited = 1")
    by_name = {job.name: job for job in jobs(ledger.context)}
    check, gauge = by_name["check-ledger"], by_name["gauge-ledger"]
    assert all(job.one_at_a_time for job in by_name.values())
    await check.run()
    assert await ledger.value("SELECT reason FROM ledger_stop") == "receivable_equals_journal"
    await gauge.run()
    labels = {"company": "acme-mx", "currency": "MXN"}
    assert REGISTRY.get_sample_value("cobranza_ledger_open_amount", labels) == 59.99
    assert REGISTRY.get_sample_value("cobranza_ledger_unapplied_amount", labels) == 0.5
    ledger.expected_broken = {"receivable_equals_journal"}
