"""Makes vectors in the background: a thread of the web demo, or a process of its own that outlives ``add``.

Whoever holds the library's vector lock embeds every book that lacks vectors. The thread holds it as long as the demo
runs, so that searches use the open index, and looks for new books every few seconds; the process ends when nothing
is left to do.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from core.errors import LibraryBusy, NovelscopeError
from core.retrieval.indexing import EmbeddingProgress, embed_missing, has_pending
from core.retrieval.library import Library
from demos.settings import Settings

__all__ = ["Indexer", "finish_vectors", "run_worker", "spawn_worker"]

LOOK_EVERY_S = 1.0
# However much is asked, a batch gets through now and then.
PATIENCE_S = 20.0
PATIENT_WORKER_S = 5.0
MAX_LOG_BYTES = 1_000_000
PURPOSE = "making vectors"

_log = logging.getLogger("novelscope.indexer")


class Indexer:
    """The web demo's background thread.

    Attributes:
        progress: the last batch's progress; None before the first.
        seconds_per_chunk: how long a chunk took in the last batches; None before two of them.
        trouble: why vectors cannot be made now, in one sentence; None when all is well.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._stop = threading.Event()
        self._resume = threading.Event()
        self._resume.set()
        self._answers = 0
        self._answers_changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.progress: EmbeddingProgress | None = None
        self.seconds_per_chunk: float | None = None
        self._heard_at = 0.0
        self.trouble: str | None = None

    def start(self) -> None:
        """Begin; calling it again does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End after the batch under way."""
        self._stop.set()
        self._resume.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    @property
    def is_paused(self) -> bool:
        return not self._resume.is_set()

    def pause(self) -> None:
        """Stop after the batch under way; what is made stays, and searches use it."""
        self._resume.clear()

    def resume(self) -> None:
        """Go on where it paused."""
        self._resume.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._library.vector_store("the web demo") as store:
                    self.trouble = None
                    # Once at first even if every vector is on disk: the index may lag behind since a kill.
                    is_level = False
                    while not self._stop.is_set():
                        self._resume.wait()
                        if not is_level or has_pending(self._library):
                            is_level = embed_missing(
                                self._library, store, on_progress=self._heard, should_stop=self._should_stop
                            )
                        self._stop.wait(LOOK_EVERY_S)
            except LibraryBusy as busy:
                self.trouble = str(busy)
                self._stop.wait(LOOK_EVERY_S)
            except NovelscopeError as wrong:
                # Lexical search works on; a person reads this on the page and in the log.
                self.trouble = str(wrong)
                _log.error("vectors cannot be made: %s", wrong)
                self._stop.wait(10 * LOOK_EVERY_S)
            except Exception as wrong:  # a full disk, a damaged index: a thread that died would not be noticed
                self.trouble = f"vectors cannot be made: {wrong}"
                _log.exception("vectors cannot be made")
                self._stop.wait(10 * LOOK_EVERY_S)

    @contextlib.contextmanager
    def give_way(self) -> Iterator[None]:
        """Make no new batch while the block runs: a reader who waits for an answer gets the processor."""
        with self._answers_changed:
            self._answers += 1
        try:
            yield
        finally:
            with self._answers_changed:
                self._answers -= 1
                self._answers_changed.notify_all()

    def _heard(self, progress: EmbeddingProgress) -> None:
        now, last = time.monotonic(), self.progress
        if last is not None and last.book_id == progress.book_id and progress.done > last.done:
            pace = (now - self._heard_at) / (progress.done - last.done)
            # The last batch counts half: an answer in between slows one batch, not the estimate.
            self.seconds_per_chunk = pace if self.seconds_per_chunk is None else (pace + self.seconds_per_chunk) / 2
        self.progress, self._heard_at = progress, now
        with self._answers_changed:
            self._answers_changed.wait_for(lambda: self._answers == 0 or self._stop.is_set(), timeout=PATIENCE_S)

    def _should_stop(self) -> bool:
        return self._stop.is_set() or self.is_paused


def spawn_worker(settings: Settings) -> None:
    """Start a process that makes the missing vectors of the settings' library and outlives this one."""
    settings.home.mkdir(parents=True, exist_ok=True)
    path = settings.home / "worker.log"
    is_long = path.exists() and path.stat().st_size > MAX_LOG_BYTES
    with path.open("wb" if is_long else "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "demos", "worker"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=settings.environment(),
            cwd=Path(__file__).resolve().parent.parent,
        )
    # It is meant to outlive us; without this Popen would warn that it still runs.
    process.returncode = 0


def run_worker(library: Library, should_stop: Callable[[], bool] = lambda: False) -> bool:
    """Make every missing vector; whether all are made.

    Raises:
        LibraryBusy: another process makes them already.
    """
    # Whoever holds the lock may be about to end without having seen the newest book.
    with library.vector_store(PURPOSE, wait_s=PATIENT_WORKER_S) as store:
        return embed_missing(library, store, should_stop=should_stop)


def finish_vectors(library: Library, book_id: str, on_progress: Callable[[EmbeddingProgress], None]) -> None:
    """Return when every chunk of the book has its vector, whoever makes them.

    While another process makes them its progress is reported; when it ends early, this one goes on.

    Raises:
        BookNotFound: the book was removed meanwhile.
    """
    while not (info := library.info(book_id)).is_dense:
        try:
            with library.vector_store(PURPOSE) as store:
                embed_missing(
                    library, store, on_progress=on_progress, should_stop=lambda: library.info(book_id).is_dense
                )
        except LibraryBusy:
            on_progress(EmbeddingProgress(book_id, info.title, info.dense_done, info.chunks))
            time.sleep(LOOK_EVERY_S)
