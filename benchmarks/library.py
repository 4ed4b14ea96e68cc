"""Reading, indexing and searching: how long until a book can be asked, what it costs, and what is found.

Books are indexed once and kept under ``build/bench``, so a second run measures searching at once.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from core.data.reading import read_novel
from core.retrieval.indexing import embed_missing
from core.retrieval.library import Library, LibrarySettings

__all__ = ["add", "dense", "fence", "open_library", "questions", "recall", "search", "startup"]

ROOT = Path(__file__).resolve().parent.parent
BOOKS = ("xiyouji", "sanguoyanyi", "pride_and_prejudice")
RUNS = 5


def startup(corpus: Path) -> dict[str, Any]:
    """Seconds for ``--help`` as a whole process, and its ratio to an empty Python."""
    ours = _median_s([sys.executable, "-m", "demos", "--help"])
    empty = _median_s([sys.executable, "-c", "pass"])
    return {"help_s": round(ours, 3), "ratio_to_empty_python": round(ours / empty, 2)}


def add(corpus: Path) -> dict[str, Any]:
    """Seconds until ``novelscope add`` of a book of 719,002 characters returns, askable by words."""
    times = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as home:
            # The command as users run it, but for the worker that it would leave behind.
            program = "import sys, demos.indexer as i; i.spawn_worker = lambda *a, **k: None; import demos.cli as c; "
            command = [sys.executable, "-c", program + "sys.exit(c.main(sys.argv[1:]))", "--home", home, "add"]
            began = time.monotonic()
            subprocess.run([*command, str(corpus / "xiyouji.txt")], check=True, capture_output=True, cwd=ROOT)
            times.append(time.monotonic() - began)
    return {"book": "xiyouji", "askable_s": round(statistics.median(times), 2), "worst_s": round(max(times), 2)}


def dense(corpus: Path) -> dict[str, Any]:
    """Seconds and peak memory until every chunk of that book has its vector, as ``add --wait`` does it."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "demos", "--home", home, "add", str(corpus / "xiyouji.txt"), "--wait"]
        began = time.monotonic()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        elapsed_s = time.monotonic() - began
    if child.returncode:
        raise SystemExit(f"add --wait ended with exit code {child.returncode}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return {
        "book": "xiyouji",
        "complete_s": round(elapsed_s, 1),
        "cpu_s": round(cpu_s, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }


def search(corpus: Path) -> dict[str, Any]:
    """Milliseconds of a search of a complete book, through Chroma and through the table beside the book."""
    library = open_library(corpus)
    asked = [(library.find(question["book"]), question["question"]) for question in questions(corpus)]
    with library.vector_store("a benchmark"):
        index_ms = _search_ms(library, asked)
    table_ms = _search_ms(library, asked)
    return {
        "questions": len(asked),
        "median_ms": round(statistics.median(index_ms), 1),
        "p95_ms": round(sorted(index_ms)[int(len(index_ms) * 0.95)], 1),
        "median_table_ms": round(statistics.median(table_ms), 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def recall(corpus: Path) -> dict[str, Any]:
    """Recall and MRR on the development questions by the corpus's own scorer, with vectors and without."""
    library = open_library(corpus)
    scorer = _scorer(corpus)
    result: dict[str, Any] = {}
    with library.vector_store("a benchmark"):
        for language, books in (("zh", BOOKS[:2]), ("en", BOOKS[2:])):
            asked = [question for question in questions(corpus) if question["book"] in books]
            result[language] = scorer.evaluate(asked, lambda book, text: _found(library, book, text), str(corpus))[
                "all"
            ]
    return result


def fence(corpus: Path) -> dict[str, Any]:
    """Results from beyond the bookmark in 200 searches with random questions and random bookmarks."""
    library = open_library(corpus)
    dice, asked, beyond, found = random.Random(200), questions(corpus), 0, 0
    with library.vector_store("a benchmark"):
        for _ in range(200):
            question = dice.choice(asked)
            book_id = library.find(question["book"])
            until = dice.randint(1, library.info(book_id).last_chapter)
            passages = library.search(book_id, question["question"], until_chapter=until).passages
            found += len(passages)
            beyond += sum(passage.chapter > until for passage in passages)
    return {"trials": 200, "results": found, "beyond_the_bookmark": beyond}


def open_library(corpus: Path) -> Library:
    """The three books and the bundled one, indexed in full; made on first use."""
    home = ROOT / "build" / "bench"
    library = Library(LibrarySettings(home=home))
    bundled = sorted((ROOT / "demos" / "books").glob("*.txt"))
    for path in [*(corpus / f"{book}.txt" for book in BOOKS), *bundled]:
        library.add(read_novel(path, title=path.stem))
    with library.vector_store("a benchmark", wait_s=60) as store:
        embed_missing(
            library,
            store,
            on_progress=lambda now: print(f"\r{now.title}: {now.done}/{now.total} ", end="", file=sys.stderr),
        )
    return library


def questions(corpus: Path) -> list[dict[str, Any]]:
    """The development questions."""
    lines = (corpus / "questions_dev.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def _found(library: Library, book: str, text: str) -> list[dict[str, Any]]:
    return [passage.to_dict() for passage in library.search(library.find(book), text, top_k=10).passages]


def _search_ms(library: Library, asked: list[tuple[str, str]]) -> list[float]:
    times = []
    for book_id, question in [*asked[:3], *asked]:
        began = time.monotonic()
        library.search(book_id, question)
        times.append((time.monotonic() - began) * 1000)
    return times[3:]  # the first ones open files


def _median_s(command: list[str]) -> float:
    times = []
    for _ in range(RUNS):
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        times.append(time.monotonic() - began)
    return statistics.median(times)


def _scorer(corpus: Path) -> Any:
    spec = importlib.util.spec_from_file_location("eval_retrieval", corpus / "eval_retrieval.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
