"""Policy versions: loaded as drafts, put into force, never changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final, cast

from cobranza.chassis import timers
from cobranza.chassis.calendars import country_calendar
from cobranza.chassis.database import Transaction
from cobranza.contracts import dunning, notifications, payments
from cobranza.contracts.reasons import Reason
from cobranza.dunning import gateways, repository
from cobranza.dunning.domain.document import (
    COMPANY_KEYS,
    Document,
    Fault,
    Scalar,
    Table,
    digest,
    filled,
    from_plain,
    is_preset,
    renamed,
    to_plain,
)
from cobranza.dunning.domain.errors import PolicyConflictError, PolicyRefusedError, UnknownPolicyError
from cobranza.dunning.domain.policy import Policy
from cobranza.dunning.domain.policy_file import Report, check
from cobranza.dunning.domain.policy_rules import NOTHING_KNOWN, Caps, Known, LoadedVersion, not_checked
from cobranza.dunning.use_cases.evaluation import Desk, timer_row

#: What a preset is tried with.
TRIAL: Final = {
    "company": "company",
    "currency": "MXN",
    "timezone": "America/Mexico_City",
    "calendar": "mx-business",
    "languages": ("es-MX", "en"),
}


def check_source(source: str, known: Known = NOTHING_KNOWN) -> tuple[Table, Report]:
    """The document of a policy file and everything that is wrong with it, in line order.

    Args:
        source: YAML, of which JSON is a part.
        known: what it is compared with.
    """
    document, faults = gateways.parse(source)
    known = _with_calendar(known, document)
    report = check(document, known) if document.entries else Report(None, (), not_checked(known))
    if faults:
        report = Report(None, tuple(sorted({*faults, *report.faults})), report.not_checked)
    return document, report


async def check_for(desk: Desk, tx: Transaction, source: str, *, company: str) -> Report:
    """Everything that is wrong with a policy file of a company; a preset is completed as when it is loaded.

    Raises:
        UnknownCompanyError: this deployment does not collect for it.
    """
    known = await known_to(desk, tx, company)
    document, faults = gateways.parse(source)
    if faults or not document.entries or not is_preset(document):
        return check_source(source, known)[1]
    reports = [check(each, _with_calendar(known, each)) for each in _completed(desk, document, company)]
    found = {fault for report in reports for fault in report.faults}
    return Report(reports[0].policy, tuple(sorted(found)), reports[0].not_checked)


def told_report(report: Report) -> dict[str, object]:
    """A report as programs read it."""
    return {
        "ok": not report.errors,
        "faults": [_told(fault) for fault in report.faults],
        "not_checked": list(report.not_checked),
    }


def for_trial(document: Table) -> Policy | None:
    """The policy ready to be tried; a preset stands for a company in Mexico, since it names none."""
    return check(filled(document, TRIAL) if is_preset(document) else document).policy


def for_company(desk: Desk, source: str, *, company: str) -> Policy:
    """The policy of a file, to be tried in a company; what it leaves out is filled in as loading does.

    Of a preset it is the one in the company's first currency. It may differ from the loaded version of its number.

    Raises:
        PolicyRefusedError: the file has faults, or is another company's.
    """
    document, report = check_source(source)
    if not report.errors:
        document = next(iter(_completed(desk, document, company)))
        report = check(document)
    if report.errors or report.policy is None:
        raise _refusal(report)
    if report.policy.company != company:
        raise PolicyRefusedError(f"the file is for {report.policy.company}, and it is tried in {company}")
    require_calendar(report.policy.calendar)
    return report.policy


async def load_policy(desk: Desk, tx: Transaction, document: Table, *, company: str | None) -> list[tuple[Policy, str]]:
    """Store a policy file as a draft, completed from the company where it leaves the company out.

    A preset is loaded once per currency of the company; beyond the first its id ends in the currency.

    Returns:
        Each version with `loaded`, or `known` when the same content was there.

    Raises:
        PolicyRefusedError: the file has faults, or is a preset and no company is given.
        PolicyConflictError: the version was loaded before with other content.
    """
    loaded: list[tuple[Policy, str]] = []
    for completed in _completed(desk, document, company):
        policy = check(completed).policy
        if policy is not None:
            desk.profile(policy.company)
            await repository.lock_policy(tx, company=policy.company, policy=policy.policy)
        known = await known_to(desk, tx, policy.company) if policy is not None else NOTHING_KNOWN
        report = check(completed, _with_calendar(known, completed))
        if report.errors or policy is None:
            raise _refusal(report)
        sha256 = digest(completed)
        if any((row.policy, row.version) == (policy.policy, policy.version) for row in known.versions or ()):
            loaded.append((policy, "known"))
            continue
        await repository.add_policy(
            tx,
            {
                "company": policy.company,
                "policy": policy.policy,
                "version": policy.version,
                "currency": policy.currency,
                "priority": policy.priority,
                "effective_from": policy.effective_from,
                "title": policy.title,
                "sha256": sha256,
                "document": json.dumps(to_plain(completed), ensure_ascii=False),
                "loaded_at": tx.now,
            },
        )
        loaded.append((policy, "loaded"))
    return loaded


async def known_to(desk: Desk, tx: Transaction, company: str) -> Known:
    """What a file of the company is compared with: the versions that are loaded, and what other services announced.

    Of what nobody has announced anything yet it is not known what there is.

    Raises:
        UnknownCompanyError: this deployment does not collect for it.
    """
    profile = desk.profile(company)
    announced = await repository.announced(tx, company)
    templates = [told for told in announced if isinstance(told, notifications.TemplateActivated)]
    contact_rules = [told for told in announced if isinstance(told, notifications.ContactRulesActivated)]
    charge_rules = [told for told in announced if isinstance(told, payments.ChargeRulesActivated)]
    caps = [told.most_fee_percent for told in charge_rules if told.most_fee_percent is not None]
    return Known(
        contact_rules=frozenset(told.rules for told in contact_rules) or None,
        interest_rules=frozenset(told.rules for told in charge_rules) or None,
        segments=frozenset(profile.segments) or None,
        templates=frozenset((told.template, told.channel, told.language, told.tone) for told in templates) or None,
        # What lacks required content is never put into use.
        lacking=MappingProxyType({}) if templates else None,
        versions=await _versions(tx, company),
        caps=Caps(
            most_fee_percent=min(caps, default=None),
            first_fee_day=max((told.first_fee_day or 1 for told in charge_rules), default=1),
            forbidden_channels=frozenset(channel for told in contact_rules for channel in told.forbidden_channels),
        )
        if charge_rules or contact_rules
        else None,
    )


def _with_calendar(known: Known, document: Table) -> Known:
    """What is known, with the document's own calendar when there is one: they are too many to be listed."""
    named = document.get("calendar")
    if not isinstance(named, Scalar):
        return known
    try:
        country_calendar(named.text[:2].upper())
    except NotImplementedError:
        return replace(known, calendars=frozenset())
    return replace(known, calendars=frozenset({named.text}))


