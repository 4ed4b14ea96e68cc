"""The library's panel: add a book with live progress, remove one, hold the background work.

Adding has two parts: reading and indexing by words, which can be cancelled and leave nothing behind, and vectors,
which the indexer makes in the background and which only pause.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import gradio as gr

from core.errors import NovelscopeError
from core.retrieval.library import Added, BookInfo
from demos import rendering
from demos.stepwise import Finished, stepwise
from demos.translations import strings_for
from demos.wiring import Services

__all__ = ["add_book", "book_choices", "build_shelf", "hold_vectors", "remove_book", "show_facts"]

ENCODINGS = ("utf-8", "gb18030", "big5", "utf-16", "shift_jis", "cp1252")
# A chunk takes about this long on two cores without bfloat16; only a first guess until two batches were timed.
FIRST_GUESS_S = 0.12

_log = logging.getLogger("novelscope.web")


def build_shelf(services: Services, text: gr.I18n, book: gr.Dropdown, page: gr.Blocks) -> None:
    """Put the panel on the page; it keeps ``book`` up to date."""
    with gr.Accordion(text("shelf"), open=False, elem_id="ns-shelf", elem_classes="ns-fold"):
        with gr.Row(elem_classes="ns-shelf-row"):
            file = gr.File(
                show_label=False,  # a translated label of this component is shown as [object Object]
                file_types=[".txt", ".text", ".md", ".markdown", ".epub"],
                elem_id="ns-file",
                scale=4,
                height=128,
            )
            with gr.Column(scale=2, min_width=240):
                encoding = gr.Dropdown(
                    [(text("encoding_auto"), ""), *((name, name) for name in ENCODINGS)],
                    value="", label=text("encoding"), elem_id="ns-encoding",
                )  # fmt: skip
                with gr.Row(elem_classes="ns-buttons"):
                    add = gr.Button(text("add"), variant="primary", elem_id="ns-add")
                    cancel = gr.Button(text("cancel"), elem_id="ns-cancel")
        told = gr.HTML(elem_id="ns-told")
        with gr.Row(elem_classes="ns-buttons ns-quiet-buttons"):
            remove = gr.Button(text("remove"), size="sm", elem_id="ns-remove")
            confirm = gr.Button(text("remove_yes"), size="sm", variant="stop", visible=False, elem_id="ns-remove-yes")
            keep = gr.Button(text("remove_no"), size="sm", visible=False, elem_id="ns-remove-no")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    asking = [told, remove, confirm, keep]
    # A book that is dropped in is added at once; the button is there to try again with another encoding.
    adding = gr.on(
        [file.upload, add.click], MethodType(add_book, services), [file, encoding], [told, book, file], **quiet
    )
    cancel.click(say_cancelled, None, told, cancels=[adding], queue=False, **quiet)
    remove.click(MethodType(ask_to_remove, services), book, asking, **quiet)
    confirm.click(MethodType(remove_book, services), book, [*asking, book], **quiet)
    gr.on([keep.click, book.change], take_back, None, [remove, confirm, keep], **quiet)
    gr.on([page.load, keep.click], invite, None, told, **quiet)


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
        for step in stepwise(partial(_add, services, novel), name="adding"):
            if isinstance(step, Finished):
                added = step.value
            else:
                line = strings["adding_indexing"].format(name=file.name, done=step[0], total=step[1])
                yield rendering.notice(line, "busy", step[0] / max(1, step[1])), gr.skip(), gr.skip()
    except NovelscopeError as wrong:
        reason = str(wrong).replace(str(file), file.name)
        yield rendering.notice(strings["add_failed"].format(reason=reason), "error"), gr.skip(), gr.skip()
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


def _add(
    services: Services, novel: Any, tell: Callable[[tuple[int, int]], None], is_cancelled: Callable[[], bool]
) -> Added:
    def hear(done: int, total: int) -> None:
        if done % 100 == 0 or done == total or is_cancelled():
            tell((done, total))

    return services.library.add(novel, hear)


def say_cancelled(request: gr.Request) -> str:
    """What is told after a cancelled addition."""
    return rendering.notice(strings_for(request)["add_cancelled"])


def invite(request: gr.Request) -> str:
    """What is told while nothing happens: which files can be dropped in."""
    return rendering.notice(strings_for(request)["file"])


def ask_to_remove(services: Services, book_id: str | None, request: gr.Request) -> tuple[str, Any, Any, Any]:
    """(what to tell, and the buttons): nothing is removed before the reader says so once more."""
    strings = strings_for(request)
    try:
        title = services.library.info(book_id or "").title
    except NovelscopeError:
        return rendering.notice(strings["pick_book"], "error"), *take_back()
    question = rendering.notice(strings["remove_confirm"].format(title=title), "busy")
    return question, gr.Button(visible=False), gr.Button(visible=True), gr.Button(visible=True)


def take_back() -> tuple[Any, Any, Any]:
    """The buttons as they were before the reader was asked."""
    return gr.Button(visible=True), gr.Button(visible=False), gr.Button(visible=False)


def remove_book(services: Services, book_id: str | None, request: gr.Request) -> tuple[str, Any, Any, Any, Any]:
    """(what to tell, the buttons, the books left) once the reader has confirmed."""
    strings = strings_for(request)
    try:
        told = rendering.notice(strings["removed"].format(title=services.library.remove(book_id or "").title))
    except NovelscopeError as wrong:
        told = rendering.notice(str(wrong), "error")
    choices = book_choices(services)
    books = gr.Dropdown(choices=choices, value=choices[-1][1] if choices else None)
    return told, *take_back(), books


def hold_vectors(services: Services) -> None:
    """Pause the background work, or go on with it."""
    if services.indexer.is_paused:
        services.indexer.resume()
    else:
        services.indexer.pause()


def show_facts(services: Services, book_id: str | None, until: float, request: gr.Request) -> str:
    """The line under the book: what it is, how far its vectors are, and where the bookmark lies."""
    strings = strings_for(request)
    try:
        info = services.library.info(book_id or "")
        chapters = services.library.open(info.id).record.chapters
    except NovelscopeError:
        return rendering.notice(strings["pick_book" if book_choices(services) else "no_books"])
    facts = strings["book_line"].format(
        chapters=info.chapters, characters=f"{info.characters:,}", encoding=info.encoding
    )
    marked = next((chapter for chapter in reversed(chapters) if chapter.number <= until), chapters[0])
    if until >= info.last_chapter:
        mark, opened = strings["bookmark_whole"], next((c for c in chapters if c.number > 0), chapters[0])
    else:
        mark, opened = strings["bookmark_until"].format(title=marked.title), marked
    hold = ""
    if not info.is_dense:
        hold = strings["dense_resume" if services.indexer.is_paused else "dense_pause"]
    return rendering.book_line(
        f"{mark} · {facts}",
        (strings["open_book"], opened.number),
        _dense_line(services, info, strings),
        info.dense_done / max(1, info.chunks),
        hold,
    )


def book_choices(services: Services) -> list[tuple[str, str]]:
    """(title, id) of every book; ids tell books of one title apart."""
    infos = services.library.books()
    titles = [info.title for info in infos]
    return [
        (info.title if titles.count(info.title) == 1 else f"{info.title} ({info.id[:6]})", info.id) for info in infos
    ]


def _dense_line(services: Services, info: BookInfo, strings: Mapping[str, str]) -> str:
    """How far a book's vectors are, in words."""
    values: dict[str, Any] = {"done": info.dense_done, "total": info.chunks}
    if info.is_dense:
        return strings["dense_complete"]
    if services.indexer.trouble:
        return strings["dense_trouble"].format(**values, reason=services.indexer.trouble)
    if services.indexer.is_paused:
        return strings["dense_paused"].format(**values)
    progress, speed = services.indexer.progress, services.indexer.seconds_per_chunk
    if progress is None or progress.book_id != info.id:
        return strings["dense_starting"].format(**values)
    minutes = max(1, round((info.chunks - info.dense_done) * (speed or FIRST_GUESS_S) / 60))
    return strings["dense_progress"].format(**values, minutes=minutes)
