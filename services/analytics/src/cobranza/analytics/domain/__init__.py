"""The formulas of analytics, without any database, broker or clock."""
