"""Choose the next token from the scores of one step.

The order of the filters is that of transformers: repetition, temperature, top-k, top-p. Nothing here runs a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.llm.backend import SamplingSettings

if TYPE_CHECKING:
    from torch import Generator, Tensor

__all__ = ["choose_token"]


def choose_token(logits: Tensor, seen_ids: Tensor, sampling: SamplingSettings, generator: Generator) -> int:
    """The id of the next token.

    Args:
        logits: scores of one step, (vocab,), float32; changed in place.
        seen_ids: ids of the prompt and the answer so far, (seq_len,), on the device of ``logits``.
        generator: source of chance, on the device of ``logits``.

    Source:
        CTRL, arXiv:1909.05858, section 4.1 (repetition penalty); arXiv:1904.09751 (top-p).
    """
    import torch

    if sampling.repetition_penalty != 1:
        scores = logits[seen_ids]
        penalty = sampling.repetition_penalty
        logits[seen_ids] = torch.where(scores < 0, scores * penalty, scores / penalty)
    if sampling.temperature == 0:
        return int(logits.argmax())
    logits /= sampling.temperature
    num_kept = min(sampling.top_k or len(logits), len(logits))
    if sampling.top_p == 1 and num_kept == len(logits):
        return int(torch.multinomial(torch.softmax(logits, dim=-1), 1, generator=generator))
    scores, ids = logits.topk(num_kept)
    odds = torch.softmax(scores, dim=-1)
    if sampling.top_p < 1:
        # A token stays if those before it fall short of top_p, so that the likeliest always does.
        odds[odds.cumsum(dim=-1) - odds >= sampling.top_p] = 0
    return int(ids[torch.multinomial(odds, 1, generator=generator)])
