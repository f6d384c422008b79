"""Decisions as sentences: no code is shown to a reader, and no sentence contradicts another of its day."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from cobranza.contracts.reasons import FINAL_PERMIT_REFUSALS, TRANSIENT_PERMIT_REFUSALS, Reason
from cobranza.dunning.domain.explanation import Explained, Style, explain_all

DAY = date(2027, 4, 1)
#: What notifications may answer beside the permit's refusals.
OF_SENDING = {
    Reason.EXPIRED, Reason.FACTS_CHANGED, Reason.NO_ADDRESS, Reason.OPTED_OUT, Reason.CHANNEL_UNAVAILABLE,
    Reason.TEMPLATE_MISSING, Reason.RENDER_FAILED, Reason.PROVIDER_REFUSED, Reason.BOUNCED, Reason.OUTCOME_UNKNOWN,
}  # fmt: skip


def _style(language: Any) -> Style:
    return Style(language=language, day=date.isoformat, money=str)


def _decision(*, contact: Any = None, runs: Any = ()) -> Explained:
    return Explained(
        as_of=DAY,
        outcome="wait" if contact is None else "act",
        contact=contact,
        reasons=(),
        reasoning={"items": ()},
        next_check_on=date(2027, 4, 7),
        times=1,
        runs=runs,
    )


@pytest.mark.parametrize("language", ["es", "en"])
@pytest.mark.parametrize("reason", sorted(FINAL_PERMIT_REFUSALS | TRANSIENT_PERMIT_REFUSALS | OF_SENDING))
def test_every_reason_a_notice_may_not_leave_for_is_a_sentence(reason: Reason, language: str) -> None:
    run = {
        "step": "aviso-1", "run": 1, "state": "failed", "answered_on": "2027-04-01", "expires_on": "2027-04-06",
        "reason": reason.value,
    }  # fmt: skip

    told = explain_all([_decision(runs=[run])], _style(language), receivable_ids=frozenset(), since=None)

    code = reason.value.replace("_", " ")
    assert not [sentence for sentence in told if sentence.endswith(f": {code}.")]


def test_a_day_with_a_contact_does_not_also_say_that_nobody_was_contacted() -> None:
    contact = {"step": "aviso-1", "channel": "email", "tone": "friendly", "lines": [{"receivable_id": "r"}]}

    told = explain_all([_decision(contact=contact), _decision()], _style("en"), receivable_ids=frozenset(), since=None)

    assert told[0].startswith("2027-04-01: notice aviso-1 was requested")
    assert "Nobody was contacted on 2027-04-01." not in told
