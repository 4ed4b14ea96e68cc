"""Colours of passages by what they are, the legend that explains them, and the colours of everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.data.palette import CIVIDIS, RGB, VIRIDIS, class_colour, ramp, scale_on
from core.data.scenes import NOISE, Scene
from core.errors import SettingsError
from viz.choices import MODES

__all__ = ["THEMES", "Coloured", "Entry", "Theme", "class_of", "colour_passages"]

BANDS = 10
"""Steps of a scale in the legend."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of everything but passages.

    Attributes:
        noise: of a passage in no cluster, or without a score.
        rim: that sprites darken to at their edge.
        found, near, question: of an answer's passages, of those that just missed, of the question's mark.
        path: of the story's line.
    """

    name: str
    background: RGB
    text: RGB
    faint_text: RGB
    noise: RGB
    rim: RGB
    found: RGB
    near: RGB
    question: RGB
    hover: RGB
    path: RGB
    floor: RGB


THEMES = {
    "dark": Theme(
        name="dark",
        background=(22, 22, 27), text=(236, 231, 222), faint_text=(160, 153, 142), noise=(98, 98, 106),
        rim=(12, 12, 16), found=(255, 214, 90), near=(196, 166, 92), question=(255, 120, 96), hover=(255, 255, 255),
        path=(168, 176, 196), floor=(58, 58, 68),
    ),
    "light": Theme(
        name="light",
        background=(250, 248, 242), text=(43, 38, 32), faint_text=(113, 104, 88), noise=(190, 185, 175),
        rim=(90, 84, 74), found=(176, 36, 24), near=(206, 130, 116), question=(120, 16, 60), hover=(20, 18, 15),
        path=(120, 116, 108), floor=(222, 216, 202),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the legend.

    Attributes:
        key: of the class, as ``class_of`` gives it; -1 for what has none.
        count: passages in it.
        is_class: whether it can be isolated; an end of a scale cannot.
    """

    key: int
    label: str
    colour: RGB
    count: int
    is_class: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Coloured:
    """Passages' colours, (n, 3) uint8, and the legend."""

    colours: NDArray[np.uint8]
    legend: tuple[Entry, ...]


def class_of(scene: Scene, mode: str) -> NDArray[np.int32]:
    """(n,) int32: the class that a legend's entry isolates; all 0 for scales without classes."""
    if mode == "cluster":
        return scene.clusters
    if mode == "chapter":
        return scene.chapters
    if mode == "position":
        return _band(scene.positions)
    if mode == "length":
        return _band(_lengths(scene) / max(1.0, float(_lengths(scene).max())))
    return np.zeros(len(scene), np.int32)


def colour_passages(
    scene: Scene,
    mode: str,
    theme: Theme,
    *,
    until_chapter: int | None = None,
    scores: Mapping[int, float] | None = None,
    words: Mapping[str, str] | None = None,
) -> Coloured:
    """Colours by ``mode``, and a legend that tells nothing beyond ``until_chapter``.

    Args:
        scores: of rows that a question found, for the mode ``"score"``.
        words: of the legend, by key, in the reader's language.

    Raises:
        SettingsError: no such mode.
    """
    if mode not in MODES:
        raise SettingsError(f"no colour mode {mode!r}; there are {', '.join(MODES)}")
    say = words or {}
    readable = scene.readable(until_chapter)
    if mode == "cluster":
        return _by_cluster(scene, theme, readable, until_chapter, say)
    if mode == "chapter":
        return _by_chapter(scene, theme, readable)
    if mode == "score":
        return _by_score(scene, theme, scores or {}, say)
    values = scene.positions if mode == "position" else _lengths(scene)
    return _by_band(scene, mode, np.asarray(values, np.float64), readable, theme, say)


