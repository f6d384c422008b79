"""`cobranza payments match` looks at all unapplied money again."""

import asyncio
import json
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
    currencies: [MXN, USD]
    contact: {name: A, email: a@example.test}
    sender: {name: A, email: a@example.test}
"""


@pytest.fixture
def match(ledger: Any, monkeypatch: Any, tmp_path: Any) -> Any:
    file = tmp_path / "companies.yaml"
    file.write_text(COMPANY)
    monkeypatch.setenv("PAYMENTS_DATABASE_URL", ledger.app_url)
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("COBRANZA_COMPANIES", str(file))

    async def match(*options: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, commands, ["match", *options])

    return match


async def test_what_the_rules_are_sure_of_is_applied_and_the_rest_counted(ledger: Any, make: Any, match: Any) -> None:
    await ledger.tell(make.invoice("F-1", "70.00"), make.payment("P", "70.00"), make.payment("Q", "1.00", nobody=True))
    first, again = await match("--json", "--company", "acme-mx"), await match()
    assert json.loads(first.stdout) == {"looked_at": 2, "still_unapplied": 1}, first.output
    assert again.stdout == "1 payments looked at, 1 are not applied in full\n"
    assert await ledger.open("F-1") == 0


async def test_a_company_that_is_not_here_is_refused_and_the_file_named(ledger: Any, match: Any) -> None:
    refused = await match("--company", "nobody-mx")
    assert (refused.exit_code, "companies.yaml" in refused.output) == (4, True)
