"""Check a book on disk: every file against the text, and the vector index against the files.

Nothing is repaired here; each problem names its cure. The index is looked at only while no other process holds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from core.data.chunks import ChunkSet
from core.data.tables import EmbeddingTable
from core.errors import DamagedBook, LibraryBusy, NovelscopeError
from core.retrieval.book_folder import BookFolder
from core.retrieval.library import Library
from core.retrieval.tokens import index_terms

__all__ = ["VerifyReport", "verify_book"]

ADD_AGAIN = "add its file again"
SAMPLED_PASSAGES = 8
LEAST_SHARE = 0.999  # of a passage's own words; all of them, but for the sum's rounding
LENGTH_TOLERANCE = 1e-3  # embedders divide in float32, some in half of it
LEAST_COSINE = 0.999  # Chroma may keep vectors in less than float32


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a check found.

    Attributes:
        problems: what is wrong, a sentence each with its cure.
        notes: what could not be checked, or is merely not finished.
    """

    ok: bool
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def verify_book(library: Library, book_id: str) -> VerifyReport:
    """Check one book's text, chapters, chunks, lexical index, vectors and collection.

    Raises:
        BookNotFound: there is no such book.
    """
    notes: list[str] = []
    problems: list[str] = []
    try:
        book = library.open(book_id)
        text = book.text
        if not book.has_fitting_chapters:
            # The record is written once, from the same text, so only a hand or a bad disk can have changed it.
            problems.append(f"the chapters do not cover the text; {ADD_AGAIN}")
    except DamagedBook as damaged:
        # Everything else derives from the record and the text, so there is nothing left to compare with.
        return VerifyReport(False, (f"{_clause(damaged)}; {ADD_AGAIN}",))
    try:
        chunks = book.chunks
    except DamagedBook as damaged:
        return VerifyReport(False, (*problems, _curable(book, _clause(damaged))))
    wrong = [*_children_problems(book, chunks, text), *_parent_problems(chunks), *_lexical_problems(book, chunks, text)]
    try:
        table = book.vectors(library.embedder_slug)
        wrong += _vector_problems(chunks, table)
        wrong += _index_problems(library, book, table, notes)
    except NovelscopeError as damaged:
        wrong.append(_clause(damaged))
    problems += [_curable(book, problem) for problem in wrong]
    return VerifyReport(not problems, tuple(problems), tuple(notes))


def _curable(book: BookFolder, problem: str) -> str:
    return f"{problem}; run: novelscope rebuild {book.id}"


def _clause(wrong: NovelscopeError) -> str:
    """The error without its own advice."""
    return str(wrong).split(";")[0]


def _children_problems(book: BookFolder, chunks: ChunkSet, text: str) -> Iterator[str]:
    if len(chunks.children) != book.record.num_children:
        yield f"{len(chunks.children)} chunks on disk, {book.record.num_children} recorded"
    spans = {chapter.number: chapter.span for chapter in book.record.chapters}
    end = 0
    for place, child in enumerate(chunks.children):
        home = spans.get(child.chapter)
        if home is None or child.span.start < home.start or child.span.end > home.end:
            yield f"chunk {child.id} lies outside its chapter"
            return
        if child.index != place or child.span.start < end or not len(child.span):
            yield f"chunk {child.id} is out of order or overlaps the one before it"
            return
        if text[end : child.span.start].strip():
            yield f"text before chunk {child.id} is in no chunk"
            return
        end = child.span.end
    if text[end:].strip():
        yield "text after the last chunk is in no chunk"


def _parent_problems(chunks: ChunkSet) -> Iterator[str]:
    covered = 0
    for place, parent in enumerate(chunks.parents):
        first, last = parent.children
        family = chunks.children[first:last]
        if (
            parent.index != place
            or len(family) != last - first
            or not family
            or parent.span.start != family[0].span.start
            or parent.span.end != family[-1].span.end
            or any(child.chapter != parent.chapter for child in family)
            or first > covered
        ):
            yield f"passage {parent.id} is not the union of its chunks"
            return
        covered = max(covered, last)
    if covered != len(chunks.children):
        yield "the last chunks belong to no passage"


def _lexical_problems(book: BookFolder, chunks: ChunkSet, text: str) -> Iterator[str]:
    try:
        lexical = book.lexical
        if lexical.num_passages != len(chunks.parents):
            yield f"the lexical index has {lexical.num_passages} passages, wanted {len(chunks.parents)}"
            return
        for row in _sampled(len(chunks.parents)):
            passage = chunks.parents[row].span.of(text)
            only_this = np.arange(len(chunks.parents)) == row
            if any(index_terms(passage)) and lexical.known_share(passage, only_this) < LEAST_SHARE:
                yield f"the lexical index does not find passage {chunks.parents[row].id} by its own words"
                return
    except DamagedBook as damaged:
        yield _clause(damaged)
    except (LookupError, ValueError) as wrong:  # numpy's, for indexes that point nowhere
        yield f"the lexical index contradicts itself ({wrong})"


def _sampled(count: int) -> Sequence[int]:
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, SAMPLED_PASSAGES))})


def _vector_problems(chunks: ChunkSet, table: EmbeddingTable | None) -> Iterator[str]:
    if table is None:
        return
    strays = set(table.ids) - {child.id for child in chunks.children}
    if strays:
        yield f"{len(strays)} vectors belong to no chunk, {min(strays)} among them"
    lengths = np.linalg.norm(table.vectors, axis=1)
    if (odd := int((np.abs(lengths - 1) > LENGTH_TOLERANCE).sum())) > 0:
        yield f"{odd} vectors do not have length 1"


def _index_problems(library: Library, book: BookFolder, table: EmbeddingTable | None, notes: list[str]) -> list[str]:
    """Compare the collection with the vectors on disk; ``notes`` hears what does not count as wrong."""
    try:
        with library.vector_store("checking a book") as store:
            stored = store.table(book.vector_key(library.embedder_slug))
    except LibraryBusy as busy:
        notes.append(f"the vector index was not checked, it is held by {busy.holder}")
        return []
    wanted = {} if table is None else dict(zip(table.ids, table.vectors, strict=True))
    found = dict(zip(stored.ids, stored.vectors, strict=True))
    if strays := found.keys() - wanted.keys():
        return [f"the vector index has {len(strays)} vectors that are not on disk, {min(strays)} among them"]
    missing = len(wanted) - len(found)
    if missing and len(wanted) < book.record.num_children:
        # A kill between the two writes; whoever makes the rest of the vectors first brings the index level.
        notes.append(f"the vector index is {missing} vectors behind the disk, and follows when more are made")
    elif missing:
        return [f"the vector index lacks {missing} of {len(wanted)} vectors"]
    far = sum(
        len(vector) != len(wanted[chunk_id]) or not _cosine(vector, wanted[chunk_id]) > LEAST_COSINE
        for chunk_id, vector in found.items()
    )
    return [f"the vector index has {far} vectors that differ from those on disk"] if far else []


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-9))
