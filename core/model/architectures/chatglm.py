"""ChatGLM-6B, the first generation: two rows of positions, a bidirectional context, normed residuals.

Source:
    the published configuration and modelling code of THUDM/chatglm-6b; GLM, arXiv:2103.10360.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import Tensor

from core.model.architectures.placement import Placement, decoder_norms
from core.model.config import DecoderConfig, Fields, PrefixConfig, RotaryConfig

__all__ = ["placements", "prefix_placements", "read_config", "split_heads"]

FIRST_RELEASE_MASKS = (150000, 150001)


def read_config(fields: Fields, architecture: str) -> DecoderConfig:
    """The configuration of a ChatGLM-6B checkpoint."""
    hidden_dim, num_heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    num_layers = fields.integer("num_layers", "num_hidden_layers")
    head_dim = hidden_dim // num_heads
    prefix = None
    if "pre_seq_len" in fields:
        projects = fields.flag("prefix_projection", False)
        prefix = PrefixConfig(
            length=fields.integer("pre_seq_len"),
            embedding_dim=hidden_dim if projects else num_layers * 2 * hidden_dim,
            projection_dim=hidden_dim if projects else None,
        )
    return DecoderConfig(
        architecture=architecture,
        vocab_size=fields.integer("vocab_size"),
        hidden_dim=hidden_dim,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=head_dim,
        feed_forward_dim=fields.integer("inner_hidden_size", default=4 * hidden_dim),
        context_tokens=fields.integer("max_sequence_length", default=2048),
        rotary=RotaryConfig(dims=head_dim, base=10000.0, pairing="halves", two_rows=True, rounds_to_half=True),
        norm="layer",
        norm_epsilon=fields.number("layernorm_epsilon", default=1e-5),
        activation="gelu_tanh",
        is_gated=False,
        has_qkv_bias=True,
        has_attention_out_bias=True,
        has_mlp_bias=True,
        softmax_scale=head_dim**-0.5,
        residual="normed",
        residual_scale=(2 * num_layers) ** 0.5,
        is_prefix_lm=True,
        prefix=prefix,
        bos_id=fields.one_id("bos_token_id"),
        pad_id=fields.one_id("pad_token_id"),
        mask_id=fields.integer("mask_token_id", default=FIRST_RELEASE_MASKS[0]),
        gmask_id=fields.integer("gmask_token_id", default=FIRST_RELEASE_MASKS[1]),
        eos_ids=fields.ids("eos_token_id"),
    )


def placements(config: DecoderConfig, names: Collection[str] = ()) -> dict[str, Placement]:
    """Where each tensor goes."""
    hidden, inner = config.hidden_dim, config.feed_forward_dim
    heads_first = split_heads(config)
    found = {
        "transformer.word_embeddings.weight": Placement("embedding.weight", (config.vocab_size, hidden)),
        "lm_head.weight": Placement("head.weight", (config.vocab_size, hidden)),
        # Every layer stores the same frequencies.
        "transformer.layers.0.attention.rotary_emb.inv_freq": Placement(
            "rotary_frequencies", (config.head_dim // 4,), is_optional=True
        ),
        **decoder_norms(config, "transformer", {"final_layernorm": "final_norm"}),
        **prefix_placements(config),
    }
    for layer in range(config.num_layers):
        front, ours = f"transformer.layers.{layer}", f"layers.{layer}"
        norms = {"input_layernorm": f"{ours}.attention_norm", "post_attention_layernorm": f"{ours}.mlp_norm"}
        found |= decoder_norms(config, front, norms)
        for theirs, target, rows, columns, reorder in (
            ("attention.query_key_value", "attention.qkv", 3 * hidden, hidden, heads_first),
            ("attention.dense", "attention.out", hidden, hidden, None),
            ("mlp.dense_h_to_4h", "mlp.up", inner, hidden, None),
            ("mlp.dense_4h_to_h", "mlp.down", hidden, inner, None),
        ):
            found[f"{front}.{theirs}.weight"] = Placement(f"{ours}.{target}.weight", (rows, columns), 0, reorder)
            found[f"{front}.{theirs}.bias"] = Placement(f"{ours}.{target}.bias", (rows,), 0, reorder)
    return found


def prefix_placements(config: DecoderConfig) -> dict[str, Placement]:
    """Where the tensors of a P-tuning prefix go, in both generations."""
    if config.prefix is None:
        return {}
    front, width = "transformer.prefix_encoder", config.prefix.embedding_dim
    made = config.num_layers * 2 * config.num_kv_heads * config.head_dim
    found = {f"{front}.embedding.weight": Placement("prefix.embedding.weight", (config.prefix.length, width))}
    if (inner := config.prefix.projection_dim) is not None:
        for number, rows, columns in ((0, inner, width), (2, made, inner)):
            found[f"{front}.trans.{number}.weight"] = Placement(f"prefix.trans.{number}.weight", (rows, columns))
            found[f"{front}.trans.{number}.bias"] = Placement(f"prefix.trans.{number}.bias", (rows,))
    return found


def split_heads(config: DecoderConfig) -> Callable[[Tensor], Tensor]:
    """From query, key, value within each head to all queries, all keys, all values."""

    def reorder(rows: Tensor) -> Tensor:
        parts = rows.unflatten(0, (config.num_heads, 3, config.head_dim))
        return parts.transpose(0, 1).flatten(0, 2)

    return reorder
