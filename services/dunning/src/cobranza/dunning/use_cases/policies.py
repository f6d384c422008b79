"""Policy versions: loaded as drafts, put into force, never changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import cast

from cobranza.chassis import timers
from cobranza.chassis.calendars import country_calendar
from cobranza.chassis.database import Transaction
from cobranza.contracts import dunning
from cobranza.contracts.reasons import Reason
from cobranza.dunning import repository
from cobranza.dunning.domain.errors import PolicyConflictError, PolicyRefusedError, UnknownPolicyError
from cobranza.dunning.domain.policy import Policy
from cobranza.dunning.domain.policy_file import (
    COMPANY_KEYS,
    Document,
    Fault,
    Scalar,
    Table,
    check,
    filled,
    from_plain,
    renamed,
    to_plain,
)
from cobranza.dunning.use_cases.evaluation import Desk, timer_row


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
        policy, faults = check(completed)
        if policy is None:
            raise PolicyRefusedError(faults[0].told("policy"), faults=[_told(fault) for fault in faults])
        _require_calendar(policy.calendar)
        desk.profile(policy.company)
        plain = json.dumps(to_plain(completed), sort_keys=True, ensure_ascii=False)
        sha256 = hashlib.sha256(plain.encode()).hexdigest()
        known = {
            row.version: row for row in await repository.lock_policy(tx, company=policy.company, policy=policy.policy)
        }
        if policy.version in known:
            if known[policy.version].sha256 != sha256:
                raise PolicyConflictError(
                    f"version {policy.version} of {policy.policy} is loaded with other content; give it the next number"
                )
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
                "document": plain,
                "loaded_at": tx.now,
            },
        )
        loaded.append((policy, "loaded"))
    return loaded


def _completed(desk: Desk, document: Table, company: str | None) -> Iterable[Table]:
    missing = [key for key in COMPANY_KEYS if document.get(key) is None]
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
    """
    profile = desk.profile(company)
    rows = await repository.lock_policy(tx, company=company, policy=policy)
    chosen = [row for row in rows if version in (None, row.version)]
    if not chosen:
        raise UnknownPolicyError(f"no version {version or ''} of policy {policy!r} of {company}")
    row = chosen[-1]
    if row.state == "active":
        return None
    document = from_plain(cast("Document", row.document))
    typed, _ = check(cast("Table", document))
    assert typed is not None
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


def _require_calendar(calendar: str) -> None:
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
