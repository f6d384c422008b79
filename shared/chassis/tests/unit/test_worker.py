"""A worker that loses a part must not live on without it."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import asyncio
from types import SimpleNamespace
from cobranza.chassis import worker

async def nothing(*_): return None
async def breaks(): raise ValueError("the relay broke")
async def lasts(): await asyncio.sleep(600)

one = object.__new__(worker.Worker)
one._service = SimpleNamespace(name="dunning", jobs=lambda _: (), invariants=())
one._context = SimpleNamespace()
one._stopping = asyncio.Event()
one._relay = SimpleNamespace(run=breaks, holds_lock=False)
one._scheduler = SimpleNamespace(run=lasts)
one._streams = None
one._operations = SimpleNamespace(start=nothing, stopping=lambda: None)
asyncio.run(one.run())
"""


def test_a_part_that_raises_ends_the_process_at_once() -> None:
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False, timeout=30)

    assert ended.returncode == 70
    assert "the relay broke" in ended.stdout + ended.stderr
