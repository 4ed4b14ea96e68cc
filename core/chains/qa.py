"""Questions about one book, answered from its passages with verified citations.

    question -> stands on its own -> passages found (evidence) -> can they answer? -> model -> tokens -> citations

The passages are shown before the model says a word. A model is not asked at all when nothing in the book has to do
with the question, and an answer that no sentence of the evidence supports is marked as not found. Nothing here knows
how passages are found or how tokens are made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage

from core.chains.citations import Aligner, Support
from core.chains.focus import focus_passages
from core.chains.followup import standalone_question
from core.chains.prompts import COMPLETION_STOPS, answer_dialogue, answer_prompt, language_of
from core.chains.relevance import is_answerable
from core.data.dialogues import Turn
from core.data.sentences import sentences
from core.data.text import Span
from core.errors import PromptTooLong, SettingsError
from core.llm.events import (
    Citation,
    CitationFound,
    Done,
    Event,
    Evidence,
    Passage,
    Status,
    Token,
    UsageReport,
)
from core.llm.loops import is_looping
from core.llm.streams import guarded
from core.retrieval.book_folder import BookFolder
from core.retrieval.library import Library
from core.retrieval.results import SearchResult

__all__ = ["NOT_FOUND", "Question", "Reader", "ReaderSettings"]

NOT_FOUND = {"zh": "书中没有提到。", "en": "The book does not say."}
UNSUPPORTED = {
    "zh": "（以上是模型的说法，书中找不到支持它的句子。）",
    "en": " (This is what the model says; no sentence of the book supports it.)",
}
NEAREST = {"zh": "\n书中最相关的原文：{quote}", "en": "\nThe nearest words of the book: {quote}"}
# Greedy decoding of a small model falls into loops; a mild penalty, and a stop once a run repeats, end them.
REPETITION_PENALTY = 1.1


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
        max_new_tokens, completion_tokens: the longest answer of a chat model, and of a base model.
        temperature: 0 keeps to the likeliest words, which are the passage's own.
    """

    passages_shown: int = 6
    passages_read: int = 4
    focus_chars: int = 600
    max_new_tokens: int = 512
    completion_tokens: int = 96
    temperature: float = 0.0

    def __post_init__(self) -> None:
        for name in ("passages_shown", "passages_read", "focus_chars", "max_new_tokens", "completion_tokens"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}, wanted 1 or more")


