"""Any server that speaks the OpenAI chat protocol: vLLM, SGLang, Ollama, llama.cpp, or the vendor's own.

Requests to a server are not queued here, since it has a queue of its own. The key goes to the server it was given for,
and nowhere else. Nothing here counts tokens exactly: only the server knows its tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from core.errors import MissingExtra, ModelError
from core.llm.backend import Finish, Prompt, SamplingSettings
from core.llm.stops import StopCutter

if TYPE_CHECKING:
    from collections.abc import Generator

    from langchain_core.messages import AIMessageChunk

__all__ = ["OpenAICompatBackend"]

MAX_STOPS = 4
"""The protocol allows no more in one request; all of them are cut here anyway."""

NO_KEY = "none"


class OpenAICompatBackend:
    """Asks one model of one server."""

    is_chat = True
    facts = None

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key: str | None = None,
        context_tokens: int = 32_768,
        timeout_s: float = 120.0,
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            base_url: up to and with the version, as ``http://localhost:8000/v1``.
            context_tokens: what the server's model holds; the server itself refuses prompts that are too long.
            timeout_s: the longest pause between two pieces.

        Raises:
            MissingExtra: langchain-openai is not installed.
        """
        try:
            from langchain_openai import ChatOpenAI
        except ModuleNotFoundError as missing:
            raise MissingExtra("a model server needs langchain-openai: pip install 'novelscope[openai]'") from missing
        from pydantic import SecretStr

        self.name, self.base_url, self.context_tokens = model, base_url, context_tokens
        # A placeholder, or the client would send the key it finds in OPENAI_API_KEY to whatever server this is.
        key = SecretStr(api_key or NO_KEY)
        self._client = ChatOpenAI(model=model, base_url=base_url, api_key=key, timeout=timeout_s, max_retries=1)

    def __repr__(self) -> str:
        return f"OpenAICompatBackend({self.name!r}, base_url={self.base_url!r})"

    def count_tokens(self, prompt: Prompt) -> int:
        """An estimate on the high side: a token for each character beyond ASCII, one for three others."""
        texts = [prompt] if isinstance(prompt, str) else [turn.content for turn in prompt]
        num_wide = sum(not character.isascii() for text in texts for character in text)
        return num_wide + (sum(map(len, texts)) - num_wide) // 3 + 4 * len(texts)

    def stream(self, prompt: Prompt, sampling: SamplingSettings) -> Iterator[str | Finish]:
        if isinstance(prompt, str):
            raise ModelError(f"{self.name} at {self.base_url} answers dialogues only; send turns, not raw text")
        import httpx
        import openai

        try:
            yield from self._pieces(prompt, sampling)
        except (openai.APIError, httpx.HTTPError) as failure:
            raise ModelError(self._explain(failure)) from failure

    def _pieces(self, prompt: Prompt, sampling: SamplingSettings) -> Iterator[str | Finish]:
        cutter = StopCutter(sampling.stop)
        reason, usage, num_pieces = "stop", None, 0
        with closing(self._chunks(prompt, sampling)) as chunks:
            for chunk in chunks:
                usage = chunk.usage_metadata or usage
                reason = chunk.response_metadata.get("finish_reason") or reason
                if piece := chunk.text:
                    num_pieces += 1
                    yield cutter.feed(piece)
                if cutter.is_cut:
                    reason = "stop"
                    break
        if text := cutter.flush():
            yield text
        yield Finish(
            "length" if reason == "length" else "stop",
            usage["input_tokens"] if usage else self.count_tokens(prompt),
            usage["output_tokens"] if usage else num_pieces,
        )

    def _chunks(self, prompt: Prompt, sampling: SamplingSettings) -> Generator[AIMessageChunk, None, None]:
        turns = [] if isinstance(prompt, str) else prompt
        # The older name of the limit is the one that every compatible server knows.
        extra: dict[str, Any] = {"max_tokens": sampling.max_new_tokens}
        if sampling.top_k:
            extra["top_k"] = sampling.top_k
        if sampling.repetition_penalty != 1:
            extra["repetition_penalty"] = sampling.repetition_penalty
        if sampling.min_p:
            extra["min_p"] = sampling.min_p
        if sampling.logit_bias:
            extra["logit_bias"] = {str(token_id): value for token_id, value in sampling.logit_bias.items()}
        keywords: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        if sampling.seed is not None:
            keywords["seed"] = sampling.seed
        if sampling.stop:
            keywords["stop"] = list(sampling.stop[:MAX_STOPS])
        chunks = self._client.stream(
            [(turn.role, turn.content) for turn in turns],
            # The outer chat model reports tokens; without this, callbacks of a chain would hear of each one twice.
            config={"callbacks": []},
            stream_usage=True,
            extra_body=extra,
            **keywords,
        )
        return cast("Generator[AIMessageChunk, None, None]", chunks)

    def _explain(self, failure: Exception) -> str:
        import openai

        if isinstance(failure, (openai.AuthenticationError, openai.PermissionDeniedError)):
            return f"{self.base_url} refused the key; give the key that this server expects"
        if isinstance(failure, openai.NotFoundError):
            return f"{self.base_url} knows no model {self.name!r}; check the name, and that the URL ends in /v1"
        if isinstance(failure, openai.APITimeoutError):
            return f"{self.base_url} did not answer in time; try again, or look at the server"
        if isinstance(failure, openai.APIConnectionError):
            return f"{self.base_url} cannot be reached; check that the server runs and that the URL is right"
        if isinstance(failure, openai.APIStatusError):
            return f"{self.base_url} answered {failure.status_code}: {_server_words(failure)}"
        return f"{self.base_url} broke off the answer: {failure}"


def _server_words(failure: Any) -> str:
    body = failure.body if isinstance(failure.body, dict) else {}
    return str(body.get("message") or failure.message).strip().splitlines()[0]
