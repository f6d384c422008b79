"""Money meets debts: what payments, credit notes, cancellations and reversals do to the ledger."""

from datetime import date
from typing import Any

import pytest

from cobranza.contracts import ingress, invoicing, payments
from cobranza.contracts.money import Money
from cobranza.contracts.payloads import External


async def reason_of(ledger: Any, external_id: str) -> Any:
    return await ledger.value("SELECT reason FROM receipt WHERE external_id = :id", id=external_id)


async def test_a_payment_settles_the_invoice_it_names(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "1000.00"), make.payment("P-1", "1000.00", "f-1 "))
    assert await ledger.open("F-1") == 0
    assert await ledger.unapplied("C1") == 0
    (received,) = await ledger.told(payments.PaymentReceived)
    (allocated,) = await ledger.told(payments.PaymentAllocated)
    changes = await ledger.told(payments.ReceivableChanged)
    assert (received.amount, received.booked_on) == (Money.of("1000.00", "MXN"), date(2027, 1, 12))
    assert (allocated.rule, allocated.confidence, allocated.effective_on) == ("reference@1", 1, date(2027, 1, 12))
    assert [(c.version, c.cause, str(c.open), c.effective_on, c.recorded_on) for c in changes] == [
        (1, "invoice-issued", "1000.00", date(2027, 1, 2), date(2027, 1, 4)),
        (2, "payment-received", "0.00", date(2027, 1, 12), date(2027, 1, 4)),
    ]
    assert await ledger.told(payments.CreditChanged) == []


async def test_an_overpayment_is_credit_and_open_is_never_negative(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("A", "58000.00"), make.payment("P", "60000.00", "A"), make.invoice("B", "10.00"))
    assert (await ledger.open("A"), await ledger.open("B")) == (0, 1000)
    (credit,) = await ledger.told(payments.CreditChanged)
    assert (str(credit.unapplied), credit.cause, credit.customer) == ("2000.00", "payment-received", "C1")
    assert await reason_of(ledger, "P") is None


async def test_instalments_are_paid_by_due_date(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F", "100.00", "100.00", "100.00"), make.payment("P", "150.00", "F"))
    rows = await ledger.rows("SELECT instalment, open FROM receivable ORDER BY instalment")
    assert [tuple(row) for row in rows] == [(1, 0), (2, 5000), (3, 10000)]


async def test_remittance_amounts_are_respected(ledger: Any, make: Any) -> None:
    await ledger.tell(
        make.invoice("F-1", "1000.00"),
        make.invoice("F-2", "1000.00"),
        make.payment("P", "900.00", remittance=[("F-2", "600.00"), ("F-1", "100.00")]),
    )
    assert (await ledger.open("F-1"), await ledger.open("F-2")) == (90000, 40000)
    assert await ledger.unapplied("C1") == 20000


async def test_a_payment_before_its_invoice_waits_and_is_applied_when_the_invoice_comes(ledger: Any, make: Any) -> None:
    await ledger.tell(make.payment("P", "700.00", "F-1", value_on=date(2027, 1, 1)))
    assert await ledger.unapplied("C1") == 70000
    assert await reason_of(ledger, "P") == "reference_unknown"
    await ledger.tell(make.invoice("F-1", "1000.00"))
    assert (await ledger.open("F-1"), await ledger.unapplied("C1")) == (30000, 0)
    assert await reason_of(ledger, "P") is None
    issued, paid = await ledger.told(payments.ReceivableChanged)
    assert [(c.version, str(c.open), c.cause) for c in (issued, paid)] == [
        (1, "1000.00", "invoice-issued"),
        (2, "300.00", "payment-allocated"),
    ]
    assert paid.effective_on == date(2027, 1, 2)  # not before the invoice was issued


async def test_several_payments_wait_for_one_invoice_and_are_told_one_by_one(ledger: Any, make: Any) -> None:
    await ledger.tell(
        make.payment("P-2", "400.00", "F-1", value_on=date(2027, 1, 9)),
        make.payment("P-1", "400.00", "F-1", value_on=date(2027, 1, 8)),
        make.payment("P-3", "400.00", "F-1", value_on=date(2027, 1, 10)),
        make.invoice("F-1", "1000.00"),
    )
    assert (await ledger.open("F-1"), await ledger.unapplied("C1")) == (0, 20000)
    changes = await ledger.told(payments.ReceivableChanged)
    assert [(c.version, str(c.open), c.effective_on.day) for c in changes] == [
        (1, "1000.00", 2), (2, "600.00", 9), (3, "200.00", 8), (4, "0.00", 10),
    ]  # fmt: skip


async def test_money_in_another_currency_stays_unapplied_with_a_reason(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "1000.00"), make.payment("P", "50.00", "F-1", currency="USD"))
    assert await ledger.open("F-1") == 100000
    assert await ledger.unapplied("C1", "USD") == 5000
    assert await reason_of(ledger, "P") == "currency_differs"


