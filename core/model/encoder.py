"""A post-norm BERT encoder: the forward pass that the bundled embedder needs.

It computes hidden states and mean-pooled, normalised vectors from token ids. It does not know where weights
come from or how a text becomes ids; ``core.retrieval.e5`` reads both from the embedder's file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BertEncoder", "EncoderConfig", "mean_pool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Shape of a BERT encoder."""

    hidden_dim: int
    num_layers: int
    num_heads: int
    feed_forward_dim: int
    max_positions: int
    norm_epsilon: float


class EncoderLayer(nn.Module):
    """x = LN(x + attention(x)); x = LN(x + down(gelu(up(x))))."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        dim, inner = config.hidden_dim, config.feed_forward_dim
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=config.norm_epsilon)
        self.up = nn.Linear(dim, inner)
        self.down = nn.Linear(inner, dim)
        self.output_norm = nn.LayerNorm(dim, eps=config.norm_epsilon)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Hidden states of the next layer.

        Args:
            x: (batch, seq_len, hidden_dim).
            mask: additive, broadcastable to (batch, num_heads, seq_len, seq_len); -inf at padding.
        """
        batch, length, dim = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, dim // self.num_heads)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        x = self.attention_norm(x + self.attention_out(attended.transpose(1, 2).reshape(batch, length, dim)))
        return self.output_norm(x + self.down(F.gelu(self.up(x))))


class BertEncoder(nn.Module):
    """BERT without its pooler.

    The word embedding is a function, not a parameter: a multilingual vocabulary in float32 outweighs the rest of a
    small encoder five times, and a caller may look rows up in a compressed file instead.

    Args:
        word_vectors: maps ids, (batch, seq_len), to vectors, (batch, seq_len, hidden_dim).

    Source:
        BERT, arXiv:1810.04805; exact (erf) GELU.
    """

    def __init__(self, config: EncoderConfig, word_vectors: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.config = config
        self.word_vectors = word_vectors
        self.positions = nn.Parameter(torch.zeros(config.max_positions, config.hidden_dim))
        self.token_type = nn.Parameter(torch.zeros(config.hidden_dim))
        self.embedding_norm = nn.LayerNorm(config.hidden_dim, eps=config.norm_epsilon)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))

    def forward(self, ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states of the last layer, (batch, seq_len, hidden_dim).

        Args:
            ids: (batch, seq_len), padded on the right with any valid id.
            attention_mask: (batch, seq_len), True at tokens and False at padding.
        """
        x = self.word_vectors(ids) + self.positions[: ids.shape[1]] + self.token_type
        x = self.embedding_norm(x)
        mask = torch.zeros(attention_mask.shape, dtype=x.dtype).masked_fill(~attention_mask, float("-inf"))
        for layer in self.layers:
            x = layer(x, mask[:, None, None, :])
        return x


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Unit vectors, (batch, hidden_dim): the mean over each row's tokens, L2-normalised."""
    weights = attention_mask.to(hidden.dtype)[:, :, None]
    return F.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)
