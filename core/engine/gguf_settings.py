"""The settings of a GGUF file under the field names of a Hugging Face configuration.

Source:
    github.com/ggml-org/ggml, docs/gguf.md, and llama.cpp's loader for what a file leaves out.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from core.engine.gguf_file import GGUFFile
from core.errors import ModelLoadError

__all__ = ["MODEL_TYPES", "describe"]

MODEL_TYPES = {"llama": "llama", "gemma3": "gemma3_text"}
SIZES = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "context_length": "max_position_embeddings",
}
OPTIONAL_SIZES = {
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
}
TOKEN_KEYS = {"bos_token_id": "bos_token_id", "padding_token_id": "pad_token_id"}
GEMMA_27B_LAYERS = 62


def describe(file: GGUFFile, architecture: str) -> dict[str, Any]:
    """The settings that a Hugging Face configuration of the same model has.

    Raises:
        ModelLoadError: a setting is missing, or has a value that no model has.
    """
    if "token_embd.weight" not in file.tensors:
        raise ModelLoadError(f"{file.path} holds no token embeddings, so it is no language model; give another file")
    config: dict[str, Any] = {"model_type": MODEL_TYPES[architecture]}
    for theirs, ours in (SIZES | OPTIONAL_SIZES).items():
        key = f"{architecture}.{theirs}"
        if theirs in SIZES or key in file.values or key in file.lists:
            config[ours] = _size(file, key)
    heads = config["num_attention_heads"]
    config.setdefault("num_key_value_heads", heads)
    config.setdefault("head_dim", config["hidden_size"] // heads)
    config["rms_norm_eps"] = _number(file, f"{architecture}.attention.layer_norm_rms_epsilon", None)
    config["rope_theta"] = _number(file, f"{architecture}.rope.freq_base", 1e4 if architecture == "llama" else 1e6)
    config["rope_scaling"] = _rope_scaling(file, architecture)
    config["vocab_size"] = file.tensors["token_embd.weight"].shape[0]
    config["tie_word_embeddings"] = "output.weight" not in file.tensors
    config["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    config |= {ours: _token(file, theirs) for theirs, ours in TOKEN_KEYS.items() if _token(file, theirs) is not None}
    # A chat model ends its turns with one token and texts with another; llama.cpp stops at both.
    ends = [token for key in ("eos_token_id", "eot_token_id") if (token := _token(file, key)) is not None]
    if ends:
        config["eos_token_id"] = ends[0] if len(set(ends)) == 1 else ends
    return config | (_gemma_fields(file, config) if architecture == "gemma3" else _llama_fields(file, config))


def _llama_fields(file: GGUFFile, config: dict[str, Any]) -> dict[str, Any]:
    turned = file.values.get("llama.rope.dimension_count", config["head_dim"])
    if turned != config["head_dim"]:
        raise ModelLoadError(
            f"{file.path}: llama.rope.dimension_count is {turned!r}, wanted the whole head of {config['head_dim']}; "
            "give another file"
        )
    return {"hidden_act": "silu"}


def _gemma_fields(file: GGUFFile, config: dict[str, Any]) -> dict[str, Any]:
    is_27b = config["num_hidden_layers"] == GEMMA_27B_LAYERS
    pattern = file.values.get("gemma3.attention.sliding_window_pattern", 6)
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window_pattern": pattern if type(pattern) is int and pattern > 0 else 6,
        "rope_local_base_freq": _number(file, "gemma3.rope.freq_base_swa", 1e4),
        # Google divides by the width of a head in every size but this one.
        "query_pre_attn_scalar": config["hidden_size"] // config["num_attention_heads"]
        if is_27b
        else config["head_dim"],
    }


def _rope_scaling(file: GGUFFile, architecture: str) -> dict[str, Any] | None:
    values, legacy = file.values, f"{architecture}.rope.scale_linear"
    kind = values.get(f"{architecture}.rope.scaling.type", "linear" if legacy in values else "none")
    if kind == "none":
        return None
    if kind != "linear":
        raise ModelLoadError(
            f"{file.path}: rotary positions are stretched in the manner {kind!r}, wanted 'linear' or 'none'; give "
            "another file"
        )
    key = f"{architecture}.rope.scaling.factor"
    return {"rope_type": "linear", "factor": _number(file, key if key in values else legacy, None)}


def _size(file: GGUFFile, key: str) -> int:
    value = file.values.get(key)
    if type(value) is not int or not 0 < value < 1 << 31:
        found = "a list" if key in file.lists else repr(value)
        raise ModelLoadError(f"{file.path}: {key} is {found}, wanted a positive whole number; give another file")
    return value


def _number(file: GGUFFile, key: str, default: float | None) -> float:
    value = file.values.get(key, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not isfinite(value) or value <= 0:
        raise ModelLoadError(f"{file.path}: {key} is {value!r}, wanted a positive number; give another file")
    return float(value)


def _token(file: GGUFFile, key: str) -> int | None:
    value = file.values.get(f"tokenizer.ggml.{key}")
    num_tokens = file.tensors["token_embd.weight"].shape[0]
    if value is not None and (type(value) is not int or not 0 <= value < num_tokens):
        raise ModelLoadError(
            f"{file.path}: tokenizer.ggml.{key} is {value!r}, wanted a token below {num_tokens}; give another file"
        )
    return value
