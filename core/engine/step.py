"""Decode one token as fast as torch can without compiling: few operators, written in place where that is allowed.

It computes what ``Decoder.hidden`` computes for one sequence and one token; a test holds the two together. What eager
torch costs here is the number of operators, not arithmetic, so: a root mean square is a layer norm of the vector beside
its negative (which has no mean), rotary pairs turn as complex numbers, and attention is two batched products, since
torch's own ``rms_norm`` and ``scaled_dot_product_attention`` take longer for one query.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.engine.cache import StaticCache
from core.model.blocks import RMSNorm
from core.model.config import DecoderConfig
from core.model.decoder import Decoder, DecoderLayer

__all__ = ["StepDecoder"]

FIRST_ANGLES = 1024
Norm = Callable[[Tensor], Tensor]


class StepDecoder:
    """One token of one sequence at a time, over the weights of a decoder that the engine built."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.config = decoder, decoder.config
        self._layers = [_StepLayer(self.config, number, layer) for number, layer in enumerate(decoder.layers)]
        self._final_norm = _fast_norm(decoder.final_norm)
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
        for layer in self._layers:
            x = layer(x, local if layer.slides else full, cache)
        cache.advance(1)
        logits: Tensor = self.decoder.head(self._final_norm(x))[0]
        return logits


class _StepLayer:
    def __init__(self, config: DecoderConfig, number: int, layer: nn.Module) -> None:
        assert isinstance(layer, DecoderLayer)
        self.config, self.number, self.slides = config, number, config.slides(number)
        self.window = config.sliding_window if self.slides else None
        self.attention, self.mlp = layer.attention, layer.mlp
        self.attention_norm = _fast_norm(layer.attention_norm)
        self.mlp_norm = _fast_norm(layer.mlp_norm) if config.residual != "parallel" else None
        if config.has_post_norms:
            self.post_attention_norm = _fast_norm(layer.post_attention_norm)
            self.post_mlp_norm = _fast_norm(layer.post_mlp_norm)
        self.turned = config.num_heads + config.num_kv_heads
        self.pairs = config.rotary.dims // 2
        self.group = config.num_heads // config.num_kv_heads
        if config.has_qk_norm:
            self.q_norm, self.k_norm = _fast_norm(layer.attention.q_norm), _fast_norm(layer.attention.k_norm)

    def __call__(self, x: Tensor, angles: Tensor, cache: StaticCache) -> Tensor:
        config = self.config
        normed = self.attention_norm(x)
        attended = self._attend(normed, angles, cache)
        if config.residual == "plain" and self.mlp_norm is not None:
            if config.has_post_norms:
                x = x + self.post_attention_norm(attended)
                return x + self.post_mlp_norm(self._raise(self.mlp_norm(x)))
            x = x + attended
            return x + self._raise(self.mlp_norm(x))
        if self.mlp_norm is None:
            return x + attended + self._raise(normed)
        x = torch.add(attended, normed, alpha=config.residual_scale)
        normed = self.mlp_norm(x)
        return torch.add(self._raise(normed), normed, alpha=config.residual_scale)

    def _attend(self, x: Tensor, angles: Tensor, cache: StaticCache) -> Tensor:
        config, number, length = self.config, self.number, cache.length
        heads = self.attention.qkv(x).view(-1, config.head_dim)
        if config.has_qk_norm:
            queries, keys, values = heads.split([config.num_heads, config.num_kv_heads, config.num_kv_heads])
            heads = torch.cat([self.q_norm(queries), self.k_norm(keys), values])
        torch.view_as_complex(heads.view(len(heads), -1, 2))[: self.turned, : self.pairs].mul_(angles)
        keys, values = cache.keys[number][0], cache.values[number][0]
        keys[:, length].copy_(heads[config.num_heads : self.turned])
        values[:, length].copy_(heads[self.turned :])
        start = max(0, length + 1 - self.window) if self.window else 0
        queries = heads[: config.num_heads].view(config.num_kv_heads, self.group, config.head_dim)
        scores = queries.bmm(keys[:, start : length + 1].transpose(1, 2)).mul_(config.softmax_scale)
        attended = scores.softmax(-1).bmm(values[:, start : length + 1])
        out: Tensor = self.attention.out(attended.view(1, -1))
        return out

    def _raise(self, x: Tensor) -> Tensor:
        config = self.config
        raised = self.mlp.up(x)
        if config.is_gated:
            gate, raised = raised.chunk(2, dim=-1)
            gate = F.silu(gate) if config.activation == "silu" else F.gelu(gate, approximate="tanh")
            raised = gate.mul_(raised)
        else:
            raised = F.silu(raised) if config.activation == "silu" else F.gelu(raised, approximate="tanh")
        down: Tensor = self.mlp.down(raised)
        return down


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


def _fast_norm(norm: nn.Module) -> Norm:
    if not isinstance(norm, RMSNorm):
        return norm
    weight, epsilon = (norm.weight + norm.offset).repeat(2), norm.epsilon
    shape, dim = weight.shape, len(norm.weight)

    def normed(x: Tensor) -> Tensor:
        doubled = torch.cat([x, -x], dim=-1)
        return torch.layer_norm(doubled, shape, weight, None, epsilon)[..., :dim]

    return normed
