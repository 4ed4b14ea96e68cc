"""The one LangChain chat model of novelscope: messages in, chunks out, over any ``TokenBackend``.

Closing the stream, cancelling the task or leaving the loop closes the backend's stream, which stops the model within
one token. Nothing here knows how tokens are made, how a model is found, or what a prompt format is.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from dataclasses import asdict, fields, replace
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel, generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field, SkipValidation

from core.errors import SettingsError
from core.llm.backend import Finish, Prompt, SamplingSettings, TokenBackend
from core.llm.messages import to_turns

__all__ = ["NovelChatModel"]

OTHER_NAMES = {"max_tokens": "max_new_tokens"}
IGNORED = frozenset({"stream"})
"""Keywords that LangChain itself passes on after acting on them."""


class NovelChatModel(BaseChatModel):
    """A chat model over one backend.

    A call, or ``bind``, takes the fields of ``SamplingSettings`` as keywords (``max_tokens`` for ``max_new_tokens``),
    and ``raw=True``: the messages' text is then continued word for word, without any chat format, which is how a
    base model (``is_chat`` False) is asked best. Chunks with empty content are signs of life: see ``TokenBackend``.
    """

    backend: SkipValidation[TokenBackend] = Field(exclude=True)
    sampling: SamplingSettings = SamplingSettings()

    @property
    def is_chat(self) -> bool:
        """Whether the model was trained to answer; if not, a ``raw`` completion prompt serves better."""
        return self.backend.is_chat

    @property
    def context_tokens(self) -> int:
        """Tokens that the model holds, prompt and answer together."""
        return self.backend.context_tokens

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens that the prompt takes in the model's own format."""
        return self.backend.count_tokens(prompt)

    def get_num_tokens(self, text: str) -> int:
        return self.backend.count_tokens(text)

    def get_num_tokens_from_messages(self, messages: Sequence[BaseMessage], tools: Any = None) -> int:
        return self.backend.count_tokens(to_turns(messages))

    @property
    def _llm_type(self) -> str:
        return "novelscope"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.backend.name, **asdict(self.sampling)}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        sampling, _ = self._settings(stop, kwargs)
        return LangSmithParams(
            ls_provider="novelscope",
            ls_model_name=self.backend.name,
            ls_model_type="chat",
            ls_temperature=sampling.temperature,
            ls_max_tokens=sampling.max_new_tokens,
            ls_stop=list(sampling.stop),
        )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Generator[ChatGenerationChunk, None, None]:
        sampling, is_raw = self._settings(stop, kwargs)
        turns = to_turns(messages)
        prompt: Prompt = "".join(turn.content for turn in turns) if is_raw else turns
        pieces = self.backend.stream(prompt, sampling)
        try:
            for piece in pieces:
                yield self._last_chunk(piece) if isinstance(piece, Finish) else _chunk(piece)
        finally:
            _close(pieces)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with closing(self._stream(messages, stop, run_manager, **kwargs)) as chunks:
            return generate_from_stream(chunks)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[ChatGenerationChunk, None]:
        steps = _Steps(self._stream(messages, stop, **kwargs))
        loop = asyncio.get_running_loop()
        # A thread of its own: in the loop's shared pool, requests that wait for the model would hold the threads that
        # the one being served needs for its next token.
        worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="novelscope-llm")
        try:
            while (chunk := await loop.run_in_executor(worker, steps.next)) is not None:
                yield chunk
        finally:
            steps.close()
            worker.shutdown(wait=False)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        async with aclosing(self._astream(messages, stop, run_manager, **kwargs)) as stream:
            chunks = [chunk async for chunk in stream]
        return generate_from_stream(iter(chunks))

    def _settings(self, stop: Sequence[str] | None, keywords: dict[str, Any]) -> tuple[SamplingSettings, bool]:
        """The settings of one call, and whether its prompt is raw text.

        Raises:
            SettingsError: a keyword is unknown, or its value cannot work.
        """
        wanted = {OTHER_NAMES.get(name, name): value for name, value in keywords.items() if name not in IGNORED}
        is_raw = bool(wanted.pop("raw", False))
        known = [field.name for field in fields(SamplingSettings)]
        if unknown := sorted(set(wanted) - set(known)):
            raise SettingsError(f"unknown settings {', '.join(unknown)}; a call takes {', '.join(known)} and raw")
        if stop is not None:
            wanted["stop"] = tuple(dict.fromkeys((*self.sampling.stop, *stop)))
        return replace(self.sampling, **wanted), is_raw

    def _last_chunk(self, finish: Finish) -> ChatGenerationChunk:
        usage = UsageMetadata(
            input_tokens=finish.input_tokens,
            output_tokens=finish.output_tokens,
            total_tokens=finish.input_tokens + finish.output_tokens,
        )
        return ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                usage_metadata=usage,
                response_metadata={"finish_reason": finish.reason, "model_name": self.backend.name},
                chunk_position="last",
            )
        )


class _Steps:
    """Takes the steps of a stream in a worker thread, and closes it from the event loop without waiting for one.

    A running generator cannot be closed from outside, so whoever leaves last closes it: the event loop when no step
    is running, else the worker thread when its step ends.
    """

    def __init__(self, chunks: Generator[ChatGenerationChunk, None, None]) -> None:
        self._chunks = chunks
        self._stepping = threading.Lock()
        self._is_abandoned = False

    def next(self) -> ChatGenerationChunk | None:
        try:
            with self._stepping:
                return next(self._chunks, None)
        finally:
            if self._is_abandoned:
                self.close()

    def close(self) -> None:
        self._is_abandoned = True
        if self._stepping.acquire(blocking=False):
            try:
                self._chunks.close()
            finally:
                self._stepping.release()


def _chunk(text: str) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=text))


def _close(pieces: Iterator[str | Finish]) -> None:
    # A generator has close(); a plain iterator has nothing that could be stopped.
    if isinstance(pieces, Generator):
        pieces.close()
