"""What must never be true in payments' database: the promises I1, I2 and I7 of the ledger, as queries."""

from __future__ import annotations

from typing import Final

from cobranza.chassis.service import Figure, Invariant

#: Every balance again from the journal: these must hold, or nobody is asked for money.
LEDGER: Final = (
    Invariant(
        "receivable_conserves",
        """
        SELECT receivable_id FROM receivable WHERE issued <> open + allocated + credited + written_off
            OR least(open, allocated, credited, written_off) < 0
        """,
    ),
    Invariant(
        "receivable_equals_journal",
        """
        SELECT r.receivable_id FROM receivable r LEFT JOIN (
            SELECT l.receivable_id,
                sum(l.amount) FILTER (WHERE l.account = 'AR') AS open,
                -sum(l.amount) FILTER (WHERE l.account = 'ADJUSTMENT:issued') AS issued,
                coalesce(sum(l.amount) FILTER (WHERE l.account IN ('ADJUSTMENT:credit_note', 'ADJUSTMENT:cancellation',
                    'ADJUSTMENT:discount', 'ADJUSTMENT:waiver')), 0) AS credited,
                coalesce(sum(l.amount) FILTER (WHERE l.account = 'ADJUSTMENT:write_off'), 0) AS written_off
            FROM journal_line l WHERE l.receivable_id IS NOT NULL GROUP BY l.receivable_id) j
            ON j.receivable_id = r.receivable_id
        WHERE (r.open, r.issued, r.credited, r.written_off)
            IS DISTINCT FROM (j.open, j.issued, j.credited, j.written_off)
        """,
    ),
    Invariant(
        "receivable_equals_allocations",
        """
        SELECT r.receivable_id FROM receivable r LEFT JOIN (
            SELECT company, receivable_id, sum(amount) AS allocated FROM allocation GROUP BY company, receivable_id) a
            ON a.company = r.company AND a.receivable_id = r.receivable_id
        WHERE r.allocated <> coalesce(a.allocated, 0)
        """,
    ),
    Invariant(
        "receipt_conserves",
        """
        SELECT receipt_id FROM receipt WHERE amount <> allocated + unapplied + refunded + reversed
            OR least(allocated, unapplied, refunded, reversed) < 0
        """,
    ),
    Invariant(
        "receipt_equals_journal",
        """
        SELECT r.receipt_id FROM receipt r LEFT JOIN (
            SELECT l.receipt_id,
                -sum(l.amount) FILTER (WHERE l.account IN ('UNAPPLIED', 'SUSPENSE')) AS unapplied,
                sum(l.amount) FILTER (WHERE l.account IN ('CASH', 'ADJUSTMENT:credit_note')) AS kept
            FROM journal_line l WHERE l.receipt_id IS NOT NULL GROUP BY l.receipt_id) j ON j.receipt_id = r.receipt_id
        WHERE (r.unapplied, r.amount - r.refunded - r.reversed) IS DISTINCT FROM (j.unapplied, j.kept)
        """,
    ),
    Invariant(
        "receipt_equals_allocations",
        """
        SELECT r.receipt_id FROM receipt r LEFT JOIN (
            SELECT company, receipt_id, sum(amount) AS allocated FROM allocation GROUP BY company, receipt_id) a
            ON a.company = r.company AND a.receipt_id = r.receipt_id
        WHERE r.allocated <> coalesce(a.allocated, 0)
        """,
    ),
    Invariant(
        "reversal_is_exact",
        """
        SELECT u.allocation_id FROM allocation u JOIN allocation a ON a.allocation_id = u.reverses
        WHERE u.amount <> -a.amount OR u.receipt_id <> a.receipt_id OR u.receivable_id <> a.receivable_id
        """,
    ),
    Invariant(
        "credit_equals_receipts",
        """
        SELECT 1 FROM (
            SELECT company, coalesce(customer, '-') AS customer, currency, sum(unapplied) AS unapplied FROM receipt
            GROUP BY 1, 2, 3) r
        FULL JOIN credit c ON c.company = r.company AND c.customer = r.customer AND c.currency = r.currency
        WHERE coalesce(r.unapplied, 0) <> coalesce(c.unapplied, 0)
        """,
    ),
    Invariant(
        "journal_balances",
        "SELECT entry_id FROM journal_line GROUP BY entry_id, currency HAVING sum(amount) <> 0",
    ),
)

