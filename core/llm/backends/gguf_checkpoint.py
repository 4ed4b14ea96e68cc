"""Turn a GGUF file into an ordinary checkpoint folder, once.

Low-bit weights are widened to the dtype asked for and written as safetensors beside a configuration and a tokenizer, so
that the next start maps a file instead of unpacking blocks. Nothing here runs a model.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import MissingExtra, ModelLoadError

if TYPE_CHECKING:
    from gguf import GGUFReader
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
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        unfinished = Path(scratch) / "checkpoint"
        unfinished.mkdir()
        _write_checkpoint(path, unfinished, weight_dtype)
        try:
            os.replace(unfinished, folder)
        except OSError:
            # Another process finished first, and its folder holds the same; a damaged one is replaced.
            if not (folder / "config.json").is_file():
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(unfinished, folder)


def _write_checkpoint(path: Path, folder: Path, weight_dtype: dtype) -> None:
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    reader = _open(path)
    architecture = str(_value(reader, "general.architecture"))
    if architecture not in MODEL_TYPES:
        raise ModelLoadError(
            f"{path}: the architecture is {architecture!r}; GGUF files of {' and '.join(MODEL_TYPES)} models can be "
            "read, for others give the folder of the original checkpoint"
        )
    settings = _config(reader, architecture, path)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    config.dtype = weight_dtype
    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)
    tensors = dict(_tensors(reader, architecture, settings, weight_dtype, path))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    del tensors
    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
    tokenizer.save_pretrained(folder)
    # A family's own class rebuilds its vocabulary on every start (4 s for Gemma); the plain one reads the file (2 s).
    settings_path = folder / "tokenizer_config.json"
    written = json.loads(settings_path.read_text(encoding="utf-8"))
    settings_path.write_text(json.dumps({**written, "tokenizer_class": "PreTrainedTokenizerFast"}), encoding="utf-8")


def _open(path: Path) -> GGUFReader:
    try:
        from gguf import GGUFReader
    except ModuleNotFoundError as missing:
        raise MissingExtra("reading a .gguf file needs the gguf package: pip install gguf") from missing
    try:
        return GGUFReader(path)
    except (ValueError, IndexError, KeyError, OSError, UnicodeDecodeError) as wrong:
        raise ModelLoadError(f"{path} is not a whole GGUF file ({wrong}); fetch it again") from wrong


def _value(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _config(reader: GGUFReader, architecture: str, path: Path) -> dict[str, Any]:
    """The settings of the transformers configuration that the file's metadata describe."""
    found = {ours: _value(reader, f"{architecture}.{theirs}") for theirs, ours in CONFIG_KEYS.items()}
    found |= {ours: _value(reader, f"tokenizer.ggml.{theirs}") for theirs, ours in TOKEN_KEYS.items()}
    if _value(reader, f"{architecture}.rope.scaling.type") not in (None, "none"):
        raise ModelLoadError(f"{path}: stretched rotary positions cannot be read from GGUF; give the original folder")
    shapes = {tensor.name: tensor.shape for tensor in reader.tensors}
    if "token_embd.weight" not in shapes:
        raise ModelLoadError(f"{path} holds no token embeddings, so it is not a language model; give another file")
    return {
        **{name: value for name, value in found.items() if value is not None},
        "model_type": MODEL_TYPES[architecture],
        "vocab_size": int(shapes["token_embd.weight"][-1]),
        "tie_word_embeddings": "output.weight" not in shapes,
    }


def _tensors(
    reader: GGUFReader, architecture: str, settings: Mapping[str, Any], weight_dtype: dtype, path: Path
) -> Iterator[tuple[str, Tensor]]:
    import numpy as np
    import torch
    from gguf import dequantize

    for tensor in reader.tensors:
        name = _full_name(tensor.name, architecture)
        if name is None:
            raise ModelLoadError(f"{path}: nothing is known of the tensor {tensor.name!r}; give the original folder")
        values = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)  # a copy, since maps are read-only
        weights = torch.from_numpy(values.reshape(tuple(int(size) for size in reversed(tensor.shape))))
        if architecture == "gemma3" and name.endswith("norm.weight"):
            weights = weights - 1  # llama.cpp stores 1 + w, the model adds the 1 itself
        if architecture == "llama" and ".attn_q." in tensor.name:
            weights = _to_halves(weights, settings["num_attention_heads"])
        if architecture == "llama" and ".attn_k." in tensor.name:
            weights = _to_halves(weights, settings["num_key_value_heads"])
        yield name, weights.to(weight_dtype).contiguous()


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
