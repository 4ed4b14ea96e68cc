"""From the bytes of a request to a checked body: bounded in size and time, and every mistake in one sentence.

Strings are cleaned of what no file, log or model can hold. Nothing here knows what a field means.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import anyio
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from demos.api.faults import ApiFault, Code

__all__ = ["MAX_BODY_BYTES", "read_body"]

MAX_BODY_BYTES = 2 * 2**20
MOST_DRAINED_BYTES = 32 * 2**20
PATIENCE_S = 30.0
MOST_DEPTH = 64
UNWANTED = re.compile("[\x00\ud800-\udfff]")
REPLACEMENT = "\ufffd"

B = TypeVar("B", bound=BaseModel)


async def read_body(request: Request, kind: type[B]) -> B:
    """The request's body as a ``kind``.

    Raises:
        ApiFault: it is too large, too slow, no JSON, or lacks or misuses a field, which is named.
    """
    data = await _bytes_of(request)
    try:
        value = _cleaned(json.loads(data), MOST_DEPTH)
    except (ValueError, RecursionError) as wrong:
        message = "请求体不是合法的 JSON / the body is not valid JSON, or is nested too deeply"
        raise ApiFault(Code.BAD_REQUEST, message) from wrong
    if not isinstance(value, dict):
        raise ApiFault(Code.BAD_REQUEST, "请求体应为 JSON 对象 / the body must be a JSON object")
    try:
        return kind.model_validate(value)
    except ValidationError as wrong:
        raise _fault_of(wrong) from wrong


async def _bytes_of(request: Request) -> bytes:
    taken, size = bytearray(), 0
    try:
        with anyio.fail_after(PATIENCE_S):
            # What is too much is read and forgotten: a client that is cut off while it sends sees no answer.
            async for piece in request.stream():
                size += len(piece)
                if size <= MAX_BODY_BYTES:
                    taken += piece
                elif size > MOST_DRAINED_BYTES:
                    break
    except TimeoutError as wrong:
        message = f"请求体 {PATIENCE_S:.0f} 秒内未收完 / the body did not arrive within {PATIENCE_S:.0f} s"
        raise ApiFault(Code.BAD_REQUEST, message, status=408) from wrong
    except ClientDisconnect as gone:
        raise ApiFault(Code.BAD_REQUEST, "连接已断开 / the connection was closed") from gone
    if size > MAX_BODY_BYTES:
        message = f"请求体超过 {MAX_BODY_BYTES:,} 字节 / the body holds more than {MAX_BODY_BYTES:,} bytes; send less"
        raise ApiFault(Code.BAD_REQUEST, message, status=413)
    return bytes(taken)


def _cleaned(value: Any, depth: int) -> Any:
    """The value with every character that cannot be encoded, and NUL, replaced.

    Raises:
        ValueError: it is nested more deeply than ``depth``.
    """
    if isinstance(value, str):
        return UNWANTED.sub(REPLACEMENT, value)
    if not isinstance(value, (list, dict)):
        return value
    if not depth:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return [_cleaned(item, depth - 1) for item in value]
    return {_cleaned(name, depth - 1): _cleaned(item, depth - 1) for name, item in value.items()}


def _fault_of(wrong: ValidationError) -> ApiFault:
    """The first mistake, by the field's place; a request is never echoed."""
    first = wrong.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"])) or "body"
    if first["type"] == "missing" or first["input"] is None:
        return ApiFault(Code.MISSING, f"未正常接收到 {place} 参数 / the field {place} is missing")
    what = str(first["msg"]).removeprefix("Value error, ")
    return ApiFault(Code.INVALID, f"{place} 参数非法 / the field {place} is not valid: {what[:1].lower()}{what[1:]}")
