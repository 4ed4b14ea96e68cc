"""The view that summarises a book up to the bookmark: chapters that fill in one after another, then the whole.

What was written is kept beside the book, so a stopped summary goes on where it was when it is asked for again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from html import escape
from types import MethodType
from typing import Any

import gradio as gr

from core.chains.summary import SummaryRequest
from core.errors import NovelscopeError
from core.llm.events import Done, Event, Failed, Status, Stopped, Token
from demos import rendering
from demos.answering import watched
from demos.spans import chapters_from
from demos.translations import strings_for
from demos.wiring import Services

__all__ = ["build_summary_view", "mark_summary_stopped", "summarise"]

REDRAW_EVERY_S = 0.15
MODES = {"summary_recap": "recap", "summary_book": "book", "summary_person": "person"}
NOTHING: dict[str, Any] = {}

_log = logging.getLogger("novelscope.web")


def build_summary_view(
    services: Services, text: gr.I18n, book: gr.Dropdown, bookmark: gr.Slider, model: gr.Dropdown
) -> None:
    """Put the view on the page."""
    shown = gr.State(NOTHING)
    with gr.Accordion(text("summary"), open=False, elem_id="ns-summary-fold", elem_classes="ns-fold"):
        with gr.Row(elem_classes="ns-summary-options"):
            mode = gr.Radio(
                [(text(key), mode) for key, mode in MODES.items()],
                value="recap",
                label=text("summary_mode"),
                scale=4,
                elem_id="ns-summary-mode",
            )
            person = gr.Textbox(label=text("summary_name"), visible=False, scale=2, elem_id="ns-summary-person")
            chapters = gr.Textbox(
                label=text("summary_span"), placeholder="3-10", scale=2, elem_id="ns-summary-chapters"
            )
        with gr.Row(elem_classes="ns-buttons"):
            begin = gr.Button(text("summary_begin"), variant="primary", elem_id="ns-summarise")
            stop = gr.Button(text("stop"), variant="stop", elem_id="ns-summary-stop")
        view = gr.HTML(elem_id="ns-summary")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    mode.change(lambda chosen: gr.Textbox(visible=chosen == "person"), mode, person, queue=False, **quiet)
    running: Any = gr.on(
        [begin.click, person.submit, chapters.submit],
        MethodType(summarise, services),
        [book, bookmark, model, mode, person, chapters],
        [shown, view],
        concurrency_id="llm",
        # A click right after a stop comes while the stopped run still counts as running; it must not be lost.
        trigger_mode="multiple",
        **quiet,
    )
    cancel: dict[str, Any] = {"fn": None, "cancels": [running], "queue": False, "api_visibility": "private"}
    stop.click(**cancel).then(mark_summary_stopped, shown, [shown, view], queue=False, **quiet)
    # What was told of a book, or up to a bookmark, must not stand under another one.
    for changed in (book, bookmark):
        changed.change(**cancel).then(lambda: (NOTHING, ""), None, [shown, view], queue=False, **quiet)


def summarise(
    services: Services,
    book_id: str | None,
    until: float,
    model: str,
    mode: str,
    person: str,
    chapters: str,
    request: gr.Request,
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield (what is shown, as data; the view) as events arrive."""
    strings = strings_for(request)
    if not book_id:
        yield NOTHING, rendering.notice(strings["pick_book"])
        return
    growing = _Growing(strings)
    yield growing.data, _view(growing.data, strings)
    try:
        first, last = chapters_from(chapters)
        wanted = SummaryRequest(
            book_id=book_id,
            mode=mode,  # type: ignore[arg-type]  # checked by the request
            first=first,
            last=last,
            until_chapter=int(until),
            person=person if mode == "person" else None,
        )
        drawn = 0.0
        with closing(watched(services.summariser(model).stream(wanted), services)) as events:
            for event in events:
                if growing.hear(event) or time.monotonic() - drawn > REDRAW_EVERY_S:
                    drawn = time.monotonic()
                    yield growing.data, _view(growing.data, strings)
    except NovelscopeError as wrong:
        growing.fail(str(wrong))
    except Exception:
        _log.exception("a summary could not be written")
        growing.fail(strings["unexpected"])
    yield growing.data, _view(growing.data, strings)


