"""Embedding tables: what is written is read, and damage is named."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from core.data.tables import BadTable, EmbeddingTable
from core.errors import DamagedBook, LibraryError


def table(rows=5, dim=4, prefix="c", **metadata):
    vectors = np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float32)
    return EmbeddingTable(tuple(f"{prefix}{row}" for row in range(rows)), vectors, metadata)


@pytest.mark.parametrize("rows", [0, 1, 5, 3000])
def test_a_table_comes_back_bit_for_bit(tmp_path, rows):
    before = table(rows, 384, book="西游记", embedder="e5")
    before.write(tmp_path / "t.parquet")
    after = EmbeddingTable.read(tmp_path / "t.parquet")
    assert (after.ids, after.metadata, after.dim) == (before.ids, before.metadata, 384)
    assert np.array_equal(after.vectors, before.vectors)
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_other_programs_read_the_file_as_plain_parquet(tmp_path):
    table().write(tmp_path / "t.parquet")
    columns = parquet.read_table(tmp_path / "t.parquet")
    assert columns.column_names == ["id", "vector"]
    assert columns.schema.field("vector").type == pa.list_(pa.float32(), 4)


def test_writing_replaces_the_old_file_whole(tmp_path):
    path = tmp_path / "t.parquet"
    table(3).write(path)
    table(7).write(path)
    assert len(EmbeddingTable.read(path)) == 7


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    with pytest.raises(LibraryError, match="cannot write"):
        table().write(tmp_path / "missing" / "t.parquet")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(LibraryError):
        table().write(tmp_path / "folder.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.parquet"]


def test_a_missing_file_is_a_damaged_book(tmp_path):
    with pytest.raises(DamagedBook, match=r"t\.parquet is missing"):
        EmbeddingTable.read(tmp_path / "t.parquet")


def test_damage_anywhere_is_named_with_the_file(tmp_path):
    path = tmp_path / "t.parquet"
    table(50, 8).write(path)
    whole = path.read_bytes()
    for cut in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DamagedBook, match=r"t\.parquet"):
            EmbeddingTable.read(path)
    path.write_bytes(b"not parquet at all")
    with pytest.raises(DamagedBook):
        EmbeddingTable.read(path)


@pytest.mark.parametrize(
    "columns",
    [
        {"id": ["a"]},
        {"id": ["a"], "vector": [1.0]},
        {"id": ["a"], "vector": pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2))},
        {"id": ["a", "a"], "vector": pa.array([[1.0], [2.0]], pa.list_(pa.float32(), 1))},
        {"id": ["a"], "vector": pa.array([[float("nan")]], pa.list_(pa.float32(), 1))},
        {"id": ["a", None], "vector": pa.array([[1.0], [2.0]], pa.list_(pa.float32(), 1))},
        {"id": ["a", "b"], "vector": pa.array([[1.0], None], pa.list_(pa.float32(), 1))},
        {"id": [1], "vector": pa.array([[1.0]], pa.list_(pa.float32(), 1))},
    ],
)
def test_a_file_of_another_form_is_damaged(tmp_path, columns):
    written = pa.table(columns).replace_schema_metadata({b"novelscope": b"{}"})
    parquet.write_table(written, tmp_path / "t.parquet")
    with pytest.raises(DamagedBook):
        EmbeddingTable.read(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("ids", "vectors"),
    [
        (("a",), np.zeros((2, 3), np.float32)),
        (("a", "a"), np.zeros((2, 3), np.float32)),
        (("a",), np.zeros(3, np.float32)),
        (("a",), np.zeros((1, 0), np.float32)),
        (("a",), np.zeros((1, 3), np.float64)),
        (("a",), np.full((1, 3), np.inf, np.float32)),
        ((1,), np.zeros((1, 3), np.float32)),
    ],
)
def test_parts_that_do_not_fit_make_no_table(ids, vectors):
    with pytest.raises(BadTable, match="wanted"):
        EmbeddingTable(ids, vectors)


def test_tables_are_joined_in_order_if_they_are_of_one_kind():
    joined = EmbeddingTable.concat([table(2, prefix="a", book="x"), table(3, prefix="b", book="x")])
    assert joined.ids == ("a0", "a1", "b0", "b1", "b2") and joined.metadata == {"book": "x"}
    for wrong in (
        [],
        [table(2), table(2)],
        [table(2), table(2, 5, prefix="b")],
        [table(1), table(1, prefix="b", x="y")],
    ):
        with pytest.raises(BadTable):
            EmbeddingTable.concat(wrong)
