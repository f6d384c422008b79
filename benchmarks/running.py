"""The whole platform as `make up` runs it: how soon it is ready, how it answers, and what memory it takes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import psutil
from figures import Figure, WrongTotalsError, median, percentile, say
from kafka import KafkaProducer
from payments_workload import COMPANY, STRUCTURED, connect, major

from cobranza.chassis import clock, ids
from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Database
from cobranza.chassis.local.platform import SERVICES, LocalPlatform
from cobranza.contracts import identifiers
from cobranza.dunning import gateways
from cobranza.dunning.use_cases import policies
from cobranza.dunning.use_cases.evaluation import Desk

ROOT: Final = Path(__file__).resolve().parents[1]
COMPANIES: Final = ROOT / "deploy" / "companies.yaml"
REQUESTS_PER_SECOND: Final = 50
EVENTS_PER_SECOND: Final = 100
_SYSTEM: Final = "erp"
_POLL_SECONDS: Final = 0.01
_TERM_DAYS: Final = 30
_LONGEST_SECONDS: Final = 60.0
_PROGRAMS: Final = ("postgres", "kafka", "mailbox", "api", *(f"{service}-worker" for service in SERVICES))


async def measure(directory: Path, *, rounds: int, http_seconds: int, stream_seconds: int) -> list[Figure]:
    """Every figure once a round, in turn, so that a neighbour's load meets all of them; the medians of the rounds."""
    found: dict[str, list[Figure]] = {}
    for number in range(rounds):
        state = directory / str(number + 1)
        for figure in await _round(state, http_seconds=http_seconds, stream_seconds=stream_seconds):
            found.setdefault(figure.name, []).append(figure)
        shutil.rmtree(state)
        say(f"  round {number + 1} {', '.join(f'{figures[-1].value:.0f}' for figures in found.values())}")
    return [
        replace(figures[0], value=median([f.value for f in figures]), rounds=[f.value for f in figures])
        for figures in found.values()
    ]


async def _round(state: Path, *, http_seconds: int, stream_seconds: int) -> list[Figure]:
    """Start cold, stop, start warm, then put load on it from outside."""
    started = time.perf_counter()
    async with _platform(state) as platform:
        await _start(platform)
        cold = time.perf_counter() - started
    started = time.perf_counter()
    async with _platform(state) as platform:
        await _start(platform)
        figures = [
            Figure("start to ready: cold", cold, "s"),
            Figure("start to ready: warm", time.perf_counter() - started, "s"),
        ]
        load = Load(platform)
        figures += await load.invoices(http_seconds * REQUESTS_PER_SECOND)
        figures += await load.permits(http_seconds * REQUESTS_PER_SECOND)
        figures += await load.stream(stream_seconds * EVENTS_PER_SECOND)
        figures += await load.payments(stream_seconds * EVENTS_PER_SECOND)
        return figures + _memory(platform)


def _platform(directory: Path) -> LocalPlatform:
    return LocalPlatform(directory, overrides={"COBRANZA_COMPANIES": str(COMPANIES)})


async def _start(platform: LocalPlatform) -> None:
    await platform.start_infrastructure()
    await platform.start_services()


