"""What local mode says when it cannot go on: one sentence and the remedy, never a traceback."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LocalModeError(Exception):
    """Local mode cannot go on; the text is written for the person at the terminal.

    Args:
        problem: what is wrong, one sentence.
        remedy: the one thing to do about it, or empty when the problem already says it.
    """

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem} {remedy}".strip())


class PartMissingError(LocalModeError):
    """A part that local mode runs (Java, Kafka's jars, PostgreSQL) is not on this machine."""


def full_disk(path: Path) -> LocalModeError:
    """The refusal for a write below ``path`` that found no room."""
    return LocalModeError(
        f"The disk that holds {path} is full.",
        remedy="Free at least 1 GB, or choose another place with --state DIR.",
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals of a write below ``path`` into sentences."""
    try:
        yield
    except OSError as refusal:
        if refusal.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise full_disk(path) from refusal
        if refusal.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise LocalModeError(
                f"{path} cannot be written: {refusal.strerror}.",
                remedy="Choose another place with --state DIR.",
            ) from refusal
        raise
