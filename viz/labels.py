"""Where words stand in a picture: over their place, never over each other, fewer when the map is far away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from core.data.palette import RGB
from viz.camera import Matrices
from viz.colours import Entry, Theme
from viz.drawing import Label

__all__ = ["Placed", "legend_plates", "place_labels"]

GAP_PX = 4.0
# At zoom 1 a cluster's name shows from this share of the largest cluster's size; nearer by, from a smaller one.
SMALLEST_SHARE = 0.12
FADE_BEHIND = 0.45  # of the opacity that a name at the far side of the map keeps


@dataclass(frozen=True, slots=True)
class Placed:
    """Words in the picture: left top corner in whole pixels, opacity 0 to 1."""

    label: Label
    left: int
    top: int
    height_px: int
    opacity: float


def place_labels(
    labels: Sequence[Label],
    matrices: Matrices,
    scale: float,
    measure: Callable[[str, int], tuple[int, int]],
    zoom: float,
) -> list[Placed]:
    """Labels that are shown, the most important first.

    Args:
        scale: pixels in a unit.
        measure: (text, height in pixels) to (width, height) of the drawn words in pixels.
        zoom: of the camera.
    """
    if not labels:
        return []
    width, height = matrices.size
    seen = matrices.project(np.array([label.place for label in labels]))
    largest = max((label.priority for label in labels if label.fades), default=1.0)
    taken: list[tuple[float, float, float, float]] = []
    placed = []
    for index in sorted(range(len(labels)), key=lambda i: (-labels[i].priority, i)):
        label, (x, y, depth) = labels[index], seen[index]
        if depth <= 0 or not (0 <= x <= width and 0 <= y <= height):
            continue
        if label.fades and label.priority < largest * SMALLEST_SHARE / max(zoom, 0.1) ** 1.5:
            continue
        height_px = max(8, round(label.height * scale))
        wide, tall = measure(label.text, height_px)
        left = round(x - wide / 2)
        top = round(y - tall / 2 if label.lift == 0 else y - tall - label.lift * scale * 0.5)
        left = int(np.clip(left, 2, max(2, width - wide - 2)))
        top = int(np.clip(top, 2, max(2, height - tall - 2)))
        box = (left - GAP_PX, top - GAP_PX, left + wide + GAP_PX, top + tall + GAP_PX)
        if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
            continue
        taken.append(box)
        opacity = 1.0
        if label.fades:
            beyond = (depth - matrices.distance + 1.0) / 2.0  # 0 at the near side of the map, 1 at its far side
            opacity = 1.0 - (1.0 - FADE_BEHIND) * float(np.clip(beyond, 0.0, 1.0))
        placed.append(Placed(label, left, top, height_px, opacity))
    return placed


def legend_plates(
    title: str,
    entries: Sequence[Entry],
    theme: Theme,
    size: tuple[int, int],
    scale: float,
    measure: Callable[[str, int], tuple[int, int]],
    more: str,
) -> list[Placed]:
    """A legend in the picture's upper left corner: as many entries as have room, then how many are left.

    Args:
        more: says how many are left, with ``{count}`` in it.
    """
    margin, gap = round(20 * scale), round(3 * scale)
    heights = (max(9, round(17 * scale)), max(8, round(13 * scale)))
    placed: list[Placed] = []
    top = margin

    def put(text: str, colour: RGB, height_px: int, left: int) -> int:
        placed.append(Placed(Label(text, (0.0, 0.0, 0.0), colour, height_px, 0.0), left, top, height_px, 1.0))
        return measure(text, height_px)[1]

    top += put(title, theme.text, heights[0], margin) + 2 * gap
    line = measure("■", heights[1])[1] + gap
    room = max(1, (size[1] - margin - top) // max(1, line))
    shown = len(entries) if len(entries) <= room else room - 1
    indent = margin + measure("■", heights[1])[0] + gap
    for entry in entries[:shown]:
        put("■", entry.colour, heights[1], margin)
        put(f"{entry.label}  {entry.count}", theme.text, heights[1], indent)
        top += line
    if shown < len(entries):
        put(more.format(count=len(entries) - shown), theme.faint_text, heights[1], indent)
    return placed
