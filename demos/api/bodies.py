"""What a client sends to the streams: requests with bounds on every field.

A field that is not listed is refused, so a misspelt one is never silently without effect.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

__all__ = ["AskBody", "ChatBody", "Message", "SummarizeBody"]

MAX_TOKENS = 8192

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000)]
Text = Annotated[str, StringConstraints(max_length=200_000)]
Chapter = Annotated[int, Field(ge=1, le=1_000_000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Message(_Body):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text


class _ModelBody(_Body):
    model: Name | None = Field(None, description="one of the models that this server offers; its default if left out")


class AskBody(_ModelBody):
    """A question about a book."""

    book: Name = Field(description="title, id, or beginning of an id")
    question: Words
    until: Chapter | None = Field(None, description="the bookmark: nothing of a later chapter is read or told")
    history: list[Message] = Field([], max_length=200, description="the conversation so far, oldest first")


class SummarizeBody(_ModelBody):
    """A summary of a book, of some of its chapters, of the story so far, or of one person's part."""

    book: Name = Field(description="title, id, or beginning of an id")
    mode: Literal["book", "recap", "person"] = "book"
    first: Chapter | None = Field(None, description="first chapter; the book's first if left out")
    last: Chapter | None = Field(None, description="last chapter; the book's last if left out")
    until: Chapter | None = Field(None, description="the bookmark: nothing of a later chapter is read or told")
    person: Name | None = Field(None, description="a name as the book writes it; with mode 'person', and only there")


class ChatBody(_ModelBody):
    """A conversation to go on with, and how."""

    messages: list[Message] = Field(min_length=1, max_length=500)
    max_tokens: int = Field(512, ge=1, le=MAX_TOKENS)
    temperature: float = Field(0.7, ge=0, le=5)
    top_p: float = Field(0.9, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    stop: list[Annotated[str, StringConstraints(min_length=1, max_length=200)]] = Field([], max_length=16)

    @model_validator(mode="after")
    def _ends_with_a_user(self) -> ChatBody:
        if self.messages[-1].role != "user":
            raise ValueError("the last message must be the user's")
        return self
