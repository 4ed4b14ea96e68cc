"""A backend that says what it is told, for tests and for work on pages without a model.

It counts the pieces it really made, so that a test can prove that closing a stream stopped it. One character is one
token. Nothing here imports torch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from core.errors import ModelError, PromptTooLong
from core.llm.backend import Finish, Prompt, SamplingSettings, one_at_a_time
from core.llm.stops import StopCutter

__all__ = ["ScriptedBackend"]


class ScriptedBackend:
    """Answers from a list, in order, or from a function of the prompt.

    Attributes:
        calls: every prompt and its settings, in order of arrival at the model.
        pieces_made: pieces made so far over all calls, whether or not anybody read them.
        streams_ended: streams that ran to the end or were closed.
    """

    facts = None

    def __init__(
        self,
        answers: str | Sequence[str] | Callable[[Prompt], str],
        *,
        name: str = "scripted",
        context_tokens: int = 1_000_000,
        is_chat: bool = True,
        piece_chars: int = 1,
        delay_s: float = 0.0,
        fails_after: int | None = None,
        serves_many: bool = False,
    ) -> None:
        """Set the answers.

        Args:
            answers: one answer to every prompt, answers to be given in order, or what makes them.
            delay_s: pause before each piece.
            fails_after: raise ``ModelError`` when so many pieces of one answer have been sent.
            serves_many: answer several prompts at the same time, as a server does, and remember none; else one after
                another.
        """
        self.name, self.context_tokens, self.is_chat = name, context_tokens, is_chat
        self.calls: list[tuple[Prompt, SamplingSettings]] = []
        self.pieces_made = 0
        self.streams_ended = 0
        self._answers = answers
        self._piece_chars, self._delay_s, self._fails_after = piece_chars, delay_s, fails_after
        self._lock = None if serves_many else threading.Lock()

    def count_tokens(self, prompt: Prompt) -> int:
        return len(prompt) if isinstance(prompt, str) else sum(len(turn.content) for turn in prompt)

    def stream(self, prompt: Prompt, sampling: SamplingSettings) -> Iterator[str | Finish]:
        if (prompt_tokens := self.count_tokens(prompt)) >= self.context_tokens:
            raise PromptTooLong(prompt_tokens, self.context_tokens)
        if self._lock is None:
            yield from self._speak(prompt, sampling)
        else:
            yield from one_at_a_time(self._lock, lambda: self._speak(prompt, sampling))

    def _speak(self, prompt: Prompt, sampling: SamplingSettings) -> Iterator[str | Finish]:
        answer = self._answer(prompt)
        if self._lock is not None:
            self.calls.append((prompt, sampling))
        cutter, said_tokens = StopCutter(sampling.stop), 0
        try:
            for number, start in enumerate(range(0, len(answer), self._piece_chars)):
                if self._fails_after is not None and number >= self._fails_after:
                    raise ModelError(f"the script broke off after {number} pieces, as told")
                time.sleep(self._delay_s)
                piece = answer[start : start + min(self._piece_chars, sampling.max_new_tokens - said_tokens)]
                self.pieces_made += 1
                said_tokens += len(piece)
                if text := cutter.feed(piece):
                    yield text
                if cutter.is_cut or said_tokens >= sampling.max_new_tokens:
                    break
            if text := cutter.flush():
                yield text
            is_whole = cutter.is_cut or said_tokens == len(answer)
            yield Finish("stop" if is_whole else "length", self.count_tokens(prompt), said_tokens)
        finally:
            self.streams_ended += 1

    def _answer(self, prompt: Prompt) -> str:
        if isinstance(self._answers, str):
            return self._answers
        if callable(self._answers):
            return self._answers(prompt)
        if len(self.calls) >= len(self._answers):
            raise ModelError(f"the script has {len(self._answers)} answers and was asked once more")
        return self._answers[len(self.calls)]
