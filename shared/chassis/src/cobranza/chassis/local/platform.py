"""One whole platform on this machine: database, broker, mailbox and the five services."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from cobranza.chassis import settings
from cobranza.chassis.local import ports
from cobranza.chassis.local.faults import LocalModeError
from cobranza.chassis.local.jars import class_path
from cobranza.chassis.local.java import find_java
from cobranza.chassis.local.kafka import Kafka
from cobranza.chassis.local.postgres import Postgres, ServiceDatabase
from cobranza.chassis.local.state import State
from cobranza.chassis.local.supervisor import Program, Supervisor

SERVICES = ("invoicing", "payments", "dunning", "notifications", "analytics")
DEFAULT_API_PORT = 8000

# The installed script may be off an empty path, or not installed at all; the module never is.
_COBRANZA = (sys.executable, "-c", "from cobranza.chassis.cli import main; main()")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Stage:
    """How far one step of the start has come; ``done`` equals ``total`` when it is over."""

    name: str
    done: int
    total: int


class LocalPlatform:
    """A running platform in one state directory; use as an async context manager.

    What the environment already offers is used instead of being started: the ten database URLs,
    the broker of ``KAFKA_BOOTSTRAP``.

    Args:
        state_dir: where its data, ports, passwords and logs are kept.
        tests: true gives up safety from power cuts for speed.
        overrides: settings for the services that win over this process's environment.
        api_port: the port of the APIs; None takes the kept one, 8000 or any free one.
        progress: told of each step of the start.
        echo: receives every log line of every program.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        tests: bool = False,
        overrides: Mapping[str, str] | None = None,
        api_port: int | None = None,
        progress: Callable[[Stage], None] = lambda _stage: None,
        echo: Callable[[str], None] | None = None,
    ) -> None:
        self._state = State(state_dir)
        self._tests = tests
        self._environ = {**settings.environment(), **(overrides or {})}
        self._asked_api_port = api_port
        self._progress = progress
        self._echo = echo
        self._databases = _given_databases(self._environ)
        self._bootstrap = self._environ.get("KAFKA_BOOTSTRAP")
        self._postgres: Postgres | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._state.__enter__)
        self._supervisor = Supervisor(
            logs=self._state.directory / "logs",
            pids=self._state.directory / "run",
            inherit=self._state.lock_descriptor,
            echo=self._echo,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._supervisor.stop()
        finally:
            self._state.__exit__()

    @property
    def directory(self) -> Path:
        """The state directory."""
        return self._state.directory

    @property
    def mailbox(self) -> Path:
        """Where the mail sink keeps what the services send."""
        return self._state.directory / "mailbox"

    @property
    def postgres(self) -> Postgres:
        """Our own database server.

        Raises:
            LocalModeError: it was not started, because the environment gave databases.
        """
        if self._postgres is None:
            raise LocalModeError("The databases were given by the environment; none runs here.")
        return self._postgres

    @property
    def bootstrap(self) -> str:
        """Where Kafka clients begin; known once the broker was started or given."""
        assert self._bootstrap is not None, "start the infrastructure first"
        return self._bootstrap

    @property
    def api_port(self) -> int:
        """The port on which all five APIs and their pages answer."""
        return self._api_port

    async def until_ready(self, name: str) -> None:
        """Wait until the program ``name``, killed and started again, serves."""
        await self._supervisor.until_ready(name)

    def pid(self, name: str) -> int:
        """The process that runs the program ``name`` now."""
        return self._supervisor.pid(name)

    async def failed(self) -> LocalModeError:
        """Wait until some program cannot be kept running, and say which and why."""
        return await self._supervisor.failed()

    async def start_infrastructure(self) -> None:
        """Bring database, broker and mailbox up, those that are not given; then the databases.

        Raises:
            LocalModeError: a part is missing, damaged or does not start.
        """
        self._choose_api_port()
        programs = [self._mail_sink()]
        if not self._databases:
            programs.append(await self._prepared_postgres())
        if self._bootstrap is None:
            programs.append(await self._prepared_kafka())
        self._progress(Stage("infrastructure", 0, len(programs)))
        await self._supervisor.start(*programs)
        self._progress(Stage("infrastructure", len(programs), len(programs)))
        if not self._databases:
            self._databases = {service: await self.postgres.ensure_database(service) for service in SERVICES}

    async def start_postgres(self) -> Postgres:
        """Bring only a database server up."""
        await self._supervisor.start(await self._prepared_postgres())
        return self.postgres

    async def start_kafka(self) -> str:
        """Bring only a broker up, and say where clients begin."""
        await self._supervisor.start(await self._prepared_kafka())
        return self.bootstrap

    def environment(self) -> dict[str, str]:
        """The environment that the services and the ``cobranza`` command run in.

        Call it after ``start_infrastructure``.
        """
        databases = {
            name: url
            for service, database in self._databases.items()
            for name, url in (
                (f"{service.upper()}_DATABASE_URL", database.app_url),
                (f"{service.upper()}_OWNER_DATABASE_URL", database.owner_url),
            )
        }
        return {
            **self._environ,
            **databases,
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "PAYMENTS_URL": f"http://127.0.0.1:{self._api_port}",
            "COBRANZA_LOCAL_MODE": "true",
            "COBRANZA_MAILBOX": str(self.mailbox),
            "COBRANZA_SMTP_HOST": "127.0.0.1",
            "COBRANZA_SMTP_PORT": str(self._smtp_port),
            "COBRANZA_CURSOR_SECRET": self._state.password("cursor"),
        }

    async def start_services(self) -> None:
        """Make topics and tables, then run the APIs in one process and a worker per service.

        Raises:
            LocalModeError: a step failed or a process was not ready in time; its log is named.
        """
        await self._run_together(
            "topics and tables",
            self._command("topics-apply", "topics", "apply"),
            *(self._command(f"{name}-migrate", name, "migrate") for name in SERVICES),
        )
        servers = [
            self._server("api", "api", "--port", str(self._api_port)),
            *(self._server(f"{name}-worker", name, "worker") for name in SERVICES),
        ]
        self._progress(Stage("services", 0, len(servers)))
        await self._supervisor.start(*servers)
        self._progress(Stage("services", len(servers), len(servers)))

    async def _run_together(self, stage: str, *programs: Program) -> None:
        done = 0
        self._progress(Stage(stage, done, len(programs)))

        async def run(program: Program) -> None:
            nonlocal done
            await self._supervisor.run(program)
            done += 1
            self._progress(Stage(stage, done, len(programs)))

        try:
            async with asyncio.TaskGroup() as together:
                for program in programs:
                    together.create_task(run(program))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _prepared_postgres(self) -> Program:
        self._progress(Stage("database", 0, 1))
        self._postgres = Postgres(self._state, self._environ, durable=not self._tests)
        await asyncio.to_thread(self._postgres.prepare)
        self._progress(Stage("database", 1, 1))
        return self._postgres.program()

    async def _prepared_kafka(self) -> Program:
        java = find_java(self._environ)
        jars = await asyncio.to_thread(
            class_path,
            self._environ,
            fallback=self._state.directory / "jars",
            progress=lambda done, total: self._progress(Stage("jars", done, total)),
        )
        kafka = Kafka(self._state, java, jars)
        self._progress(Stage("broker", 0, 1))
        await asyncio.to_thread(kafka.prepare)
        self._progress(Stage("broker", 1, 1))
        self._bootstrap = kafka.bootstrap
        return kafka.program()

    def _mail_sink(self) -> Program:
        self._smtp_port = self._state.port("smtp")
        sink = ("-m", "cobranza.chassis.local.mailbox")

        async def listens() -> bool:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self._smtp_port)
                writer.close()
                return True
            return False

        return Program(
            name="mailbox",
            command=(
                *(sys.executable, *sink),
                *("--directory", self.mailbox, "--port", str(self._smtp_port)),
            ),
            environment=self._environ,
            ready=listens,
        )

    def _command(self, name: str, *arguments: str) -> Program:
        return Program(
            name=name,
            command=(*_COBRANZA, *arguments),
            environment=self.environment(),
        )

    def _server(self, name: str, *arguments: str) -> Program:
        port = self._state.port(f"{name}-operations")

        async def is_ready() -> bool:
            try:
                async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
                    answer = await client.get(f"http://127.0.0.1:{port}/readyz")
            except httpx.HTTPError:
                return False
            return answer.is_success

        return Program(
            name=name,
            command=(*_COBRANZA, *arguments),
            environment=self.environment() | {"COBRANZA_OPERATIONS_PORT": str(port)},
            ready=is_ready,
        )

    def _choose_api_port(self) -> None:
        asked = self._asked_api_port
        if asked is None:
            self._api_port = self._state.port("api", preferred=DEFAULT_API_PORT)
        elif ports.is_free(asked):
            self._api_port = asked
        else:
            raise LocalModeError(
                f"Port {asked} is taken by another program.",
                remedy="Choose another with --port, or leave it out to take a free one.",
            )


def run(work: Coroutine[Any, Any, _Result]) -> _Result | None:
    """Run ``work`` until it ends, or until SIGINT or SIGTERM asks it to; None when asked.

    The first signal cancels it, so that every ``async with`` inside ends in order; later ones are
    ignored meanwhile.
    """

    async def guarded() -> _Result | None:
        task = asyncio.ensure_future(work)
        asked = asyncio.Event()

        def stop() -> None:
            if not asked.is_set():
                asked.set()
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(guarded())


def _given_databases(environ: Mapping[str, str]) -> dict[str, ServiceDatabase]:
    given = {
        service: ServiceDatabase(app, environ.get(f"{service.upper()}_OWNER_DATABASE_URL", app))
        for service in SERVICES
        if (app := environ.get(f"{service.upper()}_DATABASE_URL"))
    }
    if given and len(given) < len(SERVICES):
        missing = [f"{name.upper()}_DATABASE_URL" for name in SERVICES if name not in given]
        raise LocalModeError(
            f"Only some databases are given: {', '.join(missing)} missing.",
            remedy="Set all of them, or none to have a database server started.",
        )
    return given
