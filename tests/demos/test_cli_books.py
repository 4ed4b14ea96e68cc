"""Books through the command line: added, listed, checked, rebuilt, removed, and added through kills and crowds."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest

from core.data.reading import read_novel
from core.retrieval.library import Library, LibrarySettings
from core.retrieval.locks import held_lock
from core.retrieval.verify import verify_book
from demos.bundled import add_bundled_books
from tests.demos.cli_runner import NO_EMBEDDER, novelscope, start, write_novel
from tests.support import make_novel


@pytest.fixture
def home(tmp_path):
    """A library whose vector index is held, as by the web demo, so that no worker that ``add`` starts does anything."""
    with held_lock(tmp_path / "home" / "vectors.lock", "the web demo"):
        yield tmp_path / "home"


def library_in(home):
    return Library(LibrarySettings(home=home, embedder=NO_EMBEDDER))


def test_a_book_goes_round(tmp_path):
    home = tmp_path / "home"
    novel = make_novel(num_chapters=3)
    path = write_novel(tmp_path / "book.txt", num_chapters=3)
    facts = {
        "book": novel.id,
        "title": "山中记",
        "chapters": 3,
        "characters": len(novel.text),
        "chunks": 9,
        "encoding": "utf-8",
        "dense": {"done": 0, "total": 9, "complete": False},
    }
    with held_lock(home / "vectors.lock", "the web demo"):
        added = novelscope(home, "add", str(path), "--title", "山中记", "--json")
    assert added.returncode == 0 and json.loads(added.stdout) == facts
    assert "background" in added.stderr
    assert json.loads(novelscope(home, "list", "--json").stdout) == {"books": [facts]}
    table = novelscope(home, "list").stdout
    assert novel.id in table and "山中记" in table and "0%" in table

    found = json.loads(novelscope(home, "search", "《山中记》", "丙字灯有多重？", "-k", "2", "--json").stdout)
    assert [set(result) for result in found["results"]] == 2 * [{"chapter", "start", "end", "text", "score"}]
    assert found["results"][0]["chapter"] == 3
    for result in found["results"]:
        assert novel.text[result["start"] : result["end"]] == result["text"]
    assert "丙谷" in novelscope(home, "search", novel.id[:6], "丙字灯有多重？").stdout

    checked = novelscope(home, "verify", "山中记", "--json")
    assert checked.returncode == 0
    assert json.loads(checked.stdout) == {"book": novel.id, "ok": True, "problems": [], "dense": facts["dense"]}
    rebuilt = novelscope(home, "rebuild", "山中记", "--json")
    assert rebuilt.returncode == 0 and json.loads(rebuilt.stdout) == facts
    assert novelscope(home, "verify", "山中记").returncode == 0

    removed = novelscope(home, "remove", "山中记", "--json")
    assert json.loads(removed.stdout) == {"book": novel.id, "title": "山中记", "removed": True}
    assert list((home / "books").iterdir()) == []
    assert novelscope(home, "list").stdout == ""


def test_adding_the_same_text_twice_changes_nothing_and_says_so(home, tmp_path):
    path = write_novel(tmp_path / "book.txt", num_chapters=3)
    first = novelscope(home, "add", str(path), "--json")
    again = novelscope(home, "add", str(path), "--title", "另一个名字", "--json")
    assert again.returncode == 0 and again.stdout == first.stdout
    assert "already" in again.stderr


def test_a_damaged_book_is_reported_and_rebuilt(home, tmp_path):
    novelscope(home, "add", str(write_novel(tmp_path / "book.txt", num_chapters=3)), "--title", "山中记")
    next((home / "books").glob("*/chunks-1.parquet")).write_bytes(b"PAR1")
    checked = novelscope(home, "verify", "山中记", "--json")
    report = json.loads(checked.stdout)
    assert checked.returncode == 1 and not report["ok"] and "novelscope rebuild" in report["problems"][0]


def test_a_book_whose_record_is_lost_is_reported_by_its_id_and_removed(home, tmp_path):
    novelscope(home, "add", str(write_novel(tmp_path / "book.txt", num_chapters=3)))
    novelscope(home, "add", str(write_novel(tmp_path / "other.txt", num_chapters=3, salt="雪")), "--title", "雪夜行")
    bad = make_novel(num_chapters=3).id
    (home / "books" / bad / "book.json").write_text("{", encoding="utf-8")
    listed = novelscope(home, "list", "--json")
    assert [book["title"] for book in json.loads(listed.stdout)["books"]] == ["雪夜行"]
    assert listed.stderr.count("book.json") == 1
    checked = novelscope(home, "verify", bad, "--json")
    report = json.loads(checked.stdout)
    assert checked.returncode == 1 and not report["ok"] and report["dense"] is None
    assert "book.json" in report["problems"][0] and "add its file again" in report["problems"][0]
    assert json.loads(novelscope(home, "remove", bad, "--json").stdout)["removed"]
    assert len(list((home / "books").iterdir())) == 1


@pytest.mark.parametrize("verb", ["add", "remove", "rebuild"])
def test_a_second_writer_is_refused_with_the_name_of_the_first(verb, home, tmp_path):
    path = write_novel(tmp_path / "book.txt", num_chapters=2)
    novelscope(home, "add", str(path), "--title", "山中记")
    other = write_novel(tmp_path / "other.txt", num_chapters=2, salt="雪")
    with held_lock(home / "catalogue.lock", "adding 《别的书》"):
        done = novelscope(home, verb, str(other) if verb == "add" else "山中记")
    assert done.returncode == 1 and done.stdout == ""
    assert f"process {os.getpid()}" in done.stderr and "别的书" in done.stderr
    assert [info.title for info in library_in(home).books()] == ["山中记"]


def test_two_adds_at_once_both_succeed_or_one_is_refused_by_name(home, tmp_path):
    paths = [write_novel(tmp_path / f"{salt}.txt", num_chapters=60, salt=salt) for salt in "雪夜"]
    processes = [start(home, "add", str(path)) for path in paths]
    ends = [(process.communicate(timeout=60)[1], process) for process in processes]
    for index, (said, process) in enumerate(ends):
        other = processes[1 - index]
        assert process.returncode == 0 or (process.returncode == 1 and f"process {other.pid}" in said)
    succeeded = sum(process.returncode == 0 for process in processes)
    library = library_in(home)
    infos = library.books()
    assert 1 <= succeeded == len(infos)
    assert all(verify_book(library, info.id).ok for info in infos)


def test_an_add_killed_at_twenty_moments_leaves_nothing_or_a_whole_book(home, tmp_path):
    novel = make_novel(num_chapters=250)
    path = write_novel(tmp_path / "book.txt", num_chapters=250)
    books = home / "books"
    dice = random.Random(11)
    num_cut_short = 0
    for round_number in range(20):
        process = start(home, "add", str(path), start_new_session=True)
        if round_number % 4:
            wait_until(lambda: list(books.glob(".new-*")))
        time.sleep(dice.uniform(0, 0.9))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        library = library_in(home)
        num_cut_short += bool(list(books.glob(".new-*")))
        if library.books():
            assert verify_book(library, novel.id).ok
            library.remove(novel.id)
    assert num_cut_short >= 5, "the kills came too late to show anything"
    assert novelscope(home, "add", str(path)).returncode == 0
    library = library_in(home)
    assert [info.id for info in library.books()] == [novel.id] == [place.name for place in books.iterdir()]
    assert verify_book(library, novel.id).ok
    assert library.search(novel.id, "丙字灯有多重？").passages
    assert not [place for place in home.rglob("*") if place.name.startswith(".") or place.name.endswith(".tmp")]


@pytest.mark.slow
@pytest.mark.model
def test_vectors_made_before_an_end_stay_and_the_next_process_goes_on(tmp_path):
    home = tmp_path / "home"
    bundled = {"NOVELSCOPE_EMBEDDER": "e5-small"}
    path = write_short_chapters(tmp_path / "山中记.txt", 200)
    library = Library(LibrarySettings(home=home))
    info = library.add(read_novel(path)).info
    assert info.chunks == 200 and info.dense_done == 0

    worker = start(home, "worker", env=bundled)
    wait_until(lambda: library.info(info.id).dense_done)
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=60)
    assert worker.returncode == 0 and library.info(info.id).dense_done in (32, 64, 96)
    with library.vector_store("a test", wait_s=10) as store:
        assert store.count(library.open(info.id).vector_key("e5-small")) == library.info(info.id).dense_done

    waiting = start(home, "add", path, "--wait", env=bundled)
    wait_until(lambda: library.info(info.id).dense_done >= 128)
    waiting.send_signal(signal.SIGINT)
    out, said = waiting.communicate(timeout=60)
    assert waiting.returncode == 130 and out == "" and "Traceback" not in said
    assert "of 200 vectors, which stay" in said and "novelscope web" in said

    assert 128 <= library.info(info.id).dense_done < 200
    done = novelscope(home, "add", path, "--wait", "--json", env=bundled)
    assert json.loads(done.stdout)["dense"] == {"done": 200, "total": 200, "complete": True}
    checked = novelscope(home, "verify", "山中记", env=bundled)
    assert checked.returncode == 0 and checked.stderr == ""


@pytest.mark.model
def test_the_worker_outlives_the_command_and_makes_the_vectors(tmp_path):
    home = tmp_path / "home"
    bundled = {"NOVELSCOPE_EMBEDDER": "e5-small"}
    path = write_short_chapters(tmp_path / "book.txt", 3)
    assert not json.loads(novelscope(home, "add", path, "--json", env=bundled).stdout)["dense"]["complete"]
    library = Library(LibrarySettings(home=home))
    wait_until(lambda: library.books()[0].is_dense)
    log = home / "worker.log"
    wait_until(lambda: "every vector is made" in log.read_text(encoding="utf-8"))
    with library.vector_store("a test", wait_s=10) as store:
        assert store.collections() == {library.open(library.books()[0].id).vector_key("e5-small")}


def test_a_worker_that_finds_the_index_held_ends_by_itself(home):
    done = novelscope(home, "worker")
    assert done.returncode == 0 and done.stdout == "" and f"process {os.getpid()}" in done.stderr


def test_an_empty_library_gets_the_bundled_novel_and_another_does_not(tmp_path):
    library = library_in(tmp_path / "home")
    add_bundled_books(library)
    assert [(info.title, info.chapters) for info in library.books()] == [("定盘星", 12)]
    library.remove("定盘星")
    library.add(make_novel())
    add_bundled_books(library)
    assert [info.title for info in library.books()] == ["山中记"]


def write_short_chapters(path, count):
    """A book that is quick to embed: one short chunk a chapter."""
    text = "".join(f"第{number}章 石桥\n行人走到第{number}座石桥，看见一盏灯。\n" for number in range(1, count + 1))
    path.write_text(text, encoding="utf-8")
    return str(path)


def wait_until(is_so, timeout_s=60.0):
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
