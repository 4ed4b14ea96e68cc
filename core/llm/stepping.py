"""A generator driven from an event loop: each step in a thread of its own, closed without waiting for one.

A step is asked for when the reader is ready for it, so nothing is ever computed ahead. Nothing here knows what a step
computes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["step_async"]

T = TypeVar("T")


async def step_async(
    items: Generator[T, None, None],
    *,
    name: str = "novelscope-step",
    batch_s: float = 0.0,
    worker: ThreadPoolExecutor | None = None,
) -> AsyncGenerator[T, None]:
    """The same items; closing this, or cancelling the task that reads it, closes the generator after its step.

    Args:
        name: of the thread.
        batch_s: take items for so long before handing them over, where they come faster than threads can take turns;
            0 hands over each by itself.
        worker: whose threads take the steps; it must have one for each generator that is driven at the same time. None
            makes a thread for this one: in the loop's shared pool, requests that wait for the model would hold the
            threads that the one being served needs for its next token.
    """
    steps = _Steps(items)
    loop = asyncio.get_running_loop()
    own = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name) if worker is None else None
    try:
        while taken := await loop.run_in_executor(worker or own, steps.take, batch_s):
            for item in taken:
                yield item
    finally:
        steps.close()
        if own is not None:
            own.shutdown(wait=False)


class _Steps(Generic[T]):
    """Takes the steps of a generator in a worker thread.

    A running generator cannot be closed from outside, so whoever leaves last closes it: the event loop when no step
    is running, else the worker thread when its step ends.
    """

    def __init__(self, items: Generator[T, None, None]) -> None:
        self._items = items
        self._stepping = threading.Lock()
        self._is_abandoned = False

    def take(self, batch_s: float) -> list[T]:
        """The next item, and those that follow within ``batch_s``; empty at the end."""
        taken: list[T] = []
        try:
            with self._stepping:
                until = time.monotonic() + batch_s
                while not self._is_abandoned:
                    try:
                        taken.append(next(self._items))
                    except StopIteration:
                        return taken
                    if time.monotonic() >= until:
                        return taken
                return []
        finally:
            if self._is_abandoned:
                self.close()

    def close(self) -> None:
        self._is_abandoned = True
        if self._stepping.acquire(blocking=False):
            try:
                self._items.close()
            finally:
                self._stepping.release()
