"""MOSS-moon-003: attention and MLP side by side behind one norm, and an odd order of the fused projection.

Source:
    the published configuration and modelling code of fnlp/moss-moon-003 (after CodeGen, arXiv:2203.13474).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import Tensor

from core.errors import ModelLoadError
from core.model.architectures.placement import Placement, decoder_norms
from core.model.config import DecoderConfig, Fields, RotaryConfig

__all__ = ["placements", "read_config"]

BLOCKS = 4
"""Parts of the fused projection, whatever the number of heads: it was cut for four accelerators."""


def read_config(fields: Fields, architecture: str) -> DecoderConfig:
    """The configuration of a MOSS checkpoint."""
    fields.refuse("activation_function", "gelu_new")
    hidden_dim, num_heads = fields.integer("n_embd", "hidden_size"), fields.integer("n_head", "num_attention_heads")
    if num_heads % BLOCKS:
        raise ModelLoadError(f"config.json: n_head is {num_heads}, wanted a multiple of {BLOCKS}")
    head_dim = hidden_dim // num_heads
    return DecoderConfig(
        architecture=architecture,
        vocab_size=fields.integer("vocab_size"),
        hidden_dim=hidden_dim,
        num_layers=fields.integer("n_layer", "num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=head_dim,
        feed_forward_dim=fields.integer("n_inner", default=4 * hidden_dim),
        context_tokens=fields.integer("n_positions", default=2048),
        rotary=RotaryConfig(dims=fields.integer("rotary_dim", default=head_dim), base=10000.0, pairing="adjacent"),
        norm="layer",
        norm_epsilon=fields.number("layer_norm_epsilon", default=1e-5),
        activation="gelu_tanh",
        is_gated=False,
        has_mlp_bias=True,
        has_head_bias=True,
        softmax_scale=head_dim**-0.5,
        residual="parallel",
        bos_id=fields.one_id("bos_token_id"),
        pad_id=fields.one_id("pad_token_id"),
        eos_ids=fields.ids("eos_token_id"),
    )


def placements(config: DecoderConfig, names: Collection[str] = ()) -> dict[str, Placement]:
    """Where each tensor goes."""
    hidden, inner = config.hidden_dim, config.feed_forward_dim
    found = {
        "transformer.wte.weight": Placement("embedding.weight", (config.vocab_size, hidden)),
        "lm_head.weight": Placement("head.weight", (config.vocab_size, hidden)),
        "lm_head.bias": Placement("head.bias", (config.vocab_size,)),
        **decoder_norms(config, "transformer", {"ln_f": "final_norm"}),
    }
    for layer in range(config.num_layers):
        front, ours = f"transformer.h.{layer}", f"layers.{layer}"
        found |= decoder_norms(config, front, {"ln_1": f"{ours}.attention_norm"})
        found[f"{front}.attn.qkv_proj.weight"] = Placement(
            f"{ours}.attention.qkv.weight", (3 * hidden, hidden), 0, _from_blocks(config)
        )
        found[f"{front}.attn.out_proj.weight"] = Placement(f"{ours}.attention.out.weight", (hidden, hidden))
        for theirs, target, rows, columns in (("fc_in", "up", inner, hidden), ("fc_out", "down", hidden, inner)):
            found[f"{front}.mlp.{theirs}.weight"] = Placement(f"{ours}.mlp.{target}.weight", (rows, columns))
            found[f"{front}.mlp.{theirs}.bias"] = Placement(f"{ours}.mlp.{target}.bias", (rows,))
    return found


def _from_blocks(config: DecoderConfig) -> Callable[[Tensor], Tensor]:
    def reorder(rows: Tensor) -> Tensor:
        parts = rows.unflatten(0, (BLOCKS, 3, config.hidden_dim // BLOCKS))
        # A block holds queries, then values, then keys.
        return parts[:, [0, 2, 1]].transpose(0, 1).flatten(0, 2)

    return reorder
