"""A matrix in 8 bits, multiplied by fbgemm with activations that keep 16.

Nothing here knows a layer, or how weights are rounded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, cached_property, partial
from threading import Semaphore
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from core.engine.cpu import has_bfloat16_products, has_vnni, quantized_engines
from core.engine.weights import WIDEN_FROM_TOKENS, Product, Use

__all__ = ["Int8Weight"]

TINY = 1e-30
PACKERS = 2


class Int8Weight:
    """A matrix in 8 bits with a scale and a zero point for each row.

    The product is fbgemm's, of 8-bit activations. Rounding activations to 8 bits would cost several percent of
    perplexity, so each row goes in twice: rounded, and what the rounding left, 254 times as large. Both passes read the
    weights once, so the second is nearly free while one token is decoded. Two columns without weight hold the ends of
    the range, which fixes fbgemm's own choice of a scale to 1. Many tokens at once are multiplied in bfloat16 where the
    CPU has instructions for that and the codes are kept: then the second pass costs more than widening the codes.

    Args:
        codes: int8, (rows, columns), the code less 128.
        scale: float32, (rows,).
        zero: int8, (rows,), likewise less 128.
        use: what will be asked of it; an embedding that is no head needs no product, and a large model's matrices no
            rows. With both, the codes are kept beside what fbgemm made of them.
        column_scale: float32, (columns,), by which the columns were divided before their rows were rounded; None: they
            were not.
        is_mapped: the codes are a file's own pages. They are kept, since they cost nothing, and laid out for the
            product in the background: a model opens at once, and its first product waits for what is not there yet.
    """

    kind = "int8"

    def __init__(
        self,
        codes: Tensor,
        scale: Tensor,
        zero: Tensor,
        *,
        use: Use = "both",
        column_scale: Tensor | None = None,
        is_mapped: bool = False,
    ) -> None:
        self.rows, self.columns = codes.shape
        self.scale, self.zero, self.column_scale = scale, zero, column_scale
        self._limit, self._narrow = _fbgemm_range()
        self._padded_columns = -(-(self.columns + 2) // 32) * 32
        self._is_packed = codes.device.type == "cpu" and "fbgemm" in quantized_engines() and use != "rows"
        self._is_mapped = is_mapped
        # Mapped or not, so that a model gives the same logits from its file as before it was written.
        self._widens = use == "both" and has_bfloat16_products()
        self._codes = codes if is_mapped or use != "product" or not self._is_packed else None
        if self._is_packed:
            _warn_of_quantized_tensors_once()
            self._packing = _in_background(partial(self._pack, codes)) if is_mapped else None
            if self._packing is None:
                self._packed = self._pack(codes)

    @cached_property
    def _packed(self) -> Any:
        assert self._packing is not None
        made, self._packing = self._packing.result(), None
        return made

    @property
    def codes(self) -> Tensor:
        """int8, (rows, columns); taken back from fbgemm where they were not kept."""
        if self._codes is not None:
            return self._codes
        made, _ = torch.ops.quantized.linear_unpack(self._packed)
        return made.int_repr()[:, : self.columns].contiguous()

    def _pack(self, codes: Tensor) -> Any:
        wide = self.zero[:, None].expand(-1, self._padded_columns).contiguous()
        wide[:, : self.columns] = codes
        # A quantized tensor can only be made from int8 codes by this private name; quantising again would round again.
        made = torch._make_per_channel_quantized_tensor(wide, self.scale.double(), self.zero.long(), 0)
        return torch.ops.quantized.linear_prepack(made, None)

    def _set_ends(self, rows: Tensor) -> None:
        rows[:, self.columns] = self._limit
        rows[:, self.columns + 1] = -self._limit - 1

    def __call__(self, x: Tensor) -> Tensor:
        if not self._is_packed:
            return F.linear(x, self._values())
        if self.column_scale is not None:
            x = x * self.column_scale
        if self._widens and self._codes is not None and len(x) >= WIDEN_FROM_TOKENS:
            # A code less its zero point has 9 bits, which bfloat16 holds exactly.
            exact = self._codes.to(torch.bfloat16).sub_(self.zero.to(torch.bfloat16)[:, None])
            return F.linear(x.to(torch.bfloat16), exact).float().mul_(self.scale)
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
        if not self._is_packed:
            return self
        limit, narrow = self._limit, self._narrow
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
            return torch.mm(backs * largest, multiply(both, self._packed, narrow))

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
        keeps_both = self._codes is not None and self._is_packed and not self._is_mapped
        return self.num_bytes + (self._codes.numel() if keeps_both and self._codes is not None else 0)


def _in_background(work: Callable[[], Any]) -> Future[Any]:
    """Start the work in one of two threads; when both are busy, wait: each holds a copy of a matrix."""
    pool, free = _packers()
    free.acquire()

    def run() -> Any:
        try:
            return work()
        finally:
            free.release()

    return pool.submit(run)


@cache
def _packers() -> tuple[ThreadPoolExecutor, Semaphore]:
    return ThreadPoolExecutor(PACKERS, thread_name_prefix="novelscope-pack"), Semaphore(PACKERS + 1)


@cache
def _warn_of_quantized_tensors_once() -> None:
    """Let torch announce the end of quantized tensors, which it does once: versions 2.8 to 2.13 all have them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch._make_per_channel_quantized_tensor(
            torch.zeros(1, 1, dtype=torch.int8), torch.ones(1).double(), torch.zeros(1).long(), 0
        )


def _fbgemm_range() -> tuple[float, bool]:
    """Largest activation code, and whether fbgemm must leave a bit unused."""
    return (127.0, False) if has_vnni() else (63.0, True)
