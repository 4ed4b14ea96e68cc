"""The vector index: one Chroma collection a book, in a folder or on a Chroma server.

The index is never the only copy: ids and vectors also stand in Parquet beside each book, so a collection can be
checked and made again without embedding anything. Chroma is thread-safe but not process-safe: two processes that
write one folder lose vectors silently, so whoever opens a folder must hold the library's vector lock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np

from core.data.tables import EmbeddingTable
from core.errors import LibraryError, SettingsError

__all__ = ["ChromaStore", "VectorStore", "open_server", "open_store"]

# Chroma's own bound for one call is 5,461 rows; smaller writes keep its write-ahead log short.
WRITE_ROWS = 1000
# The search list must be longer than the result for a filtered query to be complete.
HNSW = {"space": "cosine", "ef_search": 400, "ef_construction": 200}


class VectorStore(Protocol):
    """Nearest neighbours among the vectors of one book. A collection is named by a key, one for book and embedder."""

    def upsert(self, key: str, table: EmbeddingTable, chapters: Sequence[int]) -> None:
        """Add or replace rows; ``chapters`` holds the chapter number of each."""
        ...

    def query(self, key: str, vector: np.ndarray, *, top_k: int, until_chapter: int | None) -> dict[str, float]:
        """Cosine similarities of the nearest rows by chunk id, best first."""
        ...

    def table(self, key: str) -> EmbeddingTable:
        """All rows, sorted by id; an empty table when there is no such collection."""
        ...

    def count(self, key: str) -> int:
        """Number of rows; 0 when there is no such collection."""
        ...

    def collections(self) -> set[str]:
        """Every collection's key."""
        ...

    def drop(self, key: str) -> None:
        """Delete a collection; nothing happens when there is none."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...


def open_store(folder: Path) -> ChromaStore:
    """A Chroma store in a folder. The caller holds the library's vector lock."""
    import chromadb
    from chromadb.config import Settings

    folder.mkdir(parents=True, exist_ok=True)
    client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
    return ChromaStore(client)


def open_server(url: str) -> ChromaStore:
    """A Chroma server at ``http://HOST:PORT``; many processes may write it.

    Raises:
        SettingsError: ``url`` is not such an address.
        LibraryError: no Chroma server answers there.
    """
    import chromadb
    from chromadb.config import Settings

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"Chroma server is {url!r}, wanted http://HOST:PORT")
    try:
        client = chromadb.HttpClient(
            host=parts.hostname,
            port=parts.port or (443 if parts.scheme == "https" else 8000),
            ssl=parts.scheme == "https",
            settings=Settings(anonymized_telemetry=False),
        )
    except (ValueError, OSError) as wrong:
        raise LibraryError(f"no Chroma server answers at {url}; start one with: chroma run --path DIR") from wrong
    return ChromaStore(client)


class ChromaStore:
    """Vectors in Chroma."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def upsert(self, key: str, table: EmbeddingTable, chapters: Sequence[int]) -> None:
        """Add or replace rows; ``chapters`` holds the chapter number of each."""
        # Chroma would fetch an embedding model from the network unless told that there is none.
        collection = self._client.get_or_create_collection(
            _collection_name(key), configuration={"hnsw": HNSW}, metadata={"key": key}, embedding_function=None
        )
        for start in range(0, len(table.ids), WRITE_ROWS):
            rows = slice(start, start + WRITE_ROWS)
            collection.upsert(
                ids=list(table.ids[rows]),
                embeddings=table.vectors[rows],
                metadatas=[{"chapter": int(chapter)} for chapter in chapters[rows]],
            )

    def query(self, key: str, vector: np.ndarray, *, top_k: int, until_chapter: int | None) -> dict[str, float]:
        """Cosine similarities of the nearest rows by chunk id, best first."""
        collection = self._collection(key)
        if collection is None:
            return {}
        found = collection.query(
            query_embeddings=[vector],
            n_results=min(top_k, max(1, collection.count())),
            where={"chapter": {"$lte": until_chapter}} if until_chapter is not None else None,
            include=["distances"],
        )
        return {chunk: 1.0 - float(far) for chunk, far in zip(found["ids"][0], found["distances"][0], strict=True)}

    def table(self, key: str) -> EmbeddingTable:
        """All rows, sorted by id; an empty table when there is no such collection."""
        collection = self._collection(key)
        rows: list[tuple[str, np.ndarray]] = []
        for start in range(0, collection.count() if collection else 0, WRITE_ROWS):
            page = collection.get(include=["embeddings"], limit=WRITE_ROWS, offset=start)
            rows += zip(page["ids"], np.asarray(page["embeddings"], np.float32), strict=True)
        rows.sort(key=lambda row: row[0])
        vectors = np.stack([vector for _, vector in rows]) if rows else np.zeros((0, 1), np.float32)
        return EmbeddingTable(ids=tuple(chunk for chunk, _ in rows), vectors=vectors, metadata={"key": key})

    def count(self, key: str) -> int:
        """Number of rows; 0 when there is no such collection."""
        collection = self._collection(key)
        return int(collection.count()) if collection else 0

    def collections(self) -> set[str]:
        """Every collection's key."""
        named = (collection.metadata or {} for collection in self._client.list_collections())
        return {metadata["key"] for metadata in named if "key" in metadata}

    def drop(self, key: str) -> None:
        """Delete a collection; nothing happens when there is none."""
        if self._collection(key) is not None:
            self._client.delete_collection(_collection_name(key))

    def close(self) -> None:
        """Release files and connections."""
        self._client.close()
        # Chroma 1.5 ends its own parts and leaves the connections of its HTTP clients to the garbage collector.
        for client in (self._client, getattr(self._client, "_admin_client", None)):
            session = getattr(getattr(client, "_server", None), "_session", None)
            if session is not None:
                session.close()

    def _collection(self, key: str) -> Any:
        from chromadb.errors import NotFoundError

        try:
            return self._client.get_collection(_collection_name(key), embedding_function=None)
        except (NotFoundError, ValueError):
            return None


def _collection_name(key: str) -> str:
    # Chroma takes 3 to 512 of [a-zA-Z0-9._-]; an embedder may be called anything.
    return "novelscope-" + hashlib.sha256(key.encode("utf-8")).hexdigest()[:32]
