"""A book of the library as a table of passages with vectors: what a map is made of."""

from __future__ import annotations

import numpy as np

from core.data.passages import PassageTable
from core.errors import LibraryError
from core.retrieval.library import Library

__all__ = ["passages_of"]


def passages_of(library: Library, book_id: str) -> PassageTable:
    """The book's passages in reading order, each with its vector.

    Raises:
        BookNotFound: no such book.
        LibraryError: some passages have no vector yet.
    """
    book = library.open(book_id)
    children = book.chunks.children
    table = book.vectors(library.embedder_slug)
    rows = {chunk_id: row for row, chunk_id in enumerate(table.ids)} if table is not None else {}
    if table is None or any(child.id not in rows for child in children):
        raise LibraryError(
            f"{len(rows):,} of {len(children):,} passages of 《{book.record.title}》 have a vector, a map needs all; "
            f"wait for them, or run: novelscope map build {book_id}"
        )
    titles = {chapter.number: chapter.title for chapter in book.record.chapters}
    return PassageTable(
        ids=tuple(child.id for child in children),
        texts=tuple(child.span.of(book.text) for child in children),
        chapters=np.array([child.chapter for child in children], np.int32),
        chapter_titles=tuple(titles[child.chapter] for child in children),
        spans=np.array([(child.span.start, child.span.end) for child in children], np.int64),
        vectors=table.vectors[[rows[child.id] for child in children]],
        title=book.record.title,
        book=book.id,
        key=book.vector_key(library.embedder_slug),
        language=book.record.language,
    )
