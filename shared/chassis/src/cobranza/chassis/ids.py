"""New identifiers; those that a repeat must reproduce are derived in contracts.identifiers."""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_id() -> UUID:
    """A uuid of version 7: sortable by the millisecond of its making, else random.

    Source: RFC 9562 section 5.7.
    """
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (2**48 - 1)) << 80
    value |= 0x7 << 76
    value |= (random >> 68) << 64
    value |= 0b10 << 62
    value |= random & (2**62 - 1)
    return UUID(int=value)
