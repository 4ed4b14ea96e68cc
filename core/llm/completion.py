"""A plain completion model for LangChain: a text goes in as it is and is continued, piece by piece.

Made for base models, and for code written against LangChain's ``LLM``. A dialogue belongs to ``NovelChatModel``, which
knows chat formats; nothing here does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import Any, ClassVar, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.llms import LLM
from langchain_core.outputs import GenerationChunk

from core.llm.backend import Finish
from core.llm.over_backend import OverBackend, usage_of
from core.llm.stepping import step_async

__all__ = ["NovelCompletion"]


class NovelCompletion(OverBackend, LLM):
    """A completion model over one backend.

    The model itself, ``bind`` and a call take the fields of ``SamplingSettings`` as keywords (``max_tokens`` for
    ``max_new_tokens``). Each piece reaches ``on_llm_new_token`` as it is made, of ``invoke`` too. Chunks with empty
    text are signs of life, see ``TokenBackend``; the last one carries the finish reason and the usage.
    """

    model_type: ClassVar[Literal["chat", "llm"]] = "llm"

    @property
    def _llm_type(self) -> str:
        return "novelscope-completion"

    def _call(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        with closing(self._stream(prompt, stop, run_manager, **kwargs)) as chunks:
            return "".join(chunk.text for chunk in chunks)

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Generator[GenerationChunk, None, None]:
        with self._pieces(prompt, self._settings(stop, kwargs)) as pieces:
            for piece in pieces:
                chunk = self._chunk(piece)
                if run_manager is not None and chunk.text:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    # Without the two that follow, a cancelled task would leave its thread computing to the end.

    async def _acall(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        async with aclosing(self._astream(prompt, stop, run_manager, **kwargs)) as chunks:
            return "".join([chunk.text async for chunk in chunks])

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[GenerationChunk, None]:
        async with aclosing(step_async(self._stream(prompt, stop, **kwargs), name="novelscope-llm")) as chunks:
            async for chunk in chunks:
                if run_manager is not None and chunk.text:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def _chunk(self, piece: str | Finish) -> GenerationChunk:
        if isinstance(piece, str):
            return GenerationChunk(text=piece)
        facts = {"finish_reason": piece.reason, "model_name": self.backend.name, "usage": dict(usage_of(piece))}
        return GenerationChunk(text="", generation_info=facts)
