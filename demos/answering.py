"""One answer on its way to a page: the model is stopped when nobody reads on, and the server's log says so.

The log names an answer by a random mark and counts its tokens. Questions and answers are never logged.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import closing
from threading import Thread

from core.errors import NovelscopeError
from core.llm.chat_model import NovelChatModel
from core.llm.events import Done, Event, Failed, Stopped, Token
from core.llm.streams import guarded
from demos.wiring import Services

__all__ = ["Loading", "watched", "watched_text"]

LOOK_EVERY_S = 0.25

_log = logging.getLogger("novelscope.answers")


def watched(events: Generator[Event, None, None], services: Services) -> Generator[Event, None, None]:
    """The same events; closing this closes them, and the indexer gives way while they come.

    They end with ``Stopped`` when the program ends.
    """
    guard = guarded(events, halt=services.is_closing)
    return _watched(guard, services, lambda event: isinstance(event, Token), _ending)


def watched_text(pieces: Generator[str, None, None], services: Services) -> Generator[str, None, None]:
    """The same pieces of text, watched in the same way."""
    return _watched(_until_closing(pieces, services), services, bool, lambda piece: None)


class Loading:
    """A model on its way into memory, in a thread of its own.

    Leaving it alone lets the loading go on: whoever asks next finds the model there.
    """

    def __init__(self, services: Services, spec: str) -> None:
        self._share, self._model = 0.0, Future[NovelChatModel]()
        Thread(target=self._load, args=(services, spec), name="novelscope-load", daemon=True).start()

    def shares(self) -> Iterator[float]:
        """Which share of the bytes has been read, now and then until the model is there."""
        while not wait([self._model], timeout=LOOK_EVERY_S).done:
            yield self._share

    def model(self) -> NovelChatModel:
        """The model, once it is there.

        Raises:
            NovelscopeError: as ``Services.chat_model``.
        """
        return self._model.result()

    def _load(self, services: Services, spec: str) -> None:
        def heard(done: int, total: int) -> None:
            self._share = done / max(1, total)

        try:
            self._model.set_result(services.chat_model(spec, on_progress=heard))
        except BaseException as wrong:
            self._model.set_exception(wrong)


def _watched(items: Generator, services: Services, counts: Callable, ending: Callable) -> Generator:  # type: ignore[type-arg]
    mark, tokens, end = secrets.token_hex(2), 0, None
    _log.info("answer %s begins", mark)
    try:
        with closing(items), services.indexer.give_way():
            for item in items:
                tokens += bool(counts(item))
                end = ending(item) or end
                yield item
        end = end or ("stopped" if services.is_closing.is_set() else "done")
    except NovelscopeError:
        end = "failed"
        raise
    finally:
        _log.info("answer %s %s after %d pieces", mark, end or "stopped", tokens)


def _until_closing(pieces: Generator[str, None, None], services: Services) -> Generator[str, None, None]:
    with closing(pieces):
        for piece in pieces:
            yield piece
            if services.is_closing.is_set():
                return


def _ending(event: Event) -> str | None:
    return {Done: "done", Failed: "failed", Stopped: "stopped"}.get(type(event))
