"""The ledger against a plain-Python one: any order of money, any repeats, the same balances."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cobranza.chassis import inbox
from cobranza.contracts import identifiers
from cobranza.contracts.topics import TOPIC_OF
from cobranza.payments import repository
from cobranza.payments.domain.matching import Proposal
from cobranza.payments.use_cases import Decider, Matcher
from cobranza.payments.use_cases.decisions import Asked

CUSTOMERS = ("C1", "C2")
NUMBERS = ("F-1", "F-2", "F-3", "F-4")
MINOR = st.integers(min_value=1, max_value=9_99)
AMOUNT = MINOR.map(lambda minor: f"{minor // 100}.{minor % 100:02d}")


#: Every invoice here is paid in parts: what is applied of each is on fiscal receipts that count, no more and no less.
_WITHOUT_RECEIPT = """
    SELECT * FROM (
        SELECT company, invoice_id, sum(paid) AS paid FROM fiscal_receipt_line WHERE state = 'live' GROUP BY 1, 2) l
    FULL JOIN (
        SELECT r.company, r.invoice_id, sum(a.amount) AS applied FROM allocation a
        JOIN receivable r ON r.company = a.company AND r.receivable_id = a.receivable_id
            AND r.kind = 'invoice'
        JOIN receipt p ON p.company = a.company AND p.receipt_id = a.receipt_id AND p.kind = 'cash'
        GROUP BY 1, 2 HAVING sum(a.amount) <> 0) a USING (company, invoice_id)
    WHERE paid IS DISTINCT FROM applied
