"""Chooses TCP ports on the loopback that stay free while a restart is under way."""

import secrets
import socket
from collections.abc import Collection

_FIRST, _LAST = 20_000, 31_999
"""Below every system's range for outgoing connections, which could take a kept port meanwhile."""


def is_free(port: int) -> bool:
    """True when nobody listens on ``port`` of 127.0.0.1."""
    with socket.socket() as probe:
        # As servers do: connections that just ended do not count as somebody listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose(taken: Collection[int]) -> int:
    """A free port that is not in ``taken``.

    Raises:
        RuntimeError: none is free.
    """
    start = secrets.randbelow(_LAST - _FIRST)
    for step in range(_LAST - _FIRST):
        port = _FIRST + (start + step) % (_LAST - _FIRST)
        if port not in taken and is_free(port):
            return port
    raise RuntimeError(f"no port between {_FIRST} and {_LAST} is free")
