"""Bytes as a response that streams: comments while there is silence, and an end when the client is gone or stuck.

sse-starlette does this with five tasks for each stream and patches the server's way to end; with a hundred streams at a
time every piece came half as late again. Here one task sends, one waits for the client to leave, and a timer watches.
Nothing here knows what the events mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

__all__ = ["KEEP_ALIVE_S", "EventStream", "client_gone"]

KEEP_ALIVE_S = 10.0
STUCK_S = 60.0
"""A client that takes nothing for so long would keep the model from everybody else."""
COMMENT = b": keep-alive\n\n"


class EventStream(Response):
    """A response of events; whatever way it ends, the generator is closed.

    Args:
        events: each whole and in its final form.
        media_type: with its character set.
        is_last: close the connection after it.
    """

    def __init__(
        self, events: AsyncGenerator[bytes, None], media_type: str = "text/event-stream", *, is_last: bool = False
    ) -> None:
        super().__init__()
        self._events = events
        del self.headers["Content-Length"]
        self.headers.update({"Content-Type": media_type, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        if is_last:
            self.headers["Connection"] = "close"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send_all(send))
        leaving = asyncio.ensure_future(client_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            sending.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sender = _Sender(send)
        try:
            async for event in self._events:
                await sender.send(event)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            sender.close()
            await self._events.aclose()


class _Sender:
    """Sends events one after another, a comment after each silence, and gives up on a client that takes none."""

    def __init__(self, send: Send) -> None:
        self._send, self._task = send, asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._comments: set[asyncio.Task[None]] = set()
        self._began_at: float | None = None
        self._sent_at = self._loop.time()
        self._timer = self._loop.call_later(KEEP_ALIVE_S, self._look)

    async def send(self, body: bytes) -> None:
        async with self._turn:
            self._began_at = self._loop.time()
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            self._began_at, self._sent_at = None, self._loop.time()

    def close(self) -> None:
        self._timer.cancel()
        for comment in self._comments:
            comment.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        wait_s = KEEP_ALIVE_S
        if self._began_at is not None:
            if now - self._began_at >= STUCK_S and self._task is not None:
                self._task.cancel()
                return
        elif now - self._sent_at >= KEEP_ALIVE_S:
            comment = self._loop.create_task(self.send(COMMENT))
            self._comments.add(comment)
            comment.add_done_callback(self._comments.discard)
        else:
            wait_s -= now - self._sent_at
        self._timer = self._loop.call_later(wait_s, self._look)


async def client_gone(receive: Receive) -> None:
    """Return when the client has closed the connection; the request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
