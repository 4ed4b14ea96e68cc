"""Choose the next token from the scores of one step.

The order of the filters is that of transformers: bias, repetition, temperature, top-k, top-p, min-p. Nothing here runs
a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from core.errors import SettingsError

__all__ = ["Choice", "choose_token"]

FIRST_LIKELIEST = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How a token is chosen.

    Attributes:
        temperature: 0 always takes the likeliest token; the three below it are then without effect.
        top_k: only so many of the likeliest tokens are drawn from; 0 for all.
        top_p: only the likeliest tokens that together have this probability are drawn from; 1 for all.
        min_p: only tokens at least this fraction as likely as the likeliest are drawn from; 0 for all.
        repetition_penalty: divides the odds of tokens already seen, greedy or not; 1 for none.
        logit_bias: added to the score of each of these ids.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
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

    @property
    def is_plain_greedy(self) -> bool:
        """Whether the likeliest token is taken with nothing changed before."""
        return self.temperature == 0 and self.repetition_penalty == 1 and not self.logit_bias


def choose_token(logits: Tensor, seen_ids: Tensor, choice: Choice, generator: Generator) -> int:
    """The id of the next token.

    Args:
        logits: scores of one step, (vocab,), float32; changed in place.
        seen_ids: ids of the prompt and the answer so far, (seq_len,).
        generator: source of chance.

    Raises:
        SettingsError: a biased id is not in the vocabulary.

    Source:
        CTRL, arXiv:1909.05858, section 4.1 (repetition penalty); arXiv:1904.09751 (top-p); arXiv:2407.01082 (min-p).
    """
    if choice.logit_bias:
        biased = list(choice.logit_bias)
        if not all(0 <= token_id < len(logits) for token_id in biased):
            raise SettingsError(f"logit_bias names an id outside the vocabulary of {len(logits)}")
        logits[biased] += torch.tensor(list(choice.logit_bias.values()), dtype=logits.dtype)
    if choice.repetition_penalty != 1:
        scores = logits[seen_ids]
        penalty = choice.repetition_penalty
        logits[seen_ids] = torch.where(scores < 0, scores * penalty, scores / penalty)
    if choice.temperature == 0:
        return int(logits.argmax())
    logits /= choice.temperature
    if choice.top_k:
        scores, ids = logits.topk(min(choice.top_k, len(logits)))
        odds = torch.softmax(scores, dim=-1)
    else:
        odds, ids = _likeliest(torch.softmax(logits, dim=-1), choice)
    if choice.top_p < 1:
        # A token stays if those before it fall short of top_p, so that the likeliest always does.
        odds[odds.cumsum(dim=-1) - odds >= choice.top_p] = 0
    if choice.min_p > 0:
        odds[odds < choice.min_p * odds[0]] = 0
    place = _draw(odds, generator)
    return int(ids[place])


def _likeliest(odds: Tensor, choice: Choice) -> tuple[Tensor, Tensor]:
    """The likeliest tokens, in order, as far as top-p and min-p can reach, and their ids; all tokens without those.

    Sorting a vocabulary of 262,144 takes longer than computing the token, and a few hundred are nearly always enough.
    """
    if choice.top_p == 1 and choice.min_p == 0:
        return odds, torch.arange(len(odds))
    count = FIRST_LIKELIEST
    while True:
        head, ids = odds.topk(min(count, len(odds)))
        reaches_top_p = choice.top_p < 1 and float(head.sum()) >= choice.top_p
        if count >= len(odds) or reaches_top_p or float(head[-1]) < choice.min_p * float(head[0]):
            return head, ids
        count *= 8


def _draw(odds: Tensor, generator: Generator) -> int:
    """A place drawn by its odds, which need not add up to 1; torch's own draw takes 5 ms for 262,144 of them."""
    sums = odds.double().cumsum(dim=-1)
    point = torch.rand((), generator=generator, dtype=torch.float64) * sums[-1]
    return min(int(torch.searchsorted(sums, point, right=True)), len(odds) - 1)
