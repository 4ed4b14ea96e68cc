"""Decode one token as fast as torch can without compiling: few operators, written in place where that is allowed.

It computes what ``Decoder.hidden`` computes for one sequence and one token; a test holds the two together. What eager
torch costs here is the number of operators, not arithmetic, so: a sum of squares is a product of a row with itself, the
heads are normed as the layer norm of each beside its negative (which has no mean), rotary pairs turn as complex
numbers, and attention is two batched products, since torch's own ``rms_norm`` and ``scaled_dot_product_attention`` take
longer for one query.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.engine.cache import StaticCache
from core.engine.network import EngineLinear
from core.engine.weights import Product
from core.model.blocks import Attention, RMSNorm
from core.model.config import DecoderConfig
from core.model.decoder import Decoder, DecoderLayer

__all__ = ["StepDecoder", "StepLayer", "fast_norm", "one_row_product"]

FIRST_ANGLES = 1024
LONG_COLUMNS = 160
Norm = Callable[[Tensor], Tensor]


class StepDecoder:
    """One token of one sequence at a time, over the weights of a decoder that the engine built."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.config = decoder, decoder.config
        self.layers = [StepLayer(self.config, number, layer) for number, layer in enumerate(decoder.layers)]
        self.final_norm, self.head = fast_norm(decoder.final_norm), one_row_product(decoder.head)
        self._full = _Angles(decoder.rotary_frequencies)
        config = self.config
        self._local = _Angles(decoder.local_frequencies) if config.local_rotary else self._full

    def logits(self, token_id: int, position: int | tuple[int, int], cache: StaticCache) -> Tensor:
        """Logits of the token after this one, float32, (vocab_size,); the cache grows by one column.

        Args:
            position: of the token; both rows' positions for ChatGLM v1.
        """
        config = self.config
        cache.reserve(cache.length + 1)
        x = self.decoder.embedding(torch.tensor([token_id]))
        if config.embedding_scale != 1:
            x = x * config.embedding_scale
        full, local = self._full.at(position), self._local.at(position)
        for layer in self.layers:
            x = layer(x, local if layer.slides else full, cache)
        cache.advance(1)
        return self.head(self.final_norm(x))[0]


