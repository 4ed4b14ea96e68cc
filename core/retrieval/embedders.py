"""The seam for embedding models, and the table of those that come with novelscope.

An embedder turns texts into unit vectors. ``load_embedder`` resolves a setting to one: ``"e5-small"`` for the bundled
model, a local folder or ``hf:OWNER/NAME`` for any encoder that transformers can load.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from core.errors import UnknownModel

__all__ = ["DEFAULT_EMBEDDER", "EMBEDDERS", "Embedder", "load_embedder"]


class Embedder(Protocol):
    """Turns texts into unit vectors whose dot product is their similarity.

    Attributes:
        name: identifies the weights; vectors of different names are never compared.
    """

    name: str
    dim: int

    def embed_passages(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of passages, (len(texts), dim) float32."""
        ...

    def embed_query(self, text: str) -> np.ndarray:
        """Vector of one question, (dim,) float32."""
        ...


DEFAULT_EMBEDDER = "e5-small"
EMBEDDERS = {DEFAULT_EMBEDDER: "core.retrieval.e5:E5Embedder"}


def load_embedder(spec: str = DEFAULT_EMBEDDER) -> Embedder:
    """The embedder that ``spec`` names.

    Raises:
        UnknownModel: ``spec`` is neither a bundled name, nor a folder, nor ``hf:OWNER/NAME``.
        ModelLoadError: the model's files are missing or damaged.
    """
    if spec in EMBEDDERS:
        module, _, name = EMBEDDERS[spec].partition(":")
        embedder: Embedder = getattr(import_module(module), name)()
        return embedder
    if spec.startswith("hf:") or Path(spec).is_dir():
        from core.retrieval.hub_embedder import HubEmbedder

        return HubEmbedder(spec.removeprefix("hf:"))
    raise UnknownModel(f"no embedding model {spec!r}; wanted one of {', '.join(EMBEDDERS)}, a folder, or hf:OWNER/NAME")
