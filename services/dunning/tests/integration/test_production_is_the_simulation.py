"""The same timeline through PostgreSQL and through the simulation: the same contacts and reasons, day by day."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from cobranza.chassis.calendars import country_calendar
from cobranza.contracts import dunning, identifiers, invoicing, notifications, payments
from cobranza.contracts.payloads import Payload
from cobranza.dunning import gateways
from cobranza.dunning.domain.errors import DunningError
from cobranza.dunning.domain.ladder import DAY, Ladder
from cobranza.dunning.domain.simulation import Assumption, DatedFact, simulate
from cobranza.dunning.use_cases import policies, recording, simulation
from cobranza.dunning.use_cases.application import _contact_values

DATA = Path(__file__).parents[1] / "data"
FIRST = date(2027, 1, 4)
BEST: Assumption = "delivered_and_approved_same_day"
Services = Callable[..., AbstractAsyncContextManager[Any]]


@dataclass
class Production:
    """Dunning on its database, with the voice of the outside world.

    Args:
        assume: everything that is asked for is answered at its best, the same day; else as `answers` says.
        answers: what becomes of the next notices, in turn: sent, suppressed, failed, or nothing for a day.
        facts: what was told, or followed from a command, for the simulation to play again.
    """

    service: Any
    assume: Assumption = BEST
    answers: list[str] = field(default_factory=list)
    facts: list[DatedFact] = field(default_factory=list)
    day: date = FIRST
    _read: int = 0
    _waiting: list[dict[str, Any]] = field(default_factory=list)

    async def start(self, source: str) -> Ladder:
        """Put a policy into force."""
        document, faults = gateways.parse(source)
        assert not faults
        async with self.service.database.transaction() as tx:
            policy, _ = (await policies.load_policy(self.service.desk, tx, document, company="acme-mx"))[0]
            await policies.activate_policy(self.service.desk, tx, company="acme-mx", policy=policy.policy, version=None)
        return Ladder(policy, country_calendar("MX"))

    def begin(self, day: date) -> None:
        self.day = day
        self.service.clock.set(datetime(day.year, day.month, day.day, 18, tzinfo=UTC))

    async def rest(self) -> None:
        """Work what is due, and let the world answer what is asked for."""
        await self.service.work_timers()
        while await self._answer() and self.assume == BEST:
            pass

    async def tell(self, *told: Payload) -> None:
        self.facts += [DatedFact(self.day, payload) for payload in told]
        await self._deliver(told)

    async def _deliver(self, told: Sequence[Payload]) -> None:
        of = "customers" if isinstance(told[0], invoicing.CustomerChanged) else told[0].TYPE.split(".")[1]
        await self.service.tell(*told, topic=f"cobranza.{of}")

    async def record(self, form: str, about: UUID | None = None, **data: Any) -> None:
        """A person's command; what is refused leaves everything as it was."""
        told = recording.FORMS[form].model_validate({"company": "acme-mx", **data})
        known = len(await self.service.told())
        try:
            async with self.service.database.transaction() as tx:
                made = await recording.record(self.service.desk, tx, told, about=about, by="Lucía")
        except DunningError:
            return
        if not isinstance(made, Payload):
            return
        self.facts.append(DatedFact(self.day, made))
        if form == "plan":
            parts = [told for told in (await self.service.told())[known:] if told["type"] == "promise-made"]
            self.facts += [DatedFact(self.day, dunning.PromiseMade.model_validate(part)) for part in parts]

    async def _answer(self) -> bool:
        """Whether there was something to answer."""
        told = await self.service.told()
        new, self._read = told[self._read :], len(told)
        asked = self._waiting + [t for t in new if t["type"] in ("notice-requested", "task-created", "step-reached")]
        self._waiting = []
        answered = False
        for one in asked:
            if await self._reply(one):
                answered = True
        return answered

    async def _reply(self, asked: dict[str, Any]) -> bool:
        if asked["type"] == "notice-requested":
            how = "sent" if self.assume == BEST else self.answers.pop(0) if self.answers else "sent"
            if how == "nothing":
                self._waiting.append(asked)
                return False
            outcomes = _outcomes(asked, how, self.day)
            await (self._deliver(outcomes) if self.assume == BEST else self.tell(*outcomes))
            return True
        if asked["type"] == "step-reached":
            if asked["kind"] != "effect" or asked.get("effect") not in ("fee", "interest"):
                return False
            charge = _charge(asked, self.day)
            await (self._deliver([charge]) if self.assume == BEST else self.tell(charge))
            return True
        if asked.get("step") is None or asked["kind"].startswith("overdue_"):
            return False
        runs = await self.service.rows(
            "SELECT s.state, t.disposition FROM step_run s, task t WHERE s.case_id = :case_id AND s.step = :step"
            " AND s.run = :run AND t.task_id = :task_id",
            case_id=UUID(asked["case_id"]), step=asked["step"], run=asked["run"], task_id=UUID(asked["task_id"]),
        )  # fmt: skip
        if not runs or runs[0].state not in ("proposed", "requested") or runs[0].disposition is not None:
            return False
        await self.service.complete(asked, "approved" if asked["kind"] == "approval" else "done")
        if self.assume != BEST:
            [completed] = [
                told for told in await self.service.told("task-completed") if told["task_id"] == asked["task_id"]
            ]
            self.facts.append(DatedFact(self.day, dunning.TaskCompleted.model_validate(completed)))
        return True

    async def seen(self, customer: str) -> tuple[list[Any], Any]:
        """What was done this day, and what was found when it was looked at last; None: it was not."""
        rows = await self.service.rows(
            "SELECT d.as_of, d.contact, d.outcome, d.reasons, d.next_check_on,"
            " (SELECT c.state FROM collection_case c WHERE c.account_id = a.account_id AND c.closed_on IS NULL) AS state"
            " FROM decision d JOIN account a ON a.account_id = d.account_id WHERE d.customer = :customer"
            " ORDER BY d.decision_id",
            customer=customer,
        )
        done = [row.contact for row in rows if row.as_of == self.day and row.contact is not None]
        if not rows or rows[-1].as_of != self.day:
            return done, None
        last = rows[-1]
        return done, (last.outcome, last.reasons, last.next_check_on, last.state or "closed")