async def test_money_in_another_currency_that_came_first_stays_unapplied_too(ledger: Any, make: Any) -> None:
    await ledger.tell(make.payment("P", "50.00", "F-1", currency="USD"), make.invoice("F-1", "1000.00"))
    assert (await ledger.open("F-1"), await ledger.unapplied("C1", "USD")) == (100000, 5000)
    assert await reason_of(ledger, "P") == "currency_differs"


async def test_money_of_nobody_is_in_suspense(ledger: Any, make: Any) -> None:
    await ledger.tell(make.payment("P", "50.00", nobody=True))
    assert await ledger.unapplied("-") == 5000
    assert await reason_of(ledger, "P") == "payer_unknown"
    assert await ledger.value("SELECT amount FROM journal_line WHERE account = 'SUSPENSE'") == -5000
    (credit,) = await ledger.told(payments.CreditChanged)
    assert (credit.customer, credit.partition_key) == (None, "acme-mx|-")


async def test_money_of_nobody_that_names_an_invoice_belongs_to_its_customer(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "40.00"), make.payment("P", "50.00", "F-1", nobody=True))
    assert (await ledger.open("F-1"), await ledger.unapplied("C1"), await ledger.unapplied("-")) == (0, 1000, 0)


async def test_money_of_nobody_leaves_suspense_when_the_invoice_it_names_comes(ledger: Any, make: Any) -> None:
    await ledger.tell(make.payment("P", "50.00", "F-1", nobody=True), make.invoice("F-1", "40.00"))
    assert (await ledger.open("F-1"), await ledger.unapplied("C1"), await ledger.unapplied("-")) == (0, 1000, 0)
    await ledger.tell(make.reversal("P"))
    (reversed_,) = await ledger.told(payments.PaymentReversed)
    assert reversed_.partition_key == "acme-mx|-"  # a receipt keeps its key for life
    assert (await ledger.open("F-1"), await ledger.unapplied("C1")) == (4000, 0)


async def test_one_customer_may_pay_the_invoice_of_another(ledger: Any, make: Any) -> None:
    parent = make.of(customer="PARENT")
    await ledger.tell(make.invoice("F-1", "40.00"), parent.payment("P", "50.00", "F-1"))
    assert (await ledger.open("F-1"), await ledger.unapplied("PARENT"), await ledger.unapplied("C1")) == (0, 1000, 0)


async def test_a_number_that_two_customers_have_is_decided_by_the_payer(ledger: Any, make: Any) -> None:
    other = make.of(customer="C2")
    await ledger.tell(
        make.invoice("F-1", "40.00"),
        other.invoice("F-1b", "40.00", fiscal_id="F-1"),
        other.payment("P-1", "40.00", "F-1"),
        make.of(customer="C3").payment("P-2", "40.00", "F-1"),
    )
    assert (await ledger.open("F-1"), await ledger.open("F-1b")) == (4000, 0)
    assert await reason_of(ledger, "P-2") == "ambiguous_match"


