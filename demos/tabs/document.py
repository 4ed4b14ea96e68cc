"""The tab where a reader asks a book: pick it, set the bookmark, ask, see the evidence, open the page.

Handlers take values and yield values; what lasts between events is in ``gr.State``: the turns of the conversation and
the passages of the last answer. Every LLM event shares one queue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from types import MethodType
from typing import Any

import gradio as gr

from core.chains.events import CitationFound, Done, Event, Evidence, Failed, Status, Token, UsageReport
from core.chains.qa import Question
from core.data.dialogues import Turn
from core.data.text import Chapter, Span
from core.errors import BookNotFound, NovelscopeError
from demos import rendering
from demos.answering import watched
from demos.bundled import examples_of
from demos.tabs.shelf import book_choices, build_shelf, dense_line
from demos.translations import strings_for
from demos.wiring import Services

__all__ = ["answer_question", "build_document_tab", "choose_book", "open_at", "turn_back", "turn_on"]

REDRAW_EVERY_S = 0.05
NO_TURNS: list[dict[str, Any]] = []

# Clicks on anything that carries a place are told to Python, by mouse and by keyboard.
OPEN_ON_CLICK = """
const open = (event) => {
  const place = event.target.closest('[data-start]');
  if (place) trigger('click', {chapter: +place.dataset.chapter, start: +place.dataset.start, end: +place.dataset.end});
};
element.addEventListener('click', open);
element.addEventListener('keydown', (event) => { if (event.key === 'Enter') open(event); });
"""
SHOW_MARK = """() => setTimeout(() => {
  const page = document.querySelector('#ns-page');
  const mark = page?.querySelector('mark');
  (mark || page)?.scrollIntoView({block: mark ? 'center' : 'start', behavior: 'smooth'});
}, 120)"""

_log = logging.getLogger("novelscope.web")


def build_document_tab(services: Services, text: gr.I18n, page: gr.Blocks) -> tuple[gr.Dropdown, gr.Slider]:
    """Put the tab on the page; the book and the bookmark, which other tabs follow.

    Args:
        page: what the tab stands on; it fills itself when the page is opened.
    """
    turns, place = gr.State(NO_TURNS), gr.State({})
    with gr.Row(elem_classes="ns-top"):
        book = gr.Dropdown(label=text("book"), choices=[], interactive=True, scale=3, elem_id="ns-book")
        bookmark = gr.Slider(1, 2, value=1, step=1, label=text("bookmark"), scale=4, elem_id="ns-bookmark")
        model = gr.Dropdown(
            services.model_choices(), value=services.settings.model, label=text("model"), scale=2, elem_id="ns-model"
        )
    facts = gr.HTML(elem_id="ns-facts")
    with gr.Row(elem_classes="ns-main"):
        with gr.Column(scale=5, min_width=320):
            talk = gr.HTML(elem_id="ns-talk", js_on_load=OPEN_ON_CLICK)
            question = gr.Textbox(
                show_label=False,
                placeholder=text("question_hint"),
                max_lines=4,
                elem_id="ns-question",
                submit_btn=False,
            )
            with gr.Row(elem_classes="ns-buttons"):
                ask = gr.Button(text("ask"), variant="primary", elem_id="ns-ask")
                stop = gr.Button(text("stop"), elem_id="ns-stop")
                fresh = gr.Button(text("new_conversation"), variant="secondary", elem_id="ns-fresh")
            offered = gr.Dataset(
                samples=[], components=[gr.Textbox(visible=False)], label=text("examples"), elem_id="ns-examples"
            )
        with gr.Column(scale=6, min_width=320):
            evidence = gr.HTML(elem_id="ns-evidence", js_on_load=OPEN_ON_CLICK)
            with gr.Column(elem_id="ns-page-box"):
                with gr.Row(elem_classes="ns-turn"):
                    back = gr.Button(text("previous_chapter"), size="sm", elem_id="ns-back")
                    onward = gr.Button(text("next_chapter"), size="sm", elem_id="ns-onward")
                leaf = gr.HTML(elem_id="ns-page")
    build_shelf(services, text, book)

    asking = [book, bookmark, model, question, turns]
    shown = [question, turns, talk, evidence]
    running: list[Any] = [
        event(
            MethodType(answer_question, services),
            asking,
            shown,
            concurrency_id="llm",
            concurrency_limit=2,
            show_progress="hidden",
            api_visibility="private",
        )
        for event in (ask.click, question.submit)
    ]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    # Marked after the stream was cancelled: a piece that was under way would write over the mark.
    stopped = stop.click(None, cancels=running, queue=False, api_visibility="private")
    stopped.then(mark_stopped, [turns], [turns, talk], queue=False, **quiet)
    fresh.click(forget, None, [turns, talk, evidence], cancels=running, queue=False, **quiet)
    offered.click(lambda sample: sample[0], offered, question, **quiet)
    choose = MethodType(choose_book, services)
    chosen = [bookmark, facts, offered, turns, talk, evidence, leaf, place]
    book.change(choose, book, chosen, cancels=running, **quiet)
    page.load(MethodType(first_book, services), None, book, **quiet).then(choose, book, chosen, **quiet)
    bookmark.change(MethodType(show_facts, services), [book, bookmark], facts, **quiet)
    gr.Timer(2.0).tick(MethodType(show_facts, services), [book, bookmark], facts, **quiet)
    for clickable in (talk, evidence):
        clickable.click(MethodType(open_at, services), [book, bookmark], [leaf, place], **quiet).then(
            None, js=SHOW_MARK
        )
    for button, handler in ((back, turn_back), (onward, turn_on)):
        button.click(MethodType(handler, services), [book, bookmark, place], [leaf, place], **quiet)
    return book, bookmark


def answer_question(
    services: Services,
    book_id: str | None,
    until: int,
    model: str,
    question: str,
    turns: list[dict[str, Any]],
    request: gr.Request,
) -> Iterator[tuple[str, list[dict[str, Any]], str, Any]]:
    """Yield (question box, turns, conversation, evidence) as the answer's events arrive."""
    strings = strings_for(request)
    question = question.strip()
    if not question:
        yield "", turns, rendering.conversation(turns, "", strings), gr.skip()
        return
    answer = _Growing(question, strings)
    turns = [*turns, answer.turn]
    if not book_id:
        answer.fail(strings["pick_book"])
        yield question, turns, rendering.conversation(turns, "", strings), gr.skip()
        return
    yield "", turns, rendering.conversation(turns, strings["status_loading"], strings), gr.skip()
    try:
        asked = Question(book_id=book_id, text=question, until_chapter=int(until), history=_history(turns[:-1]))
        drawn = 0.0
        for event in watched(services.reader(model).stream(asked), services.indexer):
            is_urgent = answer.hear(event)
            if is_urgent or time.monotonic() - drawn > REDRAW_EVERY_S:
                drawn = time.monotonic()
                yield "", turns, rendering.conversation(turns, answer.status, strings), answer.evidence_html()
    except NovelscopeError as wrong:
        answer.fail(str(wrong))
    except Exception:
        _log.exception("a question could not be answered")
        answer.fail(strings["unexpected"])
    yield "", turns, rendering.conversation(turns, "", strings), answer.evidence_html()


