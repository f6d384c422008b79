"""Whose money it is and what it pays: each rule by an example, and what must hold of all of them."""

import random
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cobranza.payments.domain import matching
from cobranza.payments.domain.matching import (
    Debt,
    Identity,
    Incoming,
    Party,
    Promise,
    Tolerance,
    checked_code,
    checked_reference,
    decide,
    identify,
    name_key,
    propose,
    rf_code,
    rf_reference,
    words_of,
)

TODAY = date(2027, 1, 25)
C1 = Identity(customer="C1", basis="told", seen="C1")
HALF_PERCENT = Tolerance(amount=2000, percent=Decimal("0.5"))
PARTIES = (
    Party("C1", "Ferretería Ñandú, S.A. de C.V.", "FNA010101AB1", frozenset({"012180001234567899"})),
    Party("C2", "Comercial del Norte SA", "CNO020202CD2"),
    Party("C3", "Abarrotes El Sol", "AES030303EF3"),
)


def debt(number: int, amount: int, **changes: Any) -> Debt:
    fields: dict[str, Any] = {"customer": "C1", "due_on": date(2027, 1, number)}
    return Debt(receivable_id=UUID(int=number), number=f"F-{number}", open=amount, **fields | changes)


def money(amount: int, **changes: Any) -> Incoming:
    return Incoming(amount=amount, value_on=TODAY, **changes)


def exactly(a: str, b: str) -> float:
    return 100.0 if a == b else 0.0


def who(**incoming: Any) -> tuple[str, str] | None:
    found = identify(money(1, **incoming), PARTIES, similarity=exactly)
    return None if found is None else (found.customer, found.basis)


def rules(proposals: list[matching.Proposal]) -> list[str]:
    return [proposal.rule for proposal in proposals]


def by_rule(proposals: list[matching.Proposal], rule: str) -> matching.Proposal:
    return next(proposal for proposal in proposals if proposal.rule == rule)


def applied(proposals: list[matching.Proposal], **changes: Any) -> str | None:
    fields: dict[str, Any] = {"threshold": Decimal("0.90"), "fifo_auto": False, "is_unresolved": False}
    verdict = decide(proposals, **fields | changes)
    return None if verdict.applied is None else verdict.applied.rule


# ---------------------------------------------------------------------- who paid


@pytest.mark.parametrize(
    ("incoming", "expected"),
    [
        ({"customer": "C9"}, ("C9", "told")),
        ({"references": (rf_reference("C2"),)}, ("C2", "reference")),
        ({"references": ("c-3",)}, ("C3", "reference")),
        ({"payer_account": "0121 8000 1234 5678 99"}, ("C1", "account")),
        ({"payer_tax_id": "cno-020202-cd2"}, ("C2", "tax_id")),
        ({"payer_name": "FERRETERIA NANDU SA DE CV"}, ("C1", "name")),
        ({"payer_name": "Somebody Else"}, None),
        ({}, None),
    ],
)
def test_the_payer_is_known_by_the_first_sign_that_names_one(incoming: Any, expected: Any) -> None:
    assert who(**incoming) == expected


def test_a_stronger_sign_wins_over_a_weaker_one() -> None:
    assert who(references=(rf_reference("C3"),), payer_tax_id="CNO020202CD2") == ("C3", "reference")
    assert who(payer_tax_id="AES030303EF3", payer_name="Comercial del Norte") == ("C3", "tax_id")


@pytest.mark.parametrize(
    ("code", "check", "reference"),
    [
        # The standards' own examples: a card number, an ISIN's digits, and 794 under MOD 97-10.
        ("7992739871", "luhn", "79927398713"),
        ("US037833100", "luhn", "US0378331005"),
        ("794", "mod97", "79444"),
        ("C-1042", "none", "C1042"),
    ],
)
def test_a_reference_ends_in_the_check_digits_of_the_standard(code: str, check: Any, reference: str) -> None:
    assert checked_reference(code, check) == reference
    assert checked_code(reference, check) == (None if check == "none" else code)


@given(
    code=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=20),
    check=st.sampled_from(["luhn", "mod97"]),
    place=st.integers(0, 30),
    other=st.integers(1, 9),
)
def test_one_wrong_digit_of_a_checked_reference_is_noticed(code: str, check: Any, place: int, other: int) -> None:
    reference = checked_reference(code, check)
    assert checked_code(reference.lower(), check) == code
    place %= len(reference)
    if reference[place].isdigit():
        wrong = str((int(reference[place]) + other) % 10)
        assert checked_code(reference[:place] + wrong + reference[place + 1 :], check) != code