async def test_the_same_external_id_may_be_an_invoice_a_payment_and_a_credit_note(ledger: Any, make: Any) -> None:
    await ledger.tell(
        make.invoice("X-1", "100.00"),
        make.payment("X-1", "30.00", "X-1"),
        make.credit_note("X-1", "90.00", ("X-1", "90.00")),
    )
    assert (await ledger.open("X-1"), await ledger.unapplied("C1")) == (0, 2000)
    rows = await ledger.rows("SELECT kind, amount FROM receipt ORDER BY kind")
    assert [tuple(row) for row in rows] == [("cash", 3000), ("credit", 2000)]


async def test_a_credit_note_credits_up_to_open_and_the_rest_is_credit(ledger: Any, make: Any) -> None:
    await ledger.tell(
        make.invoice("F-1", "100.00"),
        make.invoice("F-2", "100.00"),
        make.credit_note("N", "180.00", ("F-1", "150.00"), ("F-2", "20.00")),
    )
    assert (await ledger.open("F-1"), await ledger.open("F-2"), await ledger.unapplied("C1")) == (0, 8000, 6000)
    credited = await ledger.rows("SELECT credited FROM receivable ORDER BY number")
    assert [row.credited for row in credited] == [10000, 2000]


async def test_a_credit_note_before_its_invoice_is_applied_when_the_invoice_comes(ledger: Any, make: Any) -> None:
    await ledger.tell(make.credit_note("N", "30.00", ("F-1", "20.00")), make.invoice("F-1", "100.00"))
    assert (await ledger.open("F-1"), await ledger.unapplied("C1")) == (8000, 1000)


async def test_a_credit_note_in_another_currency_is_credit_of_its_own(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), make.credit_note("N", "30.00", ("F-1", "30.00"), currency="USD"))
    assert (await ledger.open("F-1"), await ledger.unapplied("C1", "USD")) == (10000, 3000)
    assert await reason_of(ledger, "N") == "currency_differs"


async def test_cancelling_a_part_paid_invoice_frees_the_money_and_credits_the_rest(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "60.00", "40.00"), make.payment("P", "70.00", "F-1"), make.cancel("F-1"))
    assert (await ledger.open("F-1"), await ledger.unapplied("C1")) == (0, 7000)
    rows = await ledger.rows("SELECT allocated, credited FROM receivable ORDER BY instalment")
    assert [tuple(row) for row in rows] == [(0, 6000), (0, 4000)]
    assert await reason_of(ledger, "P") == "cancelled"
    allocations = await ledger.told(payments.PaymentAllocated)
    assert sorted(str(a.amount) for a in allocations) == ["-10.00 MXN", "-60.00 MXN", "10.00 MXN", "60.00 MXN"]


async def test_money_that_names_a_cancelled_invoice_stays_unapplied(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "60.00"), make.cancel("F-1"), make.payment("P", "60.00", "F-1"))
    assert await ledger.unapplied("C1") == 6000
    assert await reason_of(ledger, "P") == "cancelled"


async def test_a_reversal_restores_exactly_what_the_payment_did(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "60.00", "40.00"), make.payment("P", "120.00", "F-1"))
    await ledger.tell(make.reversal("P", reason="cheque_bounced"))
    assert (await ledger.open("F-1"), await ledger.unapplied("C1")) == (10000, 0)
    (reversed_,) = await ledger.told(payments.PaymentReversed)
    assert (reversed_.reason, str(reversed_.amount), reversed_.effective_on) == (
        "cheque_bounced", "120.00 MXN", date(2027, 1, 22),
    )  # fmt: skip
    *_, last = await ledger.told(payments.ReceivableChanged)
    assert (last.cause, last.effective_on, last.version) == ("payment-reversed", date(2027, 1, 22), 3)
    assert await ledger.value("SELECT sum(amount) FROM journal_line WHERE account = 'CASH'") == 0