#: Names of the checks that stop permits.
STOPPING: Final = frozenset(check.name for check in LEDGER)

#: What was charged, forgiven, given up and refunded, against the ledger.
DECISIONS: Final = (
    Invariant(
        "late_charge_equals_receivable",
        """
        SELECT 1 FROM late_charge l
        FULL JOIN (SELECT company, receivable_id, customer, issued FROM receivable WHERE kind = 'late_charge') r
            ON r.company = l.company AND r.receivable_id = l.receivable_id
        WHERE (l.amount, l.customer) IS DISTINCT FROM (r.issued, r.customer)
        """,
    ),
    Invariant(
        "late_charge_credits_equal_journal",
        """
        SELECT 1 FROM (SELECT receivable_id, sum(amount) AS amount FROM journal_line
            WHERE account = 'ADJUSTMENT:waiver' GROUP BY receivable_id) j
        FULL JOIN (SELECT receivable_id, sum(amount) AS amount FROM late_charge_credit GROUP BY receivable_id) c
            ON c.receivable_id = j.receivable_id
        WHERE j.amount IS DISTINCT FROM c.amount
        """,
    ),
    Invariant(
        "given_up_equals_journal",
        """
        SELECT r.receivable_id FROM receivable r LEFT JOIN (
            SELECT l.receivable_id, sum(l.amount) AS amount
            FROM journal_line l JOIN journal_entry e ON e.entry_id = l.entry_id
            WHERE l.account = 'ADJUSTMENT:write_off'
                AND e.kind IN ('receivable-written-off', 'write-off-recovered', 'recovery-undone')
            GROUP BY l.receivable_id) j ON j.receivable_id = r.receivable_id
        WHERE r.given_up <> coalesce(j.amount, 0)
        """,
    ),
    Invariant(
        "refund_equals_decisions",
        """
        SELECT r.receipt_id FROM receipt r LEFT JOIN (
            SELECT company, subject_id, sum(amount) AS amount FROM ledger_action
            WHERE verb = 'refund' AND state = 'done' GROUP BY company, subject_id) a
            ON a.company = r.company AND a.subject_id = r.receipt_id
        WHERE r.refunded <> coalesce(a.amount, 0)
        """,
    ),
)

INVARIANTS: Final = (
    *LEDGER,
    *DECISIONS,
    Invariant(
        "notice_after_settlement",
        """
        SELECT p.notice_id FROM permit p CROSS JOIN LATERAL jsonb_array_elements(p.lines) AS line
        JOIN receivable r ON r.company = p.company AND r.receivable_id = CAST(line ->> 'receivable_id' AS uuid)
        WHERE p.handed_at IS NOT NULL AND r.open = 0 AND p.handed_at > interval '15 seconds' + (
            SELECT max(e.booked_at) FROM journal_line l JOIN journal_entry e ON e.entry_id = l.entry_id
            WHERE l.receivable_id = r.receivable_id AND l.account = 'AR')
        """,
    ),
    Invariant(
        "fiscal_receipt_of_no_money",
        """
        SELECT l.fiscal_receipt_id FROM fiscal_receipt_line l CROSS JOIN LATERAL jsonb_each_text(l.shares) AS share
        LEFT JOIN allocation a ON a.allocation_id = CAST(share.key AS uuid)
        WHERE l.state = 'live' AND (a.amount IS DISTINCT FROM CAST(share.value AS bigint)
            OR EXISTS (SELECT 1 FROM allocation u WHERE u.reverses = a.allocation_id))
        UNION ALL SELECT l.fiscal_receipt_id FROM fiscal_receipt_line l JOIN fiscal_receipt r USING (fiscal_receipt_id)
        WHERE l.paid <> (SELECT sum(CAST(value AS bigint)) FROM jsonb_each_text(l.shares))
            OR (l.state = 'live' AND r.state = 'cancelled')
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