async def _versions(tx: Transaction, company: str) -> list[LoadedVersion]:
    return [
        LoadedVersion(row.policy, row.version, row.currency, row.priority, row.sha256, is_active=row.state == "active")
        for row in await repository.policy_versions(tx, company=company)
    ]


def _refusal(report: Report) -> PolicyRefusedError | PolicyConflictError:
    first = report.errors[0]
    if all(fault.code == "P403" for fault in report.errors):
        return PolicyConflictError(first.text)
    return PolicyRefusedError(first.told("policy"), faults=[_told(fault) for fault in report.faults])


async def retire_policy(desk: Desk, tx: Transaction, *, company: str, policy: str) -> bool:
    """Take a policy out of force for new cases; cases pinned to it keep it. False when it was not in force.

    Raises:
        UnknownPolicyError: there is no such policy.
    """
    desk.profile(company)
    rows = await repository.lock_policy(tx, company=company, policy=policy)
    if not rows:
        raise UnknownPolicyError(f"no policy {policy!r} of {company}")
    if not any(row.state == "active" for row in rows):
        return False
    await repository.retire_policy(tx, company=company, policy=policy)
    return True


def _completed(desk: Desk, document: Table, company: str | None) -> Iterable[Table]:
    missing = [key for key in COMPANY_KEYS if document.get(key) is None]
    named = document.get("company")
    if company is not None and isinstance(named, Scalar) and named.text != company:
        raise PolicyRefusedError(f"the file is for {named.text!r}, and --company names {company!r}")
    if not missing:
        return (document,)
    if company is None:
        raise PolicyRefusedError(f"the file leaves out {', '.join(missing)}; name the company with --company")
    profile = desk.profile(company)
    identity = document.get("policy")
    policy = identity.text if isinstance(identity, Scalar) else ""
    values: dict[str, str | Sequence[str]] = {
        "company": company,
        "timezone": profile.zone.key,
        "calendar": profile.calendar or f"{profile.country.lower()}-business",
        "languages": profile.languages,
    }
    return [
        filled(
            document if place == 0 else renamed(document, f"{policy}-{currency.lower()}"),
            {**values, "currency": currency},
        )
        for place, currency in enumerate(profile.currencies)
    ]


