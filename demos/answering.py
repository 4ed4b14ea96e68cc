"""One answer on its way to a page: the model is stopped when nobody reads on, and the server's log says so.

The log names an answer by a random mark and counts its tokens. Questions and answers are never logged.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Generator
from contextlib import closing

from core.chains.events import Done, Event, Failed, Token
from core.errors import NovelscopeError
from demos.wiring import Services

__all__ = ["watched", "watched_text"]

_log = logging.getLogger("novelscope.answers")


def watched(events: Generator[Event, None, None], services: Services) -> Generator[Event, None, None]:
    """The same events; closing this closes them, and the indexer gives way while they come."""
    return _watched(events, services, lambda event: isinstance(event, Token), _ending)


def watched_text(pieces: Generator[str, None, None], services: Services) -> Generator[str, None, None]:
    """The same pieces of text, watched in the same way."""
    return _watched(pieces, services, bool, lambda piece: None)


def _watched(items: Generator, services: Services, counts: Callable, ending: Callable) -> Generator:  # type: ignore[type-arg]
    mark, tokens, end = secrets.token_hex(2), 0, "stopped"
    _log.info("answer %s begins", mark)
    try:
        with closing(items), services.indexer.give_way():
            for item in items:
                tokens += bool(counts(item))
                end = ending(item) or end
                yield item
                if services.is_closing.is_set():
                    return
        end = "done" if end == "stopped" else end
    except NovelscopeError:
        end = "failed"
        raise
    finally:
        _log.info("answer %s %s after %d pieces", mark, end, tokens)


def _ending(event: Event) -> str | None:
    return "done" if isinstance(event, Done) else "failed" if isinstance(event, Failed) else None
