"""The HTTP interface as an application: the character service alone, or beside the page.

``api_application`` makes everything and starts nothing; tasks run and the library is locked while the application does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from core import __version__
from demos.api.operations import observe, operation_routes
from demos.api.refusals import add_refusals
from demos.api.service import ApiService
from demos.api.v3 import v3_routes
from demos.api.v4 import V4_PREFIXES, v4_routes

__all__ = ["api_application"]

ABOUT = """Characters that speak, for clients of CharacterGLM and of OpenAI.

A key is made with `novelscope key create NAME`, and sent as `Authorization: Bearer ID.SECRET` or as a token signed
with it.
`Idempotency-Key` makes a repeated request give the first answer.
"""


def api_application(service: ApiService | None = None) -> FastAPI:
    """An application with its page of documentation, and the routes of a service where there is one."""
    from fastapi_offline import FastAPIOffline

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if service is None:
            yield
            return
        async with service.running():
            yield

    # FastAPI's own page for the interface takes its scripts from another host.
    app: FastAPI = FastAPIOffline(
        title="novelscope",
        version=__version__,
        description="" if service is None else ABOUT,
        redoc_url=None,
        favicon_url="/favicon.ico",
        lifespan=lifespan,
    )

    @app.get("/healthz", tags=["operations"], summary="Whether the server lives")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    add_refusals(app)
    if service is not None:
        app.include_router(v3_routes(service))
        for prefix in V4_PREFIXES:
            app.include_router(v4_routes(service, prefix))
        app.include_router(operation_routes(service))
        observe(app, service.metrics)
        _show_keys(app)
    return app


def _show_keys(app: FastAPI) -> None:
    """Name the kind of key on the page, so that it can be tried there."""
    make = app.openapi

    def with_keys() -> dict[str, Any]:
        page = make()
        schemes = page.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["key"] = {"type": "http", "scheme": "bearer", "description": "ID.SECRET, or a token signed with it"}
        return page

    app.openapi = with_keys  # type: ignore[method-assign]  # the way that FastAPI documents
