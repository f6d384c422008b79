"""The `cobranza` command: the platform's verbs, and those of every installed service."""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cobranza.chassis import api, migrations, parking, topics_admin, worker
from cobranza.chassis.clock import BusinessClock, ClockError
from cobranza.chassis.companies import CompaniesError
from cobranza.chassis.comparison import lasting_differences
from cobranza.chassis.database import Database, is_transient
from cobranza.chassis.service import Figure, Service
from cobranza.chassis.settings import PlatformSettings, SettingsError, load
from cobranza.contracts import envelope
from cobranza.contracts.topics import CATALOGUE

#: Exit codes of every verb.
FAILED, USAGE, DEPENDENCY, REFUSED = 1, 2, 3, 4

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)
Result = TypeVar("Result")

State = Annotated[Path, typer.Option("--state", help="Where data, ports, passwords and logs are kept.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with what was done.")]
ServiceName = Annotated[str, typer.Option("--service", help="The service whose parking lot it is.")]


def services() -> dict[str, Service[Any]]:
    """The installed services by name, in the order of the entry-point group's names."""
    found = entry_points(group="cobranza.services")
    return {entry.name: entry.load() for entry in sorted(found, key=lambda entry: entry.name)}


def fail(text: str, code: int) -> NoReturn:
    """End with one clear line on standard error."""
    err.print(f"[bold red]error[/]: {escape(text)}", highlight=False)
    raise typer.Exit(code)


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a verb's coroutine; its known faults become one line and an exit code."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(coroutine)
    except (SettingsError, CompaniesError, ClockError, api.PortTakenError) as error:
        fail(str(error), USAGE)
    except parking.ParkingError as error:
        fail(str(error), REFUSED)
    except Exception as error:
        if is_transient(error):
            fail(f"a dependency is away: {error}; `cobranza doctor` says what was found", DEPENDENCY)
        raise


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def build() -> typer.Typer:
    """The whole command, with a group per installed service."""
    app = typer.Typer(
        name="cobranza", help="Collects receivables, driven by events.", no_args_is_help=True,
        pretty_exceptions_enable=False, add_completion=False,
    )  # fmt: skip
    app.add_typer(_topics(), name="topics")
    app.add_typer(_events(), name="events")
    app.add_typer(_parked(), name="parked")
    app.add_typer(_clock(), name="clock")
    _platform_verbs(app)
    for name, service in services().items():
        app.add_typer(_service_group(service), name=name)
    return app


def main() -> None:
    """Entry point of the `cobranza` script."""
    try:
        build()()
    except (SettingsError, CompaniesError, ClockError) as error:
        err.print(f"[bold red]error[/]: {error}", highlight=False)
        sys.exit(USAGE)


