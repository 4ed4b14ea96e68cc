"""The sheet on which the book lies open: the chapter around a quotation, and the chapters beside it.

It slides over the evidence on a wide screen and over everything on a phone. Nothing past the bookmark is ever put on
it, whatever a browser asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType

import gradio as gr

from core.data.text import Span
from core.errors import NovelscopeError
from demos import rendering
from demos.translations import strings_for
from demos.wiring import Services

__all__ = ["OPEN_ON_CLICK", "build_leaf", "open_at", "turn_leaf"]

# Clicks on anything that carries a place are told to Python, by mouse and by keyboard.
OPEN_ON_CLICK = """
const open = (event) => {
  const place = event.target.closest('[data-start]');
  if (place) trigger('click', {chapter: +place.dataset.chapter, start: +place.dataset.start, end: +place.dataset.end});
  else if (event.target.closest('[data-hold]')) trigger('pause');
};
element.addEventListener('click', open);
element.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && event.target.matches('.ns-card')) open(event);
});
"""
# The sheet turns and closes by its own buttons, closes on Escape, and shows the quotation when it opens.
TURN_AND_CLOSE = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-step],[data-close]');
  if (button) trigger('click', {step: +(button.dataset.step || 0)});
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && element.querySelector('.ns-sheet')) trigger('click', {step: 0});
});
let shown = null;
new MutationObserver(() => {
  const sheet = element.querySelector('.ns-sheet');
  if (sheet === shown) return;
  shown = sheet;
  if (!sheet) return;
  const mark = sheet.querySelector('mark'), pane = sheet.querySelector('.ns-scroll');
  const top = (node) => node.getBoundingClientRect().top;
  if (mark) pane.scrollTop += top(mark) - top(pane) - pane.clientHeight / 3;
  sheet.querySelector('[data-close]').focus({preventScroll: true});
}).observe(element, {childList: true, subtree: true});
"""
CLOSED: tuple[str, dict[str, int]] = ("", {})


def build_leaf(services: Services, book: gr.Dropdown, bookmark: gr.Slider) -> tuple[gr.HTML, gr.State]:
    """Put the closed sheet on the page: the sheet, and the place where it is open."""
    place = gr.State({})
    leaf = gr.HTML(elem_classes="ns-leaf", js_on_load=TURN_AND_CLOSE)
    leaf.click(
        MethodType(turn_leaf, services), [book, bookmark, place], [leaf, place],
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    return leaf, place


def open_at(
    services: Services, book_id: str | None, until: float, click: gr.EventData, request: gr.Request
) -> tuple[str, dict[str, int]]:
    """(sheet, place): the chapter that holds a clicked quotation or passage, which is marked in it."""
    # The numbers come from a browser, so they are only ever compared and sliced with.
    chapter, start, end = (int(getattr(click, name, -1)) for name in ("chapter", "start", "end"))
    return _sheet(services, book_id, int(until), chapter, (start, end), strings_for(request))


def turn_leaf(
    services: Services,
    book_id: str | None,
    until: float,
    place: dict[str, int],
    click: gr.EventData,
    request: gr.Request,
) -> tuple[str, dict[str, int]]:
    """(sheet, place): the chapter before or after the open one; a step of 0 closes the sheet."""
    step = int(getattr(click, "step", 0))
    try:
        numbers = [chapter.number for chapter in services.library.open(book_id or "").record.chapters]
    except NovelscopeError:
        return CLOSED
    if step == 0 or place.get("chapter") not in numbers:
        return CLOSED
    at = min(max(numbers.index(place["chapter"]) + step, 0), len(numbers) - 1)
    return _sheet(services, book_id, int(until), numbers[at], (0, 0), strings_for(request))


def _sheet(
    services: Services,
    book_id: str | None,
    until: int,
    wanted: int,
    cited: tuple[int, int],
    strings: Mapping[str, str],
) -> tuple[str, dict[str, int]]:
    try:
        book = services.library.open(book_id or "")
        text = book.text
    except NovelscopeError:
        return CLOSED
    allowed = [chapter for chapter in book.record.chapters if chapter.number <= until]
    at = next((index for index, chapter in enumerate(allowed) if chapter.number == wanted), None)
    note = ""
    if at is None:
        if not allowed or all(chapter.number != wanted for chapter in book.record.chapters):
            return CLOSED
        at, note = len(allowed) - 1, strings["beyond_bookmark"]
    chapter = allowed[at]
    is_inside = chapter.span.start <= cited[0] < cited[1] <= chapter.span.end
    ending = ""
    if at == len(allowed) - 1:
        ending = strings["page_end" if len(allowed) == len(book.record.chapters) else "page_bookmark"]
    sheet = rendering.reading_sheet(
        chapter, text, Span(*cited) if is_inside else None, strings, is_first=at == 0, ending=ending, note=note
    )
    return sheet, {"chapter": chapter.number}
