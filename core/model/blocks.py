"""The blocks that all decoders are made of: norms, attention, MLP.

Differentiable and plain. Each takes its switches from ``DecoderConfig``; the linear layers are ordinary modules, so an
inference engine may put low-bit ones in their place. Nothing here knows a checkpoint or a cache's memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.model.config import DecoderConfig
from core.model.rotary import apply_rotary

__all__ = ["MLP", "Attend", "Attention", "Cache", "GrowingCache", "LayerNorm", "RMSNorm", "attend", "make_norm"]

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]


class Cache(Protocol):
    """Keeps the keys and values of earlier tokens."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values, (batch, kv_heads, seq, head_dim), behind those kept; return all of them."""


class GrowingCache:
    """A cache that grows by concatenation: through it gradients flow, so a trainer's learnt prefix can be its start."""

    def __init__(self, start: list[tuple[Tensor, Tensor]] | None = None) -> None:
        self._kept = dict(enumerate(start or []))

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if layer in self._kept:
            old_keys, old_values = self._kept[layer]
            keys, values = torch.cat([old_keys, keys], dim=2), torch.cat([old_values, values], dim=2)
        self._kept[layer] = keys, values
        return keys, values


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * (weight + offset), in float32.

    Source:
        arXiv:1910.07467.
    """

    def __init__(self, dim: int, epsilon: float, offset: float = 0.0) -> None:
        super().__init__()
        self.epsilon, self.offset = epsilon, offset
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.float() + self.offset
        return F.rms_norm(x.float(), weight.shape, weight, self.epsilon).to(x.dtype)


class LayerNorm(nn.Module):
    """The ordinary layer norm with weight and bias, in float32."""

    def __init__(self, dim: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x.float(), self.weight.shape, self.weight.float(), self.bias.float(), self.epsilon)
        return normed.to(x.dtype)


def make_norm(config: DecoderConfig, dim: int | None = None) -> nn.Module:
    """A norm of the configured kind over the hidden size, or over ``dim`` channels."""
    dim = config.hidden_dim if dim is None else dim
    if config.norm == "layer":
        return LayerNorm(dim, config.norm_epsilon)
    return RMSNorm(dim, config.norm_epsilon, config.norm_offset)


def attend(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    """What each query gathers, (batch, num_heads, seq_len, head_dim), in the dtype of the keys.

    Args:
        queries: (batch, num_heads, seq_len, head_dim).
        keys, values: (batch, num_kv_heads, columns, head_dim).
        visible: (batch, seq_len, columns), True where seen; None: plainly causal, with nothing in front.
    """
    return F.scaled_dot_product_attention(
        queries.to(keys.dtype),
        keys,
        values,
        attn_mask=None if visible is None else _additive(visible, keys.dtype),
        is_causal=visible is None and queries.shape[2] > 1,
        scale=scale,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )


class Attention(nn.Module):
    """Multi-head attention with grouped keys and values.

    The projections of queries, keys and values are one matrix, in this order, whatever order a checkpoint has.

    Attributes:
        attend: how queries gather values; an inference engine may put what suits its device in this place.
    """

    attend: Attend

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer, self.attend = config, layer, attend
        self.rotary = config.rotary_of(layer)
        self.qkv = nn.Linear(config.hidden_dim, config.qkv_rows, bias=config.has_qkv_bias)
        self.out = nn.Linear(config.num_heads * config.head_dim, config.hidden_dim, bias=config.has_attention_out_bias)
        if config.has_qk_norm:
            self.q_norm = make_norm(config, config.head_dim)
            self.k_norm = make_norm(config, config.head_dim)

    def forward(
        self, x: Tensor, tables: tuple[Tensor, Tensor], visible: Tensor | None, cache: Cache | None = None
    ) -> Tensor:
        """What the tokens gather from one another, (batch, seq_len, hidden_dim).

        Args:
            x: (batch, seq_len, hidden_dim).
            tables: cosines and sines for this layer's kind.
            visible: (batch, seq_len, columns), True where seen; None: plainly causal.
        """
        config = self.config
        batch, length, _ = x.shape
        heads = self.qkv(x).view(batch, length, -1, config.head_dim).transpose(1, 2)
        queries, keys, values = heads.split([config.num_heads, config.num_kv_heads, config.num_kv_heads], dim=1)
        if config.has_qk_norm:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        queries, keys = apply_rotary(self.rotary, queries, *tables), apply_rotary(self.rotary, keys, *tables)
        if cache is not None:
            keys, values = cache.append(self.layer, keys, values)
        attended = self.attend(queries, keys, values, visible, config.softmax_scale)
        return self.out(attended.transpose(1, 2).reshape(batch, length, -1).to(x.dtype))


class MLP(nn.Module):
    """down(act(gate) * up), gate and up in one matrix, gate first; or down(act(up)) without a gate."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        inner = config.feed_forward_dim
        self.up = nn.Linear(config.hidden_dim, inner * (2 if config.is_gated else 1), bias=config.has_mlp_bias)
        self.down = nn.Linear(inner, config.hidden_dim, bias=config.has_mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        raised = self.up(x)
        if self.config.is_gated:
            gate, raised = raised.chunk(2, dim=-1)
            return self.down(self._activate(gate) * raised)
        return self.down(self._activate(raised))

    def _activate(self, x: Tensor) -> Tensor:
        return F.silu(x) if self.config.activation == "silu" else F.gelu(x, approximate="tanh")


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    # The smallest number instead of -inf: a row of padding that sees nothing becomes uniform, not NaN.
    hidden = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return hidden.masked_fill(~visible, torch.finfo(dtype).min)[:, None]
