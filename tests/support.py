"""A small novel and an embedder that needs no weights: what tests put through the real seams."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.data.text import Chapter, Novel, Span
from core.retrieval.book_folder import text_id

ROOT = Path(__file__).resolve().parent.parent

PARITY_FOLDERS = [
    "chatglm",
    "chatglm2",
    "chatglm2_ptuning",
    "chatglm2_sharded_bin",
    "chatglm3",
    "chatglm_28layers",
    "chatglm_ptuning",
    "gemma3_text",
    "glm4",
    "glm4_0414",
    "glm4_remote",
    "llama",
    "moss",
]
PARITY_LIMIT = 1e-4
"""Two correct float32 implementations agree to about 5e-6 (shared/parity)."""


class HashedEmbedder:
    """Unit vectors that depend on nothing but the characters: texts that share characters are similar."""

    name, dim = "hashed", 32

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def embed_passages(self, texts: Sequence[str]) -> np.ndarray:
        self.embedded += texts
        return np.stack([self.embed_query(text) for text in texts])

    def embed_query(self, text: str) -> np.ndarray:
        vector = np.full(self.dim, 1e-3, np.float32)
        for char in text:
            vector[hashlib.md5(char.encode()).digest()[0] % self.dim] += 1
        return vector / np.linalg.norm(vector)


def make_novel(title: str = "山中记", num_chapters: int = 8, salt: str = "") -> Novel:
    """A novel whose chapter N alone speaks of lantern N and of sword N."""
    names = "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉"
    text, chapters = "", []
    for number in range(1, num_chapters + 1):
        mark = names[(number - 1) % len(names)]
        body = "".join(
            f"山路第{step}程，{salt}风从{mark}谷吹来，行人说起{mark}字剑与{mark}字灯，各自沉默了半晌。"
            for step in range(1, 31)
        )
        start = len(text)
        heading = f"第{number}章 {mark}谷"
        text += f"{heading}\n{body}\n{mark}字灯藏在{mark}谷的石桥底下，重{number}斤。\n"
        chapters.append(Chapter(number, heading, Span(start, len(text))))
    return Novel(text_id(text), title, text, "zh", tuple(chapters), "utf-8", "made by the test")