async def test_a_reversal_of_a_payment_not_yet_known_waits_for_it(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "60.00"), make.reversal("P"))
    assert await ledger.told(payments.PaymentReversed) == []
    await ledger.tell(make.payment("P", "60.00", "F-1"))
    assert (await ledger.open("F-1"), await ledger.unapplied("C1")) == (6000, 0)
    changes = await ledger.told(payments.ReceivableChanged)
    assert [(c.version, str(c.open)) for c in changes] == [(1, "60.00"), (2, "0.00"), (3, "60.00")]


async def test_a_second_reversal_has_no_effect_and_another_one_is_a_conflict(ledger: Any, make: Any) -> None:
    await ledger.tell(make.payment("P", "60.00"), make.reversal("P"), make.reversal("P"))
    assert await ledger.parked() == []
    await ledger.tell(make.reversal("P", on=date(2027, 2, 1)))
    assert await ledger.parked() == ["reversal_conflict"]
    assert len(await ledger.told(payments.PaymentReversed)) == 1


async def test_the_same_payment_again_has_no_effect_and_other_content_is_a_conflict(ledger: Any, make: Any) -> None:
    await ledger.tell(make.payment("P", "60.00"), make.payment("P", "60.00"), make.payment("P", "60.00", revision=2))
    assert await ledger.parked() == []
    await ledger.tell(make.payment("P", "61.00"))
    assert await ledger.parked() == ["payment_conflict"]
    assert await ledger.value("SELECT state FROM parked") == "conflict"
    assert await ledger.unapplied("C1") == 6000


async def test_a_payment_of_an_unknown_company_is_parked_and_the_rest_flows(ledger: Any, make: Any) -> None:
    stranger = make.of(company="nobody-mx")
    await ledger.tell_at_once(stranger.payment("P", "60.00"), make.payment("P", "60.00"))
    assert await ledger.parked() == ["company_unknown"]
    assert await ledger.unapplied("C1") == 6000


async def test_remittance_in_another_currency_than_the_payment_is_refused(ledger: Any, make: Any) -> None:
    await ledger.tell(make.payment("P", "60.00", remittance=[("F-1", Money.of("60.00", "USD"))]))
    assert await ledger.parked() == ["mixed_currencies"]
    assert await ledger.told(payments.PaymentReceived) == []


async def test_a_changed_due_date_is_told_and_moves_no_money(ledger: Any, make: Any) -> None:
    from cobranza.contracts.invoicing import InvoiceChanged

    await ledger.tell(make.invoice("F-1", "60.00"))
    await ledger.tell(make.invoice("F-1", "60.00", due_on=date(2027, 3, 1), kind=InvoiceChanged))
    first, second = await ledger.told(payments.ReceivableChanged)
    assert (first.due_on, second.due_on) == (date(2027, 1, 11), date(2027, 3, 1))
    assert (second.cause, second.version, second.effective_on) == ("invoice-changed", 2, date(2027, 1, 4))
    assert await ledger.value("SELECT count(*) FROM journal_entry") == 1


async def test_oldest_due_first_only_where_the_company_wants_it(ledger: Any, make: Any) -> None:
    fifo = make.of(company="fifo-mx")
    for who in (make, fifo):
        await ledger.tell(
            who.invoice("LATE", "30000.00", due_on=date(2027, 1, 21)),
            who.invoice("EARLY", "58000.00", due_on=date(2027, 1, 11)),
            who.payment("P", "70000.00"),
        )
    rows = await ledger.rows("SELECT company, number, open FROM receivable ORDER BY 1, 2")
    assert [tuple(row) for row in rows] == [
        ("acme-mx", "EARLY", 5800000),
        ("acme-mx", "LATE", 3000000),
        ("fifo-mx", "EARLY", 0),
        ("fifo-mx", "LATE", 1800000),
    ]
    assert {a.rule for a in await ledger.told(payments.PaymentAllocated)} == {"oldest-due@3"}


