"""Dunning at the command line: check, simulate, load and activate policies, and ask why."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, cast
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.table import Table as Listing

from cobranza.chassis import cli, spreadsheets
from cobranza.chassis.clock import BusinessClock
from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Database
from cobranza.chassis.settings import load
from cobranza.dunning import gateways, queries
from cobranza.dunning.domain import comparison
from cobranza.dunning.domain.document import Table
from cobranza.dunning.domain.errors import DunningError, PolicyRefusedError
from cobranza.dunning.domain.policy_file import Report
from cobranza.dunning.settings import DunningSettings
from cobranza.dunning.use_cases import migration, policies, preview, recording, simulation
from cobranza.dunning.use_cases.evaluation import Desk

Result = TypeVar("Result")
_DAYS_TOLD: Final = 40
_TOLD_EVERY: Final = 500
Company = Annotated[str, typer.Option("--company", help="The creditor's slug in companies.yaml.")]

commands = typer.Typer(no_args_is_help=True)
policy = typer.Typer(help="Policy files and their versions.", no_args_is_help=True)
commands.add_typer(policy, name="policy")


@policy.command("check")
def check_files(
    files: Annotated[list[str], typer.Argument(help="Policy files, or names of shipped presets.")],
    company: Annotated[
        str | None,
        typer.Option("--company", help="Compare with what is loaded and announced for it; needs the database."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per file.")] = False,
) -> None:
    """Tell every fault of policy files; without --company it needs no database. Exit 1 if one is an error."""
    is_faulty = False
    not_checked: tuple[str, ...] = ()
    for file in files:
        report = _read(file)[1] if company is None else _checked_for(company, file)
        is_faulty = is_faulty or bool(report.errors)
        not_checked = report.not_checked
        if as_json:
            told = {"file": file, **policies.told_report(report)}
            sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
            continue
        for fault in report.faults:
            sys.stdout.write(fault.told(file) + "\n")
    if not_checked and not as_json:
        cli.err.print(f"note: not checked, for there is nothing here to compare with: {', '.join(not_checked)}")
    if is_faulty:
        raise typer.Exit(cli.FAILED)


@policy.command("load")
def load_file(
    file: Annotated[str, typer.Argument(help="A policy file, or the name of a shipped preset.")],
    company: Annotated[str | None, typer.Option("--company", help="Fills what a preset leaves out.")] = None,
) -> None:
    """Store a policy file as a draft; versions never change."""
    document, report = _read(file)
    for fault in report.faults:
        sys.stdout.write(fault.told(file) + "\n")
    if report.errors:
        raise typer.Exit(cli.FAILED)

    async def act(desk: Desk, database: Database) -> list[tuple[str, int, str, str]]:
        async with database.transaction() as tx:
            loaded = await policies.load_policy(desk, tx, document, company=company)
        return [(typed.policy, typed.version, typed.company, outcome) for typed, outcome in loaded]

    for name, version, owner, outcome in _with_database(act, file=file):
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


@policy.command()
def retire(name: Annotated[str, typer.Argument(metavar="POLICY")], company: Company) -> None:
    """Take a policy out of force for new cases; open cases keep the version they are pinned to."""

    async def act(desk: Desk, database: Database) -> bool:
        async with database.transaction() as tx:
            return await policies.retire_policy(desk, tx, company=company, policy=name)

    was_active = _with_database(act)
    sys.stdout.write(f"{name} of {company}: {'retired' if was_active else 'was not active'}\n")


@policy.command()
def migrate(
    name: Annotated[str, typer.Argument(metavar="POLICY")],
    company: Company,
    to: Annotated[int, typer.Option("--to", help="The version that open cases move to.")],
    steps: Annotated[
        list[str] | None, typer.Option("--step", metavar="OLD=NEW", help="Where a step goes whose name changed.")
    ] = None,
    approved_by: Annotated[
        str | None, typer.Option("--approved-by", help="Move them; left out, only the difference is told.")
    ] = None,
) -> None:
    """Move open cases to another version of their policy; without --approved-by only tell what would change."""
    mapping = dict(_pair(text) for text in steps or ())

    async def act(desk: Desk, database: Database) -> list[migration.Difference]:
        found: list[migration.Difference] = []
        while True:
            async with database.transaction() as tx:
                part = await migration.migrate(
                    desk,
                    tx,
                    company=company,
                    policy=name,
                    to=to,
                    mapping=mapping,
                    after=found[-1].account_id if found else None,
                    approved_by=approved_by,
                )
            if not part:
                return found
            found += part

    differences = _with_database(act)
    for difference in differences:
        if difference.changes:
            before, after = (_step_on(told) for told in (difference.before, difference.after))
            sys.stdout.write(f"{difference.customer}: {before} -> {after}\n")
    changed = sum(difference.changes for difference in differences)
    what = "moved" if approved_by is not None else "would move; nothing was changed, approve with --approved-by"
    sys.stdout.write(f"{len(differences)} cases, {changed} with another next step: {what}\n")


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


@policy.command()
def init(
    preset: Annotated[str, typer.Option("--preset", help="The shipped policy to start from.")] = "small-business",
) -> None:
    """Write a commented policy file to start from to the standard output."""
    if preset not in gateways.presets():
        cli.fail(f"--preset: no preset {preset!r}; there are {', '.join(gateways.presets())}", cli.USAGE)
    sys.stdout.write(gateways.read_source(preset))


@policy.command()
def presets() -> None:
    """The shipped policies, and when each is of use."""
    for name in gateways.presets():
        sys.stdout.write(gateways.read_preset_readme(name).rstrip() + "\n\n")


@commands.command("simulate")
def simulate_policy(
    file: Annotated[str, typer.Option("--policy", help="A policy file, or the name of a shipped preset.")],
    timeline: Annotated[str, typer.Option("--timeline", help="A YAML list or JSON lines of dated events.")],
    first: Annotated[str, typer.Option("--from", help="First day, such as 2027-01-01.")],
    last: Annotated[str, typer.Option("--to", help="Last day, inclusive.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per evaluation.")] = False,
) -> None:
    """What a policy would do day by day, or why nothing; needs no broker and no database."""
    document, report = _read(file)
    played = policies.for_trial(document) if not report.errors else None
    if played is None:
        for fault in report.errors:
            sys.stderr.write(fault.told(file) + "\n")
        raise typer.Exit(cli.FAILED)
    try:
        source = Path(timeline).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cli.fail(f"{timeline}: {getattr(error, 'strerror', None) or 'not UTF-8'}", cli.USAGE)
    try:
        evaluated = simulation.run(played, source, first=_day("--from", first), last=_day("--to", last))
    except DunningError as error:
        for line in error.detail.splitlines():
            sys.stderr.write((f"{timeline}:{line}" if "faults" in error.facts else line) + "\n")
        raise typer.Exit(cli.FAILED) from None
    for line in simulation.told(evaluated, as_json=as_json):
        sys.stdout.write(line + "\n")


@commands.command("preview")
def preview_day(
    company: Company,
    on: Annotated[str, typer.Option("--on", help="Today or a day to come, such as 2027-01-14.")],
    tried: Annotated[
        str | None,
        typer.Option("--policy", help="In the place of the one in force: POLICY@VERSION, a file or a preset."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document per evaluation.")] = False,
    export: Annotated[Path | None, typer.Option(help="Write a file that ends in .csv or .xlsx.")] = None,
) -> None:
    """What would happen on a day in every case, or why nothing; sends nothing and writes nothing."""
    file_format = None if export is None else _format(export)
    day, chosen = _day("--on", on), None if tried is None else _tried(tried)

    async def act(desk: Desk, database: Database) -> None:
        playing = preview.preview(desk, database, company=company, on=day, tried=chosen, told=_progress)
        if export is not None and file_format is not None:
            table = spreadsheets.Export(
                name=export.stem,
                columns=preview.COLUMNS,
                parts=(one.as_rows() async for one in playing),
                about={"company": company, "on": day, "policy": tried},
            )
            export.write_bytes(await spreadsheets.content(table, file_format))
            return
        async for found in playing:
            if as_json:
                for values in found.as_values():
                    sys.stdout.write(json.dumps(values, ensure_ascii=False) + "\n")
                continue
            customer = found.evaluated[0].customer
            for line in simulation.told(found.evaluated, as_json=False):
                sys.stdout.write(f"{customer}  {line}\n")

    _with_database(act)
    _assumed(preview.PREVIEW_ASSUMES)


@commands.command("back-test")
def back_test_policies(
    company: Company,
    first: Annotated[str, typer.Option("--from", help="First day, such as 2027-01-01.")],
    last: Annotated[str, typer.Option("--to", help="Last day, inclusive.")],
    tried: Annotated[str, typer.Option("--policy", help="POLICY@VERSION, a file or a preset.")],
    against: Annotated[str, typer.Option("--against", help="What it is compared with, named in the same way.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    export: Annotated[Path | None, typer.Option(help="Write a file that ends in .csv or .xlsx.")] = None,
) -> None:
    """What two policies would have done with what is recorded; sends nothing and writes nothing."""
    file_format = None if export is None else _format(export)
    days = (_day("--from", first), _day("--to", last))
    one, other = _tried(tried), _tried(against)

    async def act(desk: Desk, database: Database) -> dict[str, Any]:
        compared = await preview.back_test(
            desk, database, company=company, first=days[0], last=days[1], tried=one, against=other, told=_progress
        )
        found = compared.as_values()
        if export is not None and file_format is not None:
            table = spreadsheets.Export(
                name=export.stem,
                columns=comparison.COLUMNS,
                parts=spreadsheets.in_one_part(comparison.rows_of(found["days"])),
                about={"company": company, "from": days[0], "to": days[1], "policy": tried, "against": against},
            )
            export.write_bytes(await spreadsheets.content(table, file_format))
        return found

    found = _with_database(act)
    if as_json:
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
        return
    if export is None:
        _tell_comparison(found, tried, against)
    _assumed(preview.BACK_TEST_ASSUMES)


def _tell_comparison(found: Mapping[str, Any], tried: str, against: str) -> None:
    """The totals, by segment, the days that differ, and the sample cases."""
    write = sys.stdout.write
    write(f"{found['debtors']} debtors, {found['differing']} of them with a difference\n")
    listing = Listing("", tried, against, "difference", title="All days")
    for row in found["totals"]:
        listing.add_row(row["count"], *_figures(row))
    for measure in ("mean", "max"):
        sides = [str(found["contacts"][side][measure]) for side in ("policy", "against")]
        listing.add_row(f"contacts per debtor, {measure}", *sides, "")
    cli.out.print(listing)
    listing = Listing("segment", "", tried, against, "difference", title="By segment")
    for row in comparison.summed(found["days"], by=("segment",)):
        listing.add_row(row["segment"] or "-", row["count"], *_figures(row))
    cli.out.print(listing)
    differing = [row for row in comparison.summed(found["days"], by=("day",)) if row["difference"]]
    if differing:
        listing = Listing("day", "", tried, against, "difference", title="Days that differ")
        for row in differing[:_DAYS_TOLD]:
            listing.add_row(row["day"], row["count"], *_figures(row))
        cli.out.print(listing)
    if len(differing) > _DAYS_TOLD:
        write(f"… {len(differing) - _DAYS_TOLD} more; --export keeps every day\n")
    for sample in found["samples"]:
        write(f"\n{sample['customer']} ({sample['segment'] or 'segment unknown'})\n")
        for side, name in (("only_policy", tried), ("only_against", against)):
            for done in sample[side]:
                by = "+".join(done["channels"])
                items = ", ".join(f"{item['number']} {item['amount']}" for item in done["items"])
                what = " ".join(filter(None, ("+".join(done["counts"]), by, done["tone"])))
                write(f"  {done['on']} only {name}: {done['step']} ({what}): {items}; claims {done['claimed']}\n")


def _figures(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(row["policy"]), str(row["against"]), f"{row['difference']:+d}"


@commands.command()
def why(
    company: Company,
    invoice: Annotated[str, typer.Option("--invoice", help="Number or id.")],
    on: Annotated[str, typer.Option("--on", help="A date such as 2027-01-14.")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
    lang: Annotated[Literal["es", "en"], typer.Option("--lang")] = "es",
) -> None:
    """Why a customer was, or was not, contacted about an invoice on a date."""
    day = _day("--on", on)

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


@commands.command()
def record(
    form: Annotated[str, typer.Argument(help=f"What is told: {', '.join(recording.FORMS)}.")],
    data: Annotated[str, typer.Option("--data", help="The body that the HTTP call takes, as JSON; - reads it.")],
    about: Annotated[
        UUID | None, typer.Option("--about", help="The hold, task, promise, plan, dispute or case it is about.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="Who tells it.")] = "operator",
) -> None:
    """Tell dunning of a hold, promise, plan, dispute, hand-over or a task's end; prints the event that follows."""
    kind = recording.FORMS.get(form)
    if kind is None:
        cli.fail(f"no form {form!r}; there are {', '.join(recording.FORMS)}", cli.USAGE)
    try:
        told = kind.model_validate_json(sys.stdin.read() if data == "-" else data)
    except ValidationError as error:
        for fault in error.errors():
            sys.stderr.write(f"--data: /{'/'.join(map(str, fault['loc']))}: {fault['msg']}\n")
        raise typer.Exit(cli.USAGE) from None

    async def act(desk: Desk, database: Database) -> str:
        async with database.transaction() as tx:
            return (await recording.record(desk, tx, told, about=about, by=by)).model_dump_json()

    sys.stdout.write(_with_database(act) + "\n")


