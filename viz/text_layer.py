"""Words in a picture: drawn once into an atlas, then placed as rectangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.data.palette import RGB
from viz.fonts import draw_text
from viz.labels import Placed
from viz.programs import load_program

if TYPE_CHECKING:
    import moderngl

__all__ = ["TextLayer"]

ATLAS_PX = 2048
LARGEST_ATLAS_PX = 8192
KIND = np.dtype([("corners", np.float32, 4), ("texels", np.float32, 4), ("colour", np.uint8, 4)])


@dataclass(frozen=True, slots=True)
class _Spot:
    left: int
    top: int
    width: int
    height: int


class TextLayer:
    """Draws placed words. Those of earlier pictures stay in the atlas until it is full."""

    def __init__(self, context: moderngl.Context) -> None:
        self._context = context
        self._program: Any = load_program(context, "plates", "plates")
        self._buffer: Any = None
        self._array: Any = None
        self._drawn: dict[tuple[str, int], NDArray[np.uint8]] = {}
        self._where: dict[tuple[str, int], _Spot] = {}
        self._next_left = self._next_top = self._shelf = 0
        self._is_fresh = True
        self._start_atlas(ATLAS_PX)

    def measure(self, text: str, height_px: int) -> tuple[int, int]:
        """(width, height) of the drawn words in pixels, halo included."""
        rows, columns = self._letters(text, height_px).shape[:2]
        return columns, rows

    def draw(self, placed: Sequence[Placed], size: tuple[int, int], halo_colour: RGB) -> None:
        """Draw words over everything else."""
        if not placed:
            return
        spots = self._spots(placed)
        rows = np.empty(len(placed), KIND)
        for index, (item, spot) in enumerate(zip(placed, spots, strict=True)):
            rows["corners"][index] = item.left, item.top, item.left + spot.width, item.top + spot.height
            rows["texels"][index] = spot.left, spot.top, spot.left + spot.width, spot.top + spot.height
            rows["colour"][index] = (*item.label.colour, round(255 * item.opacity))
        if self._buffer is None or self._buffer.size < rows.nbytes:
            self._release_rows()
            self._buffer = self._context.buffer(reserve=2 * rows.nbytes)
            layout = (self._buffer, "4f 4f 4f1/i", "in_corners", "in_texels", "in_colour")
            self._array = self._context.vertex_array(self._program, [layout])
        self._buffer.write(rows)
        self._atlas.use(0)
        self._program["viewport_px"] = size
        self._program["atlas_texels"] = self._atlas.size
        self._program["halo_colour"] = tuple(channel / 255 for channel in halo_colour)
        self._array.render(self._context.TRIANGLE_STRIP, vertices=4, instances=len(placed))

    def release(self) -> None:
        """Free the buffers and the atlas."""
        self._release_rows()
        self._atlas.release()

    def _letters(self, text: str, height_px: int) -> NDArray[np.uint8]:
        key = (text, height_px)
        if key not in self._drawn:
            self._drawn[key] = draw_text(text, height_px)[:ATLAS_PX, : ATLAS_PX - 1]
        return self._drawn[key]

    def _spots(self, placed: Sequence[Placed]) -> list[_Spot]:
        """Where a picture's words lie in the atlas, which is begun anew, larger if it must, when they do not fit."""
        wanted = [(item.label.text, item.height_px) for item in placed]
        while not all(key in self._where or self._add(key) for key in wanted):
            side = self._atlas.size[0]
            if self._is_fresh:
                side = min(2 * side, LARGEST_ATLAS_PX)
            self._atlas.release()
            self._start_atlas(side)
        self._is_fresh = False
        return [self._where[key] for key in wanted]

    def _add(self, key: tuple[str, int]) -> bool:
        letters = self._letters(*key)
        rows, columns = letters.shape[:2]
        side = self._atlas.size[0]
        if self._next_left + columns + 1 > side:
            self._next_left, self._next_top, self._shelf = 0, self._next_top + self._shelf + 1, 0
        if self._next_top + rows > side:
            return False
        spot = _Spot(self._next_left, self._next_top, columns, rows)
        box = (spot.left, spot.top, columns, rows)
        self._atlas.write(np.ascontiguousarray(letters).tobytes(), viewport=box, alignment=1)
        self._where[key] = spot
        self._next_left += columns + 1
        self._shelf = max(self._shelf, rows)
        return True

    def _start_atlas(self, side: int) -> None:
        self._atlas = self._context.texture((side, side), 2, bytes(2 * side * side), alignment=1)
        self._atlas.filter = (self._context.NEAREST, self._context.NEAREST)
        self._where = {}
        self._next_left = self._next_top = self._shelf = 0
        self._is_fresh = True
        if len(self._drawn) > 2000:
            self._drawn.clear()

    def _release_rows(self) -> None:
        for part in (self._array, self._buffer):
            if part is not None:
                part.release()
        self._array = self._buffer = None
