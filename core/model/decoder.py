"""The one decoder: a stack of the shared blocks, configured as any of the supported architectures.

It computes logits from ids and can be trained. It does not know how a checkpoint names its tensors
(``core.model.architectures`` does), nor anything of low bits (``core.engine`` does).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.model.blocks import MLP, Attention, Cache, GrowingCache, make_norm
from core.model.config import DecoderConfig
from core.model.layout import Layout, plan
from core.model.prefix import PrefixEncoder
from core.model.rotary import frequencies, rotary_tables

__all__ = ["Decoder", "DecoderLayer"]


class DecoderLayer(nn.Module):
    """One block: attention and MLP around the residual stream."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, layer)
        if config.residual != "parallel":
            self.mlp_norm = make_norm(config)
        self.mlp = MLP(config)
        if config.has_post_norms:
            self.post_attention_norm = make_norm(config)
            self.post_mlp_norm = make_norm(config)

    def forward(
        self, x: Tensor, tables: tuple[Tensor, Tensor], visible: Tensor | None, cache: Cache | None = None
    ) -> Tensor:
        """The residual stream after this block, (batch, seq_len, hidden_dim)."""
        config = self.config
        normed = self.attention_norm(x)
        attended = self.attention(normed, tables, visible, cache)
        if config.residual == "parallel":
            return x + attended + self.mlp(normed)
        if config.residual == "normed":
            x = config.residual_scale * normed + attended
            normed = self.mlp_norm(x)
            return config.residual_scale * normed + self.mlp(normed)
        x = x + (self.post_attention_norm(attended) if config.has_post_norms else attended)
        raised = self.mlp(self.mlp_norm(x))
        return x + (self.post_mlp_norm(raised) if config.has_post_norms else raised)


class Decoder(nn.Module):
    """Embedding, layers, final norm, output head.

    Attributes:
        rotary_frequencies: of the full layers; a buffer, since ChatGLM v1's checkpoint stores its own.
        local_frequencies: of the sliding layers, where they differ.
    """

    rotary_frequencies: Tensor
    local_frequencies: Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_dim)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_layers))
        self.final_norm = make_norm(config)
        self.head = nn.Linear(config.hidden_dim, config.vocab_size, bias=config.has_head_bias)
        if config.ties_embeddings:
            self.head.weight = self.embedding.weight
        self.prefix = PrefixEncoder(config) if config.prefix else None
        self.register_buffer("rotary_frequencies", frequencies(config.rotary), persistent=False)
        if config.local_rotary:
            self.register_buffer("local_frequencies", frequencies(config.local_rotary), persistent=False)

    def forward(
        self,
        ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        cache: Cache | None = None,
        layout: Layout | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Logits of the token after each token, (batch, seq_len, vocab_size).

        Args:
            ids: (batch, seq_len).
            attention_mask: (batch, seq_len), 1 at tokens; padding stands on the left.
            cache: where keys and values are kept; it holds the prefix, if the model has one, and the tokens before.
            layout: positions and masks, where the caller has made them (with a cache it must).
            last_only: logits of the last token alone, (batch, 1, vocab_size).
        """
        layout = layout or plan(self.config, ids, attention_mask)
        if cache is None and self.prefix is not None:
            cache = GrowingCache(self.prefix(len(ids)))
        x = self.hidden(ids, layout, cache)
        return self.head(self.final_norm(x[:, -1:] if last_only else x))

    def hidden(self, ids: Tensor, layout: Layout, cache: Cache | None = None) -> Tensor:
        """The residual stream after the last layer, before the final norm, (batch, seq_len, hidden_dim)."""
        config = self.config
        x = self.embedding(ids)
        if config.embedding_scale != 1:
            x = x * torch.tensor(config.embedding_scale, dtype=x.dtype)
        full = rotary_tables(config.rotary, self.rotary_frequencies, layout.positions)
        local = full
        if config.local_rotary:
            local = rotary_tables(config.local_rotary, self.local_frequencies, layout.positions)
        for number, layer in enumerate(self.layers):
            slides = config.slides(number)
            x = layer(x, local if slides else full, layout.mask_of(slides), cache)
        return x
