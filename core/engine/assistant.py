"""A model with its tokenizer and its prompt format, from whatever file it comes; and our own file of all three.

What surrounds the weights (vocabulary, templates, stop tokens) travels as the small files that were published beside
them, so a low-bit file speaks as its checkpoint did. Nothing here chooses a token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.engine.checkpoint_tokenizer import read_tokenizer
from core.engine.factory import assemble, choose_device
from core.engine.format_choice import choose_format
from core.engine.generation import EngineModel
from core.engine.gguf_vocab import PromptHabits, read_prompt_habits, read_vocabulary, restore_vocabulary
from core.engine.loading import PrecisionSettings, load_weights
from core.engine.lowbit_file import SUFFIX, is_lowbit_file, read_lowbit, write_lowbit
from core.engine.prompt_formats import PromptFormat
from core.engine.source_gguf import GGUFSource
from core.engine.sources import WeightSource, open_source
from core.engine.tokenizer import Tokenizer
from core.errors import ModelLoadError, SettingsError
from core.model.config import DecoderConfig

__all__ = ["Assistant", "open_assistant", "published_files", "quantize", "read_text_side"]

VOCABULARY_FILE, HABITS_FILE = "vocabulary.nscope", "habits.nscope.json"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Assistant:
    """A model that can be spoken to.

    Attributes:
        name: of the checkpoint.
        bits: of a weight in a layer.
    """

    model: EngineModel
    tokenizer: Tokenizer
    format: PromptFormat
    name: str
    bits: int


def open_assistant(
    path: Path,
    *,
    bits: int | None = None,
    device: str | None = None,
    low_memory: bool = False,
    name: str | None = None,
    on_progress: Progress | None = None,
) -> Assistant:
    """The model at a path, ready to be spoken to.

    Args:
        path: a checkpoint folder, a GGUF file or a low-bit file of ours.
        bits: of a weight: 4, 8, 16 or 32; None: as a low-bit file has them, else 4.
        device, low_memory: as ``core.engine.load``.
        name: shown to people; None: as the file or folder is called.
        on_progress: called with bytes read and bytes in all.

    Raises:
        UnknownModel: there is nothing at the path.
        ModelLoadError: files are missing or damaged, or there is no tokenizer among them.
        SettingsError: the bits are not those of the low-bit file, or there is no such device.
    """
    place = choose_device(device)
    if is_lowbit_file(path):
        stored = read_lowbit(path, bits=bits, device=place, low_memory=low_memory, on_progress=on_progress)
        tokenizer, prompts = read_text_side(
            stored.files, stored.published, stored.weights.config, where=path, name=stored.name
        )
        return Assistant(
            assemble(stored.weights, low_memory=low_memory), tokenizer, prompts, name or stored.name, stored.bits
        )
    source = open_source(path)
    bits = 4 if bits is None else bits
    precision = PrecisionSettings(bits=bits)
    loaded = load_weights(source, precision, device=place, low_memory=low_memory, on_progress=on_progress)
    own_name = _name_of(source.path)
    files = published_files(source)
    tokenizer, prompts = read_text_side(files, source.config, loaded.config, where=path, name=own_name)
    return Assistant(assemble(loaded, low_memory=low_memory), tokenizer, prompts, name or own_name, bits)


def quantize(
    path: Path,
    target: Path,
    *,
    precision: PrecisionSettings,
    name: str | None = None,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> None:
    """Write a checkpoint as one file of ours: weights, configuration, tokenizer and prompt format.

    The file appears whole or not at all.

    Args:
        path: a checkpoint folder or a GGUF file.
        target: ends in .nscope.

    Raises:
        UnknownModel, ModelLoadError: as ``open_assistant``; or there is a file at the target already.
        SettingsError: the target has another ending, or the source is rounded already.
    """
    if target.suffix != SUFFIX:
        raise SettingsError(f"{target} does not end in {SUFFIX}; name the file {target.with_suffix(SUFFIX).name}")
    if is_lowbit_file(path):
        raise SettingsError(f"{path} is rounded already, and twice would be worse; give the original checkpoint")
    if target.exists() and not overwrite:
        raise ModelLoadError(f"{target} exists; name another file, or say that it may be overwritten")
    source = open_source(path)
    files = published_files(source)
    loaded = load_weights(source, precision, on_progress=on_progress)
    write_lowbit(
        target,
        loaded,
        bits=precision.bits,
        name=name or _name_of(source.path),
        published=source.config,
        files=files,
        overwrite=overwrite,
    )


def published_files(source: WeightSource) -> dict[str, bytes]:
    """The small files of a source, by name; a GGUF file's vocabulary and template in files of our own."""
    if not isinstance(source, GGUFSource):
        return dict(source.files)
    habits = json.dumps(asdict(read_prompt_habits(source.file)), ensure_ascii=False)
    return {VOCABULARY_FILE: read_vocabulary(source.file).to_bytes(), HABITS_FILE: habits.encode()}


def read_text_side(
    files: Mapping[str, bytes], published: Mapping[str, Any], config: DecoderConfig, *, where: Path, name: str
) -> tuple[Tokenizer, PromptFormat]:
    """The tokenizer and the prompt format that these small files describe.

    Args:
        published: the checkpoint's own configuration.
        where: the checkpoint, for messages.
        name: of the checkpoint; a hint where nothing else tells its format.

    Raises:
        ModelLoadError: there is no tokenizer, or it is damaged.
    """
    habits = None
    try:
        if VOCABULARY_FILE in files:
            tokenizer = restore_vocabulary(files[VOCABULARY_FILE])
            habits = _read_habits(files.get(HABITS_FILE, b"{}"))
        else:
            tokenizer = read_tokenizer(files, published, config.vocab_size)
        return tokenizer, choose_format(tokenizer, config, published, files, name=name, habits=habits)
    except ModelLoadError as wrong:
        raise ModelLoadError(f"{where}: {wrong}") from wrong


def _read_habits(data: bytes) -> PromptHabits:
    try:
        return PromptHabits(**json.loads(data))
    except (TypeError, ValueError) as wrong:
        raise ModelLoadError(f"{HABITS_FILE} is damaged ({wrong}); quantize the original anew") from wrong


def _name_of(path: Path) -> str:
    return path.stem if path.is_file() else path.resolve().name
