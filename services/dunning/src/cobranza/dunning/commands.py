"""Dunning at the command line: check, load and activate policies, and ask why."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Annotated, Any, Literal, TypeVar

import typer
from rich.table import Table as Listing

from cobranza.chassis import cli
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Database
from cobranza.chassis.settings import load
from cobranza.dunning import gateways, queries
from cobranza.dunning.domain.errors import DunningError
from cobranza.dunning.domain.policy_file import Fault, Table, check
from cobranza.dunning.settings import DunningSettings
from cobranza.dunning.use_cases import policies
from cobranza.dunning.use_cases.evaluation import Desk

Result = TypeVar("Result")
Company = Annotated[str, typer.Option("--company", help="The creditor's slug in companies.yaml.")]

commands = typer.Typer(no_args_is_help=True)
policy = typer.Typer(help="Policy files and their versions.", no_args_is_help=True)
commands.add_typer(policy, name="policy")


@policy.command("check")
def check_files(files: Annotated[list[str], typer.Argument(help="Policy files, or names of shipped presets.")]) -> None:
    """Tell every fault of policy files; needs no broker and no database. Exit 1 if there is one."""
    is_faulty = False
    for file in files:
        _, faults = _read(file)
        for fault in faults:
            is_faulty = True
            sys.stdout.write(fault.told(file) + "\n")
    if is_faulty:
        raise typer.Exit(cli.FAILED)


@policy.command("load")
def load_file(
    file: Annotated[str, typer.Argument(help="A policy file, or the name of a shipped preset.")],
    company: Annotated[str | None, typer.Option("--company", help="Fills what a preset leaves out.")] = None,
) -> None:
    """Store a policy file as a draft; versions never change."""
    document, faults = _read(file)
    if faults:
        for fault in faults:
            sys.stdout.write(fault.told(file) + "\n")
        raise typer.Exit(cli.FAILED)

    async def act(desk: Desk, database: Database) -> list[tuple[str, int, str, str]]:
        async with database.transaction() as tx:
            loaded = await policies.load_policy(desk, tx, document, company=company)
        return [(typed.policy, typed.version, typed.company, outcome) for typed, outcome in loaded]

    for name, version, owner, outcome in _with_database(act):
        sys.stdout.write(f"{name} version {version} of {owner}: {outcome}\n")


@policy.command()
def activate(
    name: Annotated[str, typer.Argument(metavar="POLICY")],
    company: Company,
    version: Annotated[int | None, typer.Option("--version", help="The newest when left out.")] = None,
) -> None:
    """Put a version into force for cases opened from now on."""

    async def act(desk: Desk, database: Database) -> int | None:
        async with database.transaction() as tx:
            activated = await policies.activate_policy(desk, tx, company=company, policy=name, version=version)
        return None if activated is None else activated.version

    activated = _with_database(act)
    sys.stdout.write(
        f"{name} of {company}: " + ("was active already\n" if activated is None else f"version {activated} is active\n")
    )


@policy.command("list")
def list_(
    company: Annotated[str | None, typer.Option("--company")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Policy versions with their state."""

    async def act(_desk: Desk, database: Database) -> list[Any]:
        async with database.reading() as connection:
            return await queries.policies(connection, company=company)

    listing = Listing("company", "policy", "version", "currency", "state", "from", "sha-256")
    for row in _with_database(act):
        if as_json:
            sys.stdout.write(json.dumps(dict(row._mapping), default=str) + "\n")  # noqa: SLF001 - a row's public mapping
        else:
            listing.add_row(
                row.company,
                row.policy,
                str(row.version),
                row.currency,
                row.state,
                str(row.effective_from),
                row.sha256[:12],
            )
    if not as_json:
        cli.out.print(listing)


@commands.command()
def why(
    company: Company,
    invoice: Annotated[str, typer.Option("--invoice", help="Number or id.")],
    on: Annotated[str, typer.Option("--on", help="A date such as 2027-01-14.")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
    lang: Annotated[Literal["es", "en"], typer.Option("--lang")] = "es",
) -> None:
    """Why a customer was, or was not, contacted about an invoice on a date."""
    try:
        day = date.fromisoformat(on)
    except ValueError:
        cli.fail(f"--on: expected a date such as 2027-01-14, got {on!r}", cli.USAGE)

    async def act(desk: Desk, database: Database) -> tuple[queries.Answer, str | None]:
        async with database.reading() as connection:
            answer = await queries.why(connection, company=company, invoice=invoice, on=day)
        profile = desk.companies.get(company)
        return answer, profile.country if profile is not None else None

    answer, country = _with_database(act)
    if as_json:
        sys.stdout.write(json.dumps(answer.as_values(), ensure_ascii=False) + "\n")
        return
    for sentence in answer.sentences(lang, country):
        sys.stdout.write(sentence + "\n")


def _read(file: str) -> tuple[Table, tuple[Fault, ...]]:
    """The document and all of its faults."""
    try:
        source = gateways.read_source(file)
    except (OSError, UnicodeDecodeError) as error:
        cli.fail(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}", cli.USAGE)
    document, faults = gateways.parse(source)
    checked = check(document)[1] if document.entries else ()
    return document, tuple(sorted((*faults, *checked)))


def _with_database(act: Callable[[Desk, Database], Awaitable[Result]]) -> Result:
    settings = load(DunningSettings)

    async def run() -> Result:
        database = Database(
            settings.database_url.get_secret_value(),
            service="dunning",
            clock=BusinessClock(settings.clock_file),
            notifies=True,
        )
        try:
            return await act(Desk(Companies.read(settings.companies_file), settings.evaluation_hour), database)
        finally:
            await database.close()

    try:
        return cli.run(run())
    except DunningError as error:
        cli.fail(str(error), cli.REFUSED)
