"""The tab that shows an answer as its typed events travel: kind, moment, gap, speed, and the bytes of an SSE stream.

It asks the book that is picked in the first tab, behind the same bookmark.
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

from core.chains.events import CitationFound, Done, Event, Evidence, Failed, Status, Stopped, Token, UsageReport, to_sse
from core.chains.qa import Question
from core.errors import NovelscopeError
from demos import rendering
from demos.answering import watched
from demos.translations import strings_for
from demos.wiring import Services

__all__ = ["build_streaming_tab", "stream_events"]

REDRAW_EVERY_S = 0.08
ROWS_SHOWN, RAW_SHOWN = 60, 12_000

_log = logging.getLogger("novelscope.web")


def build_streaming_tab(
    services: Services, text: gr.I18n, book: gr.Dropdown, bookmark: gr.Slider, model: gr.Dropdown
) -> None:
    """Put the tab on the page."""
    question = gr.Textbox(
        show_label=False, placeholder=text("streaming_hint"), container=False, elem_id="ns-stream-question"
    )
    with gr.Row(elem_classes="ns-buttons"):
        ask = gr.Button(text("ask"), variant="primary", elem_id="ns-stream-ask")
        stop = gr.Button(text("stop"), variant="stop", elem_id="ns-stream-stop")
    meters = gr.HTML(elem_id="ns-meters")
    with gr.Row(elem_classes="ns-main"):
        timeline = gr.HTML(elem_id="ns-timeline")
        with gr.Column():
            answer = gr.HTML(elem_id="ns-stream-answer")
            raw = gr.HTML(elem_id="ns-raw")
    asked = gr.on(
        [ask.click, question.submit],
        MethodType(stream_events, services),
        [book, bookmark, model, question],
        [meters, timeline, answer, raw],
        concurrency_id="llm",
        show_progress="hidden",
        api_visibility="private",
    )
    running: list[Any] = [asked]
    stop.click(None, cancels=running, queue=False, api_visibility="private")


def stream_events(
    services: Services, book_id: str | None, until: float, model: str, question: str, request: gr.Request
) -> Iterator[tuple[str, str, str, str]]:
    """Yield (meters, timeline, answer, raw stream) as events arrive."""
    strings = strings_for(request)
    record = _Record(strings)
    if not question.strip() or not book_id:
        yield rendering.notice(strings["question_hint" if book_id else "pick_book"]), *record.draw()[1:]
        return
    yield rendering.notice(strings["status_loading"], "busy"), *record.draw()[1:]
    try:
        reader = services.reader(model)
        asked = Question(book_id=book_id, text=question.strip(), until_chapter=int(until))
        record.begin()
        drawn = 0.0
        with closing(watched(reader.stream(asked), services)) as events:
            for event in events:
                record.hear(event)
                if not isinstance(event, (Token, Status)) or time.monotonic() - drawn > REDRAW_EVERY_S:
                    drawn = time.monotonic()
                    yield record.draw()
    except NovelscopeError as wrong:
        record.hear(Failed(str(wrong), ""))
    except Exception:
        _log.exception("a stream broke")
        record.hear(Failed(strings["unexpected"], ""))
    yield record.draw()


class _Record:
    """The events so far, with the moments at which they came."""

    def __init__(self, strings: Mapping[str, str]) -> None:
        self._strings = strings
        self._rows: list[tuple[float, float, str, str]] = []
        self._raw: list[str] = []
        self._answer, self._tokens = "", 0
        self._first_token_ms = self._last_token_ms = 0.0
        self._began = self._last = time.monotonic()

    def begin(self) -> None:
        self._began = self._last = time.monotonic()

    def hear(self, event: Event) -> None:
        now = time.monotonic()
        at_ms, gap_ms = (now - self._began) * 1000, (now - self._last) * 1000
        self._last = now
        self._raw.append(to_sse(event, len(self._raw)))
        self._rows.append((at_ms, gap_ms, event.type, _gist(event)))
        if isinstance(event, Token):
            self._answer += event.text
            self._tokens += 1
            self._first_token_ms = self._first_token_ms or at_ms
            self._last_token_ms = at_ms

    def draw(self) -> tuple[str, str, str, str]:
        return self._meters(), self._timeline(), self._answer_html(), self._raw_html()

    def _meters(self) -> str:
        s = self._strings
        writing_s = (self._last_token_ms - self._first_token_ms) / 1000
        speed = f"{(self._tokens - 1) / writing_s:.1f}" if self._tokens > 1 and writing_s > 0 else "–"
        first = f"{self._first_token_ms / 1000:.2f}" if self._tokens else "–"
        shown = [
            (s["first_token"], s["seconds"].format(value=first)),
            (s["speed"], speed),
            (s["elapsed"], s["seconds"].format(value=f"{self._last - self._began:.2f}")),
            (s["streaming_events"], str(len(self._rows))),
        ]
        cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in shown)
        return f'<div class="ns-meters">{cells}</div>'

    def _timeline(self) -> str:
        s = self._strings
        if not self._rows:
            return f'<div class="ns-empty">{escape(s["streaming_empty"])}</div>'
        heads = "".join(f"<th>{escape(s[name])}</th>" for name in ("at_ms", "gap_ms", "event", "content"))
        rows = "".join(
            f'<tr class="ns-e-{kind}"><td>{at:.0f}</td><td>{gap:.0f}</td><td>{kind}</td><td>{escape(gist)}</td></tr>'
            for at, gap, kind, gist in reversed(self._rows[-ROWS_SHOWN:])
        )
        return f'<table class="ns-events"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'

    def _answer_html(self) -> str:
        body = escape(self._answer).replace("\n", "<br>")
        return f'<div class="ns-head">{escape(self._strings["streaming_answer"])}</div><div class="ns-a">{body}</div>'

    def _raw_html(self) -> str:
        raw = "".join(self._raw)
        shown = raw if len(raw) <= RAW_SHOWN else "…" + raw[-RAW_SHOWN:]
        return f'<div class="ns-head">{escape(self._strings["streaming_raw"])}</div><pre>{escape(shown)}</pre>'


def _gist(event: Event) -> str:
    if isinstance(event, Token):
        return event.text
    if isinstance(event, Evidence):
        return " · ".join(passage.chapter_title for passage in event.passages)
    if isinstance(event, CitationFound):
        return f"[{event.citation.number}] {event.citation.quote}"
    if isinstance(event, Status):
        return " ".join([event.key, *(f"{name}={value}" for name, value in event.values)])
    if isinstance(event, UsageReport):
        return f"{event.input_tokens} → {event.output_tokens}"
    if isinstance(event, Failed):
        return event.message
    assert isinstance(event, (Done, Stopped))
    return "" if isinstance(event, Stopped) else event.finish_reason
