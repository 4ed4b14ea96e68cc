"""Matrices as the engine multiplies them: float, 8-bit and 4-bit, each with the fastest product torch ships.

A weight knows its product, its rows (for embeddings) and the arrays that a file keeps of it. Products take and give
float32, whatever they compute in. Nothing here knows a layer or a checkpoint.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from core.engine.lowbit import INT4_MIDDLE

__all__ = ["FloatWeight", "Int4Weight", "Int8Weight", "Product", "Use", "Weight", "restore_weight"]

Product: TypeAlias = Callable[[Tensor], Tensor]
Use: TypeAlias = Literal["rows", "product", "both"]

INT4_ROWS = 64
"""Rows in a block of torch's packed 4-bit layout on a CPU with AVX-512."""
TINY = 1e-30
WIDEN_FROM_TOKENS = 64
"""From so many tokens on, widening a 4-bit matrix once should be cheaper than its own product."""


class Weight(Protocol):
    """A matrix, (rows, columns)."""

    kind: str
    rows: int
    columns: int

    def __call__(self, x: Tensor) -> Tensor:
        """x W^T in float32, (tokens, rows), for x in float32, (tokens, columns)."""

    def one_row(self) -> Product:
        """The same for a single token, as fast as it can be made.

        The product keeps buffers of its own, so it serves one caller at a time.
        """

    def take(self, ids: Tensor) -> Tensor:
        """These rows in float32, (..., columns)."""

    def arrays(self) -> dict[str, Tensor]:
        """All that ``restore_weight`` needs to make the same weight."""

    @property
    def num_bytes(self) -> int:
        """Bytes that a product reads."""

    @property
    def held_bytes(self) -> int:
        """Bytes in memory."""


class FloatWeight:
    """A matrix in float32, bfloat16 or float16."""

    kind = "float"

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.rows, self.columns = matrix.shape

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.matrix.dtype), self.matrix).float()

    def one_row(self) -> Product:
        return self

    def take(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.matrix).float()

    def arrays(self) -> dict[str, Tensor]:
        return {"matrix": self.matrix}

    @property
    def num_bytes(self) -> int:
        return self.matrix.numel() * self.matrix.element_size()

    @property
    def held_bytes(self) -> int:
        return self.num_bytes