def _by_cluster(
    scene: Scene, theme: Theme, readable: NDArray[np.bool_], until_chapter: int | None, say: Mapping[str, str]
) -> Coloured:
    colours = np.empty((len(scene), 3), np.uint8)
    colours[:] = theme.noise
    legend = []
    for cluster in scene.facts.clusters:
        colour = class_colour(theme.name, cluster.number)
        members = scene.clusters == cluster.number
        colours[members] = colour
        count = int((members & readable).sum())
        if count:
            nameless = f"{say.get('cluster', 'cluster')} {cluster.number + 1}"
            legend.append(Entry(cluster.number, cluster.name(until_chapter) or nameless, colour, count))
    noise = int(((scene.clusters == NOISE) & readable).sum())
    if noise:
        legend.append(Entry(NOISE, say.get("noise", "in no cluster"), theme.noise, noise))
    return Coloured(colours, tuple(legend))


def _by_chapter(scene: Scene, theme: Theme, readable: NDArray[np.bool_]) -> Coloured:
    numbers = list(scene.chapter_names)
    order = np.searchsorted(np.sort(numbers), scene.chapters)
    shares = order / max(1, len(numbers) - 1)
    colours = ramp(shares, scale_on(theme.name, VIRIDIS))
    counts = dict(zip(*np.unique(scene.chapters[readable], return_counts=True), strict=True))
    legend = []
    for number, title in scene.chapter_names.items():
        if number in counts:
            colour = colours[int(np.argmax(scene.chapters == number))]
            legend.append(Entry(number, title or str(number), _rgb(colour), int(counts[number])))
    return Coloured(colours, tuple(legend))


def _by_band(
    scene: Scene,
    mode: str,
    values: NDArray[np.float64],
    readable: NDArray[np.bool_],
    theme: Theme,
    say: Mapping[str, str],
) -> Coloured:
    top = max(1e-9, float(values.max()))
    shares = values / top
    colours = ramp(shares, scale_on(theme.name, CIVIDIS))
    bands = _band(shares)
    legend = []
    for band in range(BANDS):
        members = (bands == band) & readable
        if members.any():
            low, high = band / BANDS, (band + 1) / BANDS
            label = f"{low:.0%} – {high:.0%}" if mode == "position" else f"{low * top:.0f} – {high * top:.0f}"
            label += f" {say.get('characters', 'characters')}" if mode == "length" else ""
            middle = _rgb(ramp(np.array([(low + high) / 2]), scale_on(theme.name, CIVIDIS))[0])
            legend.append(Entry(band, label, middle, int(members.sum())))
    return Coloured(colours, tuple(legend))


def _by_score(scene: Scene, theme: Theme, scores: Mapping[int, float], say: Mapping[str, str]) -> Coloured:
    colours = np.empty((len(scene), 3), np.uint8)
    colours[:] = theme.noise
    legend = []
    if scores:
        rows = np.fromiter(scores, np.int64)
        values = np.array([scores[int(row)] for row in rows])
        low, high = float(values.min()), float(values.max())
        shares = (values - low) / (high - low) if high > low else np.ones(len(values))
        scale = scale_on(theme.name, VIRIDIS)
        colours[rows] = ramp(0.25 + 0.75 * shares, scale)
        for share, value in ((1.0, high), (0.0, low)) if high > low else ((1.0, high),):
            colour = _rgb(ramp(np.array([0.25 + 0.75 * share]), scale)[0])
            legend.append(
                Entry(0, f"{say.get('score', 'score')} {value:.3f}", colour, int((values == value).sum()), False)
            )
    rest = say.get("not_found", "not found") if scores else say.get("no_question", "no question asked yet")
    legend.append(Entry(NOISE, rest, theme.noise, len(scene) - len(scores), False))
    return Coloured(colours, tuple(legend))


def _band(shares: NDArray[np.floating]) -> NDArray[np.int32]:
    return np.clip(np.floor(np.asarray(shares, np.float64) * BANDS), 0, BANDS - 1).astype(np.int32)


def _lengths(scene: Scene) -> NDArray[np.float64]:
    return (scene.spans[:, 1] - scene.spans[:, 0]).astype(np.float64)


def _rgb(colour: NDArray[np.uint8]) -> RGB:
    return int(colour[0]), int(colour[1]), int(colour[2])
