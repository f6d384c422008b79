"""Policy files: presets are sound, and every fault is told in one pass with its place."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cobranza.dunning import gateways
from cobranza.dunning.domain.condition import AllOf, AnyOf, Compared, OneOf
from cobranza.dunning.domain.document import Table, digest, filled, from_plain, is_preset, to_plain
from cobranza.dunning.domain.policy import Policy
from cobranza.dunning.domain.policy_file import check
from cobranza.dunning.domain.policy_rules import Caps, Known, LoadedVersion
from cobranza.dunning.use_cases.policies import check_source

#: The worked example of the language, every kind of step in it.
EXAMPLE = (Path(__file__).parents[1] / "data" / "mx-b2b.yaml").read_text(encoding="utf-8")

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
contact_rules: [b2b-default]
min_gap_days: 3
catch_up: { mode: collapse, first_contact_max: aviso-2, stale_after_days: 5 }
materiality: { case: { amount: "200.00", percent: "1.5" } }
steps:
  - { id: aviso-1, offset: 3, kind: notice, channel: email, tone: friendly, template: aviso-1 }
  - { id: aviso-2, offset: 15, kind: notice, channel: email, tone: firm, template: aviso-2, roll: none, min_gap_days: 7 }
end: { after_days: 15, task: { kind: decide_end, role: credit_manager, due_business_days: 5 } }
"""


def faults_of(source: str, known: Known | None = None) -> list[str]:
    _, report = check_source(source) if known is None else check_source(source, known)
    return [fault.told("f") for fault in report.faults]


def typed(source: str) -> Policy:
    _, report = check_source(source)
    assert report.policy is not None, report.faults
    return report.policy


def test_a_whole_file_is_typed() -> None:
    policy = typed(WHOLE)

    assert (policy.policy, policy.version, policy.currency, policy.priority) == ("mx-b2b", 7, "MXN", 10)
    assert policy.languages == ("es-MX", "en-US")
    assert policy.materiality.case.amount == 200_00
    assert policy.catch_up.first_contact_max == "aviso-2"
    assert [(step.roll, step.min_gap_days) for step in policy.steps] == [(None, None), ("none", 7)]
    assert [step.position for step in policy.steps] == [1, 2]


@pytest.mark.parametrize("name", gateways.presets())
def test_shipped_presets_are_sound_and_leave_the_company_out(name: str) -> None:
    document, faults = gateways.parse(gateways.read_source(name))
    company = {"company": "acme-mx", "currency": "MXN", "timezone": "UTC", "calendar": "mx", "languages": ["es-MX"]}

    assert not faults
    assert is_preset(document)
    assert check(document).faults == ()
    policy = check(filled(document, company)).policy
    assert policy is not None
    assert policy.company == "acme-mx"


def test_what_is_kept_as_json_is_the_same_policy() -> None:
    document = gateways.parse(WHOLE)[0]

    again = from_plain(to_plain(document))

    assert isinstance(again, Table)
    assert check(again).policy == typed(WHOLE)


def test_all_faults_are_told_in_one_pass_in_line_order() -> None:
    lines = EXAMPLE.splitlines()
    changed = {
        2: "version: 8",
        12: "min_gap_days: three",
        20: 'fees: { gestion: { amount: "250.005", per: item, settle: waive_on_principal } }',
        27: "  - { id: aviso-2, offset: 15, kind: notice, chanel: email, tone: firm, template: aviso-2 }",
        31: "  - { id: despacho, offset: 90, kind: effect, effect: agency, requires: { issued: requerimento, term_days: 10 } }",
        32: "  - { id: suspension, offset: 40, kind: effect, effect: suspend_service }",
    }
    source = "\n".join([*(changed.get(n, line) for n, line in enumerate(lines[:32], start=1)), lines[-1]]) + "\n"

    assert [told.removeprefix("f:") for told in faults_of(source)] == [
        "12:15 P104 min_gap_days: expected a whole number 0 to 60, got 'three'",
        "20:28 P105 fees.gestion.amount: MXN has 2 decimals, got '250.005'",
        "27:46 P102 steps[aviso-2]: unknown key 'chanel'; did you mean 'channel'?",
        "31:47 P206 steps[despacho].effect: 'agency' needs 'approval'",
        "31:83 P203 steps[despacho].requires.issued: no step 'requerimento'; did you mean 'requerimiento'?",
        "32:5 P204 steps[suspension]: 'suspend_service' needs 'requires' with 'issued' and 'term_days'",
        "32:23 P202 steps[suspension].offset: 40 after 90; steps are written in date order",
        "32:49 P206 steps[suspension].effect: 'suspend_service' needs 'approval'",
    ]


