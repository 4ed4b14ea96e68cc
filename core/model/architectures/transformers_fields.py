"""What the configurations that transformers writes have in common: shapes, rotary settings, special ids.

Old and new spellings are read alike: in the newest files the rotary fields lie inside ``rope_parameters``.
"""

from __future__ import annotations

from typing import Any

from core.errors import ModelLoadError
from core.model.config import Fields, RotaryConfig

__all__ = ["common_fields", "read_rotary"]


def common_fields(fields: Fields) -> dict[str, Any]:
    """Keywords of ``DecoderConfig`` that Llama, GLM-4 and Gemma spell in the same way."""
    hidden_dim, num_heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    return {
        "vocab_size": fields.integer("vocab_size"),
        "hidden_dim": hidden_dim,
        "num_layers": fields.integer("num_hidden_layers"),
        "num_heads": num_heads,
        "num_kv_heads": fields.integer("num_key_value_heads", default=num_heads),
        "head_dim": fields.integer("head_dim", default=hidden_dim // num_heads),
        "feed_forward_dim": fields.integer("intermediate_size"),
        "bos_id": fields.one_id("bos_token_id"),
        "pad_id": fields.one_id("pad_token_id"),
        "eos_ids": fields.ids("eos_token_id"),
    }


def read_rotary(fields: Fields, *, dims: int, base: float, pairing: Any, scaled: bool = True) -> RotaryConfig:
    """The rotary settings, with ``base`` where the file names none.

    Args:
        scaled: False leaves any scaling out (Gemma's sliding layers).

    Raises:
        ModelLoadError: a kind of scaling that is not built.
    """
    parameters = fields.section("rope_parameters")
    base = parameters.number("rope_theta", default=fields.number("rope_theta", default=base))
    scaling = fields.section("rope_scaling") if "rope_scaling" in fields else parameters
    kind = scaling.values.get("rope_type", scaling.values.get("type")) or "default"
    divisors = fields.values.get("rope_freq_divisors")
    rotary = {"dims": dims, "base": base, "pairing": pairing, "divisors": tuple(divisors) if divisors else None}
    if not scaled or kind == "default":
        return RotaryConfig(**rotary)
    if kind == "linear":
        return RotaryConfig(**rotary, position_divisor=scaling.number("factor"))
    if kind == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        factor, low, high, context = (scaling.number(name) for name in names)
        return RotaryConfig(**rotary, llama3=(factor, low, high, context))
    raise ModelLoadError(f"config.json: rope_scaling is of type {kind!r}; wanted linear, llama3 or none")
