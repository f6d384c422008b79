"""Money without a usable reference: applied by named rules where they are certain, else suggested to people."""

import asyncio
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from cobranza.chassis.companies import Companies, Tolerance
from cobranza.chassis.streams import Event
from cobranza.contracts import dunning, ingress, invoicing, payments
from cobranza.contracts.envelope import Envelope, decode
from cobranza.contracts.money import Money
from cobranza.payments.domain.errors import MatchRefusedError, MatchUnknownError
from cobranza.payments.use_cases import Bookkeeper, Matcher, Share

ACME = "acme-mx"


def matcher(ledger: Any, **changes: Any) -> Matcher:
    """The matcher of this ledger, its company changed as said."""
    profiles = {p.company: p.model_copy(update=changes) for p in ledger.context.companies}
    return Matcher(ledger.database, Companies(profiles))


async def settle(ledger: Any, **changes: Any) -> None:
    """Look at all that waits in the queue."""
    one = matcher(ledger, **changes)
    while await one.run():
        pass


def customer(make: Any, code: str, name: str, tax_id: str | None = None, *virtual: str) -> Any:
    return invoicing.CustomerChanged(
        company=ACME, customer=code, revision=1, name=name, tax_id=tax_id, country="MX", language="es-MX",
        zone="America/Mexico_City", virtual_accounts=virtual,
    )  # fmt: skip


def payer(**known: str) -> dict[str, Any]:
    return {"nobody": True, "payer": ingress.Payer(**known)}


async def suggestions(ledger: Any, state: str = "open") -> list[Any]:
    return list(await ledger.rows("SELECT * FROM suggestion WHERE state = :s ORDER BY confidence DESC, rule", s=state))


async def receipt_of(ledger: Any, external_id: str) -> UUID:
    return UUID(str(await ledger.value("SELECT receipt_id FROM receipt WHERE external_id = :id", id=external_id)))


async def decide(ledger: Any, verb: str, suggestion_id: UUID) -> Any:
    async with ledger.database.transaction() as tx:
        act = getattr(matcher(ledger), verb)
        return await act(tx, company=ACME, suggestion_id=suggestion_id, by="ana", reason="checked with the bank")


async def act(ledger: Any, verb: Any, external_id: str, *shares: tuple[UUID, int], action: int = 1) -> Any:
    receipt_id = await receipt_of(ledger, external_id)
    async with ledger.database.transaction() as tx:
        return await matcher(ledger).act(
            tx, verb, company=ACME, receipt_id=receipt_id, action_id=UUID(int=action), by="ana", reason="asked by phone",
            shares=[Share(receivable_id=i, amount=minor) for i, minor in shares],
        )  # fmt: skip


async def test_the_one_debt_of_exactly_that_amount_is_paid_and_says_by_which_rule(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), make.invoice("F-2", "70.00"), make.payment("P", "70.00"))
    await settle(ledger)
    assert (await ledger.open("F-1"), await ledger.open("F-2")) == (10000, 0)
    (told,) = await ledger.told(payments.PaymentAllocated)
    assert (told.rule, told.confidence) == ("r5-exact-debt@1", Decimal("0.90"))
    (kept,) = await suggestions(ledger, "applied")
    assert (kept.rule, kept.inputs["debts"][0]["number"], kept.inputs["payer"]["by"]) == (
        "r5-exact-debt@1", "F-2", "told",
    )  # fmt: skip


async def test_money_that_came_before_its_exact_debt_is_applied_when_the_invoice_comes(ledger: Any, make: Any) -> None:
    await ledger.tell(make.payment("P", "70.00"))
    await settle(ledger)
    await ledger.tell(make.invoice("F-2", "70.00"))
    await settle(ledger)
    assert (await ledger.open("F-2"), await ledger.unapplied("C1")) == (0, 0)


@pytest.mark.parametrize(
    ("known", "basis"),
    [
        ({"tax_id": "fna-010101-ab1"}, "tax_id"),
        ({"name": "FERRETERIA NANDU SA DE CV"}, "name"),
        ({"name": "FERRETERIA NANDUU"}, "similar_name"),
    ],
)
async def test_a_payer_is_identified_and_the_exact_debt_paid(ledger: Any, make: Any, known: Any, basis: str) -> None:
    await ledger.tell(
        customer(make, "C1", "Ferretería Ñandú, S.A. de C.V.", "FNA010101AB1"),
        customer(make, "C2", "Abarrotes El Sol"),
        make.invoice("F-1", "50.00"),
        make.payment("P", "50.00", **payer(**known)),
    )
    assert await ledger.unapplied("-") == 5000
    await settle(ledger)
    assert (await ledger.open("F-1"), await ledger.unapplied("-"), await ledger.unapplied("C1")) == (0, 0, 0)
    (kept,) = await suggestions(ledger, "applied")
    assert kept.inputs["payer"]["by"] == basis


