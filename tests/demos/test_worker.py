"""Vectors made by processes that are killed, followed and taken over from."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from core.data.reading import novel_from_bytes
from core.errors import BookNotFound
from core.retrieval.library import Library, LibrarySettings
from core.retrieval.verify import verify_book
from demos.indexer import Indexer, finish_vectors, run_worker
from tests.demos.cli_runner import ROOT
from tests.support import HashedEmbedder, make_novel

# Seven parts whose passages all differ, so that the number of times each was embedded can be counted.
NOVEL = novel_from_bytes("".join(make_novel(salt=salt).text for salt in "一二三四五六七").encode(), name="山中记.txt")


class LoggingEmbedder(HashedEmbedder):
    """Writes every passage it embeds into a file, in one line, and takes its time."""

    def __init__(self, log: Path, pause_s: float) -> None:
        super().__init__()
        self._log, self._pause_s = log, pause_s

    def embed_passages(self, texts):
        time.sleep(self._pause_s)
        with self._log.open("a", encoding="utf-8") as log:
            log.writelines(text.replace("\n", " ") + "\n" for text in texts)
        return super().embed_passages(texts)


def library_in(home: Path, pause_s: float = 0.0) -> Library:
    return Library(LibrarySettings(home=home), embedder=LoggingEmbedder(home.parent / "embedded.txt", pause_s))


def start_slow_worker(home: Path) -> subprocess.Popen[bytes]:
    code = (
        "import sys, pathlib; from demos.indexer import run_worker; from tests.demos.test_worker import library_in; "
        "run_worker(library_in(pathlib.Path(sys.argv[1]), 0.3))"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(home)], cwd=ROOT)


def wait_for_batches(library: Library, count: int) -> None:
    end = time.monotonic() + 60
    while library.info(NOVEL.id).dense_done < 32 * count:
        assert time.monotonic() < end, "no vectors were made"
        time.sleep(0.01)


@pytest.fixture
def home(tmp_path):
    library_in(tmp_path / "home").add(NOVEL)
    return tmp_path / "home"


def test_a_worker_killed_midway_goes_on_without_embedding_twice(home, tmp_path):
    library = library_in(home)
    for batches in (1, 3):
        worker = start_slow_worker(home)
        wait_for_batches(library, batches)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    done = library.info(NOVEL.id).dense_done
    total = library.info(NOVEL.id).chunks
    assert 96 <= done < total
    assert run_worker(library)
    assert library.info(NOVEL.id).is_dense
    counts = Counter((tmp_path / "embedded.txt").read_text(encoding="utf-8").splitlines())
    assert len(counts) == total
    # A kill can lose the batch that was embedded and not yet on disk; each of the two lost at most that one.
    assert sum(counts.values()) - total <= 2 * 32
    finished = [child.span.of(NOVEL.text).replace("\n", " ") for child in library.open(NOVEL.id).chunks.children[:32]]
    assert all(counts[text] == 1 for text in finished)
    assert verify_book(library, NOVEL.id).problems == ()


def test_who_waits_follows_the_holder_and_takes_over_when_it_is_killed(home):
    library = library_in(home)
    worker = start_slow_worker(home)
    wait_for_batches(library, 1)
    heard = []
    waiting = threading.Thread(target=finish_vectors, args=(library, NOVEL.id, heard.append))
    waiting.start()
    wait_for_batches(library, 2)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    waiting.join(timeout=60)
    assert library.info(NOVEL.id).is_dense and heard[-1].done == heard[-1].total
    assert [progress.done for progress in heard] == sorted(progress.done for progress in heard)
    assert verify_book(library, NOVEL.id).problems == ()


def test_who_waits_for_a_removed_book_is_told(home):
    library = library_in(home)
    with library.vector_store("a test"):
        library.remove(NOVEL.id)
    with pytest.raises(BookNotFound):
        finish_vectors(library, NOVEL.id, lambda progress: None)


def test_a_stop_ends_the_worker_after_its_batch(home):
    library = library_in(home)
    assert not run_worker(library, should_stop=lambda: library.info(NOVEL.id).dense_done >= 32)
    assert library.info(NOVEL.id).dense_done == 32


def test_the_page_brings_an_index_level_that_a_kill_left_behind(home):
    library = library_in(home)
    run_worker(library)
    key = library.open(NOVEL.id).vector_key("hashed")
    with library.vector_store("a test") as store:
        store.drop(key)
    indexer = Indexer(library)
    indexer.start()
    try:
        end = time.monotonic() + 30
        while library._store is None or library._store.count(key) < library.info(NOVEL.id).chunks:
            assert time.monotonic() < end, "the index stayed behind"
            time.sleep(0.05)
    finally:
        indexer.stop()
