"""How a published tensor becomes a part of one of ours.

The decoder fuses queries, keys and values, and gate and up; checkpoints keep them apart, or fuse them in another order.
A placement says which rows of which parameter a tensor fills, and how its own rows are to be reordered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from core.model.config import DecoderConfig

__all__ = ["Placement", "decoder_norms", "ends", "separate_projections"]


@dataclass(frozen=True, slots=True)
class Placement:
    """One published tensor's place.

    Attributes:
        target: name of the decoder's parameter.
        shape: that the published tensor must have.
        start: first row of the target that it fills.
        reorder: turns it into rows in our order, of the same number; None keeps them.
        is_optional: the decoder has a value of its own when the checkpoint lacks it.
    """

    target: str
    shape: tuple[int, ...]
    start: int = 0
    reorder: Callable[[Tensor], Tensor] | None = None
    is_optional: bool = False


def decoder_norms(config: DecoderConfig, front: str, names: dict[str, str]) -> dict[str, Placement]:
    """Places of norms, for each ``published name: our name``; of their biases too where the norm has any."""
    kinds = ("weight", "bias") if config.norm == "layer" else ("weight",)
    return {
        f"{front}.{theirs}.{kind}": Placement(f"{ours}.{kind}", (config.hidden_dim,))
        for theirs, ours in names.items()
        for kind in kinds
    }


def ends(config: DecoderConfig, front: str = "model", head: str = "lm_head") -> dict[str, Placement]:
    """Places of what stands before and behind the layers, as transformers names it: embedding, last norm, head."""
    shape = (config.vocab_size, config.hidden_dim)
    found = {f"{front}.embed_tokens.weight": Placement("embedding.weight", shape)}
    found |= decoder_norms(config, front, {"norm": "final_norm"})
    if not config.ties_embeddings:
        found[f"{head}.weight"] = Placement("head.weight", shape)
    return found


def separate_projections(
    config: DecoderConfig, front: str, layer: int, *, has_bias: bool, has_out_bias: bool
) -> dict[str, Placement]:
    """Places of ``q_proj``, ``k_proj``, ``v_proj`` and ``o_proj`` of one layer, as transformers names them."""
    found: dict[str, Placement] = {}
    query_rows, key_rows = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    start = 0
    for name, rows in (("q_proj", query_rows), ("k_proj", key_rows), ("v_proj", key_rows)):
        found[f"{front}.{name}.weight"] = Placement(
            f"layers.{layer}.attention.qkv.weight", (rows, config.hidden_dim), start
        )
        if has_bias:
            found[f"{front}.{name}.bias"] = Placement(f"layers.{layer}.attention.qkv.bias", (rows,), start)
        start += rows
    found[f"{front}.o_proj.weight"] = Placement(f"layers.{layer}.attention.out.weight", (config.hidden_dim, query_rows))
    if has_out_bias:
        found[f"{front}.o_proj.bias"] = Placement(f"layers.{layer}.attention.out.bias", (config.hidden_dim,))
    return found
