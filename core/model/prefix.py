"""The P-tuning v2 prefix: learnt keys and values in front of every layer.

Source:
    P-Tuning v2, arXiv:2110.07602; tensor names and order as ChatGLM's published code has them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.errors import ModelLoadError
from core.model.config import DecoderConfig

__all__ = ["PrefixEncoder"]


class PrefixEncoder(nn.Module):
    """Makes each layer's keys and values from one embedding, directly or through a small MLP.

    Raises:
        ModelLoadError: the configuration describes no prefix.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        prefix = config.prefix
        if prefix is None:
            raise ModelLoadError("the configuration has no pre_seq_len; wanted the length of a P-tuning prefix")
        self.config = config
        self.embedding = nn.Embedding(prefix.length, prefix.embedding_dim)
        made_dim = config.num_layers * 2 * config.num_kv_heads * config.head_dim
        self.trans: nn.Module | None = None
        if prefix.projection_dim is not None:
            self.trans = nn.Sequential(
                nn.Linear(prefix.embedding_dim, prefix.projection_dim),
                nn.Tanh(),
                nn.Linear(prefix.projection_dim, made_dim),
            )

    def forward(self, batch: int) -> list[tuple[Tensor, Tensor]]:
        """For each layer its keys and values, (batch, kv_heads, length, head_dim); the keys are not rotated."""
        config = self.config
        rows = self.embedding.weight
        if self.trans is not None:
            rows = self.trans(rows)
        # Along a row lie, layer by layer, the keys of all heads and then their values.
        parts = rows.view(len(rows), 2 * config.num_layers, config.num_kv_heads, config.head_dim)
        spread = parts.permute(1, 2, 0, 3)[:, None].expand(-1, batch, -1, -1, -1)
        pairs = torch.unbind(spread, dim=0)
        return list(zip(pairs[0::2], pairs[1::2], strict=True))
