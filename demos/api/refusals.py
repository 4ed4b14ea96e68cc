"""How the interfaces say no, each in its own form, whatever went wrong; and how long a request to a stream may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import BookNotFound, NovelscopeError, SettingsError, UnknownModel
from demos.api.faults import ApiFault, Code
from demos.api.generation import unforeseen
from demos.api.streams import StreamGone, TooManyStreams
from demos.api.v3 import v3_refused
from demos.api.v4 import V4_PREFIXES, v4_refused

__all__ = ["BoundedBodies", "add_refusals"]

MAX_BODY_BYTES = 2 * 2**20
RETRY_AFTER_S = 5
STATUSES: Mapping[type[NovelscopeError], int] = {
    BookNotFound: 404,
    UnknownModel: 404,
    StreamGone: 410,
    SettingsError: 422,
    TooManyStreams: 503,
}


def add_refusals(app: FastAPI) -> None:
    """Answer what cannot be done with one sentence, in the form of the interface that was asked."""

    @app.exception_handler(ApiFault)
    def refuse_call(request: Request, fault: ApiFault) -> Response:
        return _refused(request, fault)

    @app.exception_handler(NovelscopeError)
    def refuse(request: Request, wrong: NovelscopeError) -> Response:
        if _is_service(request):
            return _refused(request, unforeseen(wrong))
        status = next((code for kind, code in STATUSES.items() if isinstance(wrong, kind)), 500)
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
        return JSONResponse({"message": str(wrong)}, status, headers)

    @app.exception_handler(HTTPException)
    def pass_on(request: Request, wrong: HTTPException) -> Response:
        if not _is_service(request):
            return JSONResponse({"message": str(wrong.detail)}, wrong.status_code, wrong.headers)
        fault = ApiFault(Code.NO_SUCH_API, _where_to(request, wrong.status_code), status=wrong.status_code)
        response = _refused(request, fault, is_route_known=False)
        response.headers.update(wrong.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    def explain(request: Request, wrong: RequestValidationError) -> Response:
        message = "; ".join(map(_sentence, wrong.errors()[:3]))
        if _is_service(request):
            return _refused(request, ApiFault(Code.INVALID, f"参数非法 / {message}"))
        return JSONResponse({"message": message}, 422)

    @app.exception_handler(Exception)
    def apologise(request: Request, wrong: Exception) -> Response:
        fault = unforeseen(wrong)
        return _refused(request, fault) if _is_service(request) else JSONResponse({"message": fault.message}, 500)


def _is_service(request: Request) -> bool:
    return request.url.path.startswith(("/api/paas/", *(f"{prefix}/" for prefix in V4_PREFIXES)))


def _refused(request: Request, fault: ApiFault, *, is_route_known: bool = True) -> Response:
    path = request.url.path
    if path.startswith("/api/paas/v3/"):
        return v3_refused(fault, path, is_route_known=is_route_known)
    return v4_refused(fault)


def _where_to(request: Request, status: int) -> str:
    """What to say of a path or a method that there is not."""
    if status == 405:
        return f"API 不支持 {request.method} 方法 / this path does not take {request.method}"
    return (
        "API 不存在 / no such path; there are /api/paas/v3/model-api/MODEL/invoke, async-invoke and sse-invoke, "
        "/api/paas/v4/chat/completions, and /docs with all of them"
    )


class BoundedBodies:
    """Refuses a request under a path whose body is longer than ``MAX_BODY_BYTES``, however it is sent."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app, self._path = app, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._path):
            await self._app(scope, receive, send)
            return
        taken = 0

        async def receive_some() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                # This kind of error is the one that passes through whoever reads the body.
                raise HTTPException(413, f"the request holds more than {MAX_BODY_BYTES:,} bytes; send less")
            return message

        await self._app(scope, receive_some, send)


def _sentence(mistake: Mapping[str, Any]) -> str:
    place: Sequence[Any] = [part for part in mistake["loc"] if part != "body"]
    where = ".".join(map(str, place)) or "the body"
    what = str(mistake["msg"]).removeprefix("Value error, ")
    return f"{where}: {what[:1].lower()}{what[1:]}"
