"""The character service's answers as JSON schemas, for the page of the interface: the wire modules are what makes them.

``tests/demos/test_api_service.py`` holds what is sent against these.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "ModelList",
    "V3Refusal",
    "V3Success",
    "V4Completion",
    "V4Refusal",
    "V4TaskState",
    "inlined_schema",
]

TaskStatus = Literal["PROCESSING", "SUCCESS", "FAIL"]


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Usage(_Sent):
    """Tokens, in the model's own counting; persona and history are part of the prompt."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Said(_Sent):
    role: Literal["assistant"]
    content: str


class V3Data(_Sent):
    """What is told of a call; choices and usage only once it succeeded."""

    request_id: str
    task_id: str
    task_status: TaskStatus
    choices: list[Said] | None = None
    usage: Usage | None = None
    fail_reason: str | None = None


class V3Success(_Sent):
    code: Literal[200]
    msg: str
    success: Literal[True]
    data: V3Data


class V3Refusal(_Sent):
    """Why nothing came of a call; the code is a number."""

    code: int
    msg: str
    success: Literal[False]


class Choice(_Sent):
    index: int
    finish_reason: Literal["stop", "length"]
    message: Said


class V4Completion(_Sent):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    request_id: str
    choices: list[Choice]
    usage: Usage


class V4TaskState(_Sent):
    """What is told of a task; choices and usage only once it succeeded."""

    id: str
    request_id: str
    model: str
    task_status: TaskStatus
    created: int | None = None
    choices: list[Choice] | None = None
    usage: Usage | None = None
    fail_reason: str | None = None


class Mistake(_Sent):
    code: str
    message: str


class V4Refusal(_Sent):
    """Why nothing came of a call; the code is a string."""

    error: Mistake


class ModelInfo(_Sent):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(_Sent):
    object: Literal["list"]
    data: list[ModelInfo]


def inlined_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON schema without references: a body that is read by hand has no other way onto the page."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            name = value.get("$ref")
            return resolved(parts[name.rpartition("/")[2]]) if name else {k: resolved(v) for k, v in value.items()}
        return [resolved(item) for item in value] if isinstance(value, list) else value

    return resolved(schema)