def test_the_worked_example_is_typed_as_it_is_written() -> None:
    policy = typed(EXAMPLE)

    assert (policy.title, policy.grace_days, policy.roll, policy.release) == ("", 0, "following", "automatic")
    assert policy.goodwill is not None
    assert (policy.goodwill.percent, policy.goodwill.days) == (Decimal(30), 5)
    assert policy.promises.self_service is not None
    assert (policy.promises.tolerance, policy.promises.self_service.max_amount) == (1_00, 50_000_00)
    assert dict(policy.disputes.sla_business_days) == {"default": 10, "not_received": 3}
    assert (policy.limits.contacts, policy.limits.window_days, policy.cash.control_total) == (12, 90, "effects")
    assert (policy.fees["gestion"].amount, policy.fees["gestion"].settle) == (250_00, "waive_on_principal")
    assert policy.applies_to == AllOf(
        (OneOf("segment", ("standard", "key-account")), OneOf("protected_party", ("business",)))
    )
    steps = {step.id: step for step in policy.steps}
    assert steps["preventivo"].when == Compared("item_amount", "ge", 5_000_00)
    assert steps["llamada-1"].when == AnyOf(
        (Compared("case_amount", "ge", 10_000_00), OneOf("segment", ("key-account",)))
    )
    assert (steps["aviso-1"].also, steps["aviso-1"].fallback) == (("whatsapp",), ("sms",))
    demand = steps["requerimiento"]
    assert demand.requires is not None
    assert demand.approval is not None
    assert (demand.requires.issued, demand.requires.term_days, demand.requires_delivery) == ("aviso-2", 7, True)
    assert (demand.approval.role, demand.approval.from_amount, demand.approval.on_expiry) == (
        "supervisor", 100_000_00, "task",
    )  # fmt: skip
    final = steps["aviso-final"].repeat
    assert final is not None
    assert (final.every_days, final.max) == (10, 2)
    handed = steps["despacho"]
    assert handed.materiality is not None
    assert (handed.materiality.case.amount, handed.materiality.case.percent) == (5_000_00, Decimal(5))
    assert handed.requires is not None
    assert handed.requires.evidence == ("statement", "delivery_proof")


def test_yaml_and_json_are_the_same_policy() -> None:
    as_json = json.dumps(yaml.load(EXAMPLE, Loader=yaml.BaseLoader), indent="\t")  # noqa: S506 - text alone

    document, report = check_source(as_json)

    assert report.policy == typed(EXAMPLE)
    assert digest(document) == digest(check_source(EXAMPLE)[0])


