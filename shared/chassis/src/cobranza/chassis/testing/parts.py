"""Local mode's servers for one test run, on a loop of their own beside the tests' loops."""

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

from cobranza.chassis.local.platform import LocalPlatform

_Result = TypeVar("_Result")


class Parts:
    """One PostgreSQL and one Kafka, started at the first call for each; use as a context manager.

    Their data is thrown away with the run, so they do not wait for the disk.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # The children end with the thread that started them, so it lives as long as the run.
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._directory = Path(tempfile.mkdtemp(prefix="cobranza-test-"))
        self._platform = LocalPlatform(self._directory, tests=True)
        self._postgres_url: str | None = None
        self._bootstrap: str | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._platform.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._platform.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        shutil.rmtree(self._directory)

    def postgres(self) -> str:
        """URL of the server's superuser."""
        if self._postgres_url is None:
            self._postgres_url = self._call(self._platform.start_postgres()).admin_url
        return self._postgres_url

    def kafka(self) -> str:
        """The broker's bootstrap address."""
        if self._bootstrap is None:
            self._bootstrap = self._call(self._platform.start_kafka())
        return self._bootstrap

    def wait_until_ready(self, name: str) -> None:
        """Wait, after a kill, until ``postgres`` or ``kafka`` answers again."""
        self._call(self._platform.until_ready(name))

    def pid(self, name: str) -> int:
        """The process that runs ``postgres`` or ``kafka`` now: what a test kills."""
        return self._platform.pid(name)

    def _call(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