async def test_oldest_due_first_reaches_an_invoice_that_comes_after_the_money(ledger: Any, make: Any) -> None:
    fifo = make.of(company="fifo-mx")
    await ledger.tell(fifo.payment("P", "50.00"), fifo.invoice("F-1", "30.00"), fifo.invoice("F-2", "30.00"))
    assert (await ledger.open("F-1"), await ledger.open("F-2"), await ledger.unapplied("C1")) == (0, 1000, 0)


async def test_an_amount_capped_by_its_remittance_never_spreads_onto_the_same_debt(ledger: Any, make: Any) -> None:
    fifo = make.of(company="fifo-mx")
    await ledger.tell(
        fifo.invoice("F-1", "30.00"),
        fifo.invoice("F-2", "30.00"),
        fifo.payment("P", "50.00", remittance=[("F-1", "10.00")]),
    )
    assert (await ledger.open("F-1"), await ledger.open("F-2"), await ledger.unapplied("C1")) == (2000, 0, 1000)


async def test_a_watermark_moves_forward_only(ledger: Any) -> Any:
    from cobranza.contracts.ingress import CashWatermark

    def watermark(day: int) -> CashWatermark:
        return CashWatermark(company="acme-mx", system="bank", through_on=date(2027, 1, day))

    await ledger.tell(watermark(3), watermark(2), watermark(3), watermark(4))
    told = await ledger.told(payments.CashWatermark)
    assert [w.through_on.day for w in told] == [3, 4]


async def test_a_watermark_of_one_feed_tells_through_when_all_cash_is_known(ledger: Any) -> None:
    from cobranza.contracts.ingress import CashWatermark

    def watermark(feed: str | None, day: int) -> CashWatermark:
        return CashWatermark(company="acme-mx", system="bank", feed=feed, through_on=date(2027, 1, day))

    await ledger.tell(watermark("a", 3), watermark("b", 1), watermark("b", 2), watermark(None, 4), watermark("a", 5))
    told = await ledger.told(payments.CashWatermark)
    assert [w.all_through_on.day for w in told] == [3, 1, 2, 4, 4]


async def test_a_control_total_is_kept_once(ledger: Any) -> Any:
    from cobranza.contracts.ingress import ControlTotal

    def total(amount: str) -> ControlTotal:
        return ControlTotal(
            company="acme-mx", system="sap", currency="MXN", total_on=date(2027, 1, 4), open_count=1,
            open_total=Money.of(amount, "MXN"),
        )  # fmt: skip

    await ledger.tell(total("1.00"), total("1.00"))
    assert await ledger.parked() == []
    await ledger.tell(total("2.00"))
    assert await ledger.parked() == ["control_total_conflict"]


@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "one by one"])
async def test_a_batch_ends_as_its_events_one_by_one(ledger: Any, make: Any, at_once: Any) -> None:
    documents = [
        make.invoice("F-1", "60.00", "40.00"),
        make.of(customer="C2").invoice("F-2", "10.00"),
        make.credit_note("N-0", "5.00", ("F-9", "5.00")),
        make.invoice("F-9", "9.00"),
        make.credit_note("N-1", "70.00", ("F-1", "65.00")),
        make.cancel("F-9"),
    ]
    money = [
        make.payment("P-1", "30.00", "F-1", "F-2"),
        make.reversal("P-2"),
        make.payment("P-2", "3.00", "F-2"),
        make.payment("P-3", "50.00", "F-1"),
        make.reversal("P-1"),
        make.payment("P-4", "7.00", nobody=True),
    ]
    tell = ledger.tell_at_once if at_once else ledger.tell
    await tell(*documents)
    await tell(*money)
    assert await ledger.parked() == []
    assert [await ledger.open(n) for n in ("F-1", "F-2", "F-9")] == [3000, 1000, 0]
    # 70.00 - 65.00 credited; 5.00 freed by the cancellation; 50.00 - 5.00 paid: a reversal moves no other money.
    assert await ledger.unapplied("C1") == 500 + 500 + 4500
    told = await ledger.rows(
        "SELECT type, subject, sequence FROM outbox WHERE subject LIKE 'receivable/%' ORDER BY 2, 3"
    )
    assert len({tuple(row) for row in told}) == len(told)


