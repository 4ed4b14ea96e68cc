"""What a picture is made of: one class a kind of thing, each with its own buffers on the GPU.

Every class takes the context, is given plain arrays by ``update`` and draws into whatever framebuffer is bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.data.palette import RGB
from viz.camera import Matrices
from viz.drawing import SHUFFLE_FROM, Drawing, Marks, Segments
from viz.programs import load_program

if TYPE_CHECKING:
    import moderngl

__all__ = ["LineLayer", "MarkLayer", "PointCloud"]

MOVING_MOST = 20_000
"""Points of the crowd that are drawn while the map moves, where there is no GPU."""
FOG_MOST = 0.6
SIZE_PX, SIZE_AT, SIZE_POWER, SMALLEST, LARGEST = 9.0, 2500.0, 0.3, 2.4, 14.0
ZOOM_POWER = 0.45  # points grow more slowly than the map when the eye comes nearer


class PointCloud:
    """Passages as sprites, and the same sprites as numbers for picking."""

    def __init__(self, context: moderngl.Context) -> None:
        self._context = context
        self._shown: Any = load_program(context, "points", "points")
        self._numbered: Any = load_program(context, "points", "pick")
        self._is_software = any(
            name in str(context.info["GL_RENDERER"]).lower() for name in ("llvmpipe", "softpipe", "swiftshader")
        )
        self._places: Any = None
        self._looks: Any = None
        self._rows: Any = None
        self._buffers: list[Any] = []
        self._drawing: Drawing | None = None
        self._sorted_for: bytes | None = None

    def update(self, drawing: Drawing) -> None:
        """Take a drawing's points; positions are uploaded again only when they are others."""
        old, self._drawing = self._drawing, drawing
        self._sorted_for = None
        count = len(drawing.points)
        looks = np.empty(count, np.dtype([("colour", np.uint8, 4), ("size", np.float32)]))
        looks["colour"], looks["size"] = drawing.colours, drawing.sizes
        rows = np.concatenate([drawing.ghosts, drawing.crowd, drawing.lit]).astype(np.int32)
        if old is not None and len(old.points) == count:
            if old.points is not drawing.points:
                self._places.write(np.ascontiguousarray(drawing.points, np.float32))
            self._looks.write(looks)
            self._rows.write(rows if len(rows) else np.zeros(1, np.int32))
            return
        self.release()
        self._places = self._context.buffer(np.ascontiguousarray(drawing.points, np.float32))
        self._looks = self._context.buffer(looks)
        self._rows = self._context.buffer(reserve=4 * max(1, count))
        self._rows.write(rows if len(rows) else np.zeros(1, np.int32))
        self._shown_array = self._array(self._shown)
        self._numbered_array = self._array(self._numbered)
        self._buffers = [self._shown_array, self._numbered_array, self._places, self._looks, self._rows]

    def draw(self, matrices: Matrices, scale: float, zoom: float, *, is_moving: bool) -> None:
        """Ghosts and crowd, the nearer before the farther.

        Args:
            scale: pixels in a unit.
            is_moving: a part of a large crowd will do, where the CPU draws.
        """
        drawing = self._drawing
        if drawing is None:
            return
        self._set(self._shown, matrices, scale, zoom)
        self._sort(matrices)
        ghosts, crowd = len(drawing.ghosts), len(drawing.crowd)
        if is_moving and self._is_software:
            crowd = min(crowd, MOVING_MOST)
        context = self._context
        context.enable(context.DEPTH_TEST)
        if ghosts:
            self._depth_writing(False)
            self._shown_array.render(context.POINTS, vertices=ghosts, first=0)
            self._depth_writing(True)
        if crowd:
            self._shown_array.render(context.POINTS, vertices=crowd, first=ghosts)
        context.disable(context.DEPTH_TEST)

    def draw_lit(self) -> None:
        """What is lit, over everything that was drawn; after ``draw`` with the same camera."""
        self._render_lit(self._shown_array)

    def draw_numbers(self, matrices: Matrices, scale: float, zoom: float) -> None:
        """Rows + 1 of whatever can be picked, in the order and with the outlines of ``draw`` and ``draw_lit``."""
        drawing = self._drawing
        if drawing is None:
            return
        self._set(self._numbered, matrices, scale, zoom)
        self._sort(matrices)
        context = self._context
        context.enable(context.DEPTH_TEST)
        if len(drawing.crowd):
            self._numbered_array.render(context.POINTS, vertices=len(drawing.crowd), first=len(drawing.ghosts))
        context.disable(context.DEPTH_TEST)
        self._render_lit(self._numbered_array)

    def release(self) -> None:
        """Free the buffers."""
        for buffer in self._buffers:
            buffer.release()
        self._buffers = []

    def _render_lit(self, array: Any) -> None:
        drawing = self._drawing
        if drawing is not None and len(drawing.lit):
            array.render(
                self._context.POINTS, vertices=len(drawing.lit), first=len(drawing.ghosts) + len(drawing.crowd)
            )

    def _sort(self, matrices: Matrices) -> None:
        """Put far points first, so that smoothed rims blend with what lies behind; large crowds stay as they are."""
        drawing = self._drawing
        view = matrices.view.to_bytes()
        if drawing is None or self._sorted_for == view:
            return
        self._sorted_for = view
        towards = np.array(matrices.view, np.float32)[2, :3]
        first = 0
        for rows in (drawing.ghosts, drawing.crowd, drawing.lit):
            if 1 < len(rows) < SHUFFLE_FROM:
                order = np.argsort(drawing.points[rows] @ towards, kind="stable")
                self._rows.write(np.ascontiguousarray(rows[order]), offset=4 * first)
            first += len(rows)

    def _set(self, program: Any, matrices: Matrices, scale: float, zoom: float) -> None:
        drawing = self._drawing
        assert drawing is not None
        size = float(np.clip(SIZE_PX * (SIZE_AT / len(drawing.points)) ** SIZE_POWER, SMALLEST, LARGEST))
        reach = 1.0 / max(1.0, zoom) ** 0.5
        program["view"].write(matrices.view.to_bytes())
        program["projection"].write(matrices.projection.to_bytes())
        program["size_px"] = size * scale * drawing.point_scale * zoom**ZOOM_POWER
        program["target_depth"] = matrices.distance if matrices.is_perspective else 0.0
        if "fog_depths" in program:  # a driver removes from the picking program what only colours need
            program["fog_depths"] = (matrices.distance - 0.8 * reach, matrices.distance + 1.1)
            program["fog_most"] = FOG_MOST
            program["background"] = _unit(drawing.theme.background)
            program["rim_colour"] = _unit(drawing.theme.rim)

    def _array(self, program: Any) -> Any:
        looks = ("4f1 1f", "in_colour", "in_size") if "in_colour" in program else ("4x1 1f", "in_size")
        return self._context.vertex_array(
            program,
            [(self._places, "3f", "in_position"), (self._looks, *looks)],
            index_buffer=self._rows,
            index_element_size=4,
        )

    def _depth_writing(self, is_on: bool) -> None:
        framebuffer = self._context.fbo
        if framebuffer is not None:
            framebuffer.depth_mask = is_on


