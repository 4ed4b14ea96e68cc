"""Take the 4-bit codes of a GGUF matrix as they are, so that a low-bit product needs no second rounding.

A group of 32 columns has a scale and a minimum, and every value is minimum + code * scale. Three block types of ggml
are of this form: Q4_0, Q4_1 and Q4_K. Nothing here knows a model.

Source:
    github.com/ggml-org/ggml, src/ggml-common.h (``block_q4_0``, ``block_q4_1``, ``block_q4_K``) and ggml-quants.c.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from core.engine.gguf_file import BLOCKS, GGUFFile, TensorInfo
from core.errors import ModelLoadError

__all__ = ["GRID_KINDS", "GROUP_COLUMNS", "Int4Grid", "read_grid"]

Q4_0, Q4_1, Q4_K = 2, 3, 12  # ggml's numbers
GRID_KINDS = (Q4_0, Q4_1, Q4_K)
GROUP_COLUMNS = 32
CHUNK_VALUES = 1 << 23


class Int4Grid(NamedTuple):
    """A matrix in 4 bits: value = minimum + code * scale, per group of 32 columns.

    Attributes:
        codes: 0 to 15, uint8, (rows, columns).
        scale, minimum: float32, (rows, columns / 32).
    """

    codes: Tensor
    scale: Tensor
    minimum: Tensor

    def values(self) -> Tensor:
        """The matrix in float32, (rows, columns)."""
        groups = self.codes.float().view(*self.scale.shape, GROUP_COLUMNS)
        return groups.mul_(self.scale[..., None]).add_(self.minimum[..., None]).view(self.codes.shape)


def read_grid(file: GGUFFile, info: TensorInfo, row_order: Tensor | None) -> Int4Grid:
    """The grid of a matrix stored as one of ``GRID_KINDS``; no value differs from the widened one by a bit.

    Args:
        row_order: for each row of the result, its row in the file; None for the file's own order.

    Raises:
        ModelLoadError: the file cannot be read.
    """
    rows, columns = info.shape
    grid = Int4Grid(
        torch.empty(rows, columns, dtype=torch.uint8),
        torch.empty(rows, columns // GROUP_COLUMNS),
        torch.empty(rows, columns // GROUP_COLUMNS),
    )
    try:
        packed = file.packed(info)
    except (OSError, ValueError) as refusal:
        raise ModelLoadError(f"{file.path}: the tensor {info.name!r} cannot be read: {refusal}") from refusal
    split = {Q4_0: _split_q4_0, Q4_1: _split_q4_1, Q4_K: _split_q4_k}[info.kind]
    step = max(1, CHUNK_VALUES // columns)
    for begin in range(0, rows, step):
        picked = torch.arange(begin, min(begin + step, rows))
        source = picked if row_order is None else row_order[picked]
        blocks = torch.from_numpy(packed[source.numpy()]).view(-1, BLOCKS[info.kind][1])
        for whole, part in zip(grid, split(blocks), strict=True):
            whole[picked] = part.reshape(len(picked), -1)
    return grid


def _split_q4_0(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    scale = _halves(blocks[:, :2])
    return _nibbles(blocks[:, 2:]), scale, scale * -8


def _split_q4_1(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _nibbles(blocks[:, 4:]), _halves(blocks[:, :2]), _halves(blocks[:, 2:4])


def _split_q4_k(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # Eight scales and eight minima of 6 bits lie in 12 bytes: the low 6 bits of bytes 0-3 and 4-7 are the first four of
    # each; the last four have their low halves in bytes 8-11 and their top bits above those 6.
    first, second, third = blocks[:, 4:16].chunk(3, dim=1)
    scales = torch.cat((first & 63, (third & 15) | (first >> 2) & 48), dim=1)
    minima = torch.cat((second & 63, (third >> 4) | (second >> 2) & 48), dim=1)
    codes = torch.cat([_nibbles(part) for part in blocks[:, 16:].chunk(4, dim=1)], dim=1)
    return codes, _halves(blocks[:, :2]) * scales, -(_halves(blocks[:, 2:4]) * minima)


def _nibbles(octets: Tensor) -> Tensor:
    """All low nibbles of a run of bytes, then all high ones."""
    return torch.cat((octets & 15, octets >> 4), dim=1)


def _halves(octets: Tensor) -> Tensor:
    return octets.contiguous().view(torch.float16).float()
