"""A book's map: whether it is there and fits the book, building it, and what the viewer is told of answers.

The viewer (``viz``) is a process of its own. It is handed files: a table of passages to map, a map to show, answers
to light up; what these hold is described in ``docs/map.md``.
"""

from __future__ import annotations

import json
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from core.data.files import replacing
from core.data.scenes import Scene
from core.data.text import Span
from core.errors import SceneError
from core.retrieval.library import Library

__all__ = [
    "FOLLOWED",
    "ROOT",
    "answer_of",
    "build_map",
    "is_map_current",
    "search_answer",
    "viewer_command",
    "write_followed",
]

ROOT = Path(__file__).resolve().parent.parent
"""Where ``python -m viz`` and ``python -m demos`` find their packages, whatever folder the reader is in."""
FOUND, NEAR = 8, 8
"""Places that a question lights up, and places that just missed."""
LOOK_EVERY_S = 0.2
PATIENCE_S = 10.0
FOLLOWED = "follow.json"
_PROGRESS = re.compile(r"(?P<stage>[a-z ]+): (?P<done>[\d,]+) of (?P<total>[\d,]+)")


class Found(Protocol):
    """A place in the book with a score; searches and answers have several kinds of them."""

    @property
    def span(self) -> Span: ...
    @property
    def score(self) -> float: ...


def viewer_command(*arguments: str | Path) -> list[str]:
    """The command that runs the viewer; it must be run in ``ROOT``, so paths among the arguments are absolute."""
    return [sys.executable, "-m", "viz", *map(str, arguments)]


def is_map_current(library: Library, book_id: str) -> bool:
    """Whether the book has a map that was made of the vectors it has now.

    Raises:
        BookNotFound: no such book.
    """
    book = library.open(book_id)
    try:
        facts = Scene.read_facts(book.map_path)
    except SceneError:
        return False
    return facts.key == book.vector_key(library.embedder_slug)


def build_map(
    library: Library,
    book_id: str,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    options: Sequence[str] = (),
) -> dict[str, Any] | None:
    """Build the book's map in a process of its own; the old map stays until the new one is whole.

    Args:
        on_progress: hears (stage, done, total).
        should_stop: asked several times a second.
        options: of the viewer's ``build``.

    Returns:
        What was built, and ``"notes"`` that its maker left; None when stopped.

    Raises:
        LibraryError: some passages have no vector yet.
        SceneError: the map could not be made.
    """
    from core.retrieval.passages import passages_of

    target = library.open(book_id).map_path
    with tempfile.TemporaryDirectory(prefix="novelscope-map-") as folder:
        table = Path(folder) / "passages.parquet"
        passages_of(library, book_id).write(table)
        built = Path(folder) / "built.json"
        with built.open("wb") as out:
            process = subprocess.Popen(
                viewer_command("build", table, target, "--json", *options),
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, encoding="utf-8",
            )  # fmt: skip
        notes = None
        try:
            notes = _heard(process, on_progress, should_stop)
        finally:
            _end(process, is_unwanted=notes is None)
        if notes is None:
            return None
        printed = built.read_text(encoding="utf-8")
    if process.returncode != 0:
        reason = notes[-1] if notes else f"its process ended with {process.returncode}"
        raise SceneError(f"the map could not be made: {reason}")
    return {**json.loads(printed), "notes": notes}


def answer_of(book_id: str, question: str, found: Iterable[Found], near: Iterable[Found] = ()) -> dict[str, Any]:
    """An answer as the viewer reads it: places best first, those that just missed after them."""
    places = [(place, False) for place in found] + [(place, True) for place in near]
    passages = [
        {"start": place.span.start, "end": place.span.end, "score": float(place.score), "near": is_near}
        for place, is_near in places
    ]
    return {"book": book_id, "question": question, "passages": passages, "at": time.time()}


def search_answer(library: Library, book_id: str, question: str, until_chapter: int | None) -> dict[str, Any]:
    """The places of a book that a question finds, and those that just missed."""
    passages = library.search(book_id, question, top_k=FOUND + NEAR, until_chapter=until_chapter).passages
    return answer_of(book_id, question, passages[:FOUND], passages[FOUND:])


def write_followed(home: Path, answer: dict[str, Any]) -> None:
    """Put an answer where a window that follows looks for it.

    Raises:
        SceneError: the file cannot be written.
    """
    with replacing(home / FOLLOWED, SceneError) as partial:
        partial.write_text(json.dumps(answer, ensure_ascii=False), encoding="utf-8")


def _heard(
    process: subprocess.Popen[str], on_progress: Callable[[str, int, int], None], should_stop: Callable[[], bool]
) -> list[str] | None:
    """What the process said besides its progress, once it has ended; None when stopped before."""
    lines: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.put(line.strip())
        lines.put(None)

    listener = threading.Thread(target=listen, name="map-progress", daemon=True)
    listener.start()
    notes: list[str] = []
    while True:
        if should_stop():
            return None
        try:
            line = lines.get(timeout=LOOK_EVERY_S)
        except queue.Empty:
            continue
        if line is None:
            return notes
        if match := _PROGRESS.fullmatch(line):
            on_progress(match["stage"], *(int(match[name].replace(",", "")) for name in ("done", "total")))
        elif line:
            notes.append(line.removeprefix("novelscope: "))


def _end(process: subprocess.Popen[str], *, is_unwanted: bool) -> None:
    """Wait for the process; ask it to end if nobody wants what it makes, and make it end if asking does not help."""
    if is_unwanted:
        process.terminate()
    try:
        process.wait(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stderr is not None:
        process.stderr.close()
