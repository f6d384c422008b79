"""Speed and memory beside fair opponents; nothing here is asserted, and wrong totals show no rate."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import ageing
import evaluation
import imports
import nightly
import payments
import preview
import relay
import running
import statements
from figures import Figure, WrongTotalsError, describe, say

from cobranza.chassis.local.faults import LocalModeError

Benchmark = Callable[[Path, bool], Coroutine[Any, Any, list[Figure]]]


async def _payments(directory: Path, quick: bool) -> list[Figure]:  # noqa: FBT001
    return await payments.measure(directory, payments=2_000 if quick else 20_000, rounds=1 if quick else 3)


async def _relay(directory: Path, quick: bool) -> list[Figure]:  # noqa: FBT001
    return await relay.measure(directory, rows=2_000 if quick else 20_000, rounds=1 if quick else 3)


async def _ageing(directory: Path, quick: bool) -> list[Figure]:  # noqa: FBT001
    return await ageing.measure(directory, receivables=20_000 if quick else 1_000_000, rounds=1 if quick else 7)


async def _statements(directory: Path, quick: bool) -> list[Figure]:  # noqa: FBT001
    return await statements.measure(
        directory, receivables=20_000 if quick else 1_000_000, statements=50 if quick else 500
    )


async def _imports(directory: Path, quick: bool) -> list[Figure]:  # noqa: FBT001
    return await imports.measure(directory, entries=1_000 if quick else 50_000)


async def _preview(directory: Path, quick: bool) -> list[Figure]:  # noqa: FBT001
    return await preview.measure(directory, cases=2_000 if quick else 10_000)


async def _full_preview(directory: Path, _quick: bool) -> list[Figure]:  # noqa: FBT001
    return await preview.measure(directory, cases=250_000)


async def _running(directory: Path, quick: bool) -> list[Figure]:  # noqa: FBT001
    rounds, http_seconds, stream_seconds = (1, 2, 3) if quick else (3, 10, 20)
    return await running.measure(directory, rounds=rounds, http_seconds=http_seconds, stream_seconds=stream_seconds)


async def _evaluation(directory: Path, quick: bool) -> list[Figure]:  # noqa: FBT001
    return await evaluation.measure(directory, cases=2_000 if quick else 40_000, rounds=1 if quick else 3)


async def _nightly(directory: Path, quick: bool) -> list[Figure]:  # noqa: FBT001
    return await nightly.measure(directory, cases=2_000 if quick else 25_000)


async def _full_nightly(directory: Path, _quick: bool) -> list[Figure]:  # noqa: FBT001
    return await nightly.measure(directory, cases=250_000)


BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "payments": _payments,
    "relay": _relay,
    "ageing": _ageing,
    "statements": _statements,
    "imports": _imports,
    "preview": _preview,
    "evaluation": _evaluation,
    "nightly": _nightly,
    "running": _running,
}
#: Too long for every run: only when asked for by name.
_ON_DEMAND: Final[Mapping[str, Benchmark]] = {"full-nightly": _full_nightly, "full-preview": _full_preview}


def main() -> int:
    """Run the benchmarks that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", choices=(*BENCHMARKS, *_ON_DEMAND), action="append", help="one benchmark; may be repeated"
    )
    parser.add_argument("--out", type=Path, help="write every figure as JSON")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs, not how fast")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="cobranza-bench-"))
    machine = describe(directory)
    for name, value in machine.items():
        say(f"{name:<14} {value}")
    found: list[Figure] = []
    failed = []
    started = time.perf_counter()
    for name in options.only or BENCHMARKS:
        say(f"— {name}")
        state = directory / name
        state.mkdir()
        try:
            figures = asyncio.run({**BENCHMARKS, **_ON_DEMAND}[name](state, options.quick))
        except (WrongTotalsError, LocalModeError) as error:
            failed.append(name)
            say(f"  FAILED, no rate: {error}; state in {state}")
        else:
            found += figures
            for figure in figures:
                say(f"  {figure}")
            shutil.rmtree(state, ignore_errors=True)
    say(f"— took {time.perf_counter() - started:.0f} s; every figure is the median of its rounds")
    if options.out:
        told = {"machine": machine, "quick": options.quick, "figures": [figure.told() for figure in found]}
        options.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if not failed:
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
