"""Who may use the model next: so many calls at once, the rest in bounded queues, one a key, served in turn.

Within a key the first to come is served first; between keys the turn goes round, so nobody's hundred calls keep
another's one waiting. Everything happens on one event loop. Nothing here knows what a call does.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from demos.api.faults import ApiFault, Code

__all__ = ["Gate", "closing_fault"]

LEAST_WAIT_S, MOST_WAIT_S = 1.0, 60.0
PACE_SHARE = 0.2


def closing_fault() -> ApiFault:
    """What a caller hears when the server is about to end."""
    message = "服务正在关闭，请稍后重试 / the server is closing; try again later"
    return ApiFault(Code.OVERLOADED, message, retry_after_s=5)


class Gate:
    """Lets calls through.

    Args:
        slots: calls that are served at the same time.
        most_waiting: calls of one owner that may wait; a further one is refused.
    """

    def __init__(self, *, slots: int, most_waiting: int) -> None:
        self.slots, self._free, self._most_waiting = slots, slots, most_waiting
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._is_closed = False
        self._pace_s = LEAST_WAIT_S

    @property
    def waiting(self) -> int:
        """Calls that wait, of all owners."""
        return sum(map(len, self._queues.values()))

    @property
    def running(self) -> int:
        return self.slots - self._free

    def require_room(self, owner: str) -> None:
        """See whether another call of this owner may wait, without taking a place.

        Raises:
            ApiFault: its queue is full, or the server is closing.
        """
        if self._is_closed:
            raise closing_fault()
        queued = len(self._queues.get(owner, ()))
        if not self._free and queued >= self._most_waiting:
            wait_s = min(MOST_WAIT_S, max(LEAST_WAIT_S, self._pace_s * queued / self.slots))
            raise ApiFault(
                Code.TOO_MANY_AT_ONCE,
                f"并发过高，已有 {queued} 个请求在排队 / {queued} calls of this key are waiting, as many as may",
                retry_after_s=wait_s,
            )

    @asynccontextmanager
    async def slot(self, owner: str, *, is_patient: bool = False) -> AsyncIterator[None]:
        """A place at the model for the length of the block.

        Args:
            is_patient: wait however long the queue is: work that was accepted before.

        Raises:
            ApiFault: as ``require_room``, also while waiting.
        """
        if not is_patient or self._is_closed:
            self.require_room(owner)
        await self._enter(owner)
        began = time.monotonic()
        try:
            yield
        finally:
            self._pace_s += PACE_SHARE * (time.monotonic() - began - self._pace_s)
            self._leave()

    def close(self) -> None:
        """Let nobody in any more; whoever waits is told."""
        self._is_closed = True
        for queue in self._queues.values():
            for turn in queue:
                if not turn.done():
                    turn.set_exception(closing_fault())
        self._queues.clear()

    async def _enter(self, owner: str) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave()  # the place was given in the same moment
            elif (queue := self._queues.get(owner)) is not None and turn in queue:
                queue.remove(turn)
                if not queue:
                    del self._queues[owner]
            raise

    def _leave(self) -> None:
        while self._queues:
            owner, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._queues[owner] = queue  # behind the other owners
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
