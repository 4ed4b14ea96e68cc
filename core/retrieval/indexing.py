"""Make the vectors that books still lack: batch by batch, resumable, stopped between two batches.

A batch counts once it is on disk beside its book; the vector index follows it. After a kill the next run embeds what
is missing on disk, then brings the index level from disk, so nothing is embedded twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.data.tables import EmbeddingTable
from core.errors import BookNotFound, DamagedBook
from core.retrieval.book_folder import BookFolder
from core.retrieval.library import Library
from core.retrieval.store import VectorStore

__all__ = ["EmbeddingProgress", "embed_missing", "has_pending"]

# About two seconds of work on two cores: progress moves, and a stop is prompt.
BATCH_CHUNKS = 32


@dataclass(frozen=True, slots=True)
class EmbeddingProgress:
    """Chunks of one book that have a vector, of all it has."""

    book_id: str
    title: str
    done: int
    total: int


def has_pending(library: Library) -> bool:
    """Whether any book lacks vectors on disk."""
    return any(not info.is_dense for info in library.books())


def embed_missing(
    library: Library,
    store: VectorStore,
    *,
    on_progress: Callable[[EmbeddingProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Embed every book that lacks vectors, oldest first, books added meanwhile included.

    Args:
        store: the vector index, held by the caller.
        should_stop: asked before each batch.

    Returns:
        Whether everything is done; False when stopped.

    Raises:
        DamagedBook: of the first such book, once all the others are done.
    """
    library.sweep(store)
    damage: DamagedBook | None = None
    finished: set[str] = set()
    while not should_stop():
        waiting = [info.id for info in library.books() if info.id not in finished]
        if not waiting:
            if damage is not None:
                raise damage
            return True
        try:
            if not _embed_book(library, library.open(waiting[0]), store, on_progress, should_stop):
                return False
        except BookNotFound:
            library.sweep(store)
        except DamagedBook as damaged:
            damage = damage or damaged
        finished.add(waiting[0])
    return False


def _embed_book(
    library: Library,
    book: BookFolder,
    store: VectorStore,
    on_progress: Callable[[EmbeddingProgress], None],
    should_stop: Callable[[], bool],
) -> bool:
    slug = library.embedder_slug
    key = book.vector_key(slug)
    table = _vectors_on_disk(book, slug)
    have = set(table.ids) if table else set()
    if table is not None and store.count(key) != len(table):
        store.drop(key)
        store.upsert(key, table, [book.child_chapters[chunk_id] for chunk_id in table.ids])
    missing = [child for child in book.chunks.children if child.id not in have]
    total = book.record.num_children
    for start in range(0, len(missing), BATCH_CHUNKS):
        if should_stop():
            return False
        batch = missing[start : start + BATCH_CHUNKS]
        vectors = library.embedder.embed_passages([child.span.of(book.text) for child in batch])
        if library.open(book.id).stamp != book.stamp:
            # It was rebuilt meanwhile; the chunks may be others now, so begin again with what is on disk.
            return _embed_book(library, library.open(book.id), store, on_progress, should_stop)
        part = EmbeddingTable(
            ids=tuple(child.id for child in batch),
            vectors=vectors,
            metadata={"key": key, "book": book.id, "title": book.record.title, "embedder": library.embedder.name},
        )
        book.add_vectors(slug, part)
        store.upsert(key, part, [child.chapter for child in batch])
        on_progress(EmbeddingProgress(book.id, book.record.title, total - len(missing) + start + len(batch), total))
    return True


def _vectors_on_disk(book: BookFolder, slug: str) -> EmbeddingTable | None:
    try:
        return book.vectors(slug)
    except DamagedBook:
        # Damaged vectors are worth less than the minutes it takes to make them again.
        book.drop_vectors(slug)
        return None
