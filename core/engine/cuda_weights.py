"""Low-bit matrices on an NVIDIA GPU, multiplied by the kernels that torch has for them.

They are made from the engine's weights of the CPU and hold the same numbers. Nothing here knows a layer, or how weights
are rounded.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from core.engine.int4_weight import INT4_ROWS, Int4Weight
from core.engine.int8_weight import Int8Weight
from core.engine.lowbit import INT4_MIDDLE
from core.engine.weights import WIDEN_FROM_TOKENS, FloatWeight, Product, Use, Weight

__all__ = ["CudaInt4Weight", "CudaInt8Weight", "on_device"]

TINY = 1e-30
TILE_ROWS, TILE_COLUMNS = 8, 16
"""Torch's 4-bit layout is made of tiles of 8 rows and of 16 columns times the number of inner tiles."""
LEAST_ROWS = 32
"""cuBLAS multiplies 8-bit integers for more than 16 rows of activations only."""


def on_device(weight: Weight, device: torch.device, *, use: Use) -> Weight:
    """The weight with its numbers on a device, in the form that is fastest there."""
    if device.type == "cpu":
        return weight
    if isinstance(weight, FloatWeight):
        return FloatWeight(weight.matrix.to(device))
    if isinstance(weight, Int8Weight):
        scale, zero, columns = weight.scale.to(device), weight.zero.to(device), weight.column_scale
        return CudaInt8Weight(
            weight.codes.to(device), scale, zero, column_scale=None if columns is None else columns.to(device)
        )
    assert isinstance(weight, Int4Weight)
    moved = Int4Weight(weight.packed.to(device), weight.pairs.to(device), rows=weight.rows, columns=weight.columns)
    return moved if use == "rows" else CudaInt4Weight(moved, keeps_rows=use == "both")


class CudaInt8Weight:
    """A matrix in 8 bits, multiplied as integers.

    Activations go in as ``Int8Weight`` has them: rounded to 8 bits, and what the rounding left as further rows. For one
    token alone a kernel of our own multiplies them unrounded, where Triton is at hand.

    Args:
        codes: int8, (rows, columns), the code less 128.
        scale: float32, (rows,).
        zero: int8, (rows,), likewise less 128.
        column_scale: float32, (columns,), by which the columns were divided before their rows were rounded.
    """

    kind = "int8"

    def __init__(self, codes: Tensor, scale: Tensor, zero: Tensor, *, column_scale: Tensor | None = None) -> None:
        self.rows, self.columns = codes.shape
        # cuBLAS wants multiples of 8; what is added has no weight.
        self._codes = F.pad(codes, (0, -self.columns % 16, 0, -self.rows % 16))
        self.scale, self.zero, self.column_scale = scale, zero, column_scale
        self._offset = scale * zero.float()

    def __call__(self, x: Tensor) -> Tensor:
        if self.column_scale is not None:
            x = x * self.column_scale
        count, limit = len(x), 127.0
        largest = x.abs().amax(-1, keepdim=True).clamp_(min=TINY)
        scaled = x * (limit / largest)
        coarse = scaled.round()
        fine = (scaled - coarse).mul_(2 * limit).round_()
        both = torch.cat([coarse, fine]).to(torch.int8)
        more_rows = max(LEAST_ROWS - 2 * count, 0)
        both = F.pad(both, (0, self._codes.shape[1] - self.columns, 0, more_rows))
        product = torch._int_mm(both, self._codes.t())[: 2 * count, : self.rows].float()
        rounded = product[:count].add_(product[count:], alpha=0.5 / limit).mul_(largest / limit)
        return rounded.mul_(self.scale).sub_(x.sum(-1, keepdim=True) * self._offset)

    def one_row(self) -> Product:
        try:
            from core.engine.triton_products import multiply_int8
        except ImportError:  # Triton does not come with torch on every system that has a GPU
            return self
        codes, scale, offset, rows, columns = self._codes, self.scale, self._offset, self.rows, self.column_scale
        if columns is None:
            return lambda x: multiply_int8(x, codes, scale, offset, rows)
        return lambda x: multiply_int8(x * columns, codes, scale, offset, rows)

    def take(self, ids: Tensor) -> Tensor:
        codes = F.embedding(ids, self._codes)[..., : self.columns].float()
        values = (codes - self.zero[ids].float()[..., None]) * self.scale[ids][..., None]
        return values if self.column_scale is None else values * self.column_scale

    def arrays(self) -> dict[str, Tensor]:
        arrays = {"codes": self._codes[: self.rows, : self.columns], "scale": self.scale, "zero": self.zero}
        return arrays if self.column_scale is None else {**arrays, "column_scale": self.column_scale}

    @property
    def num_bytes(self) -> int:
        return self._codes.numel() + 5 * self.rows

    @property
    def held_bytes(self) -> int:
        return self.num_bytes + 4 * self.rows


