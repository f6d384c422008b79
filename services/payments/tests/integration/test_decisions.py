"""What people decide about debts and money: waivers, write-offs and their recovery, refunds, and a second person."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest

from cobranza.chassis import http, page
from cobranza.contracts import dunning, identifiers, payments
from cobranza.payments.api import router
from cobranza.payments.domain.errors import DecisionRefusedError, DecisionUnknownError
from cobranza.payments.use_cases import Decider, Matcher
from cobranza.payments.use_cases.decisions import Asked

MINE = {"company": "acme-mx"}
FEE = {"amount": {"amount": "250.00", "currency": "MXN"}}


class Desk:
    """People at the ledger: each action gets an id of its own unless it is stated."""

    def __init__(self, ledger: Any) -> None:
        self.ledger = ledger
        self.decider = Decider(ledger.context.companies)
        self.ids = itertools.count(1)

    async def ask(self, verb: Any, subject_id: UUID, amount: int | None = None, **changes: Any) -> Any:
        told = {
            "company": "acme-mx",
            "action_id": UUID(int=next(self.ids)),
            "reason": "goodwill",
            "note": "told by phone",
            "by": "ana",
            **changes,
        }
        async with self.ledger.database.transaction() as tx:
            return await self.decider.ask(tx, Asked(verb=verb, subject_id=subject_id, amount=amount, **told))

    async def answer(self, action_id: UUID, approve: Any = "approve", by: str = "bea") -> Any:
        async with self.ledger.database.transaction() as tx:
            return await self.decider.answer(
                tx, company="acme-mx", action_id=action_id, approve=approve, by=by, note="as agreed"
            )

    async def state(self, number: str) -> tuple[int, int, int]:
        """Open, credited and written off."""
        (row,) = await self.ledger.rows(
            "SELECT open, credited, written_off FROM receivable WHERE number = :n", n=number
        )
        return row.open, row.credited, row.written_off


@pytest.fixture
def desk(ledger: Any) -> Desk:
    return Desk(ledger)


async def charged(ledger: Any, make: Any, amount: str = "250.00") -> UUID:
    """A debt with a fee; returns the fee's receivable."""
    terms = {"amount": {"amount": amount, "currency": "MXN"}}
    await ledger.tell(make.invoice("A", "1000.00"), make.step("A", effect="fee", step="cargo", terms=terms))
    return UUID(str(await ledger.value("SELECT receivable_id FROM late_charge")))


def receipt_id(make: Any, id_: str) -> UUID:
    return identifiers.payment_id(make.company, "sap", id_)


# Waivers


async def test_a_charge_is_forgiven_exactly_and_once(ledger: Any, make: Any, desk: Desk) -> None:
    charge = await charged(ledger, make)
    first = await desk.ask("waive", charge, 100_00, action_id=UUID(int=50))
    again = await desk.ask("waive", charge, 100_00, action_id=UUID(int=50))
    assert (first.state, first.is_repeat, again.is_repeat) == ("done", False, True)
    assert await desk.state("A/gestion") == (150_00, 100_00, 0)
    await desk.ask("waive", charge)
    told = await ledger.told(payments.LateChargeWaived)
    assert [(t.waived.amount, t.reason, t.approved_by) for t in told] == [
        (Decimal("100.00"), "goodwill", None),
        (Decimal("250.00"), "goodwill", None),
    ]
    assert await desk.state("A/gestion") == (0, 250_00, 0)
    with pytest.raises(DecisionRefusedError, match=r"0.00 MXN are open"):
        await desk.ask("waive", charge)
    with pytest.raises(DecisionUnknownError):
        await desk.ask("waive", make.receivable_id("A"))
    lines = await ledger.rows("SELECT sum(amount) AS sum FROM journal_line WHERE account = 'ADJUSTMENT:waiver'")
    assert lines[0].sum == 250_00