class _Growing:
    """The turn that is being written, as the page shows it."""

    def __init__(self, question: str, strings: Mapping[str, str]) -> None:
        self.turn: dict[str, Any] = {
            "question": question,
            "answer": "",
            "citations": [],
            "state": "writing",
            "note": "",
        }
        self.status = strings["status_loading"]
        self._strings = strings
        self._passages: list[dict[str, Any]] = []
        self._coverage = (0, 0)

    def hear(self, event: Event) -> bool:
        """Take an event in; whether it must be shown at once."""
        turn, strings = self.turn, self._strings
        if isinstance(event, Token):
            turn["answer"] += event.text
            self.status = ""
            return False
        if isinstance(event, Evidence):
            self._passages = [passage.to_dict() for passage in event.passages]
            self._coverage = (event.dense_done, event.dense_total)
        elif isinstance(event, CitationFound):
            turn["citations"].append(event.citation.to_dict())
        elif isinstance(event, UsageReport):
            writing_s = max(event.elapsed_s - event.first_token_s, 1e-6)
            speed = max(event.output_tokens - 1, 0) / writing_s
            turn["usage"] = strings["usage"].format(
                output=event.output_tokens, first=f"{event.first_token_s:.1f}", speed=f"{speed:.0f}"
            )
        elif isinstance(event, Done):
            turn["answer"] = event.text
            turn["state"] = "done" if event.found else "not_found"
        elif isinstance(event, Failed):
            self.fail(event.message)
        elif isinstance(event, Status):
            return self._heed(event)
        return True

    def fail(self, reason: str) -> None:
        self.turn["state"] = "failed"
        self.turn["note"] = self._strings["answer_failed"].format(message=reason)

    def evidence_html(self) -> Any:
        if not self._passages:
            return gr.skip()
        return rendering.evidence_cards(self._passages, self.turn["citations"], self._coverage, self._strings)

    def _heed(self, event: Status) -> bool:
        values = dict(event.values)
        if event.key == "reading":
            self.status = self._strings["status_reading"].format(**values)
            if values["turns_left_out"]:
                self.status += " " + self._strings["status_left_out"].format(turns=values["turns_left_out"])
        elif event.key in ("rewritten", "searching"):
            self.status = self._strings[f"status_{event.key}"].format(**values)
        return event.key != "thinking"


def first_book(services: Services) -> Any:
    """The list of books when the page is opened, with the newest one picked."""
    choices = book_choices(services)
    return gr.Dropdown(choices=choices, value=choices[-1][1] if choices else None)


def mark_stopped(turns: list[dict[str, Any]], request: gr.Request) -> tuple[list[dict[str, Any]], str]:
    """Keep what was written of the last answer, marked as stopped."""
    if turns and turns[-1]["state"] == "writing":
        turns = [*turns[:-1], {**turns[-1], "state": "stopped"}]
    return turns, rendering.conversation(turns, "", strings_for(request))


