"""The tab where a reader asks a book: pick it, set the bookmark, ask, see the evidence, open the page.

Handlers take values and yield values; what lasts between events is in ``gr.State``: the turns of the conversation and
the place where the book lies open. Every LLM event shares one queue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from types import MethodType
from typing import Any

import gradio as gr

from core.chains.focus import focus_passages
from core.chains.qa import Question
from core.data.dialogues import Turn
from core.errors import NovelscopeError
from core.llm.events import CitationFound, Done, Event, Evidence, Failed, Status, Token, UsageReport
from demos import rendering
from demos.answering import watched
from demos.bundled import examples_of
from demos.map_window import is_own_machine
from demos.mapping import answer_of, write_followed
from demos.tabs.leaf import OPEN_ON_CLICK, build_leaf, open_at
from demos.tabs.shelf import book_choices, build_shelf, hold_vectors, show_facts
from demos.tabs.summary import build_summary_view
from demos.translations import language_of, strings_for
from demos.wiring import Services

__all__ = ["answer_question", "build_document_tab", "choose_book", "mark_stopped", "move_bookmark"]

REDRAW_EVERY_S = 0.05
FACTS_EVERY_S = 2.0
NO_TURNS: list[dict[str, Any]] = []
# Until something of a passage is cited, its card shows about so much of it.
EXCERPT_CHARS = 130

_log = logging.getLogger("novelscope.web")


def build_document_tab(
    services: Services, text: gr.I18n, page: gr.Blocks
) -> tuple[gr.Dropdown, gr.Slider, gr.Dropdown, gr.State]:
    """Put the tab on the page; the book, the bookmark, the model and the conversation, which other tabs follow.

    Args:
        page: what the tab stands on; it fills itself when the page is opened.
    """
    turns = gr.State(NO_TURNS)
    with gr.Row(elem_classes="ns-top"):
        book = gr.Dropdown(label=text("book"), choices=[], interactive=True, scale=3, elem_id="ns-book")
        bookmark = gr.Slider(1, 2, value=1, step=1, label=text("bookmark"), scale=5, elem_id="ns-bookmark", buttons=[])
        model = gr.Dropdown(
            services.model_choices(), value=services.settings.model, label=text("model"), scale=2, elem_id="ns-model"
        )
    facts = gr.HTML(elem_id="ns-facts", js_on_load=OPEN_ON_CLICK)
    build_shelf(services, text, book, page)
    with gr.Row(elem_classes="ns-main"):
        with gr.Column(scale=6, min_width=320, elem_classes="ns-left"):
            talk = gr.HTML(elem_id="ns-talk", js_on_load=OPEN_ON_CLICK)
            question = gr.Textbox(
                show_label=False, placeholder=text("question_hint"), max_lines=4, container=False, elem_id="ns-question"
            )
            with gr.Row(elem_classes="ns-buttons"):
                ask = gr.Button(text("ask"), variant="primary", elem_id="ns-ask")
                stop = gr.Button(text("stop"), variant="stop", elem_id="ns-stop")
                fresh = gr.Button(text("new_conversation"), elem_id="ns-fresh")
            offered = gr.Dataset(
                samples=[], components=[gr.Textbox(visible=False)], label=text("examples"), elem_id="ns-examples"
            )
        with gr.Column(scale=5, min_width=320, elem_classes="ns-right"):
            evidence = gr.HTML(elem_id="ns-evidence", js_on_load=OPEN_ON_CLICK)
    build_summary_view(services, text, book, bookmark, model)
    leaf, place = build_leaf(services, book, bookmark)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    answering: dict[str, Any] = {
        "fn": MethodType(answer_question, services),
        "inputs": [book, bookmark, model, question, turns],
        "outputs": [question, turns, talk, evidence],
        "concurrency_id": "llm",
        "concurrency_limit": 2,
        **quiet,
    }
    asked = gr.on([ask.click, question.submit], **answering)
    offered_one = offered.click(lambda sample: sample[0], offered, question, **quiet).then(**answering)
    running: list[Any] = [asked, offered_one]
    choose = MethodType(choose_book, services)
    chosen = [bookmark, facts, offered, turns, talk, evidence, leaf, place]
    # A book that is filled in counts as a change, so it is chosen once; twice would take back a bookmark just moved.
    page.load(MethodType(first_book, services), None, book, **quiet)
    # First the stream is cancelled, then the page changes: a piece that was under way would write over the change,
    # and bring back what lies beyond a bookmark that was moved.
    cancel: dict[str, Any] = {"fn": None, "cancels": running, "queue": False, "api_visibility": "private"}
    stop.click(**cancel).then(mark_stopped, turns, [turns, talk], queue=False, **quiet)
    fresh.click(**cancel).then(forget, None, [turns, talk, evidence], queue=False, **quiet)
    book.change(**cancel).then(choose, book, chosen, **quiet)
    bookmark.change(**cancel, trigger_mode="always_last").then(
        MethodType(move_bookmark, services), [book, bookmark, turns, place],
        [facts, turns, talk, evidence, leaf, place], **quiet,
    )  # fmt: skip
    for clickable in (talk, evidence, facts):
        clickable.click(MethodType(open_at, services), [book, bookmark], [leaf, place], **quiet)
    watch = MethodType(show_facts, services)
    facts.pause(MethodType(hold_vectors, services), None, None, **quiet).then(watch, [book, bookmark], facts, **quiet)
    gr.Timer(FACTS_EVERY_S).tick(watch, [book, bookmark], facts, **quiet)
    return book, bookmark, model, turns


def answer_question(
    services: Services,
    book_id: str | None,
    until: float,
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
    answer = _Growing(question, int(until), strings)
    before, turns = turns, [*turns, answer.turn]
    if not book_id:
        answer.fail(strings["pick_book"])
        yield question, before, rendering.conversation(turns, "", strings), gr.skip()
        return
    yield "", turns, rendering.conversation(turns, answer.status, strings), gr.skip()
    asked = Question(book_id=book_id, text=question, until_chapter=int(until), history=_history(before))
    try:
        drawn = 0.0
        with closing(watched(services.reader(model).stream(asked), services)) as events:
            for event in events:
                is_urgent = answer.hear(event)
                if isinstance(event, Evidence):
                    answer.excerpt(services, book_id, event)
                    if is_own_machine(request):
                        follow(services, book_id, question, event)
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

    def __init__(self, question: str, until: int, strings: Mapping[str, str]) -> None:
        self.turn: dict[str, Any] = {
            "question": question,
            "until": until,
            "answer": "",
            "citations": [],
            "state": "writing",
            "note": "",
        }
        self.status = strings["status_searching"]
        self._strings = strings
        self._passages: list[dict[str, Any]] = []
        self._coverage: tuple[int, int] | None = None

    def hear(self, event: Event) -> bool:
        """Take an event in; whether it must be shown at once."""
        turn, strings = self.turn, self._strings
        if isinstance(event, Token):
            turn["answer"] += event.text
            self.status = ""
            return False
        if isinstance(event, Evidence):
            self._passages = [
                {**passage.to_dict(), "excerpt": (passage.span.start, passage.span.end)} for passage in event.passages
            ]
            self._coverage = (event.dense_done, event.dense_total)
            turn["found"] = [
                {"start": passage.span.start, "end": passage.span.end, "score": passage.score}
                for passage in event.passages
            ]
        elif isinstance(event, CitationFound):
            turn["citations"].append(event.citation.to_dict())
        elif isinstance(event, UsageReport):
            writing_s = max(event.elapsed_s - event.first_token_s, 1e-6)
            turn["usage"] = strings["usage"].format(
                output=event.output_tokens,
                first=f"{event.first_token_s:.1f}",
                speed=f"{max(event.output_tokens - 1, 0) / writing_s:.0f}",
            )
        elif isinstance(event, Done):
            turn["answer"] = event.text
            turn["state"] = "done" if event.found else "not_found"
        elif isinstance(event, Failed):
            self.fail(event.message)
        elif isinstance(event, Status):
            return self._heed(event)
        return True

    def excerpt(self, services: Services, book_id: str, event: Evidence) -> None:
        """Cut each card down to the sentences that share most with the question."""
        book = services.library.open(book_id)
        room = EXCERPT_CHARS if book.record.language == "zh" else 3 * EXCERPT_CHARS
        parts = focus_passages(book, event.passages, self.turn["question"], room * len(event.passages))
        for passage, part in zip(self._passages, parts, strict=True):
            passage["excerpt"] = (part.span.start, part.span.end)

    def fail(self, reason: str) -> None:
        self.turn["state"] = "failed"
        self.turn["note"] = self._strings["answer_failed"].format(message=reason)

    def evidence_html(self) -> Any:
        if self._coverage is None:
            return gr.skip()
        return rendering.evidence_cards(self._passages, self.turn["citations"], self._coverage, self._strings)

    def _heed(self, event: Status) -> bool:
        values = dict(event.values)
        if event.key == "reading":
            self.status = self._strings["status_reading"].format(**values)
            if values["turns_left_out"]:
                self.status += " " + self._strings["status_left_out"].format(turns=values["turns_left_out"])
        elif event.key == "rewritten":
            self.status = self._strings["status_rewritten"].format(**values)
        elif event.key in ("searching", "loading"):
            self.status = self._strings[f"status_{event.key}"]
        return event.key != "thinking"


def follow(services: Services, book_id: str, question: str, event: Evidence) -> None:
    """Tell a map's window that follows which passages were found."""
    try:
        write_followed(services.settings.home, answer_of(book_id, question, event.passages))
    except NovelscopeError as wrong:
        _log.warning("a window that follows is not told: %s", wrong)


