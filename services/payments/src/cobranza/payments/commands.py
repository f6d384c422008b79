"""Payments' command line: bank files in and out, applying what waits, and asking the ledger whether it balances."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cobranza.chassis import cli
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Database, Transaction
from cobranza.chassis.ids import new_id
from cobranza.chassis.settings import load
from cobranza.contracts.money import Money
from cobranza.payments import queries, repository
from cobranza.payments.domain.bank_transaction import Format
from cobranza.payments.domain.errors import PaymentsError, StatementError
from cobranza.payments.invariants import INVARIANTS, STOPPING
from cobranza.payments.settings import PaymentsSettings
from cobranza.payments.use_cases import Decider, Importer, Matcher, Report, RuleKeeper, check_interest, check_ledger
from cobranza.payments.use_cases.charge_rules import PRESETS, preset_document, published_for, read_rates, uncovered
from cobranza.payments.use_cases.decisions import Asked, Decision, typed_amount
from cobranza.payments.use_cases.imports import read_mapping, report_of, shipped_mappings

Result = TypeVar("Result")
Json = Annotated[bool, typer.Option("--json", help="One JSON object for programs.")]
CompanyOf = Annotated[str, typer.Option("--company", help="The creditor's slug in companies.yaml.")]

commands = typer.Typer(no_args_is_help=True)
mapping = typer.Typer(help="Which column of a bank's CSV or XLSX means what.", no_args_is_help=True)
commands.add_typer(mapping, name="mapping")
rules = typer.Typer(help="What law or contract grants for lateness.", no_args_is_help=True)
commands.add_typer(rules, name="rules")
rates = typer.Typer(help="Published rates and values of units of account.", no_args_is_help=True)
commands.add_typer(rates, name="rates")


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
            return {**await check_ledger(tx, INVARIANTS, stopping=STOPPING), **await check_interest(tx)}
    finally:
        await database.close()


@commands.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="camt.053, camt.054, MT940, Norma 43, CSV or XLSX.")],
    company: Annotated[str | None, typer.Option("--company", help="Whose account; else by the account.")] = None,
    format_: Annotated[Format | None, typer.Option("--format", help="Else found from the content.")] = None,
    mapping: Annotated[str | None, typer.Option("--mapping", help="For CSV and XLSX: a saved or shipped one.")] = None,
    account: Annotated[str | None, typer.Option("--account", help="Where the file does not say it.")] = None,
    is_dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and tell; import nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Import a bank file: each movement once, the whole file or nothing. Exit 4 when it is refused."""
    if not file.is_file():
        cli.fail(f"{file}: no such file", cli.USAGE)

    async def act(importer: Importer) -> Report:
        report = await importer.check(
            file, name=file.name, by=_actor(), company=company, format_=format_, mapping=mapping, account=account
        )
        return report if is_dry_run or report.is_repeat else await importer.run(report.import_id)

    _tell(_with_importer(act, as_json=as_json), as_json=as_json)


@commands.command("undo-import")
def undo_import(import_id: Annotated[UUID, typer.Argument(metavar="ID")], as_json: Json = False) -> None:
    """Take every payment of an import back; once more has no effect. Exit 4 when money has moved on."""
    report = _with_importer(lambda importer: importer.undo(import_id, by=_actor()), as_json=as_json)
    _tell(report, as_json=as_json)


@commands.command("imports")
def list_imports(
    company: CompanyOf, most: Annotated[int, typer.Option(min=1, max=200)] = 20, as_json: Json = False
) -> None:
    """The newest bank files of a company."""

    async def act(importer: Importer) -> list[Report]:
        async with importer.database.reading() as connection:
            rows = await queries.newest_bank_imports(connection, company=company, most=most)
            counts = await queries.bank_counts(connection, [row.import_id for row in rows])
        return [report_of(row, counts[row.import_id]) for row in rows]

    found = _with_importer(act, as_json=as_json)
    if as_json:
        sys.stdout.write(json.dumps([report.as_values() for report in found], ensure_ascii=False) + "\n")
        return
    table = Table("import", "file", "format", "state", "new", "known", "conflicts")
    for report in found:
        counts = (str(report.count(verdict)) for verdict in ("new", "known", "conflict"))
        table.add_row(str(report.import_id), report.name, report.format, report.state, *counts)
    cli.out.print(table)


