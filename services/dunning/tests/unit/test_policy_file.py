"""Policy files: presets are sound, and every fault is told in one pass with its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cobranza.dunning import gateways
from cobranza.dunning.domain.policy import Materiality, Policy
from cobranza.dunning.domain.policy_file import Table, check, filled, from_plain, is_preset, to_plain

WHOLE = """\
policy: mx-b2b
version: 7
company: acme-mx
currency: MXN
timezone: America/Mexico_City
calendar: mx-business
languages: [es-MX, en-US]
effective_from: 2027-01-01
priority: 10
min_gap_days: 3
catch_up: { mode: collapse, first_contact_max: aviso-2, stale_after_days: 5 }
materiality: { case: { amount: "200.00", percent: "1.5" } }
steps:
  - { id: aviso-1, offset: 3, kind: notice, channel: email, tone: friendly, template: aviso-1 }
  - { id: aviso-2, offset: 15, kind: notice, channel: email, tone: firm, template: aviso-2, roll: none, min_gap_days: 7 }
end: { after_days: 15, task: { kind: decide_end, role: credit_manager, due_business_days: 5 } }
"""


def faults_of(source: str) -> list[str]:
    document, faults = gateways.parse(source)
    checked = check(document)[1] if document.entries else ()
    return [fault.told("f") for fault in sorted((*faults, *checked))]


def typed(source: str) -> Policy:
    policy, faults = check(gateways.parse(source)[0])
    assert policy is not None, faults
    return policy


def test_a_whole_file_is_typed() -> None:
    policy = typed(WHOLE)

    assert (policy.policy, policy.version, policy.currency, policy.priority) == ("mx-b2b", 7, "MXN", 10)
    assert policy.languages == ("es-MX", "en-US")
    assert policy.case_materiality.amount == 200_00
    assert policy.catch_up.first_contact_max == 2
    assert [(step.roll, step.min_gap_days) for step in policy.steps] == [("following", 3), ("none", 7)]


@pytest.mark.parametrize("name", gateways.presets())
def test_shipped_presets_are_sound_and_leave_the_company_out(name: str) -> None:
    document, faults = gateways.parse(gateways.read_source(name))
    company = {"company": "acme-mx", "currency": "MXN", "timezone": "UTC", "calendar": "mx", "languages": ["es-MX"]}

    assert not faults
    assert is_preset(document)
    assert check(document)[1] == ()
    policy = check(filled(document, company))[0]
    assert policy is not None
    assert policy.company == "acme-mx"


def test_what_is_kept_as_json_is_the_same_policy() -> None:
    document = gateways.parse(WHOLE)[0]

    again = from_plain(to_plain(document))

    assert isinstance(again, Table)
    assert check(again)[0] == typed(WHOLE)


def test_all_faults_are_told_in_one_pass_in_line_order() -> None:
    source = (
        WHOLE.replace("version: 7", "version: three")
        .replace("currency: MXN", "currency: MXX")
        .replace("min_gap_days: 3", "min_gap_days: three")
        .replace("tone: friendly", "tone: freindly")
        .replace("offset: 15", "offset: 2")
        .replace("id: aviso-2", "id: aviso-1")
        .replace("channel: email, tone: firm", "chanel: email, tone: firm")
        .replace("  - { id: aviso-1, offset: 2", "  - { id: aviso-1, color: red, offset: 2")
    )

    told = faults_of(source)

    assert told == sorted(told, key=lambda line: tuple(map(int, line.split(":")[1:2])))
    assert [line.split(" ")[1] for line in told] == [
        "P104", "P104", "P104", "P104", "P104", "P201", "P102", "P202", "P102",
    ]  # fmt: skip
    assert told[0] == "f:2:10 P104 version: expected a whole number 1 to 1000000, got 'three'"
    assert told[2] == "f:10:15 P104 min_gap_days: expected a whole number 0 to 60, got 'three'"
    assert told[-1] == "f:15:57 P102 steps[aviso-1]: unknown key 'chanel'; did you mean 'channel'?"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("version: 7\n", "version: 7\nversion: 8\n"), "f:3:1 P101 version: key 'version' is written twice"),
        (("version: 7", "version: &v 7"), "f:2:10 P101 &v: anchors are not allowed"),
        (("version: 7", "version: !!int 7"), "f:2:10 P101 tag:yaml.org,2002:int: tags are not allowed"),
        (("effective_from: 2027-01-01\n", ""), "f:1:1 P103 effective_from: key 'effective_from' is missing"),
        (("company: acme-mx\n", ""), "f:1:1 P103 company: key 'company' is missing"),
        (
            ("2027-01-01", "2027-02-30"),
            "f:8:17 P104 effective_from: expected a date such as 2027-01-01, got '2027-02-30'",
        ),
        (("America/Mexico_City", "America/Mexiko"), "f:5:11 P104 timezone: expected a time zone such as"),
        (('"200.00"', '"200.005"'), "f:12:32 P105 materiality.case.amount: MXN has 2 decimals, got '200.005'"),
        (('"200.00"', '"1e3"'), "f:12:32 P105 materiality.case.amount: expected an amount such as 200.00, got '1e3'"),
        (("version: 7", "version: no"), "f:2:10 P104 version: expected a whole number 1 to 1000000, got 'no'"),
        (("first_contact_max: aviso-2", "first_contact_max: aviso-9"), "f:11:48 P104 catch_up.first_contact_max"),
        (
            ("offset: 15", "offset: 999"),
            "f:15:28 P104 steps[aviso-2].offset: expected a whole number -365 to 730, got '999'",
        ),
        (("offset: 15", "offset: 1"), "f:15:28 P202 steps[aviso-2].offset: 1 after 3; steps are written in date order"),
    ],
)
def test_a_fault_is_told_with_its_place_and_code(change: tuple[str, str], line: str) -> None:
    told = faults_of(WHOLE.replace(*change))

    assert len(told) == 1
    assert told[0].startswith(line)


def test_a_preset_may_not_leave_out_only_a_part() -> None:
    told = faults_of(WHOLE.replace("currency: MXN\n", "").replace('"200.00"', '"200.005"'))

    assert told == ["f:1:1 P103 currency: key 'currency' is missing"]


@pytest.mark.parametrize("source", ["", "[1", "- a", "a", "\t", "? [a]\n: 1", "a: *x", "{" * 100])
def test_what_is_no_policy_is_told_and_never_raises(source: str) -> None:
    assert faults_of(source)


@given(st.text(max_size=200))
def test_any_text_gives_a_report(source: str) -> None:
    assert faults_of(source)


@given(st.sampled_from(WHOLE.splitlines()), st.text(max_size=20))
def test_any_line_replaced_gives_a_report_or_a_policy(line: str, text: str) -> None:
    document, faults = gateways.parse(WHOLE.replace(line, text))

    policy, checked = check(document)

    assert faults or (policy is None) == bool(checked)


def test_the_language_is_the_nearest_the_policy_has() -> None:
    policy = typed(WHOLE)

    assert [policy.language_for(tag) for tag in ("en-US", "es-CL", "en", "fr", None)] == [
        "en-US", "es-MX", "en-US", "es-MX", "es-MX",
    ]  # fmt: skip
    assert Materiality() == Materiality(0)