def first_book(services: Services) -> Any:
    """The list of books when the page is opened, with the newest one picked."""
    choices = book_choices(services)
    return gr.Dropdown(choices=choices, value=choices[-1][1] if choices else None)


def mark_stopped(turns: list[dict[str, Any]], request: gr.Request) -> tuple[list[dict[str, Any]], str]:
    """Keep what was written of the last answer, marked as stopped."""
    turns = _settled(turns)
    return turns, rendering.conversation(turns, "", strings_for(request))


def forget(request: gr.Request) -> tuple[list[dict[str, Any]], str, str]:
    """Begin a new conversation: (turns, conversation, evidence)."""
    strings = strings_for(request)
    return [], rendering.conversation([], "", strings), rendering.evidence_cards([], [], (0, 0), strings)


def choose_book(services: Services, book_id: str | None, request: gr.Request) -> tuple[Any, ...]:
    """(bookmark, facts, examples, turns, conversation, evidence, sheet, place) for another book."""
    turns, talk, evidence = forget(request)
    try:
        info = services.library.info(book_id or "")
    except NovelscopeError:
        samples: list[str] = []
        last = 1
    else:
        samples, last = examples_of(info.title, language_of(request)), max(1, info.last_chapter)
    bookmark = gr.Slider(minimum=1, maximum=max(2, last), value=last, interactive=last > 1)
    offered = gr.Dataset(samples=[[sample] for sample in samples], visible=bool(samples))
    return bookmark, show_facts(services, book_id, last, request), offered, turns, talk, evidence, "", {}


def move_bookmark(
    services: Services,
    book_id: str | None,
    until: float,
    turns: list[dict[str, Any]],
    place: dict[str, int],
    request: gr.Request,
) -> tuple[Any, ...]:
    """(facts, turns, conversation, evidence, sheet, place): what was read beyond the bookmark leaves the page."""
    strings = strings_for(request)
    kept = [turn for turn in _settled(turns) if turn["until"] <= until]
    is_told_less = len(kept) < len(turns)
    evidence = rendering.evidence_cards([], [], (0, 0), strings) if is_told_less else gr.skip()
    is_open_beyond = place.get("chapter", 0) > until
    sheet, place = ("", {}) if is_open_beyond else (gr.skip(), place)
    talk = rendering.conversation(kept, "", strings)
    return show_facts(services, book_id, until, request), kept, talk, evidence, sheet, place


def _settled(turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns, with one that was being written marked as stopped."""
    return [{**turn, "state": "stopped"} if turn["state"] == "writing" else turn for turn in turns]


def _history(turns: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    told = [turn for turn in turns if turn["answer"] and turn["state"] in ("done", "stopped", "not_found")]
    return tuple(said for turn in told for said in (Turn("user", turn["question"]), Turn("assistant", turn["answer"])))
