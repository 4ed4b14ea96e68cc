"""Where published weights come from: a Hugging Face folder or a GGUF file, both seen in one way.

A source knows names, shapes and dtypes at once and gives the tensors later, one after another. Quantised releases show
ordinary float tensors under the ordinary names. Nothing here knows what a network does with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from core.errors import UnknownModel

__all__ = ["TensorEntry", "WeightSource", "open_source"]


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What is known of a tensor before it is read.

    Attributes:
        dtype: of the tensor that ``WeightSource.tensors`` will give.
        shard: name of the file it stands in, for messages.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    shard: str

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensor as it will be given."""
        return prod(self.shape) * self.dtype.itemsize


class WeightSource(Protocol):
    """Weights as published, with the settings and small files beside them."""

    @property
    def path(self) -> Path:
        """The folder or file."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings, under the field names of config.json."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """The small files beside the weights (tokenizer, generation settings), by name; only those that exist."""

    @property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Every tensor by its published name."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors together, as ``tensors`` gives them."""

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Name and values of each tensor, each once, shard by shard.

        A tensor may be a view on a mapped file: whoever keeps it keeps the file mapped, and nobody writes to it.

        Raises:
            ModelLoadError: a file is damaged.
        """


def open_source(path: Path) -> WeightSource:
    """The source at a path.

    Args:
        path: a folder with config.json and weights, or a .gguf file.

    Raises:
        UnknownModel: there is neither at that path.
        ModelLoadError: files are missing, damaged or contradict each other.
    """
    if path.is_dir():
        from core.engine.packed_releases import unpacked
        from core.engine.source_folder import FolderSource

        return unpacked(FolderSource(path))
    if path.is_file() and path.suffix.lower() == ".gguf":
        from core.engine.source_gguf import GGUFSource

        return GGUFSource(path)
    found = "is neither a folder nor a .gguf file" if path.exists() else "does not exist"
    raise UnknownModel(f"{path} {found}; give the folder of a Hugging Face checkpoint, or a .gguf file")
