"""The library's panel: add a book with live progress, remove one, hold the background work.

Adding has two parts: reading and indexing by words, which can be cancelled and leave nothing behind, and vectors,
which the indexer makes in the background and which only pause.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MethodType
from typing import Any

import gradio as gr

from core.errors import NovelscopeError
from core.retrieval.library import Added, BookInfo
from demos import rendering
from demos.translations import strings_for
from demos.wiring import Services

__all__ = ["add_book", "book_choices", "build_shelf", "dense_line"]

ENCODINGS = ("utf-8", "gb18030", "big5", "utf-16", "shift_jis", "cp1252")
# A chunk takes about this long on two cores without bfloat16; only a first guess until two batches were timed.
FIRST_GUESS_S = 0.12

_log = logging.getLogger("novelscope.web")


class _Cancelled(Exception):
    """The reader took an addition back."""


def build_shelf(services: Services, text: gr.I18n, book: gr.Dropdown) -> None:
    """Put the panel on the page; it keeps ``book`` up to date."""
    doomed = gr.State("")
    with gr.Accordion(text("shelf"), open=False, elem_id="ns-shelf"):
        with gr.Row():
            file = gr.File(
                label=text("file"),
                file_types=[".txt", ".text", ".md", ".markdown", ".epub"],
                elem_id="ns-file",
                scale=4,
            )
            with gr.Column(scale=2):
                encoding = gr.Dropdown(
                    [(text("encoding_auto"), ""), *((name, name) for name in ENCODINGS)],
                    value="", label=text("encoding"),
                )  # fmt: skip
                add = gr.Button(text("add"), variant="primary", elem_id="ns-add")
                cancel = gr.Button(text("cancel"), elem_id="ns-cancel")
        told = gr.HTML(elem_id="ns-told")
        with gr.Row():
            hold = gr.Button(text("dense_pause"), size="sm", elem_id="ns-hold")
            remove = gr.Button(text("remove"), size="sm", elem_id="ns-remove")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    adding = add.click(MethodType(add_book, services), [file, encoding], [told, book, file], **quiet)
    cancel.click(say_cancelled, None, told, cancels=[adding], queue=False, **quiet)
    remove.click(MethodType(remove_book, services), [book, doomed], [told, book, doomed], **quiet)
    hold.click(MethodType(hold_vectors, services), None, hold, **quiet)


def add_book(
    services: Services, path: str | None, encoding: str, request: gr.Request
) -> Iterator[tuple[str, Any, Any]]:
    """Yield (what to tell, books, file box) while a book is read and indexed."""
    from core.data.reading import read_novel

    strings = strings_for(request)
    if not path:
        yield rendering.notice(strings["no_file"], "error"), gr.skip(), gr.skip()
        return
    file = Path(path)
    yield rendering.notice(strings["adding_reading"].format(name=file.name), "busy"), gr.skip(), gr.skip()
    try:
        novel = read_novel(file, encoding=encoding or None)
        added = None
        for step in _adding(services, novel):
            if isinstance(step, Added):
                added = step
            else:
                line = strings["adding_indexing"].format(done=step[0], total=step[1])
                yield rendering.notice(line, "busy"), gr.skip(), gr.skip()
    except NovelscopeError as wrong:
        yield rendering.notice(str(wrong).replace(str(file), file.name), "error"), gr.skip(), gr.skip()
        return
    except Exception:
        _log.exception("a book could not be added")
        yield rendering.notice(strings["unexpected"], "error"), gr.skip(), gr.skip()
        return
    assert added is not None
    info = added.info
    said = strings["added" if added.is_new else "added_already"].format(
        title=info.title, chapters=info.chapters, characters=f"{info.characters:,}", encoding=info.encoding
    )
    books = gr.Dropdown(choices=book_choices(services), value=info.id)
    yield rendering.notice(said), books, None


def _adding(services: Services, novel: Any) -> Iterator[tuple[int, int] | Added]:
    """Progress of an addition, then what was added; closing this cancels it."""
    steps: queue.Queue[tuple[int, int] | Added | Exception] = queue.Queue()
    is_cancelled = threading.Event()

    def hear(done: int, total: int) -> None:
        if is_cancelled.is_set():
            raise _Cancelled
        if done % 100 == 0 or done == total:
            steps.put((done, total))

    def work() -> None:
        try:
            steps.put(services.library.add(novel, hear))
        except _Cancelled:
            _log.info("an addition was cancelled")
        except Exception as wrong:  # raised again where the page waits
            steps.put(wrong)

    threading.Thread(target=work, name="adding", daemon=True).start()
    try:
        while True:
            step = steps.get()
            if isinstance(step, Exception):
                raise step
            yield step
            if isinstance(step, Added):
                return
    finally:
        is_cancelled.set()


def say_cancelled(request: gr.Request) -> str:
    """What is told after a cancelled addition."""
    return rendering.notice(strings_for(request)["add_cancelled"])


def remove_book(services: Services, book_id: str | None, doomed: str, request: gr.Request) -> tuple[str, Any, str]:
    """(what to tell, books, book to be removed by the next click): the first click asks, the second removes."""
    strings = strings_for(request)
    try:
        if not book_id:
            return rendering.notice(strings["pick_book"], "error"), gr.skip(), ""
        if doomed != book_id:
            title = services.library.info(book_id).title
            return rendering.notice(strings["remove_confirm"].format(title=title), "busy"), gr.skip(), book_id
        info = services.library.remove(book_id)
    except NovelscopeError as wrong:
        return rendering.notice(str(wrong), "error"), gr.Dropdown(choices=book_choices(services)), ""
    choices = book_choices(services)
    books = gr.Dropdown(choices=choices, value=choices[0][1] if choices else None)
    return rendering.notice(strings["removed"].format(title=info.title)), books, ""


def hold_vectors(services: Services, request: gr.Request) -> Any:
    """Pause the background work, or go on with it; the button's next label."""
    strings, indexer = strings_for(request), services.indexer
    if indexer.is_paused:
        indexer.resume()
    else:
        indexer.pause()
    return gr.Button(strings["dense_resume" if indexer.is_paused else "dense_pause"])


def book_choices(services: Services) -> list[tuple[str, str]]:
    """(title, id) of every book; ids tell books of one title apart."""
    infos = services.library.books()
    titles = [info.title for info in infos]
    return [
        (info.title if titles.count(info.title) == 1 else f"{info.title} ({info.id[:6]})", info.id) for info in infos
    ]


def dense_line(services: Services, info: BookInfo, strings: Mapping[str, str]) -> str:
    """How far a book's vectors are, in words."""
    values: dict[str, Any] = {"done": info.dense_done, "total": info.chunks}
    if info.is_dense:
        return strings["dense_complete"]
    if services.indexer.is_paused:
        return strings["dense_paused"].format(**values)
    progress, speed = services.indexer.progress, services.indexer.seconds_per_chunk
    if progress is None or progress.book_id != info.id:
        return strings["dense_starting"].format(**values)
    minutes = max(1, round((info.chunks - info.dense_done) * (speed or FIRST_GUESS_S) / 60))
    return strings["dense_progress"].format(**values, minutes=minutes)
