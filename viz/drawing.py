"""What a view shows, as plain arrays: points, lines, marks, and words to place. No GL.

``compose`` runs when the view changes, not when the camera moves; ``viz.renderer`` turns a ``Drawing`` into pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.data.palette import CLASS_COLOURS, RGB
from core.data.scenes import NOISE, Scene
from viz.answers import Answer
from viz.colours import THEMES, Coloured, Theme, class_of, colour_passages
from viz.state import ViewState

__all__ = ["DIAMOND", "GLOW", "RING", "Drawing", "Label", "Marks", "Segments", "compose", "map_neighbours"]

RING, GLOW, DIAMOND = 0, 1, 2
DIMMED = 0.62  # of the background in passages that a question or a selection leaves aside
GHOST_ALPHA, GHOST_SIZE = 34, 0.6
FOUND_SIZE, NEAR_SIZE = 1.55, 1.2
TRAIL = 40  # passages of the path that stay bright behind the playhead
SHOWN_NEIGHBOURS = 10
FLOOR_RINGS, FLOOR_STEPS, FLOOR_GAP = 3, 96, 0.05
SHUFFLE_FROM = 20_000
SHUFFLE_SEED = 20_011


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Straight lines: (m, 3) float32 ends, (m, 4) uint8 colours of the ends, (m,) float32 widths in units."""

    starts: NDArray[np.float32]
    ends: NDArray[np.float32]
    start_colours: NDArray[np.uint8]
    end_colours: NDArray[np.uint8]
    widths: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.starts)


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """Marks at (m, 3) float32 places: (m, 4) uint8 colours, (m,) float32 sizes in units, (m,) shapes."""

    places: NDArray[np.float32]
    colours: NDArray[np.uint8]
    sizes: NDArray[np.float32]
    shapes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, slots=True)
class Label:
    """Words at a place of the map.

    Attributes:
        place: in the map.
        height: of the letters, units.
        priority: the higher one stays where two would overlap.
        lift: how far above its place it stands, units; 0 puts its middle there.
        fades: whether it gives way as the eye moves away.
    """

    text: str
    place: tuple[float, float, float]
    colour: RGB
    height: float
    priority: float
    lift: float = 0.0
    fades: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """Everything of one view but the camera.

    Attributes:
        points: (n, 3) float32; all passages, whether drawn or not.
        colours: (n, 4) uint8.
        sizes: (n,) float32, relative.
        ghosts, crowd, lit: rows to draw, in this order. Ghosts cannot be picked; what is lit lies over the crowd. A
            crowd of ``SHUFFLE_FROM`` rows or more comes shuffled, so that a part of it shows the whole map's shape.
    """

    theme: Theme
    points: NDArray[np.float32]
    colours: NDArray[np.uint8]
    sizes: NDArray[np.float32]
    ghosts: NDArray[np.int32]
    crowd: NDArray[np.int32]
    lit: NDArray[np.int32]
    under: Segments
    over: Segments
    marks: Marks
    labels: tuple[Label, ...]
    coloured: Coloured
    point_scale: float = 1.0


def compose(
    scene: Scene, state: ViewState, answer: Answer | None = None, words: Mapping[str, str] | None = None
) -> Drawing:
    """The drawing of a view.

    Args:
        answer: shown lit up, with lines from the question's mark.
        words: of the legend, in the reader's language.
    """
    theme = THEMES[state.theme]
    scores = answer.scores if answer else None
    coloured = colour_passages(scene, state.mode, theme, until_chapter=state.until_chapter, scores=scores, words=words)
    readable = scene.readable(state.until_chapter)
    kept = readable & _isolated(scene, state)
    colours = np.concatenate([coloured.colours, np.full((len(scene), 1), 255, np.uint8)], axis=1)
    sizes = np.ones(len(scene), np.float32)

    lit = _light(scene, state, theme, answer, kept, colours, sizes)
    ghosts = readable & ~kept
    colours[ghosts, 3], sizes[ghosts] = GHOST_ALPHA, GHOST_SIZE
    crowd = kept.copy()
    crowd[lit] = False

    strokes, marks = _Strokes(), _Marks()
    strokes_under = _Strokes()
    _draw_floor(scene, strokes_under, theme)
    in_order = np.flatnonzero(kept)
    if state.path:
        _draw_path(scene, state, theme, in_order, strokes_under, strokes, marks)
    labels = [*_cluster_labels(scene, state, kept)] if state.labels else []
    if answer is not None:
        labels += _draw_answer(scene, theme, answer, kept, strokes, marks)
    pinned = scene.rows.get(state.pinned or "")
    if pinned is not None and kept[pinned]:
        _draw_neighbours(scene, state, theme, pinned, kept, strokes)
        marks.add(scene.points[pinned], (*theme.hover, 255), 26.0, RING)

    return Drawing(
        theme=theme,
        points=scene.points,
        colours=colours,
        sizes=sizes,
        ghosts=np.flatnonzero(ghosts).astype(np.int32),
        crowd=_drawing_order(np.flatnonzero(crowd)),
        lit=lit.astype(np.int32),
        under=strokes_under.segments(),
        over=strokes.segments(),
        marks=marks.marks(),
        labels=tuple(labels),
        coloured=coloured,
        point_scale=state.point_scale,
    )