class Load:
    """Requests and events at a fixed rate, whatever the answers take: waiting in line counts as latency."""

    def __init__(self, platform: LocalPlatform) -> None:
        self._platform = platform
        self._address = f"http://127.0.0.1:{platform.api_port}"
        self._posted: list[str] = []

    async def invoices(self, count: int) -> list[Figure]:
        """One invoice in each request; each must be accepted and reach payments' ledger."""
        numbers = _numbers("H", count)
        async with self._client() as client:

            async def post(place: int) -> None:
                answer = await client.post(
                    "/invoicing/v1/events",
                    content=json.dumps(_invoice(numbers[place])),
                    headers={"content-type": "application/cloudevents+json"},
                )
                if not answer.is_success or answer.json()["accepted"] != 1:
                    raise WrongTotalsError(
                        f"POST /invoicing/v1/events answered {answer.status_code} {answer.text[:200]}"
                    )

            took = await _at_rate(post, count, per_second=REQUESTS_PER_SECOND)
        self._posted = numbers
        await self._arrived("payments", [_receivable(number) for number in numbers])
        return _latencies(f"POST one invoice, {REQUESTS_PER_SECOND}/s", took, (0.50, 0.95))

    async def permits(self, count: int) -> list[Figure]:
        """One notice permit in each request, for an invoice posted before; each must be granted."""
        async with self._client() as client:

            async def ask(place: int) -> None:
                number = self._posted[place % len(self._posted)]
                answer = await client.post(
                    "/payments/v1/notice-permits",
                    json={
                        "notice_id": str(ids.new_id()),
                        "attempt": 1,
                        "company": COMPANY,
                        "customer": _customer(number),
                        "purpose": "dunning",
                        "receivable_ids": [str(_receivable(number))],
                    },
                )
                if not answer.is_success or not answer.json()["granted"]:
                    raise WrongTotalsError(f"notice permit answered {answer.status_code} {answer.text[:300]}")

            took = await _at_rate(ask, count, per_second=REQUESTS_PER_SECOND)
        return _latencies(f"notice permit, {REQUESTS_PER_SECOND}/s", took, (0.50, 0.99))

    async def stream(self, count: int) -> list[Figure]:
        """Invoices by Kafka, each timed from its publishing until analytics' row is visible to another connection."""
        numbers = {str(_receivable(number)): number for number in _numbers("S", count)}
        took = await self._timed(
            numbers,
            partial(self._publish_invoice, due_in_days=_TERM_DAYS),
            "analytics",
            "SELECT receivable_id::text FROM receivable WHERE company = $1 AND receivable_id = ANY($2::text[]::uuid[])",
        )
        return _latencies(f"event to indicator, {EVENTS_PER_SECOND}/s", took, (0.50, 0.99))

    async def payments(self, count: int) -> list[Figure]:
        """Payments by Kafka, each of a customer's only debt, timed until the evaluation that closes the case is visible."""
        await self._activate_policy()
        numbers = {_customer(number): number for number in _numbers("P", count)}
        await self._timed(
            numbers,
            self._publish_customer,
            "notifications",
            "SELECT customer FROM customer WHERE company = $1 AND customer = ANY($2)",
        )
        # Overdue, so that there is a case, and not yet at its first notice: the payments are all that happens.
        await self._timed(
            numbers,
            partial(self._publish_invoice, due_in_days=-2),
            "dunning",
            "SELECT customer FROM collection_case WHERE company = $1 AND customer = ANY($2) AND state = 'active'",
        )
        await self._arrived("payments", [_receivable(number) for number in numbers.values()])
        took = await self._timed(
            numbers,
            self._publish_payment,
            "dunning",
            "SELECT customer FROM collection_case WHERE company = $1 AND customer = ANY($2) AND state = 'closed'",
        )
        figures = _latencies(f"payment to its case's evaluation, {EVENTS_PER_SECOND}/s", took, (0.50, 0.99))
        return [figures[0], replace(figures[1], wanted="≤ 1,000")]

    async def _activate_policy(self) -> None:
        url = self._platform.environment()["DUNNING_DATABASE_URL"]
        database = Database(url, service="dunning", clock=clock.BusinessClock())
        desk = Desk(Companies.read(COMPANIES), 6)
        document, _ = policies.check_source(gateways.read_source("friendly-b2b"))
        async with database.transaction() as tx:
            for policy, _ in await policies.load_policy(desk, tx, document, company=COMPANY):
                await policies.activate_policy(desk, tx, company=COMPANY, policy=policy.policy, version=None)
        await database.close()

    def _publish_invoice(self, producer: KafkaProducer, number: str, *, due_in_days: int) -> None:
        _publish(producer, "erp.invoicing", _customer(number), _invoice(number, due_in_days=due_in_days))

    def _publish_customer(self, producer: KafkaProducer, number: str) -> None:
        _publish(producer, "erp.invoicing", _customer(number), _known(number))

    def _publish_payment(self, producer: KafkaProducer, number: str) -> None:
        _publish(producer, "erp.payments", _customer(number), _payment(number))

    async def _timed(
        self, numbers: Mapping[str, str], send: Callable[[KafkaProducer, str], None], service: str, seen: str
    ) -> list[float]:
        """Milliseconds from publishing about each number until its key is among what `service` has `seen`."""
        published: dict[str, float] = {}
        producer = KafkaProducer(bootstrap_servers=self._platform.bootstrap)
        keys = list(numbers)

        async def publish(place: int) -> None:
            published[keys[place]] = time.perf_counter()
            send(producer, numbers[keys[place]])

        publishing = asyncio.create_task(_at_rate(publish, len(keys), per_second=EVENTS_PER_SECOND))
        took: list[float] = []
        connection = await connect(self._platform.environment()[f"{service.upper()}_DATABASE_URL"])
        quiet_since = time.perf_counter()
        while len(took) < len(keys):
            asked = time.perf_counter()
            rows = await connection.fetch(seen, COMPANY, list(published))
            now = time.perf_counter()
            for (key,) in rows:
                took.append((now - published.pop(key)) * 1000)
                quiet_since = now
            if now - quiet_since > _LONGEST_SECONDS:
                raise WrongTotalsError(f"{len(keys) - len(took)} of {len(keys)} events did not reach {service}")
            # Looking must not become part of the load when much is under way.
            await asyncio.sleep(max(_POLL_SECONDS, 19 * (time.perf_counter() - asked)))
        await publishing
        await connection.close()
        await asyncio.to_thread(producer.close)
        return took

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self._address, trust_env=False, timeout=30)

    async def _arrived(self, service: str, receivables: Sequence[UUID]) -> None:
        connection = await connect(self._platform.environment()[f"{service.upper()}_DATABASE_URL"])
        deadline = time.perf_counter() + _LONGEST_SECONDS
        found = 0
        while found < len(receivables):
            if time.perf_counter() > deadline:
                raise WrongTotalsError(f"{len(receivables) - found} invoices did not reach {service}")
            found = await connection.fetchval(
                "SELECT count(*) FROM receivable WHERE company = $1 AND receivable_id = ANY($2::uuid[])",
                *(COMPANY, list(receivables)),
            )
            await asyncio.sleep(0.1)
        await connection.close()