"""


def minor(amount: str) -> int:
    return int(Decimal(amount) * 100)


@dataclass
class Debt:
    currency: str
    issued: int
    paid: int = 0
    credited: int = 0
    written_off: int = 0
    given_up: int = 0
    #: Of a late charge: the debt it is on, and whether it ends when that is paid.
    on: Debt | None = None
    ends: bool = False

    @property
    def open(self) -> int:
        return self.issued - self.paid - self.credited - self.written_off


@dataclass
class Money:
    owner: str
    currency: str
    left: int
    names: list[tuple[str, int | None]] = field(default_factory=list)
    used: list[tuple[Debt, int, int, int]] = field(default_factory=list)
    back: bool = False


@dataclass
class Model:
    """What the ledger must say, written as plainly as possible."""

    debts: dict[str, list[Debt]] = field(default_factory=dict)
    payer: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    money: dict[str, Money] = field(default_factory=dict)
    returned: set[str] = field(default_factory=set)
    #: By (number, instalment, day), in the order of their making.
    charges: dict[tuple[str, int, date], Debt] = field(default_factory=dict)

    def of(self, number: str) -> list[Debt]:
        """The debts of an invoice and then the charges on them."""
        return self.debts[number] + [charge for key, charge in self.charges.items() if key[0] == number]

    def charge(self, number: str, day: date, fee: int, *, ends: bool) -> None:
        for place, debt in enumerate(self.debts[number], 1):
            if debt.open:
                self.charges[number, place, day] = Debt(debt.currency, fee, on=debt, ends=ends)

    def write_off(self, debt: Debt, part: int) -> None:
        debt.written_off += part
        debt.given_up += part

    def recover(self, money: Money, number: str, most: int | None) -> None:
        """What is left of named money takes back what was given up of the debts it names."""
        for debt in self.of(number):
            part = min(debt.given_up, money.left, money.left if most is None else most)
            if part > 0:
                debt.paid += part
                debt.written_off -= part
                debt.given_up -= part
                money.left -= part
                money.used.append((debt, part, 0, -part))
                most = None if most is None else most - part

    def settle(self) -> None:
        """Charges that end with their debt are forgiven once nothing of it can be paid."""
        for charge in self.charges.values():
            if charge.ends and charge.on is not None and charge.on.open + charge.on.given_up == 0:
                charge.credited += charge.open

    def use(self, money: Money, number: str, most: int | None) -> None:
        for debt in self.of(number):
            part = min(debt.open, money.left, money.left if most is None else most)
            if part > 0 and debt.currency == money.currency:
                debt.paid += part
                money.left -= part
                money.used.append((debt, part, 0, 0))
                most = None if most is None else most - part

    def issue(self, number: str, customer: str, currency: str, parts: list[str]) -> None:
        self.debts[number] = [Debt(currency, minor(part)) for part in parts]
        self.payer[number] = customer
        for money in self.money.values():
            for name, most in money.names:
                if name == number and currency == money.currency and money.left:
                    money.owner = customer if money.owner == "-" else money.owner
                    self.use(money, number, most)

    def cancel(self, number: str) -> None:
        self.cancelled.add(number)
        for money in self.money.values():
            for used in list(money.used):
                if any(used[0] is mine for mine in self.of(number)):
                    money.used = [other for other in money.used if other is not used]
                    self.release(money, used)
        for debt in self.of(number):
            debt.credited += debt.open

    def credit(self, id_: str, customer: str, currency: str, total: str, parts: list[tuple[str, str]]) -> None:
        rest = Money(customer, currency, minor(total))
        for number, part in parts:
            if number not in self.debts:
                rest.names.append((number, minor(part)))
                continue
            most = minor(part)
            for debt in self.debts[number]:
                taken = min(debt.open, most, rest.left) if debt.currency == currency else 0
                debt.credited += taken
                most -= taken
                rest.left -= taken
        if rest.left:
            self.money[id_] = rest

    def receive(self, id_: str, owner: str, currency: str, amount: str, names: list[tuple[str, str | None]]) -> None:
        if id_ in self.money:
            return
        money = self.money[id_] = Money(owner, currency, minor(amount))
        money.names = [(name, None if most is None else minor(most)) for name, most in names]
        meant = [
            (name, most)
            for name, most in money.names
            if name in self.debts and name not in self.cancelled and self.debts[name][0].currency == currency
        ]
        payers = {self.payer[name] for name, _ in meant}
        if owner == "-" and len(payers) == 1:
            money.owner = payers.pop()
        before: dict[str, int] = {}
        for name, most in meant:
            left = money.left
            self.use(money, name, most)
            before[name] = left - money.left
        for name, most in meant:
            self.recover(money, name, None if most is None else most - before[name])
        if id_ in self.returned:
            self.give_back(id_)

    def release(self, money: Money, used: tuple[Debt, int, int, int]) -> None:
        debt, part, discount, written_off = used
        debt.paid -= part
        debt.credited -= discount
        debt.written_off -= written_off
        debt.given_up -= min(0, written_off)
        money.left += part

    def undo(self, id_: str) -> None:
        money = self.money[id_]
        for used in money.used:
            self.release(money, used)
        money.used = []

    def give_back(self, id_: str) -> None:
        self.returned.add(id_)
        money = self.money.get(id_)
        if money is not None and not money.back:
            self.undo(id_)
            money.left, money.back = 0, True


class LedgerMachine(RuleBasedStateMachine):
    """Invoicing's events come in the order of their key; banks' come as they like, and again."""

    make_ledger: Any = None
    make: Any = None
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.company = f"company-{next(LedgerMachine.numbers)}"
        self.runner = asyncio.Runner()
        self.ledger = LedgerMachine.make_ledger(self.company)
        self.model = Model()
        self.free = list(NUMBERS)
        self.asked: set[str] = set()
        self.ids = itertools.count(1)
        self.waiting: list[tuple[Any, Any]] = []
        self.dies = False
        self.delivered: list[tuple[str, Any]] = []

    def by(self, customer: str) -> Any:
        return LedgerMachine.make.of(company=self.company, customer=customer)

    def tell(self, event: Any, change: Any) -> None:
        record = self.ledger.record(event)
        topic_name = TOPIC_OF[event.TYPE]
        self.deliver(topic_name, [record])
        change()
        self.delivered.append((topic_name, record))

    def deliver(self, topic_name: str, records: list[Any]) -> None:
        move = inbox.move_positions

        async def move_and_die(*arguments: Any, **keywords: Any) -> None:
            await move(*arguments, **keywords)
            inbox.move_positions = move
            raise ConnectionResetError("all is written, nothing is committed")

        if self.dies:
            inbox.move_positions = move_and_die
            self.dies = False
        try:
            self.runner.run(self.ledger.deliver(topic_name, records))
        finally:
            inbox.move_positions = move

    @initialize(customer=st.sampled_from(CUSTOMERS), parts=st.lists(AMOUNT, min_size=1, max_size=3))
    def begin_with_one_invoice(self, customer: Any, parts: Any) -> None:
        self.issue(customer, "MXN", parts)

    @precondition(lambda self: self.free)
    @rule(
        customer=st.sampled_from(CUSTOMERS),
        currency=st.sampled_from(["MXN", "MXN", "USD"]),
        parts=st.lists(AMOUNT, min_size=1, max_size=3),
    )
    def issue(self, customer: Any, currency: Any, parts: Any) -> None:
        number = self.free.pop(0)
        event = self.by(customer).invoice(number, *parts, currency=currency, payment_method_code="PPD")
        self.tell(event, lambda: self.model.issue(number, customer, currency, parts))

    @precondition(lambda self: self.model.debts.keys() - self.model.cancelled)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.debts.keys() - self.model.cancelled)))
        self.tell(self.by(self.model.payer[number]).cancel(number), lambda: self.model.cancel(number))

    @rule(
        customer=st.sampled_from(CUSTOMERS),
        currency=st.sampled_from(["MXN", "MXN", "USD"]),
        parts=st.lists(st.tuples(st.sampled_from(NUMBERS), AMOUNT), max_size=2, unique_by=lambda part: part[0]),
        rest=MINOR,
    )
    def credit(self, customer: Any, currency: Any, parts: Any, rest: Any) -> None:
        id_ = f"N-{next(self.ids)}"
        sum_ = sum(minor(part) for _, part in parts) + rest
        total = f"{sum_ // 100}.{sum_ % 100:02d}"
        self.tell(
            self.by(customer).credit_note(id_, total, *parts, currency=currency),
            lambda: self.model.credit(id_, customer, currency, total, parts),
        )

    @rule(
        owner=st.sampled_from([*CUSTOMERS, *CUSTOMERS, "-"]),
        currency=st.sampled_from(["MXN", "MXN", "MXN", "USD"]),
        amount=AMOUNT,
        names=st.lists(st.sampled_from(NUMBERS), max_size=3, unique=True),
        caps=st.lists(st.none() | AMOUNT, min_size=3, max_size=3),
        comes_late=st.booleans(),
    )
    def pay(self, owner: Any, currency: Any, amount: Any, names: Any, caps: Any, comes_late: Any) -> None:
        id_ = f"P-{next(self.ids)}"
        capped = [(name, cap) for name, cap in zip(names, caps, strict=False) if cap is not None]
        bare = [(name, None) for name, cap in zip(names, caps, strict=False) if cap is None]
        event = self.by("C1" if owner == "-" else owner).payment(
            id_, amount, *(name for name, _ in bare), remittance=capped, currency=currency, nobody=owner == "-"
        )
        self.asked.add(id_)
        step = (event, lambda: self.model.receive(id_, owner, currency, amount, capped + bare))
        if comes_late:
            self.waiting.append(step)
        else:
            self.tell(*step)

    @precondition(lambda self: self.asked - self.model.returned)
    @rule(data=st.data())
    def reverse(self, data: Any) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.asked - self.model.returned)))
        self.tell(self.by("C1").reversal(id_, on=date(2027, 1, 22)), lambda: self.model.give_back(id_))

    def spendable(self) -> list[tuple[str, str, int]]:
        """Money and a debt that a person, or a rule, may bring together."""
        return [
            (id_, number, place)
            for id_, money in sorted(self.model.money.items())
            for number, debts in sorted(self.model.debts.items())
            for place, debt in enumerate(debts)
            if id_.startswith("P-") and money.left and debt.open and debt.currency == money.currency
        ]

    @precondition(lambda self: self.spendable())
    @rule(data=st.data(), share=st.integers(1, 9_99), give=st.sampled_from(["nothing", "discount", "small_balance"]))
    def accept_a_suggestion(self, data: Any, share: Any, give: Any) -> None:
        id_, number, place = data.draw(st.sampled_from(self.spendable()))
        money, debt = self.model.money[id_], self.model.debts[number][place]
        part = min(share, money.left, debt.open)
        rest = 0 if give == "nothing" else min(3, debt.open - part)
        receivable = self.by(self.model.payer[number]).receivable_id(number, place + 1)
        self.runner.run(self.suggest_and_accept(id_, receivable, part, (give, rest) if rest else None, number))
        debt.paid += part
        discount, written_off = (rest, 0) if give == "discount" else (0, rest)
        debt.credited += discount
        debt.written_off += written_off
        money.left -= part
        money.owner = self.model.payer[number] if money.owner == "-" else money.owner
        money.used.append((debt, part, discount, written_off))

    @precondition(lambda self: any(m.used and i.startswith("P-") for i, m in self.model.money.items()))
    @rule(data=st.data())
    def undo(self, data: Any) -> None:
        used = sorted(i for i, m in self.model.money.items() if m.used and i.startswith("P-"))
        id_ = data.draw(st.sampled_from(used))
        self.runner.run(self.take_back(id_))
        self.model.undo(id_)

    async def suggest_and_accept(
        self, id_: str, receivable: UUID, part: int, difference: tuple[Any, int] | None, number: str
    ) -> None:
        proposal = Proposal(
            rule="r7-debts-in-sum@1",
            confidence=Decimal("0.80"),
            shares={receivable: part},
            inputs={},
            customer=self.model.payer[number],
            differences=() if difference is None else ((receivable, *difference),),
        )
        receipt_id = identifiers.payment_id(self.company, "sap", id_)
        matcher = Matcher(self.ledger.database, self.ledger.context.companies)
        async with self.ledger.database.transaction() as tx:
            await repository.replace_suggestions(
                tx, company=self.company, receipt_id=receipt_id, proposals=[proposal], state="open"
            )
        (suggested,) = await self.ledger.rows(
            "SELECT suggestion_id FROM suggestion WHERE company = :c AND receipt_id = :r AND state = 'open'",
            c=self.company,
            r=receipt_id,
        )
        for _ in range(2):
            async with self.ledger.database.transaction() as tx:
                await matcher.accept(
                    tx, company=self.company, suggestion_id=suggested.suggestion_id, by="ana", reason="told"
                )

    async def take_back(self, id_: str) -> None:
        matcher = Matcher(self.ledger.database, self.ledger.context.companies)
        receipt_id = identifiers.payment_id(self.company, "sap", id_)
        action_id = identifiers.derived(receipt_id, "undo", next(self.ids))
        for _ in range(2):
            async with self.ledger.database.transaction() as tx:
                await matcher.act(
                    tx,
                    "undo",
                    company=self.company,
                    receipt_id=receipt_id,
                    action_id=action_id,
                    by="ana",
                    reason="told",
                )

    @precondition(lambda self: self.model.debts.keys() - self.model.cancelled)
    @rule(data=st.data(), fee=MINOR, ends=st.booleans())
    def charge(self, data: Any, fee: Any, ends: Any) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.debts.keys() - self.model.cancelled)))
        currency = self.model.debts[number][0].currency
        run = next(self.ids)
        day = date(2027, 6, 1) + timedelta(days=run)
        terms = {
            "amount": {"amount": f"{fee // 100}.{fee % 100:02d}", "currency": currency},
            "settle": "waive_on_principal" if ends else "enforce",
        }
        by = self.by(self.model.payer[number])
        # A case is of one company; the events of two must not have one identity.
        case = int(self.company.rpartition("-")[2]) + 1
        step = by.step(number, effect="fee", on=day, run=run, case=case, currency=currency, terms=terms)
        parts = tuple(by.receivable_id(number, n) for n in range(1, len(self.model.debts[number]) + 1))
        self.tell(
            step.model_copy(update={"receivable_ids": parts}),
            lambda: self.model.charge(number, day, fee, ends=ends),
        )

    def decidable(self, *, charges_only: bool = False) -> list[tuple[str, int, date | None]]:
        """Open debts and charges by the name under which a person finds them."""
        debts = [] if charges_only else [(number, place) for number in self.model.debts for place in (1, 2, 3)]
        found: list[tuple[str, int, date | None]] = [
            (number, place, None)
            for number, place in debts
            if place <= len(self.model.debts[number]) and self.model.debts[number][place - 1].open
        ]
        return [*found, *(key for key, charge in self.model.charges.items() if charge.open)]

    def debt_of(self, key: Any) -> Debt:
        number, place, day = key
        return self.model.debts[number][place - 1] if day is None else self.model.charges[key]

    @precondition(lambda self: self.decidable())
    @rule(data=st.data(), share=MINOR)
    def write_off(self, data: Any, share: Any) -> None:
        key = data.draw(st.sampled_from(self.decidable()))
        debt = self.debt_of(key)
        part = min(share, debt.open)
        self.runner.run(self.decide("write_off", key, part))
        self.model.write_off(debt, part)

    @precondition(lambda self: self.decidable(charges_only=True))
    @rule(data=st.data(), share=MINOR)
    def waive(self, data: Any, share: Any) -> None:
        key = data.draw(st.sampled_from(self.decidable(charges_only=True)))
        debt = self.debt_of(key)
        part = min(share, debt.open)
        self.runner.run(self.decide("waive", key, part))
        debt.credited += part

    @precondition(lambda self: any(money.left for money in self.model.money.values()))
    @rule(data=st.data(), share=MINOR)
    def refund(self, data: Any, share: Any) -> None:
        id_ = data.draw(st.sampled_from(sorted(i for i, money in self.model.money.items() if money.left)))
        money = self.model.money[id_]
        part = min(share, money.left)
        self.runner.run(self.decide("refund", id_, part))
        money.left -= part

    async def decide(self, verb: Any, key: Any, part: int) -> None:
        """Ask twice, and have a second person approve twice what waits."""
        rows = (
            await self.ledger.rows(
                "SELECT receipt_id AS id FROM receipt WHERE company = :c AND external_id = :i", c=self.company, i=key
            )
            if verb == "refund"
            else await self.ledger.rows(
                """
                SELECT receivable_id AS id FROM receivable WHERE company = :c AND number = :n AND instalment = :p
                    AND (kind = 'invoice' OR due_on = :d)
                """,
                c=self.company, n=key[0] + ("/gestion" if key[2] else ""), p=key[1], d=key[2],
            )
        )  # fmt: skip
        decider = Decider(self.ledger.context.companies)
        asked = Asked(
            verb=verb, company=self.company, subject_id=rows[0].id, amount=part, reason="settlement", note="as agreed",
            action_id=identifiers.derived(rows[0].id, verb, next(self.ids)), by="ana",
        )  # fmt: skip
        for _ in range(2):
            async with self.ledger.database.transaction() as tx:
                await decider.ask(tx, asked)
        if verb != "refund":
            for _ in range(2):
                async with self.ledger.database.transaction() as tx:
                    await decider.answer(
                        tx, company=self.company, action_id=asked.action_id, approve="approve", by="bea", note="yes"
                    )

    @rule()
    def the_next_delivery_dies_before_its_commit(self) -> None:
        self.dies = True

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def deliver_what_was_late(self, data: Any) -> None:
        place = data.draw(st.integers(0, len(self.waiting) - 1))
        self.tell(*self.waiting.pop(place))

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def deliver_again(self, data: Any) -> None:
        topic_name, record = data.draw(st.sampled_from(self.delivered))
        self.deliver(topic_name, [record, record])

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def deliver_again_to_a_forgetful_inbox(self, data: Any) -> None:
        topic_name, record = data.draw(st.sampled_from(self.delivered))
        self.runner.run(self.ledger.run("DELETE FROM inbox"))
        self.deliver(topic_name, [record])

    @invariant()
    def the_balances_are_those_of_the_model(self) -> None:
        self.runner.run(self.ledger.settle())
        self.model.settle()
        debts, money, credit = self.runner.run(self.read())
        every: dict[tuple[str, int, date | None], Debt] = {
            **{(n, place, None): debt for n, parts in self.model.debts.items() for place, debt in enumerate(parts, 1)},
            **{(f"{n}/gestion", place, day): charge for (n, place, day), charge in self.model.charges.items()},
        }
        assert debts == {
            key: (debt.paid, debt.credited, debt.written_off, debt.given_up, debt.open) for key, debt in every.items()
        }
        assert money == {id_: (m.owner, m.left) for id_, m in self.model.money.items()}
        expected: dict[tuple[str, str], int] = {}
        for m in self.model.money.values():
            expected[m.owner, m.currency] = expected.get((m.owner, m.currency), 0) + m.left
        assert credit == {key: left for key, left in expected.items() if left}

    async def read(self) -> tuple[dict[Any, Any], dict[Any, Any], dict[Any, Any]]:
        mine = {"company": self.company}
        async with self.ledger.database.transaction() as tx:
            debts = await tx.execute("SELECT * FROM receivable WHERE company = :company", mine)
            money = await tx.execute("SELECT * FROM receipt WHERE company = :company", mine)
            credit = await tx.execute("SELECT * FROM credit WHERE company = :company AND unapplied > 0", mine)
            return (
                {
                    (r.number, r.instalment, r.due_on if r.kind == "late_charge" else None): (
                        r.allocated,
                        r.credited,
                        r.written_off,
                        r.given_up,
                        r.open,
                    )
                    for r in debts
                },
                {r.external_id: (r.customer or "-", r.unapplied) for r in money},
                {(r.customer, r.currency): r.unapplied for r in credit},
            )

    def teardown(self) -> None:
        async def end() -> tuple[set[str], list[str], list[Any]]:
            found = await self.ledger.broken(), await self.ledger.parked(), await self.ledger.rows(_WITHOUT_RECEIPT)
            await self.ledger.database.close()
            return found

        broken, parked, without_receipt = self.runner.run(end())
        self.runner.close()
        assert (broken, parked, without_receipt) == (set(), [], [])


def test_the_ledger_equals_a_plain_one(shared_ledger: Any, make: Any) -> None:
    LedgerMachine.make_ledger = staticmethod(shared_ledger)
    LedgerMachine.make = make
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            # The profile `nightly` makes 400 of it: 12,000 steps.
            max_examples=settings().max_examples // 5,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            # Shrinking on a real database takes longer than a person waits.
            phases=(Phase.reuse, Phase.generate),
        ),
    )
