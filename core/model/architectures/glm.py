"""GLM-4-9B in the native layout (``glm``) and GLM-4-0414 (``glm4``), which adds two norms to each layer.

Source:
    transformers' GlmForCausalLM and Glm4ForCausalLM.
"""

from __future__ import annotations

from collections.abc import Collection

from core.model.architectures.placement import Placement, decoder_norms, ends, separate_projections
from core.model.architectures.transformers_fields import common_fields, read_rotary
from core.model.config import DecoderConfig, Fields

__all__ = ["placements", "read_config"]


def read_config(fields: Fields, architecture: str) -> DecoderConfig:
    """The configuration of a native GLM-4 checkpoint."""
    fields.refuse("hidden_act", "silu", "swish")
    common = common_fields(fields)
    parameters = fields.section("rope_parameters")
    share = parameters.number("partial_rotary_factor", default=fields.number("partial_rotary_factor", default=0.5))
    return DecoderConfig(
        architecture=architecture,
        **common,
        context_tokens=fields.integer("max_position_embeddings", default=131072),
        rotary=read_rotary(fields, dims=int(common["head_dim"] * share), base=10000.0, pairing="adjacent"),
        norm_epsilon=fields.number("rms_norm_eps", default=1.5625e-07),
        has_qkv_bias=fields.flag("attention_bias", architecture == "glm"),
        softmax_scale=common["head_dim"] ** -0.5,
        ties_embeddings=fields.flag("tie_word_embeddings", False),
        has_post_norms=architecture == "glm4",
    )


def placements(config: DecoderConfig, names: Collection[str] = ()) -> dict[str, Placement]:
    """Where each tensor goes."""
    hidden, inner = config.hidden_dim, config.feed_forward_dim
    found = ends(config)
    for layer in range(config.num_layers):
        front, ours = f"model.layers.{layer}", f"layers.{layer}"
        # post_attention_layernorm stands before the MLP, as in Llama; the norms of the outputs have names of their own.
        norms = {"input_layernorm": f"{ours}.attention_norm", "post_attention_layernorm": f"{ours}.mlp_norm"}
        if config.has_post_norms:
            norms["post_self_attn_layernorm"] = f"{ours}.post_attention_norm"
            norms["post_mlp_layernorm"] = f"{ours}.post_mlp_norm"
        found |= decoder_norms(config, front, norms)
        found |= separate_projections(
            config, f"{front}.self_attn", layer, has_bias=config.has_qkv_bias, has_out_bias=False
        )
        found[f"{front}.mlp.gate_up_proj.weight"] = Placement(f"{ours}.mlp.up.weight", (2 * inner, hidden))
        found[f"{front}.mlp.down_proj.weight"] = Placement(f"{ours}.mlp.down.weight", (hidden, inner))
    return found
