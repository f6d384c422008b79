"""HTTP as every service speaks it: problems, scopes, versions, one application."""

from cobranza.chassis.http.access import (
    Access,
    AccessError,
    CurrentPrincipal,
    KeyAccess,
    LocalAccess,
    Principal,
    access_for,
    current_principal,
    scope,
)
from cobranza.chassis.http.application import BULK, ApplicationError, create_app, openapi
from cobranza.chassis.http.conditional import answer, etag, not_modified, require_match
from cobranza.chassis.http.models import Request
from cobranza.chassis.http.problems import Problem

__all__ = [
    "BULK",
    "Access",
    "AccessError",
    "ApplicationError",
    "CurrentPrincipal",
    "KeyAccess",
    "LocalAccess",
    "Principal",
    "Problem",
    "Request",
    "access_for",
    "answer",
    "create_app",
    "current_principal",
    "etag",
    "not_modified",
    "openapi",
    "require_match",
    "scope",
]
