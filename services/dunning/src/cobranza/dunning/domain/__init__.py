"""Decides whom to contact, when and how; pure."""