def forget(request: gr.Request) -> tuple[list[dict[str, Any]], str, str]:
    """Begin a new conversation: (turns, conversation, evidence)."""
    strings = strings_for(request)
    return [], rendering.conversation([], "", strings), rendering.evidence_cards([], [], (0, 0), strings)


def choose_book(services: Services, book_id: str | None, request: gr.Request) -> tuple[Any, ...]:
    """(bookmark, facts, examples, turns, conversation, evidence, page, place) for another book."""
    strings = strings_for(request)
    turns, talk, evidence = forget(request)
    page = rendering.chapter_page(None, "", None, strings)
    try:
        info = services.library.info(book_id or "")
    except NovelscopeError:
        samples, last = [], 1
    else:
        samples, last = [[question] for question in examples_of(info.title)], max(1, info.last_chapter)
    bookmark = gr.Slider(minimum=1, maximum=max(2, last), value=last, interactive=last > 1)
    offered = gr.Dataset(samples=samples, visible=bool(samples))
    return bookmark, show_facts(services, book_id, last, request), offered, turns, talk, evidence, page, {}


def show_facts(services: Services, book_id: str | None, until: int, request: gr.Request) -> str:
    """The line under the book: what it is, how far its vectors are, and where the bookmark lies."""
    strings = strings_for(request)
    try:
        info = services.library.info(book_id or "")
        record = services.library.open(info.id).record
    except NovelscopeError:
        return rendering.notice(strings["pick_book" if book_choices(services) else "no_books"])
    facts = strings["book_line"].format(
        chapters=info.chapters, characters=f"{info.characters:,}", encoding=info.encoding
    )
    if until >= info.last_chapter:
        mark = strings["bookmark_whole"]
    else:
        title = next((c.title for c in reversed(record.chapters) if c.number <= until), "")
        mark = strings["bookmark_until"].format(title=title)
    return rendering.book_line(f"{mark} · {facts}", dense_line(services, info, strings))


def open_at(
    services: Services, book_id: str | None, until: int, click: gr.EventData, request: gr.Request
) -> tuple[str, dict[str, int]]:
    """The page that holds a clicked quotation or passage, and where it is."""
    # The numbers come from a browser, so they are only ever compared and sliced with.
    where = {name: int(getattr(click, name, -1)) for name in ("chapter", "start", "end")}
    return _page(services, book_id, int(until), where, strings_for(request))


def turn_back(
    services: Services, book_id: str | None, until: int, place: dict[str, int], request: gr.Request
) -> tuple[str, dict[str, int]]:
    """The chapter before the open one."""
    return _turned(services, -1, book_id, until, place, strings_for(request))


def turn_on(
    services: Services, book_id: str | None, until: int, place: dict[str, int], request: gr.Request
) -> tuple[str, dict[str, int]]:
    """The chapter after the open one, as far as the bookmark allows."""
    return _turned(services, 1, book_id, until, place, strings_for(request))


def _turned(
    services: Services, step: int, book_id: str | None, until: int, place: dict[str, int], strings: Mapping[str, str]
) -> tuple[str, dict[str, int]]:
    try:
        chapters = services.library.open(book_id or "").record.chapters
    except BookNotFound:
        return rendering.chapter_page(None, "", None, strings), {}
    numbers = [chapter.number for chapter in chapters]
    at = numbers.index(place["chapter"]) if place.get("chapter") in numbers else -step if step > 0 else 0
    wanted = numbers[min(max(at + step, 0), len(numbers) - 1)]
    return _page(services, book_id, int(until), {"chapter": wanted, "start": -1, "end": -1}, strings)


def _page(
    services: Services, book_id: str | None, until: int, where: dict[str, int], strings: Mapping[str, str]
) -> tuple[str, dict[str, int]]:
    try:
        book = services.library.open(book_id or "")
    except BookNotFound as gone:
        return rendering.chapter_page(None, "", None, strings, str(gone)), {}
    chapter = next((c for c in book.record.chapters if c.number == where["chapter"]), None)
    if chapter is None:
        return rendering.chapter_page(None, "", None, strings), {}
    if chapter.number > until:
        open_one = _last_allowed(book.record.chapters, until)
        return rendering.chapter_page(open_one, book.text, None, strings, strings["beyond_bookmark"]), {
            "chapter": open_one.number
        }
    cited = None
    if chapter.span.start <= where["start"] < where["end"] <= chapter.span.end:
        cited = Span(where["start"], where["end"])
    return rendering.chapter_page(chapter, book.text, cited, strings), {"chapter": chapter.number}


def _last_allowed(chapters: Sequence[Chapter], until: int) -> Chapter:
    return next((chapter for chapter in reversed(chapters) if chapter.number <= until), chapters[0])


def _history(turns: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    told = [turn for turn in turns if turn["answer"] and turn["state"] in ("done", "stopped", "not_found")]
    return tuple(said for turn in told for said in (Turn("user", turn["question"]), Turn("assistant", turn["answer"])))