# What a payment that names its invoice is short of


def iberia(make: Any, *amounts: str, discount: str | None = None) -> Any:
    given = (
        None if discount is None else invoicing.Discount(amount=Money.of(discount, "EUR"), until_on=date(2027, 1, 10))
    )
    return make.of(company="iberia-es").invoice("F-1", *amounts, currency="EUR", discount=given)


async def balance(ledger: Any) -> tuple[int, int, int]:
    """Open, credited and written off."""
    (row,) = await ledger.rows("SELECT open, credited, written_off FROM receivable")
    return row.open, row.credited, row.written_off


@pytest.mark.parametrize("invoice_first", [True, False])
@pytest.mark.parametrize(
    ("value_on", "expected"), [(date(2027, 1, 12), (0, 2000, 0)), (date(2027, 1, 13), (2000, 0, 0))]
)
async def test_a_discount_in_time_plus_grace_closes_the_invoice_that_the_payer_names(
    ledger: Any, make: Any, invoice_first: Any, value_on: date, expected: Any
) -> None:
    told = [
        iberia(make, "1000.00", discount="20.00"),
        make.of(company="iberia-es").payment("P", "980.00", "F-1", currency="EUR", value_on=value_on),
    ]
    await ledger.tell(*(told if invoice_first else reversed(told)))
    assert await balance(ledger) == expected
    await ledger.tell(make.of(company="iberia-es").reversal("P"))
    assert await balance(ledger) == (100000, 0, 0)


async def test_a_small_rest_of_a_named_invoice_is_written_off_with_its_reason(ledger: Any, make: Any) -> None:
    mine = make.of(company="iberia-es")
    await ledger.tell(iberia(make, "1000.00"), mine.payment("P", "999.20", "F-1", currency="EUR"))
    (told,) = await ledger.told(payments.WrittenOff)
    assert (await balance(ledger), told.reason, told.amount) == ((0, 0, 80), "small_balance", Money.of("0.80", "EUR"))
    await ledger.tell(mine.payment("Q", "0.80", "F-1", currency="EUR"))
    # A small rest is no debt that was given up: it is not recovered.
    assert (await balance(ledger), await ledger.unapplied("C1", "EUR")) == ((0, 0, 80), 80)


@pytest.mark.parametrize("amount", ["998.99", "500.00"])
async def test_a_rest_beyond_the_tolerance_stays_open(ledger: Any, make: Any, amount: str) -> None:
    mine = make.of(company="iberia-es")
    await ledger.tell(iberia(make, "1000.00"), mine.payment("P", amount, "F-1", currency="EUR"))
    assert await balance(ledger) == (100000 - int(amount.replace(".", "")), 0, 0)


async def test_a_rest_in_mexico_stays_as_its_fiscal_receipt_states_it(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "1000.00"), make.payment("P", "999.99", "F-1"))
    assert (await balance(ledger), await ledger.told(payments.WrittenOff)) == ((1, 0, 0), [])


async def test_a_payment_that_was_accepted_before_a_field_existed_is_still_the_same(ledger: Any, make: Any) -> None:
    told = ingress.PaymentReceived(
        company="acme-mx", external=External(system="bank", id="P"), payer=ingress.Payer(name="Uno", account="123"),
        amount=Money.of("50.00", "MXN"), value_on=date(2027, 1, 12),
    )  # fmt: skip
    await ledger.tell(told)

    # As it was kept when a payer had no account that was paid to.
    before = "1dc23174bac8b41499904464b24f1423870e8d174d9032e9149d48d1ae173e5e"
    assert bytes(await ledger.value("SELECT sha256 FROM receipt")).hex() == before
    other = told.model_copy(update={"payer": ingress.Payer(name="Uno", account="123", to_account="646")})
    await ledger.tell(told, other)
    assert await ledger.parked() == ["payment_conflict"]
