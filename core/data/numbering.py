"""Decide whether the printed numbers of headings can number the chapters of a book.

They can where they grow through it, a few slips aside. Nothing here looks at the text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["printed_numbers"]

_OUTLIER_SHARE = 0.05


def printed_numbers(values: Sequence[int | None], opens_part: Sequence[bool]) -> list[int | None] | None:
    """A number for each heading that follows print and grows; None for a heading that joins the one before.

    The whole result is None where print does not grow through the book.

    Args:
        values: what the headings print; None where one prints no number.
        opens_part: whether the heading of a part stands right before it.
    """
    printed = [value for value in values if value is not None]
    if not printed or len(printed) < len(values):
        return None
    firsts = [at for at, value in enumerate(printed) if at == 0 or value != printed[at - 1] or opens_part[at]]
    rising = _longest_rising([printed[at] for at in firsts])
    kept = [firsts[place] for place in rising]
    slips = sorted(set(firsts) - set(kept))
    if len(slips) > max(1, int(len(firsts) * _OUTLIER_SHARE)) or len(kept) < 3 * len(slips) or kept[0] != 0:
        return None
    # A part that begins to count anew is no slip, however short it is.
    if any(printed[at] <= 1 and (opens_part[at] or at == len(printed) - 1) for at in slips):
        return None
    numbers: list[int | None] = [None] * len(printed)
    for at in kept:
        numbers[at] = printed[at]
    for at in slips:
        before = next(number for number in reversed(numbers[:at]) if number is not None)
        after = next((number for number in numbers[at + 1 :] if number is not None), before + 2)
        if after - before > 1:
            numbers[at] = before + 1
    return numbers


def _longest_rising(values: Sequence[int]) -> list[int]:
    """Places of a longest strictly rising subsequence (patience sorting)."""
    tails: list[int] = []
    tail_places: list[int] = []
    came_from: list[int] = []
    for place, value in enumerate(values):
        at = bisect_left(tails, value)
        came_from.append(tail_places[at - 1] if at else -1)
        tails[at : at + 1] = [value]
        tail_places[at : at + 1] = [place]
    places: list[int] = []
    place = tail_places[-1] if tail_places else -1
    while place >= 0:
        places.append(place)
        place = came_from[place]
    return places[::-1]
