"""Every service's revisions make what its metadata says, and can be taken back."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest

from cobranza.chassis import migrations

SERVICES = sorted(entry.name for entry in entry_points(group="cobranza.services"))


@pytest.mark.parametrize("service", SERVICES)
def test_revisions_match_the_metadata_and_go_down_and_up(service: str, fresh_database: Callable[..., Any]) -> None:
    location = f"cobranza.{service}:migrations"
    owner_url = fresh_database(service, lambda url: migrations.upgrade(location, url)).owner_url

    migrations.check(location, owner_url)
    migrations.downgrade(location, owner_url)
    migrations.upgrade(location, owner_url)
    migrations.check(location, owner_url)
