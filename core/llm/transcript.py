"""A dialogue as text that a base model can continue.

A base model never learnt to answer; it continues what it reads. So it is shown a transcript with an instruction and
example exchanges in the language of the last user turn, and stopped where it would begin to speak for the user. Nothing
here knows tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.data.dialogues import Turn

__all__ = ["Transcript", "render_transcript", "without_indent"]

HAN = re.compile("[\u3400-\u9fff]")


@dataclass(frozen=True, slots=True)
class Transcript:
    """Text to continue, and the strings that end the continuation."""

    text: str
    stops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Manner:
    user: str
    assistant: str
    instruction: str
    examples: tuple[tuple[str, str], ...]


CHINESE = _Manner(
    user="用户：",
    assistant="助手：",
    instruction="下面是用户和助手的对话。助手用简短、准确的中文回答。",
    examples=(
        ("你好。", "你好！有什么可以帮你的吗？"),
        ("《红楼梦》的作者是谁？", "《红楼梦》的作者是清代的曹雪芹。"),
    ),
)
ENGLISH = _Manner(
    user="User: ",
    assistant="Assistant: ",
    instruction="This is a conversation between a user and an assistant. The assistant gives short, correct answers.",
    examples=(
        ("Hello.", "Hello! How can I help you?"),
        ("Who wrote Pride and Prejudice?", "Jane Austen wrote Pride and Prejudice."),
    ),
)


def render_transcript(turns: Sequence[Turn]) -> Transcript:
    """The dialogue as a transcript that ends where the assistant is to speak.

    System turns join the instruction. Examples stand before the dialogue only while it has no exchange of its own.
    """
    asked = next((turn.content for turn in reversed(turns) if turn.role == "user"), "")
    manner = CHINESE if HAN.search(asked) else ENGLISH
    lines = ["\n".join([manner.instruction, *(turn.content for turn in turns if turn.role == "system")]), ""]
    if not any(turn.role == "assistant" for turn in turns):
        for question, answer in manner.examples:
            lines += [manner.user + question, manner.assistant + answer, ""]
    for turn in turns:
        if turn.role == "user":
            lines.append(manner.user + turn.content)
        elif turn.role == "assistant":
            lines += [manner.assistant + turn.content, ""]
    # Without the space: tokenizers join it to the word that follows, so a text that ends in one derails the model.
    text = "\n".join(lines).rstrip("\n") + "\n" + manner.assistant.rstrip()
    speakers = {label.strip() for known in (CHINESE, ENGLISH) for label in (known.user, known.assistant)}
    return Transcript(text, ("\n\n", *sorted("\n" + speaker for speaker in speakers)))


def without_indent(pieces: Iterator[str]) -> Iterator[str]:
    """The same stream without the white space that a transcript's "Assistant:" leaves to the answer."""
    has_begun = False
    for piece in pieces:
        text = piece if has_begun else piece.lstrip()
        has_begun = has_begun or bool(text)
        yield text
