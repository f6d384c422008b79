"""What a shipped policy asks for is there: the words of its notices, in every language of the markets."""

from __future__ import annotations

import pytest

from cobranza.dunning import gateways
from cobranza.dunning.domain.policy_rules import Known
from cobranza.dunning.use_cases.policies import check_source, for_trial
from cobranza.notifications.gateways.letters import Letters, language_of

LANGUAGES = ("es-MX", "es-CL", "es-CO", "es-ES", "en")


@pytest.mark.parametrize("name", gateways.presets())
def test_every_notice_of_a_shipped_policy_has_its_words_in_every_language(name: str) -> None:
    written = Letters().written()
    there = {(one.template, one.channel, one.language, one.tone) for one in written}
    policy = for_trial(check_source(gateways.read_source(name))[0])
    assert policy is not None

    missing = [
        (step.id, language)
        for step in policy.steps
        if step.kind == "notice"
        for language in LANGUAGES
        if (step.template, step.channel, language_of(language), step.tone) not in there
    ]

    assert missing == []
    # The checker says the same, asked about the languages of a company.
    languages = f"languages: [{', '.join(LANGUAGES)}]"
    company = f"company: acme-mx\ncurrency: MXN\ntimezone: America/Mexico_City\ncalendar: mx-business\n{languages}\n"
    source = company + gateways.read_source(name)
    _, report = check_source(source, Known(templates=frozenset(there), lacking={}))
    assert report.faults == ()
