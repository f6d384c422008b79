"""A made-up portfolio: the same arguments give the same events and the totals they must lead to.

Five kinds of payers, three currencies, part payments, excess, money without a reference, bounced
payments, credit notes, cancellations, payments told late or before their invoice, repeats, and a few
inputs that must be parked. The totals are kept by a ledger of a few lines that shares nothing with
the platform.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from replay import erp_event

Published = tuple[str, str, Mapping[str, Any]]
SYSTEM = "erp"
FIRST_DAY = date(2027, 1, 4)
TERMS_DAYS = (15, 30)

#: Company, currency, share of customers, smallest and largest invoice in units of the currency's step.
_MARKETS = (
    ("acme-mx", "MXN", 6, (1_000, 90_000), Decimal("0.01")),
    ("acme-mx", "USD", 1, (100, 9_000), Decimal("0.01")),
    ("andes-cl", "CLP", 3, (50_000, 4_000_000), Decimal(1)),
)
_KINDS = ("punctual", "late", "in parts", "too much", "without reference", "never")
_WEIGHTS = (30, 25, 12, 8, 8, 17)
_FIRST_NAMES = ("Abarrotes", "Ferretería", "Papelería", "Transportes", "Clínica", "Taller", "Distribuidora", "Café")
_LAST_NAMES = ("del Norte", "Santa Fe", "Los Andes", "La Esperanza", "Ñandú", "San Ángel", "del Puerto", "El Roble")


@dataclass(slots=True)
class Totals:
    """What one company and currency must come to, in decimal units."""

    invoices: int = 0
    invoiced: Decimal = Decimal(0)
    collected: Decimal = Decimal(0)
    open: Decimal = Decimal(0)
    overdue: Decimal = Decimal(0)
    open_count: int = 0
    unapplied: Decimal = Decimal(0)


@dataclass(slots=True)
class _Debt:
    amount: Decimal
    open: Decimal
    due_on: date


@dataclass(slots=True)
class Portfolio:
    """Events by day, broken inputs by day, and the expected totals by (company, currency)."""

    last_day: date
    events: dict[date, list[Published]] = field(default_factory=lambda: defaultdict(list))
    broken: dict[date, list[tuple[str, bytes, bytes]]] = field(default_factory=lambda: defaultdict(list))
    totals: dict[tuple[str, str], Totals] = field(default_factory=lambda: defaultdict(Totals))
    parked: int = 0

    def expected(self) -> dict[str, Any]:
        """The totals as JSON."""
        return {
            "last_day": self.last_day.isoformat(),
            "parked": self.parked,
            "totals": [
                {"company": company, "currency": currency, **{k: str(v) for k, v in asdict(totals).items()}}
                for (company, currency), totals in sorted(self.totals.items())
            ],
        }


def generate(*, customers: int, months: int, seed: int = 7) -> Portfolio:
    """A portfolio of `customers` over `months` of 30 days from the first Monday of 2027."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable story, not a secret
    book = Portfolio(last_day=FIRST_DAY + timedelta(days=30 * months))
    for index in range(1, customers + 1):
        (company, currency, _, bounds, step) = chance.choices(_MARKETS, weights=[m[2] for m in _MARKETS])[0]
        _Story(book, chance, index, company, currency, bounds, step).tell()
    _add_watermarks(book)
    _add_broken_inputs(book)
    return book


