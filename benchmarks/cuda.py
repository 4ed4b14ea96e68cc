"""The engine on an NVIDIA GPU: a network of ChatGLM2-6B's shape with random weights, beside transformers in bfloat16.

Weights are drawn on the GPU in the form in which they are multiplied, so nothing is written or rounded.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.chatglm2 import CONFIG

__all__ = ["cuda"]

NEW_TOKENS = 128


def cuda(corpus: Path) -> dict[str, Any]:
    """Tokens per second in 4, 8 and 16 bits, the share of the GPU's bandwidth, and the ratio to transformers."""
    import torch

    if not torch.cuda.is_available():
        return {"error": "there is no NVIDIA GPU here"}
    from core.engine.speed import measure_bandwidth, measure_speed

    device = torch.device("cuda")
    rival = _transformers()
    result: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "bandwidth_gb_per_s": round(measure_bandwidth(device) / 1e9),
        "transformers_16": rival,
    }
    for bits in (4, 8, 16):
        torch.cuda.empty_cache()
        model = _random_model(bits)
        speed = measure_speed(model, new_tokens=NEW_TOKENS)
        result[f"{bits}_bits"] = {
            "memory_gb": round(model.num_bytes / 1e9, 2),
            "writes": round(speed.decode_tokens_per_s, 1),
            "writes_after_512": round(speed.decode_long_tokens_per_s, 1),
            "reads": round(speed.prefill_tokens_per_s),
            "bandwidth_share": round(speed.bandwidth_share, 2),
            "to_transformers": round(speed.decode_tokens_per_s / rival["writes"], 2),
        }
        del model
    return result


def _random_model(bits: int) -> Any:
    import torch

    from core.engine.cuda_weights import CudaInt8Weight, on_device
    from core.engine.factory import assemble
    from core.engine.int4_weight import Int4Weight
    from core.engine.loading import LoadedWeights, PrecisionSettings, use_of
    from core.engine.network import matrices
    from core.engine.weights import FloatWeight
    from core.model.architectures import read_config
    from core.model.decoder import Decoder

    device = torch.device("cuda")
    config, precision = read_config(CONFIG), PrecisionSettings(bits=bits)
    weights: dict[str, Any] = {}
    for name, (rows, columns) in matrices(config).items():
        kind, use = precision.kind_of(name), use_of(name, config)
        if kind == "int4":
            packed = torch.randint(0, 256, (rows // 64, columns, 32), dtype=torch.uint8, device=device)
            pairs = torch.full((columns // 32, rows, 2), 2e-3, dtype=torch.bfloat16, device=device)
            weights[name] = on_device(Int4Weight(packed, pairs, rows=rows, columns=columns), device, use=use)
        elif kind == "int8":
            codes = torch.randint(-128, 128, (rows, columns), dtype=torch.int8, device=device)
            scale, zero = torch.full((rows,), 2e-4, device=device), torch.zeros(rows, dtype=torch.int8, device=device)
            weights[name] = CudaInt8Weight(codes, scale, zero)
        else:
            weights[name] = FloatWeight(torch.randn(rows, columns, dtype=torch.bfloat16, device=device).mul_(0.02))
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in Decoder(config).named_parameters() if name not in weights}
    vectors = {name: torch.full(shape, 0.5, device=device) for name, shape in shapes.items()}
    return assemble(LoadedWeights(config, weights, vectors))


def _transformers() -> dict[str, Any]:
    """Transformers' own network of the same shape, eager, in bfloat16."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

    config = AutoConfig.for_model(
        "glm",
        vocab_size=CONFIG["padded_vocab_size"],
        hidden_size=CONFIG["hidden_size"],
        intermediate_size=CONFIG["ffn_hidden_size"],
        num_hidden_layers=CONFIG["num_layers"],
        num_attention_heads=CONFIG["num_attention_heads"],
        num_key_value_heads=CONFIG["multi_query_group_num"],
        head_dim=CONFIG["kv_channels"],
        attention_bias=True,
        pad_token_id=0,
    )
    with torch.device("cuda"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    best_first = best_step = float("inf")
    with torch.inference_mode():
        for _ in range(3):
            cache = DynamicCache(config=config)
            began = time.perf_counter()
            logits = model(torch.arange(512, device="cuda")[None] + 100, past_key_values=cache, logits_to_keep=1).logits
            token = int(logits[0, -1].argmax())
            first = time.perf_counter()
            for _ in range(32):
                logits = model(torch.tensor([[token]], device="cuda"), past_key_values=cache).logits
                token = int(logits[0, -1].argmax())
            best_step = min(best_step, (time.perf_counter() - first) / 32)
            best_first = min(best_first, first - began)
    return {"writes": round(1 / best_step, 1), "reads": round(512 / best_first)}
