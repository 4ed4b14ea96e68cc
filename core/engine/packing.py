"""Build a weight row by row while a checkpoint streams by, so that its float form is never held whole.

Rows arrive in pieces (queries, then keys, then values), are rounded at once and laid out for the product. Nothing here
knows names or files.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from core.engine.int4_weight import INT4_ROWS, Int4Weight
from core.engine.int8_weight import Int8Weight
from core.engine.lowbit import INT4_MIDDLE, fit_int4, quantize
from core.engine.weights import FloatWeight, Use, Weight
from core.errors import ModelLoadError

__all__ = ["Kind", "WeightBuilder"]

Kind = Literal["float32", "bfloat16", "float16", "int8", "int4"]
TINY = 1e-30
CHUNK_VALUES = 1 << 18
"""Values rounded at once, about: the fit needs some ten times their bytes, which should stay in the cache."""


class WeightBuilder:
    """Collects the rows of one matrix.

    Args:
        group_size: columns that share a scale in 4 bits.
        symmetric: 8-bit rows have their zero in the middle.
        use: what will be asked of the weight.
        balances_columns: 8-bit rows are rounded after each column was divided by the root of its largest number. A wide
            column would otherwise coarsen every row: this takes most of what 8 bits cost Gemma's embedding.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        kind: Kind,
        *,
        group_size: int = 32,
        symmetric: bool = False,
        use: Use = "both",
        balances_columns: bool = False,
    ) -> None:
        self.balances_columns = balances_columns
        self._column_scale: Tensor | None = None
        self.rows, self.columns, self.kind = rows, columns, kind
        self.symmetric, self.group_size, self.use = symmetric, group_size, use
        self._filled = 0
        if kind == "int4":
            self._padded = -(-columns // group_size) * group_size
            blocks = -(-rows // INT4_ROWS)
            self._codes = torch.full((blocks, self._padded, INT4_ROWS // 2), 0x88, dtype=torch.uint8)
            self._pairs = torch.zeros(self._padded // group_size, blocks * INT4_ROWS, 2, dtype=torch.bfloat16)
        elif kind == "int8":
            self._codes = torch.empty(rows, columns, dtype=torch.int8)
            self._scale, self._zero = torch.empty(rows), torch.empty(rows, dtype=torch.int8)
        else:
            self._codes = torch.empty(rows, columns, dtype=getattr(torch, kind))

    @property
    def is_complete(self) -> bool:
        return self._filled == self.rows

    def add(self, start: int, values: Tensor, *, name: str) -> None:
        """Fill rows from ``start`` on.

        Raises:
            ModelLoadError: a value is not finite; the message gives ``name``.
        """
        # Whole blocks of rows are laid out at once.
        per_chunk = max(INT4_ROWS, CHUNK_VALUES // self.columns // INT4_ROWS * INT4_ROWS)
        # Columns can only be balanced where all rows are at hand at once, as those of an embedding are.
        if self.kind == "int8" and self.balances_columns and len(values) == self.rows:
            largest = torch.stack([part.float().abs().amax(0) for part in values.split(per_chunk)]).amax(0)
            scale = largest.clamp(min=TINY).sqrt()
            self._column_scale = scale / scale.mean()
        for first in range(0, len(values), per_chunk):
            chunk = values[first : first + per_chunk].float()
            if not bool(torch.isfinite(chunk).all()):
                raise ModelLoadError(f"the tensor {name!r} holds NaN or infinite values; fetch the checkpoint again")
            self._store(start + first, chunk)
        self._filled += len(values)

    def add_grid(self, start: int, codes: Tensor, scale: Tensor, minimum: Tensor) -> None:
        """Fill rows of a 4-bit matrix with codes that exist already; a value is ``minimum + code * scale``."""
        pairs = torch.stack([scale, minimum + INT4_MIDDLE * scale], dim=-1).transpose(0, 1).to(torch.bfloat16)
        self._store_int4(start, codes, pairs)
        self._filled += len(codes)

    def finish(self) -> Weight:
        """The weight, once all rows are there."""
        if self.kind == "int4":
            return Int4Weight(self._codes, self._pairs, rows=self.rows, columns=self.columns)
        if self.kind == "int8":
            return Int8Weight(self._codes, self._scale, self._zero, use=self.use, column_scale=self._column_scale)
        return FloatWeight(self._codes)

    def _store(self, start: int, chunk: Tensor) -> None:
        stop = start + len(chunk)
        if self.kind == "int4":
            padded = F.pad(chunk, (0, self._padded - self.columns))
            self._store_int4(start, *fit_int4(padded, group_size=self.group_size))
        elif self.kind == "int8":
            balanced = chunk if self._column_scale is None else chunk / self._column_scale
            rounded = quantize(balanced, bits=8, symmetric=self.symmetric)
            self._codes[start:stop] = (rounded.codes.to(torch.int16) - 128).to(torch.int8)
            self._scale[start:stop] = rounded.scale[:, 0]
            self._zero[start:stop] = (rounded.zero[:, 0] - 128).to(torch.int8)
        else:
            self._codes[start:stop] = chunk

    def _store_int4(self, start: int, codes: Tensor, pairs: Tensor) -> None:
        self._pairs[:, start : start + len(codes)] = pairs
        half = INT4_ROWS // 2
        at = 0
        while at < len(codes):
            # Runs of rows that lie in one half of the blocks' nibbles.
            block, row = divmod(start + at, INT4_ROWS)
            if row == 0 and len(codes) - at >= INT4_ROWS:
                count = (len(codes) - at) // INT4_ROWS * INT4_ROWS
                blocks = codes[at : at + count].unflatten(0, (-1, INT4_ROWS)).transpose(1, 2)
                self._codes[block : block + count // INT4_ROWS] = blocks[..., half:] << 4 | blocks[..., :half]
            else:
                count = min(len(codes) - at, half - row % half)
                rows = codes[at : at + count].t()
                place = self._codes[block, :, row % half : row % half + count]
                place.copy_((place & 0xF0 | rows) if row < half else (place & 0x0F | rows << 4))
            at += count