async def test_a_large_waiver_waits_for_a_second_person(ledger: Any, make: Any, desk: Desk) -> None:
    charge = await charged(ledger, make, "900.00")
    asked = await desk.ask("waive", charge, action_id=UUID(int=50))
    assert (asked.state, await desk.state("A/gestion")) == ("waiting", (900_00, 0, 0))
    with pytest.raises(DecisionRefusedError, match="a second person"):
        await desk.answer(UUID(int=50), by="ana")
    assert (await desk.answer(UUID(int=50))).state == "done"
    assert (await desk.answer(UUID(int=50))).is_repeat
    assert await desk.state("A/gestion") == (0, 900_00, 0)
    (told,) = await ledger.told(payments.LateChargeWaived)
    assert told.approved_by == "bea"
    with pytest.raises(DecisionRefusedError, match="done already"):
        await desk.answer(UUID(int=50), "refuse")


async def test_a_refused_waiver_changes_nothing(ledger: Any, make: Any, desk: Desk) -> None:
    charge = await charged(ledger, make, "900.00")
    await desk.ask("waive", charge, action_id=UUID(int=50))
    assert (await desk.answer(UUID(int=50), "refuse")).state == "refused"
    assert await desk.state("A/gestion") == (900_00, 0, 0)


async def test_an_approval_finds_that_the_charge_was_paid_meanwhile(ledger: Any, make: Any, desk: Desk) -> None:
    charge = await charged(ledger, make, "900.00")
    await desk.ask("waive", charge, action_id=UUID(int=50))
    await ledger.tell(make.payment("P", "1500.00", "A"))
    with pytest.raises(DecisionRefusedError, match=r"900.00 MXN were asked for, 400.00 MXN are left"):
        await desk.answer(UUID(int=50))


async def test_interest_that_was_forgiven_is_not_posted_again(ledger: Any, make: Any, desk: Desk) -> None:
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "58000.00"), make.step("A", on=date(2027, 1, 21)))
    await desk.ask("waive", await ledger.value("SELECT receivable_id FROM late_charge"))
    await ledger.tell(make.step("A", on=date(2027, 2, 10), run=2))
    assert [(amount, open_) for _, _, amount, open_ in await ledger.charges()] == [(9667, 0), (19333, 19333)]


# Write-offs


async def test_a_debt_is_given_up_and_later_money_recovers_it(ledger: Any, make: Any, desk: Desk) -> None:
    await ledger.tell(make.invoice("A", "900.00"), make.payment("P1", "100.00", "A"))
    done = await desk.ask("write_off", make.receivable_id("A"), reason="uncollectable")
    assert (done.state, done.amount, await desk.state("A")) == ("done", 800_00, (0, 0, 800_00))
    await ledger.tell(make.payment("P2", "300.00", "A"))
    assert (await desk.state("A"), await ledger.unapplied("C1")) == ((0, 0, 500_00), 0)
    told = [(t.amount.amount, t.reason) for t in await ledger.told(payments.WrittenOff)]
    assert told == [(Decimal("800.00"), "uncollectable"), (Decimal("500.00"), "recovery")]
    await ledger.tell(make.reversal("P2"))
    assert await desk.state("A") == (0, 0, 800_00)
    await ledger.tell(make.payment("P3", "1000.00", "A"))
    assert (await desk.state("A"), await ledger.unapplied("C1")) == ((0, 0, 0), 200_00)


async def test_a_large_write_off_waits_and_its_approver_is_told(ledger: Any, make: Any, desk: Desk) -> None:
    await ledger.tell(make.invoice("A", "1000.01"))
    asked = await desk.ask("write_off", make.receivable_id("A"), reason="uncollectable", action_id=UUID(int=50))
    assert (asked.state, await ledger.open("A")) == ("waiting", 1000_01)
    await desk.answer(UUID(int=50))
    (told,) = await ledger.told(payments.WrittenOff)
    assert (told.approved_by, told.amount.amount, await ledger.open("A")) == ("bea", Decimal("1000.01"), 0)


async def test_a_small_rest_that_was_written_off_is_no_recovery(ledger: Any, make: Any, desk: Desk) -> None:
    await ledger.tell(make.invoice("A", "900.00"))
    await desk.ask("write_off", make.receivable_id("A"), 100_00)
    # Open is 800: money pays that first, and then what was given up.
    await ledger.tell(make.payment("P", "850.00", "A"))
    assert await desk.state("A") == (0, 0, 50_00)
    assert await ledger.value("SELECT given_up FROM receivable") == 50_00


