"""A model that tells of every call, and small novels: what the tests of summaries share."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator

from core.chains.summary import Summariser, SummaryRequest, SummarySettings
from core.data.text import Chapter, Novel, Span
from core.errors import ModelError, PromptTooLong
from core.llm.backend import Finish
from core.llm.chat_model import NovelChatModel
from core.llm.events import Done, Status
from core.retrieval.book_folder import text_id
from core.retrieval.library import Library, LibrarySettings
from tests.support import HashedEmbedder, make_novel

CHAPTER = re.compile(r"^(?:概括《山中记》|只根据原文.*?在《山中记》)“(第\d+章 .)谷”")
"""How a prompt begins that reads the novel, and of which chapter."""


class Scribe:
    """A backend whose answer depends on the prompt alone, and that serves several requests at once.

    Attributes:
        prompts: every prompt as text, in order of arrival.
        opened, ended: streams so far.
    """

    facts = None

    def __init__(self, answer=None, *, name="scribe", context_tokens=100_000, is_chat=True, fails_at=None, delay_s=0.0):
        self.name, self.context_tokens, self.is_chat = name, context_tokens, is_chat
        self.prompts: list[str] = []
        self.limits: list[int] = []
        self.opened = self.ended = 0
        self._answer, self._fails_at, self._delay_s = answer or retold, fails_at, delay_s
        self._guard = threading.Lock()

    def count_tokens(self, prompt) -> int:
        return len(prompt) if isinstance(prompt, str) else sum(len(turn.content) for turn in prompt)

    def stream(self, prompt, sampling) -> Iterator[str | Finish]:
        text = prompt if isinstance(prompt, str) else "".join(turn.content for turn in prompt)
        if len(text) >= self.context_tokens:
            raise PromptTooLong(len(text), self.context_tokens)
        with self._guard:
            self.opened += 1
            self.prompts.append(text)
            self.limits.append(sampling.max_new_tokens)
        try:
            answer = self._answer(text)
            said = answer[: sampling.max_new_tokens]
            for start in range(0, len(said), 5):
                time.sleep(self._delay_s)
                yield said[start : start + 5]
                if self._fails_at is not None and self._fails_at in text:
                    raise ModelError("the power failed")
            yield Finish("stop" if said == answer else "length", len(text), len(said))
        finally:
            with self._guard:
                self.ended += 1

    @property
    def chapters_read(self) -> list[str]:
        return [found[1] for found in map(CHAPTER.match, self.prompts) if found]


def retold(text: str) -> str:
    """The end of what was read, so that words which leaked would go on to the last prompt, and the prompt's mark."""
    return f"梗概{hashlib.md5(text.encode('utf-8', 'replace')).hexdigest()[:6]}：{text.strip()[-30:]}"


def library_of(home, *novels: Novel) -> Library:
    library = Library(LibrarySettings(home=home), embedder=HashedEmbedder())
    for novel in novels or [make_novel()]:
        library.add(novel)
    return library


def novel_of(*bodies: str, title="山中记", language="zh", heading="第{}章 山谷") -> Novel:
    text, chapters = "", []
    for number, body in enumerate(bodies, 1):
        start, head = len(text), heading.format(number)
        text += f"{head}\n{body}\n"
        chapters.append(Chapter(number, head, Span(start, len(text))))
    return Novel(text_id(text), title, text, language, tuple(chapters), "utf-8", "made by the test")


def request_for(library, mode="book", **options) -> SummaryRequest:
    if mode == "person":
        options.setdefault("person", "行人")
    return SummaryRequest(book_id=library.find("山中记"), mode=mode, **options)


def summariser(library, backend=None, *, parallel=1, **settings) -> Summariser:
    model = NovelChatModel(backend=backend or Scribe())
    return Summariser(library, model, SummarySettings(**settings), parallel=parallel)


def final(events) -> str:
    assert isinstance(events[-1], Done), events[-1]
    return events[-1].text


def ready(events) -> dict[int, str]:
    values = [dict(event.values) for event in events if isinstance(event, Status) and event.key == "chapter_ready"]
    return {value["chapter"]: value["summary"] for value in values}
