"""Numbers about the service in Prometheus's form: calls, queue, tokens, and how long things take.

Labels come from fixed sets, so that no caller can make the server remember more and more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The counters of one service.

    Args:
        waiting, running, open_tasks: say how many there are when somebody looks.
    """

    def __init__(
        self, *, waiting: Callable[[], float], running: Callable[[], float], open_tasks: Callable[[], float]
    ) -> None:
        self._registry = CollectorRegistry()
        common: Any = {"namespace": "novelscope", "registry": self._registry}
        self.requests = Counter("requests", "Requests answered", ["route", "status"], **common)
        self.request_seconds = Histogram(
            "request_seconds", "From a request to the end of its answer", ["route"], buckets=SECONDS, **common
        )
        self.refusals = Counter("refusals", "Calls refused or broken off, by code", ["code"], **common)
        self.first_token_seconds = Histogram(
            "first_token_seconds", "From a call's turn to its first text", buckets=SECONDS, **common
        )
        self.queue_seconds = Histogram("queue_seconds", "From a call to its turn", buckets=SECONDS, **common)
        self.prompt_tokens = Counter("prompt_tokens", "Tokens read", **common)
        self.completion_tokens = Counter("completion_tokens", "Tokens written", **common)
        self.answers = Counter("answers", "Answers by how they ended", ["end"], **common)
        for name, help_text, look in (
            ("queue_length", "Calls that wait for their turn", waiting),
            ("calls_running", "Calls at the model", running),
            ("tasks_open", "Asynchronous tasks that are not done", open_tasks),
        ):
            Gauge(name, help_text, **common).set_function(look)

    def page(self) -> bytes:
        """Everything as text."""
        return generate_latest(self._registry)
