"""The library: books in a folder, added, found, searched, checked and removed.

    HOME/books/ID/       one folder a book (core.retrieval.book_folder)
    HOME/chroma/         the vector index, unless a Chroma server is named
    HOME/*.lock          who writes (core.retrieval.locks)

A book is known by the hash of its text. Adding prepares it in a hidden folder and renames that into place, so a
killed add leaves nothing or a whole book; a book that is there and damaged is repaired in its place. Reading never
waits for a lock. Vectors are made by ``core.retrieval.indexing``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.data.tables import EmbeddingTable
from core.data.text import Novel
from core.errors import BookNotFound, DamagedBook, LibraryBusy
from core.retrieval.book_folder import BookFolder, write_book
from core.retrieval.embedders import DEFAULT_EMBEDDER, Embedder, load_embedder
from core.retrieval.hybrid import CHILDREN_WANTED, search_parents
from core.retrieval.locks import held_lock
from core.retrieval.results import Coverage, SearchResult
from core.retrieval.store import VectorStore, open_server, open_store

__all__ = ["Added", "BookInfo", "Library", "LibrarySettings"]

_log = logging.getLogger("novelscope.library")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LibrarySettings:
    """Where books live and how they are searched.

    Attributes:
        embedder: ``"e5-small"``, a folder, or ``hf:OWNER/NAME``.
        chroma_url: ``http://HOST:PORT`` of a Chroma server; None keeps vectors in the library's own folder.
    """

    home: Path
    embedder: str = DEFAULT_EMBEDDER
    chroma_url: str | None = None


@dataclass(frozen=True, slots=True)
class BookInfo:
    """A line of the library's list."""

    id: str
    title: str
    language: str
    encoding: str
    characters: int
    chapters: int
    last_chapter: int
    chunks: int
    dense_done: int

    @property
    def is_dense(self) -> bool:
        """Whether every chunk has its vector."""
        return self.dense_done >= self.chunks

    def to_dict(self) -> dict[str, Any]:
        return {
            "book": self.id,
            "title": self.title,
            "chapters": self.chapters,
            "characters": self.characters,
            "chunks": self.chunks,
            "encoding": self.encoding,
            "dense": {"done": self.dense_done, "total": self.chunks, "complete": self.is_dense},
        }


@dataclass(frozen=True, slots=True)
class Added:
    """What ``Library.add`` did: the book, and whether it was written, new or repaired."""

    info: BookInfo
    is_new: bool


