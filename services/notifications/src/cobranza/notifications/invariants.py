"""What must never be true in notifications' database."""

from __future__ import annotations

from cobranza.chassis.service import Invariant

INVARIANTS = (
    Invariant(
        "money_asked_without_permit",
        """
        SELECT notice_id FROM notice WHERE state IN ('sending', 'sent', 'unknown') AND receipt IS NULL
            AND (permit IS NULL OR NOT CAST(permit ->> 'granted' AS boolean))
        """,
    ),
    Invariant(
        "notice_handed_over_twice",
        "SELECT notice_id FROM notice_history WHERE state = 'sent' GROUP BY notice_id HAVING count(*) > 1",
    ),
    Invariant(
        "outcome_not_told",
        "SELECT notice_id FROM notice WHERE version = 0 AND state IN ('sent', 'failed', 'suppressed', 'expired')",
    ),
)
