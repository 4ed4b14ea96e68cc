"""Words of a Chinese text that no dictionary knows: its people, places and things, which must not be cut apart.

A string of two to four characters is a word if its parts come together far more often than by chance, and if what
stands before and after it varies freely. Nothing here needs a dictionary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["find_words"]

LONGEST = 4
COHESION, FREEDOM = 4.0, 1.6  # nats
FEWEST, PER_CHARACTERS = 8, 60_000
_RUN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]+")


def find_words(texts: Iterable[str]) -> dict[str, int]:
    """How often each found word occurs.

    Source:
        The pointwise mutual information of a string's parts, and the entropy of its neighbours: S. Feng et al.,
        "Accessor variety criteria for Chinese word extraction", 2004, in the form that open-source tools use.
    """
    # One line between runs, so that no string reaches over punctuation.
    text = "\n".join(run for each in texts for run in _RUN.findall(each))
    if len(text) <= LONGEST:
        return {}
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    letters, ids = np.unique(codes, return_inverse=True)
    ids = ids.ravel().astype(np.int64) + 1  # 0 pads
    wall = int(np.searchsorted(letters, ord("\n"))) + 1 if "\n" in text else 0
    base = len(letters) + 1
    padded = np.concatenate([ids, np.full(LONGEST, wall)])
    total = len(ids)
    least = max(FEWEST, total // PER_CHARACTERS)
    counts: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    for length in range(1, LONGEST + 1):
        counts[length] = np.unique(_grams(padded, total, length, base), return_counts=True)
    found: dict[str, int] = {}
    for length in range(2, LONGEST + 1):
        grams, number = counts[length]
        kept = number >= least
        kept[kept] &= _has_no_wall(grams[kept], length, base, wall)
        grams, number = grams[kept], number[kept]
        kept = _cohesion(grams, number, length, base, total, counts) >= COHESION + (length - 2)
        grams, number = grams[kept], number[kept]
        kept = _freedom(grams, padded, total, length, base) >= FREEDOM
        for gram, times in zip(grams[kept].tolist(), number[kept].tolist(), strict=True):
            found["".join(chr(letters[digit - 1]) for digit in _digits(gram, length, base))] = times
    return found


def _grams(padded: NDArray[np.int64], total: int, length: int, base: int) -> NDArray[np.int64]:
    """Every string of that length as one number, its first character the highest digit; (total,)."""
    grams = np.zeros(total, np.int64)
    for place in range(length):
        grams = grams * base + padded[place : place + total]
    return grams


def _digits(gram: int, length: int, base: int) -> list[int]:
    digits = []
    for _ in range(length):
        gram, digit = divmod(gram, base)
        digits.append(digit)
    return digits[::-1]


def _has_no_wall(grams: NDArray[np.int64], length: int, base: int, wall: int) -> NDArray[np.bool_]:
    whole = np.ones(len(grams), bool)
    for _ in range(length):
        whole &= grams % base != wall
        grams = grams // base
    return whole


def _cohesion(
    grams: NDArray[np.int64],
    number: NDArray[np.int64],
    length: int,
    base: int,
    total: int,
    counts: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> NDArray[np.float64]:
    """Mutual information of the parts, cut where it is least; nats."""
    least = np.full(len(grams), np.inf)
    for cut in range(1, length):
        tail = base ** (length - cut)
        parts = ((cut, grams // tail), (length - cut, grams % tail))
        chance = np.zeros(len(grams))
        for size, part in parts:
            known, times = counts[size]
            chance += np.log(times[np.searchsorted(known, part)] / total)
        least = np.minimum(least, np.log(number / total) - chance)
    return least


def _freedom(
    grams: NDArray[np.int64], padded: NDArray[np.int64], total: int, length: int, base: int
) -> NDArray[np.float64]:
    """Entropy of the character before or of that after, whichever varies less; nats."""
    if not len(grams):
        return np.zeros(0)
    everywhere = _grams(padded, total, length, base)
    place = np.searchsorted(grams, everywhere)
    place[place == len(grams)] = 0
    at = np.flatnonzero(grams[place] == everywhere)
    owner = place[at]
    before = np.where(at > 0, padded[at - 1], 0)
    after = padded[at + length]
    return np.minimum(_entropy(owner, before, len(grams), base), _entropy(owner, after, len(grams), base))


def _entropy(owner: NDArray[np.intp], letter: NDArray[np.int64], number: int, base: int) -> NDArray[np.float64]:
    pairs, times = np.unique(owner.astype(np.int64) * base + letter, return_counts=True)
    owners = pairs // base
    sums = np.bincount(owners, times, minlength=number)
    shares = times / sums[owners]
    return np.bincount(owners, -shares * np.log(shares), minlength=number).astype(np.float64)
