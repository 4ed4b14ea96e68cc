"""How a dialogue is written down for a model: every family's own way, and the templates that checkpoints bring.

What a person says is always text: where it looks like a control token, the token's id is not used. Nothing here cuts a
text into pieces or knows a network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.engine.chat_template import ChatTemplate, SafeEncoder
from core.engine.replies import drop_metadata_line, full_width_marks, name_training_date, strip_ends, strip_start
from core.engine.tokenizer import Tokenizer
from core.errors import ModelError

__all__ = [
    "ChatGLM2Format",
    "ChatGLM3Format",
    "EncodedPrompt",
    "FirstChatGLMFormat",
    "Message",
    "PlainFormat",
    "PromptFormat",
    "TemplateFormat",
]

Message = tuple[str, str]
"""Role (system, user or assistant) and content."""


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """What the model is given, and what ends its answer."""

    ids: tuple[int, ...]
    stop_ids: frozenset[int]
    stop_strings: tuple[str, ...] = ()


class PromptFormat(Protocol):
    """How texts and dialogues are written for one model."""

    name: str
    is_chat: bool

    def encode_text(self, text: str) -> EncodedPrompt:
        """A text to be continued word for word."""

    def encode_turns(self, turns: Sequence[Message]) -> EncodedPrompt:
        """A dialogue to be answered.

        Raises:
            ModelError: the model cannot take this dialogue.
        """

    def clean(self, pieces: Iterator[str]) -> Iterator[str]:
        """The reply without what the format puts around it; one piece for each, some of them empty."""


class PlainFormat:
    """A base model's: text in, text out."""

    name, is_chat = "plain", False

    def __init__(self, tokenizer: Tokenizer, stop_ids: frozenset[int], *, opening: Sequence[int]) -> None:
        self._tokenizer, self._stop_ids, self._opening = tokenizer, stop_ids, tuple(opening)

    def encode_text(self, text: str) -> EncodedPrompt:
        """The text behind the token that opens one."""
        return EncodedPrompt((*self._opening, *self._tokenizer.encode(text)), self._stop_ids)

    def encode_turns(self, turns: Sequence[Message]) -> EncodedPrompt:
        """Refused: a base model was never shown a dialogue."""
        raise ModelError("this is a base model without a prompt format; give it a text to continue")

    def clean(self, pieces: Iterator[str]) -> Iterator[str]:
        """The pieces as they are."""
        return pieces


class TemplateFormat(PlainFormat):
    """A dialogue rendered by a Jinja template."""

    is_chat = True

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop_ids: frozenset[int],
        *,
        name: str,
        template: ChatTemplate,
        opening: Sequence[int],
        text_opening: Sequence[int],
    ) -> None:
        """
        Args:
            opening: ids in front of a dialogue that the template does not write.
            text_opening: ids in front of a text to be continued.
        """
        super().__init__(tokenizer, stop_ids, opening=text_opening)
        self.name, self._template, self._turns_opening = name, template, tuple(opening)
        self._encoder = SafeEncoder(tokenizer)

    def encode_turns(self, turns: Sequence[Message]) -> EncodedPrompt:
        """The rendered dialogue, up to where the model is to speak."""
        ids = self._encoder.encode(self._template.render(turns))
        return EncodedPrompt((*self._turns_opening, *ids), self._stop_ids)

    def clean(self, pieces: Iterator[str]) -> Iterator[str]:
        """Without the white space that templates leave to the reply."""
        return strip_start(pieces)


class FirstChatGLMFormat(PlainFormat):
    """ChatGLM-6B: numbered rounds from 0, and the mask token and ``<sop>`` at the end."""

    name, is_chat = "chatglm", True

    def encode_text(self, text: str) -> EncodedPrompt:
        """The text with the mask token and ``<sop>`` behind it."""
        return EncodedPrompt((*self._tokenizer.encode(text), *self._opening), self._stop_ids)

    def encode_turns(self, turns: Sequence[Message]) -> EncodedPrompt:
        """The bare question, or rounds where there were some before."""
        rounds, question = _rounds(turns)
        text = "".join(f"[Round {number}]\n问：{asked}\n答：{said}\n" for number, (asked, said) in enumerate(rounds))
        return self.encode_text(f"{text}[Round {len(rounds)}]\n问：{question}\n答：" if rounds else question)

    def clean(self, pieces: Iterator[str]) -> Iterator[str]:
        """As the published code cleans a reply: ends, the training date, full-width marks beside Chinese."""
        return full_width_marks(name_training_date(strip_ends(pieces)))


class ChatGLM2Format(PlainFormat):
    """ChatGLM2-6B: numbered rounds from 1 behind ``[gMASK] sop``."""

    name, is_chat = "chatglm2", True

    def encode_turns(self, turns: Sequence[Message]) -> EncodedPrompt:
        """All rounds, the last without an answer."""
        rounds, question = _rounds(turns)
        text = "".join(f"[Round {at}]\n\n问：{asked}\n\n答：{said}\n\n" for at, (asked, said) in enumerate(rounds, 1))
        return self.encode_text(f"{text}[Round {len(rounds) + 1}]\n\n问：{question}\n\n答：")

    def clean(self, pieces: Iterator[str]) -> Iterator[str]:
        """As the published code cleans a reply: ends and the training date."""
        return name_training_date(strip_ends(pieces))


class ChatGLM3Format(PlainFormat):
    """ChatGLM3-6B: a role token and a line of metadata before each message, each part cut by itself."""

    name, is_chat = "chatglm3", True

    def encode_turns(self, turns: Sequence[Message]) -> EncodedPrompt:
        """Role, line and text of each message, and the role that is to speak."""
        roles = self._tokenizer.special_tokens
        ids = list(self._opening)
        for role, content in turns:
            ids += [roles[f"<|{role}|>"], *self._tokenizer.encode("\n"), *self._tokenizer.encode(content)]
        return EncodedPrompt((*ids, roles["<|assistant|>"]), self._stop_ids)

    def clean(self, pieces: Iterator[str]) -> Iterator[str]:
        """Without the line of metadata, which is empty in a chat."""
        return name_training_date(strip_ends(drop_metadata_line(pieces)))


def _rounds(turns: Sequence[Message]) -> tuple[list[tuple[str, str]], str]:
    """Questions with their answers, and the last question; what the system says goes in front of the first question.

    Raises:
        ModelError: the dialogue does not end with a question.
    """
    if not turns or turns[-1][0] != "user":
        raise ModelError("the dialogue does not end with what the user says; add the question")
    instruction = [content for role, content in turns if role == "system"]
    rounds: list[tuple[str, str]] = []
    waiting: list[str] = list(instruction)
    for role, content in turns[:-1]:
        if role == "user":
            waiting.append(content)
        elif role == "assistant":
            rounds.append(("\n\n".join(waiting), content))
            waiting = []
    return rounds, "\n\n".join([*waiting, turns[-1][1]])