AVISO_1 = "  - { id: aviso-1, offset: 3, kind: notice, channel: email, tone: friendly, template: aviso-1 }\n"
EFFECT = "  - {{ id: x, offset: 20, kind: effect, effect: {}, requires: {{ issued: aviso-2, term_days: 1 }}{} }}\n"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("version: 7\n", "version: 7\nversion: 8\n"), "3:1 P101 version: key 'version' is written twice"),
        (("version: 7", "version: &v 7"), "2:10 P101 &v: anchors are not allowed"),
        (("version: 7", "version: !!int 7"), "2:10 P101 tag:yaml.org,2002:int: tags are not allowed"),
        (("effective_from: 2027-01-01\n", ""), "1:1 P103 effective_from: key 'effective_from' is missing"),
        (("contact_rules: [b2b-default]\n", ""), "1:1 P103 contact_rules: key 'contact_rules' is missing"),
        (("company: acme-mx\n", ""), "1:1 P103 company: key 'company' is missing"),
        (("2027-01-01", "2027-02-30"), "8:17 P104 effective_from: expected a date such as 2027-01-01, got '2027-02-30'"),
        (("America/Mexico_City", "America/Mexiko"), "5:11 P104 timezone: expected a time zone such as"),
        (('"200.00"', '"200.005"'), "13:32 P105 materiality.case.amount: MXN has 2 decimals, got '200.005'"),
        (('"200.00"', '"1e3"'), "13:32 P105 materiality.case.amount: expected an amount such as 200.00, got '1e3'"),
        (('"200.00"', '"-1.00"'), "13:32 P105 materiality.case.amount: expected zero or more, got '-1.00'"),
        (("version: 7", "version: no"), "2:10 P104 version: expected a whole number 1 to 1000000, got 'no'"),
        (("first_contact_max: aviso-2", "first_contact_max: aviso-9"),
         "12:48 P203 catch_up.first_contact_max: no step 'aviso-9'; did you mean 'aviso-2'?"),
        (("offset: 15", "offset: 999"),
         "16:28 P104 steps[aviso-2].offset: expected a whole number -365 to 730, got '999'"),
        (("offset: 15", "offset: 1"), "16:20 P202 steps[aviso-2].offset: 1 after 3; steps are written in date order"),
        (("id: aviso-1, offset", "id: aviso-2, offset"),
         "16:11 P201 steps[aviso-2].id: this id is already taken by an earlier step"),
        (("tone: firm", "tone: frim"), "16:68 P104 steps[aviso-2].tone: expected friendly or neutral or firm"),
        (("tone: firm", "tone: firm, effect: fee"), "16:74 P102 steps[aviso-2]: unknown key 'effect'"),
        (("tone: firm", "tone: firm, requires: { issued: aviso-2 }"),
         "16:94 P205 steps[aviso-2].requires.issued: a step cannot require itself"),
        (("tone: friendly", "tone: friendly, requires: { issued: aviso-2 }"),
         "15:97 P205 steps[aviso-1].requires.issued: a step cannot require the later step 'aviso-2'"),
        (("tone: firm", "tone: firm, repeat: { every_days: 5 }"),
         "16:82 P207 steps[aviso-2].repeat: a repeat without 'max' never ends"),
        (("tone: friendly", "tone: friendly, repeat: { every_days: 5, max: 2 }"),
         "15:77 P207 steps[aviso-1].repeat: only the last notice repeats, and 'aviso-2' comes after it"),
        (("roll: none", "roll: preceding"), "16:93 P208 steps[aviso-2].roll: 'preceding' is for steps before the due date"),
        (("tone: firm", "tone: firm, when: { segmnt: x }"), "16:82 P102 steps[aviso-2].when: unknown key 'segmnt'; did you"),
        (("tone: firm", "tone: firm, when: { item_amount: { around: 1 } }"),
         "16:97 P102 steps[aviso-2].when.item_amount: unknown key 'around'"),
        (("tone: firm", "tone: firm, when: { not: { not: { not: { segment: x } } } }"),
         "16:101 P104 steps[aviso-2].when.not.not.not: nested deeper than 3 levels"),
        (("tone: firm", "tone: firm, when: { items: { ge: 3, le: 2 } }"),
         "16:5 P401 steps[aviso-2]: this step can never be reached: its 'when' contradicts itself"),
        (("priority: 10", "priority: 10\napplies_to: { item_amount: { ge: 1 } }"),
         "10:15 P104 applies_to.item_amount: a policy is chosen by the customer alone"),
        (("offset: 15", "offset: 5"), "16:20 W601 steps[aviso-2].offset: 2 days after 'aviso-1', and the least gap is 7"),
        (("tone: firm", "tone: friendly"), None),
        (("tone: friendly", "tone: legal"), "16:62 W602 steps[aviso-2].tone: firm after legal of 'aviso-1'"),
        (("end:", EFFECT.format("credit_hold", "") + "end:"), None),
        (("end:", EFFECT.format("legal", "") + "end:"), "17:40 P206 steps[x].effect: 'legal' needs 'approval'"),
        (("end:", EFFECT.format("fee", "") + "end:"), "17:5 P103 steps[x]: key 'fee' is missing"),
        (("end:", EFFECT.format("write_off", ", approval: { role: credit_manager }") + "end:"), None),
        (("end:", EFFECT.format("write_off", ", approval: { role: credit_manager }")
          + EFFECT.format("credit_hold", "").replace("id: x", "id: y") + "end:"),
         "17:40 P204 steps[x].effect: 'write_off' needs the end of the ladder, and 'y' comes after it"),
        (("end:", EFFECT.format("fee", ", fee: gestion") + "end:"), "17:103 P301 steps[x].fee: no fee 'gestion' under 'fees'"),
        (("min_gap_days: 3", "min_gap_days: 3\ninterest: { rule: mx, charge_at: x }"),
         "12:34 P203 interest.charge_at: no step 'x'"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place_and_code(change: tuple[str, str], line: str | None) -> None:
    told = [fault.removeprefix("f:") for fault in faults_of(WHOLE.replace(*change, 1))]

    assert len(told) == (line is not None)
    assert line is None or told[0].startswith(line)


def test_a_step_is_named_of_the_right_kind() -> None:
    source = EXAMPLE.replace("first_contact_max: aviso-2", "first_contact_max: cargo").replace(
        "charge_at: requerimiento", "charge_at: llamada-1"
    )

    assert [told.partition(" ")[2] for told in faults_of(source)] == [
        "P209 catch_up.first_contact_max: expected a notice or a call, and 'cargo' is a step of kind effect",
        "P209 interest.charge_at: expected a notice, and 'llamada-1' is a step of kind call",
    ]


def test_without_a_control_total_every_effect_needs_an_approval() -> None:
    [told] = faults_of(EXAMPLE.replace("min_gap_days: 3", "min_gap_days: 3\ncash: { control_total: off }"))

    assert "P206 steps[cargo].effect: 'fee' needs 'approval', because 'cash.control_total' is off" in told


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("when: { segment: [standard], case", "when: { segment: [other], case"), "its 'when' contradicts 'applies_to'"),
        (("term_days: 15 }", "term_days: 15, delivered: true }"), None),
        (("issued: requerimiento, term_days: 15", "issued: llamada-1, delivered: true, term_days: 1"),
         "'llamada-1' is no notice and cannot be delivered"),
        (("offset: 0, kind: notice", "offset: 0, requires: { issued: preventivo, term_days: 7 }, kind: notice"),
         "the term after 'preventivo' ends after the due date"),
    ],
)  # fmt: skip
def test_a_step_that_can_never_be_reached_is_told(change: tuple[str, str], why: str | None) -> None:
    told = faults_of(EXAMPLE.replace(*change))

    # What requires such a step cannot be reached either; that is told too.
    assert [fault.partition("reached: ")[2] for fault in told][:1] == ([] if why is None else [why])


