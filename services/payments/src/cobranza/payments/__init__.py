"""Money: receipts, cash application, the receivables ledger and the notice permit."""