def _tried(text: str) -> preview.Tried:
    """A stored version, or the policy of a file."""
    name, separator, version = text.rpartition("@")
    if separator and version.isdecimal():
        return name, int(version)
    document, report = _read(text)
    played = policies.for_trial(document) if not report.errors else None
    if played is None:
        for fault in report.errors:
            sys.stderr.write(fault.told(text) + "\n")
        raise typer.Exit(cli.FAILED)
    return played


def _format(export: Path) -> spreadsheets.Format:
    try:
        return spreadsheets.format_of(export)
    except ValueError as error:
        cli.fail(f"--export: {error}", cli.USAGE)


def _progress(accounts: int) -> None:
    if not accounts % _TOLD_EVERY:
        sys.stderr.write(f"{accounts} accounts\n")


def _assumed(assumptions: Sequence[str]) -> None:
    for line in assumptions:
        sys.stderr.write(f"assumed: {line}\n")


def _pair(text: str) -> tuple[str, str]:
    old, separator, new = text.partition("=")
    if not (old and separator and new):
        cli.fail(f"--step: expected OLD=NEW, got {text!r}", cli.USAGE)
    return old, new


def _step_on(told: tuple[str, date] | None) -> str:
    return "nothing" if told is None else f"{told[0]} on {told[1]}"


