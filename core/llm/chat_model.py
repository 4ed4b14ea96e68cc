"""The one LangChain chat model of novelscope: messages in, chunks out, over any ``TokenBackend``.

Closing the stream, cancelling the task or leaving the loop closes the backend's stream, which stops the model within
one token. Nothing here knows how tokens are made, how a model is found, or what a prompt format is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any, ClassVar, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel, generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from core.llm.backend import Finish, Prompt
from core.llm.messages import to_turns
from core.llm.over_backend import OverBackend, usage_of
from core.llm.stepping import step_async

__all__ = ["NovelChatModel"]


class NovelChatModel(OverBackend, BaseChatModel):
    """A chat model over one backend.

    The model itself, ``bind`` and a call take the fields of ``SamplingSettings`` as keywords (``max_tokens`` for
    ``max_new_tokens``). A call also takes ``raw=True``: the messages' text is then continued word for word, without
    any chat format, which is how a base model (``is_chat`` False) is asked best. Chunks with empty content are signs
    of life: see ``TokenBackend``.
    """

    model_type: ClassVar[Literal["chat", "llm"]] = "chat"
    more_keywords: ClassVar[tuple[str, ...]] = ("raw",)

    @property
    def is_chat(self) -> bool:
        """Whether the model was trained to answer; if not, a ``raw`` completion prompt serves better."""
        return self.backend.is_chat

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens that the prompt takes in the model's own format."""
        return self.backend.count_tokens(prompt)

    def get_num_tokens_from_messages(self, messages: Sequence[BaseMessage], tools: Any = None) -> int:
        return self.backend.count_tokens(to_turns(messages))

    @property
    def _llm_type(self) -> str:
        return "novelscope"

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Generator[ChatGenerationChunk, None, None]:
        sampling = self._settings(stop, kwargs)
        turns = to_turns(messages)
        prompt: Prompt = "".join(turn.content for turn in turns) if kwargs.get("raw") else turns
        with self._pieces(prompt, sampling) as pieces:
            for piece in pieces:
                yield self._last_chunk(piece) if isinstance(piece, Finish) else _chunk(piece)

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
        async with aclosing(step_async(self._stream(messages, stop, **kwargs), name="novelscope-llm")) as chunks:
            async for chunk in chunks:
                yield chunk

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

    def _last_chunk(self, finish: Finish) -> ChatGenerationChunk:
        return ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                usage_metadata=usage_of(finish),
                response_metadata={"finish_reason": finish.reason, "model_name": self.backend.name},
                chunk_position="last",
            )
        )


def _chunk(text: str) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=text))