def test_what_is_known_elsewhere_is_compared_and_what_is_not_is_named() -> None:
    templates = frozenset(
        (step.template, channel, language, step.tone)
        for step in typed(EXAMPLE).steps
        if step.template is not None and step.channel is not None and step.tone is not None
        for channel in (step.channel, *step.also, *step.fallback)
        for language in ("es-MX", "en-US")
    )
    known = Known(
        contact_rules=frozenset({"b2b-default"}),
        interest_rules=frozenset({"mx-ccom-362"}),
        roles=frozenset({"collector", "supervisor", "credit_manager"}),
        segments=frozenset({"standard", "key-account"}),
        scripts=frozenset({"seguimiento"}),
        templates=templates,
        lacking={},
        versions=(),
        issued_steps=frozenset({"aviso-1"}),
        caps=Caps(),
    )

    def told(known: Known) -> list[str]:
        return [fault.partition(" ")[2] for fault in faults_of(EXAMPLE, known)]

    assert check_source(EXAMPLE)[1].not_checked == (
        "P301 contact rule", "P301 interest rule", "P301 segment", "P301 script",
        "P302", "P303", "P402", "P403", "P404", "P501",
    )  # fmt: skip
    assert check_source(EXAMPLE, known)[1].not_checked == ()
    assert told(known) == []
    assert told(replace(known, contact_rules=frozenset({"b2b-defaults"}))) == [
        "P301 contact_rules: no contact rule 'b2b-default'; did you mean 'b2b-defaults'?"
    ]
    assert told(replace(known, segments=frozenset({"standard"}))) == [
        "P301 applies_to.segment: no segment 'key-account'",
        "P301 steps[llamada-1].when.any.segment: no segment 'key-account'",
    ]
    assert told(replace(known, roles=frozenset({"collector", "supervisor"})))[-1] == (
        "P301 end.task.role: no role 'credit_manager'"
    )
    assert told(replace(known, templates=templates - {("aviso-1", "sms", "en-US", "friendly")})) == [
        "P302 steps[aviso-1].template: no template 'aviso-1' for sms in en-US, tone friendly"
    ]
    assert told(replace(known, lacking={("aviso-1", "email", "es-MX"): ("how to pay",)})) == [
        "P303 steps[aviso-1].template: template 'aviso-1' for email in es-MX lacks how to pay"
    ]
    other = LoadedVersion("other", 1, "MXN", 10, "", is_active=True)
    assert told(replace(known, versions=(other,))) == ["P402 priority: 10 is taken by the active policy 'other' in MXN"]
    own = LoadedVersion("mx-b2b", 5, "MXN", 10, "", is_active=True)
    assert told(replace(known, versions=(own,))) == ["P403 version: expected 6 after 5, got 7"]
    assert told(replace(known, versions=(replace(own, version=7),))) == [
        "P403 version: version 7 is loaded with other content; give it the next number"
    ]
    assert told(replace(known, issued_steps=frozenset({"old"}), mapping={"old": "aviso-1"})) == []
    assert told(replace(known, issued_steps=frozenset({"old"}))) == [
        "P404 steps: open cases were taken to 'old', and the migration says no step of this version for it"
    ]
    # Spanish of Mexico serves any Spanish; English does not.
    spanish = EXAMPLE.replace("languages: [es-MX, en-US]", "languages: [es-CL]")
    no_english = frozenset(entry for entry in templates if entry[2] == "es-MX")
    assert [fault.partition(" ")[2] for fault in faults_of(spanish, replace(known, templates=no_english))] == []
    assert "P302 steps[aviso-1].template: no template 'aviso-1' for sms in en-US, tone friendly" in told(
        replace(known, templates=no_english)
    )
    caps = Caps(most_fee_percent=Decimal(9), first_fee_day=40, forbidden_channels=frozenset({"whatsapp"}))
    percent = EXAMPLE.replace('gestion: { amount: "250.00"', 'gestion: { percent: "9.5"')
    assert [fault.partition(" ")[2] for fault in faults_of(percent, replace(known, caps=caps))] == [
        "P501 fees.gestion.percent: the law allows 9 % of the debt, got 9.5",
        "P501 steps[aviso-1].also: a contact rule forbids 'whatsapp'",
        "P501 steps[cargo].offset: a fee is allowed from day 40 past due",
    ]