def mark_summary_stopped(shown: dict[str, Any], request: gr.Request) -> tuple[dict[str, Any], str]:
    """Keep what was written, and say that it goes on from there."""
    if shown.get("state") != "writing":
        return shown, gr.skip()
    strings = strings_for(request)
    shown = {**shown, "state": "stopped", "note": strings["summary_stopped"]}
    return shown, _view(shown, strings)


class _Growing:
    """The summary that is being written, as data for the view."""

    def __init__(self, strings: Mapping[str, str]) -> None:
        self._strings = strings
        self.data: dict[str, Any] = {
            "state": "writing", "note": strings["status_loading"], "text": "", "is_list": False, "done": 0, "of": 0,
            "chapters": {},
        }  # fmt: skip

    def hear(self, event: Event) -> bool:
        """Take an event in; whether it must be shown at once."""
        data = self.data
        if isinstance(event, Token):
            if event.chapter is None:
                data["text"] += "" if data["is_list"] else event.text
            else:
                data["chapters"][event.chapter]["text"] += event.text
            return False
        if isinstance(event, Status):
            return self._heed(event)
        if isinstance(event, Done):
            # The chapters stand below already, so a text that only lists them is not shown as well.
            if data["is_list"]:
                data |= {"state": "done", "note": self._strings["summary_listed"]}
            else:
                data |= {"state": "done", "note": "", "text": event.text}
        elif isinstance(event, Stopped):
            data |= {"state": "stopped", "note": self._strings["summary_stopped"]}
        elif isinstance(event, Failed):
            self.fail(event.message)
        return True

    def fail(self, reason: str) -> None:
        self.data |= {"state": "failed", "note": self._strings["summary_failed"].format(message=reason)}

    def _heed(self, status: Status) -> bool:
        data, values = self.data, dict(status.values)
        if status.key == "summarising":
            data["of"] = values["chapters"]
        elif status.key == "chapter_begins":
            data["chapters"][values["chapter"]] = {"title": values["title"], "text": "", "state": "writing"}
        elif status.key == "chapter_ready":
            data["done"] += 1
            state = "kept" if values["was_kept"] else "ready"
            data["chapters"][values["chapter"]] |= {"text": values["summary"], "state": state}
        elif status.key == "joining":
            data["note"] = self._strings["summary_joining"].format(parts=values["parts"], into=values["into"])
            return True
        elif status.key == "listing":
            data |= {"is_list": True, "text": ""}
        elif status.key == "writing":
            data["note"] = self._strings["summary_writing"]
            return True
        if status.key.startswith("chapter_"):
            data["note"] = self._strings["summary_chapters"].format(done=data["done"], of=data["of"])
        # A hundred kept chapters come in an instant; they need not be drawn one by one.
        return status.key == "chapter_begins" and len(data["chapters"]) == 1


def _view(data: Mapping[str, Any], strings: Mapping[str, str]) -> str:
    kind = {"failed": "error", "writing": "busy"}.get(data["state"], "info")
    share = data["done"] / data["of"] if data["of"] and data["state"] == "writing" else None
    whole = ""
    if data["text"]:
        caret = '<i class="ns-caret"></i>' if data["state"] == "writing" else ""
        whole = f'<div class="ns-a ns-whole">{_lines(data["text"])}{caret}</div>'
    chapters = "".join(
        f'<li class="ns-ch-{one["state"]}" data-chapter="{number}"><b>{escape(one["title"])}</b>'
        f"<p>{_lines(one['text'])}</p></li>"
        for number, one in sorted(data["chapters"].items())
    )
    listed = f'<ol class="ns-chapters">{chapters}</ol>' if chapters else ""
    return rendering.notice(data["note"], kind, share) + whole + listed


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")