@commands.command("match")
def match(
    company: Annotated[str | None, typer.Option("--company", help="Of one creditor; else of all.")] = None,
    as_json: Json = False,
) -> None:
    """Look at all unapplied money again: what the rules are sure of is applied, the rest suggested."""

    async def run() -> dict[str, int]:
        settings = load(PaymentsSettings)
        database = Database(
            settings.database_url.get_secret_value(),
            service="payments",
            clock=BusinessClock(settings.clock_file),
            notifies=True,
        )
        try:
            matcher = Matcher(database, Companies.read(settings.companies_file))
            waiting = await matcher.enqueue_all(company)
            while await matcher.run(company):
                pass
            async with database.reading() as connection:
                left = await repository.count_unapplied(connection, company=company)
            return {"looked_at": waiting, "still_unapplied": left}
        finally:
            await database.close()

    try:
        found = cli.run(run())
    except PaymentsError as error:
        cli.fail(escape(str(error)), cli.REFUSED)
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        sys.stdout.write(
            f"{found['looked_at']} payments looked at, {found['still_unapplied']} are not applied in full\n"
        )


@mapping.command("save")
def save_mapping(
    file: Annotated[Path, typer.Argument(help="A mapping as YAML; shipped ones show how.")], company: CompanyOf
) -> None:
    """Keep a mapping under the name it says, in place of the one before."""
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cli.fail(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}", cli.USAGE)

    async def act(importer: Importer) -> str:
        read = read_mapping(source, name=file.name)
        await importer.save_mapping(company, read, by=_actor())
        return read.name

    sys.stdout.write(f"mapping {_with_importer(act)} of {company} is kept\n")


@mapping.command("list")
def list_mappings(company: CompanyOf, as_json: Json = False) -> None:
    """The mappings a company can use: its own, and those that are shipped."""

    async def act(importer: Importer) -> list[Any]:
        async with importer.database.reading() as connection:
            return await queries.bank_mappings(connection, company=company)

    saved = [row.mapping for row in _with_importer(act)]
    shipped = [one.model_dump(mode="json") for one in shipped_mappings()]
    if as_json:
        sys.stdout.write(json.dumps({"saved": saved, "shipped": shipped}, ensure_ascii=False) + "\n")
        return
    table = Table("mapping", "title", "currency", "from")
    for source, listed in ((company, saved), ("shipped", shipped)):
        for one in listed:
            table.add_row(one["name"], one["title"], one["currency"], source)
    cli.out.print(table)