async def test_an_account_is_learned_from_an_exact_identification_and_decides_the_next_time(
    ledger: Any, make: Any
) -> None:
    await ledger.tell(
        make.invoice("F-1", "50.00"),
        make.payment("P-1", "50.00", "F-1", **payer(account="0121 8000 1234")),
        customer(make, "C1", "Ferretería"),
        make.invoice("F-2", "60.00"),
        make.payment("P-2", "60.00", **payer(account="012180001234", name="Somebody else")),
    )
    await settle(ledger)
    assert await ledger.open("F-2") == 0
    assert await ledger.value("SELECT why FROM payer_account WHERE customer = 'C1'") == "reference"


async def test_money_of_nobody_is_matched_when_its_customer_becomes_known(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "50.00"), make.payment("P", "50.00", **payer(tax_id="FNA010101AB1")))
    await settle(ledger)
    assert [s.rule for s in await suggestions(ledger)] == ["r10-amount-in-company@1"]
    await ledger.tell(customer(make, "C1", "Ferretería", "FNA010101AB1"))
    await settle(ledger)
    assert (await ledger.open("F-1"), await suggestions(ledger)) == (0, [])


async def test_an_identified_payers_money_is_the_customers_credit_before_it_is_applied(ledger: Any, make: Any) -> None:
    await ledger.tell(
        customer(make, "C1", "Ferretería", "FNA010101AB1"),
        make.invoice("F-1", "50.00"),
        make.payment("P", "33.00", **payer(tax_id="FNA010101AB1")),
    )
    await settle(ledger)
    assert (await ledger.unapplied("C1"), await ledger.unapplied("-"), await ledger.open("F-1")) == (3300, 0, 5000)
    assert await ledger.value("SELECT reason FROM receipt") == "below_threshold"


async def test_a_number_in_the_text_pays_another_customers_invoice_of_the_company(ledger: Any, make: Any) -> None:
    other = make.of(customer="C2")
    await ledger.tell(other.invoice("F-77", "50.00"), make.payment("P", "50.00", "PAGO FACT F-77 GRACIAS"))
    await settle(ledger)
    (told,) = await ledger.told(payments.PaymentAllocated)
    assert (await ledger.open("F-77"), told.rule, told.customer) == (0, "r4-number-in-text@1", "C2")


async def test_money_that_names_an_unknown_invoice_waits_for_it(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "50.00"), make.payment("P", "50.00", "F-99"))
    await settle(ledger)
    assert (await ledger.open("F-1"), await ledger.unapplied("C1")) == (5000, 5000)
    assert "r5-exact-debt@1" in [s.rule for s in await suggestions(ledger)]
    await ledger.tell(make.invoice("F-99", "50.00"))
    await settle(ledger)
    assert (await ledger.open("F-1"), await ledger.open("F-99"), await suggestions(ledger)) == (5000, 0, [])


async def test_a_promised_amount_in_its_days_is_applied(ledger: Any, make: Any) -> None:
    line = {"receivable_id": make.receivable_id("F-1"), "amount": Money.of("30.00", "MXN")}
    await ledger.tell(
        make.invoice("F-1", "50.00"),
        make.invoice("F-2", "90.00"),
        dunning.PromiseMade(
            company=ACME, promise_id=UUID(int=5), case_id=UUID(int=6), customer="C1", lines=(line,),
            amount=line["amount"], promised_on=date(2027, 1, 12), limit_on=date(2027, 1, 14), made_on=date(2027, 1, 8),
            captured_by="ana", channel="phone",
        ),
        make.payment("P", "30.00"),
    )  # fmt: skip
    await settle(ledger)
    assert (await ledger.open("F-1"), await ledger.open("F-2")) == (2000, 9000)


async def test_the_whole_account_is_cleared_at_once(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "50.00"), make.invoice("F-2", "20.00"), make.payment("P", "70.00"))
    await settle(ledger)
    assert {told.rule for told in await ledger.told(payments.PaymentAllocated)} == {"r6-whole-account@1"}
    assert await ledger.unapplied("C1") == 0


