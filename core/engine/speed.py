"""How fast a model reads and writes on this machine, and how much of the memory's bandwidth that takes.

Every figure is the best of several runs, since whatever else the machine does can only make one slower. Nothing here
knows text.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from core.engine.generation import EngineModel
from core.errors import SettingsError

__all__ = ["Speed", "measure_bandwidth", "measure_speed"]

BANDWIDTH_BYTES = 1 << 28
SHORT_PROMPT_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What was measured.

    Attributes:
        threads: of the CPU that torch used.
        prefill_tokens_per_s: while a prompt of ``prompt_tokens`` is read.
        decode_tokens_per_s: while an answer to a prompt of 16 tokens is written.
        decode_long_tokens_per_s: likewise after the long prompt.
        bytes_per_token: of weights read for each token.
        bandwidth_bytes_per_s: at which this machine reads memory.
        bandwidth_share: of it that decoding used.
    """

    threads: int
    prompt_tokens: int
    new_tokens: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    decode_long_tokens_per_s: float
    bytes_per_token: int
    bandwidth_bytes_per_s: float
    bandwidth_share: float


def measure_speed(
    model: EngineModel,
    *,
    prompt_tokens: int = 512,
    new_tokens: int = 64,
    repeats: int = 3,
    on_progress: Callable[[int, int], None] | None = None,
) -> Speed:
    """Read a long prompt and a short one, and write after each.

    Args:
        on_progress: called with runs done and runs in all.

    Raises:
        SettingsError: the prompt and the answer do not fit the model's context, or nothing is to be measured.
    """
    if min(prompt_tokens, new_tokens, repeats) < 1:
        raise SettingsError("prompt, answer and repeats must each be 1 or more")
    if prompt_tokens + new_tokens + 1 > model.config.context_tokens:
        raise SettingsError(
            f"{prompt_tokens} tokens and {new_tokens} more do not fit the model's {model.config.context_tokens}; "
            "take fewer"
        )
    prefill_s = long_s = short_s = float("inf")
    for number in range(repeats):
        # Another prompt each time: one that begins like the last would be taken from the cache.
        first_s, rest_s = _one_run(model, _prompt(model, prompt_tokens, number), new_tokens)
        prefill_s, long_s = min(prefill_s, first_s), min(long_s, rest_s)
        _, rest_s = _one_run(
            model, _prompt(model, min(SHORT_PROMPT_TOKENS, prompt_tokens), repeats + number), new_tokens
        )
        short_s = min(short_s, rest_s)
        if on_progress:
            on_progress(number + 1, repeats)
    bandwidth = measure_bandwidth(model.device)
    return Speed(
        threads=torch.get_num_threads(),
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        prefill_tokens_per_s=prompt_tokens / prefill_s,
        decode_tokens_per_s=1 / short_s,
        decode_long_tokens_per_s=1 / long_s,
        bytes_per_token=model.bytes_per_token,
        bandwidth_bytes_per_s=bandwidth,
        bandwidth_share=model.bytes_per_token / short_s / bandwidth,
    )


def measure_bandwidth(device: torch.device | None = None, *, repeats: int = 8) -> float:
    """Bytes per second at which torch reads a device's memory: a sum over an array far larger than any cache."""
    num_bytes = BANDWIDTH_BYTES if device is None or device.type == "cpu" else 16 * BANDWIDTH_BYTES
    array = torch.ones(num_bytes // 4, device=device)
    best_s = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        array.sum().item()
        best_s = min(best_s, time.perf_counter() - began)
    return num_bytes / best_s


def _one_run(model: EngineModel, prompt: list[int], new_tokens: int) -> tuple[float, float]:
    """Seconds to the first token, and of each further one."""
    began = time.perf_counter()
    tokens = model.generate(prompt, max_new_tokens=new_tokens + 1, stop_ids=())
    next(tokens)
    first = time.perf_counter()
    count = sum(1 for _ in tokens)
    return first - began, (time.perf_counter() - first) / max(1, count)


def _prompt(model: EngineModel, length: int, number: int) -> list[int]:
    """Ids that differ in the very first, and end as ChatGLM v1 wants its context to end."""
    config = model.config
    marks = [config.gmask_id, config.bos_id] if config.is_prefix_lm else []
    special = {*config.eos_ids, config.bos_id, config.mask_id, config.gmask_id, config.pad_id}
    plain = [token_id for token_id in range(min(config.vocab_size, 4096)) if token_id not in special]
    text = [plain[(number + 1 + 37 * at) % len(plain)] for at in range(max(0, length - len(marks)))]
    return [*text, *(mark for mark in marks if mark is not None)]