async def test_a_debt_in_a_currency_without_a_limit_needs_two_persons(ledger: Any, make: Any, desk: Desk) -> None:
    await ledger.tell(make.invoice("A", "1.00", currency="USD"))
    assert (await desk.ask("write_off", make.receivable_id("A"))).state == "waiting"


async def test_interest_ends_where_a_debt_was_given_up(ledger: Any, make: Any, desk: Desk) -> None:
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "900.00"), make.step("A", on=date(2027, 2, 2)))
    before = await ledger.charges()
    await desk.ask("write_off", make.receivable_id("A"))
    await ledger.settle()
    assert [charge[:3] for charge in await ledger.charges()] == [charge[:3] for charge in before]


# Refunds


async def test_only_unapplied_money_is_refunded(ledger: Any, make: Any, desk: Desk) -> None:
    await ledger.tell(make.invoice("A", "100.00"), make.payment("P", "150.00", "A"))
    with pytest.raises(DecisionRefusedError, match=r"50.00 MXN are unapplied"):
        await desk.ask("refund", receipt_id(make, "P"), 50_01)
    await desk.ask("refund", receipt_id(make, "P"), 20_00, reason="overpaid")
    await desk.ask("refund", receipt_id(make, "P"), reason="overpaid")
    told = await ledger.told(payments.PaymentRefunded)
    assert [(t.refunded.amount, t.reason) for t in told] == [
        (Decimal("20.00"), "overpaid"),
        (Decimal("50.00"), "overpaid"),
    ]
    assert (await ledger.told(payments.CreditChanged))[-1].unapplied == 0
    assert await ledger.unapplied("C1") == 0
    # What was refunded does not come back with a reversal; the rest does, exactly.
    await ledger.tell(make.reversal("P"))
    assert (await ledger.open("A"), await ledger.unapplied("C1")) == (100_00, 0)


async def test_an_overpayment_stays_as_credit_until_somebody_decides(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("A", "58000.00"), make.payment("P", "60000.00", "A"))
    assert (await ledger.open("A"), await ledger.unapplied("C1")) == (0, 2000_00)


# By HTTP


