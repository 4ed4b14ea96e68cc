"""Decode one token on a GPU: the whole step is captured once as a graph and replayed, so no operator is launched alone.

It computes what ``StepDecoder`` computes on a CPU. A graph knows addresses and no lengths, so each cache has its own,
which looks at all of the cache's room and gets another when the cache grows. Nothing here chooses a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from core.engine.cache import StaticCache
from core.engine.step import StepLayer, fast_norm, one_row_product
from core.model.decoder import Decoder

__all__ = ["GraphDecoder"]

WARM_UPS = 2


@dataclass(frozen=True, slots=True)
class _Captured:
    """A graph with the tensors through which it is spoken to.

    Attributes:
        embedded: float32, (1, hidden_dim): the token.
        numbers: int64: its column in the cache, its one or two positions.
        logits: float32, (1, vocab_size).
    """

    graph: torch.cuda.CUDAGraph
    room: int
    embedded: Tensor
    numbers: Tensor
    logits: Tensor


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a token's keys and values go, and what it sees: 0, or minus infinity, for each column of the room."""

    cache: StaticCache
    column: Tensor
    full: Tensor
    sliding: Tensor


class GraphDecoder:
    """One token of one sequence at a time, over a decoder that lies on a GPU."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.config = decoder, decoder.config
        self.layers = [_RoomLayer(self.config, number, layer) for number, layer in enumerate(decoder.layers)]
        self.final_norm, self.head = fast_norm(decoder.final_norm), one_row_product(decoder.head)
        self._captured: WeakKeyDictionary[StaticCache, _Captured] = WeakKeyDictionary()
        self._pool: Any = None

    def logits(self, token_id: int, position: int | tuple[int, int], cache: StaticCache) -> Tensor:
        """Logits of the token after this one, float32, (vocab_size,); the cache grows by one column.

        Args:
            position: of the token; both rows' positions for ChatGLM v1.
        """
        cache.reserve(cache.length + 1)
        positions = (position,) if isinstance(position, int) else position
        device = cache.both[0].device
        numbers = torch.tensor([cache.length, *positions], device=device)
        # Outside the graph, since the embedding may have stayed in the CPU's memory.
        embedded = self.decoder.embedding(torch.tensor([token_id], device=device))
        captured = self._captured.get(cache)
        if captured is None or captured.room != cache.room:
            captured = self._capture(embedded, numbers, cache)
            self._captured[cache] = captured
        captured.embedded.copy_(embedded)
        captured.numbers.copy_(numbers)
        captured.graph.replay()
        cache.advance(1)
        # All graphs share their working memory, so another request's step may write over this.
        return captured.logits[0].clone()

    def _capture(self, embedded: Tensor, numbers: Tensor, cache: StaticCache) -> _Captured:
        device = numbers.device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            # Libraries set themselves up at their first call, which a graph must not hold.
            for _ in range(WARM_UPS):
                self._step(embedded, numbers, cache)
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            logits = self._step(embedded, numbers, cache)
        self._pool = self._pool or graph.pool()
        return _Captured(graph, cache.room, embedded, numbers, logits)

    def _step(self, embedded: Tensor, numbers: Tensor, cache: StaticCache) -> Tensor:
        config, column, positions = self.config, numbers[:1], numbers[1:]
        x = embedded * config.embedding_scale
        full = local = _turns(positions, self.decoder.rotary_frequencies)
        if config.local_rotary:
            local = _turns(positions, self.decoder.local_frequencies)
        place = self._place(column, cache)
        for layer in self.layers:
            x = layer(x, local if layer.slides else full, place)
        return self.head(self.final_norm(x))

    def _place(self, column: Tensor, cache: StaticCache) -> _Place:
        columns = torch.arange(cache.room, device=column.device)
        zeros = torch.zeros(1, 1, cache.room, dtype=cache.both[0].dtype, device=column.device)
        full = sliding = zeros.masked_fill(columns > column, -torch.inf)
        if self.config.sliding_window is not None:
            sliding = full.masked_fill(columns <= column - self.config.sliding_window, -torch.inf)
        return _Place(cache, column, full, sliding)


class _RoomLayer(StepLayer):
    """A block that attends over all of a cache's room, what is not visible being masked."""

    def attend(self, x: Tensor, angles: Tensor, place: Any) -> Tensor:
        heads = self.turned_heads(x, angles)
        both, keys, values = place.cache.first[self.number]
        both.index_copy_(1, place.column, heads[self.num_heads :, None].to(both.dtype))
        queries = heads[: self.num_heads].view(self.grouped).to(both.dtype)
        unseen = place.sliding if self.slides else place.full
        scores = torch.baddbmm(unseen, queries, keys.transpose(1, 2), alpha=self.scale)
        return torch.bmm(torch.softmax(scores, -1), values).view(1, -1)


def _turns(positions: Tensor, frequencies: Tensor) -> Tensor:
    """The turns of the token's pairs as complex numbers, (pairs,); of both rows one after the other."""
    angles = (positions[:, None].float() * frequencies).flatten()
    return torch.polar(torch.ones_like(angles), angles)
