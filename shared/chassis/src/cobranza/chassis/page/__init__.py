"""The frame every page shares: layout, language, formats and the pieces that pages compose."""

import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Literal, Protocol
from zoneinfo import ZoneInfo

from babel import Locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, StrictUndefined
from jinja2.ext import babel_extract

from cobranza.chassis.clock import evaluation_date, utc_now
from cobranza.chassis.page import formats

Language = Literal["es", "en"]
LANGUAGES: tuple[Language, ...] = ("es", "en")
_LANGUAGE_COOKIE = "language"
_COOKIE_SECONDS = 365 * 24 * 3600
_STATIC_CACHE = "public, max-age=31536000, immutable"
_MEDIA_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


class Company(Protocol):
    """What the frame shows of a company; ``CompanyProfile`` is one."""

    @property
    def company(self) -> str:
        """Its slug."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def country(self) -> str:
        """ISO 3166 code, which decides how amounts and dates are written."""

    @property
    def zone(self) -> ZoneInfo:
        """Its time zone."""

    @property
    def currencies(self) -> Sequence[str]:
        """The currencies it invoices in."""

    @property
    def delivery(self) -> Literal["sandbox", "copy", "live"]:
        """Where its messages go."""


class Clock(Protocol):
    """The business clock."""

    @property
    def is_virtual(self) -> bool:
        """Whether the business instant is simulated."""

    def now(self) -> datetime:
        """The business instant."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """An entry of the navigation; the label is translated."""

    label: str
    href: str


#: The pages a person starts from, in the order of the rail.
NAVIGATION = (Link(label="Today", href="/analytics/"),)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What all pages of a process share."""

    companies: Iterable[Company]
    clock: Clock
    navigation: tuple[Link, ...] = NAVIGATION


class UnknownCompanyError(Exception):
    """The company in the address does not exist, or the reader does not see it."""

    code = "not_found"
    status = 404


@dataclass(frozen=True, kw_only=True)
class View:
    """What the address of a page says: whose figures, in which currency and language."""

    company: Company | None
    companies: tuple[Company, ...]
    currency: str | None
    language: Language
    business_date: date | None
    is_virtual: bool

    def require_company(self) -> Company:
        """The company shown, for a page that shows nothing without one.

        Raises:
            UnknownCompanyError: the reader sees no company.
        """
        if self.company is None:
            raise UnknownCompanyError
        return self.company

    @property
    def locale(self) -> Locale:
        """How amounts and dates are written."""
        return formats.locale_for(self.language, self.company.country if self.company else None)


def frame_of(request: Request) -> Frame:
    """The frame given to ``create_app``."""
    frame = request.app.state.frame
    assert isinstance(frame, Frame)
    return frame


def view_of(request: Request) -> View:
    """Read company, currency and language from the address, with the first of each as default.

    Raises:
        UnknownCompanyError: the address names a company that is not there for this reader.
    """
    frame = frame_of(request)
    principal = getattr(request.state, "principal", None)
    companies = tuple(
        company for company in frame.companies if principal is not None and principal.sees(company.company)
    )
    wanted = request.query_params.get("company")
    chosen = [company for company in companies if wanted in (None, company.company)]
    if wanted is not None and not chosen:
        raise UnknownCompanyError(wanted)
    company = chosen[0] if chosen else None
    return View(
        company=company,
        companies=companies,
        currency=_currency(request, company),
        language=language_of(request),
        business_date=evaluation_date(frame.clock.now(), company.zone) if company else None,
        is_virtual=frame.clock.is_virtual,
    )


def language_of(request: Request) -> Language:
    """The language asked for: by ``?lang=``, else the cookie, else ``Accept-Language``, else es."""
    asked = (
        request.query_params.get("lang"),
        request.cookies.get(_LANGUAGE_COOKIE),
        *_accepted(request.headers.get("accept-language", "")),
    )
    for language in asked:
        if language in LANGUAGES:
            return language
    return LANGUAGES[0]


class Pages:
    """The pages of one service: ``page/*.html`` of its package, inside the shared frame.

    Templates are written in English with gettext; ``page/locale/es.po`` holds the Spanish.
    """

    def __init__(self, service: str, *, package: str) -> None:
        """Name the service and the package that holds its ``page`` folder."""
        self._service = service
        self._package = package

    def render(self, request: Request, template: str, *, status: int = 200, **context: object) -> HTMLResponse:
        """A page, or a fragment when the template does not extend ``frame/base.html``.

        The template also sees ``view`` (company, currency, language, business date) and
        ``link(**changes)``, this page's address with some parameters changed.
        """
        return _render(
            request,
            template,
            view=view_of(request),
            package=self._package,
            status=status,
            context=context,
        )

    def untranslated(self) -> set[str]:
        """The texts of the service's templates that have no Spanish; a test wants none."""
        return _texts(resources.files(self._package) / "page") - _known_texts(self._package)


def problem_page(request: Request, problem: Mapping[str, object]) -> HTMLResponse:
    """A problem for a person: a fragment to htmx, else a whole page."""
    is_fragment = request.headers.get("hx-request") == "true"
    return _render(
        request,
        "frame/problem.html" if is_fragment else "frame/problem_page.html",
        view=_bare_view(request),
        context={"problem": problem},
    )


def explanation_page(request: Request, problem: object) -> HTMLResponse:
    """What a problem of the catalogue means and what to do."""
    return _render(request, "frame/explanation.html", view=_bare_view(request), context={"problem": problem})


def reference_page(request: Request, document: Mapping[str, Any]) -> HTMLResponse:
    """The operations of an OpenAPI document."""
    return _render(request, "frame/reference.html", view=view_of(request), context={"document": document})


