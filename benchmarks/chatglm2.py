"""A checkpoint of ChatGLM2-6B's shape with random weights: rounding, opening and decoding at real size.

It takes 12.5 GB of disk under ``build/bench``, shard by shard, and is removed afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.engine.speed import measure_bandwidth

__all__ = ["chatglm2", "write_checkpoint"]

ROOT = Path(__file__).resolve().parent.parent
FOLDER, FILE = ROOT / "build" / "bench" / "chatglm2-6b-shape", ROOT / "build" / "bench" / "chatglm2-6b-shape.nscope"
NEEDED_BYTES = 18_000_000_000
CONFIG = {
    "model_type": "chatglm", "padded_vocab_size": 65024, "hidden_size": 4096, "num_layers": 28,
    "ffn_hidden_size": 13696, "kv_channels": 128, "num_attention_heads": 32, "multi_query_attention": True,
    "multi_query_group_num": 2, "add_qkv_bias": True, "add_bias_linear": False, "rmsnorm": True,
    "layernorm_epsilon": 1e-5, "post_layer_norm": True, "apply_residual_connection_post_layernorm": False,
    "seq_length": 32768, "eos_token_id": 2, "pad_token_id": 0, "torch_dtype": "float16",
}  # fmt: skip
LAYERS_PER_SHARD = 4
QUANTIZE = """
import json, resource, sys, time
from pathlib import Path
from core.engine.assistant import quantize
from core.engine.loading import PrecisionSettings
began = time.perf_counter()
quantize(Path(sys.argv[1]), Path(sys.argv[2]), precision=PrecisionSettings(bits=4), overwrite=True)
peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"quantize_s": time.perf_counter() - began, "quantize_peak_bytes": peak}))
"""
DECODE = """
import json, resource, sys, time
import torch
from core.engine import load
began = time.perf_counter()
model = load(sys.argv[1], device="cpu")
opened = time.perf_counter() - began
tokens = model.generate(list(range(100, 116)), max_new_tokens=25, stop_ids=())
next(tokens)
first = time.perf_counter() - began
next(tokens)
steps = []
last = time.perf_counter()
for _ in tokens:
    steps.append(time.perf_counter() - last)
    last = time.perf_counter()
peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
steps.sort()
print(json.dumps({"open_s": opened, "first_token_s": first, "step_s": steps[0],
    "median_step_s": steps[len(steps) // 2], "peak_bytes": peak,
    "bytes_per_token": model.bytes_per_token, "weights_bytes": model.num_bytes}))
"""


def chatglm2(corpus: Path) -> dict[str, Any]:
    """Seconds to round and to open cold, memory, and the share of the bandwidth that decoding uses."""
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(FOLDER.parent).free
    if free < NEEDED_BYTES:
        return {"error": f"{free / 1e9:.0f} GB are free under build/bench, wanted {NEEDED_BYTES / 1e9:.0f}"}
    try:
        write_checkpoint(FOLDER)
        result = _child(QUANTIZE, FOLDER, FILE)
        how = _forget_pages(FILE)
        bandwidth = measure_bandwidth()
        result |= _child(DECODE, FILE)
        result["cold_by"] = how
        result["file_bytes"] = FILE.stat().st_size
        result["decode_tokens_per_s"] = 1 / result["step_s"]
        result["bandwidth_gb_per_s"] = bandwidth / 1e9
        result["bandwidth_share"] = result["bytes_per_token"] / result["step_s"] / bandwidth
        return {key: round(value, 2) if isinstance(value, float) else value for key, value in result.items()}
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
        FILE.unlink(missing_ok=True)


def write_checkpoint(folder: Path) -> None:
    """Random float16 weights in the published layout, about a gigabyte at a time."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    chance = torch.Generator().manual_seed(0)
    weight_map: dict[str, str] = {}
    shards = list(_shards())
    for number, shapes in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {
            key: torch.ones(shape, dtype=torch.float16)
            if "norm" in key
            else torch.empty(shape, dtype=torch.float16).normal_(0, 0.02, generator=chance)
            for key, shape in shapes.items()
        }
        save_file(tensors, folder / name)
        weight_map |= dict.fromkeys(shapes, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _shards() -> Iterator[dict[str, tuple[int, ...]]]:
    hidden, inner, vocab = 4096, 13696, 65024
    yield {"transformer.embedding.word_embeddings.weight": (vocab, hidden)}
    for first in range(0, 28, LAYERS_PER_SHARD):
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(first, first + LAYERS_PER_SHARD):
            front = f"transformer.encoder.layers.{layer}"
            shapes |= {
                f"{front}.input_layernorm.weight": (hidden,),
                f"{front}.self_attention.query_key_value.weight": (hidden + 512, hidden),
                f"{front}.self_attention.query_key_value.bias": (hidden + 512,),
                f"{front}.self_attention.dense.weight": (hidden, hidden),
                f"{front}.post_attention_layernorm.weight": (hidden,),
                f"{front}.mlp.dense_h_to_4h.weight": (2 * inner, hidden),
                f"{front}.mlp.dense_4h_to_h.weight": (hidden, inner),
            }
        yield shapes
    yield {"transformer.encoder.final_layernorm.weight": (hidden,), "transformer.output_layer.weight": (vocab, hidden)}


def _child(code: str, *arguments: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _forget_pages(path: Path) -> str:
    """Make the next read of a file come from the disk; how that was done."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1", encoding="ascii")
        return "drop_caches"
    except OSError:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        time.sleep(0.5)
        return "fadvise"
