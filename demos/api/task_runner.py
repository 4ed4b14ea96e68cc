"""Runs asynchronous tasks, in line with the calls that somebody waits for, until the server ends.

As many workers as the model takes calls each take a task, answer it and write the answer down. Nothing here knows where
tasks come from or who reads them.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial

from starlette.concurrency import run_in_threadpool

from core.errors import NovelscopeError
from demos.api.faults import ApiFault, Code
from demos.api.generation import Answering, unforeseen
from demos.api.tasks import Task, TaskStore

__all__ = ["TaskRunner"]

LOOK_EVERY_S, SWEEP_EVERY_S = 5.0, 600.0

_log = logging.getLogger("novelscope.api")


class TaskRunner:
    """The workers of one server, all of one event loop.

    Args:
        kept_s: for which a task is kept after its end.
    """

    def __init__(self, store: TaskStore, answering: Answering, *, workers: int, kept_s: float) -> None:
        self._store, self._answering = store, answering
        self._num_workers, self._kept_s = workers, kept_s
        self._calls = asyncio.Semaphore(0)
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._last_owner = ""
        self._is_closing = False

    async def start(self) -> None:
        """Take up what an earlier server left, and begin."""
        again, failed = await run_in_threadpool(self._store.recover)
        if again or failed:
            _log.warning("%d tasks of a server that broke off run again, %d failed by it", again, failed)
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._num_workers)]
        self._workers.append(asyncio.create_task(self._sweep()))

    def wake(self) -> None:
        """Say that a task was submitted."""
        self._calls.release()

    def cancelled(self, task_id: str) -> None:
        """Stop the model where it is at a task that its owner has ended."""
        if (running := self._under_way.get(task_id)) is not None:
            running.cancel()

    async def close(self) -> None:
        """Put back what is under way and end."""
        self._is_closing = True
        for running in self._under_way.values():
            running.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way.values())
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        while not self._is_closing:
            try:
                task = await run_in_threadpool(self._store.claim, self._last_owner)
            except NovelscopeError as wrong:
                _log.error("%s", wrong)
                task = None
            if task is None:
                # A while, not for ever: a full disk that refused may have room again.
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._calls.acquire(), timeout=LOOK_EVERY_S)
                continue
            self._last_owner = task.owner
            self._under_way[task.id] = running = asyncio.create_task(self._answer(task))
            try:
                await asyncio.wait({running})
            finally:
                del self._under_way[task.id]

    async def _answer(self, task: Task) -> None:
        try:
            answer = await self._answering.whole(task.call, is_patient=True)
        except asyncio.CancelledError:
            self._store.put_back(task)  # its owner's end of it, if that was why, has been written already
            raise
        except ApiFault as fault:
            if fault.code == Code.OVERLOADED:
                self._store.put_back(task)
                return
            end = partial(self._store.finish, task, None, fault.message)
        except Exception as wrong:
            end = partial(self._store.finish, task, None, unforeseen(wrong).message)
        else:
            end = partial(self._store.finish, task, answer)
        await run_in_threadpool(end)

    async def _sweep(self) -> None:
        while True:
            try:
                await run_in_threadpool(self._store.forget_older_than, self._kept_s)
            except NovelscopeError as wrong:
                _log.error("%s", wrong)
            await asyncio.sleep(SWEEP_EVERY_S)