class Library:
    """Books on disk. Safe to share between threads; many processes may read one while another writes.

    Attributes:
        damaged: why books that ``books`` left out cannot be read, by id.
        embedder_slug: what vectors on disk are filed under; known without loading the model.
    """

    def __init__(self, settings: LibrarySettings, embedder: Embedder | None = None) -> None:
        """Open the library; nothing is read or loaded yet.

        Args:
            embedder: used instead of the one that the settings name.
        """
        self.settings = settings
        self._books = settings.home / "books"
        self._embedder = embedder
        # Fixed for life: a name that changed when the model is loaded would lose sight of the vectors on disk.
        self.embedder_slug = embedder.name if embedder is not None else settings.embedder
        self._embedder_lock = threading.Lock()
        self._open: dict[str, BookFolder] = {}
        self._tables: dict[str, tuple[int, tuple[str, ...], np.ndarray]] = {}
        self.damaged: dict[str, str] = {}
        self._store: VectorStore | None = None
        self._server: VectorStore | None = None

    @property
    def embedder(self) -> Embedder:
        """The embedding model, loaded on first use."""
        with self._embedder_lock:
            if self._embedder is None:
                self._embedder = load_embedder(self.settings.embedder)
            return self._embedder

    # Books ------------------------------------------------------------------------------------------------------

    def add(self, novel: Novel, on_progress: Progress = lambda done, total: None) -> Added:
        """Put a novel into the library and make it searchable by words; the same text, damaged on disk, is repaired.

        Args:
            on_progress: hears (passages indexed, passages in all).

        Raises:
            LibraryBusy: another process adds, removes or rebuilds.
        """
        with self._catalogue(f"adding 《{novel.title}》"):
            place = self._books / novel.id
            if place.exists():
                if self._is_whole(novel.id):
                    return Added(self.info(novel.id), is_new=False)
                self._vectors_that_fit(write_book(place, novel, time.time(), on_progress))
                return Added(self.info(novel.id), is_new=True)
            staging = self._books / f".new-{novel.id}"
            try:
                write_book(staging, novel, time.time(), on_progress)
                staging.rename(place)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            return Added(self.info(novel.id), is_new=True)

    def remove(self, name: str) -> BookInfo:
        """Delete a book; its collection goes now, or when the process that holds the vector index next sweeps.

        Raises:
            BookNotFound: no such book.
            LibraryBusy: another process adds, removes or rebuilds.
        """
        with self._catalogue("removing a book"):
            book_id = self.find(name)
            try:
                info = self.info(book_id)
            except DamagedBook:
                info = BookInfo(book_id, book_id, "", "", 0, 0, 0, 0, 0)
            gone = self._books / f".gone-{book_id}"
            (self._books / book_id).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
            self._open.pop(book_id, None)
        with contextlib.suppress(LibraryBusy), self.vector_store("removing a book") as store:
            self.sweep(store, book_id)
        return info

    def books(self) -> list[BookInfo]:
        """Every book, in the order in which they were added."""
        infos = []
        for path in self._books.glob("[!.]*"):
            # One damaged book, or one that is removed this instant, must not hide the others.
            try:
                infos.append((self.open(path.name).record.added_at, self.info(path.name)))
            except BookNotFound:
                continue
            except DamagedBook as damaged:
                if path.name not in self.damaged:
                    _log.warning("%s", damaged)
                self.damaged[path.name] = str(damaged)
        return [info for _, info in sorted(infos, key=lambda dated: (dated[0], dated[1].id))]

    def info(self, book_id: str) -> BookInfo:
        """The book's line in the list, with the number of vectors made so far."""
        book = self.open(book_id)
        record = book.record
        return BookInfo(
            id=record.id,
            title=record.title,
            language=record.language,
            encoding=record.encoding,
            characters=record.characters,
            chapters=sum(chapter.number > 0 for chapter in record.chapters) or len(record.chapters),
            last_chapter=record.chapters[-1].number,
            chunks=record.num_children,
            dense_done=book.count_vectors(self.embedder_slug),
        )

    def find(self, name: str) -> str:
        """Id of the book with this id, beginning of an id (6 digits or more), or title.

        Raises:
            BookNotFound: none or several match; the message lists what there is.
        """
        name = name.strip().removeprefix("《").removesuffix("》")
        # os.path, unlike Path, takes a name that is too long for one that does not exist.
        if name and "/" not in name and not name.startswith(".") and os.path.isdir(self._books / name):
            return name
        records = [self.open(info.id).record for info in self.books()]
        matches = [record.id for record in records if record.title == name]
        matches = matches or [record.id for record in records if len(name) >= 6 and record.id.startswith(name)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise BookNotFound(f"{len(matches)} books are called {name!r}; name one by its id: {', '.join(matches)}")
        titles = ", ".join(f"《{record.title}》 ({record.id})" for record in records) or "no books yet"
        raise BookNotFound(f"no book is called {name!r}; the library holds: {titles}")

    def open(self, book_id: str) -> BookFolder:
        """The book, read again when another process has rebuilt it.

        Raises:
            BookNotFound: it was removed.
            DamagedBook: its folder is there and its record cannot be read.
        """
        path = self._books / book_id
        try:
            stamp = (path / "book.json").stat().st_mtime_ns
        except OSError as missing:
            self._open.pop(book_id, None)
            if not os.path.isdir(path):
                raise BookNotFound(f"no book {book_id!r} in the library; list them with: novelscope list") from missing
            stamp = None
        book = self._open.get(book_id)
        if book is None or book.stamp != stamp:
            book = self._open[book_id] = BookFolder(path)
        return book

    def rebuild(self, name: str, on_progress: Progress = lambda done, total: None) -> BookInfo:
        """Make everything that derives from the text again; vectors that still fit are kept and stored anew.

        Raises:
            LibraryBusy: another process writes, the vector index included.
            DamagedBook: the text itself is damaged.
        """
        with self._catalogue("rebuilding a book"), self.vector_store("rebuilding a book") as store:
            book = self.open(self.find(name)).rebuild(on_progress)
            slug = self.embedder_slug
            key = book.vector_key(slug)
            table = self._vectors_that_fit(book)
            self.sweep(store, book.id)
            store.drop(key)
            if table is not None:
                store.upsert(key, table, [book.child_chapters[chunk_id] for chunk_id in table.ids])
            return self.info(book.id)

    # Searching ----------------------------------------------------------------------------------------------------

    def search(self, book_id: str, question: str, *, top_k: int = 10, until_chapter: int | None = None) -> SearchResult:
        """Passages of one book for a question, best first, by whatever of the book is indexed so far.

        Args:
            until_chapter: number of the last chapter that may be read; None for the whole book.
        """
        book = self.open(book_id)
        done = book.count_vectors(self.embedder_slug)
        similarities = self._similarities(book, question, done, until_chapter) if done else None
        passages = search_parents(book, question, top_k=top_k, until_chapter=until_chapter, similarities=similarities)
        return SearchResult(passages, Coverage(done if similarities is not None else 0, book.record.num_children))

    def _similarities(self, book: BookFolder, question: str, done: int, until_chapter: int | None) -> dict[str, float]:
        vector = self.embedder.embed_query(question)
        key = book.vector_key(self.embedder_slug)
        store = self._readable_store()
        if store is not None and store.count(key) == done:
            return store.query(key, vector, top_k=CHILDREN_WANTED, until_chapter=until_chapter)
        # Another process holds the vector index, or it lags behind: the table beside the book has the same vectors,
        # and for one book the exact product takes a few milliseconds.
        ids, vectors = self._table(book, key, done)
        return dict(zip(ids, (vectors @ vector).tolist(), strict=True))

    def _table(self, book: BookFolder, key: str, done: int) -> tuple[tuple[str, ...], np.ndarray]:
        cached = self._tables.get(key)
        if cached is None or cached[0] != done:
            table = book.vectors(self.embedder_slug)
            if table is None:
                return (), np.zeros((0, 1), np.float32)
            cached = self._tables[key] = (len(table), table.ids, table.vectors)
        return cached[1], cached[2]

    # The vector index -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def vector_store(self, purpose: str, *, wait_s: float = 0.0) -> Iterator[VectorStore]:
        """Hold the vector index for the length of the block; searches of this object then use it.

        Raises:
            LibraryBusy: another process holds it.
        """
        if self._store is not None:
            yield self._store
            return
        with held_lock(self.settings.home / "vectors.lock", purpose, wait_s=wait_s):
            server = self._readable_store()
            self._store = server or open_store(self.settings.home / "chroma")
            try:
                yield self._store
            finally:
                if server is None:
                    self._store.close()
                self._store = None

    def close(self) -> None:
        """Release the connection to a Chroma server, if there is one."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def sweep(self, store: VectorStore, book_id: str | None = None) -> None:
        """Drop collections whose book was removed or cut anew: of one book, or of all that can only be ours."""
        if book_id is None and self.settings.chroma_url is not None:
            return  # the server may hold the books of other libraries
        wanted, damaged = set(), set()
        for path in self._books.glob("[!.]*"):
            try:
                wanted.add(self.open(path.name).vector_key(self.embedder_slug))
            except BookNotFound:
                continue
            except DamagedBook:
                damaged.add(path.name)  # its collection may be right again once it is repaired
        for key in store.collections() - wanted:
            owner = key.split(":")[0]
            if owner not in damaged and book_id in (None, owner):
                store.drop(key)

    def _readable_store(self) -> VectorStore | None:
        if self._store is None and self.settings.chroma_url is not None:
            if self._server is None:
                self._server = open_server(self.settings.chroma_url)
            return self._server
        return self._store

    def _is_whole(self, book_id: str) -> bool:
        try:
            return BookFolder(self._books / book_id).is_whole
        except DamagedBook:
            return False

    def _vectors_that_fit(self, book: BookFolder) -> EmbeddingTable | None:
        """The book's vectors; damaged ones are dropped, since they are worth less than the minutes they took."""
        try:
            return book.vectors(self.embedder_slug)
        except DamagedBook:
            book.drop_vectors(self.embedder_slug)
            return None

    @contextlib.contextmanager
    def _catalogue(self, purpose: str) -> Iterator[None]:
        with held_lock(self.settings.home / "catalogue.lock", purpose):
            # What a killed add or remove left behind.
            for debris in [*self._books.glob(".new-*"), *self._books.glob(".gone-*")]:
                shutil.rmtree(debris, ignore_errors=True)
            yield
