"""The newer interface of the character service, which is OpenAI's: chat completions, whole or streamed, tasks, models.

The same routes stand under ``/v1``, where OpenAI's clients look for them. A persona comes in ``meta`` or, from clients
that know no such field, in the system's messages.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response

from demos.api.answer_models import ModelList, V4Completion, V4Refusal, V4TaskState, inlined_schema
from demos.api.answers import Answer
from demos.api.calls import Call, call_of_v4, new_id
from demos.api.event_stream import EventStream
from demos.api.faults import ApiFault, v4_refusal
from demos.api.generation import unforeseen
from demos.api.persona_bodies import V4Body
from demos.api.reading_bodies import read_body
from demos.api.service import ApiService
from demos.api.tasks import Task
from demos.api.v4_wire import V4Chunks, v4_completion, v4_error, v4_task

__all__ = ["V4_PREFIXES", "v4_refused", "v4_routes"]

V4_PREFIXES = ("/api/paas/v4", "/v1")
TaskId = Annotated[str, Path(max_length=200)]
OWNER = "novelscope"


def v4_routes(service: ApiService, prefix: str) -> APIRouter:
    """The routes, over one service."""
    tag = "OpenAI" if prefix == "/v1" else "CharacterGLM v4"
    router = APIRouter(prefix=prefix, tags=[tag])
    began = int(time.time())

    @router.post("/chat/completions", summary="Answer, whole or as a stream", **_completing())
    async def complete(request: Request) -> Response:
        caller = await service.caller(request)
        body = await read_body(request, V4Body)
        call = call_of_v4(body, caller.owner)
        if not body.stream:
            answer, was_kept = await service.answer(call, request)
            told = v4_completion(new_id(), call.request_id, call.model, int(time.time()), answer)
            return JSONResponse(told, headers={"Idempotency-Replayed": "true"} if was_kept else None)
        await service.check(call, request)
        wants_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        chunks = V4Chunks(new_id(), call.model, int(time.time()), wants_usage)
        return EventStream(_events(service, call, request, chunks))

    @router.get("/models", summary="The models that can be asked for", **_described(ModelList))
    async def models(request: Request) -> Response:
        await service.caller(request)
        listed = [
            {"id": name, "object": "model", "created": began, "owned_by": OWNER} for name in service.answering.names.all
        ]
        return JSONResponse({"object": "list", "data": listed})

    @router.get("/models/{model}", summary="Whether a model can be asked for", **_described(None))
    async def model(model: str, request: Request) -> Response:
        await service.caller(request)
        service.answering.names.spec_of(model)
        return JSONResponse({"id": model, "object": "model", "created": began, "owned_by": OWNER})

    if prefix == "/v1":
        return router

    @router.post("/async/chat/completions", summary="Submit a task", **_described(V4TaskState, V4Body))
    async def submit(request: Request) -> Response:
        caller = await service.caller(request)
        call = call_of_v4(await read_body(request, V4Body), caller.owner)
        task = await service.submit(call, request)
        return JSONResponse(v4_task(task.id, task.request_id, task.model, "PROCESSING", int(task.created_at)))

    @router.get("/async-result/{task_id}", summary="Ask how a task is doing", **_described(V4TaskState))
    async def poll(task_id: TaskId, request: Request) -> Response:
        return _told(await service.task(task_id, (await service.caller(request)).owner))

    @router.delete("/async-result/{task_id}", summary="End a task of one's own", **_described(V4TaskState))
    async def cancel(task_id: TaskId, request: Request) -> Response:
        return _told(await service.cancel(task_id, (await service.caller(request)).owner))

    return router


def v4_refused(fault: ApiFault) -> Response:
    """The refusal of a call of this interface."""
    return JSONResponse(v4_refusal(fault), fault.status, fault.headers)


def _told(task: Task) -> Response:
    created = int(task.created_at)
    return JSONResponse(v4_task(task.id, task.request_id, task.model, task.status, created, task.answer, task.failure))


async def _events(service: ApiService, call: Call, request: Request, chunks: V4Chunks) -> AsyncGenerator[bytes, None]:
    has_begun = False
    try:
        async with service.asked_once(call, request) as kept, aclosing(service.pieces(call, kept)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Answer):
                    await service.keep(call, request, piece)
                    yield chunks.finish(piece)
                elif piece:
                    yield chunks.text(piece, is_first=not has_begun)
                    has_begun = True
    except ApiFault as fault:
        yield v4_error(fault)
    except Exception as wrong:
        yield v4_error(unforeseen(wrong))


def _described(answer: Any, body: type[V4Body] | None = None) -> dict[str, Any]:
    """How the page of the interface shows a route."""
    reasons = {
        400: "The request is not valid", 401: "The key or token is not accepted", 404: "No such path, model or task",
        405: "No such method", 408: "The request came too slowly", 409: "The same request is being answered",
        413: "The request is too large", 429: "Too many requests; `Retry-After` says when to ask again",
        500: "The server failed", 503: "The server is closing",
    }  # fmt: skip
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": V4Refusal, "description": reason} for status, reason in reasons.items()
    }
    if answer is not None:
        responses[200] = {"model": answer}
    extra: dict[str, Any] = {"security": [{"key": []}, {}]}
    if body is not None:
        content = {"application/json": {"schema": inlined_schema(body)}}
        extra["requestBody"] = {"required": True, "content": content}
    return {"responses": responses, "openapi_extra": extra, "response_model": None}


def _completing() -> dict[str, Any]:
    described = _described(V4Completion, V4Body)
    described["responses"][200]["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    return described