@pytest.fixture
async def client(ledger: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = http.create_app(
        {"payments": router(ledger.context)},
        access=http.LocalAccess(),
        frame=page.Frame(companies=ledger.context.companies, clock=ledger.context.clock),
        cursor_secret=b"s" * 32,
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://localhost/payments"
    ) as client:
        yield client


async def test_a_program_sees_the_accrual_with_its_intervals_and_what_was_posted(
    ledger: Any, make: Any, client: httpx.AsyncClient
) -> None:
    await ledger.activate("mx")
    await ledger.tell(make.invoice("A", "58000.00"), make.step("A", on=date(2027, 1, 21)))
    await ledger.tell(make.payment("P", "28000.00", "A", value_on=date(2027, 1, 31)))
    address = f"/v1/receivables/{make.receivable_id('A')}/accrual"
    answer = (await client.get(address, params={**MINE, "on": "2027-02-10"})).json()
    assert {name: answer[name]["amount"] for name in ("accrued", "posted", "waived", "difference")} == {
        "accrued": "243.33", "posted": "96.67", "waived": "0.00", "difference": "146.66",
    }  # fmt: skip
    assert [(i["first_on"], i["days"], i["principal"]["amount"], i["interest"]) for i in answer["intervals"]] == [
        ("2027-01-12", 20, "58000.00", "193.333333"),
        ("2027-02-01", 10, "30000.00", "50.000000"),
    ]
    assert (answer["rule"], answer["day_count"], answer["intervals"][0]["percent"]) == (
        "mx-ccom-362@1", "ACT/360", "6",
    )  # fmt: skip
    every = (await client.get("/v1/customers/C1/accrual", params={**MINE, "on": "2027-02-10"})).json()
    assert (every["debts"], every["refused"]) == ([answer], [])
    early = (await client.get(address, params={**MINE, "on": "2027-01-11"})).json()
    assert (early["accrued"]["amount"], early["intervals"]) == ("0.00", [])
    late = await client.get(address, params={**MINE, "on": "9999-12-31"})
    assert (late.status_code, "at most a year after 2027-01-04" in late.text) == (422, True)


async def test_an_accrual_that_cannot_be_told_says_what_is_missing(
    ledger: Any, make: Any, client: httpx.AsyncClient
) -> None:
    await ledger.tell(make.invoice("A", "58000.00"))
    address = f"/v1/receivables/{make.receivable_id('A')}/accrual"
    refused = await client.get(address, params={**MINE, "on": "2027-02-10"})
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (422, "rules-required")
    await ledger.activate("co")
    rules = {**MINE, "on": "2027-02-10", "rules": "co-ccom-884"}
    refused = await client.get(address, params=rules)
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (422, "rate-required")
    every = (await client.get("/v1/customers/C1/accrual", params=rules)).json()
    assert [(one["number"], one["code"]) for one in every["refused"]] == [("A", "rate_required")]
    assert (await client.get(f"/v1/receivables/{UUID(int=1)}/accrual", params=MINE)).status_code == 404


async def test_a_program_waives_writes_off_and_refunds_and_reads_what_was_decided(
    ledger: Any, make: Any, client: httpx.AsyncClient
) -> None:
    charge = await charged(ledger, make)
    await ledger.tell(make.payment("P", "30.00"))

    async def post(path: str, action: int, **changes: Any) -> tuple[int, Any]:
        body = {"action_id": str(UUID(int=action)), "reason": "goodwill", "note": "by phone", **changes}
        answer = await client.post(path, params=MINE, json=body)
        return answer.status_code, answer.json()

    some = {"amount": {"amount": "50.00", "currency": "MXN"}}
    assert (await post(f"/v1/late-charges/{charge}/waive", 1, **some))[1]["state"] == "done"
    assert (await post(f"/v1/receivables/{make.receivable_id('A')}/write-off", 2))[1]["state"] == "done"
    assert (await post(f"/v1/receipts/{receipt_id(make, 'P')}/refund", 3))[1]["amount"]["amount"] == "30.00"
    assert (await post(f"/v1/late-charges/{charge}/waive", 1, **some))[1]["is_repeat"]
    status, problem = await post(f"/v1/late-charges/{charge}/waive", 2)
    assert (status, problem["errors"][0]["pointer"]) == (409, "/action_id")
    usd = {"amount": {"amount": "1.00", "currency": "USD"}}
    assert (await post(f"/v1/late-charges/{charge}/waive", 4, **usd))[0] == 409
    assert (await post(f"/v1/late-charges/{UUID(int=9)}/waive", 5))[0] == 404
    assert (await post(f"/v1/late-charges/{charge}/waive", 6, note=""))[0] == 422
    assert (await post(f"/v1/late-charges/{charge}/waive", 7, amount={"amount": "-1", "currency": "MXN"}))[0] == 422
    listed = (await client.get("/v1/decisions", params=MINE)).json()
    assert [(one["verb"], one["number"], one["asked_by"]) for one in listed] == [
        ("refund", "P", "local"), ("write_off", "A", "local"), ("waive", "A/gestion", "local"),
    ]  # fmt: skip
    (one,) = (await client.get("/v1/late-charges", params={**MINE, "customer": "C1"})).json()["items"]
    assert (one["kind"], one["amount"]["amount"], one["waived"]["amount"], one["open"]["amount"]) == (
        "fee", "250.00", "50.00", "200.00",
    )  # fmt: skip


async def test_who_asked_cannot_approve_by_http(ledger: Any, make: Any, client: httpx.AsyncClient) -> None:
    charge = await charged(ledger, make, "900.00")
    body = {"action_id": str(UUID(int=1)), "reason": "goodwill", "note": "by phone"}
    asked = await client.post(f"/v1/late-charges/{charge}/waive", params=MINE, json=body)
    assert asked.json()["state"] == "waiting"
    address = f"/v1/decisions/{UUID(int=1)}/approve"
    refused = await client.post(address, params=MINE, json={"note": "sure"})
    assert (refused.status_code, "second person" in refused.json()["detail"]) == (409, True)
    waiting = (await client.get("/v1/decisions", params={**MINE, "state": "waiting"})).json()
    assert [one["action_id"] for one in waiting] == [str(UUID(int=1))]


async def test_refused_charges_are_listed_with_their_reason(ledger: Any, make: Any, client: httpx.AsyncClient) -> None:
    await ledger.tell(make.invoice("A", "100.00"), make.step("A"))
    (one,) = (await client.get("/v1/charge-requests", params={**MINE, "unanswered": True})).json()
    assert (one["state"], one["lines"][0]["reason"]) == ("waits", "rules_required")


# "I have paid"


def claimed(make: Any, amount: str, **changes: Any) -> dunning.HoldPlaced:
    told = {"amount": {"amount": amount, "currency": "MXN"}, **changes}
    return dunning.HoldPlaced.model_validate(
        {
            "company": "acme-mx", "hold_id": UUID(int=7), "customer": make.customer, "scope": "customer",
            "reason": "payment_claim", "placed_on": "2027-01-20", "until_on": "2099-01-23", "by": "ana", "claim": told,
        }
    )  # fmt: skip


async def match(ledger: Any) -> None:
    matcher = Matcher(ledger.database, ledger.context.companies)
    while await matcher.run():
        pass


async def suggested(ledger: Any) -> list[tuple[str, str]]:
    rows = await ledger.rows("SELECT rule, state FROM suggestion WHERE state IN ('open', 'applied') ORDER BY rule")
    return [tuple(row) for row in rows]


async def test_a_claim_with_its_reference_finds_money_of_an_unknown_payer(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("A", "700.00"), make.invoice("B", "500.00"))
    await ledger.tell(make.payment("P", "1000.00", "SPEI 8846123", nobody=True, value_on=date(2027, 1, 19)))
    await match(ledger)
    await ledger.tell(claimed(make, "1000.00", reference="8846-123"))
    await match(ledger)
    assert await suggested(ledger) == [("r11-payment-claim@1", "applied")]
    assert (await ledger.open("A"), await ledger.open("B")) == (0, 200_00)


async def test_a_claim_by_amount_and_day_alone_is_only_suggested(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("A", "700.00"), make.payment("P", "650.00", nobody=True))
    await ledger.tell(claimed(make, "650.00", paid_on="2027-01-11"))
    await match(ledger)
    assert (await suggested(ledger), await ledger.open("A")) == ([("r12-claimed-amount@1", "open")], 700_00)


async def test_a_claim_finds_the_customers_own_money_that_no_rule_was_sure_of(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("A", "700.00"), make.payment("P", "650.00"))
    await match(ledger)
    assert await ledger.open("A") == 700_00
    await ledger.tell(claimed(make, "650.00", paid_on="2027-01-14"))
    await match(ledger)
    assert (await suggested(ledger), await ledger.open("A")) == ([("r11-payment-claim@1", "applied")], 50_00)


@pytest.mark.parametrize("changes", [{"amount": "649.99"}, {"paid_on": "2026-12-01"}, {"released": True}])
async def test_another_amount_another_month_or_an_ended_hold_finds_nothing(
    ledger: Any, make: Any, changes: dict[str, Any]
) -> None:
    released = changes.pop("released", False)
    told = claimed(make, changes.pop("amount", "650.00"), **changes)
    await ledger.tell(make.invoice("A", "700.00"), told)
    if released:
        state = told.model_dump(exclude={"by", "claim"})
        await ledger.tell(
            dunning.HoldReleased.model_validate(
                {**state, "release_reason": "expired", "by": "ana", "released_on": "2027-01-23"}
            )
        )
    await ledger.tell(make.payment("P", "650.00", nobody=True))
    await match(ledger)
    assert (await suggested(ledger), await ledger.open("A")) == ([], 700_00)