class StepLayer:
    """One block for one token, (1, hidden_dim) in and out, both float32."""

    def __init__(self, config: DecoderConfig, number: int, layer: nn.Module) -> None:
        assert isinstance(layer, DecoderLayer)
        self.number, self.slides = number, config.slides(number)
        self.window = config.sliding_window if self.slides else None
        self.residual, self.residual_scale = config.residual, config.residual_scale
        self.attention_norm = fast_norm(layer.attention_norm)
        self.qkv = one_row_product(layer.attention.qkv)
        self.out = one_row_product(layer.attention.out)
        mlp_norm = layer.attention_norm if config.residual == "parallel" else layer.mlp_norm
        self.mlp_norm = fast_norm(mlp_norm)
        self.up, self.down = one_row_product(layer.mlp.up), one_row_product(layer.mlp.down)
        self.has_post_norms = config.has_post_norms
        if config.has_post_norms:
            self.post_attention_norm = fast_norm(layer.post_attention_norm)
            self.post_mlp_norm = fast_norm(layer.post_mlp_norm)
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.turned = config.num_heads + config.num_kv_heads
        self.pairs = config.rotary.dims // 2
        self.grouped = (config.num_kv_heads, config.num_heads // config.num_kv_heads, config.head_dim)
        self.scale, self.unused = config.softmax_scale, torch.zeros(1)
        self.qk_norm = _norm_of_heads(config, layer.attention) if config.has_qk_norm else None
        self.is_gated, self.is_silu = config.is_gated, config.activation == "silu"

    def __call__(self, x: Tensor, angles: Tensor, cache: Any) -> Tensor:
        """The residual stream after this block; the cache is what this kind of layer's ``attend`` takes."""
        normed = self.attention_norm(x)
        attended = self.out(self.attend(normed, angles, cache))
        if self.residual == "plain":
            if self.has_post_norms:
                x = self.post_attention_norm(attended).add_(x)
                return self.post_mlp_norm(self._raise(self.mlp_norm(x))).add_(x)
            x = attended.add_(x)
            return self._raise(self.mlp_norm(x)).add_(x)
        if self.residual == "parallel":
            return attended.add_(x).add_(self._raise(normed))
        x = attended.add_(normed, alpha=self.residual_scale)
        normed = self.mlp_norm(x)
        return self._raise(normed).add_(normed, alpha=self.residual_scale)

    def turned_heads(self, x: Tensor, angles: Tensor) -> Tensor:
        """Queries, keys and values of the token, (heads of all three, head_dim), normed and turned as they must be."""
        turned = self.turned
        heads = self.qkv(x).view(-1, self.head_dim)
        if self.qk_norm is not None:
            self.qk_norm(heads[:turned])
        torch.view_as_complex(heads.view(len(heads), -1, 2))[:turned, : self.pairs].mul_(angles)
        return heads

    def attend(self, x: Tensor, angles: Tensor, cache: Any) -> Tensor:
        """What the token gathers, (1, num_heads * head_dim); its keys and values are written behind the others."""
        length, heads = cache.length, self.turned_heads(x, angles)
        both, keys, values = cache.first[self.number]
        both.select(1, length).copy_(heads[self.num_heads :])
        start = max(0, length + 1 - self.window) if self.window else 0
        count = length + 1 - start
        queries = heads[: self.num_heads].view(self.grouped)
        keys, values = keys.narrow(1, start, count), values.narrow(1, start, count)
        if self.num_kv_heads == 1 and count >= LONG_COLUMNS:
            return self._attend_far(queries, keys, values)
        scores = torch.baddbmm(self.unused, queries, keys.transpose(1, 2), beta=0, alpha=self.scale)
        return torch.bmm(torch.softmax(scores, -1), values).view(1, -1)

    def _attend_far(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The same where one head of keys serves all queries: with many columns a product of few rows is slow."""
        scores = torch.baddbmm(self.unused, keys, queries.transpose(1, 2), beta=0, alpha=self.scale)
        shares = torch.softmax(scores.transpose(1, 2), -1)
        # Halves of the head as a batch of two, so that both threads have work.
        halves = values[0].unflatten(1, (2, -1)).transpose(0, 1)
        return torch.bmm(shares.expand(2, -1, -1), halves).transpose(0, 1).reshape(1, -1)

    def _raise(self, x: Tensor) -> Tensor:
        raised = self.up(x)
        if not self.is_gated:
            return self.down(F.silu(raised) if self.is_silu else F.gelu(raised, approximate="tanh"))
        gate, raised = raised.chunk(2, dim=-1)
        gate = F.silu(gate) if self.is_silu else F.gelu(gate, approximate="tanh")
        return self.down(gate.mul_(raised))


class _Angles:
    """The turns of every position as complex numbers, made as far as they are needed."""

    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.table = self._make(FIRST_ANGLES)

    def at(self, position: int | tuple[int, int]) -> Tensor:
        """(pairs,), or the turns of both rows one after the other."""
        highest = position if isinstance(position, int) else max(position)
        if highest >= len(self.table):
            self.table = self._make(2 * highest)
        if isinstance(position, int):
            return self.table[position]
        return torch.cat([self.table[row] for row in position])

    def _make(self, count: int) -> Tensor:
        angles = torch.arange(count).float()[:, None] * self.values
        return torch.complex(angles.cos(), angles.sin())


def one_row_product(linear: nn.Module) -> Product:
    """A linear layer's product of one row."""
    assert isinstance(linear, EngineLinear)
    product, bias = linear.weight.one_row(), linear.bias
    return product if bias is None else lambda x: product(x).add_(bias)


def _norm_of_heads(config: DecoderConfig, attention: Attention) -> Callable[[Tensor], None]:
    """Norms the queries and keys of one token in place, all heads at once."""
    q_norm, k_norm = attention.q_norm, attention.k_norm
    assert isinstance(q_norm, RMSNorm) and isinstance(k_norm, RMSNorm)
    norms = [q_norm] * config.num_heads + [k_norm] * config.num_kv_heads
    dim, epsilon = config.head_dim, q_norm.epsilon
    weight = torch.stack([norm.weight + norm.offset for norm in norms])

    def normed(heads: Tensor) -> None:
        doubled = torch.layer_norm(torch.cat([heads, -heads], dim=-1), (2 * dim,), None, None, epsilon)
        torch.mul(doubled[:, :dim], weight, out=heads)

    return normed


def fast_norm(norm: nn.Module) -> Norm:
    """A norm for one token, in few operators on its device."""
    if not isinstance(norm, RMSNorm):
        return norm
    weight, dim = norm.weight + norm.offset, len(norm.weight)
    if weight.is_cuda:
        return lambda x: F.rms_norm(x, weight.shape, weight, norm.epsilon)
    scaled, floor = weight * dim**0.5, torch.full((1, 1), dim * norm.epsilon)

    def normed(x: Tensor) -> Tensor:
        return torch.mul(x, scaled).mul_(torch.addmm(floor, x, x.t()).rsqrt_())

    return normed
