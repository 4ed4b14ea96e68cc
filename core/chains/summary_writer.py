"""One model writing summaries about one book: prompts that fit it, texts that are kept, tokens that are counted.

A chat model reads everything, in pieces of its context; a base model reads a few telling sentences of a chapter, and
where it makes nothing of them they stand for themselves. Nothing here decides which chapters are read.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage

from core.chains.digest import pieces_of, telling_sentences
from core.chains.kept_texts import KeptTexts, key_of
from core.chains.soundness import is_sound
from core.chains.summary_prompts import COMPLETION_STOPS, Task, completion, dialogue
from core.data.sentences import sentences
from core.data.text import Chapter, Span
from core.errors import ModelError, PromptTooLong, SettingsError
from core.llm.events import Event, Status, Token
from core.retrieval.book_folder import BookFolder

__all__ = ["SummarySettings", "Usage", "Writer"]

UNKNOWN_CONTEXT = 8192
CHARS_PER_TOKEN = {"zh": 1.0, "en": 3.0}
"""Characters that one token holds at least, as a rule: what is reckoned with where a model cannot count."""
LEAST_ROOM = 64
"""Tokens of text that are worth a prompt; as many are left free for what a chat format adds."""
SHORT_CHARS, EXTRACT_CHARS = 40, 80
HALVES = re.compile("[\ud800-\udfff]")
"""What servers make of a character that they send in two pieces; no file and no page can hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarySettings:
    """How much is read and written at a time.

    Attributes:
        piece_tokens: of the novel that a chat model reads at once, at most, 64 or more; its context may allow less.
        summary_tokens: of a chapter's summary, and of joined ones.
        final_tokens: of the final text.
        digest_chars: that a base model reads of a chapter, and of summaries at once.
        completion_tokens: that a base model writes.
        repetition_penalty: for a base model, which otherwise repeats itself.
    """

    piece_tokens: int = 6000
    summary_tokens: int = 256
    final_tokens: int = 1024
    digest_chars: int = 480
    completion_tokens: int = 80
    repetition_penalty: float = 1.2

    def __post_init__(self) -> None:
        for name in ("piece_tokens", "summary_tokens", "final_tokens", "digest_chars", "completion_tokens"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}, wanted 1 or more")
        if self.piece_tokens < LEAST_ROOM:
            raise SettingsError(f"piece_tokens is {self.piece_tokens}, wanted {LEAST_ROOM} or more")


@dataclass(slots=True)
class Usage:
    """What all calls of one summary took together."""

    input_tokens: int = 0
    output_tokens: int = 0
    first_token_s: float = 0.0
    finish_reason: str = "stop"
    began: float = field(default_factory=time.monotonic)
    guard: threading.Lock = field(default_factory=threading.Lock)


