"""Turn a GGUF file into an ordinary checkpoint folder, once.

Low-bit weights are widened to the dtype asked for and written as safetensors beside a configuration and a tokenizer, so
that the next start maps a file instead of unpacking blocks. Nothing here runs a model.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ModelLoadError
from core.llm.backends.gguf_file import GGUFFile, read_gguf

if TYPE_CHECKING:
    from torch import Tensor, dtype

__all__ = ["fingerprint", "unpack_gguf"]

SAMPLE_BYTES, NUM_SAMPLES = 1 << 16, 32

TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NORM_NAMES = {
    "llama": {"ffn_norm": "post_attention_layernorm"},
    "gemma3": {
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
}
MODEL_TYPES = {"llama": "llama", "gemma3": "gemma3_text"}
CONFIG_KEYS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "rope.freq_base": "rope_theta",
}
TOKEN_KEYS = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "padding_token_id": "pad_token_id"}


def fingerprint(path: Path) -> str:
    """Twelve hexadecimal digits that tell this file from others: its size and samples spread over it.

    A whole digest of a file of several gigabytes would cost more than mapping its weights.
    """
    size = path.stat().st_size
    digest = sha256(str(size).encode())
    with path.open("rb") as file:
        for number in range(NUM_SAMPLES):
            file.seek(max(0, size - SAMPLE_BYTES) * number // (NUM_SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:12]


def unpack_gguf(path: Path, folder: Path, *, weight_dtype: dtype) -> None:
    """Write the checkpoint folder of a GGUF file; it appears whole or not at all.

    Raises:
        ModelLoadError: the file is not GGUF, is damaged, or holds an architecture other than Llama and Gemma 3.
    """
    from safetensors import SafetensorError

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            unfinished = Path(scratch) / "checkpoint"
            unfinished.mkdir()
            _write_checkpoint(path, unfinished, weight_dtype)
            _put_in_place(unfinished, folder)
    except (OSError, SafetensorError) as failure:
        raise ModelLoadError(f"the weights of {path} cannot be unpacked into {folder.parent}: {failure}") from failure


def _put_in_place(unfinished: Path, folder: Path) -> None:
    try:
        os.replace(unfinished, folder)
    except OSError:
        # Another process may have finished first, and its folder holds the same; anything else there is in the way.
        if not (folder / "config.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(unfinished, folder)


def _write_checkpoint(path: Path, folder: Path, weight_dtype: dtype) -> None:
    file = read_gguf(path)
    architecture = file.values.get("general.architecture")
    if architecture not in MODEL_TYPES:
        raise ModelLoadError(
            f"{path}: the architecture is {architecture!r}; GGUF files of {' and '.join(MODEL_TYPES)} models can be "
            "read, for others give the folder of the original checkpoint"
        )
    from safetensors.torch import save_file
    from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerFast

    settings = _config(file, architecture)
    config = AutoConfig.for_model(MODEL_TYPES[architecture], **settings)
    config.dtype = weight_dtype
    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)
    tensors = dict(_tensors(file, architecture, settings, weight_dtype))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    del tensors
    # The plain class, since a family's own rebuilds its vocabulary on every start (4 s for Gemma; this one takes 2 s).
    plain: Any = PreTrainedTokenizerFast
    try:
        tokenizer = plain.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as wrong:
        raise ModelLoadError(f"{path}: its tokenizer cannot be read ({wrong}); give another file") from wrong
    tokenizer.save_pretrained(folder)


def _config(file: GGUFFile, architecture: str) -> dict[str, Any]:
    """The settings of the transformers configuration that the file's values describe."""
    if file.values.get(f"{architecture}.rope.scaling.type", "none") != "none":
        raise ModelLoadError(f"{file.path}: stretched rotary positions cannot be read from GGUF; give another file")
    if "token_embd.weight" not in file.tensors:
        raise ModelLoadError(f"{file.path} holds no token embeddings, so it is no language model; give another file")
    if f"{architecture}.attention.head_count" not in file.values:
        raise ModelLoadError(f"{file.path} does not say how many attention heads it has; give another file")
    keys = {f"{architecture}.{theirs}": ours for theirs, ours in CONFIG_KEYS.items()}
    keys |= {f"tokenizer.ggml.{theirs}": ours for theirs, ours in TOKEN_KEYS.items()}
    return {
        **{ours: file.values[theirs] for theirs, ours in keys.items() if theirs in file.values},
        "vocab_size": file.tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }


def _tensors(
    file: GGUFFile, architecture: str, settings: Mapping[str, Any], weight_dtype: dtype
) -> Iterator[tuple[str, Tensor]]:
    import torch

    num_heads = settings["num_attention_heads"]
    for tensor in file.tensors.values():
        name = _full_name(tensor.name, architecture)
        if name is None:
            raise ModelLoadError(f"{file.path}: nothing is known of the tensor {tensor.name!r}; give another file")
        weights = torch.from_numpy(file.widen(tensor))
        if architecture == "gemma3" and name.endswith("norm.weight"):
            weights = weights - 1  # llama.cpp stores 1 + w, the model adds the 1 itself
        if architecture == "llama" and ".attn_q." in tensor.name:
            weights = _to_halves(weights, num_heads)
        if architecture == "llama" and ".attn_k." in tensor.name:
            weights = _to_halves(weights, settings.get("num_key_value_heads", num_heads))
        yield name, weights.to(weight_dtype)


def _full_name(name: str, architecture: str) -> str | None:
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    block, _, rest = name.partition(".")
    number, _, part = rest.partition(".")
    inner = {**LAYER_NAMES, **NORM_NAMES[architecture]}.get(part.removesuffix(".weight"))
    return f"model.layers.{number}.{inner}.weight" if block == "blk" and inner else None


def _to_halves(weights: Tensor, num_heads: int) -> Tensor:
    """Query or key rows, (heads * dim, hidden), from adjacent rotary pairs to split halves.

    Source:
        llama.cpp, convert_hf_to_gguf.py, ``LlamaModel.permute``: this is its inverse.
    """
    rows, hidden_dim = weights.shape
    paired = weights.reshape(num_heads, rows // num_heads // 2, 2, hidden_dim)
    return paired.transpose(1, 2).reshape(rows, hidden_dim)
