"""What this machine's CPU multiplies fast, asked of torch once.

Nothing here computes.
"""

from __future__ import annotations

from functools import cache

import torch

__all__ = ["has_bfloat16_products", "has_int4_products", "has_vnni", "quantized_engines"]


@cache
def has_bfloat16_products() -> bool:
    """Whether products of bfloat16 run on instructions of their own; without them each is widened first."""
    return _any_of("_is_avx512_bf16_supported", "_is_amx_tile_supported")


@cache
def has_vnni() -> bool:
    """Whether 8-bit products add up in 32 bits; without VNNI fbgemm's sums can overflow 16."""
    return _any_of("_is_vnni_supported", "_is_avx512_vnni_supported")


def has_int4_products() -> bool:
    """Whether torch's 4-bit kernel packs rows in blocks of 64, as we lay them out."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def quantized_engines() -> list[str]:
    """Libraries for quantized tensors that this torch was built with."""
    return list(torch.backends.quantized.supported_engines)


def _any_of(*names: str) -> bool:
    # torch renames these questions from version to version, and an unknown one means no.
    return any(getattr(torch.cpu, name, bool)() for name in names)
