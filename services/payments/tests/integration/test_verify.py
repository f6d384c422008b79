"""`cobranza payments verify` tells whether the ledger balances, and stops permits when it does not."""

import json
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from typer.testing import CliRunner

from cobranza.chassis.database import driver_url
from cobranza.contracts import identifiers
from cobranza.payments.commands import commands
from cobranza.payments.invariants import INVARIANTS
from cobranza.payments.scheduler import jobs
from cobranza.payments.use_cases import Decider
from cobranza.payments.use_cases.decisions import Asked


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
    assert json.loads(result.stdout) == {**{check.name: 0 for check in INVARIANTS}, "late_interest_accrued": 0}
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


@pytest.mark.parametrize(
    ("planted", "name"),
    [
        ("UPDATE late_charge SET amount = amount + 1", "late_charge_equals_receivable"),
        ("UPDATE late_charge_credit SET amount = amount - 1", "late_charge_credits_equal_journal"),
        ("UPDATE receivable SET given_up = 1 WHERE written_off > 1", "given_up_equals_journal"),
        ("UPDATE ledger_action SET amount = amount + 1 WHERE verb = 'refund'", "refund_equals_decisions"),
        # As if the debt had been due later than it was when interest was posted.
        ("UPDATE receivable SET due_on = due_on + 9 WHERE kind = 'invoice'", "late_interest_accrued"),
    ],
)
async def test_planted_errors_in_charges_and_decisions_are_found(
    ledger: Any, make: Any, verify: Any, planted: str, name: str
) -> None:
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "58000.00"), make.invoice("B", "58000.00"), make.step("A", "B"))
    await ledger.tell(make.payment("P", "10.00"))
    charge = await ledger.value("SELECT receivable_id FROM late_charge ORDER BY receivable_id LIMIT 1")
    decider = Decider(ledger.context.companies)
    wanted: tuple[tuple[Any, UUID, int], ...] = (
        ("waive", charge, 5),
        ("write_off", make.receivable_id("B"), 7),
        ("refund", identifiers.payment_id("acme-mx", "sap", "P"), 3),
    )
    for number, (verb, subject, amount) in enumerate(wanted):
        async with ledger.database.transaction() as tx:
            await decider.ask(
                tx,
                Asked(
                    verb=verb, company="acme-mx", subject_id=subject, action_id=UUID(int=number), amount=amount,
                    reason="goodwill", note="as agreed", by="ana",
                ),
            )  # fmt: skip
    await ledger.settle()
    assert (await verify()).exit_code == 0
    owner = create_async_engine(driver_url(ledger.owner_url))
    async with owner.begin() as connection:
        await connection.execute(text(planted))
    await owner.dispose()
    result = await verify("--json")
    assert (result.exit_code, json.loads(result.stdout)[name] > 0) == (1, True)
    # Only a ledger that does not balance stops permits.
    assert await ledger.value("SELECT stopped FROM ledger_stop") is False
    ledger.expected_broken = {name} - {"late_interest_accrued"}


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
