"""The newer interface's answers, which are those of OpenAI's chat completions, whole and in chunks.

Chunks escape everything but ASCII, since some clients split lines at Unicode's own line ends. Nothing here knows where
the text comes from.

Source:
    ../shared/specs/characterglm_api.md, section 7.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from demos.api.answers import Answer
from demos.api.faults import ApiFault, v4_refusal

__all__ = ["V4_DONE", "V4Chunks", "v4_completion", "v4_error", "v4_task"]

V4_DONE = b"data: [DONE]\n\n"


def v4_completion(call_id: str, request_id: str, model: str, created: int, answer: Answer) -> dict[str, Any]:
    """A whole answer."""
    return {
        "id": call_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "request_id": request_id,
        "choices": _choices(answer),
        "usage": answer.usage,
    }


def v4_task(
    task_id: str,
    request_id: str,
    model: str,
    status: str,
    created: int,
    answer: Answer | None = None,
    failure: str | None = None,
) -> dict[str, Any]:
    """What is told of a task; clients take it for done where it has choices and usage."""
    told: dict[str, Any] = {"id": task_id, "request_id": request_id, "model": model, "task_status": status}
    if answer is not None:
        told |= {"created": created, "choices": _choices(answer), "usage": answer.usage}
    if failure is not None:
        told["fail_reason"] = failure
    return told


@dataclass(frozen=True, slots=True)
class V4Chunks:
    """The chunks of one stream.

    Attributes:
        has_usage_chunk: whether the usage comes in a chunk of its own, as ``include_usage`` asks; it comes just once.
    """

    call_id: str
    model: str
    created: int
    has_usage_chunk: bool

    def text(self, piece: str, *, is_first: bool) -> bytes:
        """A piece of the answer; the first one names the role."""
        role = {"role": "assistant"} if is_first else {}
        return self._chunk([{"index": 0, "delta": {**role, "content": piece}}])

    def finish(self, answer: Answer) -> bytes:
        """The end of the answer, its usage, and the mark that ends the stream."""
        last = {"index": 0, "finish_reason": answer.finish_reason, "delta": {"role": "assistant", "content": ""}}
        if self.has_usage_chunk:
            return self._chunk([last]) + self._chunk([], answer.usage) + V4_DONE
        return self._chunk([last], answer.usage) + V4_DONE

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
        chunk: dict[str, Any] = {
            "id": self.call_id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        return _data(chunk if usage is None else {**chunk, "usage": usage})


def v4_error(fault: ApiFault) -> bytes:
    """The end of a stream that broke off."""
    return _data(v4_refusal(fault)) + V4_DONE


def _choices(answer: Answer) -> list[dict[str, Any]]:
    message = {"role": "assistant", "content": answer.text}
    return [{"index": 0, "finish_reason": answer.finish_reason, "message": message}]


def _data(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
