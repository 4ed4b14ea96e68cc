"""Products of one row on an NVIDIA GPU that torch has no kernel for, in Triton, which comes with torch there.

Imported only where a GPU was found. Nothing here knows a layer.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["multiply_int8"]

BLOCK_ROWS, BLOCK_COLUMNS, WARPS = 8, 512, 4


def multiply_int8(x: Tensor, codes: Tensor, scale: Tensor, offset: Tensor, rows: int) -> Tensor:
    """``scale * (codes x) - offset * sum(x)`` in float32, (1, rows).

    Each weight is read once and nothing is rounded but the sum.

    Args:
        x: float32 or bfloat16, (1, columns), as many as the codes have or fewer.
        codes: int8, contiguous, (rows or more, padded columns).
        scale, offset: float32, (rows,).
    """
    out = torch.empty(1, rows, device=x.device)
    grid = (triton.cdiv(rows, BLOCK_ROWS),)
    _int8_rows[grid](
        x, codes, scale, offset, out, rows, x.shape[1], codes.shape[1],
        BLOCK_ROWS=BLOCK_ROWS, BLOCK_COLUMNS=BLOCK_COLUMNS, num_warps=WARPS,
    )  # fmt: skip
    return out


# Triton reads annotations as its own, so only its constants have any.
def _sum_of_rows(  # type: ignore[no-untyped-def]
    x_at, codes_at, scale_at, offset_at, out_at, rows, columns, stride,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    column = tl.arange(0, BLOCK_COLUMNS)
    is_row = row < rows
    # Sixty-four bits: the head of a large vocabulary has more than 2^31 codes.
    line = row.to(tl.int64)[:, None] * stride
    products = tl.zeros((BLOCK_ROWS, BLOCK_COLUMNS), tl.float32)
    values = tl.zeros((BLOCK_COLUMNS,), tl.float32)
    for start in range(0, columns, BLOCK_COLUMNS):
        place = start + column
        is_column = place < columns
        x = tl.load(x_at + place, mask=is_column, other=0.0).to(tl.float32)
        code = tl.load(codes_at + line + place[None, :], mask=is_row[:, None] & is_column[None, :], other=0)
        products += code.to(tl.float32) * x[None, :]
        values += x
    scale = tl.load(scale_at + row, mask=is_row, other=0.0)
    offset = tl.load(offset_at + row, mask=is_row, other=0.0)
    tl.store(out_at + row, tl.sum(products, 1) * scale - tl.sum(values, 0) * offset, mask=is_row)


_int8_rows: Any = triton.jit(_sum_of_rows)