async def _at_rate(act: Callable[[int], Awaitable[None]], count: int, *, per_second: int) -> list[float]:
    """Start `act` at fixed instants; milliseconds of each from its instant to its end."""
    begun = time.perf_counter() + 0.1

    async def one(place: int) -> float:
        due = begun + place / per_second
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await act(place)
        return (time.perf_counter() - due) * 1000

    return list(await asyncio.gather(*(one(place) for place in range(count))))


def _latencies(name: str, took: Sequence[float], shares: Sequence[float]) -> list[Figure]:
    return [Figure(f"{name}: p{share * 100:.0f}", percentile(took, share), "ms") for share in shares]


def _memory(platform: LocalPlatform) -> list[Figure]:
    """Proportional set size: what processes share is counted once."""
    sizes = {name: _mebibytes(platform.pid(name)) for name in _PROGRAMS}
    figures = [Figure(f"memory: {name}", size, "MiB") for name, size in sizes.items()]
    return [*figures, Figure("memory: all together", sum(sizes.values()), "MiB")]


def _mebibytes(pid: int) -> float:
    process = psutil.Process(pid)
    total = 0
    for member in (process, *process.children(recursive=True)):
        # The database's helpers come and go.
        with contextlib.suppress(psutil.NoSuchProcess):
            total += member.memory_full_info().pss
    return total / 2**20


def _publish(producer: KafkaProducer, topic: str, customer: str, event: dict[str, Any]) -> None:
    key = f"{COMPANY}|{customer}".encode()
    producer.send(topic, key=key, value=json.dumps(event).encode(), headers=list(STRUCTURED))


def _known(number: str) -> dict[str, Any]:
    """A customer without an address, so that no thanks are sent: mail is not part of what is timed."""
    customer = _customer(number)
    return _event(
        "customer-changed",
        customer,
        {"customer": customer, "name": customer, "country": "MX", "protected_party": "business"},
    )


def _invoice(number: str, *, due_in_days: int = _TERM_DAYS) -> dict[str, Any]:
    """An invoice as it is when an ERP publishes it: of today, or of a month before it was due."""
    due_on = clock.utc_now().date() + timedelta(days=due_in_days)
    money = {"amount": major(116_000), "currency": "MXN"}
    return _event(
        "invoice-issued",
        number,
        {
            "customer": _customer(number),
            "number": number,
            "issued_on": (due_on - timedelta(days=_TERM_DAYS)).isoformat(),
            "payable": money,
            "instalments": [{"number": 1, "due_on": due_on.isoformat(), "amount": money}],
        },
    )


def _payment(number: str) -> dict[str, Any]:
    """The whole of an invoice is paid today."""
    return _event(
        "payment-received",
        f"payment-{number}",
        {
            "customer": _customer(number),
            "amount": {"amount": major(116_000), "currency": "MXN"},
            "value_on": clock.utc_now().date().isoformat(),
            "method": "transfer",
            "references": [number],
        },
    )


def _event(name: str, external_id: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"{name}-{external_id}-1",
        "source": f"/erp/{COMPANY}/{_SYSTEM}",
        "type": f"erp.{name}.v1",
        "companyid": COMPANY,
        "datacontenttype": "application/json",
        "data": {"company": COMPANY, "external": {"system": _SYSTEM, "id": external_id}, **data},
    }


def _numbers(series: str, count: int) -> list[str]:
    return [f"{series}-{number:06d}" for number in range(count)]


def _customer(number: str) -> str:
    """Each of the series P has a customer of its own."""
    return number if number.startswith("P-") else f"C-{int(number[2:]) % 500:04d}"


def _receivable(number: str) -> UUID:
    return identifiers.receivable_id(identifiers.invoice_id(COMPANY, _SYSTEM, number), 1)
