"""What the engine asks of a matrix, and the plainest kind of one; the low-bit kinds have modules of their own.

A weight knows its product, its rows (for embeddings) and the arrays that a file keeps of it. Products take and give
float32, whatever they compute in. Nothing here knows a layer or a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias

from torch import Tensor
from torch.nn import functional as F

__all__ = ["WIDEN_FROM_TOKENS", "FloatWeight", "Product", "Use", "Weight"]

Product: TypeAlias = Callable[[Tensor], Tensor]
Use: TypeAlias = Literal["rows", "product", "both"]
WIDEN_FROM_TOKENS = 64
"""From so many tokens on, widening a low-bit matrix to bfloat16 is cheaper than a product for few tokens."""


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
        """All that a file must keep to make the same weight again."""

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
