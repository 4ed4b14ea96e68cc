"""Every kind of damage to a book on disk is found, and named with its cure."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from core.data.tables import EmbeddingTable
from core.retrieval.indexing import embed_missing
from core.retrieval.library import Library
from core.retrieval.locks import held_lock
from core.retrieval.verify import verify_book
from tests.support import HashedEmbedder, make_novel

NOVEL = make_novel(num_chapters=12)


@pytest.fixture
def place(library):
    """The folder of a book with all its vectors."""
    library.add(NOVEL)
    with library.vector_store("a test") as store:
        assert embed_missing(library, store)
    return library.settings.home / "books" / NOVEL.id


def check(library):
    # Another object, as another process would be: nothing that was read before is remembered.
    return verify_book(Library(library.settings, embedder=HashedEmbedder()), NOVEL.id)


def only_problem(library):
    report = check(library)
    assert not report.ok
    (problem,) = report.problems
    return problem


def rewrite_chunks(place, change):
    path = place / "chunks-1.parquet"
    table = parquet.read_table(path)
    rows = table.to_pylist()
    change(rows)
    parquet.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def rewrite_vectors(place, change):
    path = place / "vectors-hashed.parquet"
    table = EmbeddingTable.read(path)
    ids, vectors = change(table.ids, table.vectors.copy())
    EmbeddingTable(ids, vectors, table.metadata).write(path)


def test_a_whole_book_has_no_problem(library, place):
    assert check(library) == dataclasses.replace(check(library), ok=True, problems=(), notes=())


def test_a_book_without_vectors_has_no_problem(library):
    library.add(NOVEL)
    assert check(library).ok


def test_a_changed_text_is_found(library, place):
    (place / "text.txt").write_text(NOVEL.text.replace("石桥", "木桥", 1), encoding="utf-8")
    problem = only_problem(library)
    assert "changed on disk" in problem and "add its file again" in problem


def test_chapters_that_leave_a_gap_are_found(library, place):
    record = json.loads((place / "book.json").read_text(encoding="utf-8"))
    record["chapters"][3][2] += 5
    (place / "book.json").write_text(json.dumps(record), encoding="utf-8")
    assert "the chapters do not cover the text; add its file again" in check(library).problems[0]
    library.add(NOVEL)
    assert check(library).ok


@pytest.mark.parametrize("harm", ["garbage", "list", "no chapters", "missing"])
def test_a_record_that_cannot_be_read_is_reported_and_mended_by_adding(harm, library, place):
    record = json.loads((place / "book.json").read_text(encoding="utf-8"))
    if harm == "missing":
        (place / "book.json").unlink()
    else:
        written = {"garbage": "{", "list": "[]", "no chapters": json.dumps({**record, "chapters": []})}[harm]
        (place / "book.json").write_text(written, encoding="utf-8")
    problem = only_problem(library)
    assert "book.json" in problem and problem.endswith("; add its file again")
    library.add(NOVEL)
    assert check(library).ok and library.info(NOVEL.id).is_dense


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.pop(4), "35 chunks on disk, 36 recorded"),
        (lambda rows: rows[4].update(chapter=7), "lies outside its chapter"),
        (lambda rows: rows[4].update(start=rows[4]["start"] - 9), "overlaps the one before it"),
        (lambda rows: rows[4].update(start=rows[4]["start"] + 9), "text before chunk 0002-00004 is in no chunk"),
        (lambda rows: rows[35].update(end=rows[35]["end"] - 9), "text after the last chunk is in no chunk"),
        (lambda rows: rows[40].update(end=rows[40]["end"] - 9), "is not the union of its chunks"),
        (lambda rows: rows.pop(), "the last chunks belong to no passage"),
    ],
)
def test_chunks_that_do_not_fit_are_found(change, said, library, place):
    rewrite_chunks(place, change)
    problems = check(library).problems
    assert any(said in problem for problem in problems)
    assert all(f"novelscope rebuild {NOVEL.id}" in problem for problem in problems)


def test_an_unreadable_file_of_chunks_is_found(library, place):
    (place / "chunks-1.parquet").write_bytes(b"PAR1 no more")
    problem = only_problem(library)
    assert "chunks-1.parquet" in problem and problem.count("novelscope rebuild") == 1


def test_a_lost_lexical_index_is_found(library, place):
    shutil.rmtree(place / "lexical-1")
    assert "lexical-1" in only_problem(library)


def test_a_lexical_index_of_another_book_is_found(library, place):
    other = make_novel(num_chapters=13, salt="雪")
    library.add(other)
    shutil.rmtree(place / "lexical-1")
    shutil.copytree(place.parent / other.id / "lexical-1", place / "lexical-1")
    assert "26 passages, wanted 24" in only_problem(library)


def test_a_lexical_index_in_another_order_is_found(library, place):
    indices = next((place / "lexical-1").glob("indices*.npy"))
    rows = np.load(indices)
    np.save(indices, 23 - rows)
    assert "does not find passage" in only_problem(library)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ids, vectors: (("9999-00000", *ids[1:]), vectors), "1 vectors belong to no chunk, 9999-00000"),
        (lambda ids, vectors: (ids, vectors * 1.01), "36 vectors do not have length 1"),
        (lambda ids, vectors: (ids, vectors[::-1].copy()), "vectors that differ from those on disk"),
    ],
)
def test_vectors_that_do_not_fit_are_found(change, said, library, place):
    rewrite_vectors(place, change)
    assert any(said in problem for problem in check(library).problems)


def test_vectors_that_are_no_numbers_are_found(library, place):
    (place / "vectors-hashed.parquet").write_bytes(b"PAR1 no more")
    assert "vectors-hashed.parquet" in only_problem(library)


def test_an_index_that_lost_vectors_is_found_and_rebuilt(library, place):
    key = library.open(NOVEL.id).vector_key("hashed")
    with library.vector_store("a test") as store:
        rows = store.table(key)
        store.drop(key)
        store.upsert(key, EmbeddingTable(rows.ids[5:], rows.vectors[5:]), [1] * (len(rows) - 5))
    assert "the vector index lacks 5 of 36 vectors" in only_problem(library)
    library.rebuild(NOVEL.id)
    assert check(library).ok


def test_an_index_with_vectors_of_nowhere_is_found(library, place):
    key = library.open(NOVEL.id).vector_key("hashed")
    vector = np.full((1, 32), 32**-0.5, np.float32)
    with library.vector_store("a test") as store:
        store.upsert(key, EmbeddingTable(("9999-00000",), vector), [1])
    assert "1 vectors that are not on disk, 9999-00000" in only_problem(library)


def test_an_index_that_follows_later_is_a_note(library):
    library.add(NOVEL)
    dones = iter([False, False, True])
    with library.vector_store("a test") as store:
        embed_missing(library, store, should_stop=lambda: next(dones))
        store.drop(library.open(NOVEL.id).vector_key("hashed"))
    report = check(library)
    assert report.ok and "32 vectors behind" in report.notes[0]


def test_an_index_in_use_is_not_checked_and_its_holder_is_named(library, place):
    with held_lock(library.settings.home / "vectors.lock", "the web demo"):
        report = check(library)
    assert report.ok and "not checked" in report.notes[0] and "the web demo" in report.notes[0]


def test_every_problem_but_a_changed_text_is_cured_by_rebuild(library, place):
    rewrite_chunks(place, lambda rows: rows[4].update(end=rows[4]["end"] - 9))
    shutil.rmtree(place / "lexical-1")
    rewrite_vectors(place, lambda ids, vectors: (ids, vectors[::-1].copy()))
    assert not check(library).ok
    library.rebuild(NOVEL.id)
    with library.vector_store("a test") as store:
        embed_missing(library, store)
    assert check(library).problems == ()
