"""The options that say how a map is looked at, and the view that they make."""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from viz.choices import LANGUAGES, MODES, PROJECTIONS, THEME_NAMES

if TYPE_CHECKING:
    from core.data.scenes import Scene
    from viz.answers import Answer
    from viz.state import ViewState

__all__ = ["add_language", "add_view_options", "finite", "picture_size", "view_of"]

LARGEST_SIDE = 32_768
LARGEST_NUMBER = 1e9


def add_view_options(parser: argparse.ArgumentParser) -> None:
    """Size, camera, colours and what is shown."""
    on_or_off = argparse.BooleanOptionalAction
    parser.add_argument(
        "--size", metavar="WxH", type=picture_size, default=(1280, 720), help="pixels (default: 1280x720)"
    )
    parser.add_argument("--azimuth", metavar="DEG", type=finite, help="direction of the eye about the vertical axis")
    parser.add_argument("--elevation", metavar="DEG", type=finite, help="of the eye over the horizon; 90 looks down")
    parser.add_argument("--zoom", metavar="F", type=finite, help="1 shows the whole map")
    parser.add_argument("--projection", choices=PROJECTIONS)
    parser.add_argument("--color", choices=MODES, help="what colours tell (default: cluster)")
    parser.add_argument("--theme", choices=THEME_NAMES)
    parser.add_argument("--answer", metavar="FILE", type=Path, help="a question and the passages found, as JSON")
    parser.add_argument("--ids", metavar="A,B", help="passages to light up")
    add_until(parser)
    parser.add_argument("--labels", action=on_or_off, default=None, help="names of the clusters (default: shown)")
    parser.add_argument("--legend", action=on_or_off, default=None, help="what the colours mean (default: not shown)")
    parser.add_argument("--path", action=on_or_off, default=None, help="the story's path (default: not shown)")
    parser.add_argument("--view", metavar="FILE", type=Path, help="a view that the window saved; options go over it")
    add_language(parser)


def add_until(parser: argparse.ArgumentParser) -> None:
    """--until."""
    parser.add_argument("--until", metavar="N", type=int, help="show chapters up to N only: nothing later is told")


def add_language(parser: argparse.ArgumentParser) -> None:
    """--lang."""
    parser.add_argument("--lang", choices=LANGUAGES, help="language of words (default: the view's, else zh)")


def finite(text: str) -> float:
    """A number that is one."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or abs(number) > LARGEST_NUMBER:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return number


def picture_size(text: str) -> tuple[int, int]:
    """``"1280x720"`` as (1280, 720)."""
    match = re.fullmatch(r"(\d{1,6})[xX×](\d{1,6})", text.strip())
    if not match or not all(1 <= int(side) <= LARGEST_SIDE for side in match.groups()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size such as 1280x720, sides of 1 to {LARGEST_SIDE} pixels"
        )
    return int(match[1]), int(match[2])


def view_of(args: argparse.Namespace, scene: Scene) -> tuple[ViewState, Answer | None]:
    """The view that options and a saved view ask for, and the answer that it shows.

    Raises:
        SettingsError: a file cannot be read, an id is not of this map, or a value cannot work.
    """
    from core.errors import SettingsError
    from viz.answers import read_answer
    from viz.state import ViewState, read_view

    state = read_view(args.view) if args.view else ViewState()
    camera = {
        name: value
        for name, value in (
            ("azimuth_deg", getattr(args, "azimuth", None)),
            ("elevation_deg", getattr(args, "elevation", None)),
            ("zoom", getattr(args, "zoom", None)),
            ("projection", getattr(args, "projection", None)),
        )
        if value is not None
    }
    options = {
        name: value
        for name, value in (
            ("mode", getattr(args, "color", None)),
            ("theme", getattr(args, "theme", None)),
            ("until_chapter", args.until),
            ("labels", getattr(args, "labels", None)),
            ("legend", getattr(args, "legend", None)),
            ("path", getattr(args, "path", None)),
            ("language", args.lang),
        )
        if value is not None
    }
    ids = getattr(args, "ids", None)
    if ids:
        options["selected"] = tuple(name.strip() for name in ids.split(",") if name.strip())
    state = replace(state, camera=replace(state.camera, **camera), **options)
    unknown = [name for name in state.selected if name not in scene.rows] if ids else []
    if unknown:
        raise SettingsError(f"no passage {unknown[0]!r} on this map, wanted ids such as {scene.ids[0]!r}")
    source = getattr(args, "answer", None) or (dict(state.answer) if state.answer else None)
    answer = read_answer(source, scene, state.until_chapter) if source else None
    return state, answer
