"""Colours that tell passages apart, the same in the window, in pictures and on the page.

Every palette was chosen to be told apart with the common kinds of colour blindness; ``tests/viewer/test_colours.py``
simulates them. Sequential scales rise evenly in lightness, so that they also read in grey.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["CIVIDIS", "CLASS_COLOURS", "RGB", "VIRIDIS", "class_colour", "ramp", "scale_on"]

RGB = tuple[int, int, int]

# Okabe and Ito (2008), black replaced, one tone added; the light theme's yellow is greener, to differ from its orange.
CLASS_COLOURS: dict[str, tuple[RGB, ...]] = {
    "dark": ((86, 180, 233), (230, 159, 0), (0, 158, 115), (213, 94, 0), (204, 121, 167), (240, 228, 66),
             (64, 110, 200), (190, 190, 200)),
    "light": ((0, 114, 178), (222, 143, 5), (0, 140, 102), (200, 80, 0), (196, 104, 158), (222, 214, 40),
              (70, 170, 225), (70, 70, 78)),
}  # fmt: skip
"""Of kinds without an order, by theme, the most frequent first."""
SHADES = (0.0, -0.32, 0.45)  # classes beyond the palette take its colours again, darker, then paler

# Anchors of cividis (Nunez, Anderton, Renslow 2018) and viridis (van der Walt, Smith 2015), from the published tables.
CIVIDIS: tuple[RGB, ...] = (
    (0, 34, 78), (53, 69, 108), (102, 105, 112), (148, 142, 119), (200, 184, 102), (254, 232, 56),
)  # fmt: skip
VIRIDIS: tuple[RGB, ...] = (
    (68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37),
)  # fmt: skip


def class_colour(theme: str, number: int) -> RGB:
    """The colour of a class on the theme ``"dark"`` or ``"light"``: the palette, then its darker and paler shades."""
    base = CLASS_COLOURS[theme][number % len(CLASS_COLOURS[theme])]
    shade = SHADES[number // len(CLASS_COLOURS[theme]) % len(SHADES)]
    end = 255 if shade > 0 else 0
    red, green, blue = (round(channel + abs(shade) * (end - channel)) for channel in base)
    return red, green, blue


def ramp(shares: NDArray[np.floating], anchors: Sequence[RGB]) -> NDArray[np.uint8]:
    """(n, 3) uint8: colours along a scale for shares 0 to 1."""
    stops = np.linspace(0, 1, len(anchors))
    table = np.asarray(anchors, np.float64)
    channels = [np.interp(np.clip(shares, 0, 1), stops, table[:, i]) for i in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def scale_on(theme: str, anchors: Sequence[RGB]) -> tuple[RGB, ...]:
    """The scale without the end that drowns in the theme's background."""
    low, high = (0.14, 1.0) if theme == "dark" else (0.0, 0.9)
    colours = ramp(np.linspace(low, high, len(anchors)), anchors)
    return tuple((int(red), int(green), int(blue)) for red, green, blue in colours)
