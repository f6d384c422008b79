"""Analytics over HTTP: figures to read and to take away, pages, and the live feed."""

from __future__ import annotations

from fastapi import APIRouter

from cobranza.analytics.api import figures, pages
from cobranza.analytics.settings import AnalyticsSettings
from cobranza.chassis.service import Context


def router(context: Context[AnalyticsSettings]) -> APIRouter:
    """The routes under `/analytics`."""
    routes = APIRouter()
    figures.add_routes(routes, context)
    pages.add_routes(routes, context)
    return routes