def test_a_checked_reference_names_the_customer_only_where_the_company_checks() -> None:
    parties = (Party("1042", "Uno"),)
    reference = checked_reference("1042", "luhn")

    def who_of(check: Any, text: str = reference) -> Identity | None:
        return identify(money(1, references=(text,), check=check), parties, similarity=exactly)

    assert who_of("luhn") == Identity(customer="1042", basis="reference", seen="1042")
    assert who_of("none") is None
    assert who_of("luhn", "1042") is not None
    assert who_of("luhn", f"1042{(int(reference[-1]) + 1) % 10}") is None


def test_the_account_that_was_paid_to_is_looked_at_before_every_other_sign() -> None:
    parties = (Party("A", "Uno", "T1", virtual_accounts=frozenset({"6461"})), Party("B", "Dos", "T2"))

    def who_of(**incoming: Any) -> Identity | None:
        return identify(money(1, **incoming), parties, similarity=exactly)

    assert who_of(to_account="64-61", payer_tax_id="T2") == Identity(customer="A", basis="virtual_account", seen="6461")
    assert who_of(to_account="9999", payer_tax_id="T2") == Identity(customer="B", basis="tax_id", seen="T2")
    assert who_of(customer="B", to_account="6461") == Identity(customer="B", basis="told", seen="B")


def test_a_sign_that_names_two_customers_decides_nothing() -> None:
    twins = (Party("A", "Grupo Uno SA", "T1"), Party("B", "Grupo Uno S.A.", "T2"))
    assert identify(money(1, payer_name="Grupo Uno"), twins, similarity=exactly) is None


def test_a_similar_name_counts_from_92_and_only_when_it_is_long_enough() -> None:
    def alike(score: float, name: str) -> Identity | None:
        return identify(money(1, payer_name=name), PARTIES[2:], similarity=lambda _a, _b: score)

    found = alike(92.0, "Abarrotes Sol")
    assert found is not None
    assert found.basis == "similar_name"
    assert alike(91.9, "Abarrotes Sol") is None
    assert alike(100.0, "Sol") is None


@given(code=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=21), place=st.integers(0, 24))
def test_a_creditor_reference_is_verified_and_any_wrong_digit_is_noticed(code: str, place: int) -> None:
    reference = rf_reference(code)
    assert rf_code(reference.lower()) == code
    position = 2 + place % (len(reference) - 2)
    if reference[position].isdigit():
        wrong = str((int(reference[position]) + 1) % 10)
        assert rf_code(reference[:position] + wrong + reference[position + 1 :]) is None


def test_a_published_creditor_reference_is_read() -> None:
    assert rf_code("RF18 5390 0754 7034") == "539007547034"  # the example of ISO 11649
    assert rf_reference("539007547034") == "RF18539007547034"


@pytest.mark.parametrize("code", ["", "--", "A" * 22])
def test_a_code_that_no_creditor_reference_holds_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="1 to 21"):
        rf_reference(code)


def test_names_are_compared_without_their_legal_form() -> None:
    keys = {name_key(n) for n in ("Niño & Cía, S. de R.L. de C.V.", "NIÑO CIA", "nino  cia s de rl de cv")}
    assert keys == {"NINO CIA"}
    assert name_key("SA") == "SA"


def test_numbers_are_found_in_free_text() -> None:
    assert {"f-123", "a 77"} <= set(words_of(["PAGO FACT F-123, A 77"]))
    assert words_of(["gracias por todo"]) == []


# ---------------------------------------------------------------------- what is paid


def test_r1_a_reference_and_its_exact_amount() -> None:
    found = propose(money(100, named=(UUID(int=1),)), [debt(1, 100), debt(2, 50)], payer=C1, today=TODAY)
    assert (found[0].rule, found[0].shares) == (matching.R1, {UUID(int=1): 100})


def test_r2_a_reference_and_another_amount_pays_up_to_open() -> None:
    found = propose(money(130, named=(UUID(int=1),)), [debt(1, 100)], payer=C1, today=TODAY)
    assert by_rule(found, matching.R2).shares == {UUID(int=1): 100}


def test_r3_an_advice_whose_lines_sum_to_the_amount() -> None:
    incoming = money(90, named=(UUID(int=1), UUID(int=2)), advised=((UUID(int=1), 40), (UUID(int=2), 50)))
    found = propose(incoming, [debt(1, 100), debt(2, 50)], payer=C1, today=TODAY)
    assert by_rule(found, matching.R3).shares == {UUID(int=1): 40, UUID(int=2): 50}


