"""What clients of the character service send: one model for each generation of the interface.

Clients write null for whatever they leave out, and send fields that mean nothing here, so both are let pass. Nothing
here knows who answers.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, field_validator

__all__ = ["MOST_CHARS", "MOST_MESSAGES", "Meta", "V3Body", "V4Body"]

MOST_MESSAGES, MOST_CHARS = 1000, 400_000
MOST_TOKENS = 1_000_000

Ident = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Meta(_Lenient):
    """Who speaks with whom."""

    bot_name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    bot_info: Annotated[str, StringConstraints(max_length=100_000)]
    user_name: Annotated[str, StringConstraints(max_length=200)] | None = None
    user_info: Annotated[str, StringConstraints(max_length=100_000)] | None = None


class V3Message(_Lenient):
    role: Literal["user", "assistant", "system"]
    content: Annotated[str, StringConstraints(min_length=1)]


class V3Body(_Lenient):
    """A call of the older interface; the model stands in the path."""

    prompt: list[V3Message] = Field(min_length=1, max_length=MOST_MESSAGES, description="oldest first")
    meta: Meta | None = None
    temperature: Annotated[Number, Field(ge=0, le=1, description="0 always takes the likeliest word")] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    request_id: Ident | None = None
    incremental: bool | None = Field(None, description="false: each event of a stream holds all the text so far")
    return_type: Literal["json_string", "text"] | None = Field(None, description="text comes back plain either way")

    @field_validator("incremental", mode="before")
    @classmethod
    def _from_words(cls, given: Any) -> Any:
        # One client declares it as a string.
        if isinstance(given, str) and given.lower() in ("true", "false"):
            return given.lower() == "true"
        if given is not None and not isinstance(given, bool):
            raise ValueError("true or false is wanted")
        return given


def _joined(given: Any) -> Any:
    """The text of a message that comes in parts."""
    if not isinstance(given, list):
        return given
    if not all(isinstance(part, dict) and part.get("type") == "text" for part in given):
        raise ValueError("only parts of the type text can be read")
    if not all(isinstance(part.get("text"), str) for part in given):
        raise ValueError("a part of the type text holds no text")
    return "".join(part["text"] for part in given)


_PARTS = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                "required": ["type", "text"],
            },
        },
        {"type": "null"},
    ]
}
_STOPS = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": 200},
        {"type": "array", "maxItems": 16, "items": {"type": "string", "minLength": 1, "maxLength": 200}},
        {"type": "null"},
    ]
}


class V4Message(_Lenient):
    role: Literal["system", "user", "assistant", "tool", "developer"]
    content: Annotated[str | None, BeforeValidator(_joined), WithJsonSchema(_PARTS)] = None


class StreamOptions(_Lenient):
    include_usage: Annotated[bool, Field(strict=True)] | None = None


class V4Body(_Lenient):
    """A chat completion, as OpenAI's clients ask for one, with an optional persona."""

    model: Ident
    messages: list[V4Message] = Field(min_length=1, max_length=MOST_MESSAGES, description="oldest first")
    meta: Meta | None = None
    stream: Annotated[bool, Field(strict=True)] | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    do_sample: Annotated[bool, Field(strict=True)] | None = Field(None, description="false takes the likeliest word")
    max_tokens: Annotated[int, Field(strict=True, ge=1, le=MOST_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(strict=True, ge=1, le=MOST_TOKENS)] | None = None
    seed: Annotated[int, Field(strict=True, ge=-(2**63), lt=2**64)] | None = None
    stop: Annotated[
        list[Stop] | None,
        Field(max_length=16),
        BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
        WithJsonSchema(_STOPS),
    ] = None
    n: Annotated[int, Field(strict=True, ge=1, le=1, description="one answer is given to each call")] | None = None
    request_id: Ident | None = None
