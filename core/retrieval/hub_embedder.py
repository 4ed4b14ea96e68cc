"""Any encoder that transformers can load, as an embedder: a local folder or a hub name.

Pooling follows the checkpoint's own ``1_Pooling/config.json`` (the sentence-transformers convention), and is the mean
where there is none. Code from a checkpoint is never run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.errors import ModelLoadError

__all__ = ["HubEmbedder"]

BATCH_TEXTS = 8
# Families whose training prefixed its texts; every other model gets the bare text.
PREFIXES = {"e5": ("query: ", "passage: ")}


class HubEmbedder:
    """Embeds with a checkpoint loaded through transformers."""

    def __init__(self, name_or_path: str) -> None:
        """Load the checkpoint.

        Raises:
            ModelLoadError: it cannot be found, or is not an encoder that transformers knows.
        """
        from safetensors import SafetensorError
        from transformers import AutoModel, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
            if set(self._tokenizer.get_vocab()) <= set(self._tokenizer.all_special_tokens):
                # transformers 5 makes up an empty tokenizer where a checkpoint has none.
                raise ValueError("its tokenizer is missing")
            self._model = AutoModel.from_pretrained(name_or_path, trust_remote_code=False).eval()
            self._pooling = _pooling_of(name_or_path)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError) as wrong:
            raise _not_loaded(name_or_path, wrong) from wrong
        except SafetensorError as wrong:  # a plain Exception
            raise _not_loaded(name_or_path, wrong) from wrong
        self.name = Path(name_or_path).name
        self.dim = int(self._model.config.hidden_size)
        self._query, self._passage = next(
            (both for key, both in PREFIXES.items() if key in self.name.lower()), ("", "")
        )

    def embed_passages(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of passages, (len(texts), dim) float32."""
        batches = [texts[start : start + BATCH_TEXTS] for start in range(0, len(texts), BATCH_TEXTS)]
        rows = [self._embed([self._passage + text for text in batch]) for batch in batches]
        return np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)

    def embed_query(self, text: str) -> np.ndarray:
        """Vector of one question, (dim,) float32."""
        return self._embed([self._query + text])[0]

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        import torch
        from torch.nn import functional as F

        from core.model.encoder import mean_pool

        limit = min(self._tokenizer.model_max_length, getattr(self._model.config, "max_position_embeddings", 512))
        tokens = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=min(limit, 8192), return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = self._model(**tokens).last_hidden_state.float()
            mask = tokens["attention_mask"].bool()
            if self._pooling == "cls":
                pooled = F.normalize(hidden[:, 0], dim=-1)
            elif self._pooling == "last":
                last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
                pooled = F.normalize(hidden[torch.arange(len(hidden)), last], dim=-1)
            else:
                pooled = mean_pool(hidden, mask)
        vectors: np.ndarray = pooled.numpy()
        return vectors


def _not_loaded(name_or_path: str, wrong: Exception) -> ModelLoadError:
    # transformers explains at length; the first line says what is wrong.
    reason = next(iter(str(wrong).splitlines()), type(wrong).__name__)
    return ModelLoadError(f"embedding model {name_or_path!r} cannot be loaded: {reason}")


def _pooling_of(name_or_path: str) -> str:
    from transformers.utils import cached_file

    path = cached_file(name_or_path, "1_Pooling/config.json", _raise_exceptions_for_missing_entries=False)
    if path is None:
        return "mean"
    flags = json.loads(Path(path).read_text(encoding="utf-8"))
    if flags.get("pooling_mode_cls_token"):
        return "cls"
    return "last" if flags.get("pooling_mode_lasttoken") else "mean"
