"""Programs start in order, come back when they die, and are gone when the supervisor is."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cobranza.chassis.local.faults import LocalModeError
from cobranza.chassis.local.state import State
from cobranza.chassis.local.supervisor import Program, Supervisor
from cobranza.chassis.testing.waiting import WaitUntil

_STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
_SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from cobranza.chassis.local.state import State
from cobranza.chassis.local.supervisor import Program, Supervisor
async def main():
    with State(Path(sys.argv[1])) as state:
        supervisor = Supervisor(
            logs=state.directory / "logs", pids=state.directory / "run",
            inherit=state.lock_descriptor)
        await supervisor.start(Program(
            name="sleeper", environment={},
            command=(sys.executable, "-c", "import time; time.sleep(600)")))
        print(supervisor.pid("sleeper"), flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


def _supervisor(state: State) -> Supervisor:
    return Supervisor(
        logs=state.directory / "logs",
        pids=state.directory / "run",
        inherit=state.lock_descriptor,
    )


def _python(name: str, code: str, **more: object) -> Program:
    return Program(name=name, command=(sys.executable, "-c", code), environment={}, **more)  # type: ignore[arg-type]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


async def test_a_killed_program_comes_back(tmp_path: Path, wait_until: WaitUntil) -> None:
    with State(tmp_path / "state") as state:
        supervisor = _supervisor(state)
        await supervisor.start(_python("sleeper", "import time; time.sleep(600)"))
        first = supervisor.pid("sleeper")

        os.kill(first, signal.SIGKILL)
        await wait_until(lambda: supervisor.pid("sleeper") != first)

        assert _is_alive(supervisor.pid("sleeper"))
        await supervisor.stop()


async def test_a_program_that_ignores_the_request_to_end_is_killed(tmp_path: Path, wait_until: WaitUntil) -> None:
    with State(tmp_path / "state") as state:
        supervisor = _supervisor(state)
        await supervisor.start(_python("stubborn", _STUBBORN))
        pid = supervisor.pid("stubborn")
        await wait_until((state.directory / "logs" / "stubborn.log").read_text)

        await supervisor.stop(layer_seconds=0.2)

        assert not _is_alive(pid)


async def test_a_program_that_fails_at_start_is_reported_with_its_last_words(
    tmp_path: Path,
) -> None:
    async def never() -> bool:
        return False

    with State(tmp_path / "state") as state:
        supervisor = _supervisor(state)

        with pytest.raises(LocalModeError, match="no such policy"):
            await supervisor.start(_python("worker", "raise SystemExit('no such policy')", ready=never))

        await supervisor.stop()


async def test_a_program_that_keeps_ending_stops_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cobranza.chassis.local.supervisor._BACK_OFF_SECONDS", (0.0,) * 5)
    with State(tmp_path / "state") as state:
        supervisor = _supervisor(state)
        await supervisor.start(_python("flapping", "print('goodbye')"))

        failure = await asyncio.wait_for(supervisor.failed(), timeout=30)

        assert "flapping keeps ending" in str(failure)
        await supervisor.stop()


async def test_no_child_survives_a_killed_supervisor(tmp_path: Path, wait_until: WaitUntil) -> None:
    parent = subprocess.Popen(  # noqa: ASYNC220 - one line is read, at once
        [sys.executable, "-c", _SUPERVISOR, str(tmp_path / "state")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())

    parent.kill()
    parent.communicate()

    await wait_until(lambda: not _is_alive(child))
    with State(tmp_path / "state"):
        pass
