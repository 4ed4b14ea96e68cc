"""``novelscope ask``: an answer as it is written, then the sentences of the book that it rests on."""

from __future__ import annotations

import argparse
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from demos.verbs.common import MODEL_HELP, add_question, one_line, open_services, print_json, say, text_argument
from demos.verbs.search import say_coverage

if TYPE_CHECKING:
    from core.llm.events import Citation, Event, Evidence, UsageReport

__all__ = ["add_arguments", "run"]

NOT_IN_THE_BOOK, STOPPED = 3, 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_question(parser)
    parser.add_argument("--model", metavar="SPEC", type=text_argument, help=f"who answers: {MODEL_HELP}")


def run(args: argparse.Namespace) -> int:
    """Ask one question; 3 when nothing in the book supports an answer."""
    from core.chains.qa import Question

    services = open_services(args)
    book_id = services.library.find(args.book)
    question = Question(book_id=book_id, text=args.question, until_chapter=args.until)
    answer = _Answer(is_shown=not args.json)
    answer.follow(services.reader().stream(question))
    if args.json:
        print_json(answer.to_dict())
    else:
        answer.print_citations()
    if answer.is_stopped:
        return STOPPED
    return 0 if answer.found else NOT_IN_THE_BOOK


class _Answer:
    """Collects an answer from its events, and shows it while it grows."""

    def __init__(self, *, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._pieces: list[str] = []
        self._citations: dict[int, Citation] = {}
        self._usage: UsageReport | None = None
        self.found = self.is_stopped = False

    def follow(self, events: Iterator[Event]) -> None:
        """Read the stream to its end; Ctrl-C closes it, which stops the model, and keeps what was written.

        Raises:
            NovelscopeError: the stream ended in an error.
        """
        try:
            for event in events:
                self._hear(event)
        except KeyboardInterrupt:
            self.is_stopped = True
            self.found = bool(self._citations)
        finally:
            if isinstance(events, Generator):
                events.close()
            if self._is_shown and self._pieces:
                print("……（已停止 / stopped）" if self.is_stopped else "", flush=True)

    def _hear(self, event: Event) -> None:
        from core.errors import NovelscopeError
        from core.llm import events

        if isinstance(event, events.Evidence):
            _say_evidence(event)
        elif isinstance(event, events.Token):
            self._pieces.append(event.text)
            if self._is_shown:
                print(event.text, end="", flush=True)
        elif isinstance(event, events.CitationFound):
            self._citations.setdefault(event.citation.number, event.citation)
        elif isinstance(event, events.UsageReport):
            self._usage = event
        elif isinstance(event, events.Failed):
            raise NovelscopeError(event.message)
        elif isinstance(event, events.Stopped):
            self.is_stopped, self.found = True, bool(self._citations)
        elif isinstance(event, events.Done):
            self._pieces, self.found = [event.text], event.found

    def print_citations(self) -> None:
        for number, citation in sorted(self._citations.items()):
            print(f"[{number}] {citation.chapter_title}：“{one_line(citation.quote)}”")

    def to_dict(self) -> dict[str, Any]:
        citations = [
            {"chapter": one.chapter, "start": one.span.start, "end": one.span.end, "quote": one.quote}
            for _, one in sorted(self._citations.items())
        ]
        result = {
            "answer": "".join(self._pieces),
            "citations": citations,
            "found": self.found,
            "usage": self._usage.to_dict() if self._usage else {},
        }
        return result | ({"stopped": True} if self.is_stopped else {})


def _say_evidence(evidence: Evidence) -> None:
    from core.retrieval.results import Coverage

    say_coverage(Coverage(evidence.dense_done, evidence.dense_total))
    titles = dict.fromkeys(passage.chapter_title for passage in evidence.passages)
    say(f"证据 / evidence: {len(evidence.passages)} 段 — {'；'.join(titles) or '无 / none'}")
