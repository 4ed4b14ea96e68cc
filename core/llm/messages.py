"""LangChain messages in, our turns out.

Nothing here knows a model or its prompt format.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage

from core.data.dialogues import ROLES, Turn
from core.errors import ModelError

__all__ = ["to_turns"]


def to_turns(messages: Sequence[BaseMessage]) -> tuple[Turn, ...]:
    """The messages as turns; text blocks of one message are joined.

    Raises:
        ModelError: there is no message, or one is not text from a system, a user or an assistant.
    """
    if not messages:
        raise ModelError("there is no message to answer; give at least one")
    return tuple(Turn(_role(message), _text(message.content)) for message in messages)


def _role(message: BaseMessage) -> str:
    if isinstance(message, AIMessage) and message.tool_calls:
        raise ModelError("an assistant message calls tools; only text can be sent to this model")
    if isinstance(message, ChatMessage) and message.role in ROLES:
        return message.role
    for kind, role in ((SystemMessage, "system"), (HumanMessage, "user"), (AIMessage, "assistant")):
        if isinstance(message, kind):
            return role
    raise ModelError(f"a message is of type {message.type!r}; only system, human and ai messages can be sent")


def _text(content: str | list[str | dict[Any, Any]]) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for block in content:
        if isinstance(block, str):
            texts.append(block)
        elif block.get("type") == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        else:
            raise ModelError(f"a message holds a block of type {block.get('type')!r}; only text can be sent")
    return "".join(texts)
