"""One book on disk: its text, chunks, lexical index and vectors.

    book.json            what the book is, and which generation of derived files counts
    text.txt             the normalised text; its SHA-256 is the book's id
    chunks-G.parquet     children and parents with their spans
    lexical-G/           the BM25 index, one row a parent
    vectors-NAME/        finished batches of vectors by the embedder NAME
    vectors-NAME.parquet all of them, once every child has one
    map.parquet          the book's map (core.data.scenes), if one was built

``book.json`` is replaced in one step after everything of a new generation is written, so a reader, or a restart
after a kill, sees the old generation or the new one; a damaged book is repaired the same way. Nothing here locks or
decides; ``core.retrieval.library`` does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from core.data.chunks import ChunkSet, ChunkSettings, Parent, split_chunks
from core.data.tables import BadTable, EmbeddingTable
from core.data.text import Chapter, Chunk, Novel, Span
from core.errors import DamagedBook
from core.retrieval.lexical import LexicalIndex

__all__ = ["BookFolder", "BookRecord", "text_id", "write_book"]

SCHEMA = 1


def text_id(text: str) -> str:
    """The id of a book with this normalised text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class BookRecord:
    """What ``book.json`` holds."""

    id: str
    title: str
    language: str
    encoding: str
    evidence: str
    characters: int
    chapters: tuple[Chapter, ...]
    num_children: int
    chunk_settings: ChunkSettings
    added_at: float
    generation: int = 1
    schema: int = SCHEMA

    def to_json(self) -> str:
        rows = [[chapter.number, chapter.title, chapter.span.start, chapter.span.end] for chapter in self.chapters]
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields |= {"chapters": rows, "chunk_settings": asdict(self.chunk_settings)}
        return json.dumps(fields, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> BookRecord:
        fields = json.loads(text)
        if fields.get("schema") != SCHEMA:
            raise ValueError(f"schema {fields.get('schema')}, wanted {SCHEMA}")
        chapters = tuple(Chapter(number, title, Span(start, end)) for number, title, start, end in fields["chapters"])
        record = cls(**{**fields, "chapters": chapters, "chunk_settings": ChunkSettings(**fields["chunk_settings"])})
        numbers = (record.characters, record.num_children, record.generation, record.added_at)
        if not chapters or not isinstance(record.title, str) or not all(isinstance(n, (int, float)) for n in numbers):
            raise ValueError("a field is of the wrong kind")
        return record


def write_book(path: Path, novel: Novel, added_at: float, on_progress: Callable[[int, int], None]) -> BookFolder:
    """Write a whole book, without vectors, into the folder ``path``: a new one, or that of the same book, damaged.

    Args:
        added_at: of a book that is new, in seconds; a record that can still be read keeps its own, and its title.
        on_progress: hears (parents indexed, parents in all).
    """
    path.mkdir(parents=True, exist_ok=True)
    try:
        old = BookFolder(path).record
    except DamagedBook:
        old = None
    # The id is the hash of this text, so it is right for the old record as well as for the new one.
    _write_durably(path / "text.txt", novel.text.encode("utf-8"))
    settings = ChunkSettings.for_language(novel.language)
    generation = 1 + max(_generations(path).values(), default=0)
    chunks = _write_derived(path, generation, novel, settings, on_progress)
    record = BookRecord(
        id=novel.id,
        title=old.title if old else novel.title,
        language=novel.language,
        encoding=novel.encoding,
        evidence=novel.evidence,
        characters=len(novel.text),
        chapters=novel.chapters,
        num_children=len(chunks.children),
        chunk_settings=settings,
        added_at=old.added_at if old else added_at,
        generation=generation,
    )
    return _switch_to(path, record)


class BookFolder:
    """Reads one book. What it reads is kept, so an instance serves one generation of its book.

    Attributes:
        stamp: when ``book.json`` was written, in nanoseconds; another stamp on disk means another generation.
    """

    def __init__(self, path: Path) -> None:
        """Read ``book.json``.

        Raises:
            DamagedBook: it is missing or not of this form.
        """
        self.path = path
        try:
            self.stamp = (path / "book.json").stat().st_mtime_ns
            self.record = BookRecord.from_json((path / "book.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as wrong:
            raise DamagedBook(
                f"{path / 'book.json'} cannot be read ({wrong}); add the book again, or run: "
                f"novelscope remove {path.name}"
            ) from wrong

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def map_path(self) -> Path:
        """Where the book's map is, or would be."""
        return self.path / "map.parquet"

    @cached_property
    def text(self) -> str:
        """The normalised text.

        Raises:
            DamagedBook: the file is missing, or is not the text that was added.
        """
        try:
            # Opened without newline translation: offsets count the characters that were stored.
            text = (self.path / "text.txt").read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as wrong:
            raise DamagedBook(
                f"the text of 《{self.record.title}》 cannot be read ({wrong}); add the book again"
            ) from wrong
        if text_id(text) != self.id:
            raise DamagedBook(f"the text of 《{self.record.title}》 was changed on disk; add the book again")
        return text

    @cached_property
    def novel(self) -> Novel:
        """The whole book as a value."""
        record = self.record
        return Novel(
            id=record.id,
            title=record.title,
            text=self.text,
            language=record.language,
            chapters=record.chapters,
            encoding=record.encoding,
            evidence=record.evidence,
        )

    @cached_property
    def chunks(self) -> ChunkSet:
        """Children and parents.

        Raises:
            DamagedBook: the file is missing or unreadable.
        """
        import pyarrow as pa
        from pyarrow import parquet

        path = self.path / f"chunks-{self.record.generation}.parquet"
        children: list[Chunk] = []
        parents: list[Parent] = []
        try:
            # Not read_table: it loads the module for tables in many files, which takes as long as the search.
            columns = ["id", "kind", "index", "chapter", "start", "end", "first_child", "last_child"]
            with parquet.ParquetFile(path) as file:
                rows = file.read(columns=columns).to_pylist()
            for row in rows:
                span = Span(row["start"], row["end"])
                if row["kind"] == "child":
                    children.append(Chunk(row["id"], row["index"], row["chapter"], span))
                else:
                    family = (row["first_child"], row["last_child"])
                    parents.append(Parent(row["id"], row["index"], row["chapter"], span, family))
        except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as wrong:
            raise DamagedBook(f"{path} cannot be read ({wrong}); run: novelscope rebuild {self.id}") from wrong
        return ChunkSet(children=tuple(children), parents=tuple(parents))

    @cached_property
    def lexical(self) -> LexicalIndex:
        """The BM25 index, one row a parent."""
        return LexicalIndex.load(self.path / f"lexical-{self.record.generation}")

    @cached_property
    def parent_chapters(self) -> np.ndarray:
        """Chapter number of every parent, (num_parents,)."""
        return np.array([parent.chapter for parent in self.chunks.parents], np.int64)

    @property
    def has_fitting_chapters(self) -> bool:
        """Whether the chapters cover the text from end to end.

        Raises:
            DamagedBook: the text is damaged.
        """
        record = self.record
        edges = [0, *(chapter.span.end for chapter in record.chapters)]
        starts = [chapter.span.start for chapter in record.chapters]
        return edges[:-1] == starts and edges[-1] == len(self.text) == record.characters

    @property
    def is_whole(self) -> bool:
        """Whether everything that adding wrote can be read and is of one size; vectors are no part of it."""
        try:
            chunks, num_passages = self.chunks, self.lexical.num_passages
            counts = (len(chunks.children), len(chunks.parents))
            return self.has_fitting_chapters and counts == (self.record.num_children, num_passages)
        except DamagedBook:
            return False

    def rebuild(self, on_progress: Callable[[int, int], None]) -> BookFolder:
        """Make chunks and the lexical index again from the text, as the next generation; the book it became."""
        old = self.record.generation
        settings = ChunkSettings.for_language(self.record.language)
        chunks = _write_derived(self.path, old + 1, self.novel, settings, on_progress)
        record = replace(self.record, generation=old + 1, num_children=len(chunks.children), chunk_settings=settings)
        return _switch_to(self.path, record)

    @cached_property
    def child_chapters(self) -> dict[str, int]:
        """Chapter number of every child, by chunk id."""
        return {child.id: child.chapter for child in self.chunks.children}

    def vector_key(self, embedder: str) -> str:
        """Names the vectors of this book's chunks by one embedder; changes when the chunks do."""
        spans = np.array([(chunk.span.start, chunk.span.end) for chunk in self.chunks.children], np.int64)
        return f"{self.id}:{embedder}:{hashlib.sha256(spans.tobytes()).hexdigest()[:12]}"

    def count_vectors(self, embedder: str) -> int:
        """How many children have a vector on disk; those of an unreadable batch do not count."""
        rows = sum(_rows_of(part) for part in self._parts(embedder))
        # Looked for last: the batches may be joined, and deleted, while they are counted.
        return self.record.num_children if self._whole_table(embedder).exists() else rows

    def vectors(self, embedder: str) -> EmbeddingTable | None:
        """All vectors made so far; None when there are none.

        Raises:
            DamagedBook: a file is unreadable or belongs to other chunks.
        """
        whole = self._whole_table(embedder)
        paths = [whole] if whole.exists() else list(self._parts(embedder))
        try:
            tables = [EmbeddingTable.read(path) for path in paths]
        except DamagedBook:
            # The batches may have been joined, and deleted, since they were listed.
            if paths == [whole] or not whole.exists():
                raise
            paths, tables = [whole], [EmbeddingTable.read(whole)]
        for path, table in zip(paths, tables, strict=True):
            if table.metadata.get("key") != self.vector_key(embedder):
                raise DamagedBook(f"{path} holds vectors of other chunks; run: novelscope rebuild {self.id}")
        try:
            return EmbeddingTable.concat(tables) if tables else None
        except BadTable as wrong:
            raise DamagedBook(
                f"the vectors of {self.id} do not fit together ({wrong}); run: novelscope rebuild {self.id}"
            ) from wrong

    def add_vectors(self, embedder: str, table: EmbeddingTable) -> None:
        """Keep a batch of vectors; once every child has one, join the batches into one file."""
        folder = self._parts_folder(embedder)
        folder.mkdir(exist_ok=True)
        table.write(folder / f"{table.ids[0]}.parquet")
        if self.count_vectors(embedder) >= self.record.num_children:
            joined = self.vectors(embedder)
            assert joined is not None
            joined.write(self._whole_table(embedder))
            _delete(folder)

    def drop_vectors(self, embedder: str) -> None:
        """Forget every vector by this embedder."""
        self._whole_table(embedder).unlink(missing_ok=True)
        _delete(self._parts_folder(embedder))

    def _parts_folder(self, embedder: str) -> Path:
        return self.path / f"vectors-{re.sub(r'[^A-Za-z0-9._-]', '_', embedder)}"

    def _whole_table(self, embedder: str) -> Path:
        folder = self._parts_folder(embedder)
        return folder.with_name(folder.name + ".parquet")

    def _parts(self, embedder: str) -> Sequence[Path]:
        return sorted(self._parts_folder(embedder).glob("[!.]*.parquet"))


def _write_derived(
    path: Path, generation: int, novel: Novel, settings: ChunkSettings, on_progress: Callable[[int, int], None]
) -> ChunkSet:
    chunks = split_chunks(novel.text, novel.chapters, settings)
    _write_chunks(path / f"chunks-{generation}.parquet", novel.text, chunks)
    titles = {chapter.number: chapter.title for chapter in novel.chapters}
    # A chapter's title says what its passages are about; with it recall@10 rose by .01.
    passages = (f"{titles[parent.chapter]}\n{parent.span.of(novel.text)}" for parent in chunks.parents)
    lexical = LexicalIndex.build(passages, lambda done: on_progress(done, len(chunks.parents)))
    folder = path / f"lexical-{generation}"
    _delete(folder)
    lexical.save(folder)
    return chunks


def _write_chunks(path: Path, text: str, chunks: ChunkSet) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows: list[dict[str, Any]] = []
    for kind, members in (("child", chunks.children), ("parent", chunks.parents)):
        for chunk in members:
            first, last = chunk.children if isinstance(chunk, Parent) else (None, None)
            rows.append(
                {
                    "id": chunk.id,
                    "kind": kind,
                    "index": chunk.index,
                    "chapter": chunk.chapter,
                    "start": chunk.span.start,
                    "end": chunk.span.end,
                    "first_child": first,
                    "last_child": last,
                    # Children tile the book: with their text the file can be read without the book.
                    "text": chunk.span.of(text) if kind == "child" else None,
                }
            )
    parquet.write_table(pa.Table.from_pylist(rows), path)


def _rows_of(path: Path) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return int(parquet.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return 0


def _switch_to(path: Path, record: BookRecord) -> BookFolder:
    """Make the record's generation the one that counts, and forget the others."""
    _write_durably(path / "book.json", record.to_json().encode("utf-8"))
    for derived, generation in _generations(path).items():
        if generation != record.generation:
            _delete(derived)
    return BookFolder(path)


def _generations(path: Path) -> dict[Path, int]:
    """The derived files of every generation, finished or not."""
    found = ((child, re.fullmatch(r"(?:chunks-(\d+)\.parquet|lexical-(\d+))", child.name)) for child in path.iterdir())
    return {child: int(match[1] or match[2]) for child, match in found if match}


def _write_durably(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.tmp")
    with partial.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    os.replace(partial, path)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
