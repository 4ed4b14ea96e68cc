"""``POST /stream/ask``, ``/stream/summarize`` and ``/stream/chat``: answers as server-sent events, nothing sent twice.

A request is checked before its stream begins, and refused with a status and one sentence; what goes wrong later is the
stream's ``error`` event.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Generator
from functools import partial
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Header
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent
from langchain_core.messages import convert_to_messages

from core.chains.qa import Question
from core.chains.summary import SummaryRequest
from core.data.dialogues import Turn
from core.errors import UnknownModel
from core.llm.events import Event, Status
from core.llm.streams import model_events
from demos.answering import watched
from demos.api.bodies import AskBody, ChatBody, SummarizeBody
from demos.api.event_models import AnyEvent, Problem, event_schema
from demos.api.streams import Make, Streams
from demos.wiring import Services

__all__ = ["stream_routes"]

Sent: TypeAlias = AsyncIterator[ServerSentEvent]
LastEventId = Annotated[
    str | None, Header(max_length=200, description="the id of the last event seen, to go on with a broken stream")
]
SEED_BITS = 31


def stream_routes(services: Services, streams: Streams) -> APIRouter:
    """The three streams, over the same books and models as the page."""
    work = _Work(services)
    router = APIRouter(prefix="/stream", tags=["streams"])

    # What a dependency opens is closed when its response has ended, however that came about.
    async def asking(body: AskBody, last_event_id: LastEventId = None) -> AsyncIterator[Sent]:
        make = await run_in_threadpool(work.ask, body)
        async with streams.open(f"ask {body.model_dump_json()}", make, last_event_id) as sent:
            yield sent

    async def summarising(body: SummarizeBody, last_event_id: LastEventId = None) -> AsyncIterator[Sent]:
        make = await run_in_threadpool(work.summarize, body)
        async with streams.open(f"summarize {body.model_dump_json()}", make, last_event_id) as sent:
            yield sent

    async def chatting(body: ChatBody, last_event_id: LastEventId = None) -> AsyncIterator[Sent]:
        make = work.chat(body)
        async with streams.open(f"chat {body.model_dump_json()}", make, last_event_id) as sent:
            yield sent

    for path, dependency, summary in (
        ("/ask", asking, "Ask a book; the answer comes with its passages and quotations"),
        ("/summarize", summarising, "Summarise a book, chapter by chapter, then the whole"),
        ("/chat", chatting, "Talk with a model"),
    ):
        router.add_api_route(path, _sender(dependency), methods=["POST"], summary=summary, **_described())
    return router


class _Work:
    """Turns requests into what makes their answers; whatever is wrong with a request is raised here."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def ask(self, body: AskBody) -> Make:
        reader = self._services.reader(self._spec(body.model))
        question = Question(
            book_id=self._services.library.find(body.book),
            text=body.question,
            until_chapter=body.until,
            history=tuple(Turn(message.role, message.content) for message in body.history),
        )
        return lambda: watched(reader.stream(question), self._services)

    def summarize(self, body: SummarizeBody) -> Make:
        summariser = self._services.summariser(self._spec(body.model))
        request = SummaryRequest(
            book_id=self._services.library.find(body.book),
            mode=body.mode,
            first=body.first,
            last=body.last,
            until_chapter=body.until,
            person=body.person,
        )
        return lambda: watched(summariser.stream(request), self._services)

    def chat(self, body: ChatBody) -> Make:
        keywords = body.model_dump(include={"max_tokens", "temperature", "top_p"})
        # A seed of our own, so that a stream that is gone on with is the same one.
        seed = secrets.randbits(SEED_BITS) if body.seed is None else body.seed
        answer = partial(self._reply, self._spec(body.model), body, {**keywords, "seed": seed, "stop": body.stop})
        return lambda: watched(answer(), self._services)

    def _reply(self, spec: str, body: ChatBody, keywords: dict[str, Any]) -> Generator[Event, None, None]:
        yield Status("loading")
        model = self._services.chat_model(spec)
        messages = convert_to_messages([message.model_dump() for message in body.messages])
        yield from model_events(model, messages, **keywords)

    def _spec(self, wanted: str | None) -> str:
        """The model's specification: one of those offered, for a path or an address of a client's is not to be opened.

        Raises:
            UnknownModel: it is none of them.
        """
        offered = [spec for _, spec in self._services.model_choices()]
        if wanted is not None and wanted not in offered:
            raise UnknownModel(f"there is no model {wanted!r} here; there are {', '.join(offered)}")
        return wanted or self._services.settings.model


def _sender(dependency: Any) -> Any:
    # Not in the annotation, which is read where `dependency` is unknown.
    async def send(sent: Any = Depends(dependency)) -> AsyncIterator[AnyEvent]:  # noqa: B008
        async for event in sent:
            yield event  # the annotation is what the page of the interface shows

    return send


def _described() -> dict[str, Any]:
    """How the interface's page describes a stream."""
    refused = {"model": Problem}
    return {
        "response_class": EventSourceResponse,
        "response_description": "server-sent events, the last of them `done`, `error` or `stopped`",
        "responses": {404: refused, 410: refused, 413: refused, 422: refused, 503: refused},
        "openapi_extra": {"responses": {"200": {"content": {"text/event-stream": {"itemSchema": event_schema()}}}}},
    }