async def activate_policy(
    desk: Desk, tx: Transaction, *, company: str, policy: str, version: int | None
) -> dunning.PolicyActivated | None:
    """Put a version into force for new cases; without a version the newest one.

    Accounts that had no policy are evaluated at once. None when it was in force already.

    Raises:
        UnknownPolicyError: there is no such version.
        PolicyRefusedError: what it names is no more, or its priority was taken meanwhile.
    """
    profile = desk.profile(company)
    rows = await repository.lock_policy(tx, company=company, policy=policy)
    chosen = [row for row in rows if version in (None, row.version)]
    if not chosen:
        named = "no" if version is None else f"no version {version} of"
        raise UnknownPolicyError(f"{named} policy {policy!r} of {company}")
    row = chosen[-1]
    if row.state == "active":
        return None
    document = cast("Table", from_plain(cast("Document", row.document)))
    # What is known may have changed since the file was loaded.
    report = check(document, _with_calendar(await known_to(desk, tx, company), document))
    typed = report.policy
    if typed is None:
        raise _refusal(report)
    await repository.activate_policy(tx, company=company, policy=policy, version=row.version)
    activated = dunning.PolicyActivated.model_validate(
        {
            "company": company,
            "policy": policy,
            "version": row.version,
            "sha256": row.sha256,
            "currency": row.currency,
            "priority": row.priority,
            "effective_from": row.effective_from,
            "steps": [
                {
                    "id": step.id,
                    "position": step.position,
                    "offset_days": step.offset,
                    "kind": step.kind,
                    "channel": step.channel,
                    "template": step.template,
                    "tone": step.tone,
                }
                for step in typed.steps
            ],
            "activated_on": desk.as_of(tx, profile),
        }
    )
    tx.publish(activated, sequence=1 + sum(r.activated_at is not None for r in rows))
    waiting = await repository.accounts_waiting(tx, company=company, reason=Reason.NO_POLICY, currency=row.currency)
    await timers.arm_many(
        tx,
        [timer_row(account_id, company, tx.now) for account_id in waiting],
    )
    return activated


def require_calendar(calendar: str) -> None:
    """Refuse a calendar that there is not.

    Raises:
        PolicyRefusedError: its country is not known.
    """
    try:
        country_calendar(calendar[:2].upper())
    except NotImplementedError as error:
        raise PolicyRefusedError(
            f"P301 calendar: no calendar {calendar!r}; it begins with a country such as mx"
        ) from error


def _told(fault: Fault) -> dict[str, object]:
    return {
        "line": fault.place_line,
        "column": fault.place_column,
        "code": fault.code,
        "key": fault.key,
        "text": fault.text,
    }