class _Story:
    """One customer's history: what the ERP publishes, and what it must come to."""

    def __init__(
        self,
        book: Portfolio,
        chance: random.Random,
        index: int,
        company: str,
        currency: str,
        bounds: tuple[int, int],
        step: Decimal,
    ) -> None:
        self._book = book
        self._chance = chance
        self._company = company
        self._currency = currency
        self._bounds = bounds
        self._step = step
        self._customer = f"C-{index:04d}"
        self._kind = chance.choices(_KINDS, weights=_WEIGHTS)[0]
        self._totals = book.totals[company, currency]
        self._payments: list[tuple[date, int, Mapping[str, Any]]] = []

    def tell(self) -> None:
        """Put the whole history into the book."""
        self._publish(FIRST_DAY, "erp.invoicing", "customer-changed", f"customer-{self._customer}", self._profile())
        day = FIRST_DAY + timedelta(days=self._chance.randrange(0, 12))
        number = 0
        debts: list[_Debt] = []
        while day < self._book.last_day - timedelta(days=5):
            number += 1
            debts.append(self._invoice(day, f"{self._customer}-{number:03d}"))
            day += timedelta(days=self._chance.randrange(9, 28))
        for debt in debts:
            self._totals.open += debt.open
            self._totals.open_count += debt.open > 0
            self._totals.overdue += debt.open if debt.due_on < self._book.last_day else 0

    def _profile(self) -> Mapping[str, Any]:
        name = f"{self._chance.choice(_FIRST_NAMES)} {self._chance.choice(_LAST_NAMES)} {self._customer[2:]}"
        return {
            "external": {"system": SYSTEM, "id": self._customer},
            "customer": self._customer,
            "name": name,
            "country": "MX" if self._company == "acme-mx" else "CL",
            "language": "en" if self._currency == "USD" else "es-MX" if self._company == "acme-mx" else "es-CL",
            "protected_party": "business",
            "contacts": [
                {
                    "name": f"Cuentas por pagar {self._customer}",
                    "role": "payables",
                    "channel": "email",
                    "value": f"pagos.{self._customer.lower()}@example.test",
                }
            ],
        }

    def _invoice(self, issued_on: date, number: str) -> _Debt:
        amount = Decimal(self._chance.randrange(*self._bounds)) + self._step * self._chance.randrange(0, 100)
        amount = amount.quantize(self._step)
        due_on = issued_on + timedelta(days=self._chance.choice(TERMS_DAYS))
        parts = [(1, due_on, amount)]
        if self._chance.random() < 0.1:
            half = (amount / 2).quantize(self._step)
            parts = [(1, due_on, half), (2, due_on + timedelta(days=30), amount - half)]
        told_on = issued_on
        if self._chance.random() < 0.04:
            told_on += timedelta(days=2)
        data = {
            "external": {"system": SYSTEM, "id": number},
            "customer": self._customer,
            "number": f"F-{number}",
            "issued_on": issued_on.isoformat(),
            "concept": "Mercancía según pedido" if self._company == "acme-mx" else "Servicios del mes",
            "payable": self._money(amount),
            "instalments": [
                {"number": part, "due_on": due.isoformat(), "amount": self._money(share)} for part, due, share in parts
            ],
        }
        self._publish(told_on, "erp.invoicing", "invoice-issued", f"invoice-{number}-1", data)
        if self._chance.random() < 0.1:
            # The ERP says it again: under the same id, and as a new event with the same content.
            self._publish(told_on, "erp.invoicing", "invoice-issued", f"invoice-{number}-1", data)
            self._publish(told_on, "erp.invoicing", "invoice-issued", f"invoice-{number}-again", data)
        self._totals.invoices += 1
        self._totals.invoiced += amount
        debts = [_Debt(share, share, due) for _, due, share in parts]
        self._settle(number, amount, issued_on, due_on, debts)
        whole = _Debt(amount, sum((d.open for d in debts), Decimal(0)), due_on)
        if len(debts) == 1:
            return whole
        # Instalments are debts of their own: the second is counted here, the first is returned.
        second = debts[1]
        self._totals.open += second.open
        self._totals.open_count += second.open > 0
        self._totals.overdue += second.open if second.due_on < self._book.last_day else 0
        return debts[0]

    def _settle(self, number: str, amount: Decimal, issued_on: date, due_on: date, debts: list[_Debt]) -> None:
        chance = self._chance.random()
        if chance < 0.03:
            credit = (amount / 4).quantize(self._step)
            if self._credit_note(number, credit, issued_on + timedelta(days=4)):
                self._reduce(debts, credit)
        elif chance < 0.05 and self._cancel(number, issued_on + timedelta(days=3)):
            for debt in debts:
                debt.open = Decimal(0)
            return
        left = sum((debt.open for debt in debts), Decimal(0))
        match self._kind:
            case "punctual":
                self._pay(number, left, due_on + timedelta(days=self._chance.randrange(-3, 2)), debts)
            case "late":
                bounces = self._chance.random() < 0.1
                paid_on = due_on + timedelta(days=self._chance.randrange(4, 45))
                self._pay(number, left, paid_on, debts, bounces=bounces)
            case "in parts":
                half = (left / 2).quantize(self._step)
                self._pay(f"{number}-a", half, due_on + timedelta(days=8), debts, reference=number)
                self._pay(f"{number}-b", left - half, due_on + timedelta(days=31), debts, reference=number)
            case "too much":
                excess = left + self._step * 1000
                self._pay(number, excess, due_on + timedelta(days=self._chance.randrange(-2, 9)), debts)
            case "without reference":
                # The amount alone names an invoice in one instalment; of two instalments it names neither.
                paid = left if len(debts) == 1 else (left * 3 / 4).quantize(self._step)
                self._pay(number, paid, due_on + timedelta(days=2), debts, reference=None)
            case _:
                return

    def _pay(
        self,
        number: str,
        amount: Decimal,
        value_on: date,
        debts: list[_Debt],
        *,
        reference: str | None = "",
        bounces: bool = False,
    ) -> None:
        told_on = value_on + timedelta(days=3 if self._chance.random() < 0.05 else 0)
        if amount <= 0 or told_on > self._book.last_day:
            return
        named = number if reference == "" else reference
        data = {
            "external": {"system": "bank", "id": number},
            "customer": self._customer,
            "amount": self._money(amount),
            "value_on": value_on.isoformat(),
            "references": [f"F-{named}"] if named is not None else [],
        }
        self._publish(told_on, "erp.payments", "payment-received", f"payment-{number}", data, system="bank")
        if self._chance.random() < 0.1:
            self._publish(told_on, "erp.payments", "payment-received", f"payment-{number}-again", data, system="bank")
        returned_on = told_on + timedelta(days=4)
        if bounces and returned_on <= self._book.last_day:
            back = {
                "external": {"system": "bank", "id": number},
                "customer": self._customer,
                "reversed_on": returned_on.isoformat(),
                "reason": "cheque_bounced",
            }
            self._publish(returned_on, "erp.payments", "payment-reversed", f"return-{number}", back, system="bank")
            return
        self._totals.collected += amount
        is_for_a_person = named is None and len(debts) > 1
        self._totals.unapplied += amount if is_for_a_person else self._reduce(debts, amount)

    def _reduce(self, debts: list[_Debt], amount: Decimal) -> Decimal:
        """Lower debts in order of their dates; returns what is left over."""
        for debt in debts:
            used = min(debt.open, amount)
            debt.open -= used
            amount -= used
        return amount

    def _credit_note(self, number: str, amount: Decimal, on: date) -> bool:
        if on > self._book.last_day:
            return False
        data = {
            "external": {"system": SYSTEM, "id": number},
            "customer": self._customer,
            "issued_on": on.isoformat(),
            "amount": self._money(amount),
            "applies_to": [{"invoice_external_id": number, "amount": self._money(amount)}],
        }
        self._publish(on, "erp.invoicing", "credit-note-issued", f"credit-{number}", data)
        return True

    def _cancel(self, number: str, on: date) -> bool:
        if on > self._book.last_day:
            return False
        data = {
            "external": {"system": SYSTEM, "id": number},
            "customer": self._customer,
            "cancelled_on": on.isoformat(),
            "motive": "error",
        }
        self._publish(on, "erp.invoicing", "invoice-cancelled", f"cancel-{number}", data)
        return True

    def _money(self, amount: Decimal) -> Mapping[str, str]:
        return {"amount": str(amount), "currency": self._currency}

    def _publish(
        self, on: date, topic: str, event: str, event_id: str, data: Mapping[str, Any], *, system: str = SYSTEM
    ) -> None:
        key, told = erp_event(
            company=self._company, system=system, event=event, customer=self._customer, event_id=event_id, data=data
        )
        self._book.events[max(on, FIRST_DAY)].append((topic, key, told))


