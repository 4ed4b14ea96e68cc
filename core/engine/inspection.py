"""What a checkpoint is, from its settings and the headers of its files: nothing is rounded, and no weight is read.

Nothing here runs a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from core.engine.assistant import published_files, read_text_side
from core.engine.loading import PrecisionSettings, planned_kinds
from core.engine.lowbit_file import is_lowbit_file, read_description
from core.engine.network import matrices
from core.engine.packing import Kind
from core.engine.sources import WeightSource, open_source
from core.errors import ModelError
from core.model.architectures import read_config
from core.model.config import DecoderConfig

__all__ = ["WIDTHS", "CheckpointFacts", "inspect_checkpoint", "num_bytes"]

WIDTHS = (4, 8, 16, 32)
BYTES_PER_VALUE: Mapping[Kind, float] = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "int4": 0.5}
GROUP_SIZE, PAIR_BYTES, ROW_BYTES = 32, 4, 5
"""Columns that share a scale and an offset of two bytes each; bytes of scale and zero point of an 8-bit row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFacts:
    """What a checkpoint is.

    Attributes:
        form: "folder", "gguf" or "nscope".
        stored_bits: of a weight in a low-bit file; None for others.
        file_bytes: of the weights on disk.
        tokenizer_pieces: ids that the tokenizer knows; None where there is no tokenizer that can be read.
        prompt_format: how dialogues are written for it.
        text_trouble: why it has no tokenizer.
        sizes: bytes of all matrices in memory, by the bits they are loaded in.
    """

    path: str
    form: str
    architecture: str
    num_parameters: int
    num_layers: int
    hidden_dim: int
    feed_forward_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_tokens: int
    stored_bits: int | None
    file_bytes: int
    tokenizer_pieces: int | None
    prompt_format: str | None
    is_chat: bool
    text_trouble: str | None
    sizes: Mapping[int, int]


def inspect_checkpoint(path: Path) -> CheckpointFacts:
    """The facts of a checkpoint folder, a GGUF file or a low-bit file.

    Raises:
        UnknownModel: there is nothing at the path.
        ModelLoadError: files are missing or damaged; the message names the tensor or the field.
    """
    if is_lowbit_file(path):
        stored = read_description(path)
        sizes = {stored.bits: stored.weight_bytes}
        disk = path.stat().st_size
        return _facts(path, "nscope", stored.config, stored.published, stored.files, sizes, disk, stored.bits)
    source = open_source(path)
    config = read_config(source.config, source.entries)
    sizes = {bits: _size(source, config, bits) for bits in WIDTHS}
    shards = [path / shard for shard in {entry.shard for entry in source.entries.values()}] if path.is_dir() else [path]
    disk = sum(shard.stat().st_size for shard in shards)
    form = "folder" if path.is_dir() else "gguf"
    return _facts(path, form, config, source.config, published_files(source), sizes, disk, None)


def _facts(
    path: Path,
    form: str,
    config: DecoderConfig,
    published: Mapping[str, Any],
    files: Mapping[str, bytes],
    sizes: Mapping[int, int],
    disk: int,
    stored_bits: int | None,
) -> CheckpointFacts:
    pieces: int | None = None
    prompts: str | None = None
    trouble: str | None = None
    is_chat = False
    try:
        tokenizer, prompt_format = read_text_side(files, published, config, where=path, name=path.stem)
        pieces, prompts, is_chat = tokenizer.vocab_size, prompt_format.name, prompt_format.is_chat
    except ModelError as wrong:
        trouble = str(wrong)
    return CheckpointFacts(
        path=str(path),
        form=form,
        architecture=config.architecture,
        num_parameters=sum(prod(shape) for shape in matrices(config).values()),
        num_layers=config.num_layers,
        hidden_dim=config.hidden_dim,
        feed_forward_dim=config.feed_forward_dim,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
        context_tokens=config.context_tokens,
        stored_bits=stored_bits,
        file_bytes=disk,
        tokenizer_pieces=pieces,
        prompt_format=prompts,
        is_chat=is_chat,
        text_trouble=trouble,
        sizes=sizes,
    )


def _size(source: WeightSource, config: DecoderConfig, bits: int) -> int:
    kinds = planned_kinds(source, config, PrecisionSettings(bits=bits))
    return round(sum(num_bytes(kinds[name], rows, columns) for name, (rows, columns) in matrices(config).items()))


def num_bytes(kind: Kind, rows: int, columns: int) -> float:
    """Bytes of a matrix that is kept so, apart from padding."""
    more = {"int4": rows * columns / GROUP_SIZE * PAIR_BYTES, "int8": rows * ROW_BYTES}.get(kind, 0)
    return rows * columns * BYTES_PER_VALUE[kind] + more
