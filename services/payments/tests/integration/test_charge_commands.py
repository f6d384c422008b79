"""`cobranza payments rules`, `rates`, `waive` and `approve`: what an operator types, and what is said back."""

import asyncio
import getpass
import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cobranza.payments.commands import commands

COMPANY = """
companies:
  acme-mx:
    name: Acme
    tax_id: X
    country: MX
    zone: America/Mexico_City
    currencies: [MXN, USD, COP]
    approval_above: { MXN: { waiver: "500.00", write_off: "0" } }
    contact: {name: A, email: a@example.test}
    sender: {name: A, email: a@example.test}
"""
HEAD = "series,from,to,percent,published\n"


@pytest.fixture
def type_(ledger: Any, monkeypatch: Any, tmp_path: Any) -> Any:
    file = tmp_path / "companies.yaml"
    file.write_text(COMPANY)
    monkeypatch.setenv("PAYMENTS_DATABASE_URL", ledger.app_url)
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("COBRANZA_COMPANIES", str(file))

    async def type_(*words: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, commands, list(words))

    return type_


async def test_rules_are_put_into_force_and_listed(type_: Any) -> None:
    first = await type_("rules", "activate", "--company", "acme-mx", "--preset", "mx", "--from", "2026-01-01")
    again = await type_("rules", "activate", "--company", "acme-mx", "--preset", "mx")
    assert first.stdout == "mx-ccom-362@1 is now in force for acme-mx\n", first.output
    assert again.stdout == "mx-ccom-362@1 is already in force for acme-mx\n"
    (listed,) = json.loads((await type_("rules", "list", "--company", "acme-mx", "--json")).stdout)
    assert (listed["rules"], listed["effective_from"]) == ("mx-ccom-362", "2026-01-01")


async def test_rules_without_a_rate_for_today_say_so(type_: Any) -> None:
    told = await type_("rules", "activate", "--company", "acme-mx", "--preset", "co")
    assert re.search(r"no rate is published for \d{4}-\d\d-\d\d: load it with: cobranza payments rates", told.stdout)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--company", "acme-mx"), 2, "expected either --preset or --file"),
        (("--company", "acme-mx", "--preset", "atlantis"), 4, "shipped are cl, co, es, mx, uk"),
        (("--company", "nobody", "--preset", "mx"), 4, "companies.yaml"),
        (("--company", "acme-mx", "--preset", "es"), 4, "is in EUR, which is no currency of acme-mx"),
        (("--company", "acme-mx", "--file", "missing.yaml"), 2, "missing.yaml: No such file"),
    ],
)
async def test_wrong_activations_say_what_to_do(type_: Any, words: tuple[str, ...], status: int, said: str) -> None:
    told = await type_("rules", "activate", *words)
    assert (told.exit_code, said in " ".join(told.output.split())) == (status, True), told.output


async def test_rates_are_loaded_once_and_a_contradiction_is_refused_whole(
    ledger: Any, type_: Any, tmp_path: Path
) -> None:
    file = tmp_path / "rates.csv"
    file.write_text(HEAD + "co-ibc,2027-01-01,2027-01-31,16.88,Resolución 1\n")
    assert (await type_("rates", "load", str(file))).stdout == "1 rates are new, 0 were known\n"
    assert (await type_("rates", "load", str(file))).stdout == "0 rates are new, 1 were known\n"
    file.write_text(HEAD + "co-ibc,2027-02-01,2027-02-28,17,r\nco-ibc,2027-01-01,2027-01-31,18,r\n")
    refused = await type_("rates", "load", str(file))
    assert (refused.exit_code, "rates.csv, line 3" in refused.output) == (4, True), refused.output
    assert await ledger.value("SELECT count(*) FROM charge_rate") == 1
    assert (await type_("rates", "load", str(tmp_path / "no.csv"))).exit_code == 2


async def test_a_charge_is_waived_at_once_or_waits_and_its_asker_cannot_approve(
    ledger: Any, make: Any, type_: Any
) -> None:
    terms = {"amount": {"amount": "900.00", "currency": "MXN"}}
    await ledger.tell(make.invoice("A", "1000.00"), make.step("A", effect="fee", terms=terms))
    charge = str(await ledger.value("SELECT receivable_id FROM late_charge"))
    why = ("--company", "acme-mx", "--reason", "goodwill", "--note", "told by phone")
    done = await type_("waive", charge, *why, "--amount", "100.00", "--json")
    assert (json.loads(done.stdout)["state"], await ledger.value("SELECT open FROM receivable WHERE kind <> 'invoice'")) == (
        "done", 800_00,
    )  # fmt: skip
    waits = await type_("waive", charge, *why)
    assert waits.stdout.startswith("800.00 MXN: waiting for a second person's approval ("), waits.output
    action = await ledger.value("SELECT action_id FROM ledger_action WHERE state = 'waiting'")
    mine = await type_("approve", str(action), "--company", "acme-mx", "--note", "sure")
    assert (mine.exit_code, "a second person must approve it" in mine.output) == (4, True), mine.output
    for amount, said in (("800.01", "800.00 MXN are open"), ("much", "write it as 1234.50")):
        told = await type_("waive", charge, *why, "--amount", amount)
        assert (told.exit_code, said in told.output) == (4, True), told.output
    assert await ledger.value("SELECT asked_by FROM ledger_action WHERE state = 'waiting'") == getpass.getuser()