def _day(option: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        cli.fail(f"{option}: expected a date such as 2027-01-14, got {text!r}", cli.USAGE)


def _checked_for(company: str, file: str) -> Report:
    """All faults of a file beside what the company has."""
    source = _source(file)

    async def act(desk: Desk, database: Database) -> Report:
        async with database.transaction() as tx:
            return await policies.check_for(desk, tx, source, company=company)

    return _with_database(act)


def _read(file: str) -> tuple[Table, Report]:
    """The document and all of its faults."""
    return policies.check_source(_source(file))


def _source(file: str) -> str:
    try:
        return gateways.read_source(file)
    except (OSError, UnicodeDecodeError) as error:
        cli.fail(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}", cli.USAGE)


def _with_database(act: Callable[[Desk, Database], Awaitable[Result]], *, file: str = "policy") -> Result:
    """What is done with the database; the faults of a refused file are told one a line, under its name."""
    settings = load(DunningSettings)

    async def run() -> Result:
        database = Database(
            settings.database_url.get_secret_value(),
            service="dunning",
            clock=BusinessClock(settings.clock_file),
            notifies=True,
        )
        try:
            companies = Companies.read(settings.companies_file)
            return await act(Desk(companies, settings.evaluation_hour, settings.brake_floor), database)
        finally:
            await database.close()

    try:
        return cli.run(run())
    except PolicyRefusedError as error:
        faults = cast("Sequence[Mapping[str, object]]", error.facts.get("faults", ()))
        for fault in faults:
            sys.stdout.write("{}:{line}:{column} {code} {key}: {text}\n".format(file, **fault))
        cli.fail("refused for these faults; nothing was changed" if faults else str(error), cli.REFUSED)
    except DunningError as error:
        cli.fail(str(error), cli.REFUSED)
