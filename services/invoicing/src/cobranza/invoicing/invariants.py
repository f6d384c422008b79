"""What must never be true in invoicing's database."""

from __future__ import annotations

from cobranza.chassis.service import Invariant

INVARIANTS = (
    Invariant(
        "instalment_without_invoice",
        """
        SELECT i.receivable_id FROM instalment i LEFT JOIN invoice v ON v.company = i.company AND v.invoice_id = i.invoice_id
        WHERE v.invoice_id IS NULL
        """,
    ),
    Invariant(
        "calendar_of_a_settled_instalment",
        """
        SELECT i.receivable_id FROM instalment i
        JOIN timer t ON t.timer_key = 'due-date|' || i.company || '|' || i.receivable_id
        WHERE i.settled AND t.state IN ('armed', 'claimed')
        """,
    ),
)
