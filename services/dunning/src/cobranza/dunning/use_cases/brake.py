"""The storm brake: an unusual number of notices waits until a person lets it leave."""

from __future__ import annotations

from datetime import date

from cobranza.chassis import timers
from cobranza.chassis.database import Transaction
from cobranza.chassis.logs import logger
from cobranza.contracts.reasons import Reason
from cobranza.dunning import repository
from cobranza.dunning.use_cases.evaluation import Desk, timer_row


async def release_brake(desk: Desk, tx: Transaction, *, company: str, by: str) -> tuple[tuple[date, ...], int]:
    """Let what waits leave, and everything else of today; releasing it again changes nothing.

    Returns:
        The days on which it was tripped, and how many accounts are looked at again now.

    Raises:
        UnknownCompanyError: this deployment does not collect for the company.
    """
    on = desk.as_of(tx, desk.profile(company))
    days = await repository.release_brake(tx, company=company, on=on, by=by)
    if not days:
        return (), 0
    waiting = await repository.accounts_waiting(tx, company=company, reason=Reason.BRAKED)
    await timers.arm_many(tx, [timer_row(account_id, company, tx.now) for account_id in waiting])
    logger().warning("the brake on notices was released", company=company, by=by, accounts=len(waiting))
    return tuple(days), len(waiting)
