"""The API process: the routers of one service or of all, on one port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import uvicorn
from fastapi import APIRouter

from cobranza.chassis import http, logs, page
from cobranza.chassis.health import OperationsServer
from cobranza.chassis.service import Context, Service


class PortTakenError(RuntimeError):
    """The port belongs to another program."""


async def serve(members: Sequence[Service[Any]], *, port: int) -> None:
    """Serve `members` on the loopback (or the set host) until SIGTERM.

    Raises:
        SettingsError: a setting is missing or wrong.
        PortTakenError: naming the port.
    """
    contexts: dict[str, Context[Any]] = {
        service.name: service.context(notifies=True, pool_size=5) for service in members
    }
    first = next(iter(contexts.values()))
    settings = first.settings
    logs.configure(
        service=members[0].name if len(members) == 1 else "api",
        role="api",
        level=settings.log_level,
    )
    routers: dict[str, APIRouter] = {service.name: service.router(contexts[service.name]) for service in members}
    navigation = tuple(link for service in members for link in service.pages)
    if settings.mailbox_directory is not None:
        # Only local mode has a mailbox, and only its extra has what the mailbox needs.
        from cobranza.chassis.local import mailbox_pages  # noqa: PLC0415

        routers["mailbox"] = mailbox_pages.mailbox_router(settings.mailbox_directory)
        navigation = (*navigation, mailbox_pages.NAVIGATION)
    app = http.create_app(
        routers,
        access=http.access_for(host=settings.host, api_keys=settings.api_keys_file),
        frame=page.Frame(clock=first.clock, companies=first.companies, navigation=navigation or page.NAVIGATION),
        cursor_secret=settings.cursor_secret.get_secret_value().encode(),
    )
    _check_port(settings.host, port)
    operations = OperationsServer(
        port=settings.operations_port,
        checks={name: _answers(context) for name, context in contexts.items()},
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            timeout_keep_alive=30,
        )
    )
    await operations.start()
    try:
        await server.serve()
    finally:
        operations.stopping()
        for context in contexts.values():
            await context.database.close()
        await operations.stop()


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTakenError(
                f"port {port} on {host} is taken ({error.strerror}); choose another with --port"
            ) from error


def _answers(context: Context[Any]) -> Any:
    async def check() -> str | None:
        try:
            async with asyncio.timeout(5), context.database.transaction() as tx:
                await tx.execute("SELECT 1")
        except Exception as error:  # noqa: BLE001 - any failure means not ready
            return f"the database does not answer: {type(error).__name__}"
        return None

    return check
