"""The library on disk: adding, finding, removing, searching behind the bookmark, and the vector index."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from core.errors import BookNotFound, DamagedBook, LibraryBusy
from core.retrieval.indexing import embed_missing
from core.retrieval.library import Library, LibrarySettings
from core.retrieval.locks import held_lock
from core.retrieval.verify import verify_book
from tests.support import ROOT, HashedEmbedder, make_novel


def embed_all(library: Library) -> None:
    with library.vector_store("a test") as store:
        assert embed_missing(library, store)


def test_a_book_can_be_asked_as_soon_as_it_is_added(library):
    novel = make_novel()
    added = library.add(novel)
    assert added.is_new and added.info.characters == len(novel.text) and added.info.dense_done == 0
    found = library.search(novel.id, "丙字灯有多重？")
    assert found.passages[0].chapter == 3 and found.coverage.dense_done == 0


def test_adding_the_same_text_twice_changes_nothing(library, tmp_path):
    library.add(make_novel())
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("books/*/**/*"))
    again = library.add(make_novel(title="另一个名字"))
    assert not again.is_new and again.info.title == "山中记"
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("books/*/**/*")) == before


def test_every_passage_found_is_the_books_own_text(library):
    novel = make_novel()
    library.add(novel)
    embed_all(library)
    for passage in library.search(novel.id, "灯藏在哪里？", top_k=20).passages:
        assert passage.span.of(novel.text) == passage.text


def test_passages_found_do_not_overlap(library):
    novel = make_novel()
    library.add(novel)
    embed_all(library)
    spans = sorted(passage.span for passage in library.search(novel.id, "戊字灯藏在哪里？", top_k=20).passages)
    assert all(first.end <= second.start for first, second in pairwise(spans))


@pytest.mark.parametrize("is_index_open", [False, True])
def test_nothing_beyond_the_bookmark_is_found_in_200_trials(library, is_index_open):
    novel = make_novel(num_chapters=20)
    library.add(novel)
    embed_all(library)
    dice = random.Random(7)

    def trials():
        for _ in range(200):
            until = dice.randint(1, 20)
            start = dice.randrange(len(novel.text) - 30)
            found = library.search(novel.id, novel.text[start : start + 30], top_k=10, until_chapter=until)
            assert all(passage.chapter <= until for passage in found.passages)
            assert found.passages

    if is_index_open:
        with library.vector_store("a test"):
            trials()
    else:
        trials()


def test_the_open_index_and_the_table_beside_the_book_find_the_same(library):
    novel = make_novel(num_chapters=20)
    library.add(novel)
    embed_all(library)
    question = "壬谷的风"
    from_table = library.search(novel.id, question)
    with library.vector_store("a test"):
        from_index = library.search(novel.id, question)
    assert [p.chunk_id for p in from_index.passages] == [p.chunk_id for p in from_table.passages]
    np.testing.assert_allclose(
        [p.similarity for p in from_index.passages if p.similarity],
        [p.similarity for p in from_table.passages if p.similarity],
        atol=1e-5,  # Chroma stores float32 and answers with a distance
    )


def test_embedding_goes_on_where_it_was_stopped(library, embedder):
    novel = make_novel(num_chapters=20)
    total = library.add(novel).info.chunks
    batches = iter([False, False, True])
    with library.vector_store("a test") as store:
        assert not embed_missing(library, store, should_stop=lambda: next(batches))
    half = len(embedder.embedded)
    assert 0 < half < total
    assert library.search(novel.id, "癸字灯").coverage.dense_done == half
    again = HashedEmbedder()
    reopened = Library(library.settings, embedder=again)
    embed_all(reopened)
    assert len(again.embedded) == total - half
    assert reopened.info(novel.id).is_dense
    with reopened.vector_store("a test") as store:
        key = reopened.open(novel.id).vector_key("hashed")
        stored, table = store.table(key), reopened.open(novel.id).vectors("hashed")
    rows = {chunk_id: vector for chunk_id, vector in zip(table.ids, table.vectors, strict=True)}
    assert set(stored.ids) == set(rows) and len(rows) == total
    np.testing.assert_allclose(stored.vectors, np.stack([rows[chunk_id] for chunk_id in stored.ids]), atol=1e-6)


@pytest.mark.model
def test_vectors_are_filed_under_one_name_before_and_after_the_model_is_loaded(tmp_path):
    settings = LibrarySettings(home=tmp_path / "home")
    writer, novel = Library(settings), make_novel(num_chapters=1)
    writer.add(novel)
    assert writer.embedder.dim == 384
    embed_all(writer)
    assert Library(settings).info(novel.id).is_dense
    assert Library(settings).search(novel.id, "灯").coverage.is_complete


def test_a_lost_index_is_filled_from_disk_without_embedding(library, embedder):
    novel = make_novel()
    total = library.add(novel).info.chunks
    embed_all(library)
    key = library.open(novel.id).vector_key("hashed")
    with library.vector_store("a test") as store:
        store.drop(key)
    embedder.embedded.clear()
    embed_all(library)
    with library.vector_store("a test") as store:
        assert store.count(key) == total
    assert embedder.embedded == []


def test_a_rebuilt_book_keeps_its_vectors(library, embedder):
    novel = make_novel()
    library.add(novel)
    embed_all(library)
    before = [p.chunk_id for p in library.search(novel.id, "丁字剑").passages]
    embedder.embedded.clear()
    info = library.rebuild(novel.title)
    assert info.is_dense and embedder.embedded == []
    assert [p.chunk_id for p in library.search(novel.id, "丁字剑").passages] == before


def test_a_removed_book_leaves_nothing_behind(library, tmp_path):
    novel, other = make_novel(), make_novel("另一本", salt="夜")
    library.add(novel)
    library.add(other)
    embed_all(library)
    library.remove(novel.title)
    assert [info.id for info in library.books()] == [other.id]
    with library.vector_store("a test") as store:
        assert {key.split(":")[0] for key in store.collections()} == {other.id}
    assert [path.name for path in (tmp_path / "home" / "books").iterdir()] == [other.id]
    with pytest.raises(BookNotFound, match="另一本"):
        library.find(novel.title)


def test_a_second_writer_is_told_who_writes(library, tmp_path):
    import os

    with held_lock(tmp_path / "home" / "catalogue.lock", "adding 《别的书》"), pytest.raises(LibraryBusy) as busy:
        library.add(make_novel())
    assert f"process {os.getpid()}" in str(busy.value) and "别的书" in str(busy.value)
    assert library.books() == []


def test_a_book_removed_by_another_process_is_gone_here_too(library):
    novel = make_novel()
    library.add(novel)
    library.search(novel.id, "灯")
    Library(library.settings, embedder=HashedEmbedder()).remove(novel.id)
    with pytest.raises(BookNotFound):
        library.search(novel.id, "灯")


def test_two_books_of_one_title_are_told_apart_by_id(library):
    first, second = make_novel(), make_novel(salt="雪")
    library.add(first)
    library.add(second)
    with pytest.raises(BookNotFound, match=second.id):
        library.find("山中记")
    assert library.find(first.id) == first.id and library.find(second.id[:8]) == second.id


@pytest.mark.parametrize("name", ["", ".", "..", "../books", ".new-x", "没有这本", "长" * 300])
def test_a_name_that_is_no_book_is_refused(library, name):
    library.add(make_novel())
    with pytest.raises(BookNotFound, match="山中记"):
        library.find(name)


def test_a_text_changed_on_disk_is_noticed(library, tmp_path):
    novel = make_novel()
    library.add(novel)
    path = tmp_path / "home" / "books" / novel.id / "text.txt"
    path.write_text(novel.text.replace("石桥", "木桥", 1), encoding="utf-8")
    fresh = Library(LibrarySettings(home=tmp_path / "home"), embedder=HashedEmbedder())
    with pytest.raises(DamagedBook, match="add the book again"):
        fresh.search(novel.id, "灯")


@pytest.mark.parametrize("harm", ["text", "record", "chunks", "lexical"])
def test_adding_a_damaged_book_again_repairs_it(library, tmp_path, harm):
    novel = make_novel()
    library.add(novel)
    folder = tmp_path / "home" / "books" / novel.id
    if harm == "text":
        (folder / "text.txt").write_text(novel.text.replace("石桥", "木桥", 1), encoding="utf-8")
    elif harm == "record":
        (folder / "book.json").write_text("{", encoding="utf-8")
    elif harm == "chunks":
        (folder / "chunks-1.parquet").write_bytes(b"PAR1")
    else:
        (folder / "lexical-1" / "vocab.index.json").unlink()
    fresh = Library(library.settings, embedder=HashedEmbedder())
    assert fresh.add(novel).is_new
    assert fresh.search(novel.id, "丙字灯有多重？").passages[0].chapter == 3
    assert [path.name for path in folder.parent.iterdir()] == [novel.id]
    assert sorted(path.name for path in folder.iterdir()) == ["book.json", "chunks-2.parquet", "lexical-2", "text.txt"]
    assert not fresh.add(novel).is_new


def test_a_repaired_book_keeps_its_title_its_place_and_its_vectors(library, embedder, tmp_path):
    novel = make_novel()
    library.add(novel)
    library.add(make_novel("另一本", salt="夜"))
    embed_all(library)
    (tmp_path / "home" / "books" / novel.id / "text.txt").unlink()
    embedder.embedded.clear()
    library.add(replace(novel, title="另一个名字"))
    assert [info.title for info in library.books()] == ["山中记", "另一本"]
    embed_all(library)
    assert library.info(novel.id).is_dense and embedder.embedded == []


@pytest.mark.parametrize("moment", range(6))
def test_a_repair_that_is_killed_leaves_the_old_state_or_the_new_one(library, tmp_path, moment):
    novel = make_novel()
    library.add(novel)
    folder = tmp_path / "home" / "books" / novel.id
    (folder / "lexical-1" / "vocab.index.json").unlink()
    code = (
        "import os, sys, pathlib, core.retrieval.book_folder as b\n"
        "from core.retrieval.library import Library, LibrarySettings\n"
        "from tests.support import HashedEmbedder, make_novel\n"
        "left = iter(range(int(sys.argv[2]), -1, -1))\n"
        "def dying(step):\n"
        "    def stepping(*given):\n"
        "        next(left, 0) or os.kill(os.getpid(), 9)\n"
        "        return step(*given)\n"
        "    return stepping\n"
        "for name in ('_write_durably', '_write_chunks', '_delete', '_switch_to'):\n"
        "    setattr(b, name, dying(getattr(b, name)))\n"
        "Library(LibrarySettings(home=pathlib.Path(sys.argv[1])), embedder=HashedEmbedder()).add(make_novel())\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "home", str(moment)], cwd=ROOT, timeout=60)
    assert killed.returncode == -9
    fresh = Library(library.settings, embedder=HashedEmbedder())
    assert fresh.info(novel.id).characters == len(novel.text) and fresh.open(novel.id).text == novel.text
    fresh.add(novel)
    assert verify_book(fresh, novel.id).ok
    assert fresh.search(novel.id, "丙字灯有多重？").passages[0].chapter == 3
    assert not fresh.add(novel).is_new


def test_a_book_whose_chunks_are_lost_does_not_keep_others_from_their_vectors(library, tmp_path):
    damaged, good = make_novel("坏的", salt="坏"), make_novel()
    library.add(damaged)
    library.add(good)
    (tmp_path / "home" / "books" / damaged.id / "chunks-1.parquet").write_bytes(b"PAR1")
    fresh = Library(library.settings, embedder=HashedEmbedder())
    with pytest.raises(DamagedBook, match=damaged.id):
        embed_all(fresh)
    assert fresh.info(good.id).is_dense
    fresh.add(damaged)
    embed_all(fresh)
    assert fresh.info(damaged.id).is_dense


def test_an_unreadable_batch_of_vectors_hides_no_book_and_is_made_again(library, embedder, tmp_path):
    novel = make_novel(num_chapters=20)
    library.add(novel)
    batches = iter([False, False, True])
    with library.vector_store("a test") as store:
        embed_missing(library, store, should_stop=lambda: next(batches))
    (part,) = (tmp_path / "home" / "books" / novel.id / "vectors-hashed").iterdir()
    part.write_bytes(b"PAR1 no more")
    assert [info.dense_done for info in library.books()] == [0]
    assert library.search(novel.id, "丙字灯有多重？").passages[0].chapter == 3
    embed_all(library)
    assert library.info(novel.id).is_dense


def test_one_unreadable_book_hides_no_other(library, tmp_path, caplog):
    good, bad = make_novel(), make_novel("坏的", salt="坏")
    library.add(good)
    library.add(bad)
    (tmp_path / "home" / "books" / bad.id / "book.json").write_text("{", encoding="utf-8")
    fresh = Library(library.settings, embedder=HashedEmbedder())
    assert [info.id for info in fresh.books()] == [good.id]
    assert fresh.find("山中记") == good.id
    embed_all(fresh)
    assert fresh.info(good.id).is_dense
    assert sum(bad.id in line for line in caplog.messages) == 1
    with pytest.raises(DamagedBook, match=r"book\.json"):
        fresh.open(fresh.find(bad.id))
    fresh.remove(bad.id)
    assert not (tmp_path / "home" / "books" / bad.id).exists()


def test_vectors_that_do_not_fit_together_are_made_again(library, embedder, tmp_path):
    novel = make_novel(num_chapters=20)
    library.add(novel)
    batches = iter([False, False, True])
    with library.vector_store("a test") as store:
        embed_missing(library, store, should_stop=lambda: next(batches))
    parts = list((tmp_path / "home" / "books" / novel.id / "vectors-hashed").iterdir())
    (parts[0].parent / "9999-99999.parquet").write_bytes(parts[0].read_bytes())  # the same ids twice
    embed_all(library)
    assert library.info(novel.id).is_dense
    assert library.open(novel.id).vectors("hashed") is not None
