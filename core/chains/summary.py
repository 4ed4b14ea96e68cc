"""Summaries of a novel, streamed: every chapter as it forms, then the whole from the chapters.

    chapters -> pieces that fit the model -> summaries (kept on disk) -> joined as often as needed -> what was asked for

Every text that a model writes is kept under its model and prompt, so a run that was stopped goes on where it was, a
second request is instant, and another question about the same chapters reuses them. Nothing beyond the bookmark is
read. Nothing here knows how tokens are made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Literal

from langchain_core.language_models.chat_models import BaseChatModel

from core.chains.digest import lines_about
from core.chains.kept_texts import KeptTexts
from core.chains.parallel import interleave
from core.chains.soundness import is_sound
from core.chains.summary_prompts import Task
from core.chains.summary_writer import SummarySettings, Writer
from core.data.text import Chapter, Language
from core.errors import SettingsError
from core.llm.events import Done, Event, Status, Token, UsageReport
from core.llm.streams import guarded
from core.retrieval.book_folder import BookFolder
from core.retrieval.library import Library

__all__ = ["Mode", "Summariser", "SummaryRequest", "SummarySettings"]

Mode = Literal["book", "recap", "person"]
_FINAL: dict[Mode, Task] = {"book": "book", "recap": "recap", "person": "person_story"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRequest:
    """What is to be summarised.

    Attributes:
        mode: ``book``: what happens; ``recap``: the story so far, for somebody who reads on; ``person``: one's part.
        first, last: chapters, by number; None for the first and the last of the book.
        until_chapter: the bookmark: nothing later is read, whatever ``last`` says.
        person: a name as the book writes it.
    """

    book_id: str
    mode: Mode = "book"
    first: int | None = None
    last: int | None = None
    until_chapter: int | None = None
    person: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in _FINAL:
            raise SettingsError(f"mode is {self.mode!r}, wanted one of {', '.join(_FINAL)}")
        if (self.mode == "person") != bool(self.person and self.person.strip()):
            raise SettingsError("a person's story needs the person's name, and nothing else takes one")
        if self.first is not None and self.last is not None and self.first > self.last:
            raise SettingsError(
                f"the chapters {self.first} to {self.last} run backwards; give the smaller number first"
            )


@dataclass(slots=True)
class _Job:
    """One chapter to summarise, and what came of it."""

    chapter: Chapter
    text: str
    summary: str = ""


class Summariser:
    """Summarises the books of a library with one chat model.

    Args:
        model: the model, or what loads it; it is loaded once something has to be written.
        parallel: chapters summarised at the same time; more than 1 helps where a server answers several requests.
    """

    def __init__(
        self,
        library: Library,
        model: BaseChatModel | Callable[[], BaseChatModel],
        settings: SummarySettings | None = None,
        *,
        parallel: int = 1,
    ) -> None:
        if parallel < 1:
            raise SettingsError(f"parallel is {parallel}, wanted 1 or more")
        self._library, self._model, self._parallel = library, model, parallel
        self._settings = settings or SummarySettings()

    def stream(self, request: SummaryRequest, *, halt: threading.Event | None = None) -> Generator[Event, None, None]:
        """The summary as typed events, with exactly one terminal event; closing the iterator stops every call.

        ``chapter_begins`` and ``chapter_ready`` tell which chapter, and the latter holds its whole summary; tokens with
        a chapter are pieces of that chapter's, tokens without one of the final text.

        Args:
            halt: set from any thread, it ends the stream; what was written whole is kept on disk.
        """
        return guarded(self._events(request), halt=halt)

    def kept_summaries(self, request: SummaryRequest) -> dict[int, str]:
        """The chapters' summaries that exist already, by the chapter's number; asks no model for a word.

        Raises:
            BookNotFound, SettingsError: as ``stream`` would end.
        """
        book = self._library.open(request.book_id)
        writer = self._writer(book, request)
        found = {job.chapter.number: writer.kept_chapter(job.chapter, job.text) for job in _jobs(book, request)}
        return {number: text for number, text in found.items() if text is not None}

    def _events(self, request: SummaryRequest) -> Generator[Event, None, None]:
        began = time.monotonic()
        book = self._library.open(request.book_id)
        jobs = _jobs(book, request)
        yield Status("summarising", (("chapters", len(jobs)),))
        if not isinstance(self._model, BaseChatModel):
            yield Status("loading")
        writer, where = self._writer(book, request), _where(book, jobs)
        writer.check_room([job.chapter.title for job in jobs], _FINAL[request.mode], where)
        num_ready = 0
        makers = [partial(_chapter_events, writer, job) for job in jobs]
        for _, event in interleave(makers, limit=min(self._parallel, len(makers))):
            if isinstance(event, Status) and event.key == "chapter_ready":
                num_ready += 1
                event = Status(event.key, (*event.values, ("done", num_ready), ("of", len(jobs))))
            yield event
        told = [job for job in jobs if job.summary]
        if len(told) == 1:
            text = told[0].summary
            yield Token(text)
        else:
            text = yield from self._whole(writer, told, where, _FINAL[request.mode])
        usage = writer.usage
        yield UsageReport(usage.input_tokens, usage.output_tokens, usage.first_token_s, time.monotonic() - began)
        yield Done(text, found=True, finish_reason=usage.finish_reason)

    def _whole(self, writer: Writer, told: Sequence[_Job], where: str, task: Task) -> Generator[Event, None, str]:
        """Join neighbouring summaries until all of them fit one prompt, then write the final text.

        A base model makes nothing of many summaries, so what does not fit one prompt is listed, and so is what it
        makes too little of.
        """
        if not writer.is_chat:
            return (yield from self._listed(writer, told, where, task))
        parts = [_line(job, writer.language) for job in told]
        level = 0
        # A model that writes more than it may can make a single summary too long, and then only the model can say so.
        while len(parts) > 1 and not writer.fits(task, where, parts):
            level += 1
            groups = writer.groups(parts, task, where)
            yield Status("joining", (("level", level), ("parts", len(parts)), ("into", len(groups))))
            joined: dict[int, str] = {}
            makers = [partial(_join_events, writer, group, where, joined, n) for n, group in enumerate(groups)]
            for _, event in interleave(makers, limit=min(self._parallel, len(makers))):
                yield event
            parts = [joined[number] for number in range(len(groups))]
        yield Status("writing", (("parts", len(parts)),))
        return (yield from writer.write(task, where, "\n".join(parts), is_final=True))

    def _listed(self, writer: Writer, told: Sequence[_Job], where: str, task: Task) -> Generator[Event, None, str]:
        parts = [job.summary for job in told]
        if writer.fits(task, where, parts):
            yield Status("writing", (("parts", len(parts)),))
            # Held back until all of it is there: only then can one tell whether it is worth showing.
            written = yield from _held_back(writer.write(task, where, "\n".join(parts), is_final=True))
            if is_sound(written, "\n".join(parts)):
                yield from _shown_now(writer, written)
                return written
        yield Status("listing", (("parts", len(parts)),))
        listing = "\n".join(_line(job, writer.language) for job in told)
        yield from _shown_now(writer, listing)
        writer.usage.finish_reason = "stop"
        return listing

    def _writer(self, book: BookFolder, request: SummaryRequest) -> Writer:
        model = self._model if isinstance(self._model, BaseChatModel) else self._model()
        person = (request.person or "").strip()
        return Writer(model, book, KeptTexts(book.path), self._settings, person=person)


def _held_back(events: Generator[Event, None, str]) -> Generator[Event, None, str]:
    """The same events, a sign of life in place of each token."""
    with closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                return str(end.value)
            yield Status("thinking") if isinstance(event, Token) else event


def _shown_now(writer: Writer, text: str) -> Generator[Event, None, None]:
    writer.usage.first_token_s = time.monotonic() - writer.usage.began
    yield Token(text)


def _jobs(book: BookFolder, request: SummaryRequest) -> list[_Job]:
    """The chapters to read, each with its text, or with one person's lines of it.

    Raises:
        SettingsError: no chapter is left, or the person does not occur in those that are.
    """
    numbers = [chapter.number for chapter in book.record.chapters]
    last = min(value for value in (request.last, request.until_chapter, numbers[-1]) if value is not None)
    first = numbers[0] if request.first is None else request.first
    chapters = [chapter for chapter in book.record.chapters if first <= chapter.number <= last]
    chapters = [chapter for chapter in chapters if chapter.span.of(book.text).strip()]
    if not chapters:
        fence = "" if request.until_chapter is None else f", and the bookmark stands at {request.until_chapter}"
        raise SettingsError(
            f"there is no chapter from {first} to {last}: the book has {numbers[0]} to {numbers[-1]}{fence}"
        )
    if request.mode != "person":
        return [_Job(chapter, chapter.span.of(book.text)) for chapter in chapters]
    person = (request.person or "").strip()
    found = [_Job(one, lines_about(book.text, one, book.record.language, person)) for one in chapters]
    found = [job for job in found if job.text]
    if not found:
        raise SettingsError(f"{person!r} does not occur in chapters {first} to {last}; write the name as the book does")
    return found


def _chapter_events(writer: Writer, job: _Job) -> Generator[Event, None, None]:
    number, title = job.chapter.number, job.chapter.title
    yield Status("chapter_begins", (("chapter", number), ("title", title)))
    was_kept = writer.kept_chapter(job.chapter, job.text) is not None
    job.summary = yield from writer.chapter(job.chapter, job.text)
    yield Status(
        "chapter_ready",
        (("chapter", number), ("title", title), ("summary", job.summary), ("was_kept", int(was_kept))),
    )


def _join_events(
    writer: Writer, group: Sequence[str], where: str, joined: dict[int, str], number: int
) -> Generator[Event, None, None]:
    if len(group) == 1:
        joined[number] = group[0]
    else:
        joined[number] = yield from writer.write("join", where, "\n".join(group))


def _line(job: _Job, language: Language) -> str:
    return f"{job.chapter.title}{'：' if language == 'zh' else ': '}{job.summary}"


def _where(book: BookFolder, jobs: Sequence[_Job]) -> str:
    """What of the book is summarised, in the book's language."""
    first, last = jobs[0].chapter, jobs[-1].chapter
    if book.record.language == "zh":
        return first.title if first is last else f"“{first.title}”到“{last.title}”"
    return first.title if first is last else f"“{first.title}” to “{last.title}”"
