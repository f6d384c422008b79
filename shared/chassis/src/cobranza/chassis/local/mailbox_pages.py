"""The pages of the local mailbox: what would have left, as its reader would see it."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse

from cobranza.chassis import http, page
from cobranza.chassis.local.mailbox import Mailbox, Message, Summary

PAGE_SIZE = 50
PAGES = page.Pages("mailbox", package="cobranza.chassis.local")
NAVIGATION = page.Link(label="Mailbox", href="/mailbox/")

# Whatever a letter holds, it can run nothing, load nothing and leave its frame nowhere.
_LETTER_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"


def mailbox_router(directory: Path) -> APIRouter:
    """The routes under `/mailbox`: list, message, its HTML and source, and a JSON view."""
    mailbox = Mailbox(directory)
    router = APIRouter(include_in_schema=False, dependencies=[http.scope("mailbox:read")])

    def found(message_id: str) -> Message:
        try:
            return mailbox.message(message_id)
        except KeyError:
            raise http.Problem("not-found", detail="there is no such message") from None

    @router.get("/")
    def inbox(
        request: Request,
        q: Annotated[str, Query(max_length=200)] = "",
        page_number: Annotated[int, Query(ge=1, le=100_000, alias="page")] = 1,
    ) -> HTMLResponse:
        messages = mailbox.messages(search=q)
        first = (page_number - 1) * PAGE_SIZE
        return PAGES.render(
            request,
            "list.html",
            messages=messages[first : first + PAGE_SIZE],
            total=len(messages),
            q=q,
            page_number=page_number,
            has_more=len(messages) > first + PAGE_SIZE,
        )

    @router.get("/messages/{message_id}")
    def message(request: Request, message_id: str) -> HTMLResponse:
        return PAGES.render(request, "message.html", message=found(message_id))

    @router.get("/messages/{message_id}/html")
    def html(message_id: str) -> HTMLResponse:
        return HTMLResponse(
            found(message_id).html,
            headers={"Content-Security-Policy": _LETTER_POLICY, "Referrer-Policy": "no-referrer"},
        )

    @router.get("/messages/{message_id}/source")
    def source(message_id: str) -> PlainTextResponse:
        return PlainTextResponse(found(message_id).source)

    @router.get("/v1/messages")
    def messages(q: Annotated[str, Query(max_length=200)] = "") -> list[Summary]:
        return mailbox.messages(search=q)

    @router.get("/v1/messages/{message_id}")
    def one_message(message_id: str) -> Message:
        return found(message_id)

    return router
