"""Says what of local mode's parts is on this machine, and how to mend what is not."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cobranza.chassis import companies, settings
from cobranza.chassis.local import ports
from cobranza.chassis.local.faults import LocalModeError
from cobranza.chassis.local.jars import KAFKA_VERSION, jar_cache, locked_jars, missing_jars
from cobranza.chassis.local.java import find_java
from cobranza.chassis.local.platform import DEFAULT_API_PORT
from cobranza.chassis.local.postgres import find_binaries

_OLDEST_PYTHON = (3, 11)
_NEEDED_DISK_MB = 1024
_NEEDED_MEMORY_MB = 1536


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``remedy`` is the one thing to do when it is not ``ok``."""

    name: str
    found: str | None
    ok: bool
    remedy: str = ""


def examine(state_dir: Path, *, companies_file: Path | None) -> list[Finding]:
    """Look at every part that a start needs; nothing is changed, fetched or started."""
    environ = settings.environment()
    return [
        _python(),
        _java(environ),
        _jars(environ, state_dir),
        _postgres(environ),
        _companies(companies_file),
        _state(state_dir),
        _port(),
        _disk(state_dir),
        _memory(),
    ]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info[:2] >= _OLDEST_PYTHON
    return Finding("Python", found, ok, "" if ok else "Install Python 3.11 or newer.")


def _java(environ: Mapping[str, str]) -> Finding:
    if environ.get("KAFKA_BOOTSTRAP"):
        return Finding("Java", "not needed: KAFKA_BOOTSTRAP is set", ok=True)
    try:
        java = find_java(environ)
    except LocalModeError as missing:
        return Finding("Java", None, ok=False, remedy=missing.remedy)
    return Finding("Java", f"{java.version}, {java.origin} ({java.executable})", ok=True)


def _jars(environ: Mapping[str, str], state_dir: Path) -> Finding:
    name = f"Kafka {KAFKA_VERSION}"
    if given := environ.get("KAFKA_BOOTSTRAP"):
        return Finding(name, f"the broker of KAFKA_BOOTSTRAP, {given}", ok=True)
    if home := environ.get("KAFKA_HOME"):
        found = len(list((Path(home) / "libs").glob("*.jar")))
        remedy = "" if found else "Set KAFKA_HOME to an unpacked Kafka, or unset it."
        return Finding(name, f"{found} jars of KAFKA_HOME, {home}", ok=bool(found), remedy=remedy)
    missing, total = missing_jars(environ, fallback=state_dir / "jars"), len(locked_jars())
    found_text = f"{total - len(missing)} of {total} jars in {jar_cache(environ)}"
    # A start fetches what is missing: worth saying, not a fault.
    return Finding(name, found_text + ("; the start fetches the rest" if missing else ""), ok=True)


def _postgres(environ: Mapping[str, str]) -> Finding:
    if environ.get("INVOICING_DATABASE_URL"):
        return Finding("PostgreSQL", "the servers of <SERVICE>_DATABASE_URL", ok=True)
    try:
        binaries = find_binaries(environ)
    except LocalModeError as missing:
        return Finding("PostgreSQL", None, ok=False, remedy=missing.remedy)
    where = f"{binaries.version}, {binaries.origin} ({binaries.directory})"
    return Finding("PostgreSQL", where, ok=True)


def _companies(path: Path | None) -> Finding:
    if path is None:
        return Finding("companies", None, ok=False, remedy="Set COBRANZA_COMPANIES to a file.")
    try:
        companies.Companies.read(path)
    except companies.CompaniesError as fault:
        return Finding("companies", str(path), ok=False, remedy=str(fault))
    return Finding("companies", str(path), ok=True)


def _state(state_dir: Path) -> Finding:
    nearest = _nearest(state_dir)
    ok = os.access(nearest, os.W_OK)
    remedy = "" if ok else "Choose a place you can write with --state DIR."
    found = str(state_dir) if state_dir.exists() else f"{state_dir}, made at the first start"
    return Finding("state", found, ok, remedy)


def _port() -> Finding:
    free = ports.is_free(DEFAULT_API_PORT)
    # The start takes another one by itself.
    found = "free" if free else "taken; the start takes another"
    return Finding(f"port {DEFAULT_API_PORT}", found, ok=True)


def _disk(state_dir: Path) -> Finding:
    free = shutil.disk_usage(_nearest(state_dir)).free // 1024**2
    ok = free >= _NEEDED_DISK_MB
    remedy = "" if ok else f"Free {_NEEDED_DISK_MB} MB, or choose another disk with --state DIR."
    return Finding("disk", f"{free} MB free", ok, remedy)


def _memory() -> Finding:
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2
    except (ValueError, OSError):
        return Finding("memory", "this system does not tell", ok=True)
    try:
        # What the system would give back counts as free.
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) // 1024
    except OSError:
        pass
    ok = free >= _NEEDED_MEMORY_MB
    remedy = "" if ok else f"Close other programs: {_NEEDED_MEMORY_MB} MB are needed."
    return Finding("memory", f"{free} MB free", ok, remedy)


def _nearest(path: Path) -> Path:
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
