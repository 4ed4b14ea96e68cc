"""Questions about one book, answered from its passages with verified citations.

    question -> stands on its own -> passages found (evidence) -> can they answer? -> model -> tokens -> citations

The passages are shown before the model says a word. A model is not asked at all when nothing in the book has to do
with the question, and an answer that no sentence of the evidence supports is marked as not found. Nothing here knows
how passages are found or how tokens are made.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from core.chains.citations import Aligner
from core.chains.events import (
    Citation,
    CitationFound,
    Done,
    Event,
    Evidence,
    Failed,
    Passage,
    Status,
    Stopped,
    Token,
    UsageReport,
)
from core.chains.focus import focus_passages
from core.chains.followup import standalone_question
from core.chains.prompts import COMPLETION_STOPS, answer_dialogue, answer_prompt, language_of
from core.chains.relevance import is_answerable
from core.data.dialogues import Turn
from core.data.sentences import sentences
from core.data.text import Span
from core.errors import NovelscopeError, PromptTooLong, SettingsError
from core.retrieval.book_folder import BookFolder
from core.retrieval.library import Library
from core.retrieval.results import SearchResult

__all__ = ["NOT_FOUND", "Answer", "Question", "Reader", "ReaderSettings", "collect"]

NOT_FOUND = {"zh": "书中没有提到。", "en": "The book does not say."}
UNSUPPORTED = {
    "zh": "（以上是模型的说法，书中找不到支持它的句子。）",
    "en": " (This is what the model says; no sentence of the book supports it.)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a reader asks.

    Attributes:
        until_chapter: number of the last chapter that may be read; None for the whole book.
        history: the conversation so far, oldest first.
    """

    book_id: str
    text: str
    until_chapter: int | None = None
    history: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSettings:
    """How an answer is made.

    Attributes:
        passages_shown: passages found and shown as evidence.
        passages_read: at most so many of them are read by a chat model.
        focus_chars: a base model reads only so many characters of them, the most telling sentences.
        temperature: 0 keeps to the likeliest words, which are the passage's own.
    """

    passages_shown: int = 6
    passages_read: int = 4
    focus_chars: int = 600
    max_new_tokens: int = 256
    temperature: float = 0.0

    def __post_init__(self) -> None:
        for name in ("passages_shown", "passages_read", "focus_chars", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}, wanted 1 or more")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, collected from its events.

    Attributes:
        found: whether the book supports it.
        is_stopped: whether the reader ended it; ``text`` is then the part that was written.
    """

    text: str
    citations: tuple[Citation, ...]
    passages: tuple[Passage, ...]
    found: bool
    is_stopped: bool
    usage: UsageReport | None


def collect(events: Iterator[Event]) -> Answer:
    """The answer that a stream of events adds up to.

    Raises:
        NovelscopeError: the stream ended in an error.
    """
    citations: list[Citation] = []
    passages: tuple[Passage, ...] = ()
    usage: UsageReport | None = None
    for event in events:
        if isinstance(event, CitationFound):
            citations.append(event.citation)
        elif isinstance(event, Evidence):
            passages = event.passages
        elif isinstance(event, UsageReport):
            usage = event
        elif isinstance(event, Failed):
            raise NovelscopeError(event.message)
        elif isinstance(event, (Done, Stopped)):
            found = event.found if isinstance(event, Done) else bool(citations)
            return Answer(event.text, tuple(citations), passages, found, isinstance(event, Stopped), usage)
    raise NovelscopeError("the stream of events ended without done, error or stopped")


class Reader:
    """Answers questions about the books of a library with one chat model."""

    def __init__(self, library: Library, model: BaseChatModel, settings: ReaderSettings | None = None) -> None:
        self._library, self._model = library, model
        self._settings = settings or ReaderSettings()

    def stream(self, question: Question) -> Iterator[Event]:
        """The answer as typed events, with exactly one terminal event; closing the iterator stops the model."""
        said: list[str] = []
        try:
            yield from self._events(question, said)
        except NovelscopeError as wrong:
            yield Failed(str(wrong), "".join(said))

    def _events(self, question: Question, said: list[str]) -> Iterator[Event]:
        if not question.text.strip():
            raise SettingsError("the question is empty; type one")
        book = self._library.open(question.book_id)
        asked = standalone_question(question.text, question.history, book.text, book.record.language)
        if asked != question.text:
            yield Status("rewritten", (("question", asked),))
        yield Status("searching")
        found = self._library.search(
            book.id, asked, top_k=self._settings.passages_shown, until_chapter=question.until_chapter
        )
        passages = _passages(found)
        yield Evidence(passages, found.coverage.dense_done, found.coverage.dense_total)
        language = language_of(question.text)
        if not is_answerable(book, asked, found, until_chapter=question.until_chapter):
            said.append(NOT_FOUND[language])
            yield Token(NOT_FOUND[language])
            yield Done(NOT_FOUND[language], found=False, finish_reason="stop")
            return
        messages, keywords, num_read, dropped = self._prompt(book, passages, question, asked)
        yield Status("reading", (("passages", num_read), ("of", len(passages)), ("turns_left_out", dropped)))
        yield from self._answer(book, passages, asked, language, messages, keywords, said)

    def _answer(
        self,
        book: BookFolder,
        passages: Sequence[Passage],
        asked: str,
        language: str,
        messages: list[BaseMessage],
        keywords: dict[str, Any],
        said: list[str],
    ) -> Iterator[Event]:
        citer = _Citer(book, passages, asked, language)
        began, first_token_s, usage, reason = time.monotonic(), 0.0, None, "stop"
        stream = self._model.stream(messages, **keywords)
        with closing(stream):  # type: ignore[type-var]  # declared as an iterator, made as a generator
            for chunk in stream:
                reason = chunk.response_metadata.get("finish_reason") or reason
                usage = chunk.usage_metadata or usage
                text = chunk.text if said else chunk.text.lstrip()
                if not text:
                    # The model is alive; whoever reads the events may close them here.
                    yield Status("thinking")
                    continue
                if not said:
                    first_token_s = time.monotonic() - began
                said.append(text)
                yield Token(text)
                yield from map(CitationFound, citer.citations("".join(said), is_whole=False))
        answer = "".join(said).rstrip()
        yield from map(CitationFound, citer.citations(answer, is_whole=True))
        is_refusal = not answer or any(answer.startswith(text.rstrip("。.")) for text in NOT_FOUND.values())
        if not citer.num_cited:
            note = NOT_FOUND[language] if not answer else "" if is_refusal else UNSUPPORTED[language]
            if note:
                yield Token(note)
            answer += note
        if usage is not None:
            elapsed_s = time.monotonic() - began
            yield UsageReport(usage["input_tokens"], usage["output_tokens"], first_token_s, elapsed_s)
        yield Done(answer, found=bool(citer.num_cited) and not is_refusal, finish_reason=reason)

    def _prompt(
        self, book: BookFolder, passages: Sequence[Passage], question: Question, asked: str
    ) -> tuple[list[BaseMessage], dict[str, Any], int, int]:
        """Messages, keywords of the call, passages read, and turns left out, so that all fits the model's context."""
        settings = self._settings
        room = getattr(self._model, "context_tokens", None)
        keywords: dict[str, Any] = {"temperature": settings.temperature, "max_tokens": settings.max_new_tokens}
        if not getattr(self._model, "is_chat", True):
            focused = focus_passages(book, passages[: settings.passages_read], asked, settings.focus_chars)
            prompt = answer_prompt(focused, asked)
            _require_room(self._model.get_num_tokens(prompt), settings.max_new_tokens, room)
            keywords |= {"raw": True, "stop": list(COMPLETION_STOPS)}
            return [HumanMessage(prompt)], keywords, len({passage.number for passage in focused}), 0
        history = list(question.history)
        num_read = min(settings.passages_read, len(passages))
        while True:
            turns = answer_dialogue(book.record.title, passages[:num_read], question.text, history)
            messages = _messages(turns)
            needed = self._model.get_num_tokens_from_messages(messages) if room else 0
            if room is None or needed + settings.max_new_tokens <= room:
                return messages, keywords, num_read, len(question.history) - len(history)
            # What was said longest ago matters least; then the passages that were found last.
            if history:
                history = history[2:]
            elif num_read > 1:
                num_read -= 1
            else:
                raise PromptTooLong(needed + settings.max_new_tokens, room)


