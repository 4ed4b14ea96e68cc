"""Pixels from a drawing and a camera, in any framebuffer: a window's, or one that no screen ever shows.

Nothing here asks where its framebuffer came from, so a window and a picture of one size and view are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.errors import GraphicsError
from viz.camera import Camera
from viz.context import largest_side
from viz.drawing import RING, Drawing, Marks
from viz.labels import Placed, place_labels
from viz.layers import LineLayer, MarkLayer, PointCloud

if TYPE_CHECKING:
    import moderngl

    from viz.text_layer import TextLayer

__all__ = ["PICK_RADIUS", "Renderer", "unit_scale"]

PICK_RADIUS = 14
"""How far from a point, in units, a pointer still means it."""
UNIT_SIZE = (1280, 720)
SMALLEST_SCALE = 0.6
HOVER_SIZE = 24.0


def unit_scale(size: tuple[int, int]) -> float:
    """Pixels in a unit of size for a picture: 1 at 1280 x 720, so that a larger picture shows the same, not less."""
    return max(SMALLEST_SCALE, min(size[0] / UNIT_SIZE[0], size[1] / UNIT_SIZE[1]))


class Renderer:
    """Draws one map: ``update`` uploads a drawing, ``draw`` and ``pick`` take the camera of the moment."""

    def __init__(self, context: moderngl.Context) -> None:
        """Compile the programs.

        Raises:
            GraphicsError: a shader is missing, or the driver refuses it.
        """
        self.context = context
        self._points = PointCloud(context)
        self._under, self._over = LineLayer(context), LineLayer(context)
        self._marks, self._hover = MarkLayer(context), MarkLayer(context)
        self._text: TextLayer | None = None
        self._drawing: Drawing | None = None
        self._pick_target: Any = None

    def update(self, drawing: Drawing) -> None:
        """Show this from now on."""
        self._drawing = drawing
        self._points.update(drawing)
        self._under.update(drawing.under)
        self._over.update(drawing.over)
        self._marks.update(drawing.marks)

    def draw(
        self,
        target: Any,
        camera: Camera,
        size: tuple[int, int],
        *,
        hovered: int | None = None,
        is_moving: bool = False,
        plates: Sequence[Placed] = (),
    ) -> None:
        """Draw into ``target``, a framebuffer with depth, of that (width, height).

        Args:
            hovered: row that gets a ring.
            is_moving: a part of a very large map will do.
            plates: words at fixed places, such as a legend.
        """
        drawing = self._drawn()
        context: Any = self.context
        matrices, scale = camera.matrices(size), unit_scale(size)
        theme = drawing.theme
        target.use()
        context.viewport = (0, 0, *size)
        target.clear(*(channel / 255 for channel in theme.background), 1.0, depth=1.0)
        context.enable_only(context.BLEND | context.PROGRAM_POINT_SIZE)
        # The picture's own alpha stays 1, whatever is drawn over it.
        context.blend_func = (
            context.SRC_ALPHA, context.ONE_MINUS_SRC_ALPHA, context.ONE, context.ONE_MINUS_SRC_ALPHA
        )  # fmt: skip
        self._under.draw(matrices, scale)
        self._points.draw(matrices, scale, camera.zoom, is_moving=is_moving)
        self._over.draw(matrices, scale)
        self._marks.draw(matrices, scale, theme.background)
        self._points.draw_lit()
        if hovered is not None:
            self._hover.update(_ring(drawing.points[hovered], (*theme.hover, 255)))
            self._hover.draw(matrices, scale, theme.background)
        if drawing.labels or plates:
            text = self.text
            placed = place_labels(drawing.labels, matrices, scale, text.measure, camera.zoom)
            text.draw([*placed, *plates], size, theme.background)

    def pick(self, camera: Camera, size: tuple[int, int], x: float, y: float) -> int | None:
        """Row of the passage at the pixel (x, y) from the top left, else of the nearest within ``PICK_RADIUS``."""
        scale = unit_scale(size)
        radius = max(1, round(PICK_RADIUS * scale))
        side = 2 * radius + 1
        context: Any = self.context
        if self._pick_target is None or self._pick_target.size != (side, side):
            self._release_pick_target()
            picked = context.texture((side, side), 1, dtype="u4")
            self._pick_target = context.framebuffer([picked], context.depth_renderbuffer((side, side)))
        target = self._pick_target
        target.use()
        column, row_from_bottom = int(x), size[1] - 1 - int(y)
        # Only the square about the pointer is drawn: the rest of the picture falls outside the small framebuffer.
        context.viewport = (radius - column, radius - row_from_bottom, *size)
        target.clear(0.0, 0.0, 0.0, 0.0, depth=1.0)
        context.enable_only(context.PROGRAM_POINT_SIZE)
        self._points.draw_numbers(camera.matrices(size), scale, camera.zoom)
        numbers = np.frombuffer(target.read(components=1, dtype="u4"), np.uint32).reshape(side, side)
        hits = np.argwhere(numbers)
        if not len(hits):
            return None
        distances = np.linalg.norm(hits - radius, axis=1)
        nearest = hits[int(np.argmin(distances))]
        return int(numbers[nearest[0], nearest[1]]) - 1 if distances.min() <= radius else None

    def picture(
        self, camera: Camera, size: tuple[int, int], plates: Sequence[Placed] = (), *, hovered: int | None = None
    ) -> NDArray[np.uint8]:
        """The view as (height, width, 3) uint8, top row first.

        Raises:
            GraphicsError: the picture is larger than this driver draws.
        """
        limit = largest_side(self.context)
        if max(size) > limit:
            raise GraphicsError(
                f"a picture of {size[0]}x{size[1]} was asked for; this driver draws {limit} pixels a side"
            )
        try:
            target = self.context.simple_framebuffer(size)
        except Exception as wrong:  # moderngl has one error for everything, and drivers say no more
            raise GraphicsError(
                f"this driver has no room for a picture of {size[0]}x{size[1]}; ask for a smaller one"
            ) from wrong
        try:
            self.draw(target, camera, size, plates=plates, hovered=hovered)
            pixels = np.frombuffer(target.read(components=3, alignment=1), np.uint8)
            return np.ascontiguousarray(pixels.reshape(size[1], size[0], 3)[::-1])
        finally:
            for part in (*target.color_attachments, target.depth_attachment, target):
                part.release()

    @property
    def text(self) -> TextLayer:
        """The words' layer, made when there are words to draw: a font is slow to find."""
        if self._text is None:
            from viz.text_layer import TextLayer

            self._text = TextLayer(self.context)
        return self._text

    def release(self) -> None:
        """Free everything that was made on the GPU."""
        for layer in (self._points, self._under, self._over, self._marks, self._hover, self._text):
            if layer is not None:
                layer.release()
        self._release_pick_target()

    def _drawn(self) -> Drawing:
        assert self._drawing is not None, "update() comes first"
        return self._drawing

    def _release_pick_target(self) -> None:
        if self._pick_target is not None:
            for part in (*self._pick_target.color_attachments, self._pick_target.depth_attachment, self._pick_target):
                part.release()
            self._pick_target = None


def _ring(place: NDArray[np.float32], colour: tuple[int, ...]) -> Marks:
    return Marks(
        np.array([place], np.float32),
        np.array([colour], np.uint8),
        np.array([HOVER_SIZE], np.float32),
        np.array([RING], np.float32),
    )
