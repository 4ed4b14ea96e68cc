"""What whoever runs the service looks at: health, readiness, metrics, and a line of log for each request.

The log is one JSON object a line. It names keys by their ids, and never holds a secret, a token, or a word of what is
asked or answered unless that was wanted. Nothing here decides anything.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from asgi_correlation_id import CorrelationIdMiddleware, correlation_id
from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demos.api.metrics import CONTENT_TYPE, Metrics
from demos.api.service import ApiService

__all__ = ["JsonLines", "observe", "operation_routes"]

KNOWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "correlation_id"}
OBSERVED, OTHER_ROUTE = ("/api/", "/v1/"), "other"

_log = logging.getLogger("novelscope.api")


def operation_routes(service: ApiService) -> APIRouter:
    """``/readyz`` and ``/metrics``."""
    router = APIRouter(tags=["operations"])

    @router.get("/readyz", summary="Whether calls are taken", responses={503: {"description": "Not now"}})
    async def readyz() -> Response:
        is_ready = service.is_ready
        return JSONResponse({"status": "ready" if is_ready else "not ready"}, 200 if is_ready else 503)

    @router.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
    def metrics() -> Response:
        return Response(service.metrics.page(), media_type=CONTENT_TYPE)

    return router


def observe(app: FastAPI, metrics: Metrics) -> None:
    """Give every request an id, a line of log and its place in the metrics."""
    app.add_middleware(_Observed, metrics=metrics)
    app.add_middleware(CorrelationIdMiddleware, header_name="X-Request-ID", validator=_is_plain)


class JsonLines(logging.Formatter):
    """A record as one JSON object, with whatever it was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request := correlation_id.get()) is not None:
            line["request"] = request
        line |= {name: value for name, value in vars(record).items() if name not in KNOWN_FIELDS}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


class _Observed:
    """Pure ASGI, for a response that streams must pass through untouched; the page's own requests are not counted."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(OBSERVED):
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 499  # of a client that left before the answer began

        async def send_seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_seen)
        except Exception:
            status = 500
            raise
        finally:
            seconds = time.monotonic() - began
            route = getattr(scope.get("route"), "path", OTHER_ROUTE) or OTHER_ROUTE
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(seconds)
            _log.info(
                "request",
                extra={
                    "method": scope["method"], "route": route, "status": status, "seconds": round(seconds, 4),
                    "key": scope.get("state", {}).get("owner"),
                },
            )  # fmt: skip


def _is_plain(given: str) -> bool:
    """Whether an id that a client sends can stand in a header and a log."""
    return 0 < len(given) <= 100 and given.isascii() and given.isprintable()