class LineLayer:
    """Straight lines of any width."""

    def __init__(self, context: moderngl.Context) -> None:
        self._context = context
        self._program: Any = load_program(context, "lines", "lines")
        self._stream = _Stream(
            context, self._program, "3f 3f 4f1 4f1 1f/i",
            ("in_start", "in_end", "in_start_colour", "in_end_colour", "in_width"),
        )  # fmt: skip

    def update(self, segments: Segments) -> None:
        """Take other lines."""
        kind = np.dtype(
            [("a", np.float32, 3), ("b", np.float32, 3), ("c", np.uint8, 4), ("d", np.uint8, 4), ("w", np.float32)]
        )
        rows = np.empty(len(segments), kind)
        rows["a"], rows["b"], rows["w"] = segments.starts, segments.ends, segments.widths
        rows["c"], rows["d"] = segments.start_colours, segments.end_colours
        self._stream.write(rows)

    def draw(self, matrices: Matrices, scale: float) -> None:
        """Draw them, whatever lies in front."""
        program = self._program
        program["view"].write(matrices.view.to_bytes())
        program["projection"].write(matrices.projection.to_bytes())
        program["viewport_px"] = matrices.size
        program["scale"] = scale
        program["near"] = matrices.near
        self._stream.render(self._context.TRIANGLE_STRIP, vertices=4)

    def release(self) -> None:
        """Free the buffers."""
        self._stream.release()


class MarkLayer:
    """Rings, glows and diamonds."""

    def __init__(self, context: moderngl.Context) -> None:
        self._context = context
        self._program: Any = load_program(context, "marks", "marks")
        names = ("in_position", "in_colour", "in_size", "in_shape")
        self._stream = _Stream(context, self._program, "3f 4f1 1f 1f", names)

    def update(self, marks: Marks) -> None:
        """Take other marks."""
        kind = np.dtype([("p", np.float32, 3), ("c", np.uint8, 4), ("s", np.float32), ("k", np.float32)])
        rows = np.empty(len(marks), kind)
        rows["p"], rows["c"], rows["s"], rows["k"] = marks.places, marks.colours, marks.sizes, marks.shapes
        self._stream.write(rows)

    def draw(self, matrices: Matrices, scale: float, edge_colour: RGB) -> None:
        """Draw them, whatever lies in front."""
        program = self._program
        program["view"].write(matrices.view.to_bytes())
        program["projection"].write(matrices.projection.to_bytes())
        program["scale"] = scale
        program["edge_colour"] = _unit(edge_colour)
        self._stream.render(self._context.POINTS)

    def release(self) -> None:
        """Free the buffers."""
        self._stream.release()


class _Stream:
    """A buffer that is written anew now and then, and grows when it must."""

    def __init__(self, context: moderngl.Context, program: Any, layout: str, names: Sequence[str]) -> None:
        self._context, self._program, self._layout, self._names = context, program, layout, names
        self._buffer: Any = None
        self._array: Any = None
        self._is_instanced = layout.endswith("/i")
        self._count = 0

    def write(self, rows: NDArray[Any]) -> None:
        self._count = len(rows)
        if not self._count:
            return
        if self._buffer is None or self._buffer.size < rows.nbytes:
            self.release()
            self._buffer = self._context.buffer(reserve=2 * rows.nbytes)
            self._array = self._context.vertex_array(self._program, [(self._buffer, self._layout, *self._names)])
        self._buffer.write(rows)

    def render(self, mode: int, *, vertices: int | None = None) -> None:
        if not self._count:
            return
        if self._is_instanced:
            self._array.render(mode, vertices=vertices, instances=self._count)
        else:
            self._array.render(mode, vertices=self._count)

    def release(self) -> None:
        for part in (self._array, self._buffer):
            if part is not None:
                part.release()
        self._array = self._buffer = None


def _unit(colour: RGB) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255
