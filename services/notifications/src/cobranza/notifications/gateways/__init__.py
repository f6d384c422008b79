"""The outside world of notifications: the ledger's permit, the mail provider, the letter writer."""
