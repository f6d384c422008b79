"""Webhooks of payment providers, each noted once."""

from __future__ import annotations

from uuid import UUID

from cobranza.chassis.database import Transaction


async def note_webhook(
    tx: Transaction,
    *,
    company: str,
    provider: str,
    event_id: str,
    kind: str,
    payment: str | None,
    outcome: str,
    detail: str,
) -> None:
    """Keep what became of a provider's webhook; a repeat overwrites what was kept."""
    await tx.execute(
        """
        INSERT INTO webhook (company, provider, event_id, kind, payment, outcome, detail)
        VALUES (:company, :provider, :event_id, :kind, :payment, :outcome, :detail)
        ON CONFLICT (company, provider, event_id) DO UPDATE SET outcome = excluded.outcome, detail = excluded.detail,
            times = webhook.times + 1, last_at = clock_timestamp()
        """,
        {
            "company": company,
            "provider": provider,
            "event_id": event_id,
            "kind": kind,
            "payment": payment,
            "outcome": outcome,
            "detail": detail,
        },
    )


async def is_reversed(tx: Transaction, *, company: str, receipt_id: UUID) -> bool:
    """Whether a reversal of the receipt was accepted."""
    rows = await tx.execute(
        "SELECT 1 FROM reversal WHERE company = :company AND receipt_id = :receipt_id",
        {"company": company, "receipt_id": receipt_id},
    )
    return rows.first() is not None
