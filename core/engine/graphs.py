"""Decode one token on a GPU: the whole step is captured once as a graph and replayed, so no operator is launched alone.

It computes what ``Decoder.forward`` computes for one sequence and one token. A graph knows addresses, so each cache has
its own, and gets another when it grows. Nothing here chooses a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from core.engine.cache import StaticCache
from core.model.decoder import Decoder
from core.model.layout import Layout

__all__ = ["GraphDecoder"]

WARM_UPS = 2


@dataclass(frozen=True, slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    room: int
    numbers: Tensor
    logits: Tensor


class GraphDecoder:
    """One token of one sequence at a time, over a decoder that lies on a GPU."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.config = decoder, decoder.config
        self._captured: WeakKeyDictionary[StaticCache, _Captured] = WeakKeyDictionary()
        self._pool: Any = None

    def logits(self, token_id: int, position: int | tuple[int, int], cache: StaticCache) -> Tensor:
        """Logits of the token after this one, float32, (vocab_size,); the cache grows by one column.

        Args:
            position: of the token; both rows' positions for ChatGLM v1.
        """
        cache.reserve(cache.length + 1)
        positions = (position,) if isinstance(position, int) else position
        numbers = torch.tensor([token_id, cache.length, *positions])
        captured = self._captured.get(cache)
        if captured is None or captured.room != cache.room:
            captured = self._capture(numbers, cache)
            self._captured[cache] = captured
        captured.numbers.copy_(numbers)
        captured.graph.replay()
        cache.advance(1)
        # All graphs share their working memory, so another request's step would write over this.
        return captured.logits[0, -1].clone()

    def _capture(self, numbers: Tensor, cache: StaticCache) -> _Captured:
        device = cache.both[0].device
        held = numbers.to(device)
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            # Libraries set themselves up at their first call, which a graph must not hold.
            for _ in range(WARM_UPS):
                self._step(held, cache)
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            logits = self._step(held, cache)
        self._pool = self._pool or graph.pool()
        return _Captured(graph, cache.room, held, logits)

    def _step(self, numbers: Tensor, cache: StaticCache) -> Tensor:
        """Logits, (1, 1, vocab_size), of the token, the column and the positions that stand in ``numbers``."""
        config, column = self.config, numbers[1:2]
        columns = torch.arange(cache.room, device=numbers.device)
        visible = (columns <= column)[None, None]
        sliding = None
        if config.sliding_window is not None:
            sliding = visible & (column - columns < config.sliding_window)
        positions = numbers[2:].view(1, 2, 1) if config.rotary.two_rows else numbers[2:3].view(1, 1)
        return self.decoder(
            numbers[:1].view(1, 1), cache=_WholeRoom(cache, column), layout=Layout(positions, visible, sliding)
        )


class _WholeRoom:
    """A cache that is written at a column known on the GPU alone, and always gives all its columns."""

    def __init__(self, cache: StaticCache, column: Tensor) -> None:
        self._cache, self._column = cache, column

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([keys, values], dim=1).to(self._cache.both[layer].dtype)
        self._cache.both[layer].index_copy_(2, self._column, both)
        return self._cache.keys[layer], self._cache.values[layer]