def test_r4_a_number_in_the_text_needs_a_known_payer_and_may_be_another_customers() -> None:
    debts = [debt(1, 100, customer="C2"), debt(2, 70)]
    found = propose(money(100), debts, payer=C1, in_text={UUID(int=1)}, today=TODAY)
    assert (found[0].rule, found[0].shares) == (matching.R4, {UUID(int=1): 100})
    assert matching.R4 not in rules(propose(money(100), debts, payer=None, in_text={UUID(int=1)}, today=TODAY))


def test_r5_one_debt_of_exactly_that_amount() -> None:
    found = propose(money(100), [debt(1, 100), debt(2, 70)], payer=C1, today=TODAY)
    assert (found[0].rule, found[0].shares, applied(found)) == (matching.R5, {UUID(int=1): 100}, matching.R5)


def test_r5_is_silent_when_two_debts_fit() -> None:
    found = propose(money(100), [debt(1, 100), debt(2, 100)], payer=C1, today=TODAY)
    assert matching.R5 not in rules(found)
    assert applied(found) is None


def test_r5_takes_the_discount_that_is_still_earned() -> None:
    found = propose(money(98), [debt(1, 100, discount=2), debt(2, 70)], payer=C1, today=TODAY)
    proposal = by_rule(found, matching.R5)
    assert (proposal.shares, proposal.differences) == ({UUID(int=1): 98}, ((UUID(int=1), "discount", 2),))


def test_r5_takes_a_small_shortage_within_both_limits() -> None:
    one = propose(money(99_600), [debt(1, 100_000)], payer=C1, tolerance=HALF_PERCENT, today=TODAY)
    assert by_rule(one, matching.R5).differences == ((UUID(int=1), "small_balance", 400),)
    beyond_percent = propose(money(99_400), [debt(1, 100_000)], payer=C1, tolerance=HALF_PERCENT, today=TODAY)
    beyond_amount = propose(money(997_900), [debt(1, 1_000_000)], payer=C1, tolerance=HALF_PERCENT, today=TODAY)
    assert matching.R5 not in rules(beyond_percent)
    assert matching.R5 not in rules(beyond_amount)


def test_r6_clears_the_whole_account_or_all_that_is_past_due() -> None:
    debts = [debt(1, 10), debt(2, 20), debt(26, 40)]
    whole = by_rule(propose(money(70), debts, payer=C1, today=TODAY), matching.R6)
    past_due = by_rule(propose(money(30), debts, payer=C1, today=TODAY), matching.R6)
    assert (whole.inputs["clears"], past_due.inputs["clears"]) == ("balance", "past due")
    assert past_due.shares == {UUID(int=1): 10, UUID(int=2): 20}


def test_r7_the_one_set_of_debts_that_sums_is_only_suggested() -> None:
    found = propose(money(50), [debt(1, 10), debt(2, 20), debt(3, 40)], payer=C1, today=TODAY)
    assert by_rule(found, matching.R7).shares == {UUID(int=1): 10, UUID(int=3): 40}
    assert applied(found, threshold=Decimal(0)) is None


def test_r7_is_silent_when_two_sets_sum() -> None:
    found = propose(money(30), [debt(1, 10), debt(2, 20), debt(3, 15), debt(4, 15)], payer=C1, today=TODAY)
    assert matching.R7 not in rules(found)


def test_r8_a_promised_amount_in_its_days() -> None:
    promise = Promise(UUID(int=9), 55, date(2027, 1, 20), date(2027, 1, 25), (UUID(int=2), UUID(int=1)))
    debts = [debt(1, 40), debt(2, 30)]
    found = propose(money(55), debts, payer=C1, promises=[promise], today=TODAY)
    late = propose(money(55), debts, payer=C1, promises=[promise._replace(through_on=date(2027, 1, 24))], today=TODAY)
    assert (by_rule(found, matching.R8).shares, applied(found)) == ({UUID(int=1): 40, UUID(int=2): 15}, matching.R8)
    assert matching.R8 not in rules(late)


def test_r9_pays_the_oldest_debts_and_charges_last_only_where_the_company_wants_it() -> None:
    debts = [debt(1, 58_000_00), debt(2, 500_00, is_charge=True), debt(21, 30_000_00)]
    found = propose(money(70_000_00), debts, payer=C1, today=TODAY)
    assert by_rule(found, matching.R9).shares == {UUID(int=1): 58_000_00, UUID(int=21): 12_000_00}
    assert (applied(found), applied(found, fifo_auto=True)) == (None, "oldest-due@3")


def test_r10_an_amount_that_is_unique_in_the_company_is_only_suggested() -> None:
    debts = [debt(1, 100, customer="C1"), debt(2, 70, customer="C2")]
    found = propose(money(70), debts, payer=None, today=TODAY)
    assert (rules(found), found[0].customer, applied(found, threshold=Decimal(0))) == ([matching.R10], "C2", None)
    assert propose(money(70), [*debts, debt(3, 70)], payer=None, today=TODAY) == []


