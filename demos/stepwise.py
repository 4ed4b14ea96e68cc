"""Long work in a thread of its own, heard step by step by a page; when the page stops listening, the work is told."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Cancelled", "Finished", "stepwise"]

Step = TypeVar("Step")
Result = TypeVar("Result")


class Cancelled(Exception):
    """Raised in the work, out of the call that tells a step, once nobody listens any more."""


@dataclass(frozen=True, slots=True)
class Finished(Generic[Result]):
    """The last step: what the work returned."""

    value: Result


def stepwise(
    work: Callable[[Callable[[Step], None], Callable[[], bool]], Result], *, name: str
) -> Iterator[Step | Finished[Result]]:
    """Yield what the work tells, then its result; closing this cancels the work.

    Args:
        work: is handed a function that tells a step, and one that says whether it was cancelled; it lets
            ``Cancelled`` pass through.
        name: of the thread.
    """
    steps: queue.Queue[Step | Finished[Result] | BaseException] = queue.Queue()
    is_cancelled = threading.Event()

    def tell(step: Step) -> None:
        if is_cancelled.is_set():
            raise Cancelled
        steps.put(step)

    def run() -> None:
        try:
            steps.put(Finished(work(tell, is_cancelled.is_set)))
        except BaseException as wrong:  # raised again where the page waits, if it still does
            steps.put(wrong)

    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        while True:
            step = steps.get()
            if isinstance(step, BaseException):
                raise step
            yield step
            if isinstance(step, Finished):
                return
    finally:
        is_cancelled.set()
