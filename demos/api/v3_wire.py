"""The older interface's bytes: envelopes, and events that its clients can read, careless ones included.

Those clients compare lines by fixed prefixes, so a colon is followed by no space, fields stand in one order, and a
piece of text does not begin with a space where that can be helped. Nothing here knows where the text comes from.

Source:
    ../shared/specs/characterglm_api.md, sections 4 to 6.
"""

from __future__ import annotations

import json
from typing import Any

from demos.api.answers import Answer
from demos.api.faults import ApiFault, v3_refusal

__all__ = ["V3Text", "v3_add", "v3_error", "v3_finish", "v3_success", "v3_task"]


def v3_success(data: dict[str, Any]) -> dict[str, Any]:
    """The envelope of everything that went well."""
    return {"code": 200, "msg": "操作成功", "success": True, "data": data}


def v3_task(
    request_id: str, task_id: str, status: str, answer: Answer | None = None, failure: str | None = None
) -> dict[str, Any]:
    """What is told of a call: whole when it is done, and only its name and state before."""
    data: dict[str, Any] = {"request_id": request_id, "task_id": task_id, "task_status": status}
    if answer is not None:
        data["choices"] = [{"role": "assistant", "content": answer.text}]
        data["usage"] = answer.usage
    if failure is not None:
        data["fail_reason"] = failure
    return data


class V3Text:
    """Cuts an answer's pieces so that none begins with a space and no line end is split.

    A Latin letter or sign is held back until the next piece has come, since the space that may follow has to stand
    behind it. Other characters go out at once.

    Attributes:
        said: everything that was sent.
    """

    def __init__(self) -> None:
        self.said = ""
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be sent of the text so far; may be empty."""
        text = self._held + piece
        kept = text.rstrip(" \r") if text.endswith((" ", "\r")) else text
        # The blanks that end the text belong behind what follows only if something does.
        held_from = len(kept) - 1 if kept and kept[-1].isascii() and kept[-1] != "\n" else len(kept)
        self._held = text[held_from:]
        return self._send(text[:held_from])

    def flush(self) -> str:
        """What is left at the end."""
        text, self._held = self._held, ""
        return self._send(text)

    def _send(self, text: str) -> str:
        # A carriage return ends a line of the stream, whatever stands behind it.
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        self.said += text
        return text


def v3_add(stream_id: str, text: str) -> bytes:
    """An event with a piece of the answer, which must not be empty."""
    return _event(stream_id, "add", text)


def v3_finish(stream_id: str, request_id: str, answer: Answer) -> bytes:
    """The last event of an answer; its data is empty, for some clients append it."""
    meta = {"request_id": request_id, "task_id": stream_id, "task_status": "SUCCESS", "usage": answer.usage}
    return _event(stream_id, "finish", "", json.dumps(meta, separators=(",", ":")))


def v3_error(stream_id: str, fault: ApiFault) -> bytes:
    """The last event where the call was refused or broke off."""
    return _event(stream_id, "error", json.dumps(v3_refusal(fault), ensure_ascii=False, separators=(",", ":")))


def _event(stream_id: str, event: str, text: str, meta: str | None = None) -> bytes:
    lines = [f"id:{stream_id}", f"event:{event}"]
    # A parser takes one space away; where the text begins with one, it is given one to take.
    lines += [f"data: {line}" if line.startswith(" ") else f"data:{line}" for line in text.split("\n")]
    if meta is not None:
        lines.append(f"meta:{meta}")
    return ("\n".join(lines) + "\n\n").encode()
