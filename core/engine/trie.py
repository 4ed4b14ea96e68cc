"""Which pieces of a vocabulary begin at a place of a byte string.

A vocabulary of 262,144 pieces would need a million nodes, of which a text visits few thousand. So the pieces are kept
sorted, and a node is made of its range in that order when somebody walks there. Nothing here knows what a piece means.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping

__all__ = ["ByteTrie"]


class _Node:
    """Pieces with a common beginning of ``depth`` bytes: those of the sorted list from ``low`` to ``high``."""

    __slots__ = ("children", "depth", "high", "low", "value")

    def __init__(self, low: int, high: int, depth: int) -> None:
        self.low, self.high, self.depth = low, high, depth
        self.value: int | None = None
        self.children: dict[int, _Node] | None = None


class ByteTrie:
    """A table of byte strings that finds those which begin at a given place."""

    def __init__(self, pieces: Mapping[bytes, int] | None = None) -> None:
        self._pieces = sorted((pieces or {}).items())
        self._keys = [piece for piece, _ in self._pieces]
        self._root = self._node(0, len(self._keys), 0)

    def insert(self, piece: bytes, value: int) -> None:
        """Add a piece, or give one that is there another value.

        Raises:
            ValueError: the piece is empty.
        """
        if not piece:
            raise ValueError("an empty piece would begin everywhere")
        node = self._root
        for depth, byte in enumerate(piece, start=1):
            children = self._children(node)
            if byte not in children:
                children[byte] = self._node(0, 0, depth)
            node = children[byte]
        node.value = value

    def longest_prefix(self, data: bytes, start: int = 0) -> tuple[int, int] | None:
        """The end and the value of the longest piece that begins at ``start``; None where no piece does."""
        return max(self.prefixes(data, start), default=None)

    def prefixes(self, data: bytes, start: int = 0) -> Iterator[tuple[int, int]]:
        """The end and the value of each piece that begins at ``start``, shortest first."""
        node = self._root
        for at in range(start, len(data)):
            children = node.children
            if children is None:
                children = self._children(node)
            if data[at] not in children:
                return
            node = children[data[at]]
            if node.value is not None:
                yield at + 1, node.value

    def _node(self, low: int, high: int, depth: int) -> _Node:
        node = _Node(low, high, depth)
        if depth and low < high and len(self._keys[low]) == depth:
            node.value = self._pieces[low][1]
        return node

    def _children(self, node: _Node) -> dict[int, _Node]:
        if node.children is not None:
            return node.children
        children: dict[int, _Node] = {}
        keys, depth, low = self._keys, node.depth, node.low
        if low < node.high and len(keys[low]) == depth:
            low += 1  # the piece that ends here sorts before all that go on
        while low < node.high:
            byte = keys[low][depth]
            # The first key beyond those that go on with this byte.
            high = bisect_left(keys, keys[low][:depth] + bytes([byte + 1]), low, node.high) if byte < 255 else node.high
            children[byte] = self._node(low, high, depth + 1)
            low = high
        node.children = children
        return children
