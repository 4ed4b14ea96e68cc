"""Tables of vectors: which chunk has which embedding, kept in one Parquet file.

The file is a hand-over between processes (embedding to map, library to index), so it is written in one step and
checked when it is read. Nothing here computes a vector.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.data.columns import plain_array
from core.data.files import replacing
from core.errors import DamagedBook, LibraryError, NovelscopeError

__all__ = ["BadTable", "EmbeddingTable"]

METADATA_KEY = b"novelscope"


class BadTable(NovelscopeError, ValueError):
    """Ids, vectors and metadata do not make one table."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingTable:
    """Vectors of chunks, row by row.

    Attributes:
        ids: chunk ids, all different.
        vectors: (len(ids), dim) float32, finite.
        metadata: facts about the whole table, for example the book's id and the embedder's name.

    Raises:
        BadTable: the parts do not fit together.
    """

    ids: tuple[str, ...]
    vectors: NDArray[np.float32]
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.shape[1] == 0:
            raise BadTable(f"vectors have shape {self.vectors.shape}, wanted (rows, dim) with dim at least 1")
        if self.vectors.dtype != np.float32:
            raise BadTable(f"vectors are {self.vectors.dtype}, wanted float32")
        if len(self.ids) != self.vectors.shape[0]:
            raise BadTable(f"{len(self.ids)} ids for {self.vectors.shape[0]} vectors, wanted one id a vector")
        if not all(isinstance(row_id, str) for row_id in self.ids):
            raise BadTable("an id is not a string, wanted chunk ids")
        if len(set(self.ids)) != len(self.ids):
            raise BadTable(f"id {_first_repeated(self.ids)!r} occurs twice, wanted each chunk once")
        if not np.isfinite(self.vectors).all():
            row = int(np.flatnonzero(~np.isfinite(self.vectors).all(axis=1))[0])
            raise BadTable(f"the vector of {self.ids[row]!r} is not finite, wanted numbers")
        if not all(isinstance(key, str) and isinstance(value, str) for key, value in self.metadata.items()):
            raise BadTable("metadata holds something other than strings, wanted str to str")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self.vectors.shape[1])

    def write(self, path: Path) -> None:
        """Put the table at ``path``: a reader finds the whole old file or the whole new one, never a part.

        Raises:
            LibraryError: the file cannot be written; the old one, if any, is untouched.
        """
        import pyarrow as pa
        from pyarrow import parquet

        flat = pa.array(np.ascontiguousarray(self.vectors).reshape(-1), type=pa.float32())
        columns = {
            "id": pa.array(self.ids, type=pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, self.dim),
        }
        facts = json.dumps(self.metadata, ensure_ascii=False, sort_keys=True).encode()
        table = pa.table(columns).replace_schema_metadata({METADATA_KEY: facts})
        with replacing(path, LibraryError) as partial:
            # One row group, so that reading gives one buffer and the vectors need no copy. Floats of
            # embeddings hardly compress; plain pages are also the fastest to read.
            parquet.write_table(
                table,
                partial,
                row_group_size=max(1, len(self)),
                compression="none",
                use_dictionary=False,
                write_statistics=False,
            )

    @classmethod
    def read(cls, path: Path) -> EmbeddingTable:
        """The table that ``write`` put at ``path``.

        Raises:
            DamagedBook: the file is missing, cut short, or holds something else.
        """
        import pyarrow as pa
        from pyarrow import parquet

        try:
            with path.open("rb") as file:
                table = parquet.ParquetFile(file).read()
            facts = (table.schema.metadata or {})[METADATA_KEY]
            metadata = json.loads(facts)
            ids = tuple(_whole_column(table, "id", pa).to_pylist())
            column = _whole_column(table, "vector", pa)
            if not pa.types.is_fixed_size_list(column.type) or column.type.value_type != pa.float32():
                raise BadTable(f"column 'vector' is {column.type}, wanted a fixed-size list of float32")
            values = column.flatten()
            if values.null_count:
                raise BadTable("column 'vector' has empty places, wanted numbers")
            vectors = plain_array(values).reshape(len(column), column.type.list_size)
            return cls(ids, vectors, metadata)
        except FileNotFoundError as missing:
            raise DamagedBook(f"{path} is missing; rebuild the book's vectors") from missing
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as wrong:
            raise DamagedBook(f"{path} is not a readable table of vectors ({wrong}); rebuild it") from wrong

    @classmethod
    def concat(cls, tables: Sequence[EmbeddingTable]) -> EmbeddingTable:
        """One table with the rows of ``tables`` in order; metadata that differ must not be mixed.

        Raises:
            BadTable: no table, different dims or metadata, or an id in two tables.
        """
        if not tables:
            raise BadTable("no table to join, wanted at least one")
        first = tables[0]
        for other in tables[1:]:
            if other.dim != first.dim:
                raise BadTable(f"tables of dim {first.dim} and {other.dim} cannot be joined; embed with one model")
            if other.metadata != first.metadata:
                raise BadTable(f"tables described by {first.metadata} and {other.metadata} cannot be joined")
        ids = tuple(row_id for table in tables for row_id in table.ids)
        return cls(ids, np.concatenate([table.vectors for table in tables]), dict(first.metadata))


def _first_repeated(ids: Sequence[str]) -> str:
    seen: set[str] = set()
    for row_id in ids:
        if row_id in seen:
            return row_id
        seen.add(row_id)
    raise AssertionError("called only when an id is repeated")


def _whole_column(table: Any, name: str, pa: Any) -> Any:
    """A column as one array without empty places."""
    if name not in table.column_names:
        raise BadTable(f"no column {name!r} among {table.column_names}")
    column = table.column(name)
    if column.null_count:
        raise BadTable(f"column {name!r} has empty places")
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)
