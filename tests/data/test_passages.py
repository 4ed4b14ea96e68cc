"""The table of passages that a map is made of: its own form, and tables that other programs wrote."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from core.data.passages import PassageTable
from core.errors import BadPassages, SceneError


def table(**changes):
    fields = {
        "ids": ("a", "b", "c"),
        "texts": ("山中有虎。", "水边有龙。", "路上有人。"),
        "chapters": np.array([1, 1, 2], np.int32),
        "chapter_titles": ("第一回", "第一回", "第二回"),
        "spans": np.array([[0, 5], [5, 10], [10, 15]], np.int64),
        "vectors": np.arange(12, dtype=np.float32).reshape(3, 4),
        "title": "山中记", "book": "ab" * 8, "key": "k", "language": "zh",
    }  # fmt: skip
    return PassageTable(**{**fields, **changes})


def test_what_was_written_is_read(tmp_path):
    wrote = table()
    wrote.write(tmp_path / "p.parquet")
    read = PassageTable.read(tmp_path / "p.parquet")
    for name in ("ids", "texts", "chapter_titles", "title", "book", "key", "language"):
        assert getattr(read, name) == getattr(wrote, name)
    for name in ("chapters", "spans", "vectors"):
        assert (getattr(read, name) == getattr(wrote, name)).all()


@pytest.mark.parametrize("name", ["vector", "embedding"])
@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 2)])
def test_texts_and_vectors_of_another_program_are_enough(tmp_path, name, kind):
    texts = ["The hare ran.", "The fox slept.", "No one came."]
    columns = {"text": texts, name: pa.array([[1, 0], [0, 1], [1, 1]], kind)}
    parquet.write_table(pa.table(columns), tmp_path / "foreign.parquet")
    read = PassageTable.read(tmp_path / "foreign.parquet")
    assert read.texts == tuple(texts) and read.title == "foreign" and read.language == "en"
    assert read.vectors.tolist() == [[1, 0], [0, 1], [1, 1]]
    assert len(set(read.ids)) == 3 and read.spans[:, 0].tolist() == [0, 13, 27]


def test_rows_out_of_order_are_read_in_the_order_of_the_book(tmp_path):
    columns = {"id": [7, 5], "text": ["后", "先"], "vector": [[1.0], [2.0]], "start": [1, 0], "end": [2, 1]}
    parquet.write_table(pa.table(columns), tmp_path / "p.parquet")
    read = PassageTable.read(tmp_path / "p.parquet")
    assert read.ids == ("5", "7") and read.texts == ("先", "后") and read.vectors.tolist() == [[2], [1]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ids": ("a", "a", "c")}, "occurs twice"),
        ({"vectors": np.full((3, 4), np.nan, np.float32)}, "not finite"),
        ({"texts": ("一",)}, "one row each"),
        ({"spans": np.array([[5, 9], [0, 5], [9, 12]], np.int64)}, "out of order"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(BadPassages, match=words):
        table(**changes)


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ["一"]},
        {"vector": [[1.0]]},
        {"text": ["一", "二"], "vector": [[1.0], [1.0, 2.0]]},
        {"text": ["一"], "vector": ["x"]},
        {"text": [None], "vector": [[1.0]]},
        {"text": ["一"], "vector": [[None]]},
        {"text": pa.array([], pa.string()), "vector": pa.array([], pa.list_(pa.float32(), 3))},
    ],
)
def test_a_table_without_texts_or_vectors_is_one_sentence(tmp_path, columns):
    parquet.write_table(pa.table(columns), tmp_path / "p.parquet")
    with pytest.raises(SceneError, match="wanted"):
        PassageTable.read(tmp_path / "p.parquet")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not parquet at all"])
def test_a_file_that_is_no_table_is_one_sentence(tmp_path, data):
    (tmp_path / "p.parquet").write_bytes(data)
    with pytest.raises(SceneError, match="not a table of passages"):
        PassageTable.read(tmp_path / "p.parquet")
    with pytest.raises(SceneError, match="no table of passages"):
        PassageTable.read(tmp_path / "none.parquet")
