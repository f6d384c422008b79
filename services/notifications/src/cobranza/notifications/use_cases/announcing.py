"""Tells which templates letters are written by, so that policies can be compared with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.companies import Companies
from cobranza.chassis.database import Database
from cobranza.contracts.notifications import TemplateActivated
from cobranza.notifications import repository
from cobranza.notifications.gateways.letters import Written


@dataclass(frozen=True, slots=True)
class Announcer:
    """Tells each company's templates once, and again whenever one of them has changed."""

    database: Database
    companies: Companies
    evaluation_hour: int
    written: Sequence[Written]

    async def announce(self) -> bool:
        """Tell what was not told yet, of a company all at once; there is never more to do at once."""
        for profile in self.companies:
            async with self.database.transaction() as tx:
                told = await repository.templates_in_use(tx, profile.company)
                today = evaluation_date(tx.now, profile.zone, from_hour=self.evaluation_hour)
                for one in self.written:
                    version, digest = told.get((one.template, one.channel, one.language, one.tone), (0, ""))
                    if digest == one.sha256:
                        continue
                    activated = TemplateActivated(
                        company=profile.company,
                        template=one.template,
                        channel=one.channel,
                        language=one.language,
                        tone=one.tone,
                        version=version + 1,
                        sha256=one.sha256,
                        activated_on=today,
                    )
                    await repository.save_template(tx, activated)
                    tx.publish(activated, sequence=activated.version)
        return False