class CudaInt4Weight:
    """A matrix in 4 bits with a scale and an offset for each group of columns of a row.

    Few tokens go through torch's own 4-bit product; for many the matrix is widened to bfloat16.

    Args:
        weight: the matrix in the CPU's layout, its numbers on the GPU.
        keeps_rows: rows will be taken, so that layout is kept as well.
    """

    kind = "int4"

    def __init__(self, weight: Int4Weight, *, keeps_rows: bool) -> None:
        self.rows, self.columns, self.group_size = weight.rows, weight.columns, weight.group_size
        self._pairs = weight.pairs
        blocks, self._padded_columns, _ = weight.packed.shape
        codes = torch.empty(blocks, INT4_ROWS, self._padded_columns, dtype=torch.uint8, device=weight.packed.device)
        by_row = weight.packed.transpose(1, 2)
        codes[:, : INT4_ROWS // 2] = by_row & 15
        codes[:, INT4_ROWS // 2 :] = by_row >> 4
        codes = codes.flatten(0, 1)
        self._inner_tiles = next(tiles for tiles in (8, 4, 2) if self._padded_columns % (tiles * TILE_COLUMNS) == 0)
        self._packed = _pack(codes, self._inner_tiles)
        self._kept = weight if keeps_rows else None

    def __call__(self, x: Tensor) -> Tensor:
        short = self._short(x)
        if len(x) < WIDEN_FROM_TOKENS:
            product = torch._weight_int4pack_mm(short, self._packed, self.group_size, self._pairs)
        else:
            product = F.linear(short, self._widened())
        return product[:, : self.rows].float()

    def one_row(self) -> Product:
        packed, group_size, pairs, rows = self._packed, self.group_size, self._pairs, self.rows
        return lambda x: torch._weight_int4pack_mm(self._short(x), packed, group_size, pairs)[:, :rows].float()

    def take(self, ids: Tensor) -> Tensor:
        assert self._kept is not None, "made for products alone"
        return self._kept.take(ids)

    def arrays(self) -> dict[str, Tensor]:
        assert self._kept is not None, "made for products alone"
        return self._kept.arrays()

    @property
    def num_bytes(self) -> int:
        return 4 * self._packed.numel() + 2 * self._pairs.numel()

    @property
    def held_bytes(self) -> int:
        return self.num_bytes + (self._kept.packed.numel() if self._kept is not None else 0)

    def _short(self, x: Tensor) -> Tensor:
        missing = self._padded_columns - self.columns
        return F.pad(x.to(torch.bfloat16), (0, missing)) if missing else x.to(torch.bfloat16)

    def _widened(self) -> Tensor:
        """W in bfloat16, (padded rows, padded columns)."""
        width = self._inner_tiles * TILE_COLUMNS
        codes = _unpack(self._packed)[:, :, _places(self._inner_tiles, self._packed.device)]
        codes = codes.view(codes.shape[0], codes.shape[1], TILE_ROWS, width).transpose(1, 2).flatten(0, 1).flatten(1)
        groups = codes.to(torch.bfloat16).unflatten(1, (-1, self.group_size))
        scale, offset = self._pairs.transpose(0, 1).unbind(-1)
        return groups.sub_(INT4_MIDDLE).mul_(scale[..., None]).add_(offset[..., None]).flatten(1)


def _pack(codes: Tensor, inner_tiles: int) -> Tensor:
    """Codes, uint8, (rows, columns), in the layout of torch's 4-bit product, int32."""
    return torch._convert_weight_to_int4pack((codes[:, ::2] << 4 | codes[:, 1::2]).contiguous(), inner_tiles)


def _unpack(packed: Tensor) -> Tensor:
    """The codes of each tile in the order in which they lie in memory, uint8, (tile rows, tile columns, codes)."""
    pairs = packed.flatten(2).view(torch.uint8)
    return torch.stack([pairs & 15, pairs >> 4], dim=-1).flatten(2)


@cache
def _places(inner_tiles: int, device: torch.device) -> Tensor:
    """Where in its tile's memory each code of a tile lies; found by packing a tile that holds its codes' numbers.

    The layout is torch's own affair, so it is asked and not written down.
    """
    width = inner_tiles * TILE_COLUMNS
    numbers = torch.arange(TILE_ROWS * width, device=device).view(TILE_ROWS, width)
    found = torch.zeros(TILE_ROWS * width, dtype=torch.long, device=device)
    for shift in (0, 4, 8):
        digits = (numbers >> shift & 15).to(torch.uint8)
        found |= _unpack(_pack(digits, inner_tiles)).flatten().long() << shift
    return found.argsort()
