"""The older interface of the character service: ``invoke``, ``async-invoke``, polling, and ``sse-invoke``.

Its clients look at ``success`` and not at the status, and one of them drops every answer whose status is not 200; so a
call that is refused is answered with 200 once its key has been accepted, and a stream with an event.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response

from demos.api.answer_models import V3Refusal, V3Success, inlined_schema
from demos.api.answers import Answer
from demos.api.calls import Call, call_of_v3, new_id
from demos.api.event_stream import EventStream
from demos.api.faults import ApiFault, v3_refusal
from demos.api.generation import unforeseen
from demos.api.persona_bodies import V3Body
from demos.api.reading_bodies import read_body
from demos.api.service import ApiService
from demos.api.v3_wire import V3Text, v3_add, v3_error, v3_finish, v3_success, v3_task

__all__ = ["V3_PREFIX", "v3_refused", "v3_routes"]

V3_PREFIX = "/api/paas/v3/model-api"
STREAM_TYPE = "text/event-stream;charset=UTF-8"
Model = Annotated[str, Path(max_length=200, description="the character model, as charglm-3")]
TaskId = Annotated[str, Path(max_length=200)]


def v3_routes(service: ApiService) -> APIRouter:
    """The routes, over one service."""
    router = APIRouter(prefix=V3_PREFIX, tags=["CharacterGLM v3"])

    @router.post("/{model}/invoke", summary="Answer as a character", **_described(V3Body))
    async def invoke(model: Model, request: Request) -> Response:
        call = await _call(service, model, request)
        answer, was_kept = await service.answer(call, request)
        data = v3_task(call.request_id, new_id(), "SUCCESS", answer)
        return JSONResponse(v3_success(data), headers={"Idempotency-Replayed": "true"} if was_kept else None)

    @router.post("/{model}/async-invoke", summary="Submit a task", **_described(V3Body))
    async def async_invoke(model: Model, request: Request) -> Response:
        task = await service.submit(await _call(service, model, request), request)
        return JSONResponse(v3_success(v3_task(task.request_id, task.id, "PROCESSING")))

    @router.get("/{model}/async-invoke/{task_id}", summary="Ask how a task is doing", **_described())
    async def poll(model: str, task_id: TaskId, request: Request) -> Response:
        task = await service.task(task_id, (await service.caller(request)).owner)
        return JSONResponse(v3_success(v3_task(task.request_id, task.id, task.status, task.answer, task.failure)))

    @router.delete("/{model}/async-invoke/{task_id}", summary="End a task of one's own", **_described())
    async def cancel(model: str, task_id: TaskId, request: Request) -> Response:
        task = await service.cancel(task_id, (await service.caller(request)).owner)
        return JSONResponse(v3_success(v3_task(task.request_id, task.id, task.status, task.answer, task.failure)))

    @router.post("/{model}/sse-invoke", summary="Answer as a character, piece by piece", **_streamed())
    async def sse_invoke(model: Model, request: Request) -> Response:
        caller = await service.caller(request)
        stream_id = new_id()
        body = await read_body(request, V3Body)
        call = call_of_v3(body, model, caller.owner)
        await service.check(call, request)
        events = _events(service, call, request, stream_id, is_cumulative=body.incremental is False)
        # Clients of this interface read until there is no more.
        return EventStream(events, STREAM_TYPE, is_last=True)

    return router


def v3_refused(fault: ApiFault, path: str, *, is_route_known: bool) -> Response:
    """The refusal of a call of this interface."""
    if fault.status == 401 or not is_route_known:
        return JSONResponse(v3_refusal(fault), fault.status, fault.headers)
    if path.endswith("/sse-invoke"):
        return Response(v3_error(new_id(), fault), 200, fault.headers, STREAM_TYPE)
    return JSONResponse(v3_refusal(fault), 200, fault.headers)


async def _call(service: ApiService, model: str, request: Request) -> Call:
    caller = await service.caller(request)
    return call_of_v3(await read_body(request, V3Body), model, caller.owner)


async def _events(
    service: ApiService, call: Call, request: Request, stream_id: str, *, is_cumulative: bool
) -> AsyncGenerator[bytes, None]:
    text = V3Text()

    def added(new: str) -> bytes:
        return v3_add(stream_id, text.said if is_cumulative else new)

    try:
        async with service.asked_once(call, request) as kept, aclosing(service.pieces(call, kept)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Answer):
                    if last := text.flush():
                        yield added(last)
                    await service.keep(call, request, piece)
                    yield v3_finish(stream_id, call.request_id, piece)
                elif new := text.feed(piece):
                    yield added(new)
    except ApiFault as fault:
        yield v3_error(stream_id, fault)
    except Exception as wrong:
        yield v3_error(stream_id, unforeseen(wrong))


def _described(body: type[V3Body] | None = None) -> dict[str, Any]:
    """How the page of the interface shows a route."""
    responses: dict[int | str, dict[str, Any]] = {
        200: {"model": V3Success | V3Refusal, "description": "An answer, or a refusal: `success` tells"},
        401: {"model": V3Refusal, "description": "The key or token is not accepted"},
        404: {"model": V3Refusal, "description": "No such path"},
        405: {"model": V3Refusal, "description": "No such method"},
    }
    extra = {} if body is None else {"requestBody": _body_of(body)}
    return {"responses": responses, "openapi_extra": {**extra, "security": [{"key": []}, {}]}, "response_model": None}


def _streamed() -> dict[str, Any]:
    described = _described(V3Body)
    described["responses"][200] = {
        "description": "Events `add`, then one `finish`, `error` or `interrupted`",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    return described


def _body_of(body: type[V3Body]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": inlined_schema(body)}}}
