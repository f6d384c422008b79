"""Runs the real broker, the real database and the five services on one laptop."""