def _add_watermarks(book: Portfolio) -> None:
    """Every day the bank states that all cash through the day before has been told."""
    for day in (FIRST_DAY + timedelta(days=n) for n in range((book.last_day - FIRST_DAY).days + 1)):
        through_on = (day - timedelta(days=1)).isoformat()
        for company in sorted({company for company, *_ in _MARKETS}):
            key, told = erp_event(
                company=company, system="bank", event="cash-watermark", customer="-", event_id=f"cash-{through_on}",
                data={"system": "bank", "through_on": through_on},
            )  # fmt: skip
            book.events[day].append(("erp.payments", key, told))


def _add_broken_inputs(book: Portfolio) -> None:
    """What real feeds bring too: each of these must be parked with its reason and stop nothing."""
    day = FIRST_DAY + timedelta(days=10)
    good = {
        "company": "acme-mx",
        "external": {"system": SYSTEM, "id": "broken-1"},
        "customer": "C-BROKEN",
        "number": "F-BROKEN-1",
        "issued_on": "2027-01-14",
        "payable": {"amount": "100.00", "currency": "MXN"},
        "instalments": [{"number": 1, "due_on": "2027-02-14", "amount": {"amount": "99.00", "currency": "MXN"}}],
    }
    thousandth = {**good, "payable": {"amount": "100.001", "currency": "MXN"}}

    def event(name: str, data: Mapping[str, Any]) -> bytes:
        return json.dumps(
            {
                "specversion": "1.0",
                "id": name,
                "source": f"/erp/acme-mx/{SYSTEM}",
                "type": "erp.invoice-issued.v1",
                "datacontenttype": "application/json",
                "data": data,
            }
        ).encode()

    for value in (
        b"{ not json",
        event("broken-sum", good),
        event("broken-thousandth", thousandth),
        event("broken-company", {**good, "company": "nobody"}),
    ):
        book.broken[day].append(("erp.invoicing", b"acme-mx|C-BROKEN", value))
        book.parked += 1
