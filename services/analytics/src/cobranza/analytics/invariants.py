"""What must never be true in the read model."""

from __future__ import annotations

from cobranza.chassis.service import Figure, Invariant

INVARIANTS = (
    Invariant(
        "receivable_does_not_add_up",
        "SELECT receivable_id FROM receivable WHERE open <> issued - allocated - credited - written_off",
    ),
    Invariant(
        "movements_differ_from_receivable",
        """
        SELECT r.receivable_id FROM receivable r JOIN receivable_movement m USING (company, receivable_id)
        GROUP BY r.company, r.receivable_id, r.open HAVING sum(m.amount) <> r.open
        """,
    ),
    Invariant(
        "balance_differs_from_receivable",
        """
        SELECT r.receivable_id FROM receivable r LEFT JOIN receivable_balance b
            ON b.company = r.company AND b.receivable_id = r.receivable_id AND b.until_on = DATE 'infinity'
        WHERE coalesce(b.amount, 0) <> r.open
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
