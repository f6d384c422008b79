"""Analytics' verbs of the `cobranza` command."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from cobranza.analytics import gateways, queries
from cobranza.analytics.domain.ageing import Ageing, Bucket
from cobranza.analytics.settings import AnalyticsSettings
from cobranza.chassis import spreadsheets
from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.service import command_context
from cobranza.contracts.money import to_decimal

#: More columns than any table needs.
_WIDEST: Final = 1000
COMMANDS: Final = typer.Typer(no_args_is_help=True)


@COMMANDS.command()
def ageing(
    company: Annotated[str, typer.Option(help="The company's slug.")],
    as_of: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="End of this day; default today.")
    ] = None,
    by: Annotated[str, typer.Option(help="currency or customer.")] = "currency",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    export: Annotated[Path | None, typer.Option(help="Write a file that ends in .csv or .xlsx.")] = None,
) -> None:
    """What is open at the end of a day, by value date, in buckets of days past due."""
    if by not in ("currency", "customer"):
        raise typer.BadParameter("expected 'currency' or 'customer'", param_hint="--by")
    on, entries = asyncio.run(
        _ageing(company, as_of.date() if as_of is not None else None, by_customer=by == "customer")
    )
    if export is not None:
        table = gateways.ageing_export(entries, company=company, as_of=on, name=f"ageing-{company}-{on}", by=by)
        try:
            file_format = spreadsheets.format_of(export)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--export") from error
        export.write_bytes(asyncio.run(spreadsheets.content(table, file_format)))
    if as_json:
        lines = [gateways.ageing_as_json(entry) for entry in entries]
        sys.stdout.write(json.dumps({"company": company, "as_of": on.isoformat(), "by": by, "lines": lines}) + "\n")
    elif export is None:
        if entries:
            _print_whole(_table(entries, company=company, on=on))
        else:
            Console(soft_wrap=True).print(f"nothing is open for {company} on {on}")


@COMMANDS.command()
def totals(
    company: Annotated[str, typer.Option(help="The company's slug.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """All that was ever invoiced and collected, by currency."""
    lines = [
        {
            "currency": entry.currency,
            "invoices": entry.invoices,
            "invoiced": str(to_decimal(entry.invoiced, entry.currency)),
            "collected": str(to_decimal(entry.collected, entry.currency)),
        }
        for entry in asyncio.run(_totals(company))
    ]
    if as_json:
        sys.stdout.write(json.dumps({"company": company, "lines": lines}) + "\n")
    else:
        table = Table("currency", "invoices", "invoiced", "collected")
        for line in lines:
            table.add_row(*(str(value) for value in line.values()))
        _print_whole(table)


async def _totals(company: str) -> list[queries.Totals]:
    async with command_context("analytics", AnalyticsSettings) as context, context.database.reading() as connection:
        return await queries.totals(connection, company=company)


async def _ageing(company: str, as_of: date | None, *, by_customer: bool) -> tuple[date, list[Ageing]]:
    async with command_context("analytics", AnalyticsSettings) as context:
        profile = context.companies.get(company)
        if profile is None:
            known = ", ".join(p.company for p in context.companies)
            raise typer.BadParameter(f"no company {company!r}; known: {known}", param_hint="--company")
        on = as_of or evaluation_date(context.clock.now(), profile.zone, from_hour=context.settings.evaluation_hour)
        async with context.database.reading() as connection:
            query = queries.ageing_by_customer if by_customer else queries.ageing
            return on, await query(connection, company=company, as_of=on)


def _table(entries: list[Ageing], *, company: str, on: date) -> Table:
    table = Table(title=f"{company}, open at the end of {on}")
    for name in ("customer", "currency", *(bucket.value for bucket in Bucket), "open", "overdue", "unapplied"):
        table.add_column(name, justify="left" if name in ("customer", "currency") else "right")
    for entry in entries:
        amounts = [*(entry.amounts[bucket] for bucket in Bucket), entry.open, entry.overdue, entry.unapplied]
        table.add_row(entry.customer or "all", entry.currency, *(f"{to_decimal(a, entry.currency):,}" for a in amounts))
    return table


def _print_whole(table: Table) -> None:
    """Print the table as wide as it is: a narrow terminal may break its lines, but cuts no digit off."""
    needed = Console(width=_WIDEST).measure(table).maximum
    Console(width=max(needed, Console().width)).print(table)
