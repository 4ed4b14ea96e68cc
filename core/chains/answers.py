"""A whole answer, collected from the events that carried it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.errors import NovelscopeError
from core.llm.events import Citation, CitationFound, Done, Event, Evidence, Failed, Passage, Stopped, UsageReport

__all__ = ["Answer", "collect"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, collected from its events.

    Attributes:
        found: whether the book supports it.
        is_stopped: whether the reader ended it; ``text`` is then the part that was written.
    """

    text: str
    citations: tuple[Citation, ...]
    passages: tuple[Passage, ...]
    found: bool
    is_stopped: bool
    usage: UsageReport | None


def collect(events: Iterator[Event]) -> Answer:
    """The answer that a stream of events adds up to.

    Raises:
        NovelscopeError: the stream ended in an error.
    """
    citations: list[Citation] = []
    passages: tuple[Passage, ...] = ()
    usage: UsageReport | None = None
    for event in events:
        if isinstance(event, CitationFound):
            citations.append(event.citation)
        elif isinstance(event, Evidence):
            passages = event.passages
        elif isinstance(event, UsageReport):
            usage = event
        elif isinstance(event, Failed):
            raise NovelscopeError(event.message)
        elif isinstance(event, (Done, Stopped)):
            found = event.found if isinstance(event, Done) else bool(citations)
            return Answer(event.text, tuple(citations), passages, found, isinstance(event, Stopped), usage)
    raise NovelscopeError("the stream of events ended without done, error or stopped")
