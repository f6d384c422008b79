"""Waiting for a condition instead of sleeping and hoping."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Protocol


class WaitUntil(Protocol):
    """The fixture ``wait_until``."""

    async def __call__(
        self,
        predicate: Callable[[], object],
        timeout: float = 10.0,  # noqa: ASYNC109 - as the function it stands for
    ) -> None:
        """Ask ``predicate`` until its answer is true."""


async def wait_until(
    predicate: Callable[[], object],
    timeout: float = 10.0,  # noqa: ASYNC109 - the limit is part of the failure's text
) -> None:
    """Ask ``predicate``, plain or async, until its answer is true.

    Raises:
        AssertionError: it was not within ``timeout`` seconds; the last answer is told.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        answer = predicate()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        if loop.time() > deadline:
            raise AssertionError(f"still {answer!r} after {timeout} s")
        await asyncio.sleep(0.02)
