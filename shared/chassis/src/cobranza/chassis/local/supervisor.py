"""Starts programs in order, keeps them running and leaves none behind."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cobranza.chassis import clock
from cobranza.chassis.local.faults import LocalModeError, full_disk

Account = Literal["same", "namespace", "nobody"]
"""Whose rights a program runs with: ours, an ordinary user's of a namespace, or ``nobody``'s."""

_CHILD = Path(__file__).with_name("child.py")
_RESTARTS, _RESTART_WINDOW_SECONDS = 5, 120.0
_BACK_OFF_SECONDS = (0.2, 1.0, 2.0, 5.0, 10.0)
_POLL_SECONDS = 0.05
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)


async def no_wait() -> bool:
    """Readiness of a program that is ready once it runs."""
    return True


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program to keep running.

    Args:
        ready: true once the program serves; asked again and again while its process lives.
        stop_signal: asks it to end.
        death_signal: what the system sends it when the supervisor is killed.
    """

    name: str
    command: tuple[str | Path, ...]
    environment: Mapping[str, str]
    ready: Callable[[], Awaitable[bool]] = no_wait
    start_seconds: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    account: Account = "same"


@dataclass
class _Running:
    program: Program
    colour: int
    process: asyncio.subprocess.Process | None = None
    keeper: asyncio.Task[None] | None = None
    restarts: deque[float] = field(default_factory=deque)
    log_end: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Layers of programs: a layer starts together, layers stop in reverse order.

    Args:
        logs: one log file per program is appended to here.
        pids: one file per program tells who it is, for the next run's messages.
        inherit: descriptor of the state directory's lock, handed to every child.
        echo: receives each log line with its program's name in front, or None.
    """

    def __init__(
        self,
        *,
        logs: Path,
        pids: Path,
        inherit: int,
        echo: Callable[[str], None] | None = None,
    ) -> None:
        self._logs = logs
        self._pids = pids
        self._inherit = inherit
        self._echo = echo
        self._layers: list[list[_Running]] = []
        self._failure: asyncio.Future[LocalModeError] | None = None
        self._echoing: asyncio.Task[None] | None = None

    async def start(self, *programs: Program) -> None:
        """Start one more layer and wait until all of it is ready.

        Raises:
            LocalModeError: a program ended or was not ready in time; its log is named.
        """
        if self._echo is not None and self._echoing is None:
            self._echoing = asyncio.create_task(self._follow_logs(self._echo))
        count = sum(map(len, self._layers))
        layer = [_Running(program, _COLOURS[(count + place) % len(_COLOURS)]) for place, program in enumerate(programs)]
        self._layers.append(layer)
        for running in layer:
            log = self._log(running)
            running.log_end = log.stat().st_size if log.exists() else 0
            await self._spawn(running)
        try:
            async with asyncio.TaskGroup() as together:
                for running in layer:
                    together.create_task(self._until_ready(running))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        for running in layer:
            running.keeper = asyncio.create_task(self._keep(running))

    async def run(self, program: Program) -> None:
        """Run a program that ends by itself, to its end.

        Raises:
            LocalModeError: it ended with another code than 0; its log is named.
        """
        running = _Running(program, _COLOURS[0])
        await self._spawn(running)
        assert running.process is not None
        try:
            code = await running.process.wait()
        finally:
            await _end(running, seconds=5.0)
            self._pid_file(running).unlink(missing_ok=True)
        if code != 0:
            raise self._fault(running, f"ended with code {code}")

    def pid(self, name: str) -> int:
        """The process that runs ``name`` now."""
        process = self._named(name).process
        assert process is not None
        return process.pid

    async def until_ready(self, name: str) -> None:
        """Wait until the program ``name``, which ended meanwhile, serves again."""
        await self._named(name).ready.wait()

    async def failed(self) -> LocalModeError:
        """Wait until a program cannot be kept running, and say which and why."""
        return await asyncio.shield(self._failure_future())

    async def stop(self, *, layer_seconds: float = 12.0) -> None:
        """End everything in reverse order; what does not end in time is killed."""
        for layer in reversed(self._layers):
            for running in layer:
                if running.keeper is not None:
                    running.keeper.cancel()
            await asyncio.gather(*(_end(running, seconds=layer_seconds) for running in layer))
            for running in layer:
                self._pid_file(running).unlink(missing_ok=True)
        self._layers.clear()
        if self._echoing is not None:
            self._echoing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._echoing

    async def _spawn(self, running: _Running) -> None:
        program = running.program
        wrapper = (
            *(sys.executable, "-I", "-S", _CHILD, "--parent", str(os.getpid())),
            *("--death-signal", str(int(program.death_signal)), "--account", program.account),
            "--",
        )
        with self._log(running).open("ab") as log:
            running.process = await asyncio.create_subprocess_exec(
                *wrapper,
                *program.command,
                env=dict(program.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own: a Ctrl-C at the terminal reaches the supervisor alone.
                start_new_session=True,
                pass_fds=(self._inherit,),
            )
        self._pid_file(running).write_text(str(running.process.pid))

    async def _until_ready(self, running: _Running) -> None:
        assert running.process is not None
        deadline = clock.monotonic() + running.program.start_seconds
        while running.process.returncode is None:
            if await running.program.ready() and running.process.returncode is None:
                running.ready.set()
                return
            if clock.monotonic() > deadline:
                seconds = round(running.program.start_seconds)
                raise self._fault(running, f"was not ready within {seconds} s")
            await asyncio.sleep(_POLL_SECONDS)
        raise self._fault(running, f"ended with code {running.process.returncode} while starting")

    async def _keep(self, running: _Running) -> None:
        while True:
            assert running.process is not None
            code = await running.process.wait()
            running.ready.clear()
            now = clock.monotonic()
            running.restarts.append(now)
            while now - running.restarts[0] > _RESTART_WINDOW_SECONDS:
                running.restarts.popleft()
            if len(running.restarts) > _RESTARTS:
                return self._give_up(self._fault(running, f"keeps ending (code {code})"))
            await asyncio.sleep(_BACK_OFF_SECONDS[len(running.restarts) - 1])
            await self._spawn(running)
            try:
                await self._until_ready(running)
            except LocalModeError:
                # A start that fails counts as one more end; a hanging one is ended first.
                await _end(running, seconds=5.0)

    def _give_up(self, fault: LocalModeError) -> None:
        if not self._failure_future().done():
            self._failure_future().set_result(fault)

    def _failure_future(self) -> asyncio.Future[LocalModeError]:
        if self._failure is None:
            self._failure = asyncio.get_running_loop().create_future()
        return self._failure

    def _fault(self, running: _Running, what: str) -> LocalModeError:
        log = self._log(running)
        tail = log.read_bytes()[-4000:].decode(errors="replace").strip()
        if "No space left on device" in tail:
            return full_disk(self._logs.parent)
        last = tail.splitlines()[-1][:300] if tail else "it said nothing"
        return LocalModeError(f"{running.program.name} {what}: {last}", remedy=f"See {log}.")

    def _log(self, running: _Running) -> Path:
        return self._logs / f"{running.program.name}.log"

    def _named(self, name: str) -> _Running:
        return next(one for layer in self._layers for one in layer if one.program.name == name)

    def _pid_file(self, running: _Running) -> Path:
        return self._pids / f"{running.program.name}.pid"

    async def _follow_logs(self, echo: Callable[[str], None]) -> None:
        while True:
            for running in [one for layer in self._layers for one in layer]:
                log = self._log(running)
                if not log.exists():
                    continue
                with log.open("rb") as content:
                    content.seek(running.log_end)
                    fresh = content.read()
                whole = fresh[: fresh.rfind(b"\n") + 1]
                running.log_end += len(whole)
                for line in whole.decode(errors="replace").splitlines():
                    echo(f"\x1b[{running.colour}m{running.program.name:>20}\x1b[0m {line}")
            await asyncio.sleep(_POLL_SECONDS * 4)


async def _end(running: _Running, *, seconds: float) -> None:
    process = running.process
    if process is None or process.returncode is not None:
        return
    _signal_group(process.pid, running.program.stop_signal)
    try:
        await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
