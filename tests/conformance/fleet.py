"""Worker processes that are started, killed, frozen and told to stop."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent
TOY = (str(PROGRAMS / "toy_worker.py"),)
STOCK = (str(PROGRAMS / "stock_worker.py"), "worker", "-l", "warn")


@dataclass
class Worker:
    """One place in the fleet and the process that fills it now."""

    name: str
    process: asyncio.subprocess.Process

    @property
    def runs(self) -> bool:
        """True while its process lives."""
        return self.process.returncode is None


class Fleet:
    """Workers of one program; all their output goes to one log file each."""

    def __init__(self, program: tuple[str, ...], *, environment: Mapping[str, str], logs: Path) -> None:
        self.program = program
        self._environment = dict(environment)
        self._logs = logs
        self.workers: list[Worker] = []
        self.ended_by_itself = 0

    async def start(self, name: str) -> Worker:
        """Start one more worker."""
        worker = Worker(name, await self._spawn(name))
        self.workers.append(worker)
        return worker

    async def _spawn(self, name: str) -> asyncio.subprocess.Process:
        with (self._logs / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *self.program,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self._logs,
            )

    async def kill(self, worker: Worker) -> None:
        """Kill -9 and start again at once."""
        worker.process.kill()
        await worker.process.wait()
        worker.process = await self._spawn(worker.name)

    async def freeze(self, worker: Worker, *, seconds: float) -> None:
        """SIGSTOP for longer than the group waits, then SIGCONT."""
        worker.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            worker.process.send_signal(signal.SIGCONT)

    async def restart(self, worker: Worker) -> None:
        """SIGTERM, and start again."""
        await self._end(worker)
        worker.process = await self._spawn(worker.name)

    async def leave(self, worker: Worker) -> None:
        """SIGTERM for good."""
        self.workers.remove(worker)
        await self._end(worker)

    async def keep_running(self) -> None:
        """Start again what ended by itself, as a supervisor does."""
        for worker in self.workers:
            if not worker.runs:
                self.ended_by_itself += 1
                worker.process = await self._spawn(worker.name)

    async def stop(self) -> None:
        """End all."""
        await asyncio.gather(*map(self._end, self.workers))
        self.workers.clear()

    async def _end(self, worker: Worker, *, seconds: float = 40.0) -> None:
        if not worker.runs:
            return
        worker.process.terminate()
        try:
            await asyncio.wait_for(worker.process.wait(), seconds)
        except TimeoutError:
            worker.process.kill()
            await worker.process.wait()

    def reasons_to_end(self) -> list[str]:
        """What workers said before they ended by themselves; a planted kill says nothing."""
        return [
            str(json.loads(line)["reason"])
            for log in self._logs.glob("*.log")
            for line in log.read_text(errors="replace").splitlines()
            if '"event": "worker ended"' in line
        ]

    def count_in_logs(self, text: str) -> int:
        """How often `text` stands in the workers' logs."""
        return sum(log.read_text(errors="replace").count(text) for log in self._logs.glob("*.log"))