class _Citer:
    """Cites each sentence of a growing answer once, as soon as it is complete."""

    def __init__(self, book: BookFolder, passages: Sequence[Passage], asked: str, language: str) -> None:
        self._book, self._language = book, language
        self._chapters = {passage.number: passage for passage in passages}
        self._aligner = Aligner(book.text, passages, asked, book.record.language)
        self._done_until = 0
        self._numbers: dict[Span, int] = {}

    @property
    def num_cited(self) -> int:
        return len(self._numbers)

    def citations(self, answer: str, *, is_whole: bool) -> Iterator[Citation]:
        spans = list(sentences(answer, self._done_until, len(answer), self._language))
        for span in spans if is_whole else spans[:-1]:
            self._done_until = span.end
            support = self._aligner.support(span.of(answer))
            if support is None:
                continue
            number = self._numbers.setdefault(support.span, len(self._numbers) + 1)
            passage = self._chapters[support.passage]
            yield Citation(
                number=number,
                book_id=self._book.id,
                chapter=passage.chapter,
                chapter_title=passage.chapter_title,
                span=support.span,
                quote=support.span.of(self._book.text),
                passage=support.passage,
                answer_span=span,
            )


def _passages(found: SearchResult) -> tuple[Passage, ...]:
    return tuple(
        Passage(number, chunk.chapter, chunk.chapter_title, chunk.span, chunk.text, chunk.score)
        for number, chunk in enumerate(found.passages, 1)
    )


def _messages(turns: Sequence[Turn]) -> list[BaseMessage]:
    kinds = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
    return [kinds[turn.role](turn.content) for turn in turns]


def _require_room(prompt_tokens: int, answer_tokens: int, room: int | None) -> None:
    if room is not None and prompt_tokens + answer_tokens > room:
        raise PromptTooLong(prompt_tokens + answer_tokens, room)