# ---------------------------------------------------------------------- what needs a person


def test_a_reference_that_is_not_known_yet_is_not_overruled_by_an_amount() -> None:
    found = propose(money(100), [debt(1, 100)], payer=C1, today=TODAY)
    assert applied(found, is_unresolved=True) is None
    named = propose(money(100), [debt(1, 100)], payer=C1, in_text={UUID(int=1)}, today=TODAY)
    assert applied(named, is_unresolved=True) == matching.R4


def test_a_higher_threshold_leaves_more_to_people_and_people_are_not_overruled() -> None:
    found = propose(money(100), [debt(1, 100)], payer=C1, today=TODAY)
    assert applied(found, threshold=Decimal("0.91")) is None
    assert applied(found, by_people=True) is None


def test_two_rules_of_equal_weight_that_differ_decide_nothing() -> None:
    debts = [debt(1, 10), debt(2, 20), debt(26, 30)]
    found = propose(money(30), debts, payer=C1, today=TODAY)
    assert {matching.R5, matching.R6} <= set(rules(found))
    assert applied(found) is None


# ---------------------------------------------------------------------- what must hold of all

DEBTS = st.lists(
    st.tuples(st.integers(1, 60), st.integers(1, 28), st.sampled_from(["C1", "C2"]), st.integers(0, 3)),
    max_size=8,
).map(
    lambda rows: [
        Debt(UUID(int=place), customer, f"F-{place}", amount, date(2027, 1, day), discount=min(discount, amount - 1))
        for place, (amount, day, customer, discount) in enumerate(rows, 1)
    ]
)
TOLERANCES = st.builds(
    Tolerance, amount=st.integers(0, 5), percent=st.decimals(min_value=0, max_value=20, places=1, allow_nan=False)
)


@given(
    debts=DEBTS,
    amount=st.integers(1, 200),
    tolerance=TOLERANCES,
    payer=st.sampled_from([C1, None]),
    named=st.sets(st.integers(1, 8)),
    in_text=st.sets(st.integers(1, 8)),
    seed=st.randoms(use_true_random=False),
)
def test_proposals_never_exceed_the_money_or_a_debt_and_the_order_of_debts_changes_nothing(
    debts: list[Debt],
    amount: int,
    tolerance: Tolerance,
    payer: Identity | None,
    named: set[int],
    in_text: set[int],
    seed: random.Random,
) -> None:
    def found(debts: list[Debt]) -> list[matching.Proposal]:
        return propose(
            money(amount, named=tuple(UUID(int=i) for i in named)),
            debts,
            payer=payer,
            in_text={UUID(int=i) for i in in_text},
            tolerance=tolerance,
            today=TODAY,
        )

    shuffled = list(debts)
    seed.shuffle(shuffled)
    proposals = found(debts)
    assert found(shuffled) == proposals
    open_of = {d.receivable_id: d.open for d in debts}
    for proposal in proposals:
        assert proposal.amount <= amount
        closed = {receivable: minor for receivable, _, minor in proposal.differences}
        for receivable, share in proposal.shares.items():
            assert 0 < share + closed.get(receivable, 0) <= open_of[receivable]
        assert closed.keys() <= proposal.shares.keys()
        assert all(minor > 0 for minor in closed.values())


@given(seed=st.randoms(use_true_random=False), name=st.sampled_from([p.name for p in PARTIES]))
def test_the_order_of_parties_changes_nothing(seed: random.Random, name: str) -> None:
    shuffled = list(PARTIES)
    seed.shuffle(shuffled)
    incoming = money(1, payer_name=name)
    assert identify(incoming, shuffled, similarity=exactly) == identify(incoming, PARTIES, similarity=exactly)


def test_twenty_debts_without_a_sum_are_searched_in_bounded_steps() -> None:
    asked = 0

    class Counted(int):
        def __radd__(self, other: int) -> int:
            nonlocal asked
            asked += 1
            return int(self) + other

    debts = [debt(n % 28 + 1, 0)._replace(receivable_id=UUID(int=n), open=Counted(2)) for n in range(1, 41)]
    assert matching.R7 not in rules(propose(money(7), debts, payer=C1, today=TODAY))
    # 21,679 sets of two to five out of twenty; nothing beyond the twenty oldest is looked at.
    assert asked < 110_000
    equal = [debt(n, 10) for n in range(1, 21)]
    assert matching.R7 not in rules(propose(money(50), equal, payer=C1, today=TODAY))
