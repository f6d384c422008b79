"""Decisions: policies, cases, escalation steps and the reason for every contact."""
