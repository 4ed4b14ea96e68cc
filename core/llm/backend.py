"""The seam between the chat model and whatever makes tokens.

A backend is handed a prompt and sampling settings and gives back text, piece by piece, then a ``Finish``. That is all
a new family of models has to supply. Nothing here knows LangChain, torch or a prompt format.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from core.data.dialogues import Turn
from core.errors import SettingsError

__all__ = ["Finish", "ModelFacts", "Prompt", "SamplingSettings", "TokenBackend", "one_at_a_time"]

Prompt: TypeAlias = str | Sequence[Turn]
"""A dialogue to answer, or a text to continue word for word (what a model without chat training is good at)."""

QUEUE_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How the next token is chosen and when an answer ends.

    Attributes:
        temperature: 0 always takes the likeliest token; the settings below it are then without effect.
        top_k: only so many of the likeliest tokens are drawn from; 0 for all.
        top_p: only the likeliest tokens that together have this probability are drawn from; 1 for all.
        min_p: only tokens at least this fraction as likely as the likeliest are drawn from; 0 for all.
        repetition_penalty: divides the odds of tokens already seen, greedy or not; 1 for none.
        logit_bias: added to the score of each of these token ids.
        seed: makes drawing reproducible; None draws anew each time.
        stop: strings that end the answer; they are not part of it.
    """

    max_new_tokens: int = 512
    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 0.9
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise SettingsError(f"max_new_tokens is {self.max_new_tokens}, wanted 1 or more")
        if not 0 <= self.temperature <= 5:
            raise SettingsError(f"temperature is {self.temperature}, wanted 0 (greedy) to 5")
        if self.top_k < 0:
            raise SettingsError(f"top_k is {self.top_k}, wanted 0 (all) or more")
        if not 0 < self.top_p <= 1:
            raise SettingsError(f"top_p is {self.top_p}, wanted more than 0 and at most 1")
        if not 0 <= self.min_p < 1:
            raise SettingsError(f"min_p is {self.min_p}, wanted 0 (all) to less than 1")
        if not 0 < self.repetition_penalty <= 10:
            raise SettingsError(f"repetition_penalty is {self.repetition_penalty}, wanted more than 0 and at most 10")
        if isinstance(self.stop, str) or not all(isinstance(text, str) and text for text in self.stop):
            raise SettingsError(f"stop is {self.stop!r}, wanted a tuple of strings that are not empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a model in this process is made of.

    Attributes:
        bits: of a weight in a layer.
        memory_bytes: of all weights in memory.
        bytes_per_token: read from memory for each token.
        device: as torch names devices.
    """

    architecture: str
    bits: int
    memory_bytes: int
    bytes_per_token: int
    device: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The last thing a stream yields.

    Attributes:
        reason: "stop" when the model or a stop string ended the answer, "length" when the limit did.
    """

    reason: Literal["stop", "length"]
    input_tokens: int
    output_tokens: int


class TokenBackend(Protocol):
    """Turns a prompt into text pieces."""

    @property
    def name(self) -> str:
        """The model's name, as shown to a person."""

    @property
    def context_tokens(self) -> int:
        """Tokens that the model holds, prompt and answer together."""

    @property
    def is_chat(self) -> bool:
        """False for a base model: it answers a dialogue passably, and continues a well-made text better."""

    @property
    def facts(self) -> ModelFacts | None:
        """What the model is made of; None where it does not run in this process."""

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens that the prompt takes, with all that the model's format adds; an estimate for a remote model."""

    def stream(self, prompt: Prompt, sampling: SamplingSettings) -> Iterator[str | Finish]:
        """Text pieces as they are made, then one ``Finish``.

        An empty piece is a sign of life, sent while the request waits for its turn or the prompt is being read, so
        that whoever reads can close the stream then too. Closing the iterator stops the model within one token.

        Raises:
            PromptTooLong: before the first piece of text; a prompt is never cut.
            ModelError: the model cannot answer.
        """


def one_at_a_time(lock: threading.Lock, start: Callable[[], Iterator[str | Finish]]) -> Iterator[str | Finish]:
    """The stream that ``start`` makes, begun once the lock is free and holding it to the end.

    While another request holds the lock an empty piece comes every ``QUEUE_POLL_S``: a generator that blocks could not
    be closed by the thread that waits for it.
    """
    while not lock.acquire(timeout=QUEUE_POLL_S):
        yield ""
    try:
        yield from start()
    finally:
        lock.release()
