"""Several generators at once, a bounded number of them, whose items arrive as they are made.

Threads run ahead of the reader by a few items at most. When the reader leaves, every generator is closed after its
step and every thread has ended before the leaving is over, so nothing goes on that nobody waits for. Nothing here knows
what an item is.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Generic, TypeVar

__all__ = ["interleave"]

T = TypeVar("T")
ROOM, LOOK_EVERY_S = 16, 0.05


def interleave(
    makers: Sequence[Callable[[], Generator[T, None, None]]], *, limit: int
) -> Generator[tuple[int, T], None, None]:
    """Pairs of (number of the maker, item), those of one maker in its order.

    Args:
        limit: generators that run at the same time; 1 runs them one after another, without a thread.

    Raises:
        Exception: whatever the first generator to fail raises; all others are closed then.
    """
    if limit == 1:
        for number, make in enumerate(makers):
            with closing(make()) as items:
                for item in items:
                    yield number, item
        return
    crew = _Crew(makers)
    threads = [
        threading.Thread(target=crew.work, name=f"novelscope-map-{number}", daemon=True)
        for number in range(min(limit, len(makers)))
    ]
    for thread in threads:
        thread.start()
    try:
        running = len(threads)
        while running:
            number, taken, trouble = crew.out.get()
            if trouble is not None:
                raise trouble
            if taken is None:
                running -= 1
            else:
                yield number, taken[0]
    finally:
        crew.leave.set()
        for thread in threads:
            thread.join()


class _Crew(Generic[T]):
    """What the threads share: generators that wait, and a short queue of what was made."""

    def __init__(self, makers: Sequence[Callable[[], Generator[T, None, None]]]) -> None:
        self.out: queue.Queue[tuple[int, tuple[T] | None, BaseException | None]] = queue.Queue(ROOM)
        self.leave = threading.Event()
        self._waiting = iter(enumerate(makers))
        self._guard = threading.Lock()

    def work(self) -> None:
        number = -1
        try:
            while not self.leave.is_set():
                with self._guard:
                    number, make = next(self._waiting, (-1, None))
                if make is None:
                    break
                with closing(make()) as items:
                    for item in items:
                        if not self._put((number, (item,), None)):
                            return
            self._put((number, None, None))
        except BaseException as trouble:
            self._put((number, None, trouble))

    def _put(self, entry: tuple[int, tuple[T] | None, BaseException | None]) -> bool:
        """Whether the entry was taken; False once the reader has left."""
        while not self.leave.is_set():
            try:
                self.out.put(entry, timeout=LOOK_EVERY_S)
                return True
            except queue.Full:
                continue
        return False
