from cobranza.contracts.reasons import FINAL_PERMIT_REFUSALS, TRANSIENT_PERMIT_REFUSALS, Reason

# The codes that the design's decision record names; others may be added.
DECISION_RECORD = """
    in_grace min_gap rolled below_item below_case covered_by_credit part_covered cash_stale
    control_mismatch promised planned disputed on_hold when_false requires_missing term_running
    approval_pending catch_up stale contact_limit reopened_grace goodwill run_open before_start
    handed_over holdout no_policy settled end_reached
"""


def test_every_reason_of_the_decision_record_has_a_code() -> None:
    assert set(DECISION_RECORD.split()) <= set(Reason)


def test_a_permit_refusal_is_final_or_transient_and_never_both() -> None:
    assert not FINAL_PERMIT_REFUSALS & TRANSIENT_PERMIT_REFUSALS
    assert {"settled", "on_hold", "covered_by_credit"} == FINAL_PERMIT_REFUSALS
    assert {
        "cash_stale",
        "control_mismatch",
        "holds_stale",
        "input_parked",
        "payment_in_flight",
        "ledger_stopped",
    } < TRANSIENT_PERMIT_REFUSALS