@rules.command("activate")
def activate_rules(
    company: CompanyOf,
    preset: Annotated[str | None, typer.Option("--preset", help=f"Shipped: {', '.join(PRESETS)}.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="Rules of your own; shipped ones show how.")] = None,
    effective_from: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day; else today.")
    ] = None,
) -> None:
    """Put a version of late charge rules into force; the same again has no effect."""
    if (preset is None) == (file is None):
        cli.fail("expected either --preset or --file", cli.USAGE)

    async def act(tx: Transaction, companies: Companies) -> str:
        document = preset_document(preset) if preset is not None else _read(file)
        found, is_new = await RuleKeeper(companies).activate(
            tx,
            document,
            company=company,
            effective_from=None if effective_from is None else effective_from.date(),
            by=_actor(),
        )
        today = tx.now.date()
        known = await published_for(tx.connection, found)
        missing = uncovered(found, first_on=today, last_on=today, published=known)
        warning = f"; no rate is published for {missing}: load it with: cobranza payments rates load" if missing else ""
        return f"{found.rules}@{found.version} is {'now' if is_new else 'already'} in force for {company}{warning}"

    sys.stdout.write(_in_transaction(act) + "\n")


@rules.command("list")
def list_rules(company: CompanyOf, as_json: Json = False) -> None:
    """Every version of charge rules that a company activated."""

    async def act(tx: Transaction, _: Companies) -> list[Any]:
        return await queries.charge_rules_of(tx.connection, company=company)

    found = _in_transaction(act)
    if as_json:
        told = [
            {
                "rules": row.rules,
                "version": row.version,
                "currency": row.currency,
                "effective_from": row.effective_from.isoformat(),
                "sha256": row.sha256,
                "activated_by": row.activated_by,
            }
            for row in found
        ]
        sys.stdout.write(json.dumps(told) + "\n")
        return
    table = Table("rules", "version", "currency", "from", "activated by")
    for row in found:
        table.add_row(row.rules, str(row.version), row.currency, row.effective_from.isoformat(), row.activated_by)
    cli.out.print(table)


@rates.command("load")
def load_rates(
    file: Annotated[Path, typer.Argument(help="CSV with the columns series, from, to, percent, published.")],
) -> None:
    """Take published rates in, the whole file or nothing; one that is known is never overwritten. Exit 4 if refused."""

    async def act(tx: Transaction, companies: Companies) -> str:
        told = read_rates(_read(file), name=file.name)
        new = await RuleKeeper(companies).load(tx, told, by=_actor(), file=file.name)
        return f"{new} rates are new, {len(told) - new} were known"

    sys.stdout.write(_in_transaction(act) + "\n")


@commands.command("waive")
def waive(
    charge: Annotated[UUID, typer.Argument(metavar="CHARGE", help="The charge's receivable.")],
    company: CompanyOf,
    note: Annotated[str, typer.Option("--note", help="Why, in your words; kept with your name.")],
    reason: Annotated[str, typer.Option("--reason", help="goodwill, settlement, error or a word of your own.")],
    amount: Annotated[str | None, typer.Option("--amount", help="Such as 250.00; else all that is open.")] = None,
    as_json: Json = False,
) -> None:
    """Forgive a late charge; above the company's limit a second person must approve it. Exit 4 when refused."""

    async def act(tx: Transaction, companies: Companies) -> Decision:
        known = await repository.one_charge(tx.connection, company=company, receivable_id=charge)
        minor = None if known is None else typed_amount(amount or "", known.currency)
        return await Decider(companies).ask(
            tx,
            Asked(
                verb="waive",
                company=company,
                subject_id=charge,
                action_id=new_id(),
                amount=minor,
                reason=reason,
                note=note,
                by=_actor(),
            ),
        )

    _tell_decision(_in_transaction(act), as_json=as_json)


@commands.command("approve")
def approve(
    action_id: Annotated[UUID, typer.Argument(metavar="ACTION")],
    company: CompanyOf,
    note: Annotated[str, typer.Option("--note", help="Why, in your words; kept with your name.")],
    is_refused: Annotated[bool, typer.Option("--refuse", help="Say no instead.")] = False,
    as_json: Json = False,
) -> None:
    """Approve, as a second person, a waiver or write-off that waits. Exit 4 when it cannot be."""

    async def act(tx: Transaction, companies: Companies) -> Decision:
        return await Decider(companies).answer(
            tx,
            company=company,
            action_id=action_id,
            approve="refuse" if is_refused else "approve",
            by=_actor(),
            note=note,
        )

    _tell_decision(_in_transaction(act), as_json=as_json)


def _tell_decision(decision: Decision, *, as_json: bool) -> None:
    amount = Money.from_minor(decision.amount, decision.currency)
    if as_json:
        told = {"action_id": str(decision.action_id), "state": decision.state, "amount": str(amount)}
        sys.stdout.write(json.dumps(told) + "\n")
        return
    waits = " for a second person's approval" if decision.state == "waiting" else ""
    sys.stdout.write(f"{amount}: {decision.state}{waits} ({decision.action_id})\n")


def _read(file: Path | None) -> bytes:
    assert file is not None  # one of two options, checked before
    try:
        return file.read_bytes()
    except OSError as error:
        cli.fail(f"{file}: {error.strerror}", cli.USAGE)


def _in_transaction(act: Callable[[Transaction, Companies], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        settings = load(PaymentsSettings)
        database = Database(
            settings.database_url.get_secret_value(),
            service="payments",
            clock=BusinessClock(settings.clock_file),
            notifies=True,
        )
        try:
            async with database.transaction() as tx:
                return await act(tx, Companies.read(settings.companies_file))
        finally:
            await database.close()

    try:
        return cli.run(run())
    except PaymentsError as error:
        cli.fail(escape(str(error)), cli.REFUSED)


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _tell(report: Report, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(report.as_values(), ensure_ascii=False) + "\n")
        return
    for line in report.sentences():
        sys.stdout.write(line + "\n")


def _with_importer(act: Callable[[Importer], Awaitable[Result]], *, as_json: bool = False) -> Result:
    async def run() -> Result:
        settings = load(PaymentsSettings)
        database = Database(
            settings.database_url.get_secret_value(),
            service="payments",
            clock=BusinessClock(settings.clock_file),
            notifies=True,
        )
        try:
            return await act(Importer(database, Companies.read(settings.companies_file), settings.evaluation_hour))
        finally:
            await database.close()

    try:
        return cli.run(run())
    except StatementError as error:
        if as_json:
            sys.stdout.write(json.dumps({"errors": [fault.as_values() for fault in error.all()]}) + "\n")
            raise typer.Exit(cli.REFUSED) from error
        for fault in error.all():
            cli.err.print(f"[bold red]error[/]: {escape(str(fault))}", highlight=False)
        cli.fail("the file is refused as a whole; nothing of it was imported", cli.REFUSED)
    except PaymentsError as error:
        cli.fail(escape(str(error)), cli.REFUSED)
