"""What the ERP states against what the ledger has: equal to the cent, by customer, or it is said who differs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cobranza.payments.domain.control_totals import Difference, Figures, Stated, compare, standing

CUSTOMERS = st.dictionaries(st.sampled_from("ABCDE"), st.integers(1, 9), max_size=5)


def stated(
    customers: dict[str, int], *, total: int | None = None, count: int | None = None, whole: bool = True
) -> Stated:
    figures = Figures(
        count=len(customers) if count is None else count, total=sum(customers.values()) if total is None else total
    )
    return Stated(figures=figures, customers=customers, is_complete=whole)


def found(customers: dict[str, int]) -> dict[str, Figures]:
    return {customer: Figures(count=1, total=total) for customer, total in customers.items()}


@given(CUSTOMERS, CUSTOMERS)
def test_it_matches_exactly_when_nobody_differs(erp: dict[str, int], ledger: dict[str, int]) -> None:
    comparison = compare(stated(erp), found(ledger))

    assert (comparison.verdict == "matched") == (erp == ledger)
    assert {d.customer: (d.stated, d.found) for d in comparison.differences} == {
        customer: (erp.get(customer, 0), ledger.get(customer, 0))
        for customer in erp.keys() | ledger.keys()
        if erp.get(customer) != ledger.get(customer)
    }
    assert sum(d.stated - d.found for d in comparison.differences) == sum(erp.values()) - sum(ledger.values())


@given(CUSTOMERS, CUSTOMERS)
def test_the_customers_that_differ_most_come_first(erp: dict[str, int], ledger: dict[str, int]) -> None:
    sizes = [abs(d.stated - d.found) for d in compare(stated(erp), found(ledger)).differences]

    assert sizes == sorted(sizes, reverse=True)


def test_totals_that_agree_while_customers_do_not_are_a_mismatch() -> None:
    comparison = compare(stated({"A": 5, "B": 5}), found({"A": 4, "B": 6}))

    assert comparison.verdict == "mismatch"
    assert comparison.differences == (
        Difference(customer="A", stated=5, found=4),
        Difference(customer="B", stated=5, found=6),
    )


def test_another_number_of_instalments_is_a_mismatch_though_the_sums_agree() -> None:
    assert compare(stated({"A": 5}, count=2), found({"A": 5})).verdict == "mismatch"


def test_a_list_that_is_not_the_whole_total_accuses_nobody_it_does_not_name() -> None:
    assert compare(stated({"A": 5}, total=8, count=2), found({"A": 5, "B": 3})).verdict == "matched"


def test_part_of_a_run_accuses_nobody_it_does_not_name() -> None:
    partly = compare(stated({"A": 5}, count=2, whole=False), found({"A": 5, "B": 3}))

    assert (partly.verdict, partly.differences) == ("mismatch", ())


def test_the_worst_of_the_systems_counts() -> None:
    assert standing([]) is None
    assert standing(["matched", "matched"]) == "matched"
    assert standing(["matched", "missing"]) == "missing"
    assert standing(["missing", "mismatch", "matched"]) == "mismatch"
