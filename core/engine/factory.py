"""Open a model by its path: a checkpoint folder, a GGUF file, or our own low-bit file.

Nothing here knows text; ``core.engine.assistant`` joins a model with its tokenizer and prompt format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from core.engine.generation import EngineModel
from core.engine.loading import EMBEDDING, LoadedWeights, PrecisionSettings, load_weights
from core.engine.lowbit_file import is_lowbit_file, read_lowbit
from core.engine.network import build_decoder, is_exact
from core.engine.sources import open_source
from core.errors import ModelLoadError, SettingsError
from core.model.architectures import find_architecture

__all__ = ["assemble", "choose_device", "is_supported", "load"]


def load(
    path: Path | str,
    *,
    bits: int | None = None,
    device: str | None = None,
    low_memory: bool = False,
    precision: PrecisionSettings | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> EngineModel:
    """The model at a path, ready to run.

    Args:
        bits: of a weight: 4, 8, 16 or 32; None: as a low-bit file has them, else 4.
        device: "cpu", "cuda" or "cuda:N"; None: an NVIDIA GPU where there is one, else the CPU.
        low_memory: take less memory at some cost in speed: prompts are read in small parts, one finished conversation
            is kept instead of four, and on a GPU the embedding stays in the CPU's memory.
        precision: all settings of rounding, instead of ``bits``.
        on_progress: called with bytes read and bytes in all.

    Raises:
        UnknownModel: there is nothing at the path.
        ModelLoadError: files are missing or damaged; the message names the tensor or the field. A low-bit file of more
            than a gigabyte is compared with its checksums while it is in use: then the first results raise it.
        SettingsError: a setting has a value that cannot work.
    """
    place = choose_device(device)
    path = Path(path).expanduser()
    if is_lowbit_file(path):
        stored = read_lowbit(path, bits=bits, device=place, low_memory=low_memory, on_progress=on_progress)
        return assemble(stored.weights, low_memory=low_memory)
    settings = precision or PrecisionSettings(bits=4 if bits is None else bits)
    loaded = load_weights(open_source(path), settings, device=place, low_memory=low_memory, on_progress=on_progress)
    return assemble(loaded, low_memory=low_memory)


def choose_device(name: str | None) -> torch.device:
    """The device of that name; None: an NVIDIA GPU where there is one, else the CPU.

    Raises:
        SettingsError: there is no such device here, or the engine has no products for it.
    """
    has_gpu = torch.cuda.is_available() and torch.version.cuda is not None
    if name is None:
        return torch.device("cuda" if has_gpu else "cpu")
    kind, _, number = name.partition(":")
    if kind == "cpu" and not number:
        return torch.device("cpu")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise SettingsError(f"device is {name!r}; the engine runs on cpu and cuda")
    count = torch.cuda.device_count() if has_gpu else 0
    if int(number or 0) >= count:
        raise SettingsError(f"device is {name!r}, but torch finds {count} NVIDIA GPUs here; take cpu")
    return torch.device(name)


def is_supported(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint with this config.json has an architecture of ours."""
    try:
        find_architecture(config)
    except ModelLoadError:
        return False
    return True


def assemble(loaded: LoadedWeights, *, low_memory: bool = False) -> EngineModel:
    """A model over weights that are in memory; ``low_memory`` as they were loaded."""
    keeps_embedding = low_memory and not loaded.config.ties_embeddings
    decoder = build_decoder(loaded.config, loaded.weights, loaded.vectors, keeps_embedding=keeps_embedding)
    vector_bytes = sum(vector.nbytes for vector in loaded.vectors.values())
    read = sum(
        weight.num_bytes
        for name, weight in loaded.weights.items()
        if name != EMBEDDING or loaded.config.ties_embeddings
    )
    held = sum(weight.held_bytes for weight in loaded.weights.values())
    return EngineModel(
        decoder,
        num_bytes=held + vector_bytes,
        bytes_per_token=read + vector_bytes,
        is_exact=is_exact(loaded.weights.values()),
        low_memory=low_memory,
        wait_until_checked=loaded.wait_until_checked,
    )