async def test_where_the_company_spreads_an_exact_amount_goes_first_and_charges_last(ledger: Any, make: Any) -> None:
    fifo = make.of(company="fifo-mx")
    await ledger.tell(fifo.invoice("A", "58.00"), fifo.invoice("B", "30.00", due_on=date(2027, 1, 21)))
    await ledger.tell(fifo.payment("P-1", "30.00"), fifo.payment("P-2", "20.00"))
    told = await ledger.told(payments.PaymentAllocated)
    assert [(one.rule, str(one.amount.amount)) for one in told] == [
        ("r5-exact-debt@1", "30.00"), ("oldest-due@3", "20.00"),
    ]  # fmt: skip


# ---------------------------------------------------------------------- differences


async def test_a_discount_in_time_plus_grace_closes_the_debt_and_a_bounced_payment_takes_it_back(
    ledger: Any, make: Any
) -> None:
    discount = invoicing.Discount(amount=Money.of("2.00", "MXN"), until_on=date(2027, 1, 10))
    await ledger.tell(make.invoice("F-1", "100.00", discount=discount), make.payment("P", "98.00"))
    await settle(ledger)
    assert await ledger.open("F-1") == 10000
    async with ledger.database.transaction() as tx:
        await matcher(ledger).enqueue_all(None)
        del tx
    await settle(ledger, discount_grace_days=2)
    rows = await ledger.rows("SELECT open, allocated, credited FROM receivable")
    assert [tuple(row) for row in rows] == [(0, 9800, 200)]
    assert await ledger.value("SELECT amount FROM journal_line WHERE account = 'ADJUSTMENT:discount'") == 200
    await ledger.tell(make.reversal("P"))
    rows = await ledger.rows("SELECT open, allocated, credited FROM receivable")
    assert [tuple(row) for row in rows] == [(10000, 0, 0)]


def spain(**changes: Any) -> dict[str, Any]:
    limits = {"amount": Decimal("1.00"), "percent": Decimal("0.5")}
    return {"country": "ES", "tolerance": {"MXN": Tolerance.model_validate(limits)}, **changes}


async def test_a_small_rest_is_written_off_with_its_reason(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "1000.00"), make.payment("P", "999.50"))
    await settle(ledger, **spain())
    rows = await ledger.rows("SELECT open, allocated, written_off FROM receivable")
    (told,) = await ledger.told(payments.WrittenOff)
    assert [tuple(row) for row in rows] == [(0, 99950, 50)]
    assert (told.amount, told.reason) == (Money.of("0.50", "MXN"), "small_balance")


async def test_a_small_rest_is_never_written_off_in_mexico(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "1000.00"), make.payment("P", "999.50"))
    await settle(ledger, **spain(country="MX"))
    assert (await ledger.open("F-1"), await ledger.told(payments.WrittenOff)) == (100000, [])
    assert [s.rule for s in await suggestions(ledger)] == ["oldest-due@3"]


async def test_a_person_who_undoes_an_application_takes_the_small_rest_back_too(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "1000.00"), make.payment("P", "999.50"))
    await settle(ledger, **spain())
    await act(ledger, "undo", "P")
    await settle(ledger, **spain())
    assert (await ledger.open("F-1"), await ledger.unapplied("C1")) == (100000, 99950)
    assert [str(told.amount.amount) for told in await ledger.told(payments.WrittenOff)] == ["0.50", "0.00"]


# ---------------------------------------------------------------------- people


async def one_sum(ledger: Any, make: Any) -> Any:
    """Three debts, and money for two of them: only a person may say so."""
    await ledger.tell(*(make.invoice(f"F-{n}", f"{n}0.00") for n in (1, 2, 4)), make.payment("P", "50.00"))
    await settle(ledger)
    return next(s for s in await suggestions(ledger) if s.rule == "r7-debts-in-sum@1")


async def test_an_accepted_suggestion_is_applied_once(ledger: Any, make: Any) -> None:
    kept = await one_sum(ledger, make)
    first, again = (
        await decide(ledger, "accept", kept.suggestion_id),
        await decide(ledger, "accept", kept.suggestion_id),
    )
    assert (first.unapplied, first.is_repeat, again.is_repeat) == (0, False, True)
    assert (await ledger.open("F-1"), await ledger.open("F-2"), await ledger.open("F-4")) == (0, 2000, 0)
    (action,) = await ledger.rows("SELECT verb, actor, reason FROM match_action")
    assert tuple(action) == ("accept", "ana", "checked with the bank")
    await settle(ledger)
    assert await suggestions(ledger) == []


