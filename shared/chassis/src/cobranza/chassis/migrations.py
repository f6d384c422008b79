"""Migrations of a service: its own Alembic revisions, run by the owner role under one lock."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

from alembic import command, context
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine

from cobranza.chassis.database import driver_url

_LOCK: Final = "SELECT pg_advisory_lock(hashtextextended('cobranza-migrate', 0))"
_UNLOCK: Final = "SELECT pg_advisory_unlock(hashtextextended('cobranza-migrate', 0))"


def config(script_location: str) -> Config:
    """Alembic's configuration for the revisions at `package:folder`."""
    settings = Config()
    settings.set_main_option("script_location", script_location)
    settings.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return settings


def upgrade(script_location: str, owner_url: str, *, revision: str = "head") -> None:
    """Bring the database at `owner_url` to `revision`; a second call waits and finds nothing to do."""
    asyncio.run(_run(lambda settings: command.upgrade(settings, revision), script_location, owner_url))


def downgrade(script_location: str, owner_url: str, *, revision: str = "base") -> None:
    """Take the database back to `revision`."""
    asyncio.run(_run(lambda settings: command.downgrade(settings, revision), script_location, owner_url))


def check(script_location: str, owner_url: str) -> None:
    """Raise when the service's metadata has something that its revisions do not make."""
    asyncio.run(_run(command.check, script_location, owner_url))


async def _run(action: Any, script_location: str, owner_url: str) -> None:
    engine = create_async_engine(driver_url(owner_url))
    try:
        async with engine.connect() as connection:
            await connection.execute(text(_LOCK))
            await connection.commit()
            try:
                settings = config(script_location)

                def act(synchronous: Connection) -> None:
                    settings.attributes["connection"] = synchronous
                    action(settings)

                await connection.run_sync(act)
                await connection.commit()
            finally:
                await connection.execute(text(_UNLOCK))
                await connection.commit()
    finally:
        await engine.dispose()


def run_environment(metadata: MetaData) -> None:
    """The whole of a service's `migrations/env.py`."""
    connection: Connection = context.config.attributes["connection"]
    connection.execute(text("SET lock_timeout = '10s'"))
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        compare_server_default=False,
    )
    with context.begin_transaction():
        context.run_migrations()


def _new(service: str, name: str) -> None:
    """Write an empty revision of a service, numbered after the last one."""
    script = ScriptDirectory.from_config(config(f"cobranza.{service}:migrations"))
    head = script.get_current_head()
    revision = f"{int(head or 0) + 1:04d}"
    made = script.generate_revision(revision, name, head=head or "base")
    sys.stdout.write(f"{made.path if made else revision}\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["new", service_name, revision_name] if revision_name:
            _new(service_name, revision_name)
        case _:
            sys.exit("usage: make migration SERVICE=payments NAME=what_changes")
