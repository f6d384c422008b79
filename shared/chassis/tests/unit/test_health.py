"""The operations port says the truth about the process, whatever its checks do."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from cobranza.chassis import health
from cobranza.chassis.health import OperationsServer


async def ready() -> None:
    return None


async def lagging() -> str:
    return "the database is two revisions behind"


async def broken() -> None:
    raise ConnectionRefusedError("127.0.0.1:5432")


async def hanging() -> None:
    await asyncio.Event().wait()


class Started:
    def __init__(self, **checks: health.Check) -> None:
        self.registry = CollectorRegistry()
        self.server = OperationsServer(port=0, checks=checks, registry=self.registry)

    async def __aenter__(self) -> "Started":
        await self.server.start()
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.server.port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        await self.server.stop()


@pytest.fixture
async def healthy() -> AsyncIterator[Started]:
    async with Started(database=ready) as started:
        yield started


async def test_a_process_whose_loop_turns_is_alive(healthy: Started) -> None:
    response = await healthy.client.get("/livez")
    assert (response.status_code, response.text) == (200, "alive\n")


async def test_a_process_is_ready_when_every_check_is(healthy: Started) -> None:
    response = await healthy.client.get("/readyz")
    assert (response.status_code, response.json()) == (
        200,
        {"ready": True, "checks": {"database": "ready"}},
    )


async def test_each_failing_check_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_SECONDS", 0.05)
    async with Started(a=ready, b=lagging, c=broken, d=hanging) as started:
        response = await started.client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == {
        "a": "ready",
        "b": "the database is two revisions behind",
        "c": "ConnectionRefusedError: 127.0.0.1:5432",
        "d": "no answer within 0.05 s",
    }


async def test_a_stopping_process_is_not_ready_but_alive(healthy: Started) -> None:
    healthy.server.stopping()
    assert (await healthy.client.get("/readyz")).status_code == 503
    assert (await healthy.client.get("/livez")).status_code == 200


async def test_metrics_are_scraped_as_openmetrics(healthy: Started) -> None:
    Counter("cobranza_things_total", "Things.", registry=healthy.registry).inc(3)
    response = await healthy.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert "cobranza_things_total 3.0" in response.text
    assert response.text.endswith("# EOF\n")


async def test_anything_else_is_refused(healthy: Started) -> None:
    assert (await healthy.client.get("/table")).status_code == 404
    assert (await healthy.client.post("/livez")).status_code == 405


async def test_a_caller_that_sends_nonsense_harms_nobody(healthy: Started) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", healthy.server.port)
    writer.write(b"x" * 40_000)
    await writer.drain()
    assert await reader.read() == b""
    writer.close()
    assert json.loads((await healthy.client.get("/readyz")).text)["ready"]
