"""Brings Kafka's jars, exactly those of the committed lock, without Maven or a download page."""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cobranza.chassis import settings
from cobranza.chassis.local.faults import PartMissingError, explained

KAFKA_VERSION = "4.3.1"
_ROOTS = (
    # The mark pins the version: without it, one that a dependency manages is taken.
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}!",
    "org.apache.logging.log4j:log4j-core:2.25.3!",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3!",
)
_LOCK_NAME = "jars.lock"

Progress = Callable[[int, int], None]
"""Called with (jars in place, jars in all)."""


@dataclass(frozen=True)
class LockedJar:
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The jar's name in the cache; unique within the lock."""
        return f"{self.group}.{self.artifact}-{self.version}.jar"

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


def locked_jars() -> tuple[LockedJar, ...]:
    """The jars of the committed lock, in class path order."""
    text = files("cobranza.chassis.local").joinpath(_LOCK_NAME).read_text()
    jars = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            coordinate, digest = line.split(" sha256:")
            group, artifact, version = coordinate.split(":")
            jars.append(LockedJar(group, artifact, version, digest))
    return tuple(jars)


def jar_cache(environ: Mapping[str, str]) -> Path:
    """Where the jars are kept: the user's cache directory, shared by every state directory."""
    named = environ.get("XDG_CACHE_HOME")
    base = Path(named) if named else Path("~").expanduser() / ".cache"
    return base / "cobranza" / "kafka" / KAFKA_VERSION


def class_path(
    environ: Mapping[str, str], *, fallback: Path, progress: Progress = lambda _done, _all: None
) -> tuple[Path, ...]:
    """The jars to run the broker with, fetched when they are not here yet.

    Args:
        environ: ``KAFKA_HOME`` names an installed Kafka, whose jars are taken as they are.
        fallback: the cache when the user's own cannot be written.
        progress: told of every jar that is in place.

    Raises:
        PartMissingError: ``KAFKA_HOME`` holds no jars, a fetch failed, or a jar has another hash.
    """
    if home := environ.get("KAFKA_HOME"):
        found = tuple(sorted((Path(home) / "libs").glob("*.jar")))
        if not found:
            raise PartMissingError(
                f"KAFKA_HOME is {home}, but there are no jars in its libs directory.",
                remedy="Set it to an unpacked Kafka, or unset it.",
            )
        return found
    cache = _writable(jar_cache(environ), fallback=fallback)
    jars = locked_jars()
    missing = [jar for jar in jars if not _matches(cache / jar.file_name, jar)]
    progress(len(jars) - len(missing), len(jars))
    if missing:
        _export_trust(environ)
        with explained(cache):
            here = len(jars) - len(missing)
            _fetch(missing, cache, lambda fetched: progress(here + fetched, len(jars)))
    return tuple(cache / jar.file_name for jar in jars)


def missing_jars(environ: Mapping[str, str], *, fallback: Path) -> tuple[LockedJar, ...]:
    """Those that a start would have to fetch; nothing is fetched."""
    caches = (jar_cache(environ), fallback)
    return tuple(jar for jar in locked_jars() if not any(_matches(cache / jar.file_name, jar) for cache in caches))


def _writable(cache: Path, *, fallback: Path) -> Path:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            return cache
    except OSError:
        # A home that cannot be written is common for service accounts.
        with explained(fallback):
            fallback.mkdir(parents=True, exist_ok=True)
        return fallback


def _matches(path: Path, jar: LockedJar) -> bool:
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _fetch(jars: Iterable[LockedJar], cache: Path, progress: Callable[[int], None]) -> None:
    from jgo.maven import MavenContext  # noqa: PLC0415 - only a first start needs it

    # Staged beside the cache, so that moving a checked jar into place is one rename.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as staging:
        repository = MavenContext(
            repo_cache=Path(staging),
            local_repos=[Path("~").expanduser() / ".m2" / "repository"],
            timeout=60,
        )
        for done, jar in enumerate(jars, start=1):
            component = repository.project(jar.group, jar.artifact).at_version(jar.version)
            try:
                found = component.artifact().resolve()
            except (OSError, RuntimeError) as failure:
                raise PartMissingError(
                    f"Kafka's jar {jar} could not be fetched ({type(failure).__name__}).",
                    remedy="Check the network and its proxy, or set KAFKA_HOME.",
                ) from failure
            if not _matches(found, jar):
                raise PartMissingError(
                    f"Kafka's jar {jar} differs from the lock (sha-256) and was not used.",
                    remedy="Fetch it again, or set KAFKA_HOME.",
                )
            copy = Path(staging) / f"{jar.file_name}.checked"
            shutil.copyfile(found, copy)
            copy.replace(cache / jar.file_name)
            progress(done)


def _export_trust(environ: Mapping[str, str]) -> None:
    # The HTTP client under the fetch reads this variable alone, while machines behind a company's
    # own certificate authority mostly set the other one.
    named = environ.get("REQUESTS_CA_BUNDLE") or environ.get("SSL_CERT_FILE")
    if named and Path(named).is_file():
        os.environ["REQUESTS_CA_BUNDLE"] = named  # noqa: TID251 - set for the client, not read


def resolve_lock() -> str:
    """The text of a new lock: every jar that the broker needs to run, with its hash.

    Raises:
        RuntimeError: a coordinate resolves to nothing.
    """
    from jgo.maven import MavenContext  # noqa: PLC0415 - only a new lock needs it

    _export_trust(settings.environment())
    with tempfile.TemporaryDirectory() as directory:
        repository = MavenContext(repo_cache=Path(directory), local_repos=[], timeout=60)
        roots = [repository.create_dependency(root) for root in _ROOTS]
        inputs, transitive = repository.resolver.resolve(roots)
        lines = set()
        for found in (*inputs, *transitive):
            jar = found.artifact.resolve()
            digest = hashlib.sha256(jar.read_bytes()).hexdigest()
            coordinate = f"{found.groupId}:{found.artifactId}:{found.artifact.version}"
            lines.add(f"{coordinate} sha256:{digest}")
    header = f"# Apache Kafka {KAFKA_VERSION} and what it runs with. Written by: make lock-kafka"
    return "\n".join([header, *sorted(lines), ""])


if __name__ == "__main__":
    if sys.argv[1:] != ["lock"]:
        sys.exit("usage: python -m cobranza.chassis.local.jars lock")
    Path(__file__).with_name(_LOCK_NAME).write_text(resolve_lock())
