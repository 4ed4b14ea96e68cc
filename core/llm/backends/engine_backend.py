"""The engine as a backend: low-bit weights, the checkpoint's own prompt format, whole characters out.

The engine serves requests in turns, token by token, so nothing is locked here. This is the only module of ``core.llm``
that knows the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ModelLoadError, PromptTooLong
from core.llm.backend import Finish, ModelFacts, Prompt, SamplingSettings
from core.llm.stops import StopCutter
from core.llm.transcript import render_transcript, without_indent

if TYPE_CHECKING:
    from core.engine.assistant import Assistant
    from core.engine.prompt_formats import EncodedPrompt
    from core.llm.models import LoadOptions

__all__ = ["EngineBackend", "is_known_architecture", "open_engine", "round_once"]


class EngineBackend:
    """Runs one model of the engine; several requests share it token by token."""

    def __init__(self, assistant: Assistant) -> None:
        self._assistant = assistant
        self.name = assistant.name
        self.context_tokens = assistant.model.config.context_tokens
        self.is_chat = assistant.format.is_chat

    @property
    def facts(self) -> ModelFacts:
        """What the model is made of."""
        model = self._assistant.model
        return ModelFacts(
            architecture=model.config.architecture,
            bits=self._assistant.bits,
            memory_bytes=model.num_bytes,
            bytes_per_token=model.bytes_per_token,
            device=str(model.device),
        )

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self._encode(prompt)[0].ids)

    def stream(self, prompt: Prompt, sampling: SamplingSettings) -> Iterator[str | Finish]:
        encoded, more_stops = self._encode(prompt)
        if len(encoded.ids) >= self.context_tokens:
            raise PromptTooLong(len(encoded.ids), self.context_tokens)
        written = _Written()
        pieces = self._text(encoded, sampling, written)
        if not isinstance(prompt, str):
            pieces = self._assistant.format.clean(pieces) if self.is_chat else without_indent(pieces)
        cutter = StopCutter((*sampling.stop, *encoded.stop_strings, *more_stops))
        for piece in pieces:
            yield cutter.feed(piece)
            if cutter.is_cut:
                break
        if text := cutter.flush():
            yield text
        is_whole = cutter.is_cut or written.num_tokens < self._limit(encoded, sampling)
        yield Finish("stop" if is_whole else "length", len(encoded.ids), written.num_tokens)

    def _encode(self, prompt: Prompt) -> tuple[EncodedPrompt, tuple[str, ...]]:
        """Ids of the prompt in the model's format, and the stop strings that a transcript needs."""
        if isinstance(prompt, str):
            return self._assistant.format.encode_text(prompt), ()
        if self.is_chat:
            return self._assistant.format.encode_turns([(turn.role, turn.content) for turn in prompt]), ()
        transcript = render_transcript(prompt)
        return self._assistant.format.encode_text(transcript.text), transcript.stops

    def _limit(self, encoded: EncodedPrompt, sampling: SamplingSettings) -> int:
        return min(sampling.max_new_tokens, self.context_tokens - len(encoded.ids))

    def _text(self, encoded: EncodedPrompt, sampling: SamplingSettings, written: _Written) -> Iterator[str]:
        """Whole characters as their tokens come; an empty piece for each part of the prompt that was read."""
        from core.engine.sampling import Choice
        from core.engine.tokenizer import IncrementalDecoder

        decoder = IncrementalDecoder(self._assistant.tokenizer)
        ids = self._assistant.model.stream(
            encoded.ids,
            choice=Choice(
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                min_p=sampling.min_p,
                repetition_penalty=sampling.repetition_penalty,
                logit_bias=sampling.logit_bias,
            ),
            max_new_tokens=sampling.max_new_tokens,
            seed=sampling.seed,
            stop_ids=encoded.stop_ids,
            use_drafts=True,
        )
        for token_id in ids:
            if token_id is None:
                yield ""
                continue
            written.num_tokens += 1
            yield decoder.add(token_id)
        yield decoder.flush()


class _Written:
    """How many tokens one answer has so far."""

    def __init__(self) -> None:
        self.num_tokens = 0


def is_known_architecture(config: Mapping[str, Any]) -> bool:
    """Whether the engine can run a checkpoint with this config.json."""
    from core.engine.factory import is_supported

    return is_supported(config)


def open_engine(path: Path, options: LoadOptions, *, name: str | None, bits: int | None = None) -> EngineBackend:
    """The model at a path: a checkpoint folder, a GGUF file or a low-bit file.

    Raises:
        UnknownModel, ModelLoadError, SettingsError: as ``core.engine.assistant.open_assistant``.
    """
    from core.engine.assistant import open_assistant

    return EngineBackend(
        open_assistant(
            path,
            bits=bits,
            device=options.device,
            low_memory=options.low_memory,
            name=name,
            on_progress=options.on_progress,
        )
    )


def round_once(find: Callable[[], Path], kept: Path, options: LoadOptions, *, name: str, bits: int) -> EngineBackend:
    """A model that is rounded into a low-bit file on first use and read from there afterwards.

    Args:
        find: gives the model's file, when it is needed.
        kept: the low-bit file; one that cannot be read is made again.

    Raises:
        UnknownModel, ModelLoadError, SettingsError: as ``open_engine``.
    """
    from core.engine.assistant import quantize
    from core.engine.loading import PrecisionSettings

    if kept.is_file():
        try:
            return open_engine(kept, options, name=name)
        except ModelLoadError:
            kept.unlink(missing_ok=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    precision = PrecisionSettings(bits=bits)
    quantize(find(), kept, precision=precision, name=name, overwrite=True, on_progress=options.on_progress)
    return open_engine(kept, options, name=name)
