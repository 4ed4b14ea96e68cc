"""ChatGLM2-6B, ChatGLM3-6B and GLM-4-9B in its first layout: one network, told apart only by their tokenizers.

Source:
    the published configuration and modelling code of THUDM/chatglm2-6b, chatglm3-6b and glm-4-9b.
"""

from __future__ import annotations

from collections.abc import Collection

from core.model.architectures.chatglm import prefix_placements, split_heads
from core.model.architectures.placement import Placement, decoder_norms
from core.model.config import DecoderConfig, Fields, PrefixConfig, RotaryConfig

__all__ = ["placements", "read_config"]


def read_config(fields: Fields, architecture: str) -> DecoderConfig:
    """The configuration of a ChatGLM2 or 3 checkpoint."""
    fields.refuse("rmsnorm", True)
    fields.refuse("post_layer_norm", True)
    fields.refuse("apply_residual_connection_post_layernorm", False)
    hidden_dim, num_heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    num_layers = fields.integer("num_layers", "num_hidden_layers")
    head_dim = fields.integer("kv_channels", default=hidden_dim // num_heads)
    num_kv_heads = num_heads
    if fields.flag("multi_query_attention", False):
        num_kv_heads = fields.integer("multi_query_group_num")
    prefix = None
    if "pre_seq_len" in fields:
        made = num_layers * 2 * num_kv_heads * head_dim
        projects = fields.flag("prefix_projection", False)
        prefix = PrefixConfig(
            length=fields.integer("pre_seq_len"), embedding_dim=made, projection_dim=hidden_dim if projects else None
        )
    return DecoderConfig(
        architecture=architecture,
        vocab_size=fields.integer("padded_vocab_size", "vocab_size"),
        hidden_dim=hidden_dim,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        feed_forward_dim=fields.integer("ffn_hidden_size"),
        context_tokens=fields.integer("seq_length", default=32768),
        rotary=_rotary(fields, head_dim),
        norm_epsilon=fields.number("layernorm_epsilon", default=1e-5),
        has_qkv_bias=fields.flag("add_qkv_bias", False) or fields.flag("add_bias_linear", False),
        has_attention_out_bias=fields.flag("add_bias_linear", False),
        has_mlp_bias=fields.flag("add_bias_linear", False),
        softmax_scale=head_dim**-0.5,
        ties_embeddings=fields.flag("tie_word_embeddings", False),
        prefix=prefix,
        bos_id=fields.one_id("bos_token_id"),
        pad_id=fields.one_id("pad_token_id"),
        eos_ids=fields.ids("eos_token_id"),
    )


def placements(config: DecoderConfig, names: Collection[str] = ()) -> dict[str, Placement]:
    """Where each tensor goes."""
    hidden, inner = config.hidden_dim, config.feed_forward_dim
    query_dim = config.num_heads * config.head_dim
    reorder = split_heads(config) if config.num_kv_heads == config.num_heads else None
    found = {
        "transformer.embedding.word_embeddings.weight": Placement("embedding.weight", (config.vocab_size, hidden)),
        **decoder_norms(config, "transformer.encoder", {"final_layernorm": "final_norm"}),
        **prefix_placements(config),
    }
    if not config.ties_embeddings:
        found["transformer.output_layer.weight"] = Placement("head.weight", (config.vocab_size, hidden))
    for layer in range(config.num_layers):
        front, ours = f"transformer.encoder.layers.{layer}", f"layers.{layer}"
        norms = {"input_layernorm": f"{ours}.attention_norm", "post_attention_layernorm": f"{ours}.mlp_norm"}
        found |= decoder_norms(config, front, norms)
        for theirs, target, rows, columns, has_bias in (
            ("self_attention.query_key_value", "attention.qkv", config.qkv_rows, hidden, config.has_qkv_bias),
            ("self_attention.dense", "attention.out", hidden, query_dim, config.has_attention_out_bias),
            ("mlp.dense_h_to_4h", "mlp.up", 2 * inner, hidden, config.has_mlp_bias),
            ("mlp.dense_4h_to_h", "mlp.down", hidden, inner, config.has_mlp_bias),
        ):
            order = reorder if target == "attention.qkv" else None
            found[f"{front}.{theirs}.weight"] = Placement(f"{ours}.{target}.weight", (rows, columns), 0, order)
            if has_bias:
                found[f"{front}.{theirs}.bias"] = Placement(f"{ours}.{target}.bias", (rows,), 0, order)
    return found


def _rotary(fields: Fields, head_dim: int) -> RotaryConfig:
    ratio = fields.number("rope_ratio", default=1.0)
    # ChatGLM2-6B-32K divides positions by the ratio; all later models multiply the base.
    divides = ratio != 1 and "chatglm2" in str(fields.values.get("_name_or_path", "")).lower()
    return RotaryConfig(
        dims=head_dim // 2,
        base=10000.0 * (1.0 if divides else ratio),
        pairing="adjacent",
        position_divisor=ratio if divides else 1.0,
    )