async def test_a_rejected_suggestion_does_not_come_back_and_people_decide_from_then_on(ledger: Any, make: Any) -> None:
    kept = await one_sum(ledger, make)
    await decide(ledger, "reject", kept.suggestion_id)
    assert (await decide(ledger, "reject", kept.suggestion_id)).is_repeat
    await ledger.tell(make.invoice("F-9", "900.00"))
    await settle(ledger)
    assert {s.rule for s in await suggestions(ledger)} == {"oldest-due@3"}
    await ledger.tell(make.invoice("F-5", "50.00"))
    await settle(ledger)
    assert {s.rule for s in await suggestions(ledger)} == {"r5-exact-debt@1", "oldest-due@3"}
    assert await ledger.open("F-5") == 5000


async def test_a_suggestion_that_no_longer_fits_is_refused(ledger: Any, make: Any) -> None:
    kept = await one_sum(ledger, make)
    await ledger.tell(make.payment("P-2", "10.00", "F-1"))
    with pytest.raises(MatchRefusedError, match="0 minor units of F-1 are open"):
        await decide(ledger, "accept", kept.suggestion_id)
    with pytest.raises(MatchUnknownError):
        await decide(ledger, "accept", UUID(int=1))


async def test_money_is_split_moved_and_taken_back_by_a_person_each_once(ledger: Any, make: Any) -> None:
    one, two = make.receivable_id("F-1"), make.receivable_id("F-2")
    await ledger.tell(make.invoice("F-1", "100.00"), make.invoice("F-2", "100.00"), make.payment("P", "60.00"))
    await settle(ledger)
    await act(ledger, "apply", "P", (one, 2000), (two, 3000), action=1)
    assert (await act(ledger, "apply", "P", (one, 2000), (two, 3000), action=1)).is_repeat
    assert (await ledger.open("F-1"), await ledger.open("F-2"), await ledger.unapplied("C1")) == (8000, 7000, 1000)
    await act(ledger, "move", "P", (two, 6000), action=2)
    assert (await ledger.open("F-1"), await ledger.open("F-2"), await ledger.unapplied("C1")) == (10000, 4000, 0)
    await act(ledger, "undo", "P", action=3)
    await settle(ledger)
    assert (await ledger.open("F-1"), await ledger.open("F-2"), await ledger.unapplied("C1")) == (10000, 10000, 6000)


@pytest.mark.parametrize(
    ("shares", "why"),
    [
        ([("F-1", 6001)], "6001 minor units of MXN are to be applied, 6000 are left"),
        ([("F-3", 600)], "500 minor units of F-3 are open"),
        ([("F-1", 0)], "are to be applied"),
        ([("F-2", 100)], "owed in USD"),
        ([("F-1", 1), ("F-1", 2)], "named twice"),
    ],
)
async def test_what_cannot_be_applied_is_refused_and_nothing_changes(
    ledger: Any, make: Any, shares: Any, why: str
) -> None:
    await ledger.tell(
        make.invoice("F-1", "100.00"),
        make.invoice("F-2", "100.00", currency="USD"),
        make.invoice("F-3", "5.00"),
        make.payment("P", "60.00"),
    )
    with pytest.raises(MatchRefusedError, match=why):
        await act(ledger, "apply", "P", *((make.receivable_id(n), minor) for n, minor in shares))
    assert (await ledger.unapplied("C1"), await ledger.rows("SELECT 1 FROM match_action")) == (6000, [])


async def test_an_action_id_means_one_action(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), make.payment("P", "60.00"))
    await act(ledger, "apply", "P", (make.receivable_id("F-1"), 100))
    with pytest.raises(MatchRefusedError, match="action_id"):
        await act(ledger, "apply", "P", (make.receivable_id("F-1"), 200))
    await ledger.tell(make.payment("Q", "1.00"))
    with pytest.raises(MatchRefusedError, match="nothing of this receipt"):
        await act(ledger, "undo", "Q", action=9)


async def test_money_of_nobody_that_a_person_applies_is_that_customers(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), make.payment("P", "60.00", nobody=True))
    await act(ledger, "apply", "P", (make.receivable_id("F-1"), 5000))
    assert (await ledger.unapplied("C1"), await ledger.unapplied("-")) == (1000, 0)


