"""Go on with a stream that was broken off: make it again, and leave out what was said already.

A model that is asked the same with the same seed writes the same, and whole chapters are not written twice, so what
was said comes back quickly or not at all. Nothing here knows where the events are going.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing

from core.errors import ModelError
from core.llm.events import CitationFound, Done, Event, Evidence, Status, Token

__all__ = ["unsaid"]

CHANGED = "the model wrote something else this time, so the answer cannot go on; ask again"


def unsaid(events: Generator[Event, None, None], said: Iterable[Event]) -> Generator[Event, None, None]:
    """The events without those of ``said``, which came from the same request before.

    Tokens are compared as text, chapter by chapter; a piece of which half was said comes as its second half.

    Raises:
        ModelError: the text differs from what was said.
    """
    memory = _Memory(said)
    with closing(events):
        for event in events:
            if (new := memory.new_part(event)) is not None:
                yield new


class _Memory:
    """What was said, and how much of it has come again."""

    def __init__(self, said: Iterable[Event]) -> None:
        self._texts: dict[int | None, str] = {}
        self._others: set[Event] = set()
        self._ready: set[object] = set()
        self._has_evidence = False
        for event in said:
            if isinstance(event, Token):
                self._texts[event.chapter] = self._texts.get(event.chapter, "") + event.text
            elif isinstance(event, Evidence):
                self._has_evidence = True
            elif isinstance(event, Status) and event.key == "chapter_ready":
                self._ready.add(dict(event.values)["chapter"])
            else:
                self._others.add(event)

    def new_part(self, event: Event) -> Event | None:
        """The event, or what of it is new; None if nothing is."""
        if isinstance(event, Token):
            return self._new_text(event)
        if isinstance(event, Evidence):
            return None if self._has_evidence else event
        if isinstance(event, Status) and event.key == "chapter_ready":
            # It may be read from disk this time, and counted otherwise.
            return None if dict(event.values)["chapter"] in self._ready else event
        if isinstance(event, Done) and self._texts.get(None):
            raise ModelError(CHANGED)
        is_repeated = isinstance(event, (Status, CitationFound)) and event in self._others
        return None if is_repeated else event

    def _new_text(self, token: Token) -> Token | None:
        rest = self._texts.get(token.chapter, "")
        if not token.text.startswith(rest[: len(token.text)]):
            raise ModelError(CHANGED)
        self._texts[token.chapter] = rest[len(token.text) :]
        new = token.text[len(rest) :]
        return Token(new, token.chapter) if new else None
