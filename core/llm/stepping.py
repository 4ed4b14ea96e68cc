"""A generator driven from an event loop: each step in a thread of its own, closed without waiting for one.

A step is asked for when the reader is ready for it, so nothing is ever computed ahead. Nothing here knows what a step
computes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["step_async"]

T = TypeVar("T")


async def step_async(items: Generator[T, None, None], *, name: str = "novelscope-step") -> AsyncGenerator[T, None]:
    """The same items; closing this, or cancelling the task that reads it, closes the generator after its step."""
    steps = _Steps(items)
    loop = asyncio.get_running_loop()
    # A thread of its own: in the loop's shared pool, requests that wait for the model would hold the threads that
    # the one being served needs for its next token.
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
    try:
        while (taken := await loop.run_in_executor(worker, steps.next)) is not None:
            yield taken[0]
    finally:
        steps.close()
        worker.shutdown(wait=False)


class _Steps(Generic[T]):
    """Takes the steps of a generator in a worker thread.

    A running generator cannot be closed from outside, so whoever leaves last closes it: the event loop when no step
    is running, else the worker thread when its step ends.
    """

    def __init__(self, items: Generator[T, None, None]) -> None:
        self._items = items
        self._stepping = threading.Lock()
        self._is_abandoned = False

    def next(self) -> tuple[T] | None:
        """The next item in a tuple; None at the end."""
        try:
            with self._stepping:
                if self._is_abandoned:
                    return None
                for item in self._items:
                    return (item,)
                return None
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
