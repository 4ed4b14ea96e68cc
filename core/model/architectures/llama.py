"""Llama and what is built like it: Vicuna, SmolLM2.

Source:
    Llama, arXiv:2302.13971; field and tensor names as transformers writes them.
"""

from __future__ import annotations

from collections.abc import Collection

from core.model.architectures.placement import Placement, decoder_norms, ends, separate_projections
from core.model.architectures.transformers_fields import common_fields, read_rotary
from core.model.config import DecoderConfig, Fields

__all__ = ["placements", "read_config"]


def read_config(fields: Fields, architecture: str) -> DecoderConfig:
    """The configuration of a Llama checkpoint."""
    fields.refuse("hidden_act", "silu", "swish")
    common = common_fields(fields)
    return DecoderConfig(
        architecture=architecture,
        **common,
        context_tokens=fields.integer("max_position_embeddings", default=2048),
        rotary=read_rotary(fields, dims=common["head_dim"], base=10000.0, pairing="halves"),
        norm_epsilon=fields.number("rms_norm_eps", default=1e-6),
        has_qkv_bias=fields.flag("attention_bias", False),
        has_attention_out_bias=fields.flag("attention_bias", False),
        has_mlp_bias=fields.flag("mlp_bias", False),
        softmax_scale=common["head_dim"] ** -0.5,
        ties_embeddings=fields.flag("tie_word_embeddings", False),
    )


def placements(config: DecoderConfig, names: Collection[str] = ()) -> dict[str, Placement]:
    """Where each tensor goes."""
    hidden, inner = config.hidden_dim, config.feed_forward_dim
    found = ends(config)
    for layer in range(config.num_layers):
        front, ours = f"model.layers.{layer}", f"layers.{layer}"
        norms = {"input_layernorm": f"{ours}.attention_norm", "post_attention_layernorm": f"{ours}.mlp_norm"}
        found |= decoder_norms(config, front, norms)
        found |= separate_projections(
            config,
            f"{front}.self_attn",
            layer,
            has_bias=config.has_qkv_bias,
            has_out_bias=config.has_attention_out_bias,
        )
        for theirs, target, rows, columns, start in (
            ("gate_proj", "up", inner, hidden, 0),
            ("up_proj", "up", inner, hidden, inner),
            ("down_proj", "down", hidden, inner, 0),
        ):
            found[f"{front}.mlp.{theirs}.weight"] = Placement(f"{ours}.mlp.{target}.weight", (rows, columns), start)
            if config.has_mlp_bias:
                found[f"{front}.mlp.{theirs}.bias"] = Placement(f"{ours}.mlp.{target}.bias", (rows,), start)
    return found
