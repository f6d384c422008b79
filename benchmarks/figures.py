"""What a benchmark finds, and on which machine: rates mean nothing without it."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

_LIBRARIES: Final = (
    "aiokafka", "asyncpg", "faust-streaming", "kafka-python", "pydantic", "sqlalchemy", "fastapi", "uvloop",
)  # fmt: skip
_SYNCS: Final = 100


class WrongTotalsError(Exception):
    """A run wrote something else than it must; its rate is not shown."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of several rounds.

    Args:
        against: what it is compared with.
        ratio: value / the other's value.
        wanted: what the product aims at.
    """

    name: str
    value: float
    unit: str
    against: str | None = None
    ratio: float | None = None
    rounds: list[float] = field(default_factory=list)
    wanted: str | None = None

    def told(self) -> dict[str, Any]:
        """As it is written to a file."""
        return asdict(self)

    def __str__(self) -> str:
        against = "" if self.ratio is None else f"   {self.ratio:.2f} of {self.against}"
        wanted = "" if self.wanted is None else f"   wanted {self.wanted}"
        spread = f"   median of {len(self.rounds)}: {', '.join(f'{r:,.1f}' for r in self.rounds)}"
        return f"{self.name:<58} {self.value:>12,.1f} {self.unit:<12}{against}{wanted}{spread}"


def median(values: Sequence[float]) -> float:
    """The middle of several rounds."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and what it ended, in seconds."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def describe(directory: Path) -> dict[str, Any]:
    """Versions, processor and disk of the machine that is measured."""
    return {
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": [round(load, 1) for load in psutil.getloadavg()],
        "fsync_ms": round(_fsync_seconds(directory) * 1000, 3),
    }


def say(text: object) -> None:
    """One line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _fsync_seconds(directory: Path) -> float:
    """Median time of one 8 KiB write made durable, in seconds."""
    took = []
    file = directory / "fsync"
    with file.open("wb", buffering=0) as opened:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            opened.write(b"\0" * 8192)
            os.fsync(opened.fileno())
            took.append(time.perf_counter() - started)
    file.unlink()
    return median(took)