def map_neighbours(points: NDArray[np.float32], row: int, among: NDArray[np.bool_], most: int) -> list[int]:
    """Rows nearest to ``row`` on the map, nearest first."""
    distances = np.linalg.norm(points.astype(np.float64) - points[row], axis=1)
    distances[~among] = np.inf
    distances[row] = np.inf
    nearest = np.argsort(distances, kind="stable")[:most]
    return [int(r) for r in nearest if np.isfinite(distances[r])]


def _isolated(scene: Scene, state: ViewState) -> NDArray[np.bool_]:
    if not state.isolated or state.mode == "score":
        return np.ones(len(scene), bool)
    return np.isin(class_of(scene, state.mode), np.asarray(state.isolated))


def _light(
    scene: Scene,
    state: ViewState,
    theme: Theme,
    answer: Answer | None,
    kept: NDArray[np.bool_],
    colours: NDArray[np.uint8],
    sizes: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Change colours and sizes in place for an answer and a selection; the rows to draw on top."""
    selected = np.zeros(len(scene), bool)
    selected[[scene.rows[name] for name in state.selected if name in scene.rows]] = True
    found = np.zeros(len(scene), bool)
    near = np.zeros(len(scene), bool)
    for hit in answer.hits if answer else ():
        (near if hit.is_near else found)[list(hit.rows)] = True
    selected &= kept
    found &= kept
    near &= kept & ~found
    lit = selected | found | near
    if not lit.any():
        return np.empty(0, np.int64)
    aside = kept & ~lit
    background = np.asarray(theme.background, np.float64)
    colours[aside, :3] = np.rint(colours[aside, :3] * (1 - DIMMED) + background * DIMMED)
    sizes[aside] *= 0.85
    if state.mode != "score":
        colours[near, :3], colours[found, :3] = theme.near, theme.found
    sizes[near], sizes[found] = NEAR_SIZE, FOUND_SIZE
    return np.flatnonzero(lit)


def _draw_floor(scene: Scene, strokes: _Strokes, theme: Theme) -> None:
    """Rings below the lowest passage, by which the eye knows how the map is turned."""
    reach = max(0.1, float(np.linalg.norm(scene.points[:, :2], axis=1).max()))
    height = float(scene.points[:, 2].min()) - FLOOR_GAP
    turns = np.linspace(0, 2 * np.pi, FLOOR_STEPS + 1)
    for ring in range(1, FLOOR_RINGS + 1):
        radius = reach * ring / FLOOR_RINGS
        circle = np.stack([np.cos(turns) * radius, np.sin(turns) * radius, np.full_like(turns, height)], axis=1)
        strokes.add(circle[:-1], circle[1:], (*theme.floor, 150), (*theme.floor, 150), 1.0)


def _draw_path(
    scene: Scene,
    state: ViewState,
    theme: Theme,
    rows: NDArray[np.int64],
    under: _Strokes,
    over: _Strokes,
    marks: _Marks,
) -> None:
    """The line through the passages in reading order: bright behind the playhead, fainter where there are many."""
    if len(rows) < 2:
        return
    points = scene.points[rows]
    head = scene.rows.get(state.playhead or "", -1)
    alpha = int(np.clip(2600 / np.sqrt(len(rows)), 34, 150))
    faint = alpha if head < 0 else alpha // 2
    under.add(points[:-1], points[1:], (*theme.path, faint), (*theme.path, faint), 1.0)
    if head < 0:
        return
    last = int(np.searchsorted(rows, head, side="right")) - 1
    if last < 0:
        return
    first = max(0, last - TRAIL)
    steps = np.arange(first, last)
    rise = (np.arange(1, len(steps) + 1) / max(1, len(steps)))[:, None]
    colour = np.asarray((*theme.found, 255), np.float64)
    fade = np.concatenate([np.repeat(colour[None, :3], len(steps), axis=0), 30 + 215 * rise**1.5], axis=1)
    before = np.concatenate([fade[:1], fade[:-1]]) if len(steps) else fade
    over.add(points[steps], points[steps + 1], before, fade, 2.0)
    marks.add(points[last], (*theme.found, 110), 54.0, GLOW)
    marks.add(points[last], (*theme.found, 255), 22.0, RING)


def _draw_answer(
    scene: Scene, theme: Theme, answer: Answer, kept: NDArray[np.bool_], strokes: _Strokes, marks: _Marks
) -> list[Label]:
    place = answer.place(scene)
    labels = []
    for hit in answer.hits:
        if not kept[hit.main]:
            continue
        point = scene.points[hit.main]
        if hit.is_near:
            marks.add(point, (*theme.near, 60), 34.0, GLOW)
            continue
        marks.add(point, (*theme.found, 90), 60.0 - 2.0 * min(hit.rank, 10), GLOW)
        labels.append(Label(str(hit.rank), _triple(point), theme.found, 15.0, 1e6 - hit.rank, lift=12.0))
        if place is not None:
            strokes.add(place[None], point[None], (*theme.question, 200), (*theme.found, 120), 1.2)
    if place is not None:
        marks.add(place, (*theme.question, 255), 17.0, DIAMOND)
        labels.append(Label(_shortened(answer.question), _triple(place), theme.question, 16.0, 2e6, lift=14.0))
    return labels


def _draw_neighbours(
    scene: Scene, state: ViewState, theme: Theme, row: int, kept: NDArray[np.bool_], strokes: _Strokes
) -> None:
    point = scene.points[row]
    if state.neighbours in ("map", "both"):
        for other in map_neighbours(scene.points, row, kept, SHOWN_NEIGHBOURS):
            strokes.add(point[None], scene.points[other][None], (*theme.path, 230), (*theme.path, 230), 1.2)
    if state.neighbours in ("true", "both"):
        others = [int(r) for r in scene.neighbours[row] if r != NOISE and kept[r]][:SHOWN_NEIGHBOURS]
        colour = (*CLASS_COLOURS[theme.name][0], 255)
        for other in others:
            strokes.add(point[None], scene.points[other][None], colour, colour, 1.8)


def _cluster_labels(scene: Scene, state: ViewState, kept: NDArray[np.bool_]) -> Iterable[Label]:
    theme = THEMES[state.theme]
    for cluster in scene.facts.clusters:
        members = np.flatnonzero((scene.clusters == cluster.number) & kept)
        name = cluster.name(state.until_chapter, most=2)
        if len(members) and name:
            middle = np.median(scene.points[members].astype(np.float64), axis=0)
            height = 13.0 + 5.0 * min(1.0, float(np.sqrt(len(members) / max(1, kept.sum()))) * 2)
            yield Label(name, _triple(middle), theme.text, height, float(len(members)), fades=True)


def _drawing_order(rows: NDArray[np.int64]) -> NDArray[np.int32]:
    if len(rows) >= SHUFFLE_FROM:
        rows = np.random.default_rng(SHUFFLE_SEED).permutation(rows)
    return rows.astype(np.int32)


def _shortened(question: str, most: int = 24) -> str:
    line = " ".join(question.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _triple(point: NDArray[np.floating]) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(point[2])


class _Strokes:
    """Collects lines."""

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[np.float32], ...]] = []
        self._colours: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []

    def add(
        self,
        starts: NDArray[np.floating],
        ends: NDArray[np.floating],
        start_colour: tuple[int, ...] | NDArray[np.floating],
        end_colour: tuple[int, ...] | NDArray[np.floating],
        width: float,
    ) -> None:
        count = len(starts)
        both = tuple(
            np.ascontiguousarray(np.broadcast_to(np.asarray(colour), (count, 4)).astype(np.uint8))
            for colour in (start_colour, end_colour)
        )
        self._parts.append((starts.astype(np.float32), ends.astype(np.float32), np.full(count, width, np.float32)))
        self._colours.append((both[0], both[1]))

    def segments(self) -> Segments:
        if not self._parts:
            none, clear = np.empty((0, 3), np.float32), np.empty((0, 4), np.uint8)
            return Segments(none, none, clear, clear, np.empty(0, np.float32))
        starts, ends, widths = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        first, last = (np.concatenate(part) for part in zip(*self._colours, strict=True))
        return Segments(starts, ends, first, last, widths)


class _Marks:
    """Collects marks."""

    def __init__(self) -> None:
        self._rows: list[tuple[NDArray[np.floating], tuple[int, ...], float, int]] = []

    def add(self, place: NDArray[np.floating], colour: tuple[int, ...], size: float, shape: int) -> None:
        self._rows.append((place, colour, size, shape))

    def marks(self) -> Marks:
        places = np.array([row[0] for row in self._rows], np.float32).reshape(-1, 3)
        colours = np.array([row[1] for row in self._rows], np.uint8).reshape(-1, 4)
        return Marks(
            places,
            colours,
            np.array([r[2] for r in self._rows], np.float32),
            np.array([r[3] for r in self._rows], np.float32),
        )