def _outcomes(asked: Mapping[str, Any], how: str, day: date) -> list[Payload]:
    case_id = UUID(asked["case_id"])
    notice = {
        "company": asked["company"], "customer": asked["customer"], "purpose": asked["purpose"], "channel": "email",
        "notice_id": identifiers.notice_id(
            company=asked["company"], case_id=case_id, step=asked["step"], run=asked["run"], channel="email"
        ),
        "case_id": case_id, "step": asked["step"], "run": asked["run"], "delivery": "sandbox",
    }  # fmt: skip
    at = f"{day}T18:00:00Z"
    if how == "suppressed":
        return [notifications.NoticeSuppressed.model_validate({**notice, "reason": "no_address", "suppressed_on": day})]
    if how == "failed":
        failed = {**notice, "attempt": 1, "reason": "bounced", "failed_on": day, "failed_at": at}
        return [notifications.NoticeFailed.model_validate(failed)]
    amount = {"amount": "1.00", "currency": asked["currency"]}
    lines = [{"receivable_id": line["receivable_id"], "open": amount, "claimed": amount} for line in asked["lines"]]
    sent = {**notice, "attempt": 1, "lines": lines, "handed_at": at, "sent_on": day, "outcome": "known"}
    return [
        notifications.NoticeSent.model_validate(sent),
        notifications.NoticeDelivered.model_validate({**notice, "delivered_at": at, "delivered_on": day}),
    ]


def _charge(asked: Mapping[str, Any], day: date) -> payments.LateChargeAssessed:
    return payments.LateChargeAssessed.model_validate(
        {
            "company": asked["company"], "customer": asked["customer"], "case_id": asked["case_id"],
            "receivable_id": identifiers.receivable_id(UUID(asked["case_id"]), asked["run"]), "step": asked["step"],
            "run": asked["run"], "code": asked["fee"] or "interest", "kind": asked["effect"], "rule": "test@1",
            "amount": {"amount": "250.00", "currency": asked["currency"]}, "assessed_on": day, "due_on": day,
        }
    )  # fmt: skip


def simulated(
    ladder: Ladder, facts: Sequence[DatedFact], assume: Assumption, *, last: date, customer: str
) -> dict[date, tuple[list[Any], Any]]:
    days: dict[date, tuple[list[Any], Any]] = {}
    for entry in simulate(ladder, facts, first=FIRST, last=last, assume=assume):
        if entry.customer != customer:
            continue
        done, _ = days.get(entry.on, ([], None))
        decision = entry.decision
        if not entry.repeats and decision.actions:
            done = [*done, _contact_values(decision)]
        reasons = [{"code": str(found.code), "values": found.as_values()} for found in decision.reasons]
        found = (decision.outcome, reasons, decision.next_check_on, decision.case_state)
        # Once all is answered it looks again, and tells what it finds the next day.
        days[entry.on] = (done, None if decision.actions and assume == BEST else found)
    return days


