"""Turn a GGUF file into an ordinary checkpoint folder, once.

Low-bit weights are widened to the dtype asked for and written as safetensors beside a configuration and a tokenizer, so
that the next start maps a file instead of unpacking blocks. The engine reads the file; nothing here runs a model.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ModelLoadError

if TYPE_CHECKING:
    from torch import dtype

__all__ = ["fingerprint", "unpack_gguf"]

SAMPLE_BYTES, NUM_SAMPLES = 1 << 16, 32


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
    from safetensors.torch import save_file
    from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerFast

    from core.engine.source_gguf import GGUFSource

    source = GGUFSource(path)
    settings = {name: value for name, value in source.config.items() if value is not None}
    if "rope_freq_divisors" in settings:
        raise ModelLoadError(f"{path}: transformers has no place for Llama 3's rotary divisors; give another file")
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    config.dtype = weight_dtype
    config.save_pretrained(folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)
    tensors = {name: tensor.to(weight_dtype).contiguous() for name, tensor in source.tensors()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    del tensors
    # The plain class, since a family's own rebuilds its vocabulary on every start (4 s for Gemma; this one takes 2 s).
    plain: Any = PreTrainedTokenizerFast
    try:
        tokenizer = plain.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as wrong:
        raise ModelLoadError(f"{path}: its tokenizer cannot be read ({wrong}); give another file") from wrong
    tokenizer.save_pretrained(folder)
