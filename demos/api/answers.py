"""A finished answer: what every way of asking ends in, and what is kept of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

__all__ = ["Answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said.

    Attributes:
        finish_reason: ``"stop"``, or ``"length"`` where the limit ended it.
        prompt_tokens: of persona, history and question, in the model's own counting.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int

    @property
    def usage(self) -> dict[str, int]:
        """The tokens as both generations of the interface name them."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Answer:
        """The answer that ``to_json`` wrote."""
        return cls(**json.loads(text))