async def compare(
    production: Production, ladder: Ladder, act: Callable[[Production, date], Any], *, days: int, customer: str = "C-1"
) -> dict[date, tuple[list[Any], Any]]:
    """Live some days in production, then play the same facts in the simulation."""
    seen: dict[date, tuple[list[Any], Any]] = {}
    for number in range(days):
        day = FIRST + number * DAY
        production.begin(day)
        await act(production, day)
        await production.rest()
        seen[day] = await production.seen(customer)
        assert await production.service.broken() == {}, day
    parked = await production.service.rows("SELECT error_class FROM parked")
    assert parked == []
    last = FIRST + (days - 1) * DAY
    expected = simulated(ladder, production.facts, production.assume, last=last, customer=customer)
    for day, (done, found) in seen.items():
        expected_done, expected_found = expected.get(day, ([], None))
        told = [f"{fact.on:%m-%d} {fact.told.TYPE.split('.')[2]}" for fact in production.facts if fact.on <= day]
        assert done == expected_done, (day, told)
        if found is not None and expected_found is not None:
            if expected_found[0] == "act" != found[0]:
                # Answers of one day are told one by one, and played at once: it was looked at once more.
                assert found[2:] == expected_found[2:], (day, told)
                continue
            assert found == expected_found, (day, told)
    return seen


async def test_the_worked_example_is_the_same_in_production(services: Services) -> None:
    async with services() as service:
        production = Production(service)
        source = (DATA / "mx-b2b.yaml").read_text(encoding="utf-8")
        ladder = await production.start(source)
        timeline = simulation.read(ladder.policy, (DATA / "one-invoice.yaml").read_text(encoding="utf-8"))

        async def act(world: Production, day: date) -> None:
            if day == FIRST:
                for fact in timeline.facts:
                    await world.tell(fact.told)
            for case in await service.rows("SELECT case_id FROM collection_case c JOIN account USING (account_id)"
                                           " WHERE evidence = '{}'"):  # fmt: skip
                documents = sorted(frozenset().union(*(rung.evidence for rung in ladder.rungs)))
                await world.record("evidence", case.case_id, documents=documents)

        seen = await compare(production, ladder, act, days=148)

    done = [(f"{day:%m-%d}", act["step"]) for day, (acts, _) in seen.items() for act in acts]
    assert done == [
        ("01-04", "preventivo"), ("01-11", "vence-hoy"), ("01-14", "aviso-1"), ("01-18", "llamada-1"),
        ("01-26", "aviso-2"), ("02-10", "requerimiento"), ("02-11", "cargo"), ("02-22", "suspension"),
        ("02-22", "suspension"), ("03-12", "aviso-final"), ("03-22", "aviso-final"), ("04-01", "aviso-final"),
        ("04-12", "despacho"), ("04-12", "despacho"),
    ]  # fmt: skip


VERBS = (
    "invoice", "pay", "pay", "reverse", "credit", "cancel", "acknowledge", "nobody", "found", "verdict", "cash", "hold",
    "release", "promise", "promise", "withdraw", "plan", "cancel-plan", "dispute", "dispute", "resolve", "hand-over",
    "recall", "customer",
)  # fmt: skip