class Writer:
    """Writes and keeps summaries about one book.

    Attributes:
        is_chat: whether the model was trained to answer; otherwise it completes.
        language: of the book.
        usage: of all calls so far; kept texts cost nothing.
    """

    def __init__(
        self, model: BaseChatModel, book: BookFolder, kept: KeptTexts, settings: SummarySettings, *, person: str = ""
    ) -> None:
        self._model, self._book, self._kept, self._person = model, book, kept, person
        self.is_chat: bool = getattr(model, "is_chat", True)
        self._room: int = getattr(model, "context_tokens", None) or UNKNOWN_CONTEXT
        # Answers leave most of a small context to what is read, so that two summaries always fit one prompt.
        self._settings = replace(
            settings,
            summary_tokens=max(1, min(settings.summary_tokens, self._room // 8)),
            final_tokens=max(1, min(settings.final_tokens, self._room // 4)),
        )
        self.language = book.record.language
        self.usage = Usage()

    def check_room(self, titles: Sequence[str], task: Task, where: str) -> None:
        """See that the context holds every prompt that chapters of these titles and the final text may need.

        Raises:
            PromptTooLong: it does not; better now than when a hundred chapters have been read.
        """
        if not self.is_chat:
            return
        pair = 2 * (self._settings.summary_tokens + max(self._cost(title) for title in titles) + 2)
        wanted = [(self._task, title, LEAST_ROOM) for title in titles]
        wanted += [("join", "", pair), (task, where, pair)] if len(titles) > 1 else []
        for kind, part, least in wanted:
            if (room := self._room_for(kind, part)) < least:
                raise PromptTooLong(self._room - room + least, self._room)

    def kept_chapter(self, chapter: Chapter, text: str) -> str | None:
        """The chapter's summary, if it was written before."""
        title, pieces = chapter.title, self._pieces(chapter, text)
        if len(pieces) == 1 and (short := self._short(pieces[0])):
            return short
        found = [self._kept.get(self._key(self._task, title, piece)) for piece in pieces]
        while None not in found:
            parts = [one for one in found if one is not None]
            if len(parts) == 1:
                return parts[0]
            found = [
                group[0] if len(group) == 1 else self._kept.get(self._key("join", title, "\n".join(group)))
                for group in self.groups(parts)
            ]
        return None

    def chapter(self, chapter: Chapter, text: str) -> Generator[Event, None, str]:
        """Write the chapter's summary; tokens carry the chapter's number."""
        title, pieces = chapter.title, self._pieces(chapter, text)
        number = chapter.number
        if len(pieces) == 1:
            return self._short(pieces[0]) or (yield from self.write(self._task, title, pieces[0], chapter=number))
        parts = []
        for count, piece in enumerate(pieces, 1):
            yield Status("piece", (("chapter", number), ("piece", count), ("of", len(pieces))))
            parts.append((yield from self.write(self._task, title, piece)))
        while len(parts) > 1:
            groups = self.groups(parts)
            shown = number if len(groups) == 1 else None
            parts = []
            for group in groups:
                is_alone = len(group) == 1
                parts.append(
                    group[0] if is_alone else (yield from self.write("join", title, "\n".join(group), chapter=shown))
                )
        return parts[0]

    def write(
        self, task: Task, part: str, text: str, *, chapter: int | None = None, is_final: bool = False
    ) -> Generator[Event, None, str]:
        """Write one text, or take it from what is kept; whole texts are kept.

        Only tokens of a chapter's summary and of the final text are shown; the rest are signs of life. Joined, the
        tokens of the final text are the text: without the space around it, and without halves of characters.

        Raises:
            ModelError: a chat model says nothing of what was summarised before; of the novel, the novel speaks itself.
        """
        is_shown = is_final or chapter is not None
        key = self._key(task, part, text, is_final=is_final)
        if (kept := self._kept.get(key)) is not None:
            if is_final:
                self.usage.finish_reason = self._kept.get(f"{key} ended") or "stop"
            if is_shown and kept:
                yield Token(kept, chapter)
            return kept
        messages, keywords = self._call(task, part, text, is_final=is_final)
        said: list[str] = []
        held, reason = "", "stop"
        chunks = self._model.stream(messages, **keywords)
        with closing(chunks):  # type: ignore[type-var]  # declared as an iterator, made as a generator
            for chunk in chunks:
                reason = chunk.response_metadata.get("finish_reason") or reason
                with self.usage.guard:
                    if chunk.usage_metadata is not None:
                        self.usage.input_tokens += chunk.usage_metadata["input_tokens"]
                        self.usage.output_tokens += chunk.usage_metadata["output_tokens"]
                    if is_final and chunk.text and not said:
                        self.usage.first_token_s = time.monotonic() - self.usage.began
                held += HALVES.sub("\ufffd", chunk.text)
                # Space is held back until something follows it.
                piece = held.rstrip() if said else held.strip()
                if piece:
                    said.append(piece)
                    held = held[held.index(piece) + len(piece) :]
                yield Token(piece, chapter) if piece and is_shown else Status("thinking")
        written = "".join(said)
        if self.is_chat and not written and (is_final or task == "join"):
            raise ModelError("the model wrote nothing; ask again, or choose another model")
        if is_final:
            self.usage.finish_reason = reason
            if reason != "stop":
                self._kept.put(f"{key} ended", reason)
        else:
            written = self._whole_sentences(written, reason)
            if not written or not (self.is_chat or is_sound(written, text)):
                written = _cut_at_sentence(text, EXTRACT_CHARS * self._width, self.language)
        self._kept.put(key, written)
        return written

    def fits(self, task: Task, part: str, texts: Sequence[str]) -> bool:
        """Whether one prompt holds all these summaries."""
        joined = "\n".join(texts)
        if not self.is_chat:
            return len(joined) <= self._settings.digest_chars * self._width
        return self._cost(joined) <= self._limit(task, part)

    def groups(self, texts: Sequence[str], task: Task = "join", part: str = "") -> list[list[str]]:
        """Neighbouring summaries in groups that fit a prompt of that kind, and one that joins them.

        Of two texts or more there are always fewer groups than texts, so joining ends.
        """
        groups: list[list[str]] = [[]]
        for text in texts:
            longer = [*groups[-1], text]
            # Two always go together, whatever settings and models that write more than they may have made of them.
            if len(longer) > 2 and not (self.fits(task, part, longer) and self.fits("join", "", longer)):
                groups.append([])
            groups[-1].append(text)
        return groups

    @property
    def _task(self) -> Task:
        return "person" if self._person else "chapter"

    @property
    def _width(self) -> int:
        return 1 if self.language == "zh" else 3

    def _pieces(self, chapter: Chapter, text: str) -> list[str]:
        if self.is_chat:
            limit = self._limit(self._task, chapter.title)
            return pieces_of(text, Span(0, len(text)), self.language, self._cost, limit) or [text]
        max_chars = self._settings.digest_chars * self._width
        if self._person:
            return [_cut_at_sentence(text, max_chars, self.language)]
        return [telling_sentences(self._book.text, chapter, self.language, max_chars) or text[:max_chars]]

    def _short(self, piece: str) -> str:
        """What is a summary already: a chapter of a line or two."""
        return "" if self._person or len(piece.strip()) > SHORT_CHARS * self._width else piece.strip()

    def _limit(self, task: Task, part: str) -> int:
        """Tokens of text that a prompt of this kind may hold.

        Raises:
            PromptTooLong: the model's context holds hardly more than the answer.
        """
        room = self._room_for(task, part)
        if room < LEAST_ROOM:
            raise PromptTooLong(self._room - room + LEAST_ROOM, self._room)
        return min(self._settings.piece_tokens, room)

    def _room_for(self, task: Task, part: str) -> int:
        """Tokens that the context has left for text, in a prompt of this kind; less than none if it is too small."""
        is_final = task not in ("chapter", "person", "join")
        answer = self._settings.final_tokens if is_final else self._settings.summary_tokens
        empty = self._cost("".join(turn.content for turn in self._turns(task, part, "")))
        return self._room - answer - empty - LEAST_ROOM

    def _cost(self, text: str) -> int:
        if hasattr(self._model, "count_tokens"):
            return int(self._model.count_tokens(text))
        return int(len(text) / CHARS_PER_TOKEN[self.language if self.language in CHARS_PER_TOKEN else "zh"]) + 1

    def _turns(self, task: Task, part: str, text: str) -> Any:
        return dialogue(task, self.language, title=self._book.record.title, part=part, text=text, person=self._person)

    def _call(self, task: Task, part: str, text: str, *, is_final: bool) -> tuple[list[BaseMessage], dict[str, Any]]:
        settings = self._settings
        if self.is_chat:
            max_tokens = settings.final_tokens if is_final else settings.summary_tokens
            asked = [HumanMessage(turn.content) for turn in self._turns(task, part, text)]
            return list(asked), {"temperature": 0.0, "max_tokens": max_tokens}
        prompt = completion(task, self.language, part=part, text=text)
        return [HumanMessage(prompt)], {
            "raw": True,
            "temperature": 0.0,
            "max_tokens": settings.completion_tokens * (2 if is_final else 1),
            "stop": list(COMPLETION_STOPS),
            "repetition_penalty": settings.repetition_penalty,
        }

    def _key(self, task: Task, part: str, text: str, *, is_final: bool = False) -> str:
        messages, keywords = self._call(task, part, text, is_final=is_final)
        return key_of(_name_of(self._model), messages[0].content, sorted(keywords.items()))

    def _whole_sentences(self, text: str, reason: str) -> str:
        """Without the last sentence, if the model was cut off in the middle of it."""
        spans = list(sentences(text, 0, len(text), self.language))
        return text[: spans[-2].end] if reason == "length" and len(spans) > 1 else text


def _name_of(model: BaseChatModel) -> str:
    """What tells this model's texts from another's."""
    backend = getattr(model, "backend", None)
    if backend is not None:
        bits = backend.facts.bits if backend.facts else ""
        return f"{backend.name} {bits}".strip()
    return str(getattr(model, "model_name", None) or getattr(model, "model", None) or model._llm_type)


def _cut_at_sentence(text: str, max_chars: int, language: str) -> str:
    """The first sentences of at most so many characters together, one at least."""
    end = 0
    for span in sentences(text, 0, len(text), language):
        if end and span.end > max_chars:
            break
        end = span.end
    return text[: min(end, max(max_chars, 1))]
