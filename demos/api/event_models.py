"""The events of a stream as JSON schemas, for the OpenAPI page: ``core.llm.events`` is what makes them.

``tests/demos/test_api_streams.py`` holds every event that is sent against these.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EVENT_MODELS", "AnyEvent", "Problem", "event_schema"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StatusEvent(BaseModel):
    """What is going on: a key, and the values that belong to it.

    `chapter_begins` and `chapter_ready` name a chapter; the latter holds its whole summary.
    """

    model_config = ConfigDict(extra="allow")
    key: Literal[
        "searching", "rewritten", "loading", "reading", "summarising", "chapter_begins", "piece", "chapter_ready",
        "joining", "writing", "listing",
    ]  # fmt: skip


class PassageData(_Data):
    """A passage of the book; start and end count characters of the book's text."""

    number: int
    chapter: int
    chapter_title: str
    start: int
    end: int
    text: str
    score: float


class EvidenceEvent(_Data):
    """The passages that were found, best first, and how much of the book could be searched by meaning."""

    passages: list[PassageData]
    dense_done: int
    dense_total: int


class TokenEvent(_Data):
    """The next piece of text, to be put behind the ones before; with a chapter, it is of that chapter's summary."""

    text: str
    chapter: int | None = None


class CitationEvent(_Data):
    """A quotation that stands in the book word for word, and the part of the answer that it supports."""

    number: int
    book: str
    chapter: int
    chapter_title: str
    start: int
    end: int
    quote: str
    passage: int
    answer_start: int
    answer_end: int


class UsageEvent(_Data):
    """Tokens read and written, seconds until the first token and in all."""

    input_tokens: int
    output_tokens: int
    first_token_s: float
    elapsed_s: float


class DoneEvent(_Data):
    """The end: the whole text. `found` is false when the book does not say."""

    text: str
    found: bool
    finish_reason: str


class ErrorEvent(_Data):
    """The end: something broke; `text` is what was written before."""

    message: str
    text: str


class StoppedEvent(_Data):
    """The end: the server is closing; `text` is what was written before."""

    text: str


AnyEvent = (
    StatusEvent
    | EvidenceEvent
    | TokenEvent
    | CitationEvent
    | UsageEvent
    | DoneEvent
    | ErrorEvent
    | StoppedEvent
)  # fmt: skip
EVENT_MODELS: dict[str, type[BaseModel]] = {
    "status": StatusEvent,
    "evidence": EvidenceEvent,
    "token": TokenEvent,
    "citation": CitationEvent,
    "usage": UsageEvent,
    "done": DoneEvent,
    "error": ErrorEvent,
    "stopped": StoppedEvent,
}


class Problem(BaseModel):
    """Why a request was refused, in one sentence."""

    message: str = Field(examples=["no book 'abc'; `novelscope list` shows what there is"])


def event_schema() -> dict[str, Any]:
    """One server-sent event: which data belongs to which name.

    Source:
        OpenAPI 3.2, section 4.14.4 (server-sent events).
    """

    def one(name: str, model: type[BaseModel]) -> dict[str, Any]:
        data = {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": f"#/components/schemas/{model.__name__}"},
        }
        return {
            "type": "object",
            "required": ["id", "event", "data"],
            "properties": {"id": {"type": "string"}, "event": {"const": name}, "data": data},
        }

    return {"oneOf": [one(name, model) for name, model in EVENT_MODELS.items()]}
