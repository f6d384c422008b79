"""How fast payments' worker applies payments, beside fair opponents on the same broker and database."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from figures import Figure, WrongTotalsError, cpu_seconds, median, say
from kafka import KafkaProducer
from payments_workload import STRUCTURED, TOPIC, Workload, connect, migrate

from cobranza.chassis import clock, settings, topics_admin
from cobranza.chassis.local.platform import LocalPlatform
from cobranza.chassis.testing.databases import Databases

ROOT: Final = Path(__file__).resolve().parents[1]
PROGRAMS: Final = Path(__file__).resolve().with_name("payments_peers.py")
PEERS: Final = ("worker", "by-hand", "stock-faust", "kafka-python")
LIMIT: Final = "by-hand"
_POLL_SECONDS: Final = 0.01
_LONGEST_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Run:
    """One peer's run: events per second, and processor time of its process per event in µs."""

    rate: float
    cpu_micros: float
    digest: str


async def measure(directory: Path, *, payments: int, rounds: int) -> list[Figure]:
    """All peers, round after round."""
    async with LocalPlatform(directory) as platform:
        admin_url = (await platform.start_postgres()).admin_url
        bootstrap = await platform.start_kafka()
        await asyncio.to_thread(topics_admin.apply, bootstrap)
        workload = Workload(payments)
        say(f"  {payments} payments, sha256 {workload.digest}")
        await asyncio.to_thread(publish, bootstrap, workload)
        databases = Databases(admin_url)
        runs: dict[str, list[Run]] = {peer: [] for peer in PEERS}
        for number in range(rounds):
            # In turn, so that a neighbour's load meets all of them.
            for peer in PEERS[number % len(PEERS) :] + PEERS[: number % len(PEERS)]:
                run = await _run(peer, databases, bootstrap, workload, logs=directory)
                runs[peer].append(run)
                say(f"  round {number + 1} {peer:<13} {run.rate:8,.0f} events/s {run.cpu_micros:6,.0f} µs/event")
        digests = {peer: {run.digest for run in of_peer} for peer, of_peer in runs.items()}
        if len(set().union(*digests.values())) != 1:
            raise WrongTotalsError(f"the peers did not write the same rows: {digests}")
        return [figure for peer in PEERS for figure in _figures(peer, runs)]


def _figures(peer: str, runs: Mapping[str, list[Run]]) -> list[Figure]:
    rates = [run.rate for run in runs[peer]]
    cpu = [run.cpu_micros for run in runs[peer]]
    # The ratio is taken within each round: both met the same neighbours.
    ratios = [own.rate / limit.rate for own, limit in zip(runs[peer], runs[LIMIT], strict=True)]
    cpu_ratios = [limit.cpu_micros / own.cpu_micros for own, limit in zip(runs[peer], runs[LIMIT], strict=True)]
    name = f"payments applied: {peer}"
    return [
        Figure(name, median(rates), "events/s", LIMIT, median(ratios), rates),
        Figure(f"{name}, its process", median(cpu), "µs CPU/event", LIMIT, median(cpu_ratios), cpu),
    ]


def publish(bootstrap: str, workload: Workload) -> None:
    """Put the whole workload on the topic."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    for key, value in workload.records():
        producer.send(TOPIC, key=key, value=value, headers=list(STRUCTURED))
    producer.flush()
    producer.close()


async def _run(peer: str, databases: Databases, bootstrap: str, workload: Workload, *, logs: Path) -> Run:
    urls = await asyncio.to_thread(databases.clone, "payments", migrate)
    owner = await connect(urls.owner_url)
    try:
        await workload.fill(owner)
        await owner.execute("ANALYZE")
        environment = {
            **settings.environment(),
            "KAFKA_BOOTSTRAP": bootstrap,
            "PAYMENTS_DATABASE_URL": urls.app_url,
            "COBRANZA_COMPANIES": str(ROOT / "deploy" / "companies.yaml"),
        }
        with (logs / f"{peer}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(PROGRAMS), peer),
                env=environment,
                cwd=logs,
                stdout=log,
                stderr=log,
            )
        try:
            rate, cpu_micros = await _time(owner, process, workload.payments)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return Run(rate, cpu_micros, await workload.check(owner))
    finally:
        await owner.close()
        await asyncio.to_thread(databases.drop, urls.name)


async def _time(owner: Any, process: asyncio.subprocess.Process, payments: int) -> tuple[float, float]:
    """Events per second and CPU µs per event from the first committed batch to the last."""
    deadline = clock.monotonic() + _LONGEST_SECONDS
    first: tuple[int, float, float] | None = None
    while clock.monotonic() < deadline and process.returncode is None:
        done = await owner.fetchval("SELECT coalesce(sum(next_offset), 0)::bigint FROM progress")
        now = clock.monotonic()
        if done and first is None:
            first = done, now, cpu_seconds(process.pid)
        if done >= payments and first is not None:
            applied = done - first[0]
            return applied / (now - first[1]), (cpu_seconds(process.pid) - first[2]) * 1e6 / applied
        await asyncio.sleep(_POLL_SECONDS)
    raise WrongTotalsError(f"the peer did not finish; exit code {process.returncode}")
