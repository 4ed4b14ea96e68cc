"""One engine, one model, one run: reads 512 tokens, writes 64, prints seconds as JSON; see ``benchmarks.engine``.

Works in any environment that holds the engine, so it imports nothing of ours but for our own engine.

    python benchmarks/speed_probe.py ENGINE PATH THREADS [BITS]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

LONG, SHORT, NEW = 512, 16, 64
PROMPT = [(37 * number) % 1000 + 200 for number in range(LONG)]


def ours(path: str, threads: int, bits: int) -> dict[str, Any]:
    import torch

    from core.engine import load

    torch.set_num_threads(threads)
    model = load(path, bits=bits)

    def run(length: int, number: int) -> tuple[float, float]:
        # Another first token each time, so that nothing is taken from the cache of the run before.
        ids = [PROMPT[number], *PROMPT[1:length]]
        return _timed(model.generate(ids, max_new_tokens=NEW + 1, stop_ids=()))

    return {**_best(run), "bytes_per_token": model.bytes_per_token, "memory_bytes": model.num_bytes}


def llama_cpp(path: str, threads: int, bits: int) -> dict[str, Any]:
    library: Any = import_module("llama_cpp")
    model: Any = library.Llama(path, n_ctx=2 * LONG, n_threads=threads, n_threads_batch=threads, verbose=False)

    def run(length: int, number: int) -> tuple[float, float]:
        model.reset()
        began = time.perf_counter()
        model.eval(PROMPT[:length])
        first = time.perf_counter()
        for step in range(NEW):
            model.eval([300 + step])
        return first - began, (time.perf_counter() - first) / NEW

    return _best(run)


def transformers(path: str, threads: int, bits: int) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache

    torch.set_num_threads(threads)
    folder, _, name = path.rpartition("/")
    dtype = torch.float32 if bits == 32 else torch.bfloat16
    model: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=dtype)

    def run(length: int, number: int) -> tuple[float, float]:
        with torch.inference_mode():
            cache = DynamicCache(config=model.config)
            began = time.perf_counter()
            model(input_ids=torch.tensor([PROMPT[:length]]), past_key_values=cache, logits_to_keep=1)
            first = time.perf_counter()
            for step in range(NEW):
                model(input_ids=torch.tensor([[300 + step]]), past_key_values=cache, logits_to_keep=1)
            return first - began, (time.perf_counter() - first) / NEW

    return _best(run)


def ftllm(path: str, threads: int, bits: int) -> dict[str, Any]:
    llm: Any = import_module("ftllm.llm")
    llm.set_cpu_threads(threads)
    model = llm.model(path, dtype="int4" if bits == 4 else "int8")

    def run(length: int, number: int) -> tuple[float, float]:
        return _timed(iter(model.stream_response_raw(PROMPT[:length], max_length=NEW + 1, top_k=1)))

    return _best(run)


def _timed(tokens: Any) -> tuple[float, float]:
    began = time.perf_counter()
    next(tokens)
    first = time.perf_counter()
    count = sum(1 for _ in tokens)
    return first - began, (time.perf_counter() - first) / max(1, count)


def _best(run: Callable[[int, int], tuple[float, float]]) -> dict[str, Any]:
    long = [run(LONG, number) for number in range(2)]
    short = [run(SHORT, number + 2) for number in range(2)]
    return {
        "prefill_s": min(first for first, _ in long),
        "step_long_s": min(step for _, step in long),
        "step_s": min(step for _, step in short),
    }


if __name__ == "__main__":
    engine, path, threads, bits = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(globals()[engine](path, threads, bits)))