async def test_money_of_another_company_is_not_to_be_found(ledger: Any, make: Any) -> None:
    await ledger.tell(make.of(company="fed-mx").payment("P", "60.00"))
    with pytest.raises(MatchUnknownError, match="no receipt"):
        await act(ledger, "undo", "P")


async def test_a_receipt_that_cannot_be_looked_at_does_not_hold_up_the_others(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "70.00"), make.payment("P", "70.00"), make.payment("Q", "3.00"))
    broken = await receipt_of(ledger, "Q")

    class Failing(Matcher):
        async def match(self, tx: Any, *, company: str, receipt_id: UUID) -> None:
            if receipt_id == broken:
                raise RuntimeError("cannot be looked at")
            await super().match(tx, company=company, receipt_id=receipt_id)

    failing = Failing(ledger.database, ledger.context.companies)
    while await failing.run():
        pass
    assert await ledger.open("F-1") == 0
    assert [row.receipt_id for row in await ledger.rows("SELECT receipt_id FROM match_queue")] == [broken]


async def test_matching_twice_changes_nothing(ledger: Any, make: Any) -> None:
    await one_sum(ledger, make)
    before = await ledger.dump()
    await matcher(ledger).enqueue_all(ACME)
    await settle(ledger)
    assert await ledger.dump() == before
    with pytest.raises(MatchUnknownError, match="no company"):
        await matcher(ledger).enqueue_all("nobody-mx")


async def test_matching_and_eight_writers_of_one_customer_never_deadlock(ledger: Any, make: Any) -> None:
    await ledger.tell(*(make.invoice(f"F-{n}", f"{n}.00") for n in range(1, 9)), make.payment("P", "500.00"))
    await ledger.tell(*(make.payment(f"P-{n}", "300.00") for n in range(4)))
    one = matcher(ledger)
    bookkeeper = Bookkeeper(ledger.context.companies)

    async def write(place: int) -> None:
        for turn in range(5):
            # An invoice brings all unapplied money of its customer back into the queue.
            record = ledger.record(make.invoice(f"W-{place}-{turn}", "0.10"))
            decoded = decode(record.key, record.headers, record.value, strict=True)
            assert isinstance(decoded, Envelope)
            event = Event.of(decoded, offset=0)
            async with ledger.database.transaction(event.cause) as tx:
                await bookkeeper.accept(tx, event)

    async def look() -> None:
        for _ in range(40):
            await one.run()

    await asyncio.gather(*(write(place) for place in range(8)), look(), look())
    await settle(ledger)
    assert await ledger.unapplied("C1") == 50000 + 4 * 30000
    # A receipt that could not be looked at, a deadlock among others, would wait here for a minute.
    assert await ledger.rows("SELECT 1 FROM match_queue") == []


async def test_money_on_a_customer_s_own_account_is_theirs_whatever_else_the_bank_says(ledger: Any, make: Any) -> None:
    clabe = "646180 1111 2222 3333"
    await ledger.tell(
        customer(make, "C1", "Ferretería Ñandú", None, clabe, "646180-000000000009"),
        customer(make, "C2", "Abarrotes El Sol"),
        make.invoice("F-1", "50.00"),
        make.payment("P", "50.00", **payer(name="ABARROTES EL SOL", to_account="646180111122223333")),
    )
    await settle(ledger)

    assert (await ledger.open("F-1"), await ledger.unapplied("C2")) == (0, 0)
    (kept,) = await suggestions(ledger, "applied")
    assert kept.inputs["payer"] == {"by": "virtual_account", "seen": "646180111122223333"}


async def test_an_account_of_two_customers_names_nobody_and_one_given_up_no_more(ledger: Any, make: Any) -> None:
    await ledger.tell(
        customer(make, "C1", "Ferretería Ñandú", None, "111"),
        customer(make, "C2", "Abarrotes El Sol", None, "111"),
        make.payment("P", "50.00", **payer(to_account="111")),
    )
    await settle(ledger)
    assert await ledger.unapplied("-") == 5000

    # The account is the first customer's alone from now on.
    await ledger.tell(customer(make, "C2", "Abarrotes El Sol"))
    await settle(ledger)
    assert (await ledger.unapplied("-"), await ledger.unapplied("C1")) == (0, 5000)
