"""Any causal language model that transformers knows, with a decode loop of our own.

Own, since ``generate`` cannot be left between two tokens: here each token is one step of a generator, and closing it
ends the work. Code that comes with a checkpoint is never run. Nothing here knows how a model is named or found.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ModelError, PromptTooLong
from core.llm.backend import Finish, ModelFacts, Prompt, SamplingSettings, one_at_a_time
from core.llm.backends.checkpoint import load_checkpoint
from core.llm.detokenise import TextAssembler
from core.llm.stops import StopCutter
from core.llm.transcript import render_transcript, without_indent

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TransformersBackend"]

PREFILL_TOKENS = 256
TURN_ENDS = ("<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<|end|>", "<|user|>", "<|observation|>")
"""Markers that end a chat turn; a checkpoint's generation settings do not always list them."""


class TransformersBackend:
    """Runs one checkpoint; requests are served one at a time."""

    def __init__(self, folder: Path, *, name: str, bits: int | None = None, device: str | None = None) -> None:
        """Load the checkpoint.

        Args:
            folder: of a Hugging Face checkpoint.
            bits: 16 (bfloat16) or 32; None takes what this machine computes fastest.
            device: where to run it, as torch names devices; None takes a GPU if there is one.

        Raises:
            UnknownModel: there is no such checkpoint.
            ModelLoadError: it cannot be read; the message says why.
            SettingsError: bits is neither 16 nor 32.
        """
        self.name = name
        self._model, self._tokenizer = load_checkpoint(folder, bits=bits, device=device)
        config = self._model.config.get_text_config()
        self.context_tokens: int = getattr(config, "max_position_embeddings", None) or 1 << 20
        self.is_chat: bool = self._tokenizer.chat_template is not None
        self._end_ids = self._find_end_ids()
        self._lock = threading.Lock()

    @property
    def facts(self) -> ModelFacts:
        """What the model is made of."""
        model = self._model
        memory = model.get_memory_footprint()
        return ModelFacts(
            architecture=str(model.config.model_type),
            bits=8 * model.dtype.itemsize,
            memory_bytes=memory,
            bytes_per_token=memory,
            device=str(model.device),
        )

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self._encode(prompt)[0])

    def stream(self, prompt: Prompt, sampling: SamplingSettings) -> Iterator[str | Finish]:
        prompt_ids, format_stops = self._encode(prompt)
        if len(prompt_ids) >= self.context_tokens:
            raise PromptTooLong(len(prompt_ids), self.context_tokens)
        stops = (*sampling.stop, *format_stops)
        is_transcript = not isinstance(prompt, str) and not self.is_chat
        yield from one_at_a_time(self._lock, lambda: self._write(prompt_ids, sampling, stops, is_transcript))

    def _encode(self, prompt: Prompt) -> tuple[list[int], tuple[str, ...]]:
        """Ids of the prompt in the model's format, and the stop strings that the format needs."""
        from jinja2 import TemplateError

        if isinstance(prompt, str):
            return self._tokenizer(prompt).input_ids, ()
        if not self.is_chat:
            transcript = render_transcript(prompt)
            return self._tokenizer(transcript.text).input_ids, transcript.stops
        messages = [{"role": turn.role, "content": turn.content} for turn in prompt]
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as refusal:
            raise ModelError(f"{self.name} cannot take this dialogue: {refusal}") from refusal
        return self._tokenizer(text, add_special_tokens=False).input_ids, ()

    def _write(
        self, prompt_ids: list[int], sampling: SamplingSettings, stops: tuple[str, ...], is_transcript: bool
    ) -> Iterator[str | Finish]:
        cutter, made = StopCutter(stops), _Made()
        pieces = self._texts(prompt_ids, sampling, made)
        for piece in without_indent(pieces) if is_transcript else pieces:
            yield cutter.feed(piece)
            if cutter.is_cut:
                break
        if text := cutter.flush():
            yield text
        yield Finish("stop" if cutter.is_cut or made.is_ended else "length", len(prompt_ids), made.num_tokens)

    def _texts(self, prompt_ids: list[int], sampling: SamplingSettings, made: _Made) -> Iterator[str]:
        assembler = TextAssembler(self._decode, prompt_ids)
        for token_id in self._tokens(prompt_ids, sampling):
            if token_id is None:
                yield ""
                continue
            if token_id in self._end_ids:
                made.is_ended = True
                break
            made.num_tokens += 1
            yield assembler.add(token_id)
        yield assembler.flush()

    def _tokens(self, prompt_ids: list[int], sampling: SamplingSettings) -> Iterator[int | None]:
        """New token ids without end, up to the limits; None after each part of the prompt but the last."""
        import torch
        from transformers import DynamicCache

        device = self._model.device
        generator = torch.Generator(device)
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed)
        num_wanted = min(sampling.max_new_tokens, self.context_tokens - len(prompt_ids))
        cache = DynamicCache(config=self._model.config)
        filters, is_greedy = _filters(sampling), sampling.temperature == 0
        seen = torch.empty(len(prompt_ids) + num_wanted, dtype=torch.long, device=device)
        seen[: len(prompt_ids)] = torch.tensor(prompt_ids, device=device)
        start = 0
        # The mode is entered anew for each step: held across a yield it would leak into whoever runs in between.
        while start + PREFILL_TOKENS < len(prompt_ids):
            with torch.inference_mode():
                self._scores(seen[start : start + PREFILL_TOKENS], cache)
            start += PREFILL_TOKENS
            yield None
        for end in range(len(prompt_ids), len(prompt_ids) + num_wanted):
            with torch.inference_mode():
                logits = self._scores(seen[start:end], cache)
                scores = filters(seen[None, :end], logits[None])[0]
                token_id = int(scores.argmax()) if is_greedy else _draw(scores, generator)
                seen[end] = token_id
            start = end
            yield token_id

    def _scores(self, ids: Tensor, cache: Any) -> Tensor:
        """Scores of the token after these ids, (vocab,), float32; the cache grows by them."""
        output = self._model(input_ids=ids[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
        # A copy even where it is float32 already, since choosing writes into it.
        scores: Tensor = output.logits[0, -1].float().clone()
        return scores

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _find_end_ids(self) -> frozenset[int]:
        found: set[int] = set()
        for source in (self._model.generation_config, self._model.config, self._tokenizer):
            ids = getattr(source, "eos_token_id", None)
            found.update(ids if isinstance(ids, list) else [] if ids is None else [ids])
        special = self._tokenizer.get_added_vocab() if self.is_chat else {}
        found.update(special[marker] for marker in TURN_ENDS if marker in special)
        return frozenset(found)


class _Made:
    """What one answer has so far."""

    def __init__(self) -> None:
        self.num_tokens, self.is_ended = 0, False


def _filters(sampling: SamplingSettings) -> Any:
    """What transformers does to scores before a token is chosen, in the order of its ``generate``."""
    from transformers import generation

    filters: Any = generation.LogitsProcessorList()
    if sampling.logit_bias:
        bias: list[list[list[int] | float]] = [[[token_id], float(at)] for token_id, at in sampling.logit_bias.items()]
        filters.append(generation.SequenceBiasLogitsProcessor(bias))
    if sampling.repetition_penalty != 1:
        filters.append(generation.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature == 0:
        return filters
    filters.append(generation.TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k:
        filters.append(generation.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        filters.append(generation.TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0:
        filters.append(generation.MinPLogitsWarper(sampling.min_p))
    return filters


def _draw(scores: Tensor, generator: Any) -> int:
    import torch

    return int(torch.multinomial(torch.softmax(scores, dim=-1), 1, generator=generator))
