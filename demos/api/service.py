"""The character service: everything that one server holds, and what every route does with a call.

A route reads its own kind of body and writes its own kind of answer; between the two all of them come through here: who
calls, how often, whether the same was asked before, and what happens when the client leaves. Nothing here knows a wire
format.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from limits import RateLimitItem, parse_many
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from core.data.sqlite_file import SqliteFile
from core.errors import SettingsError
from core.llm.models import parse_spec
from core.retrieval.locks import held_lock
from demos.api.answers import Answer
from demos.api.authorization import LOCAL, Caller, authorized
from demos.api.calls import Call
from demos.api.database import open_database
from demos.api.event_stream import client_gone
from demos.api.faults import ApiFault, Code
from demos.api.gate import Gate, closing_fault
from demos.api.generation import Answering
from demos.api.keys import KeyStore
from demos.api.metrics import Metrics
from demos.api.task_runner import TaskRunner
from demos.api.tasks import Task, TaskStore, other_use
from demos.loopback import is_loopback

if TYPE_CHECKING:
    from demos.wiring import Services

__all__ = ["ApiService", "ApiSettings", "open_keys", "service_folder"]

DATABASE_FILE = "service.sqlite3"
SERVER_SLOTS, SCRIPT_SLOTS = 16, 256
MOST_WORKERS = 16
MOST_KEY_CHARS = 255

T = TypeVar("T")
_log = logging.getLogger("novelscope.api")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """How much the service takes on.

    Attributes:
        queue: calls of one key that may wait for the model.
        open_tasks: asynchronous tasks of one key that may be open.
        rate: how many calls a key may make, as ``"60/minute"``; several are parted by ``;``, and none by being empty.
        kept_days: for which the result of a task can be read.
        log_prompts: write what is asked and answered into the log.
    """

    queue: int = 256
    open_tasks: int = 10_000
    rate: str = ""
    kept_days: float = 7.0
    log_prompts: bool = False

    def __post_init__(self) -> None:
        for name in ("queue", "open_tasks"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}, wanted 1 or more")
        if not 0 < self.kept_days <= 36_500:
            raise SettingsError(f"kept_days is {self.kept_days}, wanted more than 0 and at most 36,500")
        self.limits()

    def limits(self) -> list[RateLimitItem]:
        """The rate, taken apart.

        Raises:
            SettingsError: it cannot be read.
        """
        try:
            return parse_many(self.rate) if self.rate.strip() else []
        except ValueError as wrong:
            raise SettingsError(
                f"rate is {self.rate!r}, wanted a form such as 60/minute or 10/second;500/hour"
            ) from wrong


def service_folder(home: Path) -> Path:
    """Where a library keeps what belongs to the service."""
    return home / "api"


@contextlib.contextmanager
def open_keys(home: Path) -> Iterator[KeyStore]:
    """The keys of a library, for a command that changes them while a server may run."""
    folder = service_folder(home)
    with contextlib.closing(open_database(folder / DATABASE_FILE)) as database:
        yield KeyStore(database, folder)


class ApiService:
    """What one server holds.

    Attributes:
        keys, answering, tasks, metrics: of the service.
        is_ready: whether tasks are run and calls are taken.
    """

    def __init__(self, services: Services, settings: ApiSettings, database: SqliteFile, keys: KeyStore) -> None:
        self.settings, self._services, self._database = settings, services, database
        self.keys = keys
        slots = _slots_of(services.settings.model)
        gate = Gate(slots=slots, most_waiting=self.settings.queue)
        self.tasks = TaskStore(self._database, most_open=self.settings.open_tasks)
        self.metrics = Metrics(
            waiting=lambda: gate.waiting, running=lambda: gate.running, open_tasks=self.tasks.count_open
        )
        self.answering = Answering(services, gate, self.metrics, log_prompts=self.settings.log_prompts)
        self._limits = self.settings.limits()
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._slots = slots
        self._runner: TaskRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: set[tuple[str, str]] = set()

    @classmethod
    @contextlib.contextmanager
    def open(cls, services: Services, settings: ApiSettings | None = None) -> Iterator[ApiService]:
        """The service of a library, for the length of the block; no other process may serve it meanwhile.

        Raises:
            LibraryBusy: another process does.
            DatabaseError: the service's file cannot be used.
        """
        folder = service_folder(services.settings.home)
        with (
            held_lock(folder / "service.lock", "serving the API"),
            contextlib.closing(open_database(folder / DATABASE_FILE)) as database,
            # Keys are looked up by every call, and must not wait until a task is written.
            open_keys(services.settings.home) as keys,
        ):
            yield cls(services, settings or ApiSettings(), database, keys)

    @property
    def is_ready(self) -> bool:
        return self._runner is not None and not self._services.is_closing.is_set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run tasks for the length of the block; those that are under way at its end are put back."""
        kept_s, workers = self.settings.kept_days * 86_400, min(self._slots, MOST_WORKERS)
        self._runner = TaskRunner(self.tasks, self.answering, workers=workers, kept_s=kept_s)
        self._loop = asyncio.get_running_loop()
        await self._runner.start()
        try:
            yield
        finally:
            self.answering.gate.close()
            await self._runner.close()
            self.answering.close()

    def begin_closing(self) -> None:
        """Let no new call in, and end those that wait; from any thread or signal handler."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.answering.gate.close)

    async def caller(self, request: Request) -> Caller:
        """Who calls, if that may be.

        Raises:
            ApiFault: the caller does not prove who it is, or calls too often.
        """
        caller = authorized(request.headers.get("authorization"), self.keys)
        request.state.owner = caller.owner
        if caller.owner == LOCAL and not _is_from_here(request):
            # A web page of somebody's can make a browser send requests to this machine.
            message = (
                "未配置 API Key 时只服务本机 / without a key only this machine is served: novelscope key create NAME"
            )
            raise ApiFault(Code.NO_AUTHORIZATION, message)
        for item in self._limits:
            if not await self._limiter.hit(item, caller.owner):
                free_at = (await self._limiter.get_window_stats(item, caller.owner)).reset_time
                message = f"请求过于频繁，上限 {item.amount} 次 / at most {self.settings.rate} calls of a key are taken"
                raise ApiFault(Code.TOO_OFTEN, message, retry_after_s=max(1.0, free_at - time.time()))
        return caller

    async def answer(self, call: Call, request: Request) -> tuple[Answer, bool]:
        """The whole answer, and whether it was given before; the model stops when the client leaves.

        Raises:
            ApiFault: the call is refused or broke off.
        """
        async with self.asked_once(call, request) as kept:
            if kept is not None:
                return kept, True
            self.answering.check(call)
            answer = await _unless_gone(request, self.answering.whole(call))
            await self.keep(call, request, answer)
            return answer, False

    async def check(self, call: Call, request: Request) -> None:
        """See whether a call can be answered by a stream, while it can still be refused in another way.

        Raises:
            ApiFault: it cannot.
        """
        async with self.asked_once(call, request) as kept:
            if kept is None:
                self.answering.check(call)

    async def pieces(self, call: Call, kept: Answer | None) -> AsyncGenerator[str | Answer, None]:
        """The answer as it is made, or one that was kept.

        Raises:
            ApiFault: the call is refused or broke off.
        """
        if kept is not None:
            yield kept.text
            yield kept
            return
        async with contextlib.aclosing(self.answering.pieces(call)) as pieces:
            async for piece in pieces:
                yield piece

    @contextlib.asynccontextmanager
    async def asked_once(self, call: Call, request: Request) -> AsyncIterator[Answer | None]:
        """The answer that this call was given before under its ``Idempotency-Key``; no other asks in the meantime.

        Raises:
            ApiFault: the key is at work, was used for something else, or is too long.
        """
        key = idempotency_key(request)
        if key is None:
            yield None
            return
        mark = (call.owner, key)
        if mark in self._asked:
            message = "同一 Idempotency-Key 的请求正在处理 / a request with this Idempotency-Key is being answered"
            raise ApiFault(Code.RUNNING_ALREADY, message, retry_after_s=1)
        self._asked.add(mark)
        try:
            kept = await run_in_threadpool(self.tasks.kept, call, key)
            if kept is not None and kept[0] is None:
                raise other_use()  # it was a task's
            yield None if kept is None else kept[0]
        finally:
            self._asked.discard(mark)

    async def keep(self, call: Call, request: Request, answer: Answer) -> None:
        """Keep the answer for whoever repeats the request, if it has an ``Idempotency-Key``."""
        if (key := idempotency_key(request)) is not None:
            await run_in_threadpool(self.tasks.keep, call, key, answer)

    async def submit(self, call: Call, request: Request) -> Task:
        """Take a task.

        Raises:
            ApiFault: it is refused.
        """
        self.answering.names.spec_of(call.model)
        if not self.is_ready or self._runner is None:
            raise closing_fault()
        task = await run_in_threadpool(self.tasks.submit, call, idempotency_key(request))
        self._runner.wake()
        return task

    async def task(self, task_id: str, owner: str) -> Task:
        """A task of this owner.

        Raises:
            ApiFault: there is none.
        """
        return await run_in_threadpool(self.tasks.get, task_id, owner)

    async def cancel(self, task_id: str, owner: str) -> Task:
        """End a task of this owner.

        Raises:
            ApiFault: there is none.
        """
        task = await run_in_threadpool(self.tasks.cancel, task_id, owner)
        if self._runner is not None and task.state == "failed":
            self._runner.cancelled(task.id)
        return task


def idempotency_key(request: Request) -> str | None:
    """What the client calls this request, so that it can send it again.

    Raises:
        ApiFault: it is empty or too long.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= MOST_KEY_CHARS:
        message = f"Idempotency-Key 参数非法 / Idempotency-Key has {len(key)} characters, wanted 1 to {MOST_KEY_CHARS}"
        raise ApiFault(Code.INVALID, message)
    return key


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The work's result; the work is cancelled when the client closes the connection.

    Raises:
        ClientGone: it did.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(client_gone(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ApiFault(Code.BAD_REQUEST, "连接已断开 / the connection was closed", status=499)
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(leaving, working, return_exceptions=True)


def _is_from_here(request: Request) -> bool:
    """Whether the request names this machine as its host, and no other as its origin."""
    origin = request.headers.get("origin")
    hosts = [request.url.hostname, urlsplit(origin).hostname if origin else request.url.hostname]
    return all(map(is_loopback, hosts))


def _slots_of(spec: str) -> int:
    """Calls that the default model answers at the same time."""
    # A server has a queue of its own; a model in this process has all cores busy with one call.
    return {"openai": SERVER_SLOTS, "scripted": SCRIPT_SLOTS}.get(parse_spec(spec).kind, 1)
