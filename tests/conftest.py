"""Options of the tests that cross services."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--real-portfolio FILE` runs the replay scenario on the public sample."""
    parser.addoption("--real-portfolio", default=None, metavar="FILE", help="replay this file instead of a made-up one")