class Int8Weight:
    """A matrix in 8 bits with a scale and a zero point for each row.

    The product is fbgemm's, of 8-bit activations. Rounding activations to 8 bits would cost several percent of
    perplexity, so each row goes in twice: rounded, and what the rounding left, 254 times as large. Both passes read the
    weights once, so the second is nearly free while one token is decoded. Two columns without weight hold the ends of
    the range, which fixes fbgemm's own choice of a scale to 1.

    Args:
        codes: int8, (rows, columns), the code less 128.
        scale: float32, (rows,).
        zero: int8, (rows,), likewise less 128.
        use: what will be asked of it; an embedding that is no head needs no product, and most matrices no rows.
        column_scale: float32, (columns,), by which the columns were divided before their rows were rounded; None: they
            were not.
    """

    kind = "int8"

    def __init__(
        self, codes: Tensor, scale: Tensor, zero: Tensor, *, use: Use = "both", column_scale: Tensor | None = None
    ) -> None:
        self.rows, self.columns = codes.shape
        self.scale, self.zero, self.column_scale = scale, zero, column_scale
        self._limit, self._narrow = _fbgemm_range()
        has_kernel = codes.device.type == "cpu" and "fbgemm" in _quantized_engines()
        self._packed = self._pack(codes) if has_kernel and use != "rows" else None
        self._codes = codes if use != "product" or self._packed is None else None
        self._padded_columns = -(-(self.columns + 2) // 32) * 32

    @property
    def codes(self) -> Tensor:
        """int8, (rows, columns); taken back from fbgemm where they were not kept."""
        if self._codes is not None:
            return self._codes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            made, _ = torch.ops.quantized.linear_unpack(self._packed)
            return made.int_repr()[:, : self.columns].contiguous()

    def _pack(self, codes: Tensor) -> Any:
        padded = -(-(self.columns + 2) // 32) * 32
        wide = self.zero[:, None].expand(-1, padded).contiguous()
        wide[:, : self.columns] = codes
        # A quantized tensor can only be made from int8 codes by this private name; quantising again would round again.
        with warnings.catch_warnings():
            # torch announces the end of quantized tensors; the supported versions (2.8 to 2.13) all have them.
            warnings.simplefilter("ignore", UserWarning)
            made = torch._make_per_channel_quantized_tensor(wide, self.scale.double(), self.zero.long(), 0)
            return torch.ops.quantized.linear_prepack(made, None)

    def _set_ends(self, rows: Tensor) -> None:
        rows[:, self.columns] = self._limit
        rows[:, self.columns + 1] = -self._limit - 1

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed is None:
            return F.linear(x, self._values())
        if self.column_scale is not None:
            x = x * self.column_scale
        count, limit = len(x), self._limit
        largest = x.abs().amax(-1, keepdim=True).clamp_(min=TINY)
        both = x.new_empty(2 * count, self._padded_columns)
        both[:, self.columns :] = 0
        self._set_ends(both)
        coarse, fine = both[:count, : self.columns], both[count:, : self.columns]
        torch.mul(x, limit / largest, out=coarse)
        torch.sub(coarse, coarse.round(), out=fine).mul_(2 * limit)
        product = torch.ops.quantized.linear_dynamic(both, self._packed, self._narrow)
        return product[:count].add_(product[count:], alpha=0.5 / limit).mul_(largest / limit)

    def one_row(self) -> Product:
        if self._packed is None:
            return self
        limit, packed, narrow = self._limit, self._packed, self._narrow
        multiply = torch.ops.quantized.linear_dynamic.default
        both = torch.zeros(2, self._padded_columns)
        self._set_ends(both)
        view = both[:, : self.columns]
        coarse, fine, rounded = view[:1], view[1:], torch.empty(1, self.columns)
        # One number more, which is not zero, so that the largest never is.
        sizes = torch.full((1, self.columns + 1), TINY)
        own_sizes = sizes[:, : self.columns]
        steps = torch.tensor([[limit], [2 * limit * limit]])
        backs = (1 / steps).t().contiguous()

        def product(x: Tensor) -> Tensor:
            torch.abs(x, out=own_sizes)
            largest = sizes.max()
            torch.mul(x, steps / largest, out=view)
            torch.round(coarse, out=rounded)
            fine.sub_(rounded, alpha=2 * limit)
            return torch.mm(backs * largest, multiply(both, packed, narrow))

        column_scale = self.column_scale
        return product if column_scale is None else lambda x: product(x * column_scale)

    def _values(self) -> Tensor:
        values = (self.codes.float() - self.zero.float()[:, None]) * self.scale[:, None]
        return values if self.column_scale is None else values * self.column_scale

    def take(self, ids: Tensor) -> Tensor:
        codes = F.embedding(ids, self.codes).float()
        values = (codes - self.zero[ids].float()[..., None]) * self.scale[ids][..., None]
        return values if self.column_scale is None else values * self.column_scale

    def arrays(self) -> dict[str, Tensor]:
        arrays = {"codes": self.codes, "scale": self.scale, "zero": self.zero}
        return arrays if self.column_scale is None else {**arrays, "column_scale": self.column_scale}

    @property
    def num_bytes(self) -> int:
        return self.rows * (self._padded_columns + 5)

    @property
    def held_bytes(self) -> int:
        kept = self._codes.numel() if self._codes is not None and self._packed is not None else 0
        return self.num_bytes + kept


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
        self._has_kernel = packed.device.type == "cpu" and _int4_block_rows() == INT4_ROWS
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


def restore_weight(kind: str, arrays: Mapping[str, Tensor], *, rows: int, columns: int, use: Use) -> Weight:
    """The weight whose ``arrays`` these are.

    Args:
        use: what will be asked of it.
    """
    if kind == "float":
        return FloatWeight(arrays["matrix"])
    if kind == "int8":
        scales = arrays.get("column_scale")
        return Int8Weight(arrays["codes"], arrays["scale"], arrays["zero"], use=use, column_scale=scales)
    return Int4Weight(arrays["packed"], arrays["pairs"], rows=rows, columns=columns)


def _quantized_engines() -> list[str]:
    return list(torch.backends.quantized.supported_engines)


def _fbgemm_range() -> tuple[float, bool]:
    """Largest activation code, and whether fbgemm must leave a bit unused: without VNNI its sums overflow 16 bits."""
    has_vnni = getattr(torch.cpu, "_is_vnni_supported", lambda: False)()
    has_vnni = has_vnni or getattr(torch.cpu, "_is_avx512_vnni_supported", lambda: False)()
    return (127.0, False) if has_vnni else (63.0, True)


def _int4_block_rows() -> int:
    return 64 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 0
