"""Attention as the engine computes it where torch's fused one is slow: explicit products, a group of heads at once.

Of many queries on a CPU with bfloat16 instructions that takes half as long, since torch's fused attention does not use
them; of one query on any device nothing is repeated for heads that share their keys. Nothing here knows a layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.engine.cpu import has_bfloat16_products
from core.engine.weights import WIDEN_FROM_TOKENS
from core.model.blocks import attend

__all__ = ["EngineAttention"]

BLOCK_QUERIES = 128
"""Queries computed together: few enough that most columns they cannot see are left out."""


class EngineAttention:
    """Chooses how queries gather values; takes and gives what ``core.model.blocks.attend`` does.

    Args:
        is_causal: no token sees a later one, so columns behind a block of queries need not be computed.
        is_exact: the model is held in float32, and so is its attention.
    """

    def __init__(self, *, is_causal: bool, is_exact: bool) -> None:
        self.is_causal, self.is_exact = is_causal, is_exact

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, scale: float) -> Tensor:
        if queries.device.type == "cpu":
            if self.is_exact or queries.shape[2] < WIDEN_FROM_TOKENS or not has_bfloat16_products():
                return attend(queries, keys, values, visible, scale)
            keys, values = keys.bfloat16(), values.bfloat16()
        elif queries.shape[2] > 1:
            return attend(queries, keys, values, visible, scale)
        return self._in_groups((queries * scale).to(keys.dtype), keys, values, visible)

    def _in_groups(self, queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None) -> Tensor:
        batch, num_heads, length, dim = queries.shape
        num_kv_heads, columns = keys.shape[1], keys.shape[2]
        grouped = queries.view(batch, num_kv_heads, -1, length, dim)
        flat_keys, flat_values = keys.flatten(0, 1).transpose(1, 2), values.flatten(0, 1)
        gathered = torch.empty_like(grouped)
        for start in range(0, length, BLOCK_QUERIES):
            stop = min(start + BLOCK_QUERIES, length)
            end = columns - length + stop if self.is_causal else columns
            block = grouped[:, :, :, start:stop]
            scores = torch.bmm(block.reshape(batch * num_kv_heads, -1, dim), flat_keys[..., :end])
            _hide(scores.view(batch, -1, stop - start, end), visible, start, stop)
            found = torch.bmm(torch.softmax(scores, -1), flat_values[:, :end])
            gathered[:, :, :, start:stop] = found.view(block.shape)
        return gathered.view(batch, num_heads, length, dim)


def _hide(scores: Tensor, visible: Tensor | None, start: int, stop: int) -> None:
    """Give the columns that a query does not see the smallest score, in place.

    Args:
        scores: (batch, num_heads, stop - start, columns).
    """
    smallest = torch.finfo(scores.dtype).min
    if visible is None:
        # Plainly causal: only the block's own columns hold anything that comes later.
        later = torch.ones(stop - start, stop - start, dtype=torch.bool, device=scores.device).triu(1)
        scores[..., start:stop].masked_fill_(later, smallest)
    else:
        scores.masked_fill_(~visible[:, None, start:stop, : scores.shape[-1]], smallest)
