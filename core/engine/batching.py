"""Several answers at once: prompts of any lengths, padded on the left, one step for all of them.

A matrix is read once for the whole batch, so four answers together take little longer than one. Nothing here knows how
a request is queued.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from core.engine.cache import StaticCache
from core.engine.sampling import Choice, choose_token
from core.engine.turns import Turnstile
from core.model.decoder import Decoder
from core.model.layout import plan

__all__ = ["pad_left", "stream_batch"]


def stream_batch(
    decoder: Decoder,
    cache: StaticCache,
    prompts: Sequence[list[int]],
    limits: Sequence[int],
    *,
    choice: Choice,
    generators: Sequence[torch.Generator],
    stops: frozenset[int],
    turns: Turnstile,
) -> Iterator[list[int | None]]:
    """The next token of every answer, step by step; None for answers that have ended.

    Args:
        cache: empty, with a row for each answer.
        limits: tokens that each answer may have.
        generators: a source of chance for each answer.
        turns: held for one step at a time.
    """
    config = decoder.config
    ids, mask = pad_left(prompts, config.pad_id or 0)
    device = cache.both[0].device
    rows = [torch.tensor(prompt) for prompt in prompts]
    if decoder.prefix is not None:
        with torch.inference_mode():
            cache.seed(decoder.prefix(len(prompts)))
    is_going = [limit > 0 for limit in limits]
    past = 0
    while any(is_going):
        with turns, torch.inference_mode():
            layout = plan(config, ids.to(device), mask.to(device), past=past)
            logits = decoder(ids[:, past:].to(device), cache=cache, layout=layout, last_only=True)[:, -1].cpu()
            cache.advance(ids.shape[1] - past)
            past = ids.shape[1]
            step: list[int | None] = []
            for number, row in enumerate(rows):
                chosen = choose_token(logits[number], row, choice, generators[number]) if is_going[number] else None
                step.append(None if chosen in stops else chosen)
        for number, chosen in enumerate(step):
            if chosen is not None:
                rows[number] = torch.cat([rows[number], torch.tensor([chosen])])
            is_going[number] = chosen is not None and len(rows[number]) - len(prompts[number]) < limits[number]
        if any(chosen is not None for chosen in step):
            yield step
        # An ended answer goes on with padding that nobody reads, so that the others keep their columns.
        column = torch.tensor([[config.pad_id or 0 if chosen is None else chosen] for chosen in step])
        ids, mask = torch.cat([ids, column], dim=1), torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)


def pad_left(sequences: Sequence[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, (batch, longest), the mask True at tokens."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad_id)
    mask = torch.zeros(len(sequences), longest, dtype=torch.bool)
    for row, one in enumerate(sequences):
        ids[row, longest - len(one) :] = torch.tensor(one)
        mask[row, longest - len(one) :] = True
    return ids, mask
