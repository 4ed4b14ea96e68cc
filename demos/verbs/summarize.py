"""``novelscope summarize``: every chapter's summary as it is written, then the whole; what was written is kept."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from core.errors import SettingsError
from demos.spans import chapters_from
from demos.verbs.common import MODEL_HELP, add_book, at_least_one, open_services, print_json, say, text_argument

if TYPE_CHECKING:
    from core.llm.events import Event, Status, UsageReport

__all__ = ["add_arguments", "run"]

STOPPED = 130
ON_STOP = "（已停止，再运行即从此处继续 / stopped; run it again to go on）"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_book(parser)
    parser.add_argument(
        "--chapters", metavar="A-B", type=_span, default=(None, None), help="only these: 3-10, 3-, -10, 7"
    )
    parser.add_argument("--until", metavar="N", type=at_least_one, help="the bookmark: nothing later is read")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--recap", action="store_true", help="the story so far, for somebody who reads on")
    kind.add_argument("--person", metavar="NAME", type=text_argument, help="what happens to one person")
    parser.add_argument("--model", metavar="SPEC", type=text_argument, help=f"who writes: {MODEL_HELP}")


def run(args: argparse.Namespace) -> int:
    """Summarise a book or a part of it."""
    from core.chains.summary import SummaryRequest

    services = open_services(args)
    first, last = args.chapters
    request = SummaryRequest(
        book_id=services.library.find(args.book),
        mode="recap" if args.recap else "person" if args.person else "book",
        first=first,
        last=last,
        until_chapter=args.until,
        person=args.person,
    )
    summary = _Summary(is_shown=not args.json)
    summary.follow(services.summariser().stream(request))
    if args.json:
        print_json(summary.to_dict())
    return STOPPED if summary.is_stopped else 0


class _Summary:
    """Collects a summary from its events, and shows it while it grows.

    Chapters may be written side by side; they are shown one after another, in the order in which they were begun.
    """

    def __init__(self, *, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._waiting: list[int] = []
        self._titles: dict[int, str] = {}
        self._pieces: dict[int, str] = {}
        self._ready: dict[int, str] = {}
        self._text = ""
        self._is_whole_due = False
        self._usage: UsageReport | None = None
        self.is_stopped = False

    def follow(self, events: Generator[Event, None, None]) -> None:
        """Read the stream to its end; Ctrl-C closes it, which stops the model, and keeps what was written.

        Raises:
            NovelscopeError: the stream ended in an error.
        """
        try:
            with closing(events):
                for event in events:
                    self._hear(event)
        except KeyboardInterrupt:
            self.is_stopped = True
        finally:
            self._show(
                "……（已停止，再运行即从此处继续 / stopped; run it again to go on）\n" if self.is_stopped else "\n"
            )

    def to_dict(self) -> dict[str, Any]:
        chapters = [
            {"chapter": number, "title": self._titles[number], "summary": text}
            for number, text in sorted(self._ready.items())
        ]
        usage = self._usage.to_dict() if self._usage else {}
        result = {"summary": self._text, "chapters": chapters, "usage": usage}
        return result | ({"stopped": True} if self.is_stopped else {})

    def _hear(self, event: Event) -> None:
        from core.errors import NovelscopeError
        from core.llm import events

        if isinstance(event, events.Status):
            self._heed(event)
        elif isinstance(event, events.Token) and event.chapter is not None:
            self._grow(event.chapter, event.text)
        elif isinstance(event, events.Token):
            if self._is_whole_due:
                self._show("【全文 / the whole】\n")
                self._is_whole_due = False
            self._text += event.text
            self._show(event.text)
        elif isinstance(event, events.UsageReport):
            self._usage = event
        elif isinstance(event, events.Failed):
            raise NovelscopeError(event.message)
        elif isinstance(event, events.Stopped):
            self.is_stopped = True
        elif isinstance(event, events.Done):
            self._text = event.text

    def _heed(self, status: Status) -> None:
        values: dict[str, Any] = dict(status.values)
        if status.key == "summarising":
            say(f"章 / chapters: {values['chapters']}")
        elif status.key == "chapter_begins":
            number = values["chapter"]
            self._titles[number], self._pieces[number] = values["title"], ""
            self._waiting.append(number)
            if self._waiting == [number]:
                self._show(f"【{values['title']}】\n")
        elif status.key == "chapter_ready":
            self._ready[values["chapter"]] = values["summary"]
            self._finish_chapters()
        elif status.key == "joining":
            say(f"合并梗概 / joining summaries: {values['parts']} → {values['into']}")
        elif status.key in ("writing", "listing"):
            self._is_whole_due = True

    def _grow(self, number: int, piece: str) -> None:
        self._pieces[number] += piece
        if self._waiting[:1] == [number]:
            self._show(piece)

    def _finish_chapters(self) -> None:
        while self._waiting and self._waiting[0] in self._ready:
            number = self._waiting.pop(0)
            summary = self._ready[number]
            if not self._pieces[number]:
                self._show(summary)
            elif self._pieces[number].strip() != summary.strip():
                # A small model's words that nothing of the chapter supports are not kept.
                self._show(f"\n→ {summary}")
            self._show("\n\n")
            if self._waiting:
                self._show(f"【{self._titles[self._waiting[0]]}】\n{self._pieces[self._waiting[0]]}")

    def _show(self, text: str) -> None:
        if self._is_shown:
            print(text, end="", flush=True)


def _span(given: str) -> tuple[int | None, int | None]:
    try:
        return chapters_from(text_argument(given))
    except SettingsError as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from wrong
