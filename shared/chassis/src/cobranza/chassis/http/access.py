"""Who may call what: API keys, the principal behind them, and the scope every route declares."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Protocol

import yaml
from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from cobranza.chassis import clock
from cobranza.chassis.http.problems import Problem

EVERY = "*"
_SCOPE = re.compile(r"[a-z][a-z-]*:[a-z][a-z-]*")


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who is calling: a name for the audit, the scopes granted, the companies seen."""

    name: str
    scopes: frozenset[str]
    companies: frozenset[str]

    def has(self, scope: str) -> bool:
        """Whether the scope is granted, by name or by ``*``."""
        return scope in self.scopes or EVERY in self.scopes

    def sees(self, company: str) -> bool:
        """Whether the company's data may be shown, by name or by ``*``."""
        return company in self.companies or EVERY in self.companies

    def require_company(self, company: str) -> None:
        """Refuse another company's data as if it did not exist.

        Raises:
            Problem: ``not-found`` (404).
        """
        if not self.sees(company):
            raise Problem("not-found")


#: Who is behind a signed address: nobody known yet; the route proves the signature over the raw body.
SIGNER = Principal(name="webhook", scopes=frozenset({"webhooks:deliver"}), companies=frozenset())


class Access(Protocol):
    """How a request is turned into a principal."""

    def principal(self, request: Request) -> Principal | None:
        """The caller, or None when the request does not prove who it is."""


class LocalAccess:
    """Local mode: whoever reaches the loopback address may do everything.

    The Host header must name the loopback too, so that a web page elsewhere cannot reach the
    service through a name that it points at 127.0.0.1.
    """

    def principal(self, request: Request) -> Principal | None:
        """The local person, unless the request was made for another host name."""
        if not is_loopback(request.url.hostname or ""):
            return None
        return Principal(name="local", scopes=frozenset({EVERY}), companies=frozenset({EVERY}))


class _Key(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    scopes: frozenset[str]
    companies: frozenset[str]
    expires_on: date | None = None


class AccessError(Exception):
    """The service must not start: it would be open to everybody, or its keys cannot be read."""


class KeyAccess:
    """API keys, of which only SHA-256 hashes are kept.

    The file is a YAML list of ``{name, sha256, scopes, companies, expires_on?}``; ``sha256`` is
    the hex digest of the key, ``"*"`` grants every scope or company. Two keys of one name may live
    at once, which is how a key is replaced.
    """

    def __init__(self, file: Path) -> None:
        """Read and check the file.

        Raises:
            AccessError: the file is missing, holds no key, or a key is not as described.
        """
        try:
            entries = yaml.safe_load(file.read_text(encoding="utf-8"))
            self._keys = TypeAdapter(tuple[_Key, ...]).validate_python(entries)
        except (OSError, yaml.YAMLError, ValidationError) as error:
            raise AccessError(f"the API keys in {file} cannot be used: {error}") from error
        if not self._keys:
            raise AccessError(f"{file} holds no API key")

    def principal(self, request: Request) -> Principal | None:
        """The owner of the presented key, or None when there is none or it has expired."""
        presented = _presented_key(request.headers.get("authorization", ""))
        digest = hashlib.sha256(presented.encode()).hexdigest()
        today = clock.utc_now().date()
        for key in self._keys:
            # Every key is compared in constant time, so the answer's delay tells nothing.
            if hmac.compare_digest(key.sha256.lower(), digest) and not _expired(key, today):
                return Principal(name=key.name, scopes=key.scopes, companies=key.companies)
        return None


def access_for(*, host: str, api_keys: Path | None) -> Access:
    """The access rules of a process that listens on ``host``.

    Raises:
        AccessError: the host is not the loopback and no keys are given.
    """
    if api_keys is not None:
        return KeyAccess(api_keys)
    if not is_loopback(host):
        raise AccessError(f"{host} is reachable from elsewhere: set COBRANZA_API_KEYS to a file of API keys")
    return LocalAccess()


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def current_principal(request: Request) -> Principal:
    """Who is calling; the middleware has proved it before any route runs."""
    principal = request.state.principal
    assert isinstance(principal, Principal)
    return principal


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]


@dataclass(frozen=True)
class RequiredScope:
    """The dependency behind ``scope``: refuses a principal without it."""

    name: str

    def __call__(self, request: Request) -> None:
        """Refuse the request unless its principal has the scope.

        Raises:
            Problem: ``forbidden`` (403), naming the missing scope.
        """
        if not current_principal(request).has(self.name):
            raise Problem("forbidden", required_scope=self.name)


def scope(name: str) -> Any:
    """Declare the scope of a route: ``@router.get(…, dependencies=[scope("cases:read")])``.

    Raises:
        ValueError: the name is not ``<things>:<verb>``.
    """
    if not _SCOPE.fullmatch(name):
        raise ValueError(f"a scope reads 'things:verb', not {name!r}")
    return Depends(RequiredScope(name))


def _presented_key(authorization: str) -> str:
    """The key of a Bearer header, or the password of a Basic one (a browser's own sign-in)."""
    scheme, _, credentials = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic":
            try:
                decoded = base64.b64decode(credentials, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                return ""
            return decoded.partition(":")[2]
        case _:
            return ""


def _expired(key: _Key, today: date) -> bool:
    return key.expires_on is not None and key.expires_on < today