class Reader:
    """Answers questions about the books of a library with one chat model."""

    def __init__(
        self,
        library: Library,
        model: BaseChatModel | Callable[[], BaseChatModel],
        settings: ReaderSettings | None = None,
    ) -> None:
        """Take what answers.

        Args:
            model: the model, or what loads it; it is loaded after the evidence was found, so that evidence never waits.
        """
        self._library = library
        self._model = model
        self._settings = settings or ReaderSettings()

    def stream(self, question: Question, *, halt: threading.Event | None = None) -> Generator[Event, None, None]:
        """The answer as typed events, with exactly one terminal event; closing the iterator stops the model.

        Args:
            halt: set from any thread, it ends the answer with ``Stopped``.
        """
        return guarded(self._events(question), halt=halt)

    def _events(self, question: Question) -> Generator[Event, None, None]:
        if not question.text.strip():
            raise SettingsError("the question is empty; type one")
        yield Status("searching")
        book = self._library.open(question.book_id)
        asked = standalone_question(question.text, question.history, book.text, book.record.language)
        if asked != question.text:
            yield Status("rewritten", (("question", asked),))
        found = self._library.search(
            book.id, asked, top_k=self._settings.passages_shown, until_chapter=question.until_chapter
        )
        passages = _passages(found)
        yield Evidence(passages, found.coverage.dense_done, found.coverage.dense_total)
        language = language_of(question.text)
        slug = self._library.embedder_slug
        if not is_answerable(book, asked, found, embedder=slug, until_chapter=question.until_chapter):
            yield Token(NOT_FOUND[language])
            yield Done(NOT_FOUND[language], found=False, finish_reason="stop")
            return
        yield Status("loading")
        model = self._model if isinstance(self._model, BaseChatModel) else self._model()
        messages, keywords, num_read, dropped = self._prompt(model, book, passages, question, asked)
        yield Status("reading", (("passages", num_read), ("of", len(passages)), ("turns_left_out", dropped)))
        yield from self._answer(model.stream(messages, **keywords), book, passages, asked, language)

    def _answer(
        self,
        stream: Iterator[AIMessageChunk],
        book: BookFolder,
        passages: Sequence[Passage],
        asked: str,
        language: str,
    ) -> Iterator[Event]:
        said: list[str] = []
        citer = _Citer(book, passages, asked, language)
        began, first_token_s, usage, reason = time.monotonic(), 0.0, None, "stop"
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
                if is_looping("".join(said)):
                    break
        answer = "".join(said).rstrip()
        yield from map(CitationFound, citer.citations(answer, is_whole=True))
        is_refusal = not answer or any(answer.startswith(text.rstrip("。.")) for text in NOT_FOUND.values())
        found = bool(citer.num_cited) and not is_refusal
        if not citer.num_cited:
            note, nearest = self._amends(citer, answer, is_refusal, language)
            if note:
                yield Token(note)
            if nearest is not None:
                yield CitationFound(nearest)
                found = not is_refusal
            answer += note
        if usage is not None:
            elapsed_s = time.monotonic() - began
            yield UsageReport(usage["input_tokens"], usage["output_tokens"], first_token_s, elapsed_s)
        yield Done(answer, found=found, finish_reason=reason)

    def _amends(self, citer: _Citer, answer: str, is_refusal: bool, language: str) -> tuple[str, Citation | None]:
        """What to add to an answer that nothing supports, and the quotation that the addition holds."""
        if is_refusal:
            return ("" if answer else NOT_FOUND[language]), None
        note = UNSUPPORTED[language]
        head = NEAREST[language].format(quote="")
        nearest = citer.nearest(len(answer) + len(note) + len(head))
        return (note if nearest is None else f"{note}{head}{nearest.quote}"), nearest

    def _prompt(
        self,
        model: BaseChatModel,
        book: BookFolder,
        passages: Sequence[Passage],
        question: Question,
        asked: str,
    ) -> tuple[list[BaseMessage], dict[str, Any], int, int]:
        """Messages, keywords of the call, passages read, and turns left out, so that all fits the model's context."""
        settings = self._settings
        room = getattr(model, "context_tokens", None)
        keywords: dict[str, Any] = {"temperature": settings.temperature, "max_tokens": settings.max_new_tokens}
        if not getattr(model, "is_chat", True):
            focused = focus_passages(book, passages[: settings.passages_read], asked, settings.focus_chars)
            prompt = answer_prompt(focused, asked)
            _require_room(model.get_num_tokens(prompt), settings.completion_tokens, room)
            keywords |= {"raw": True, "stop": list(COMPLETION_STOPS), "repetition_penalty": REPETITION_PENALTY}
            keywords["max_tokens"] = settings.completion_tokens
            return [HumanMessage(prompt)], keywords, len({passage.number for passage in focused}), 0
        history = list(question.history)
        num_read = min(settings.passages_read, len(passages))
        while True:
            turns = answer_dialogue(book.record.title, passages[:num_read], question.text, history)
            messages = _messages(turns)
            needed = model.get_num_tokens_from_messages(messages) if room else 0
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
        self._passages = {passage.number: passage for passage in passages}
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
            if support is not None:
                yield self._citation(support, span)

    def nearest(self, answer_start: int) -> Citation | None:
        """The sentence nearest to the question, as a citation of its own quotation at ``answer_start``."""
        support = self._aligner.nearest()
        if support is None:
            return None
        return self._citation(support, Span(answer_start, answer_start + len(support.span)))

    def _citation(self, support: Support, answer_span: Span) -> Citation:
        passage = self._passages[support.passage]
        return Citation(
            number=self._numbers.setdefault(support.span, len(self._numbers) + 1),
            book_id=self._book.id,
            chapter=passage.chapter,
            chapter_title=passage.chapter_title,
            span=support.span,
            quote=support.span.of(self._book.text),
            passage=support.passage,
            answer_span=answer_span,
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
