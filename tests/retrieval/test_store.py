"""The vector index on a real Chroma server, and the lock that guards a folder."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from core.errors import LibraryBusy, LibraryError, SettingsError
from core.retrieval.indexing import embed_missing
from core.retrieval.library import Library, LibrarySettings
from tests.support import HashedEmbedder, make_novel


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a Chroma server of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("chroma")
    folder = tmp_path_factory.mktemp("chroma")
    process = subprocess.Popen(
        [program, "run", "--path", folder, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/heartbeat", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, "the Chroma server did not start in 30 s"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_a_library_on_a_server_finds_what_its_table_finds_and_removes_only_its_own(server, tmp_path):
    first, second = make_novel(), make_novel("雪夜行", salt="雪")
    library = Library(LibrarySettings(home=tmp_path / "home", chroma_url=server), embedder=HashedEmbedder())
    library.add(first)
    library.add(second)
    with library.vector_store("a test") as store:
        assert embed_missing(library, store)
    reader = Library(library.settings, embedder=HashedEmbedder())
    offline = Library(LibrarySettings(home=tmp_path / "home"), embedder=HashedEmbedder())
    asked = {"question": "戊谷的风和石桥", "until_chapter": 6}
    found = reader.search(first.id, **asked).passages
    assert [p.chunk_id for p in found] == [p.chunk_id for p in offline.search(first.id, **asked).passages]
    keys = {book: library.open(book).vector_key("hashed") for book in (first.id, second.id)}
    reader.remove(first.id)
    with library.vector_store("a test") as store:
        assert store.count(keys[first.id]) == 0 and store.count(keys[second.id]) > 0
    library.close()
    reader.close()
    gc.collect()  # a connection left open would fail this test here, and not another one by chance


def test_a_server_that_does_not_answer_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    library = Library(LibrarySettings(home=tmp_path, chroma_url=f"http://127.0.0.1:{port}"), embedder=HashedEmbedder())
    with pytest.raises(LibraryError, match=str(port)), library.vector_store("a test"):
        pass


def test_an_address_that_is_none_is_refused(tmp_path):
    library = Library(LibrarySettings(home=tmp_path, chroma_url="chroma"), embedder=HashedEmbedder())
    with pytest.raises(SettingsError, match="http://HOST:PORT"), library.vector_store("a test"):
        pass


def test_a_second_holder_of_the_index_is_told_who_holds_it(tmp_path):
    first, second = (Library(LibrarySettings(home=tmp_path), embedder=HashedEmbedder()) for _ in range(2))
    with (
        first.vector_store("the web demo"),
        pytest.raises(LibraryBusy, match=rf"process {os.getpid()} .*the web demo"),
        second.vector_store("a test"),
    ):
        pass
