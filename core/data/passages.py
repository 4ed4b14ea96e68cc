"""A book's passages with their vectors in one Parquet file: the hand-over from a library to whoever computes a map.

Only a column of texts and one of vectors must be there, so tables of other programs can be mapped too; whatever else
a table knows (ids, chapters, spans, title) is used, and made up where it is missing. Nothing here computes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.data.columns import fixed_lists, matrix, numbers, strings
from core.data.files import replacing
from core.errors import BadPassages, SceneError

__all__ = ["PassageTable"]

METADATA_KEY = b"novelscope"
VECTOR_NAMES = ("vector", "embedding", "vectors", "embeddings")
CJK_FIRST, CJK_LAST = "\u3040", "\u9fff"


@dataclass(frozen=True, eq=False, kw_only=True)
class PassageTable:
    """Passages in reading order.

    Attributes:
        ids: all different.
        texts: as the book has them.
        chapters: (n,) int32, number of each passage's chapter.
        chapter_titles: of each passage's chapter.
        spans: (n, 2) int64, first and past-the-last character in the book's text.
        vectors: (n, dim) float32, finite.
        title, book: the book's title and id.
        key: names the vectors, so that a map can tell whether it is out of date.
        language: ``"zh"`` for scripts without spaces, ``"en"`` for scripts with spaces.

    Raises:
        BadPassages: the parts do not fit together.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    chapters: NDArray[np.int32]
    chapter_titles: tuple[str, ...]
    spans: NDArray[np.int64]
    vectors: NDArray[np.float32]
    title: str
    book: str = ""
    key: str = ""
    language: str = "zh"

    def __post_init__(self) -> None:
        count = len(self.ids)
        if count == 0:
            raise BadPassages("there is no passage, wanted at least one")
        lengths = {len(self.texts), len(self.chapters), len(self.chapter_titles), len(self.spans), len(self.vectors)}
        if lengths != {count}:
            raise BadPassages(f"{count} ids stand beside columns of {sorted(lengths)} rows, wanted one row each")
        if len(set(self.ids)) != count:
            raise BadPassages("an id occurs twice, wanted each passage once")
        if self.vectors.ndim != 2 or self.vectors.shape[1] == 0:
            raise BadPassages(f"vectors have shape {self.vectors.shape}, wanted (passages, dim)")
        if not np.isfinite(self.vectors).all():
            row = int(np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))[0])
            raise BadPassages(f"the vector of passage {self.ids[row]!r} is not finite, wanted numbers")
        if not (np.diff(self.spans[:, 0]) >= 0).all():
            raise BadPassages("passages are out of order, wanted reading order")

    def __len__(self) -> int:
        return len(self.ids)

    def write(self, path: Path) -> None:
        """Put the table at ``path`` in one step.

        Raises:
            SceneError: the file cannot be written.
        """
        import pyarrow as pa
        from pyarrow import parquet

        columns: dict[str, Any] = {
            "id": pa.array(self.ids, pa.string()),
            "chapter": pa.array(self.chapters.astype(np.int32)),
            "chapter_title": pa.array(self.chapter_titles, pa.string()),
            "start": pa.array(self.spans[:, 0].astype(np.int64)),
            "end": pa.array(self.spans[:, 1].astype(np.int64)),
            "text": pa.array(self.texts, pa.string()),
            "vector": fixed_lists(self.vectors.astype(np.float32)),
        }
        facts = {"title": self.title, "book": self.book, "key": self.key, "language": self.language}
        metadata = {METADATA_KEY: json.dumps(facts, ensure_ascii=False).encode()}
        with replacing(path, SceneError) as partial:
            parquet.write_table(pa.table(columns).replace_schema_metadata(metadata), partial, compression="zstd")

    @classmethod
    def read(cls, path: Path) -> PassageTable:
        """The passages at ``path``, sorted into reading order where the table says where they begin.

        Raises:
            SceneError: the file is missing, cut short, or lacks texts or vectors.
        """
        import pyarrow as pa
        from pyarrow import parquet

        try:
            with path.open("rb") as file:
                source = parquet.ParquetFile(file)
                table = source.read()
                told = json.loads((source.schema_arrow.metadata or {}).get(METADATA_KEY, b"{}"))
            return _passages(table, told if isinstance(told, dict) else {}, path.stem)
        except FileNotFoundError as missing:
            raise SceneError(f"there is no table of passages at {path}; check the path") from missing
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as wrong:
            reason = " ".join(str(wrong).split())
            raise SceneError(
                f"{path} is not a table of passages ({reason}); wanted a Parquet file with a column 'text' and a "
                "column 'vector' of numbers"
            ) from wrong


def _passages(table: Any, facts: dict[str, Any], name: str) -> PassageTable:
    columns = table.column_names
    vector = next((each for each in VECTOR_NAMES if each in columns), None)
    if "text" not in columns or vector is None:
        raise BadPassages(f"its columns are {', '.join(columns) or 'none'}")
    texts = strings(table, "text")
    count = len(texts)
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    starts = ends - [len(text) for text in texts] if count else ends
    if {"start", "end"} <= set(columns):
        starts, ends = numbers(table, "start").astype(np.int64), numbers(table, "end").astype(np.int64)
    chapters = numbers(table, "chapter") if "chapter" in columns else np.ones(count)
    titles = strings(table, "chapter_title") if "chapter_title" in columns else [""] * count
    ids = [str(value) for value in table.column("id").to_pylist()] if "id" in columns else None
    ids = ids if ids is not None else [f"{row:06d}" for row in range(count)]
    vectors = matrix(table, vector).astype(np.float32)
    order = np.argsort(starts, kind="stable")
    return PassageTable(
        ids=tuple(ids[row] for row in order),
        texts=tuple(texts[row] for row in order),
        chapters=chapters.astype(np.int32)[order],
        chapter_titles=tuple(titles[row] for row in order),
        spans=np.stack([starts, ends], axis=1).astype(np.int64)[order],
        vectors=vectors[order],
        title=str(facts.get("title") or name),
        book=str(facts.get("book") or ""),
        key=str(facts.get("key") or ""),
        language=str(facts.get("language") or _language_of(texts)),
    )


def _language_of(texts: list[str]) -> str:
    sample = "".join(texts[:: max(1, len(texts) // 50)])
    letters = [letter for letter in sample if letter.isalpha()]
    return "zh" if sum(CJK_FIRST <= letter <= CJK_LAST for letter in letters) * 2 > len(letters) else "en"
