"""What rounding costs: perplexity of the builtin models on a chapter of each book, against float32."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks.engine import model_file
from core.data.reading import read_novel

__all__ = ["perplexity"]

TOKENS = 1500
BOOKS = ("xiyouji", "sanguoyanyi", "pride_and_prejudice")


def perplexity(corpus: Path) -> dict[str, Any]:
    """Percent by which perplexity grows, over 1,500 tokens of each book's middle chapter."""
    return {name: _of_model(model_file(name), corpus) for name in ("smollm2-135m", "gemma3-270m")}


def _of_model(file: Path, corpus: Path) -> dict[str, Any]:
    from core.engine.assistant import open_assistant

    exact = open_assistant(file, bits=32)
    texts = {book: list(exact.format.encode_text(_chapter(corpus / f"{book}.txt")).ids)[:TOKENS] for book in BOOKS}
    before = {book: _loss(exact.model, ids) for book, ids in texts.items()}
    result: dict[str, Any] = {"float32": {book: round(math.exp(loss), 2) for book, loss in before.items()}}
    del exact
    for bits in (8, 4):
        model = open_assistant(file, bits=bits).model
        grown = {book: math.exp(_loss(model, ids) - before[book]) - 1 for book, ids in texts.items()}
        result[f"{bits}_bits_percent"] = {book: round(100 * share, 2) for book, share in grown.items()}
    return result


def _chapter(path: Path) -> str:
    novel = read_novel(path)
    span = novel.chapters[len(novel.chapters) // 2].span
    return novel.text[span.start : span.end]


def _loss(model: Any, ids: list[int]) -> float:
    import torch
    from torch.nn import functional as F

    return float(F.cross_entropy(model.forward(ids)[:-1], torch.tensor(ids[1:])))
