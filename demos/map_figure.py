"""What the page draws of a book's map, as JSON for ``static/map.js``: nothing past the bookmark is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.data.palette import VIRIDIS, class_colour, scale_on
from core.data.scenes import NOISE, Scene

__all__ = ["map_json"]

THEMES = ("light", "dark")
EXCERPT_CHARS = {"zh": 64, "en": 160}
MOST_EXCERPTS = 20_000
"""Passages up to which the page holds the beginning of each; of more, a click still opens the book."""
LABEL_WORDS = 2
WORDS = ("map_by_cluster", "map_by_chapter", "map_by_position", "map_fit", "map_question")


def map_json(scene: Scene, until: int, lit: Mapping[str, Any] | None, strings: Mapping[str, str]) -> str:
    """The map up to a bookmark, with the passages of an answer lit.

    Args:
        lit: ``question`` and ``places``, each with ``start``, ``end`` and ``score``, best first.
    """
    rows = np.flatnonzero(scene.readable(until))
    points = scene.points[rows][:, [0, 2, 1]].astype(np.float64)  # Plotly's third axis is up
    has_excerpts = len(rows) <= MOST_EXCERPTS
    room = EXCERPT_CHARS.get(scene.facts.language, EXCERPT_CHARS["en"])
    value = {
        "words": {name: strings[name] for name in WORDS},
        "points": [np.round(points[:, axis], 4).tolist() for axis in range(3)],
        "cluster": scene.clusters[rows].tolist(),
        "chapter": scene.chapters[rows].tolist(),
        "span": scene.spans[rows].tolist(),
        "text": [_excerpt(scene.texts[row], room) for row in rows] if has_excerpts else [],
        "titles": {int(number): title for number, title in scene.chapter_names.items() if number <= until},
        "clusters": _clusters(scene, rows, points, until, strings),
        "scales": {theme: _stops(theme) for theme in THEMES},
        "lit": _lit(scene, rows, points, lit) if lit else None,
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _clusters(
    scene: Scene, rows: NDArray[np.intp], points: NDArray[np.float64], until: int, strings: Mapping[str, str]
) -> list[dict[str, Any]]:
    told = []
    for cluster in scene.facts.clusters:
        members = points[scene.clusters[rows] == cluster.number]
        if len(members):
            name = cluster.name(until) or strings["map_nameless"].format(number=cluster.number + 1)
            told.append(
                {
                    "number": cluster.number, "name": name, "count": len(members),
                    "label": cluster.name(until, most=LABEL_WORDS), "place": np.median(members, axis=0).tolist(),
                    **{theme: _css(class_colour(theme, cluster.number)) for theme in THEMES},
                }
            )  # fmt: skip
    noise = int((scene.clusters[rows] == NOISE).sum())
    if noise:
        told.append({"number": NOISE, "name": strings["map_noise"], "count": noise, "label": "", "place": [0, 0, 0],
                     "light": "#bdb6a8", "dark": "#5f5f68"})  # fmt: skip
    return told


def _lit(
    scene: Scene, rows: NDArray[np.intp], points: NDArray[np.float64], lit: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The passages that each place covers, with its rank, and where the question belongs: about their middle."""
    shown = {int(row): index for index, row in enumerate(rows)}
    hits: list[dict[str, int]] = []
    middles: list[NDArray[np.float64]] = []
    weights: list[float] = []
    for place in lit["places"]:
        covered = [shown[row] for row in scene.rows_within(place["start"], place["end"]) if row in shown]
        if covered:
            rank = len(middles) + 1
            hits += [{"row": row, "rank": rank} for row in covered]
            middles.append(points[covered].mean(axis=0))
            weights.append(1.0 / rank)
    if not hits:
        return None
    return {"question": lit["question"], "hits": hits, "place": np.average(middles, axis=0, weights=weights).tolist()}


def _excerpt(text: str, room: int) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= room else plain[:room].rstrip() + "…"


def _stops(theme: str) -> list[tuple[float, str]]:
    colours: Sequence[tuple[int, int, int]] = scale_on(theme, VIRIDIS)
    return [(index / (len(colours) - 1), _css(colour)) for index, colour in enumerate(colours)]


def _css(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
