"""The tab that shows how answers travel: three calls side by side, or one question answered at once and as a stream.

Every call has a panel with its text and its times; below stand all events as they came, and the bytes of their streams.
It asks the book that is picked in the first tab, behind the same bookmark.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from html import escape
from types import MethodType
from typing import Any

import gradio as gr
from langchain_core.messages import HumanMessage

from core.chains.parallel import interleave
from core.chains.qa import Question
from core.chains.summary import SummaryRequest
from core.errors import NovelscopeError
from core.llm.events import CitationFound, Done, Event, Evidence, Failed, Status, Stopped, Token, UsageReport, to_sse
from core.llm.streams import model_events
from demos import rendering
from demos.answering import watched
from demos.translations import strings_for
from demos.wiring import Services

__all__ = ["build_streaming_tab", "stream_events"]

REDRAW_EVERY_S = 0.1
ROWS_SHOWN, RAW_SHOWN = 80, 12_000
ONE, THREE, BOTH = "one", "three", "both"
CHAT_TOKENS = 128
WAITING = Status("waiting")

_log = logging.getLogger("novelscope.web")


def build_streaming_tab(
    services: Services, text: gr.I18n, book: gr.Dropdown, bookmark: gr.Slider, model: gr.Dropdown
) -> None:
    """Put the tab on the page."""
    question = gr.Textbox(
        show_label=False, placeholder=text("streaming_hint"), container=False, elem_id="ns-stream-question"
    )
    with gr.Row(elem_classes="ns-buttons"):
        one = gr.Button(text("ask"), variant="primary", elem_id="ns-stream-ask")
        three = gr.Button(text("streaming_three"), elem_id="ns-stream-three")
        both = gr.Button(text("streaming_both"), elem_id="ns-stream-both")
        stop = gr.Button(text("stop"), variant="stop", elem_id="ns-stream-stop")
    panels = gr.HTML(elem_id="ns-panels")
    with gr.Row(elem_classes="ns-main"):
        timeline = gr.HTML(elem_id="ns-timeline")
        raw = gr.HTML(elem_id="ns-raw")
    running: list[Any] = []
    for triggers, show in (([one.click, question.submit], ONE), ([three.click], THREE), ([both.click], BOTH)):
        running.append(
            gr.on(
                triggers,
                MethodType(stream_events, services),
                [book, bookmark, model, question, gr.State(show)],
                [panels, timeline, raw],
                concurrency_id="llm",
                show_progress="hidden",
                api_visibility="private",
            )
        )
    stop.click(None, cancels=running, queue=False, api_visibility="private")


def stream_events(
    services: Services, book_id: str | None, until: float, model: str, question: str, show: str, request: gr.Request
) -> Iterator[tuple[str, str, str]]:
    """Yield (panels, timeline, raw stream) as events arrive.

    Args:
        show: one call, three kinds of call at the same time, or one question as a buffered call and as a stream.
    """
    strings = strings_for(request)
    record = _Record(strings)
    if not question.strip() or not book_id:
        yield rendering.notice(strings["question_hint" if book_id else "pick_book"]), *record.draw()[1:]
        return
    yield rendering.notice(strings["status_loading"], "busy"), *record.draw()[1:]
    try:
        calls = _calls(services, book_id, int(until), model, question.strip(), show, strings)
        record.begin([name for name, _ in calls])
        drawn = 0.0
        # All at once: the second of two equal calls would find its prompt read already, and seem the faster one.
        with closing(interleave([make for _, make in calls], limit=len(calls))) as events:
            for number, event in events:
                if event is not WAITING:
                    record.hear(number, event)
                if not isinstance(event, (Token, Status)) or time.monotonic() - drawn > REDRAW_EVERY_S:
                    drawn = time.monotonic()
                    yield record.draw()
    except NovelscopeError as wrong:
        record.hear(0, Failed(str(wrong), ""))
    except Exception:
        _log.exception("a stream broke")
        record.hear(0, Failed(strings["unexpected"], ""))
    yield record.draw()


def _calls(
    services: Services, book_id: str, until: int, model: str, question: str, show: str, strings: Mapping[str, str]
) -> list[tuple[str, Callable[[], Generator[Event, None, None]]]]:
    """What to call, each with its name."""
    asked = Question(book_id=book_id, text=question, until_chapter=until)
    reader = services.reader(model)

    def ask() -> Generator[Event, None, None]:
        return watched(reader.stream(asked), services)

    def summarize() -> Generator[Event, None, None]:
        request = SummaryRequest(book_id=book_id, first=until, last=until, until_chapter=until)
        return watched(services.summariser(model).stream(request), services)

    def chat() -> Generator[Event, None, None]:
        talk = model_events(services.chat_model(model), [HumanMessage(question)], max_tokens=CHAT_TOKENS)
        return watched(talk, services)

    def buffered() -> Generator[Event, None, None]:
        with closing(ask()) as events:
            for event in events:
                if isinstance(event, (Done, Failed, Stopped)):
                    yield Token(event.text)
                    yield event
                else:
                    # Nobody sees this; but without it a stop would reach the call at its end only.
                    yield WAITING

    streamed = ("POST /stream/ask", ask)
    if show == THREE:
        return [streamed, ("POST /stream/summarize", summarize), ("POST /stream/chat", chat)]
    return [(strings["streaming_buffered"], buffered), streamed] if show == BOTH else [streamed]


class _Panel:
    """One call: its text so far, and when its pieces came."""

    def __init__(self, name: str, began_s: float) -> None:
        self.name, self.raw = name, ""
        self.text, self.tokens, self.note = "", 0, ""
        self.chapter: int | None = None
        self._num_events = 0
        self.began_s = self.end_s = began_s
        self.first_s = self.last_s = 0.0

    def hear(self, event: Event, now_s: float) -> None:
        self.end_s = now_s
        self.raw += to_sse(event, self._num_events)
        self._num_events += 1
        if isinstance(event, Token):
            # Of a summary, the part that is being written.
            self.text = self.text + event.text if event.chapter == self.chapter else event.text
            self.chapter = event.chapter
            self.tokens += 1
            self.first_s = self.first_s or now_s
            self.last_s = now_s
        elif isinstance(event, Failed):
            self.note = event.message

    def html(self, strings: Mapping[str, str]) -> str:
        writing_s = self.last_s - self.first_s
        speed = f"{(self.tokens - 1) / writing_s:.1f}" if self.tokens > 4 and writing_s > 0 else "–"
        first = f"{self.first_s - self.began_s:.2f}" if self.tokens else "–"
        shown = [
            (strings["first_token"], strings["seconds"].format(value=first)),
            (strings["speed"], speed),
            (strings["elapsed"], strings["seconds"].format(value=f"{self.end_s - self.began_s:.2f}")),
        ]
        cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in shown)
        body = escape(self.text).replace("\n", "<br>") + rendering.notice(self.note, "error")
        head = f'<div class="ns-head">{escape(self.name)}</div>'
        return f'<section>{head}<div class="ns-meters">{cells}</div><div class="ns-a">{body}</div></section>'


class _Record:
    """The events so far, with the moments at which they came."""

    def __init__(self, strings: Mapping[str, str]) -> None:
        self._strings = strings
        self._rows: list[tuple[float, float, str, str]] = []
        self.begin([""])

    def begin(self, names: Sequence[str]) -> None:
        self._began = self._last = time.monotonic()
        self._panels = [_Panel(name, self._began) for name in names]

    def hear(self, number: int, event: Event) -> None:
        now = time.monotonic()
        at_ms, gap_ms = (now - self._began) * 1000, (now - self._last) * 1000
        self._last = now
        self._panels[number].hear(event, now)
        kind = event.type if len(self._panels) == 1 else f"{number + 1} · {event.type}"
        self._rows.append((at_ms, gap_ms, kind, _gist(event)))

    def draw(self) -> tuple[str, str, str]:
        return self._panels_html(), self._timeline(), self._raw_html()

    def _panels_html(self) -> str:
        return f'<div class="ns-panels">{"".join(panel.html(self._strings) for panel in self._panels)}</div>'

    def _timeline(self) -> str:
        s = self._strings
        if not self._rows:
            return f'<div class="ns-empty">{escape(s["streaming_empty"])}</div>'
        heads = "".join(f"<th>{escape(s[name])}</th>" for name in ("at_ms", "gap_ms", "event", "content"))
        rows = "".join(
            f'<tr class="ns-e-{kind.split()[-1]}"><td>{at:.0f}</td><td>{gap:.0f}</td><td>{kind}</td>'
            f"<td>{escape(gist)}</td></tr>"
            for at, gap, kind, gist in reversed(self._rows[-ROWS_SHOWN:])
        )
        return f'<table class="ns-events"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'

    def _raw_html(self) -> str:
        streams = [panel for panel in self._panels if panel.name != self._strings["streaming_buffered"]]
        parts = []
        for panel in streams:
            shown = panel.raw if len(panel.raw) <= RAW_SHOWN else "…" + panel.raw[-RAW_SHOWN:]
            name = f"<span>{escape(panel.name)}</span>" if len(streams) > 1 else ""
            parts.append(f'<div class="ns-head">{name}</div><pre><code>{escape(shown)}</code></pre>')
        return f'<div class="ns-head">{escape(self._strings["streaming_raw"])}</div>{"".join(parts)}'


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
