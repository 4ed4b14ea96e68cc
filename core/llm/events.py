"""The one stream shape: typed events, from the first status line to exactly one terminal event.

    status* evidence? (token | citation)* usage? (done | error | stopped)

``status`` may appear anywhere before the end, and tokens with a chapter belong to that chapter's summary. Every event
turns into plain JSON (``to_dict``) and into a server-sent event (``to_sse``); clients of the stream need nothing else.
Nothing here makes events.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

from core.data.text import Span

__all__ = [
    "TERMINAL",
    "Citation",
    "CitationFound",
    "Done",
    "Event",
    "Evidence",
    "Failed",
    "Passage",
    "Status",
    "Stopped",
    "Token",
    "UsageReport",
    "to_sse",
]


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of the book shown as evidence.

    Attributes:
        number: 1 for the best passage.
        chapter: number of the chapter, as in ``Chapter.number``.
        span: where the passage stands in the novel's text; ``text`` equals the text at that span.
    """

    number: int
    chapter: int
    chapter_title: str
    span: Span
    text: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "chapter": self.chapter,
            "chapter_title": self.chapter_title,
            "start": self.span.start,
            "end": self.span.end,
            "text": self.text,
            "score": round(self.score, 6),
        }


@dataclass(frozen=True, slots=True)
class Citation:
    """A verified quotation: ``quote`` equals the novel's text at ``span``.

    Attributes:
        number: the marker shown to the reader, from 1 in order of appearance.
        passage: ``Passage.number`` of the passage that holds the quotation.
        answer_span: the part of the answer that the quotation supports, in characters of the answer.
    """

    number: int
    book_id: str
    chapter: int
    chapter_title: str
    span: Span
    quote: str
    passage: int
    answer_span: Span

    def to_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "book": self.book_id,
            "chapter": self.chapter,
            "chapter_title": self.chapter_title,
            "start": self.span.start,
            "end": self.span.end,
            "quote": self.quote,
            "passage": self.passage,
            "answer_start": self.answer_span.start,
            "answer_end": self.answer_span.end,
        }


@dataclass(frozen=True, slots=True)
class Status:
    """What is going on, for a person: a key of the interface's strings and the values it mentions."""

    type: ClassVar[str] = "status"
    key: str
    values: tuple[tuple[str, str | int | float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"key": self.key, **dict(self.values)}


@dataclass(frozen=True, slots=True)
class Evidence:
    """The passages found, best first, sent before the first token.

    Attributes:
        dense_done, dense_total: how many of the book's chunks had vectors when it was searched.
    """

    type: ClassVar[str] = "evidence"
    passages: tuple[Passage, ...]
    dense_done: int
    dense_total: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "passages": [passage.to_dict() for passage in self.passages],
            "dense_done": self.dense_done,
            "dense_total": self.dense_total,
        }


@dataclass(frozen=True, slots=True)
class Token:
    """The next piece of the answer's text.

    Attributes:
        chapter: the chapter whose summary the piece belongs to; None for the answer itself. Chapters may interleave.
    """

    type: ClassVar[str] = "token"
    text: str
    chapter: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"text": self.text} if self.chapter is None else {"text": self.text, "chapter": self.chapter}


@dataclass(frozen=True, slots=True)
class CitationFound:
    """A citation of the answer so far."""

    type: ClassVar[str] = "citation"
    citation: Citation

    def to_dict(self) -> dict[str, Any]:
        return self.citation.to_dict()


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Tokens read and written, and the seconds until the first token and in all."""

    type: ClassVar[str] = "usage"
    input_tokens: int
    output_tokens: int
    first_token_s: float
    elapsed_s: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "first_token_s": round(self.first_token_s, 4),
            "elapsed_s": round(self.elapsed_s, 4),
        }


@dataclass(frozen=True, slots=True)
class Done:
    """The stream ended by itself.

    Attributes:
        text: the whole answer.
        found: whether the book supports it; False when the answer says that the book does not say.
        finish_reason: ``"stop"`` or ``"length"``.
    """

    type: ClassVar[str] = "done"
    text: str
    found: bool
    finish_reason: str

    def to_dict(self) -> dict[str, Any]:
        return {"text": self.text, "found": self.found, "finish_reason": self.finish_reason}


@dataclass(frozen=True, slots=True)
class Failed:
    """The stream broke; what was shown before stays true."""

    type: ClassVar[str] = "error"
    message: str
    text: str

    def to_dict(self) -> dict[str, Any]:
        return {"message": self.message, "text": self.text}


@dataclass(frozen=True, slots=True)
class Stopped:
    """The reader stopped it; ``text`` is the part that was written."""

    type: ClassVar[str] = "stopped"
    text: str

    def to_dict(self) -> dict[str, Any]:
        return {"text": self.text}


TERMINAL = (Done, Failed, Stopped)
Event = Status | Evidence | Token | CitationFound | UsageReport | Done | Failed | Stopped


def to_sse(event: Event, event_id: int | None = None) -> str:
    """The event in the text form of server-sent events, with its closing blank line.

    Source:
        WHATWG HTML, section 9.2 (server-sent events).
    """
    head = f"id: {event_id}\n" if event_id is not None else ""
    return f"{head}event: {event.type}\ndata: {json.dumps(event.to_dict(), ensure_ascii=False)}\n\n"