def static_file(name: str) -> Response | None:
    """A static file by its hashed name, to be kept for ever; None for any other name."""
    file = _static_files().get(name)
    if file is None:
        return None
    return Response(
        file.read_bytes(),
        media_type=_MEDIA_TYPES[name.rpartition(".")[2]],
        headers={"Cache-Control": _STATIC_CACHE},
    )


def untranslated() -> set[str]:
    """The texts of the frame that have no Spanish; a test wants none."""
    return _texts(resources.files(__name__) / "templates" / "frame") - _known_texts(None)


def _bare_view(request: Request) -> View:
    """The view of a page that must show whatever the address says."""
    return View(
        company=None,
        companies=(),
        currency=None,
        language=language_of(request),
        business_date=None,
        is_virtual=False,
    )


def _render(
    request: Request,
    template: str,
    *,
    view: View,
    context: Mapping[str, object],
    package: str | None = None,
    status: int = 200,
) -> HTMLResponse:
    environment = _environment(package, view.language, view.locale)
    principal = getattr(request.state, "principal", None)
    html = environment.get_template(template).render(
        view=view,
        path=request.url.path,
        principal=principal.name if principal else "",
        navigation=frame_of(request).navigation,
        link=lambda **changes: _changed_address(request, changes),
        read_at=utc_now(),
        **context,
    )
    response = HTMLResponse(html, status_code=status)
    response.headers["Content-Language"] = view.language
    if request.query_params.get("lang") == view.language:
        response.set_cookie(
            _LANGUAGE_COOKIE,
            view.language,
            max_age=_COOKIE_SECONDS,
            samesite="lax",
            httponly=True,
            secure=request.url.scheme == "https",
        )
    return response


@lru_cache(maxsize=64)
def _environment(package: str | None, language: Language, locale: Locale) -> Environment:
    frame = PackageLoader(__name__, "templates")
    loaders: list[BaseLoader] = [frame]
    if package is not None:
        loaders.append(PackageLoader(package, "page"))
    environment = Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.filters.update(formats.filters_of(locale))
    environment.filters["middle"] = formats.middle
    environment.globals["static"] = _static_address
    translations = _translations(package) if language == "es" else Translations()
    # The extension adds this method to the environment while it loads.
    environment.install_gettext_translations(translations, newstyle=True)  # type: ignore[attr-defined]
    return environment


@lru_cache(maxsize=16)
def _translations(package: str | None) -> Translations:
    merged = _read_po(resources.files(__name__) / "locale" / "es.po")
    if package is not None:
        merged.merge(_read_po(resources.files(package) / "page" / "locale" / "es.po"))
    return merged


def _read_po(file: Traversable) -> Translations:
    """The texts of a .po file, compiled in memory so that no compiled copy can be stale."""
    compiled = io.BytesIO()
    write_mo(compiled, read_po(io.BytesIO(file.read_bytes()), locale="es"))
    compiled.seek(0)
    return Translations(compiled)


def _known_texts(package: str | None) -> set[str]:
    files = [resources.files(__name__) / "locale" / "es.po"]
    if package is not None:
        files.append(resources.files(package) / "page" / "locale" / "es.po")
    return {
        _first(message.id)
        for file in files
        for message in read_po(io.BytesIO(file.read_bytes()), locale="es")
        if message.id and message.string
    }


def _texts(folder: Traversable) -> set[str]:
    texts: set[str] = set()
    for template in folder.iterdir():
        if template.name.endswith(".html"):
            found = babel_extract(
                io.BytesIO(template.read_bytes()),
                ["_", "gettext", "ngettext"],
                [],
                {"trim_blocks": "true", "lstrip_blocks": "true", "newstyle_gettext": "true"},
            )
            for _line, _function, message, _comments in found:
                texts.add(_first(message))
    return texts - {""}


def _first(message: object) -> str:
    """The text of a message: its singular where it also has a plural."""
    forms = message if isinstance(message, tuple | list) else [message]
    return str(forms[0] or "")


@lru_cache(maxsize=1)
def _static_files() -> dict[str, Traversable]:
    """Hashed name to file: ``frame.css`` is served as ``frame.1a2b3c4d.css``."""
    files = {}
    for file in (resources.files(__name__) / "static").iterdir():
        stem, _, suffix = file.name.rpartition(".")
        if suffix in _MEDIA_TYPES:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
            files[f"{stem}.{digest}.{suffix}"] = file
    return files


def _static_address(name: str) -> str:
    for hashed, file in _static_files().items():
        if file.name == name:
            return f"/static/{hashed}"
    raise KeyError(name)


def _changed_address(request: Request, changes: Mapping[str, object]) -> str:
    removed = [name for name, value in changes.items() if value is None]
    url = request.url.remove_query_params(removed).include_query_params(
        **{name: value for name, value in changes.items() if value is not None}
    )
    return f"{url.path}?{url.query}" if url.query else url.path


def _currency(request: Request, company: Company | None) -> str | None:
    if company is None:
        return None
    wanted = request.query_params.get("currency")
    return wanted if wanted in company.currencies else company.currencies[0]


def _accepted(header: str) -> list[str]:
    """The primary languages of an Accept-Language header, the preferred first."""
    weighted: list[tuple[float, str]] = []
    for entry in header.split(","):
        tag, _, parameters = entry.partition(";")
        quality = re.fullmatch(r"\s*q=([01](?:\.\d{0,3})?)\s*", parameters)
        weight = float(quality.group(1)) if quality else 1.0
        weighted.append((-weight, tag.strip().partition("-")[0].lower()))
    return [language for weight, language in sorted(weighted, key=lambda one: one[0]) if weight]
