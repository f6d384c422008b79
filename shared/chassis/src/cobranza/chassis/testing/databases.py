"""A fresh migrated database for every test that wants one, in the time a copy takes."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from cobranza.chassis import ids

_Argument = TypeVar("_Argument")


@dataclass(frozen=True)
class DatabaseUrls:
    """One database, as the service and as the owner of its tables reach it."""

    name: str
    app_url: str
    owner_url: str


class Databases:
    """Makes databases on one server: per service and migration one template, and copies of it."""

    def __init__(self, admin_url: str) -> None:
        self._admin_url = admin_url
        self._templates: dict[tuple[str, str, str], str] = {}

    def clone(self, service: str, migrate: Callable[[str], None]) -> DatabaseUrls:
        """A new copy of the template that ``migrate`` fills at its first call for the service."""
        made_by = (service, migrate.__module__, migrate.__qualname__)
        template = self._templates.get(made_by)
        if template is None:
            template = f"template_{service}_{_suffix()}"
            self._execute(*self._roles(service), f"CREATE DATABASE {template} OWNER {service}_owner")
            _apart(migrate, self._urls(service, template).owner_url)
            self._templates[made_by] = template
        name = f"{service}_{_suffix()}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {service}_owner")
        return self._urls(service, name)

    def drop(self, name: str) -> None:
        """Remove a database, whoever is still connected."""
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def drop_templates(self) -> None:
        """Remove the templates; call it last."""
        for template in self._templates.values():
            self.drop(template)

    def _roles(self, service: str) -> tuple[str, ...]:
        return tuple(
            f"DO $$ BEGIN CREATE ROLE {role} LOGIN PASSWORD '{self._password(role)}';"
            " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            for role in (f"{service}_owner", f"{service}_app")
        )

    def _urls(self, service: str, name: str) -> DatabaseUrls:
        app, owner = (self._url(f"{service}_{role}", name) for role in ("app", "owner"))
        return DatabaseUrls(name, app, owner)

    def _url(self, role: str, name: str) -> str:
        server = urlsplit(self._admin_url)
        place = server.netloc.rpartition("@")[2]
        return urlunsplit(("postgresql", f"{role}:{self._password(role)}@{place}", f"/{name}", server.query, ""))

    def _password(self, role: str) -> str:
        # The same for every run on a server: runs side by side share its roles.
        return hashlib.sha256(f"{self._admin_url} {role}".encode()).hexdigest()

    def _execute(self, *statements: str) -> None:
        async def execute() -> None:
            admin = await asyncpg.connect(self._admin_url)
            try:
                for statement in statements:
                    await admin.execute(statement)
            finally:
                await admin.close()

        _apart(_run, execute())


def _run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def _apart(function: Callable[[_Argument], None], argument: _Argument) -> None:
    # In a thread of its own: the test that asks may have a running loop in this one.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(function, argument).result()


def _suffix() -> str:
    return ids.new_id().hex[-12:]
