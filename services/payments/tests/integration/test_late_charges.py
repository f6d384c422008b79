"""Late charges in the ledger: booked once as a difference, refused clearly, kept right whatever money does afterwards."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest

from cobranza.contracts import payments
from cobranza.contracts.reasons import Reason
from cobranza.payments.domain.errors import RulesRefusedError
from cobranza.payments.use_cases import RuleKeeper, check_interest
from cobranza.payments.use_cases.charge_rules import preset_document, read_rates

FEE = {"amount": {"amount": "250.00", "currency": "MXN"}, "per": "item", "settle": "waive_on_principal"}


async def requests(ledger: Any) -> list[Any]:
    return list(await ledger.rows("SELECT step, run, state, lines, try_at FROM charge_request ORDER BY asked_at"))


async def reasons(ledger: Any) -> list[str | None]:
    return [line["reason"] for request in await requests(ledger) for line in request.lines]


async def load(ledger: Any, text: str) -> int:
    async with ledger.database.transaction() as tx:
        told = read_rates(text.encode(), name="rates.csv")
        return await RuleKeeper(ledger.context.companies).load(tx, told, by="ana", file="rates.csv")


# Interest


async def test_a_step_posts_the_interest_accrued_and_a_payment_the_difference(ledger: Any, make: Any) -> None:
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "58000.00"))
    step = make.step("A", on=date(2027, 2, 2), charge_rules="mx-ccom-362")
    await ledger.tell(step, step)
    assert await ledger.charges() == [("interest", "A/interest", 21267, 21267)]
    (told,) = await ledger.told(payments.LateChargeAssessed)
    assert (told.amount.amount, told.rule, told.from_on, told.through_on, told.due_on) == (
        Decimal("212.67"), "mx-ccom-362@1", date(2027, 1, 12), date(2027, 2, 2), date(2027, 2, 2),
    )  # fmt: skip
    assert told.principal_receivable_id == make.receivable_id("A")
    changed = (await ledger.told(payments.ReceivableChanged))[-1]
    assert (changed.kind, changed.cause, changed.open, changed.receivable_id) == (
        "late_charge", "late-charge-assessed", Decimal("212.67"), told.receivable_id,
    )  # fmt: skip

    await ledger.tell(make.payment("P", "58000.00", "A", value_on=date(2027, 2, 10)))
    await ledger.settle()
    assert [amount for _, _, amount, _ in await ledger.charges()] == [21267, 7733]
    last = (await ledger.told(payments.LateChargeAssessed))[-1]
    assert (last.from_on, last.through_on) == (date(2027, 2, 3), date(2027, 2, 10))
    await ledger.settle()
    assert len(await ledger.charges()) == 2


async def test_the_second_step_posts_only_what_accrued_since_the_first(ledger: Any, make: Any) -> None:
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "58000.00"))
    await ledger.tell(make.step("A", on=date(2027, 1, 21)), make.step("A", on=date(2027, 2, 10), run=2))
    assert [amount for _, _, amount, _ in await ledger.charges()] == [9667, 29000 - 9667]


async def test_money_in_parts_is_charged_on_what_was_open_in_each_part(ledger: Any, make: Any) -> None:
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "58000.00"))
    await ledger.tell(make.payment("P", "28000.00", "A", value_on=date(2027, 1, 21)))
    await ledger.tell(make.step("A", on=date(2027, 2, 10)))
    # 10 days on 58,000 and 20 days on 30,000: 96.67 + 100.00.
    assert [amount for _, _, amount, _ in await ledger.charges()] == [19667]


async def test_money_known_late_withdraws_the_interest_that_was_too_much(ledger: Any, make: Any) -> None:
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "58000.00"), make.step("A", on=date(2027, 2, 2)))
    await ledger.tell(make.payment("P", "58000.00", "A", value_on=date(2027, 1, 21)))
    await ledger.settle()
    assert await ledger.charges() == [("interest", "A/interest", 21267, 9667)]
    (told,) = await ledger.told(payments.LateChargeWaived)
    assert (told.waived.amount, told.reason) == (Decimal("116.00"), "recomputed")


async def test_interest_that_was_paid_is_not_withdrawn(ledger: Any, make: Any) -> None:
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "58000.00"), make.step("A", on=date(2027, 2, 2)))
    await ledger.tell(make.payment("P", "58200.00", "A", value_on=date(2027, 1, 11)))
    await ledger.settle()
    # 12.67 of 212.67 were unpaid.
    assert await ledger.charges() == [("interest", "A/interest", 21267, 0)]
    assert [told.waived.amount for told in await ledger.told(payments.LateChargeWaived)] == [Decimal("12.67")]


async def test_a_returned_payment_was_never_money_and_interest_follows(ledger: Any, make: Any) -> None:
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "58000.00"), make.step("A", on=date(2027, 1, 21)))
    await ledger.tell(make.payment("P", "58000.00", "A", value_on=date(2027, 1, 21)), make.reversal("P"))
    await ledger.settle()
    await ledger.tell(make.step("A", on=date(2027, 2, 10), run=2))
    assert sum(amount for _, _, amount, _ in await ledger.charges()) == 29000


async def test_a_cancelled_invoice_owes_no_interest_and_gets_none_later(ledger: Any, make: Any) -> None:
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "58000.00"), make.step("A", on=date(2027, 2, 2)), make.cancel("A"))
    await ledger.settle()
    assert await ledger.charges() == [("interest", "A/interest", 21267, 0)]


async def test_a_charge_bears_no_interest_and_no_fee(ledger: Any, make: Any) -> None:
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "58000.00"), make.step("A", on=date(2027, 2, 2)))
    charge = await ledger.value("SELECT receivable_id FROM late_charge")
    step = make.step("A", on=date(2027, 3, 2), run=2)
    await ledger.tell(step.model_copy(update={"receivable_ids": (charge,)}))
    assert len(await ledger.charges()) == 1


async def test_a_missing_rate_is_refused_and_charged_once_it_is_published(ledger: Any, make: Any) -> None:
    await ledger.activate("co")
    await ledger.tell(make.invoice("A", "1000.00"), make.step("A", charge_rules="co-ccom-884"))
    (request,) = await requests(ledger)
    assert (request.state, request.lines[0]["reason"]) == ("waits", Reason.RATE_REQUIRED)
    assert "no rate for 2027-01-12" in request.lines[0]["detail"]
    await ledger.settle()
    assert await ledger.charges() == []

    await load(ledger, "series,from,to,percent,published\nco-ibc,2027-01-01,2027-03-31,16.88,illustrative\n")
    await ledger.settle()
    assert [kind for kind, *_ in await ledger.charges()] == ["interest"]
    assert [request.state for request in await requests(ledger)] == ["booked"]


async def test_rules_that_are_not_in_force_are_refused_with_what_to_do(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("A", "58000.00"), make.step("A", charge_rules="mx-ccom-362"))
    (request,) = await requests(ledger)
    assert (request.state, request.lines[0]["reason"]) == ("waits", Reason.RULES_REQUIRED)
    assert "cobranza payments rules activate" in request.lines[0]["detail"]
    await ledger.activate("mx")
    await ledger.settle()
    assert [amount for _, _, amount, _ in await ledger.charges()] == [21267]


async def test_a_debt_paid_meanwhile_is_not_charged_and_the_refusal_is_kept(ledger: Any, make: Any) -> None:
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "100.00"), make.payment("P", "100.00", "A"), make.step("A"))
    await ledger.tell(make.step("A", effect="fee", step="cargo", terms=FEE))
    assert await reasons(ledger) == [Reason.SETTLED, Reason.SETTLED]
    assert [request.state for request in await requests(ledger)] == ["refused", "refused"]


async def test_compensation_is_once_per_invoice_however_many_instalments_are_late(ledger: Any, make: Any) -> None:
    await ledger.activate("uk", company="thames-uk")
    make = make.of(company="thames-uk")
    await ledger.tell(make.invoice("A", "600.00", "600.00", currency="GBP"))
    ids = (make.receivable_id("A"), make.receivable_id("A", 2))
    for run in (1, 2):
        step = make.step("A", on=date(2027, 3, 1), run=run, currency="GBP", charge_rules="uk-late-payment-1998")
        await ledger.tell(step.model_copy(update={"receivable_ids": ids}))
    # 70 of a debt of 1,200; the base rate of 2027 is not published, so interest is refused and waits.
    assert await ledger.charges() == [("compensation", "A/compensation", 7000, 7000)]
    assert set(await reasons(ledger)) == {Reason.RATE_REQUIRED, None}


# Fees


async def test_a_fee_is_charged_once_and_waived_when_the_principal_is_paid(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("A", "58000.00"))
    step = make.step("A", effect="fee", step="cargo", terms=FEE)
    await ledger.tell(step, step)
    assert await ledger.charges() == [("fee", "A/gestion", 25000, 25000)]
    await ledger.tell(make.payment("P", "58000.00", "A", value_on=date(2027, 2, 5)))
    await ledger.settle()
    assert await ledger.charges() == [("fee", "A/gestion", 25000, 0)]
    (told,) = await ledger.told(payments.LateChargeWaived)
    assert (told.waived.amount, told.reason, told.kind) == (Decimal("250.00"), "principal_paid", "fee")


async def test_a_fee_that_is_enforced_stays_when_the_principal_is_paid(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("A", "58000.00"))
    await ledger.tell(make.step("A", effect="fee", step="cargo", terms={**FEE, "settle": "enforce"}))
    await ledger.tell(make.payment("P", "58000.00", "A"))
    await ledger.settle()
    assert await ledger.charges() == [("fee", "A/gestion", 25000, 25000)]


async def test_a_fee_on_the_case_is_one_for_all_its_debts_and_ends_with_the_last(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("A", "600.00"), make.invoice("B", "400.00"))
    terms = {"percent": "5", "per": "case", "settle": "waive_on_principal"}
    await ledger.tell(make.step("A", "B", effect="fee", step="cargo", terms=terms))
    assert await ledger.charges() == [("fee", "cargo/gestion", 5000, 5000)]
    (told,) = await ledger.told(payments.LateChargeAssessed)
    assert told.principal_receivable_id is None
    await ledger.tell(make.payment("P1", "600.00", "A"))
    await ledger.settle()
    assert (await ledger.charges())[0][3] == 5000
    await ledger.tell(make.payment("P2", "400.00", "B"))
    await ledger.settle()
    assert (await ledger.charges())[0][3] == 0


@pytest.mark.parametrize(("on", "expected"), [(date(2027, 1, 31), []), (date(2027, 2, 1), [900])])
async def test_the_law_caps_a_fee_and_says_from_which_day(
    ledger: Any, make: Any, on: date, expected: list[int]
) -> None:
    """Chile: 9 % to 10 UF, from day 21; less 0.2 UF as no useful notice went out in 15 days."""
    await ledger.activate("cl", company="andes-cl")
    make = make.of(company="andes-cl")
    await load(ledger, "series,from,to,percent,published\ncl-uf,2027-01-01,2027-12-31,1000,illustrative\n")
    clp = make.invoice("A", "10000", currency="CLP", due_on=date(2027, 1, 11))
    await ledger.tell(clp)
    terms = {"amount": {"amount": "900", "currency": "CLP"}}
    await ledger.tell(make.step("A", effect="fee", on=on, currency="CLP", step="cargo", terms=terms))
    found = [amount for _, _, amount, _ in await ledger.charges()]
    assert found == ([] if not expected else [700])
    refused = await ledger.told(payments.LateChargeRefused)
    if not expected:
        assert await reasons(ledger) == [Reason.CAP_REACHED]
    assert [(told.step, told.reason) for told in refused] == ([] if expected else [("cargo", Reason.CAP_REACHED)])


async def test_a_second_fee_does_not_pass_the_cap_of_the_first(ledger: Any, make: Any) -> None:
    await ledger.activate("cl", company="andes-cl")
    make = make.of(company="andes-cl")
    await load(ledger, "series,from,to,percent,published\ncl-uf,2027-01-01,2027-12-31,1000,illustrative\n")
    await ledger.tell(make.invoice("A", "10000", currency="CLP"))
    terms = {"amount": {"amount": "500", "currency": "CLP"}}
    for run in (1, 2, 3):
        on = date(2027, 2, 1 + run)
        await ledger.tell(make.step("A", effect="fee", on=on, run=run, currency="CLP", step="cargo", terms=terms))
    assert [amount for _, _, amount, _ in await ledger.charges()] == [500, 200]
    assert (await reasons(ledger))[-1] == Reason.CAP_REACHED


# Rules and rates


async def test_a_rate_is_loaded_once_and_never_overwritten(ledger: Any) -> None:
    head = "series,from,to,percent,published\n"
    one = head + "co-ibc,2027-01-01,2027-01-31,16.88,res 1\n"
    assert (await load(ledger, one), await load(ledger, one)) == (1, 0)
    with pytest.raises(RulesRefusedError, match=r"rates.csv, line 3: co-ibc from 2027-01-01 .* is 17, but 16.88 was"):
        await load(ledger, head + "co-ibc,2027-02-01,2027-02-28,17,res 2\nco-ibc,2027-01-01,2027-01-31,17,res 1\n")
    with pytest.raises(RulesRefusedError, match="never overwritten"):
        await load(ledger, head + "co-ibc,2027-01-15,2027-02-14,16.88,res 1\n")
    assert await ledger.value("SELECT count(*) FROM charge_rate") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("series;from;to\n", "line 1: expected the columns series,from,to,percent,published"),
        ("series,from,to,percent,published\nx,2027-01-01,2027-01-31,much,r\n", "line 2, percent: .*'much'"),
        ("series,from,to,percent,published\nx,01/02/2027,2027-01-31,1,r\n", "line 2, from: .*'01/02/2027'"),
        ("series,from,to,percent,published\nx,2027-02-01,2027-01-31,1,r\n", "line 2, .*expected 'to' on or after"),
        ("series,from,to,percent,published\nx,2027-02-01\n", "line 2: expected 5 columns"),
        ("series,from,to,percent,published\nX Y,2027-01-01,2027-01-31,1,r\n", "line 2, series: .*'X Y'"),
    ],
)
def test_a_faulty_file_of_rates_says_where_and_what(text: str, said: str) -> None:
    with pytest.raises(RulesRefusedError, match=said):
        read_rates(text.encode(), name="rates.csv")


async def test_rules_are_activated_once_and_told(ledger: Any) -> None:
    await ledger.activate("mx")
    await ledger.activate("mx")
    (told,) = await ledger.told(payments.ChargeRulesActivated)
    assert (told.rules, told.version, told.country, told.effective_from) == (
        "mx-ccom-362", 1, "MX", date(2020, 1, 1),
    )  # fmt: skip
    other = preset_document("mx").replace(b'percent: "6"', b'percent: "9"')
    with pytest.raises(RulesRefusedError, match="activated with other content"):
        async with ledger.database.transaction() as tx:
            await RuleKeeper(ledger.context.companies).activate(
                tx, other, company="acme-mx", effective_from=None, by="ana"
            )


# Whatever happens


def by_hand(moves: list[tuple[str, int, date, bool]], through_on: date) -> Fraction:
    """6 % by 360, day by day: what is open in the morning of a day bears interest for it."""
    total = Fraction(0)
    day = date(2027, 1, 12)
    while day <= through_on:
        paid = sum(minor for _, minor, value_on, is_back in moves if value_on < day and not is_back)
        total += Fraction(max(0, 58000_00 - paid) * 6, 36000)
        day += timedelta(days=1)
    return total


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_posted_is_what_accrued_however_money_came_and_went(ledger: Any, make: Any, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - a test that repeats
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "58000.00"))
    moves: list[tuple[str, int, date, bool]] = []
    told, last = date(2027, 1, 11), date(2027, 1, 11)
    for number in range(14):
        told += timedelta(days=random.randint(0, 6))
        what = random.choice(["pay", "pay", "back", "step", "step"])
        if what == "pay" and sum(minor for _, minor, _, is_back in moves if not is_back) < 40000_00:
            minor, value_on = random.randint(1, 9000_00), told - timedelta(days=random.randint(0, 9))
            moves.append((f"P-{number}", minor, value_on, False))
            await ledger.tell(make.payment(f"P-{number}", f"{minor // 100}.{minor % 100:02d}", "A", value_on=value_on))
        elif what == "back" and (live := [place for place, move in enumerate(moves) if not move[3]]):
            place = random.choice(live)
            moves[place] = (*moves[place][:3], True)
            await ledger.tell(make.reversal(moves[place][0], on=told))
        elif what == "step" and told > date(2027, 1, 11):
            last = told
            await ledger.tell(make.step("A", on=told, run=number + 1))
        await ledger.settle()
        (row,) = await ledger.rows(
            """
            SELECT coalesce(sum(l.amount), 0) - coalesce((SELECT sum(amount) FROM late_charge_credit), 0) AS posted,
                max(l.through_on) AS through_on FROM late_charge l
            """
        )
        if row.through_on is not None:
            # Never more than accrued through the last day charged; exactly that right after a step.
            accrued = by_hand(moves, row.through_on)
            assert int(row.posted) <= accrued + Fraction(1, 2)
            if last == told and what == "step":
                assert abs(int(row.posted) - by_hand(moves, told)) <= Fraction(1, 2)
    async with ledger.database.transaction() as tx:
        assert await check_interest(tx) == {"late_interest_accrued": 0}
