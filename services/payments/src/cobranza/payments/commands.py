"""Payments' command line: asking the ledger whether it balances."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.database import Database
from cobranza.chassis.settings import load
from cobranza.payments.invariants import INVARIANTS, STOPPING
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.use_cases import check_ledger

commands = typer.Typer(no_args_is_help=True)


@commands.callback()
def _group() -> None:
    """The payments service."""


@commands.command()
def verify(as_json: Annotated[bool, typer.Option("--json", help="One JSON object for programs.")] = False) -> None:
    """Recompute every balance from the journal; exit 1 if one differs, and then permits stop."""
    found = asyncio.run(_verify())
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        table = Table("check", "rows that break it", "verdict")
        for name, count in found.items():
            table.add_row(name, str(count), "[red]broken[/]" if count else "holds")
        Console(soft_wrap=True).print(table)
    if any(found.values()):
        raise typer.Exit(1)


async def _verify() -> dict[str, int]:
    settings = load(PaymentsSettings)
    database = Database(
        settings.database_url.get_secret_value(), service="payments", clock=BusinessClock(settings.clock_file)
    )
    try:
        async with database.transaction() as tx:
            return await check_ledger(tx, INVARIANTS, stopping=STOPPING)
    finally:
        await database.close()