def test_what_is_the_same_everywhere_is_compared_without_a_platform() -> None:
    assert faults_of(EXAMPLE.replace("calendar: mx-business", "calendar: zz-business")) == [
        "f:6:11 P301 calendar: no calendar 'zz-business'; it begins with a country such as mx"
    ]
    assert faults_of(EXAMPLE.replace("role: supervisor", "role: supervisr")) == [
        "f:30:25 P301 steps[requerimiento].approval.role: no role 'supervisr'; did you mean 'supervisor'?"
    ]


def test_a_preset_may_not_leave_out_only_a_part() -> None:
    told = faults_of(WHOLE.replace("currency: MXN\n", "").replace('"200.00"', '"200.005"'))

    assert told == ["f:1:1 P103 currency: key 'currency' is missing"]


@pytest.mark.parametrize("source", ["", "[1", "- a", "a", "\t", "? [a]\n: 1", "a: *x", "{" * 100])
def test_what_is_no_policy_is_told_and_never_raises(source: str) -> None:
    assert faults_of(source)


@given(st.text(max_size=200))
def test_any_text_gives_a_report(source: str) -> None:
    assert faults_of(source)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_report(source: bytes) -> None:
    assert faults_of(source.decode("utf-8", "replace"))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(EXAMPLE.splitlines()), st.text(max_size=30), st.integers(0, 60))
def test_any_line_spoilt_gives_a_report_or_a_policy(line: str, text: str, place: int) -> None:
    _, report = check_source(EXAMPLE.replace(line, line[:place] + text + line[place:]))

    assert (report.policy is None) == bool(report.errors)
    assert list(report.faults) == sorted(report.faults)


_plain = st.recursive(
    st.text(max_size=6) | st.sampled_from(["1", "-1", "true", "email", "aviso-1", "2027-01-01", "1.00"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["any", "not", "segment", "ge", "id", "issued", "amount", "max", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(yaml.safe_load(EXAMPLE))), _plain)
def test_any_value_under_any_key_gives_a_report_or_a_policy(key: str, value: object) -> None:
    document = {**yaml.load(EXAMPLE, Loader=yaml.BaseLoader), key: value}  # noqa: S506 - text alone

    _, report = check_source(json.dumps(document))

    assert (report.policy is None) == bool(report.errors)


@pytest.mark.parametrize("source", ["[" * 5000, "{a: " * 5000, "a: " * 5000, "x: *a", "&a [*a]", "- " * 5000 + "a"])
def test_what_is_nested_too_deep_is_told(source: str) -> None:
    assert faults_of(source)[0].startswith("f:1:")


def test_a_file_too_large_is_told() -> None:
    assert faults_of("a: 1\n" * 100_000) == ["f:1:1 P101 -: larger than 65536 bytes"]


def test_the_language_is_the_nearest_the_policy_has() -> None:
    policy = typed(WHOLE)

    assert [policy.language_for(tag) for tag in ("en-US", "es-CL", "en", "fr", None)] == [
        "en-US", "es-MX", "en-US", "es-MX", "es-MX",
    ]  # fmt: skip
