"""What must never be true in dunning's database."""

from __future__ import annotations

from cobranza.chassis.service import Figure, Invariant
from cobranza.dunning.repository import FORGOTTEN

INVARIANTS = (
    # I8: every account with something open has a live timer, or a recorded reason why no date can change anything.
    Invariant("open_receivable_forgotten", FORGOTTEN),
    Invariant(
        "overdue_receivable_without_case",
        """
        SELECT r.receivable_id FROM receivable r JOIN account a ON a.account_id = r.account_id
        LEFT JOIN collection_case c ON c.account_id = a.account_id AND c.closed_on IS NULL
        LEFT JOIN cancelled_invoice x ON x.company = r.company AND x.invoice_id = r.invoice_id
        WHERE r.open > 0 AND x.invoice_id IS NULL AND r.due_on < a.evaluated_on AND c.case_id IS NULL
            AND a.reason IS DISTINCT FROM 'before_start'
        """,
    ),
    Invariant(
        "balance_is_not_its_changes",
        """
        SELECT r.receivable_id FROM receivable r LEFT JOIN balance_change b ON b.receivable_id = r.receivable_id
        GROUP BY r.company, r.receivable_id, r.open, r.allocated
        HAVING r.open <> coalesce(sum(b.open), 0) OR r.allocated <> coalesce(sum(b.allocated), 0)
        """,
    ),
    Invariant(
        "open_case_of_nothing",
        """
        SELECT c.case_id FROM collection_case c JOIN account a ON a.account_id = c.account_id
        WHERE c.closed_on IS NULL AND a.reason = 'settled'
        """,
    ),
    Invariant(
        "two_notices_under_way",
        """
        SELECT case_id FROM step_run WHERE state = 'requested' AND kind = 'notice' GROUP BY case_id
        HAVING count(DISTINCT (notice_step, notice_run)) > 1
        """,
    ),
)

#: What is owed is the same everywhere: nothing is forgotten (I8), and nothing is shown that is not owed.
FIGURES = (
    Figure(
        "open_receivables",
        "SELECT CAST(receivable_id AS text) AS key, CAST(open AS text) AS value FROM receivable WHERE open > 0",
    ),
)
