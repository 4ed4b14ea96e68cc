"""The engine's model: logits of a sequence, and a stream of new tokens with everything that makes it fast.

A generator computes one token when it is asked for one, so closing it stops the model within a token, and requests that
take turns share the model fairly. Nothing here knows text.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from core.engine.batching import pad_left, stream_batch
from core.engine.cache import StaticCache
from core.engine.drafts import find_draft
from core.engine.graphs import GraphDecoder
from core.engine.kept import Kept, KeptCaches
from core.engine.sampling import Choice, choose_token
from core.engine.step import StepDecoder
from core.engine.turns import Turnstile
from core.errors import ModelError, PromptTooLong, SettingsError
from core.model.config import DecoderConfig
from core.model.decoder import Decoder
from core.model.layout import Layout, plan

__all__ = ["EngineModel"]

PREFILL_TOKENS, LOW_MEMORY_TOKENS = 512, 128
DRAFT_TOKENS = 6
SURE_MARGIN = 0.5
"""A drafted token counts only if its score leads by so much: products of one and of several rows differ in the last
bits, and a tie must fall as it would without drafts."""


class EngineModel:
    """A network that computes logits and streams tokens.

    Attributes:
        config: of the decoder.
        num_bytes: of all weights in memory.
        bytes_per_token: read from memory for each decoded token.
        device: where it runs.

    A model mapped from a large file may be used before all of the file was compared with its checksums; its first
    results wait for that, and ``forward``, ``generate`` and their kin raise ModelLoadError where the file is damaged.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        num_bytes: int,
        bytes_per_token: int,
        is_exact: bool = False,
        low_memory: bool = False,
        wait_until_checked: Callable[[], None] | None = None,
    ) -> None:
        self.config: DecoderConfig = decoder.config
        self.num_bytes, self.bytes_per_token = num_bytes, bytes_per_token
        self.device = next(decoder.parameters()).device
        self._decoder = decoder
        self._step = StepDecoder(decoder) if self.device.type == "cpu" else GraphDecoder(decoder)
        self._cache_dtype = torch.float32 if self.device.type == "cpu" or is_exact else torch.bfloat16
        self._turns = Turnstile()
        self._wait_until_checked = wait_until_checked or (lambda: None)
        self._kept = KeptCaches(self.config, max_caches=1) if low_memory else KeptCaches(self.config)
        self._low_memory = low_memory

    def forward(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Logits after each token of one sequence, float32, (len(ids), vocab_size).

        Raises:
            ModelError: no ids, an id outside the vocabulary, or a ChatGLM v1 sequence without its marks.
            PromptTooLong: more ids than the context holds.
        """
        listed = self._checked(ids)
        with self._turns, torch.inference_mode():
            logits = self._decoder(torch.tensor(listed, device=self.device)[None])[0].cpu()
        self._wait_until_checked()
        return logits

    def forward_batch(self, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
        """Logits of several sequences of any lengths, computed together; each as ``forward`` gives it."""
        listed = [self._checked(ids) for ids in sequences]
        ids, mask = pad_left(listed, self.config.pad_id or 0)
        with self._turns, torch.inference_mode():
            logits = self._decoder(ids.to(self.device), mask.to(self.device)).cpu()
        self._wait_until_checked()
        return [rows[len(rows) - len(one) :] for rows, one in zip(logits, listed, strict=True)]

    def generate(
        self,
        ids: Sequence[int] | Tensor,
        *,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        logit_bias: Mapping[int, float] | None = None,
        seed: int | None = None,
        stop_ids: Iterable[int] | None = None,
        use_drafts: bool = False,
    ) -> Iterator[int]:
        """New token ids, one after another; the one that ends the answer is not among them.

        Args:
            stop_ids: any of them ends the answer; None takes the model's own, () never stops early.
            use_drafts: guess what comes from what stands in the prompt and check several tokens at once. Greedy answers
                stay the same.

        Raises:
            ModelError, PromptTooLong: as ``forward``, before the first id.
            SettingsError: a setting has a value that cannot work.
        """
        for token_id in self.stream(
            ids,
            choice=Choice(
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                min_p=min_p,
                repetition_penalty=repetition_penalty,
                logit_bias=logit_bias or {},
            ),
            max_new_tokens=max_new_tokens,
            seed=seed,
            stop_ids=self.config.eos_ids if stop_ids is None else stop_ids,
            use_drafts=use_drafts,
        ):
            if token_id is not None:
                yield token_id

    def generate_batch(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int = 512,
        choice: Choice | None = None,
        seed: int | None = None,
        stop_ids: Iterable[int] | None = None,
    ) -> Iterator[list[int | None]]:
        """New token ids of several answers, computed together, step by step; None for answers that have ended.

        Args:
            choice: how tokens are chosen; None takes the likeliest.
            seed: of the first answer; each further one has the next number.
            stop_ids: as ``generate``.

        Raises:
            ModelError, PromptTooLong, SettingsError: as ``generate``, before the first step.
        """
        listed = [self._checked(ids) for ids in prompts]
        if not listed:
            raise ModelError("there are no prompts; wanted at least one")
        self._wait_until_checked()
        limits = [min(max_new_tokens, self.config.context_tokens - len(prompt)) for prompt in listed]
        return stream_batch(
            self._decoder,
            self._new_cache(len(listed)),
            listed,
            limits,
            choice=choice or Choice(),
            generators=[_generator(seed if seed is None else seed + number) for number in range(len(listed))],
            stops=frozenset(self.config.eos_ids if stop_ids is None else stop_ids),
            turns=self._turns,
        )

    def stream(
        self,
        ids: Sequence[int] | Tensor,
        *,
        choice: Choice,
        max_new_tokens: int,
        seed: int | None = None,
        stop_ids: Iterable[int] = (),
        use_drafts: bool = False,
    ) -> Iterator[int | None]:
        """As ``generate``, with None after each part of the prompt that was read: reading can be stopped too."""
        prompt = self._checked(ids)
        if max_new_tokens < 1:
            raise SettingsError(f"max_new_tokens is {max_new_tokens}, wanted 1 or more")
        generator = _generator(seed)
        stops = frozenset(stop_ids)
        # On a GPU one token is replayed from a graph and several at once are not, so guessing costs more than it saves.
        is_worth_it = choice.is_plain_greedy and not self.config.is_prefix_lm and self.device.type == "cpu"
        return self._run(prompt, choice, max_new_tokens, generator, stops, use_drafts and is_worth_it)

    def _run(
        self,
        prompt: list[int],
        choice: Choice,
        max_new_tokens: int,
        generator: torch.Generator,
        stops: frozenset[int],
        drafts: bool,
    ) -> Iterator[int | None]:
        kept = self._begin(prompt)
        try:
            logits: Tensor | None = None
            for part in self._prefill(prompt, kept):
                logits = part
                if len(kept.ids) < len(prompt):
                    yield None
            self._wait_until_checked()
            limit = min(max_new_tokens, self.config.context_tokens - len(prompt))
            seen = torch.tensor(prompt + [0] * limit)
            length, waiting = len(prompt), deque[int]()
            place = self._place(prompt)
            while length < len(prompt) + limit:
                was_drafted = bool(waiting)
                if was_drafted:
                    token_id = waiting.popleft()
                else:
                    assert logits is not None
                    with torch.inference_mode():
                        # Only the plainest choice is made where the scores lie; all others need several small steps.
                        scores = logits if choice.is_plain_greedy else logits.cpu()
                        token_id = choose_token(scores, seen[:length], choice, generator)
                if token_id in stops:
                    return
                seen[length] = token_id
                length += 1
                yield token_id
                # The cache holds a drafted token already, and the logits are those after the last of them.
                if was_drafted or length == len(prompt) + limit:
                    continue
                draft = find_draft(seen[:length].tolist(), DRAFT_TOKENS) if drafts else []
                with self._turns, torch.inference_mode():
                    if draft:
                        accepted, logits = self._verify(kept, token_id, draft)
                        waiting.extend(accepted)
                    else:
                        logits = self._step.logits(token_id, _position(place, len(kept.ids)), kept.cache)
                        kept.ids.append(token_id)
        finally:
            self._kept.keep(kept)

    def _prefill(self, prompt: list[int], kept: Kept) -> Iterator[Tensor]:
        """Logits of the last token after each part of the prompt that the cache does not hold."""
        whole = torch.tensor(prompt, device=self.device)[None]
        # A bidirectional context cannot be read in parts: its first token already sees its last.
        part = LOW_MEMORY_TOKENS if self._low_memory else PREFILL_TOKENS
        part = len(prompt) if self.config.is_prefix_lm else part
        while len(kept.ids) < len(prompt):
            past = len(kept.ids)
            stop = min(past + part, len(prompt))
            with self._turns, torch.inference_mode():
                layout = plan(self.config, whole[:, :stop], past=past)
                logits = self._decoder(whole[:, past:stop], cache=kept.cache, layout=layout, last_only=True)
                kept.cache.advance(stop - past)
            kept.ids.extend(prompt[past:stop])
            yield logits[0, -1].clone()

    def _verify(self, kept: Kept, token_id: int, draft: list[int]) -> tuple[list[int], Tensor | None]:
        """Which drafted tokens the model would have chosen, and the logits after the last of them."""
        ids = [*kept.ids, token_id, *draft]
        past = len(kept.ids)
        layout: Layout = plan(self.config, torch.tensor(ids)[None], past=past)
        logits = self._decoder(torch.tensor(ids[past:])[None], cache=kept.cache, layout=layout)[0]
        scores, best = logits.topk(2, dim=-1)
        sure = (scores[:, 0] - scores[:, 1]) > SURE_MARGIN
        accepted = 0
        while accepted < len(draft) and bool(sure[accepted]) and int(best[accepted, 0]) == draft[accepted]:
            accepted += 1
        if bool(sure[accepted]):
            kept.cache.advance(1 + accepted)
            kept.ids.extend(ids[past : past + 1 + accepted])
            return draft[:accepted], logits[accepted]
        # Too close to tell: the last token is computed again alone, as it would have been without a draft.
        kept.cache.advance(accepted)
        kept.ids.extend(ids[past : past + accepted])
        place = self._place(ids)
        alone = self._step.logits(ids[past + accepted], _position(place, len(kept.ids)), kept.cache)
        kept.ids.append(ids[past + accepted])
        return draft[:accepted], alone

    def _begin(self, prompt: list[int]) -> Kept:
        """A cache that holds the beginning of the prompt where a finished request shares it; else a new one."""
        if found := self._kept.take(prompt):
            return found
        cache = self._new_cache(1)
        if self._decoder.prefix is not None:
            with torch.inference_mode():
                cache.seed(self._decoder.prefix(1))
        return Kept([], cache)

    def _new_cache(self, batch: int) -> StaticCache:
        return StaticCache(self.config, batch=batch, device=self.device, dtype=self._cache_dtype)

    def _place(self, prompt: list[int]) -> tuple[int, int] | None:
        """For ChatGLM v1 the position of the mask token and the length of the context."""
        if not self.config.is_prefix_lm:
            return None
        marks = plan(self.config, torch.tensor(prompt)[None]).positions[0, :, -1].tolist()
        return marks[0], len(prompt) - marks[1]

    def _checked(self, ids: Sequence[int] | Tensor) -> list[int]:
        values = ids.flatten().tolist() if isinstance(ids, Tensor) else ids
        try:
            listed = [operator.index(value) for value in values]
        except TypeError as wrong:
            strays = [value for value in values if not isinstance(value, int)]
            raise ModelError(f"{strays[0]!r} is no token id; wanted whole numbers") from wrong
        if not listed:
            raise ModelError("there are no token ids; wanted at least one")
        if len(listed) > self.config.context_tokens:
            raise PromptTooLong(len(listed), self.config.context_tokens)
        outside = [token_id for token_id in listed if not 0 <= token_id < self.config.vocab_size]
        if outside:
            raise ModelError(f"the id {outside[0]} is not in the vocabulary of {self.config.vocab_size}")
        return listed


def _generator(seed: int | None) -> torch.Generator:
    if seed is not None and not (isinstance(seed, int) and 0 <= seed < 1 << 63):
        raise SettingsError(f"seed is {seed!r}, wanted a whole number from 0 to 2^63 - 1, or None")
    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    return generator


def _position(place: tuple[int, int] | None, index: int) -> int | tuple[int, int]:
    """Position of the token at this index of its sequence."""
    return index if place is None else (place[0], index - place[1] + 1)
