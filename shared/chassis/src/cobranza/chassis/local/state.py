"""The directory that holds one local platform: its data, ports, passwords and logs."""

import base64
import fcntl
import json
import os
import secrets
import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from cobranza.chassis import clock
from cobranza.chassis.local import ports
from cobranza.chassis.local.faults import LocalModeError, explained

_MARKER = "cobranza-state.json"
_LOCK = "lock"
_FORMAT = 1
_PATIENCE_SECONDS = 10.0
_ROOM_BYTES = 500 * 1024 * 1024


@dataclass
class _Kept:
    """What the marker file remembers; written as a whole, never half."""

    cluster_id: str
    ports: dict[str, int] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    format: int = _FORMAT


class State:
    """One state directory, held by one running platform at a time.

    Use as a context manager: entering takes the directory, leaving gives it back. The children
    inherit the lock, so what an earlier run left behind keeps holding it too.

    Args:
        directory: made with mode 0700 when it is not there yet.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with explained(self.directory):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_foreign(self.directory)
            self._lock()
            try:
                self._kept = self._load()
                self._need_room()
                for child in ("logs", "run", "tmp", "mailbox"):
                    (self.directory / child).mkdir(mode=0o700, exist_ok=True)
            except BaseException:
                self._stack.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def lock_descriptor(self) -> int:
        """Handed to every child."""
        return self._descriptor

    @property
    def cluster_id(self) -> str:
        """Identity of this directory's broker; chosen once."""
        return self._kept.cluster_id

    def password(self, role: str) -> str:
        """The password of a database role; made up at the first call, kept from then on."""
        if role not in self._kept.passwords:
            self._kept.passwords[role] = secrets.token_urlsafe(24)
            self._save()
        return self._kept.passwords[role]

    def port(self, name: str, *, preferred: int | None = None) -> int:
        """A port nobody listens on: the kept one, else the preferred one, else any free one.

        A kept port that somebody else has taken meanwhile is replaced: it is ours to choose.
        """
        kept = self._kept.ports.get(name)
        if kept is not None and ports.is_free(kept):
            return kept
        others = {port for other, port in self._kept.ports.items() if other != name}
        if preferred is not None and preferred not in others and ports.is_free(preferred):
            chosen = preferred
        else:
            chosen = ports.choose(others)
        self._kept.ports[name] = chosen
        self._save()
        return chosen

    def known_ports(self) -> dict[str, int]:
        """The ports chosen so far, by name."""
        return dict(self._kept.ports)

    def _lock(self) -> None:
        lock = self._stack.enter_context((self.directory / _LOCK).open("a+"))
        deadline = clock.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as held:
                lock.seek(0)
                holder = lock.read().strip()
                # The children of a run that was killed need a moment to follow it.
                if clock.monotonic() < deadline and not (holder and _is_alive(int(holder))):
                    time.sleep(0.1)
                    continue
                self._stack.close()
                raise self._in_use(holder) from held
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        self._descriptor = lock.fileno()

    def _in_use(self, holder: str) -> LocalModeError:
        if holder and _is_alive(int(holder)):
            return LocalModeError(
                f"{self.directory} is in use by process {holder}.",
                remedy="Stop that one (Ctrl-C), or choose another directory with --state DIR.",
            )
        left = [
            f"{path.stem} {pid}"
            for path in sorted((self.directory / "run").glob("*.pid"))
            if (pid := path.read_text().strip()).isdigit() and _is_alive(int(pid))
        ]
        return LocalModeError(
            f"{self.directory} is still in use by what an earlier run left: {', '.join(left)}.",
            remedy="End these processes first.",
        )

    def _load(self) -> _Kept:
        marker = self.directory / _MARKER
        if not marker.exists():
            kept = _Kept(
                cluster_id=base64.urlsafe_b64encode(_identity()).decode().rstrip("="),
            )
            self._write(kept)
            return kept
        try:
            found = json.loads(marker.read_text())
            kept = _Kept(**found)
        except (ValueError, TypeError) as fault:
            raise self.damaged(f"{_MARKER} cannot be read") from fault
        if kept.format != _FORMAT:
            raise self.damaged(f"it was written by another version (format {kept.format})")
        return kept

    def damaged(self, what: str) -> LocalModeError:
        """The refusal of a directory that cannot be used as it is; nothing of it is deleted."""
        return LocalModeError(
            f"The state directory {self.directory} is not usable: {what}.",
            remedy="Start afresh with --wipe (its data is lost), or choose another with --state.",
        )

    def _save(self) -> None:
        with explained(self.directory):
            self._write(self._kept)

    def _write(self, kept: _Kept) -> None:
        draft = self.directory / f"{_MARKER}.draft"
        draft.touch(mode=0o600)
        with draft.open("w") as out:
            json.dump(asdict(kept), out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(self.directory / _MARKER)

    def _need_room(self) -> None:
        free = shutil.disk_usage(self.directory).free
        if free < _ROOM_BYTES:
            raise LocalModeError(
                f"Only {free // 1024**2} MB are free on the disk that holds {self.directory}.",
                remedy="Free at least 1 GB, or choose another place with --state DIR.",
            )


def wipe(directory: Path) -> bool:
    """Remove a state directory with all its data; false when there is none.

    Raises:
        LocalModeError: the directory is not a state directory, or it is in use.
    """
    if not directory.exists():
        return False
    if directory.is_dir() and not any(directory.iterdir()):
        return False
    if not (directory / _MARKER).is_file():
        raise _foreign(directory)
    # Whatever is in use must not be removed under its users; a damaged one may be.
    with (directory / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            lock.seek(0)
            raise LocalModeError(
                f"{directory} is in use by process {lock.read().strip()}.",
                remedy="Stop that one first.",
            ) from held
        with explained(directory):
            _remove(directory)
    return True


def _remove(directory: Path) -> None:
    # The marker goes last: a removal cut short can be run again.
    for path in directory.iterdir():
        if path.name not in {_MARKER, _LOCK}:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (directory / _MARKER).unlink()
    shutil.rmtree(directory)


def _refuse_foreign(directory: Path) -> None:
    ours = {_MARKER, _LOCK, f"{_MARKER}.draft"}
    names = {path.name for path in directory.iterdir()}
    if _MARKER not in names and not names <= ours:
        raise _foreign(directory)
    directory.chmod(0o700)


def _foreign(directory: Path) -> LocalModeError:
    return LocalModeError(
        f"{directory} is not a state directory of Cobranza: it has no {_MARKER}.",
        remedy="Choose another with --state DIR; nothing was changed.",
    )


def _identity() -> bytes:
    while True:
        drawn = secrets.token_bytes(16)
        # A leading dash would read as an option on the formatting tool's command line.
        if not base64.urlsafe_b64encode(drawn).startswith(b"-"):
            return drawn


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
