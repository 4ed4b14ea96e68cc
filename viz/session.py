"""What a window does, without a window: the view and how pointer, keys and time change it. No GL, no GLFW.

``viz.window`` feeds it with events and draws whatever it says; tests drive it with numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.data.scenes import NOISE, Scene
from core.errors import NovelscopeError
from viz.answers import Answer, read_answer
from viz.camera import Camera
from viz.drawing import Drawing, compose, map_neighbours
from viz.interface import words_in
from viz.state import ViewState

__all__ = ["HOVER_DWELL_S", "MapSession"]

HOVER_DWELL_S = 0.125
TURN_DEG_PER_S = 6.0
DEG_PER_PX = 0.35
ZOOM_PER_NOTCH = 1.15
FLIGHT_S = 0.45
FLIGHT_ZOOM = 4.0


class MapSession:
    """One reader's look at one map.

    Attributes:
        state: the view; a new one is assigned, never changed in place.
        answer: the question that is lit up.
        question: what stands in the question's box.
        is_rotating: whether the map turns by itself.
        is_playing: whether the playhead walks on along the story's path.
        passages_per_s: how fast it walks.
        notice: a line for the reader, or empty.
        size: of the picture in pixels.
    """

    def __init__(self, scene: Scene, state: ViewState, answer: Answer | None, size: tuple[int, int]) -> None:
        self.scene, self.state, self.answer, self.size = scene, state, answer, size
        self.question = answer.question if answer else ""
        self.is_rotating, self.is_playing = True, False
        self.passages_per_s = 8.0
        self.notice = ""
        self._home = state.camera
        self._flight: tuple[Camera, Camera, float] | None = None
        self._ticked_at: float | None = None
        self._walked = 0.0
        self._pointed: tuple[int | None, float] = (None, 0.0)
        self._told_of: int | None = None
        self._raw_answer: dict[str, Any] | None = dict(state.answer) if state.answer else None
        if answer and self._raw_answer is None:
            self._raw_answer = answer.to_dict()
        self._composed: tuple[ViewState, Answer | None, Drawing] | None = None

    # What is shown -------------------------------------------------------------------------------------------------

    @property
    def words(self) -> Any:
        """The interface's words in the reader's language."""
        return words_in(self.state.language)

    @property
    def drawing(self) -> Drawing:
        """The drawing of the view; the same object until something other than the camera changes."""
        bare = replace(self.state, camera=Camera())
        if self._composed is None or self._composed[0] != bare or self._composed[1] is not self.answer:
            self._composed = (bare, self.answer, compose(self.scene, self.state, self.answer, self.words))
        return self._composed[2]

    @property
    def readable_rows(self) -> NDArray[np.int64]:
        """Rows up to the bookmark, in reading order."""
        return np.flatnonzero(self.scene.readable(self.state.until_chapter))

    @property
    def pinned(self) -> int | None:
        """Row of the passage whose card is open."""
        return self.scene.rows.get(self.state.pinned or "")

    def change(self, **changes: Any) -> None:
        """Replace fields of the view; what the bookmark now hides is let go."""
        self.state = replace(self.state, **changes)
        if "until_chapter" in changes:
            self._forget_what_is_hidden()

    def show_answer(self, raw: dict[str, Any]) -> None:
        """Light up an answer, as ``viz.answers`` reads it; one about another book is left alone."""
        try:
            answer = read_answer(raw, self.scene, self.state.until_chapter)
        except NovelscopeError as wrong:
            self.notice = self.words["search_stopped"].format(reason=wrong)
            return
        if answer is None:
            return
        self._raw_answer, self.answer, self.question = raw, answer, answer.question
        self.notice = "" if answer.found else self.words["found_nothing"]

    def clear_answer(self) -> None:
        """Let the question go."""
        self._raw_answer = self.answer = None
        self.question = self.notice = ""

    def saved_view(self) -> ViewState:
        """The view with its answer, to be written."""
        answer = self.answer.to_dict() if self.answer else None
        return replace(self.state, answer=answer)

    # The camera ------------------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """The reader takes over: the map stops turning and flying."""
        self.is_rotating = False
        self._flight = None

    def orbit(self, dx_px: float, dy_px: float) -> None:
        """Turn the map with a pointer that moved."""
        self.touch()
        per_px = DEG_PER_PX * 720 / max(1, self.size[1])
        self._look(self.state.camera.orbited(-dx_px * per_px, dy_px * per_px))

    def pan(self, dx_px: float, dy_px: float) -> None:
        """Move the map with a pointer that moved."""
        self.touch()
        self._look(self.state.camera.panned(dx_px, dy_px, self.size))

    def zoom(self, notches: float, at_px: tuple[float, float]) -> None:
        """Nearer or farther by the wheel's notches; what is under the pointer stays there."""
        self.touch()
        self._look(self.state.camera.zoomed(ZOOM_PER_NOTCH**notches, at_px, self.size))

    def fit(self) -> None:
        """Fly to where everything that is readable, or selected, fills the picture."""
        rows = [self.scene.rows[name] for name in self.state.selected] or self.readable_rows
        self.fly(self.state.camera.fitted(self.scene.points[rows]))

    def reset(self) -> None:
        """Fly back to the first view."""
        self.fly(replace(self._home, projection=self.state.camera.projection))

    def fly(self, camera: Camera) -> None:
        """Move to ``camera`` smoothly."""
        self.touch()
        self._flight = (self.state.camera, camera, -1.0)

    def fly_to(self, row: int) -> None:
        """Fly near a passage."""
        x, y, z = (float(v) for v in self.scene.points[row])
        camera = self.state.camera
        self.fly(replace(camera, target=(x, y, z), zoom=max(camera.zoom, FLIGHT_ZOOM)))

    # Time ------------------------------------------------------------------------------------------------------------

    @property
    def is_moving(self) -> bool:
        """Whether the camera moves by itself."""
        return self.is_rotating or self._flight is not None

    def tick(self, now_s: float) -> bool:
        """Let time pass; whether the picture changed."""
        passed = 0.0 if self._ticked_at is None else min(0.25, max(0.0, now_s - self._ticked_at))
        self._ticked_at = now_s
        before = (self.state, self._told_of)
        self._told_of = self.hovered(now_s)
        if self.is_rotating:
            self._look(self.state.camera.orbited(TURN_DEG_PER_S * passed, 0.0))
        if self._flight is not None:
            start, goal, began = self._flight
            if began < 0:
                self._flight = (start, goal, now_s)
            share = 0.0 if began < 0 else min(1.0, (now_s - began) / FLIGHT_S)
            self._look(start.blended(goal, share * share * (3 - 2 * share)))
            if share >= 1.0:
                self._look(goal)
                self._flight = None
        if self.is_playing:
            self._walk(passed)
        return before != (self.state, self._told_of)

    def _walk(self, passed_s: float) -> None:
        self._walked += passed_s * self.passages_per_s
        steps, self._walked = int(self._walked), self._walked % 1.0
        rows = self.readable_rows
        head = self.scene.rows.get(self.state.playhead or "", int(rows[0]) if len(rows) else 0)
        place = int(np.searchsorted(rows, head)) + steps
        if place >= len(rows) - 1:
            self.is_playing, place = False, len(rows) - 1
        self.change(playhead=self.scene.ids[int(rows[place])])

    def play(self) -> None:
        """Start or stop the walk along the story's path; at its end, from the beginning."""
        self.is_playing = not self.is_playing
        rows = self.readable_rows
        if self.is_playing:
            at_end = self.state.playhead in (None, self.scene.ids[int(rows[-1])])
            head = self.scene.ids[int(rows[0])] if at_end else self.state.playhead
            self.change(path=True, playhead=head)

    # Passages --------------------------------------------------------------------------------------------------------

    def point_at(self, row: int | None, now_s: float) -> None:
        """The pointer is over this passage, or none."""
        if row != self._pointed[0]:
            self._pointed = (row, now_s)

    @property
    def pointed(self) -> int | None:
        """Row under the pointer, which has a ring."""
        return self._pointed[0]

    def hovered(self, now_s: float) -> int | None:
        """Row whose small card is shown: the pointer has stayed on it for a moment."""
        row, since = self._pointed
        return row if row is not None and now_s - since >= HOVER_DWELL_S else None

    def pin(self, row: int | None) -> None:
        """Open a passage's card, or close it."""
        self.touch()
        self.change(pinned=None if row is None else self.scene.ids[row])

    def step(self, by: int) -> None:
        """Walk to the passage before or after the pinned one; never past the bookmark."""
        rows = self.readable_rows
        if self.pinned is None or not len(rows):
            return
        place = int(np.clip(np.searchsorted(rows, self.pinned) + by, 0, len(rows) - 1))
        self.pin(int(rows[place]))

    def select_within(self, polygon: Sequence[tuple[float, float]]) -> None:
        """Select the passages that are seen inside a polygon of pixels; those that cannot be picked stay out."""
        drawing = self.drawing
        rows = np.concatenate([drawing.crowd, drawing.lit])
        if len(polygon) < 3 or not len(rows):
            self.change(selected=())
            return
        seen = self.state.camera.matrices(self.size).project(self.scene.points[rows])
        inside = _inside(seen[:, :2], np.asarray(polygon, np.float64)) & (seen[:, 2] > 0)
        self.change(selected=tuple(self.scene.ids[int(row)] for row in np.sort(rows[inside])))

    def true_neighbours(self, row: int, most: int = 8) -> list[tuple[int, float, bool]]:
        """Passages nearest in vector space, readable ones only: row, cosine, whether it is near on the map too."""
        readable = self.scene.readable(self.state.until_chapter)
        k = self.scene.neighbours.shape[1]
        shown = set(map_neighbours(self.scene.points, row, readable, max(1, k)))
        pairs = zip(self.scene.neighbours[row].tolist(), self.scene.similarities[row].tolist(), strict=True)
        return [(other, cosine, other in shown) for other, cosine in pairs if other != NOISE and readable[other]][:most]

    # ------------------------------------------------------------------------------------------------------------------

    def _look(self, camera: Camera) -> None:
        self.state = replace(self.state, camera=camera)

    def _forget_what_is_hidden(self) -> None:
        readable = self.scene.readable(self.state.until_chapter)

        def kept(name: str | None) -> str | None:
            return name if name in self.scene.rows and readable[self.scene.rows[name]] else None

        selected = tuple(name for name in self.state.selected if kept(name))
        self.state = replace(
            self.state, pinned=kept(self.state.pinned), playhead=kept(self.state.playhead), selected=selected
        )
        if self.pointed is not None and not readable[self.pointed]:
            self._pointed = (None, 0.0)
        if self._raw_answer is not None:
            self.answer = read_answer(self._raw_answer, self.scene, self.state.until_chapter)


def _inside(points: NDArray[np.float64], polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) bool: which of (n, 2) points lie inside a polygon, by counting the edges to their right."""
    inside = np.zeros(len(points), bool)
    x, y = points[:, 0], points[:, 1]
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        crosses = (y1 > y) != (y2 > y)
        if y1 != y2:
            inside ^= crosses & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return inside
