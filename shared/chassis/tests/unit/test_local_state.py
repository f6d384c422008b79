"""The state directory keeps what it should, and refuses what it must not touch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cobranza.chassis.local import ports
from cobranza.chassis.local.faults import LocalModeError, explained
from cobranza.chassis.local.state import State, wipe


def test_ports_passwords_and_cluster_id_survive_a_restart(tmp_path: Path) -> None:
    with State(tmp_path / "a state") as state:
        first = (state.port("kafka"), state.password("dunning_app"), state.cluster_id)

    with State(tmp_path / "a state") as state:
        second = (state.port("kafka"), state.password("dunning_app"), state.cluster_id)

    assert first == second


def test_state_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    with State(tmp_path / "state") as state:
        state.password("dunning_app")

        assert state.directory.stat().st_mode & 0o777 == 0o700
        assert (state.directory / "cobranza-state.json").stat().st_mode & 0o777 == 0o600


def test_second_start_on_the_same_directory_names_the_process_that_holds_it(
    tmp_path: Path,
) -> None:
    held = pytest.raises(LocalModeError, match=f"in use by process {os.getpid()}")

    with State(tmp_path / "state"), held:
        State(tmp_path / "state").__enter__()


def test_a_port_that_somebody_took_meanwhile_is_replaced(tmp_path: Path) -> None:
    with State(tmp_path / "state") as state:
        port = state.port("kafka")

    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        with State(tmp_path / "state") as state:
            replaced = state.port("kafka")

    assert replaced != port
    assert ports.is_free(replaced)


def test_two_names_never_share_a_port(tmp_path: Path) -> None:
    with State(tmp_path / "state") as state:
        chosen = [state.port(f"p{number}", preferred=31_999) for number in range(5)]

    assert len(set(chosen)) == 5


def test_unreadable_state_is_reported_with_its_remedy_and_left_alone(tmp_path: Path) -> None:
    with State(tmp_path / "state"):
        pass
    marker = tmp_path / "state" / "cobranza-state.json"
    marker.write_text('{"cluster_id": "x", "po')

    with pytest.raises(LocalModeError, match="--wipe"):
        State(tmp_path / "state").__enter__()

    assert marker.read_text() == '{"cluster_id": "x", "po'


def test_a_directory_of_somebody_else_is_neither_used_nor_wiped(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")

    with pytest.raises(LocalModeError, match="not a state directory"):
        State(tmp_path).__enter__()
    with pytest.raises(LocalModeError, match="not a state directory"):
        wipe(tmp_path)

    assert (tmp_path / "thesis.txt").read_text() == "ten years of work"


def test_wiping_removes_a_state_directory_even_a_damaged_one(tmp_path: Path) -> None:
    with State(tmp_path / "state"):
        pass
    (tmp_path / "state" / "cobranza-state.json").write_text("{")

    assert wipe(tmp_path / "state")
    assert not (tmp_path / "state").exists()
    assert not wipe(tmp_path / "state")


def test_wiping_refuses_a_directory_in_use(tmp_path: Path) -> None:
    with State(tmp_path / "state"):
        with pytest.raises(LocalModeError, match="in use"):
            wipe(tmp_path / "state")

        assert (tmp_path / "state" / "cobranza-state.json").exists()


def test_processes_left_by_an_earlier_run_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cobranza.chassis.local.state._PATIENCE_SECONDS", 0.0)
    with State(tmp_path / "state") as state:
        left = subprocess.Popen(
            [sys.executable, "-c", "input()"],
            stdin=subprocess.PIPE,
            pass_fds=(state.lock_descriptor,),
        )
        (state.directory / "run" / "dunning-worker.pid").write_text(str(left.pid))
        (state.directory / "lock").write_text("4194304")  # a process that is no more

    try:
        with pytest.raises(LocalModeError, match=f"dunning-worker {left.pid}"):
            State(tmp_path / "state").__enter__()
    finally:
        left.communicate(b"\n")


def test_a_full_disk_is_a_sentence() -> None:
    full = Path("/dev/full")

    with pytest.raises(LocalModeError, match="is full"), explained(full):
        full.write_text("anything")
