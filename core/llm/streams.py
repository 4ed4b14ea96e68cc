"""Streams of events that keep their promises, whatever makes them and whoever reads them.

A guarded stream ends in exactly one terminal event, keeps what was shown when something breaks, and stops its model
within one token when it is closed or told to stop. Everything is pulled: an event is made when its reader asks for it,
so a slow reader never makes anything pile up. Nothing here knows a book.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import closing
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage

from core.errors import NovelscopeError
from core.llm.events import TERMINAL, Done, Event, Failed, Status, Stopped, Token, UsageReport
from core.llm.stepping import step_async

__all__ = ["as_async", "guarded", "model_events"]

UNEXPECTED = "something went wrong that was not foreseen; the log says what"
ENDED_EARLY = "the answer broke off without an end; ask again"

_log = logging.getLogger("novelscope.chains")


def guarded(
    events: Generator[Event, None, None], *, halt: threading.Event | None = None, before: str = ""
) -> Generator[Event, None, None]:
    """The same events with exactly one terminal event at the end.

    Args:
        events: may end without one, raise, or go on after one.
        halt: set from any thread, it ends the stream with ``Stopped`` after the event that is being made.
        before: text that was said before these events, for a stream that goes on.
    """
    said = [before]
    with closing(events):
        try:
            for event in events:
                if not isinstance(event, TERMINAL) and halt is not None and halt.is_set():
                    event = Stopped("".join(said))
                if isinstance(event, Token) and event.chapter is None:
                    said.append(event.text)
                yield event
                if isinstance(event, TERMINAL):
                    return
            yield Failed(ENDED_EARLY, "".join(said))
        except NovelscopeError as wrong:
            yield Failed(str(wrong), "".join(said))
        except Exception:
            # A library's own exception: its text may hold a prompt or an address, so it goes to the log alone.
            _log.exception("a stream broke")
            yield Failed(UNEXPECTED, "".join(said))


def as_async(events: Generator[Event, None, None]) -> AsyncGenerator[Event, None]:
    """The same events for an event loop; leave it through ``contextlib.aclosing``, and the model stops."""
    return step_async(events, name="novelscope-events")


def model_events(
    model: BaseChatModel, messages: Sequence[BaseMessage], *, halt: threading.Event | None = None, **keywords: Any
) -> Generator[Event, None, None]:
    """What any LangChain chat model answers, as guarded events.

    Args:
        halt: as ``guarded``.
        keywords: of the model's call.
    """
    return guarded(_model_events(model, messages, keywords), halt=halt)


def _model_events(
    model: BaseChatModel, messages: Sequence[BaseMessage], keywords: dict[str, Any]
) -> Generator[Event, None, None]:
    began, first_token_s, usage, reason = time.monotonic(), 0.0, None, "stop"
    said: list[str] = []
    chunks = model.stream(list(messages), **keywords)
    with closing(chunks):  # type: ignore[type-var]  # declared as an iterator, made as a generator
        for chunk in chunks:
            reason = chunk.response_metadata.get("finish_reason") or reason
            usage = chunk.usage_metadata or usage
            if not chunk.text:
                if chunk.chunk_position != "last":
                    # The model is alive; whoever reads the events may close them here.
                    yield Status("thinking")
                continue
            if not said:
                first_token_s = time.monotonic() - began
            said.append(chunk.text)
            yield Token(chunk.text)
    if usage is not None:
        elapsed_s = time.monotonic() - began
        yield UsageReport(usage["input_tokens"], usage["output_tokens"], first_token_s, elapsed_s)
    yield Done("".join(said), found=True, finish_reason=reason)
