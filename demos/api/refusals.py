"""How the interface says no: a status, and one sentence as ``{"message": ...}``; and how long a request may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import BookNotFound, NovelscopeError, SettingsError, UnknownModel
from demos.api.streams import StreamGone, TooManyStreams

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
    """Answer what cannot be done with one sentence."""

    @app.exception_handler(NovelscopeError)
    def refuse(request: Request, wrong: NovelscopeError) -> JSONResponse:
        status = next((code for kind, code in STATUSES.items() if isinstance(wrong, kind)), 500)
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
        return JSONResponse({"message": str(wrong)}, status, headers)

    @app.exception_handler(HTTPException)
    def pass_on(request: Request, wrong: HTTPException) -> JSONResponse:
        return JSONResponse({"message": str(wrong.detail)}, wrong.status_code, wrong.headers)

    @app.exception_handler(RequestValidationError)
    def explain(request: Request, wrong: RequestValidationError) -> JSONResponse:
        return JSONResponse({"message": "; ".join(map(_sentence, wrong.errors()[:3]))}, 422)


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
