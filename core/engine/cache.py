"""Keys and values of the tokens computed so far, in memory that is written in place.

The room doubles when it is full, so a short answer never pays for the whole context. Nothing here knows a network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.model.config import DecoderConfig

__all__ = ["StaticCache"]

FIRST_ROOM = 256


class StaticCache:
    """A cache for a batch of sequences of one length.

    Attributes:
        length: columns in use, the prefix's among them.
        both: one tensor a layer, (batch, 2 * kv_heads, room, head_dim), keys before values, so that a token's are
            written at once. On a CPU float32: there the products of one query take nearly twice as long in bfloat16.
        keys, values: the halves of each.
        first: of each layer the three for the first sequence.
    """

    def __init__(
        self,
        config: DecoderConfig,
        *,
        batch: int = 1,
        room: int = FIRST_ROOM,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.config, self.length, self.room = config, 0, room
        shape = (batch, 2 * config.num_kv_heads, room, config.head_dim)
        self._hold([torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_layers)])

    def _hold(self, both: list[Tensor]) -> None:
        self.both = both
        self.keys = [store[:, : self.config.num_kv_heads] for store in both]
        self.values = [store[:, self.config.num_kv_heads :] for store in both]
        self.first = [
            (one[0], keys[0], values[0]) for one, keys, values in zip(both, self.keys, self.values, strict=True)
        ]

    def seed(self, start: list[tuple[Tensor, Tensor]]) -> None:
        """Put a P-tuning prefix in front."""
        for layer, (keys, values) in enumerate(start):
            self.append(layer, keys, values)
        self.advance(self.config.prefix_tokens)

    @property
    def num_bytes(self) -> int:
        """Bytes in memory."""
        return sum(tensor.nbytes for tensor in self.both)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write behind what is there, and give all columns; ``advance`` makes the new ones count."""
        stop = self.length + keys.shape[2]
        self.reserve(stop)
        self.keys[layer][:, :, self.length : stop] = keys
        self.values[layer][:, :, self.length : stop] = values
        return self.keys[layer][:, :, :stop], self.values[layer][:, :, :stop]

    def advance(self, count: int) -> None:
        """The last ``count`` columns written now belong to the cache."""
        self.length += count

    def crop(self, length: int) -> None:
        """Forget all columns from ``length`` on."""
        self.length = min(self.length, length)

    def reserve(self, columns: int) -> None:
        """Make room for so many columns."""
        if columns <= self.room:
            return
        room = max(columns, 2 * self.room)
        wider = []
        for old in self.both:
            wide = old.new_zeros(*old.shape[:2], room, old.shape[3])
            wide[:, :, : self.length] = old[:, :, : self.length]
            wider.append(wide)
        self._hold(wider)
        self.room = room