def _platform_verbs(app: typer.Typer) -> None:
    @app.command("api")
    def serve(
        port: Annotated[int, typer.Option(help="Port on the loopback address.")] = 8080,
    ) -> None:
        """Serve every installed service's API and pages on one port, each under its prefix."""
        run(api.serve(list(services().values()), port=port))

    @app.command()
    def up(
        state: State = Path(".state"),
        port: Annotated[int | None, typer.Option(help="Port of APIs and pages; default 8000 or a free one.")] = None,
        companies: Annotated[Path, typer.Option(help="The companies file.")] = Path("deploy/companies.yaml"),
        wipe: Annotated[
            bool, typer.Option("--wipe", help="Start afresh: remove what the state directory keeps.")
        ] = False,
        verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs of every program.")] = False,
    ) -> None:
        """Run the whole platform on this machine: database, broker, mailbox, five services."""
        # Local mode is an extra: its parts are imported when asked for.
        from cobranza.chassis.local import faults, platform
        from cobranza.chassis.local import state as kept

        async def stay() -> None:
            async with platform.LocalPlatform(
                state,
                api_port=port,
                overrides={"COBRANZA_COMPANIES": str(companies.resolve())},
                progress=lambda stage: err.print(f"{stage.name} {stage.done}/{stage.total}", highlight=False),
                echo=(lambda line: err.print(line, markup=False, highlight=False)) if verbose else None,
            ) as running:
                await running.start_infrastructure()
                await running.start_services()
                out.print(
                    f"ready: http://127.0.0.1:{running.api_port}/  mailbox: http://127.0.0.1:{running.api_port}/mailbox/"
                )
                out.print(f"Kafka: {running.bootstrap}  state: {running.directory}  (Ctrl-C stops everything)")
                raise await running.failed()

        try:
            if wipe:
                kept.wipe(state)
            platform.run(stay())
        except faults.LocalModeError as error:
            fail(f"{error.problem} {error.remedy}", DEPENDENCY)

    @app.command()
    def doctor(
        state: State = Path(".state"),
        companies: Annotated[Path, typer.Option(help="The companies file.")] = Path("deploy/companies.yaml"),
        as_json: Annotated[bool, typer.Option("--json")] = False,
    ) -> None:
        """Say what local mode finds, what is missing, and the one command that mends it."""
        from cobranza.chassis.local import doctor as examination

        findings = examination.examine(state, companies_file=companies)
        if as_json:
            sys.stdout.write(json.dumps([asdict(finding) for finding in findings]) + "\n")
        else:
            table = Table("part", "found", "verdict", "remedy")
            for finding in findings:
                table.add_row(
                    finding.name, finding.found or "nothing", "ok" if finding.ok else "[red]missing[/]", finding.remedy
                )
            out.print(table)
        if not all(finding.ok for finding in findings):
            raise typer.Exit(DEPENDENCY)

    @app.command()
    def verify(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        """Ask every promise that the databases can answer; exit 1 if one is broken."""
        found = run(_verify(list(services().values())))
        broken = {name: count for name, count in found.items() if count}
        if as_json:
            sys.stdout.write(json.dumps(found) + "\n")
        else:
            table = Table("promise", "rows that break it", "verdict")
            for name, count in found.items():
                table.add_row(name, str(count), "holds" if not count else "[red]broken[/]")
            out.print(table)
        if broken:
            raise typer.Exit(FAILED)

    @app.command()
    def trace(correlation_id: str, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        """Follow one correlation id through the services' outboxes."""
        rows = run(_trace(list(services().values()), correlation_id))
        if not rows:
            fail(f"no event carries the correlation id {correlation_id!r}", FAILED)
        for row in rows:
            sys.stdout.write(
                json.dumps(row) + "\n"
                if as_json
                else f"{row['occurred_at']}  {row['service']:<14} {row['type']:<45} {row['subject']}\n"
            )


async def _verify(members: Sequence[Service[Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    shared: dict[str, list[tuple[str, Database, Figure]]] = {}
    async with AsyncExitStack() as open_databases:
        for service in members:
            context = service.context(notifies=True)
            open_databases.push_async_callback(context.database.close)
            counts = await worker.violations(context, service.invariants)
            found.update({f"{service.name}: {name}": count for name, count in counts.items()})
            for figure in service.figures:
                shared.setdefault(figure.name, []).append((service.name, context.database, figure))
        for name, knowing in shared.items():
            differences = await lasting_differences([(database, figure) for _, database, figure in knowing])
            found[f"{' = '.join(service for service, _, _ in knowing)}: {name}"] = len(differences)
    return found


async def _trace(members: Sequence[Service[Any]], correlation_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for service in members:
        context = service.context(notifies=True)
        try:
            async with context.database.transaction() as tx:
                found = await tx.execute(
                    """
                    SELECT event_id, type, subject, sequence, occurred_at FROM outbox
                    WHERE headers @> jsonb_build_array(jsonb_build_array('ce_correlationid', CAST(:id AS text))) ORDER BY seq
                    """,
                    {"id": correlation_id},
                )
                rows += [
                    {
                        "service": service.name,
                        "type": row.type,
                        "subject": row.subject,
                        "sequence": row.sequence,
                        "event_id": str(row.event_id),
                        "occurred_at": row.occurred_at.isoformat(),
                    }
                    for row in found
                ]
        finally:
            await context.database.close()
    return sorted(rows, key=lambda row: str(row["occurred_at"]))


def _service_group(service: Service[Any]) -> typer.Typer:
    group = service.commands or typer.Typer(no_args_is_help=True)
    group.info.help = f"The {service.name} service."

    @group.command("worker")
    def run_worker() -> None:
        """Run agents, relay, timers and jobs until SIGTERM."""
        run(worker.run(service))

    @group.command("api")
    def run_api(port: Annotated[int, typer.Option()] = 8080) -> None:
        """Serve this service's API and pages."""
        run(api.serve([service], port=port))

    @group.command("migrate")
    def migrate() -> None:
        """Bring the database to this release's revision."""
        settings = load(service.settings)
        owner = settings.owner_database_url
        if owner is None:
            fail(
                f"{service.name.upper()}_OWNER_DATABASE_URL is not set: migrations need the owner role",
                USAGE,
            )
        migrations.upgrade(service.migrations, owner.get_secret_value())
        out.print(f"{service.name}: database is at this release's revision")

    return group


def _topics() -> typer.Typer:
    group = typer.Typer(help="Topics of the catalogue.", no_args_is_help=True)

    @group.command("apply")
    def apply(
        replication: Annotated[int, typer.Option(help="Copies of each partition.")] = 1,
    ) -> None:
        """Create the topics that are missing."""
        try:
            created = topics_admin.apply(load(PlatformSettings).kafka_bootstrap, replication=replication)
        except topics_admin.TopicsDifferError as error:
            fail(str(error), FAILED)
        out.print(f"created {len(created)} of {len(CATALOGUE)} topics" if created else "all topics are there")

    return group


def _events() -> typer.Typer:
    group = typer.Typer(help="Check and read events.", no_args_is_help=True)

    @group.command("validate")
    def validate(
        file: Annotated[
            Path,
            typer.Argument(help="JSON lines of structured CloudEvents; - reads standard input."),
        ],
        as_json: Annotated[bool, typer.Option("--json")] = False,
    ) -> None:
        """Check events against the contracts; needs no broker and no database. Exit 4 if one is refused."""
        try:
            lines = sys.stdin.buffer.readlines() if str(file) == "-" else file.read_bytes().splitlines()
        except OSError as error:
            fail(f"{file}: {error.strerror}", USAGE)
        faults = 0
        checked = 0
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            checked += 1
            fault = _fault_of(line)
            if fault is not None:
                faults += 1
                sys.stdout.write(
                    json.dumps({"line": number, **fault}) + "\n"
                    if as_json
                    else f"{file}:{number} {fault['code']} {fault['pointer'] or '/'}: {fault['detail']}"
                    + (f" ({fault['hint']})" if fault["hint"] else "")
                    + "\n"
                )
        if not as_json:
            out.print(f"{checked} events checked, {faults} refused")
        if faults or not checked:
            raise typer.Exit(REFUSED)

    @group.command()
    def show(
        topic: Annotated[str, typer.Argument(help="A topic of the catalogue, for example cobranza.payments.")],
        key: Annotated[str | None, typer.Option(help="Only this key, company|customer.")] = None,
        most: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest.")] = 20,
    ) -> None:
        """The newest events of a topic, one JSON line each, headers included."""
        if topic not in {entry.name for entry in CATALOGUE}:
            fail(f"no topic {topic!r}; the catalogue has {', '.join(entry.name for entry in CATALOGUE)}", USAGE)
        records = topics_admin.recent(
            load(PlatformSettings).kafka_bootstrap, topic, most=most if key is None else 10_000
        )
        wanted = [record for record in records if key is None or (record.key or b"").decode("utf-8", "replace") == key]
        for record in wanted[-most:]:
            sys.stdout.write(json.dumps(_shown(record), ensure_ascii=False) + "\n")

    return group


def _shown(record: Any) -> dict[str, Any]:
    text = (record.value or b"").decode("utf-8", "replace")
    try:
        value: Any = json.loads(text) if text else None
    except ValueError:
        value = text
    return {
        "partition": record.partition,
        "offset": record.offset,
        "key": (record.key or b"").decode("utf-8", "replace"),
        "headers": {name: (value_ or b"").decode("utf-8", "replace") for name, value_ in record.headers},
        "value": value,
    }


def _fault_of(line: bytes) -> dict[str, Any] | None:
    try:
        decoded = envelope.decode_structured(line)
    except envelope.EnvelopeError as error:
        return {
            "code": error.code,
            "pointer": error.pointer,
            "detail": error.detail,
            "hint": error.hint,
        }
    if isinstance(decoded, envelope.UnknownType):
        return {
            "code": "unknown_type",
            "pointer": "/type",
            "detail": f"no event type {decoded.type!r}",
            "hint": "docs/events.md lists the types",
        }
    return None


def _parked() -> typer.Typer:
    group = typer.Typer(help="Events that wait for a person.", no_args_is_help=True)

    def lot(service_name: str) -> tuple[Service[Any], Any]:
        found = services()
        if service_name not in found:
            fail(f"no service {service_name!r}; installed: {', '.join(found)}", USAGE)
        return found[service_name], found[service_name].context(notifies=True)

    async def act(service_name: str, verb: Any) -> Any:
        service, context = lot(service_name)
        try:
            return await verb(parking.Parking(context.database, consumer=service.name, agents=service.agents(context)))
        finally:
            await context.database.close()

    @group.command("list")
    def list_(
        service: Annotated[str | None, typer.Option("--service", help="One service; else all.")] = None,
        key: Annotated[str | None, typer.Option("--key")] = None,
        as_json: Annotated[bool, typer.Option("--json")] = False,
    ) -> None:
        """Open entries, oldest first, with where and why."""
        names = [service] if service else list(services())
        table = Table("service", "id", "state", "topic", "key", "reason", "since")
        total = 0
        for name in names:
            for entry in run(act(name, lambda p: p.list(key=key))):
                total += 1
                if as_json:
                    sys.stdout.write(
                        json.dumps({
                            "service": name, "id": entry.id, "state": entry.state, "topic": entry.topic,
                            "partition": entry.partition, "offset": entry.offset, "key": entry.key,
                            "code": entry.error_class, "pointer": entry.pointer, "detail": entry.error_text,
                            "parked_at": entry.parked_at.isoformat(),
                        }) + "\n"
                    )  # fmt: skip
                else:
                    reason = f"{entry.error_class or ''} {entry.pointer or ''} {entry.error_text or ''}".strip()
                    table.add_row(
                        name, str(entry.id), entry.state, entry.topic, entry.key, reason[:120],
                        entry.parked_at.isoformat(timespec="seconds"),
                    )  # fmt: skip
        if not as_json:
            out.print(table if total else "nothing is parked")

    @group.command()
    def show(parked_id: int, service: ServiceName) -> None:
        """One entry with its raw bytes."""
        sys.stdout.write(parking.as_text(run(act(service, lambda p: p.show(parked_id)))))

    @group.command()
    def fix(
        parked_id: int,
        file: Annotated[Path, typer.Argument(help="The corrected value.")],
        service: ServiceName,
        reason: Reason,
    ) -> None:
        """Apply a corrected value in the place of a parked event."""
        value = file.read_bytes()
        run(act(service, lambda p: p.fix(parked_id, value, actor=_actor(), reason=reason)))
        out.print(f"#{parked_id} was applied as corrected")

    @group.command()
    def release(key: str, service: ServiceName, reason: Reason) -> None:
        """Apply a key's parked events in order and free the key."""
        count = run(act(service, lambda p: p.release(key, actor=_actor(), reason=reason)))
        out.print(f"{count} events of {key} were applied")

    @group.command()
    def discard(parked_id: int, service: ServiceName, reason: Reason) -> None:
        """Close an entry without applying it."""
        run(act(service, lambda p: p.discard(parked_id, actor=_actor(), reason=reason)))
        out.print(f"#{parked_id} was discarded")

    @group.command("park-now")
    def park_now(topic: str, partition: int, service: ServiceName, reason: Reason) -> None:
        """Park the event that a partition is stuck on."""
        run(act(service, lambda p: p.park_now(topic, partition, actor=_actor(), reason=reason)))
        out.print("the worker parks it at its next attempt")

    @group.command()
    def resume(topic: str, service: ServiceName, reason: Reason) -> None:
        """Let a consumer go on that a flood of refused events stopped."""
        run(act(service, lambda p: p.resume(topic, actor=_actor(), reason=reason)))
        out.print(f"{service} goes on with {topic}")

    return group


def _clock() -> typer.Typer:
    group = typer.Typer(help="The business clock of demos, replays and tests.", no_args_is_help=True)

    def clock() -> BusinessClock:
        return BusinessClock(load(PlatformSettings).clock_file)

    @group.command()
    def show() -> None:
        """The business instant."""
        current = clock()
        out.print(f"{current.now().isoformat()} ({'standing' if current.is_virtual else 'real time'})")

    @group.command("set")
    def set_(instant: str) -> None:
        """Move the standing instant, for example to 2027-01-04T12:00:00Z."""
        try:
            clock().set(datetime.fromisoformat(instant))
        except (ValueError, ClockError) as error:
            fail(str(error), USAGE)

    @group.command()
    def forward(days: Annotated[int, typer.Argument(min=1)] = 1) -> None:
        """Move the standing instant by whole days."""
        current = clock()
        current.set(current.now() + timedelta(days=days))
        out.print(current.now().isoformat())

    return group
