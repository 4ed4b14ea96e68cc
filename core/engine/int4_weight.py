"""A matrix in 4 bits, multiplied by the kernel that torch has for it.

Nothing here knows a layer, or how weights are rounded.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from core.engine.cpu import has_int4_products
from core.engine.lowbit import INT4_MIDDLE
from core.engine.weights import WIDEN_FROM_TOKENS, Product

__all__ = ["INT4_ROWS", "Int4Weight"]

INT4_ROWS = 64
"""Rows in a block of torch's packed 4-bit layout on a CPU with AVX-512."""


class Int4Weight:
    """A matrix in 4 bits with a scale and an offset for each group of columns of a row.

    Args:
        packed: uint8, (blocks, columns, 32), in torch's layout for AVX-512: byte j of a column holds the codes of rows
            j (low nibble) and j + 32 of its block of 64. Rows are padded to whole blocks, columns to whole groups.
        pairs: bfloat16, (groups, padded rows, 2), scale and offset.
    """

    kind = "int4"

    def __init__(self, packed: Tensor, pairs: Tensor, *, rows: int, columns: int) -> None:
        self.packed, self.pairs = packed, pairs
        self.rows, self.columns = rows, columns
        self._padded_columns = packed.shape[1]
        self.group_size = self._padded_columns // pairs.shape[0]
        self._has_kernel = packed.device.type == "cpu" and has_int4_products()
        self._for_kernel = packed.reshape(-1, self._padded_columns // 2)

    def __call__(self, x: Tensor) -> Tensor:
        short = x.to(torch.bfloat16)
        if self._padded_columns != self.columns:
            short = F.pad(short, (0, self._padded_columns - self.columns))
        if self._has_kernel and len(x) < WIDEN_FROM_TOKENS:
            product = torch.ops.aten._weight_int4pack_mm_for_cpu(short, self._for_kernel, self.group_size, self.pairs)
        else:
            product = short @ self._widened()
        return product[:, : self.rows].float()

    def one_row(self) -> Product:
        if not self._has_kernel or self._padded_columns != self.columns:
            return self
        multiply, short = torch._weight_int4pack_mm_for_cpu, torch.empty(1, self.columns, dtype=torch.bfloat16)
        packed, pairs, group_size, rows = self._for_kernel, self.pairs, self.group_size, self.rows
        if pairs.shape[1] == rows:
            return lambda x: multiply(short.copy_(x), packed, group_size, pairs).float()
        return lambda x: multiply(short.copy_(x), packed, group_size, pairs)[:, :rows].float()

    def _widened(self) -> Tensor:
        """W^T in bfloat16, (padded columns, padded rows)."""
        blocks, columns, _ = self.packed.shape
        out = torch.empty(columns, blocks, INT4_ROWS, dtype=torch.bfloat16, device=self.packed.device)
        by_column = self.packed.transpose(0, 1)
        half = INT4_ROWS // 2
        out[..., :half].copy_(by_column & 15)
        out[..., half:].copy_(by_column >> 4)
        flat = out.view(self.pairs.shape[0], self.group_size, -1)
        scale, offset = self.pairs[:, None, :, 0], self.pairs[:, None, :, 1]
        return flat.mul_(scale).add_(offset - INT4_MIDDLE * scale).view(columns, -1)

    def take(self, ids: Tensor) -> Tensor:
        flat = ids.reshape(-1)
        block, row = flat // INT4_ROWS, flat % INT4_ROWS
        both = self.packed[block, :, row % 32]
        codes = torch.where((row < 32)[:, None], both & 15, both >> 4).float()
        pairs = self.pairs[:, flat].float().transpose(0, 1)
        groups = codes.unflatten(1, (-1, self.group_size)) - INT4_MIDDLE
        values = groups * pairs[..., :1] + pairs[..., 1:]
        return values.flatten(1)[:, : self.columns].view(*ids.shape, -1)

    def arrays(self) -> dict[str, Tensor]:
        return {"packed": self.packed, "pairs": self.pairs}

    @property
    def num_bytes(self) -> int:
        return self.packed.numel() + 2 * self.pairs.numel()

    @property
    def held_bytes(self) -> int:
        return self.num_bytes