class Hand:
    """Turns a verb and a number into something that may happen to the customer's account."""

    def __init__(self) -> None:
        self.invoices = 0
        self.money = 0

    async def act(self, world: Production, verb: str, n: int) -> None:
        service, day = world.service, world.day
        items = await service.rows("SELECT * FROM receivable WHERE open > 0 ORDER BY number")
        settled = await service.rows("SELECT * FROM receivable WHERE allocated > 0 ORDER BY number")
        item = items[n % len(items)] if items else None
        part = max(1, item.open * (1 + n % 4) // 4) if item is not None else 0
        lines = [] if item is None else [{"receivable_id": item.receivable_id, "amount": _money(part)}]
        cases = await service.rows("SELECT case_id FROM collection_case WHERE closed_on IS NULL")
        match verb:
            case "invoice" if self.invoices < 3:
                self.invoices += 1
                due = day + timedelta(days=n % 12 - 4)
                number, amount = f"F-{self.invoices}", 1000_00 * (1 + n % 50)
                await world.tell(_balance(number, due, day, issued=amount, open_=amount, cause="invoice-issued"))
            case "pay" if item is not None:
                await world.tell(_changed(item, item.open - part, day - timedelta(days=n % 3), day, "payment-received"))
            case "reverse" if settled:
                row = settled[n % len(settled)]
                await world.tell(_changed(row, row.open + row.allocated, day, day, "payment-reversed"))
            case "credit":
                await world.tell(service.credit(f"{(n % 4) * 500}.00"))
            case "cancel" if item is not None:
                told = {
                    "company": "acme-mx", "customer": "C-1", "number": item.number, "invoice_id": item.invoice_id,
                    "reason": "error", "cancelled_on": day,
                }  # fmt: skip
                await world.tell(invoicing.InvoiceCancelled.model_validate(told))
            case "acknowledge" if item is not None:
                told = {
                    "company": "acme-mx", "customer": "C-1", "invoice_id": item.invoice_id, "number": item.number,
                    "kind": "explicit", "acknowledged_at": f"{day}T12:00:00Z",
                }  # fmt: skip
                await world.tell(invoicing.InvoiceAcknowledged.model_validate(told))
            case "nobody" if item is not None:
                self.money += 1
                told = {
                    "company": "acme-mx", "payment_id": UUID(int=self.money), "amount": _money(item.open),
                    "external": {"system": "bank", "id": str(self.money)}, "value_on": day, "booked_on": day,
                    "method": "transfer",
                }  # fmt: skip
                await world.tell(payments.PaymentReceived.model_validate(told))
            case "found" if self.money:
                told = {
                    "company": "acme-mx", "payment_id": UUID(int=self.money), "amount": _money(100),
                    "external": {"system": "bank", "id": str(self.money)}, "reason": "error", "effective_on": day,
                }  # fmt: skip
                await world.tell(payments.PaymentReversed.model_validate(told))
            case "verdict":
                told = {
                    "company": "acme-mx", "currency": "MXN", "total_on": day, "verdict": ("matched", "mismatch")[n % 2],
                    "found": {"open_count": 1, "open_total": _money(0)}, "checked_at": f"{day}T12:00:00Z",
                }  # fmt: skip
                await world.tell(payments.ControlTotalChecked.model_validate(told))
            case "cash" if service.context.companies.get("acme-mx").cash_feed == "watermark":
                through = day - timedelta(days=n % 3)
                told = {"company": "acme-mx", "through_on": through, "stated_at": f"{day}T12:00:00Z"}
                await world.tell(payments.CashWatermark.model_validate(told))
            case "customer":
                told = {
                    "company": "acme-mx", "customer": "C-1", "revision": n + 1, "name": "Uno", "country": "MX",
                    "language": "es-MX", "zone": "America/Mexico_City",
                    "segment": ("standard", "key-account")[n % 2], "protected_party": "business",
                    "external": {"system": "erp", "id": "C-1"},
                }  # fmt: skip
                await world.tell(invoicing.CustomerChanged.model_validate(told))
            case "hold":
                scope: dict[str, Any] = (
                    {"scope": "receivable", "receivable_ids": [item.receivable_id]} if item and n % 2 else {}
                )
                until = day + timedelta(days=n % 9)
                await world.record(
                    "hold", customer="C-1", reason="internal", until_on=until, **{"scope": "customer", **scope}
                )
            case "release":
                for hold in (await service.rows("SELECT hold_id FROM hold WHERE released_on IS NULL"))[:1]:
                    await world.record("release", hold.hold_id, reason="solved")
            case "promise" if item is not None:
                on = day + timedelta(days=n % 8)
                await world.record("promise", customer="C-1", lines=lines, promised_on=on, channel="call")
            case "plan" if item is not None and part > 2:
                halves = [
                    {"due_on": day + timedelta(days=2 + n % 5), "amount": _money(part // 2)},
                    {"due_on": day + timedelta(days=9 + n % 5), "amount": _money(part - part // 2)},
                ]
                await world.record("plan", customer="C-1", lines=lines, instalments=halves)
            case "dispute" if item is not None:
                await world.record(
                    "dispute", customer="C-1", receivable_id=item.receivable_id, amount=_money(part), kind="price"
                )
            case "withdraw" | "cancel-plan" | "resolve":
                kind = {"withdraw": "promise", "cancel-plan": "plan", "resolve": "dispute"}[verb]
                found = await service.rows(
                    "SELECT agreement_id, told FROM agreement WHERE kind = :kind AND state = 'open' ORDER BY 1",
                    kind=kind,
                )
                if found and verb == "resolve":
                    outcome = ("upheld", "partly", "rejected", "withdrawn")[n % 4]
                    half = int(float(found[0].told["amount"]["amount"]) * 100) // 2
                    upheld = {"upheld": _money(half)} if outcome == "partly" else {}
                    await world.record("resolve-dispute", found[0].agreement_id, outcome=outcome, **upheld)
                elif found:
                    extra = {"reason": "error"} if verb == "withdraw" else {}
                    await world.record(
                        "withdraw-promise" if verb == "withdraw" else verb, found[0].agreement_id, **extra
                    )
            case "hand-over" if cases:
                await world.record("hand-over", cases[0].case_id, to="Bufete", kind="agency", package_sha256="a" * 64)
            case "recall" if cases:
                await world.record("recall", cases[0].case_id, reason="no_result")
            case _:
                pass


def _money(minor: int) -> dict[str, str]:
    return {"amount": f"{minor // 100}.{minor % 100:02}", "currency": "MXN"}


def _balance(
    number: str, due: date, on: date, *, issued: int, open_: int, cause: str, effective: date | None = None
) -> payments.ReceivableChanged:
    invoice_id = identifiers.invoice_id("acme-mx", "erp", number)
    text = {name: _money(minor)["amount"] for name, minor in (("i", issued), ("o", open_), ("a", issued - open_))}
    return payments.ReceivableChanged.model_validate(
        {
            "company": "acme-mx", "receivable_id": identifiers.receivable_id(invoice_id, 1), "invoice_id": invoice_id,
            "instalment": 1, "customer": "C-1", "number": number, "kind": "invoice", "currency": "MXN",
            "issued_on": "2026-12-11", "due_on": due, "issued": text["i"], "allocated": text["a"], "credited": "0.00",
            "written_off": "0.00", "open": text["o"], "version": 1, "cause": cause, "effective_on": effective or on,
            "recorded_on": on,
        }
    )  # fmt: skip


def _changed(row: Any, open_: int, effective: date, on: date, cause: str) -> payments.ReceivableChanged:
    return _balance(row.number, row.due_on, on, issued=row.issued, open_=open_, cause=cause, effective=effective)


_happenings = st.dictionaries(
    st.integers(1, 48), st.tuples(st.sampled_from(VERBS), st.integers(0, 99)), min_size=4, max_size=16
)


# A run lives weeks in a database: it is told as it was found, not made smaller.
@settings(
    max_examples=30,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(
    happenings={},
    policy="mx-b2b",
    answers=["suppressed", "failed", "suppressed", "nothing", "failed", "suppressed", "sent", "nothing", "failed"],
    cash_feed="none",
)
@given(
    happenings=_happenings,
    policy=st.sampled_from(["mx-b2b", "strict", "small-business"]),
    answers=st.lists(st.sampled_from(["sent", "sent", "suppressed", "failed", "nothing"]), max_size=12) | st.none(),
    cash_feed=st.sampled_from(["none", "watermark"]),
)
def test_whatever_happens_production_does_what_the_simulation_does(
    services: Services,
    happenings: dict[int, tuple[str, int]],
    policy: str,
    answers: list[str] | None,
    cash_feed: str,
) -> None:
    async def live() -> None:
        async with services(cash_feed=cash_feed, currencies=["MXN"]) as service:
            production = Production(service, BEST if answers is None else "nothing", list(answers or ()))
            source = DATA / f"{policy}.yaml"
            ladder = await production.start(
                source.read_text(encoding="utf-8") if source.exists() else gateways.read_source(policy)
            )
            hand = Hand()

            async def act(world: Production, day: date) -> None:
                number = (day - FIRST).days
                if number == 0:
                    await hand.act(world, "customer", 0)
                    if cash_feed == "watermark":
                        await hand.act(world, "cash", 0)
                    await hand.act(world, "invoice", 11)
                elif number in happenings:
                    await hand.act(world, *happenings[number])

            await compare(production, ladder, act, days=50)

    asyncio.run(live())
