"""Streams that a client can come back to: an answer stops when its reader goes, and goes on when the reader returns.

Every event has an id, ``STREAM:NUMBER``. A request that repeats the first one, with the last id it saw in
``Last-Event-ID``, is sent what it missed; then the answer is made again, without what was said
(``core.chains.resuming``). Nothing runs for a reader who has left. Nothing here knows what an event means.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from fastapi.sse import ServerSentEvent

from core.chains.resuming import unsaid
from core.errors import NovelscopeError
from core.llm.events import TERMINAL, Event, Status, Token
from core.llm.streams import as_async, guarded

__all__ = ["StreamGone", "Streams", "TooManyStreams"]

KEPT_S, MOST_KEPT, MOST_EVENTS = 120.0, 256, 20_000
MOST_OPEN = 64

Make: TypeAlias = Callable[[], Generator[Event, None, None]]


class StreamGone(NovelscopeError):
    """The stream that a client wants to go on with is not kept, or was another request's."""


class TooManyStreams(NovelscopeError):
    """More streams are open than the server takes."""


@dataclass(slots=True, eq=False)
class _Record:
    """A stream, for as long as its reader may come back.

    Attributes:
        request: what was asked, word for word; only the same may go on.
        said: every event that was sent, in order.
        reader: the connection that is served; another one takes over by putting itself here.
        left_at: when the last connection went; None while one is served.
    """

    name: str
    request: str
    make: Make
    said: list[Event] = field(default_factory=list)
    reader: object = None
    left_at: float | None = None

    @property
    def is_over(self) -> bool:
        return bool(self.said) and isinstance(self.said[-1], TERMINAL)

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.said if isinstance(event, Token) and event.chapter is None)

    def sent(self, number: int) -> ServerSentEvent:
        """Event number 1, 2, 3... as it goes over the line."""
        event = self.said[number - 1]
        data = json.dumps(event.to_dict(), ensure_ascii=False)
        return ServerSentEvent(raw_data=data, event=event.type, id=f"{self.name}:{number}")


class Streams:
    """The streams of one server, all of one event loop.

    Args:
        kept_s: seconds for which a reader who has gone may come back.
        most_open: streams served at the same time.
    """

    def __init__(self, *, kept_s: float = KEPT_S, most_open: int = MOST_OPEN) -> None:
        self._kept_s, self._most_open = kept_s, most_open
        self._records: dict[str, _Record] = {}
        self._num_open = 0

    @asynccontextmanager
    async def open(
        self, request: str, make: Make, last_event_id: str | None = None
    ) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
        """The events to send for a request; leaving the block stops what makes them.

        Args:
            request: what was asked, word for word.
            make: begins the answer; called again, it must begin the same one.
            last_event_id: the last event that the client saw, if it comes back.

        Raises:
            StreamGone: there is nothing to go on with.
            TooManyStreams: as many as can be served are open.
        """
        if self._num_open >= self._most_open:
            raise TooManyStreams(f"{self._num_open} streams are open, as many as this server takes; try again later")
        self._forget_old()
        record, seen = self._find(request, last_event_id) if last_event_id else (self._begin(request, make), 0)
        record.left_at = None
        self._num_open += 1
        try:
            async with aclosing(self._events(record, seen)) as events:
                yield events
        finally:
            self._num_open -= 1
            record.left_at = time.monotonic()

    async def _events(self, record: _Record, seen: int) -> AsyncGenerator[ServerSentEvent, None]:
        record.reader = reader = object()
        for number in range(seen, len(record.said)):
            yield record.sent(number + 1)
        if record.is_over:
            return
        rest = guarded(unsaid(record.make(), tuple(record.said)), before=record.text)
        async with aclosing(as_async(rest)) as events:
            async for event in events:
                if record.reader is not reader:
                    return
                # Whether the model is alive is said by comments, which come when nothing else does.
                if not (isinstance(event, Status) and event.key == "thinking"):
                    record.said.append(event)
                    yield record.sent(len(record.said))

    def _begin(self, request: str, make: Make) -> _Record:
        record = _Record(secrets.token_urlsafe(12), request, make)
        self._records[record.name] = record
        return record

    def _find(self, request: str, last_event_id: str) -> tuple[_Record, int]:
        known = re.fullmatch(r"([\w-]+):(\d{1,9})", last_event_id)
        record = self._records.get(known[1]) if known else None
        if known is None or record is None or int(known[2]) > len(record.said):
            raise StreamGone(
                f"the stream of Last-Event-ID {last_event_id[:60]!r} is not kept (for {self._kept_s:.0f} s after its "
                "connection ends it is); ask again without that header"
            )
        if record.request != request:
            raise StreamGone("the stream of that Last-Event-ID answers another request; send the first one again")
        return record, int(known[2])

    def _forget_old(self) -> None:
        """Let go of streams whose time is over, and of the longest left if there are too many or too long ones."""
        now = time.monotonic()
        left = sorted((one.left_at, one.name) for one in self._records.values() if one.left_at is not None)
        too_many = len(self._records) - MOST_KEPT
        for place, (left_at, name) in enumerate(left):
            is_too_long = len(self._records[name].said) > MOST_EVENTS
            if place < too_many or is_too_long or now - left_at > self._kept_s:
                del self._records[name]
