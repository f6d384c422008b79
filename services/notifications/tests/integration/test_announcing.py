"""Templates are told once, and again when their words change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cobranza.notifications.gateways.letters import Letters
from cobranza.notifications.use_cases.announcing import Announcer


async def test_each_template_is_told_once_per_company_and_again_when_it_says_something_else(
    service: Any, companies: Any
) -> None:
    written = Letters().written()
    changed = [replace(written[0], sha256="ab" * 32), *written[1:]]

    for found in (written, written, changed):
        await Announcer(service.database, companies, 6, found).announce()

    told = [one.data for one in await service.published() if one.type == "template-activated"]
    first, again = told[: 2 * len(written)], told[2 * len(written) :]
    assert {(one["company"], one["version"]) for one in first} == {("acme-mx", 1), ("live-us", 1)}
    assert {"template": "aviso-1", "channel": "email", "language": "es-MX", "tone": "neutral"}.items() <= next(
        one for one in first if (one["template"], one["language"], one["tone"]) == ("aviso-1", "es-MX", "neutral")
    ).items()
    assert [(one["company"], one["template"], one["version"], one["sha256"]) for one in again] == [
        (company, written[0].template, 2, "ab" * 32) for company in ("acme-mx", "live-us")
    ]
