"""Rotary positions: frequencies, tables of angles, and turning queries and keys by them.

Source:
    RoFormer, arXiv:2104.09864, section 3.4.2. ChatGLM v1 turns the two halves of a head by two rows of positions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from core.errors import ModelLoadError
from core.model.config import RotaryConfig

__all__ = ["apply_rotary", "frequencies", "rotary_tables"]


def frequencies(rotary: RotaryConfig, stored: Tensor | None = None) -> Tensor:
    """Radians per position of each pair of channels, float32, (dims / 2,), or (dims / 4,) for two rows of positions.

    Args:
        stored: frequencies that the checkpoint holds, used as they are instead of being computed.
    """
    dims = rotary.dims // 2 if rotary.two_rows else rotary.dims
    if stored is not None:
        if stored.shape != (dims // 2,):
            raise ModelLoadError(f"the rotary frequencies have shape {tuple(stored.shape)}, wanted ({dims // 2},)")
        return stored.float()
    values = 1.0 / rotary.base ** (torch.arange(0, dims, 2, dtype=torch.float32) / dims)
    if rotary.rounds_to_half:
        values = values.half().float()
    if rotary.llama3 is not None:
        values = _stretch_long_waves(values, *rotary.llama3)
    if rotary.divisors is not None:
        if len(rotary.divisors) != len(values):
            raise ModelLoadError(f"there are {len(rotary.divisors)} rotary divisors, wanted {len(values)}")
        values = values / torch.tensor(rotary.divisors, dtype=torch.float32)
    return values / rotary.position_divisor


def rotary_tables(rotary: RotaryConfig, values: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines for these positions, float32, (batch, 1, seq_len, pairs), ready for ``apply_rotary``.

    Args:
        values: what ``frequencies`` gave.
        positions: (batch, seq_len), or (batch, 2, seq_len) for two rows of positions: then the pairs of both rows stand
            one after the other.
    """
    angles = positions.float()[..., None] * values
    if rotary.two_rows:
        angles = torch.cat(angles.unbind(1), dim=-1)
    return angles.cos()[:, None], angles.sin()[:, None]


def apply_rotary(rotary: RotaryConfig, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of channels by its position's angle.

    Args:
        x: queries or keys, (batch, num_heads, seq_len, head_dim).
        cos, sin: from ``rotary_tables``.

    Returns:
        A new tensor of the shape and dtype of ``x``; the turning itself is done in float32.
    """
    head, rest = x[..., : rotary.dims].float(), x[..., rotary.dims :]
    if rotary.pairing == "adjacent":
        # A pair is a complex number, and so is its turn: one product in the place of six operators.
        pairs = torch.view_as_complex(head.unflatten(-1, (-1, 2)))
        joined = torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)
        return torch.cat([joined, rest], dim=-1) if rest.shape[-1] else joined
    if rotary.two_rows:
        # Halves inside each half of the head, so the pairs are (i, i + dims / 4) twice.
        quarters = head.unflatten(-1, (2, 2, -1))
        first, second = quarters[..., 0, :].flatten(-2), quarters[..., 1, :].flatten(-2)
    else:
        first, second = head.chunk(2, dim=-1)
    turned = first * cos - second * sin, second * cos + first * sin
    if rotary.two_rows:
        joined = torch.stack([part.unflatten(-1, (2, -1)) for part in turned], dim=-2).flatten(-3)
    else:
        joined = torch.cat(turned, dim=-1)
    return torch.cat([joined.to(x.dtype), rest], dim=-1) if rest.shape[-1] else joined.to(x.dtype)


def _stretch_long_waves(values: Tensor, factor: float, low: float, high: float, original_context: float) -> Tensor:
    """Llama 3's scaling: waves longer than the old context turn slower, short ones not at all, those between partly.

    Source:
        Llama 3.1 reference code, ``apply_scaling``.
    """
    waves = 2 * math.pi / values
    share = (original_context / waves - low) / (high - low)
    between = (1 - share) * values / factor + share * values
    scaled = torch.where(waves > original_context / low, values / factor, values)
    is_between = (waves <= original_context / low) & (waves >= original_context / high)
    return torch.where(is_between, between, scaled)
