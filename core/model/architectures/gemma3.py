"""Gemma 3, text part: norms of queries and keys, four norms a layer, sliding and full layers with two rotary bases.

Source:
    Gemma 3, arXiv:2503.19786; transformers' Gemma3ForCausalLM, whose defaults stand in for fields a file leaves out.
"""

from __future__ import annotations

from collections.abc import Collection

from core.errors import ModelLoadError
from core.model.architectures.placement import Placement, decoder_norms, ends, separate_projections
from core.model.architectures.transformers_fields import read_rotary
from core.model.config import DecoderConfig, Fields, RotaryConfig

__all__ = ["placements", "read_config"]


def read_config(fields: Fields, architecture: str) -> DecoderConfig:
    """The configuration of a Gemma 3 checkpoint, of text alone or nested in a multimodal one."""
    outer = fields
    if fields.values.get("text_config"):
        fields = fields.section("text_config")
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        fields.refuse(name)
    fields.refuse("hidden_activation", "gelu_pytorch_tanh")
    fields.refuse("use_bidirectional_attention", False)
    hidden_dim, num_heads = (
        fields.integer("hidden_size", default=2304),
        fields.integer("num_attention_heads", default=8),
    )
    num_layers = fields.integer("num_hidden_layers", default=26)
    head_dim = fields.integer("head_dim", default=256)
    scale = fields.number("query_pre_attn_scalar", default=256.0)
    vocab_size = fields.integer("vocab_size", default=outer.integer("vocab_size", default=262208))
    return DecoderConfig(
        architecture=architecture,
        vocab_size=vocab_size,
        hidden_dim=hidden_dim,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=fields.integer("num_key_value_heads", default=4),
        head_dim=head_dim,
        feed_forward_dim=fields.integer("intermediate_size", default=9216),
        context_tokens=fields.integer("max_position_embeddings", default=131072),
        rotary=_full_rotary(fields, head_dim),
        local_rotary=RotaryConfig(dims=head_dim, base=_local_base(fields), pairing="halves"),
        norm_epsilon=fields.number("rms_norm_eps", default=1e-6),
        norm_offset=1.0,
        activation="gelu_tanh",
        has_qkv_bias=fields.flag("attention_bias", False),
        has_attention_out_bias=fields.flag("attention_bias", False),
        has_qk_norm=True,
        has_post_norms=True,
        softmax_scale=scale**-0.5,
        embedding_scale=hidden_dim**0.5,
        ties_embeddings=fields.flag("tie_word_embeddings", outer.flag("tie_word_embeddings", True)),
        sliding_window=fields.integer("sliding_window", default=4096),
        is_sliding=_sliding_layers(fields, num_layers),
        bos_id=_either(fields, outer, "bos_token_id", 2),
        pad_id=_either(fields, outer, "pad_token_id", 0),
        eos_ids=fields.ids("eos_token_id") or outer.ids("eos_token_id") or (1,),
    )


def placements(config: DecoderConfig, names: Collection[str] = ()) -> dict[str, Placement]:
    """Where each tensor goes; a multimodal checkpoint's names begin with ``language_model``."""
    hidden, inner = config.hidden_dim, config.feed_forward_dim
    front, head = _fronts(names)
    found = ends(config, front, f"{head}lm_head")
    for layer in range(config.num_layers):
        theirs, ours = f"{front}.layers.{layer}", f"layers.{layer}"
        norms = {
            "input_layernorm": f"{ours}.attention_norm",
            "post_attention_layernorm": f"{ours}.post_attention_norm",
            "pre_feedforward_layernorm": f"{ours}.mlp_norm",
            "post_feedforward_layernorm": f"{ours}.post_mlp_norm",
        }
        found |= decoder_norms(config, theirs, norms)
        for name in ("q_norm", "k_norm"):
            found[f"{theirs}.self_attn.{name}.weight"] = Placement(
                f"{ours}.attention.{name}.weight", (config.head_dim,)
            )
        found |= separate_projections(
            config,
            f"{theirs}.self_attn",
            layer,
            has_bias=config.has_qkv_bias,
            has_out_bias=config.has_attention_out_bias,
        )
        found[f"{theirs}.mlp.gate_proj.weight"] = Placement(f"{ours}.mlp.up.weight", (inner, hidden))
        found[f"{theirs}.mlp.up_proj.weight"] = Placement(f"{ours}.mlp.up.weight", (inner, hidden), inner)
        found[f"{theirs}.mlp.down_proj.weight"] = Placement(f"{ours}.mlp.down.weight", (hidden, inner))
    return found


def _fronts(names: Collection[str]) -> tuple[str, str]:
    """What stands before the names of the layers, and before ``lm_head``."""
    for front in ("language_model.model", "model.language_model"):
        if f"{front}.embed_tokens.weight" in names:
            return front, "language_model." if front == "language_model.model" else ""
    return "model", ""


def _sliding_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    listed = fields.values.get("layer_types")
    if listed is None:
        pattern = fields.integer("sliding_window_pattern", default=6)
        return tuple(bool((layer + 1) % pattern) for layer in range(num_layers))
    known = {"full_attention": False, "sliding_attention": True}
    if not isinstance(listed, list) or len(listed) != num_layers or not set(listed) <= set(known):
        raise ModelLoadError(
            f"config.json: layer_types is {listed!r}; wanted {num_layers} times full_attention or sliding_attention"
        )
    return tuple(known[kind] for kind in listed)


def _full_rotary(fields: Fields, head_dim: int) -> RotaryConfig:
    parameters = fields.section("rope_parameters")
    if "full_attention" in parameters:
        fields = Fields({**fields.values, "rope_parameters": parameters.section("full_attention").values})
    return read_rotary(fields, dims=head_dim, base=1e6, pairing="halves")


def _local_base(fields: Fields) -> float:
    sliding = fields.section("rope_parameters").section("sliding_attention")
    return sliding.number("rope_theta", default=fields.number("rope_local_base_freq", default=1e4))


def _either(inner: Fields, outer: Fields, name: str, default: int) -> int:
    found = inner.one_id(name)
    found = outer.one_id(name) if found is None else found
    return default if found is None else found
