"""How a normalised text is cut into pieces: by merging neighbours, or along the best path.

Both give what the sentencepiece library gives, id for id, including its choice among equals. A unit that no piece
stands for comes out as text: only the tokenizer knows how unknown bytes are spelled.

Source:
    github.com/google/sentencepiece, src/bpe_model.cc and src/unigram_model.cc (``EncodeOptimized``),
    version 0.2.3; earlier ones let the sums grow, and choose differently in long texts once in some 10,000 pieces.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.engine.trie import ByteTrie

__all__ = ["BestPathModel", "Cutter", "MergeModel", "PieceFinder"]

HASH_BITS = 22
MEMO_CHARS, MEMO_ENTRIES = 32, 1 << 17
UNKNOWN_PENALTY, USER_BONUS = 10.0, 0.1
HIGHEST_SUM = 100_000.0


class Cutter(Protocol):
    """Cuts normalised text."""

    def cut(self, text: str) -> list[int | str]:
        """Ids in the order of the text; a unit that has none stands there as it is."""


class PieceFinder:
    """Finds whole pieces in a text from the left, the longest where several begin."""

    def __init__(self, pieces: Mapping[str, int]) -> None:
        self._trie = ByteTrie({piece.encode(): value for piece, value in pieces.items()})
        self._max_chars = max(map(len, pieces), default=0)
        firsts = "".join(sorted({piece[0] for piece in pieces}))
        self._first = re.compile(f"[{re.escape(firsts)}]") if firsts else None

    def split(self, text: str) -> Iterator[int | str]:
        """The values of pieces found and the stretches between them; together they make up the text."""
        done, at = 0, 0
        while self._first is not None and (candidate := self._first.search(text, at)):
            at = candidate.start()
            window = text[at : at + self._max_chars].encode()
            found = self._trie.longest_prefix(window)
            if found is None:
                at += 1
                continue
            if done < at:
                yield text[done:at]
            yield found[1]
            done = at = at + len(window[: found[0]].decode())
        if done < len(text):
            yield text[done:]


class MergeModel:
    """Merges the neighbours whose union has the highest score, the leftmost among equals, until none has a piece.

    A text is first cut where no piece holds the two characters side by side: no merge can cross such a place, so that
    what stands between two of them can be remembered. A table of hashes answers that for a whole text at once; where
    two pairs share a hash, a stretch only comes out longer than it need be.
    """

    def __init__(
        self, ids: Mapping[str, int], scores: Sequence[float], *, user: Mapping[str, int], unused: Iterable[int] = ()
    ) -> None:
        self._ids, self._scores = ids, scores
        self._user = PieceFinder(user)
        self._unused = frozenset(unused)
        self._memo: dict[str, tuple[int | str, ...]] = {}
        self._joined: NDArray[np.bool_] | None = None

    def cut(self, text: str) -> list[int | str]:
        """See ``Cutter``."""
        found: list[int | str] = []
        memo = self._memo
        for stretch in self._user.split(text):
            if isinstance(stretch, int):
                found.append(stretch)
                continue
            for segment in self._segments(stretch):
                units = memo.get(segment)
                if units is None:
                    units = self._merge(segment)
                    if len(segment) <= MEMO_CHARS:
                        if len(memo) >= MEMO_ENTRIES:
                            memo.clear()
                        memo[segment] = units
                found.extend(units)
        return found

    def _segments(self, text: str) -> Iterator[str]:
        if self._unused:
            yield text
            return
        if self._joined is None:
            self._joined = np.zeros(1 << HASH_BITS, np.bool_)
            self._joined[_pair_hashes("\0".join(self._ids))] = True
        start = 0
        for stop in (np.flatnonzero(~self._joined[_pair_hashes(text)]) + 1).tolist():
            yield text[start:stop]
            start = stop
        yield text[start:]

    def _merge(self, text: str) -> tuple[int | str, ...]:
        ids, scores = self._ids, self._scores
        symbols = list(text)
        before, after = list(range(-1, len(symbols) - 1)), [*range(1, len(symbols)), -1]
        queue: list[tuple[float, int, int, str]] = []
        parts: dict[str, tuple[str, str]] = {}

        def consider(left: int, right: int) -> None:
            union = symbols[left] + symbols[right]
            number = ids.get(union)
            if number is not None:
                heappush(queue, (-scores[number], left, right, union))
                if number in self._unused:
                    parts[union] = symbols[left], symbols[right]

        for left in range(len(symbols) - 1):
            consider(left, left + 1)
        while queue:
            _, left, right, union = heappop(queue)
            # Either part may have been merged away since, or the right one may have grown.
            if not symbols[left] or not symbols[right] or len(symbols[left]) + len(symbols[right]) != len(union):
                continue
            symbols[left], symbols[right] = union, ""
            after[left] = beyond = after[right]
            if beyond >= 0:
                before[beyond] = left
                consider(left, beyond)
            if before[left] >= 0:
                consider(before[left], left)
        return tuple(unit for symbol in symbols if symbol for unit in self._resolve(symbol, parts))

    def _resolve(self, symbol: str, parts: Mapping[str, tuple[str, str]]) -> Iterator[int | str]:
        """The id of a symbol; an unused piece serves merges only and falls apart again."""
        number = self._ids.get(symbol)
        if number in self._unused and symbol in parts:
            for part in parts[symbol]:
                yield from self._resolve(part, parts)
        else:
            yield symbol if number is None else number


class BestPathModel:
    """Chooses the pieces whose scores add up to most.

    Sums are in single precision, and set back where they grow large, as in the library: among paths that are nearly
    equal the rounding decides.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        scores: Sequence[float],
        *,
        normal: Iterable[int],
        user: Mapping[str, int],
        unused: Iterable[int] = (),
    ) -> None:
        unwanted = set(unused)
        self._trie = ByteTrie({piece.encode(): number for piece, number in ids.items() if number not in unwanted})
        plain = [scores[number] for number in normal]
        self._unknown_score = float(np.float32(min(plain, default=0.0)) - np.float32(UNKNOWN_PENALTY))
        self._scores = list(scores)
        for piece, number in user.items():
            self._scores[number] = float(np.float32(USER_BONUS * (len(piece.encode()) - 1)))

    def cut(self, text: str) -> list[int | str]:
        """See ``Cutter``."""
        data = text.encode()
        scores, prefixes = self._scores, self._trie.prefixes
        best = array("f", bytes(4 * (len(data) + 1)))  # storing rounds to single precision
        came_from, piece_of = [-1] * (len(data) + 1), [-1] * (len(data) + 1)
        rounded = array("f", [0.0])
        start, frontier = 0, 0
        for character in text:
            until_here = best[start]
            if abs(until_here) > HIGHEST_SUM:
                for at in range(start, frontier + 1):
                    if at == start or came_from[at] >= 0:
                        best[at] -= until_here
                until_here = 0.0
            stop = start + len(character.encode())
            has_single = False
            for end, number in prefixes(data, start):
                rounded[0] = scores[number] + until_here
                if came_from[end] < 0 or rounded[0] > best[end]:
                    best[end], came_from[end], piece_of[end] = rounded[0], start, number
                has_single = has_single or end == stop
                frontier = max(frontier, end)
            if not has_single:
                frontier = max(frontier, stop)
                rounded[0] = self._unknown_score + until_here
                if came_from[stop] < 0 or rounded[0] > best[stop]:
                    best[stop], came_from[stop], piece_of[stop] = rounded[0], start, -1
            start = stop
        found: list[int | str] = []
        while start > 0:
            number = piece_of[start]
            found.append(number if number >= 0 else data[came_from[start] : start].decode())
            start = came_from[start]
        found.reverse()
        return found


def _pair_hashes(text: str) -> NDArray[np.uint32]:
    """A number below 2 ** HASH_BITS for each two neighbouring characters."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    mixed = (codes[:-1] * np.uint32(0x9E3779B1)) ^ (codes[1:] * np.uint32(0x85EBCA77))
    return mixed >> np.uint32(32 - HASH_BITS)
