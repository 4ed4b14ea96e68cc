"""How a reader writes which chapters are meant: ``3-10``, ``3-``, ``-10``, ``7``, or nothing for all of them."""

from __future__ import annotations

import re

from core.errors import SettingsError

__all__ = ["chapters_from"]


def chapters_from(given: str) -> tuple[int | None, int | None]:
    """First and last chapter; None where the reader leaves it open.

    Raises:
        SettingsError: it is written otherwise.
    """
    # A dash as Chinese and English keyboards have it.
    found = re.fullmatch(r"(\d{0,9})\s*([-–—~～到至]?)\s*(\d{0,9})", given.strip())
    if found is None or (found[2] and not found[1] and not found[3]):
        raise SettingsError(f"{given!r} is no span of chapters; write 3-10, 3-, -10 or 7")
    first, last = (int(digits) if digits else None for digits in (found[1], found[3]))
    return (first, last) if found[2] else (first, first)
