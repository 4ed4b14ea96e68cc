"""``python -m viz``: opens a map in a window, and draws pictures of it without a screen.

    python -m viz SCENE                      the window
    python -m viz render SCENE --output PNG  and turntable, pick, project, info
    python -m viz build PASSAGES SCENE       makes a map of passages and their vectors

Results go to stdout, progress and errors to stderr, an error as one line; exit codes as those of ``novelscope``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import NovelscopeError, SettingsError
from viz.choices import METHODS
from viz.options import add_language, add_until, add_view_options, finite, view_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from core.data.scenes import Scene
    from viz.export import Studio

__all__ = ["main"]

VERBS = ("window", "build", "render", "turntable", "pick", "project", "info", "driver")
INTERRUPTED = 130
REWRITE_EVERY_S, LINE_EVERY_S = 0.2, 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    if arguments and arguments[0] not in (*VERBS, "-h", "--help"):
        arguments.insert(0, "window")
    args = _parser().parse_args(arguments)
    try:
        return int(globals()[f"_{args.verb}"](args))
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except NovelscopeError as wrong:
        return _fail(" ".join(str(wrong).split()), 1)
    except ModuleNotFoundError as missing:
        return _fail(f"{missing.name} is not installed; install it with: pip install 'novelscope[viz]'", 1)
    except OSError as wrong:
        return _fail(f"{wrong.strerror or wrong}: {wrong.filename}" if wrong.filename else str(wrong), 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m viz", description="The map of a book.", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, summary: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        made.add_argument("scene", metavar="SCENE", type=Path, help="a map's file")
        return made

    window = verb("window", "look at a map in a window")
    window.add_argument(
        "--search-command", metavar="JSON", type=_command, help="a list: the program that answers questions"
    )
    window.add_argument("--follow", metavar="FILE", type=Path, help="light up the answers that appear in this file")
    window.add_argument("--view", metavar="FILE", type=Path, help="open a view that was saved")
    window.add_argument("--save-to", metavar="DIR", type=Path, default=Path(), help="folder of what the window saves")
    add_until(window)
    add_language(window)

    build = verbs.add_parser("build", help="make a map of passages", description="make a map of passages and vectors")
    build.add_argument("passages", metavar="PASSAGES", type=Path, help="a Parquet file with columns text and vector")
    build.add_argument("scene", metavar="SCENE", type=Path, help="the map's file; an old one stays until all is done")
    build.add_argument("--method", choices=METHODS, default="auto", help="how places are found (default: UMAP, or PCA)")
    build.add_argument("--smallest-cluster", metavar="N", type=_positive, help="passages that make a cluster")
    build.add_argument("--json", action="store_true", help="print what was built as one JSON object")

    render = verb("render", "draw a picture, without a screen")
    render.add_argument("--output", metavar="PNG", type=Path, required=True)
    add_view_options(render)
    render.add_argument("--json", action="store_true", help="print what was drawn as one JSON object")

    turntable = verb("turntable", "a film of the map turning once, without a screen")
    turntable.add_argument("--output", metavar="FILE", type=Path, required=True, help="a .gif or .mp4 file")
    turntable.add_argument("--frames", metavar="N", type=_positive, default=120, help="in a whole turn (default: 120)")
    turntable.add_argument("--fps", metavar="N", type=_positive, default=24, help="frames a second (default: 24)")
    add_view_options(turntable)
    turntable.add_argument("--json", action="store_true", help="print what was drawn as one JSON object")

    pick = verb("pick", "which passage is at a pixel of the picture")
    pick.add_argument("x", metavar="X", type=finite, help="pixels from the left")
    pick.add_argument("y", metavar="Y", type=finite, help="pixels from the top")
    add_view_options(pick)
    pick.add_argument("--json", action="store_true", help="print the passage as one JSON object")

    project = verb("project", "at which pixel of the picture a passage is")
    project.add_argument("id", metavar="ID", help="of the passage")
    add_view_options(project)
    project.add_argument("--json", action="store_true", help="print the place as one JSON object")

    info = verb("info", "what a map holds")
    info.add_argument("--json", action="store_true", help="print it as one JSON object")

    verbs.add_parser("driver", help="which OpenGL draws here, without a screen", description="which OpenGL draws here")
    return parser


def _command(text: str) -> tuple[str, ...]:
    try:
        command = json.loads(text)
    except ValueError:
        command = None
    if not isinstance(command, list) or not command or not all(isinstance(part, str) for part in command):
        raise argparse.ArgumentTypeError(f'{text!r} is not a JSON list of words such as ["program", "argument"]')
    return tuple(command)


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _window(args: argparse.Namespace) -> int:
    from viz.window import WindowSettings, open_window

    scene = _read(args.scene)
    state, answer = view_of(args, scene)
    settings = WindowSettings(search_command=args.search_command, follow=args.follow, save_to=args.save_to)
    return open_window(scene, state, answer, settings)


def _build(args: argparse.Namespace) -> int:
    from core.data.passages import PassageTable
    from viz.building import BuildSettings, build_scene
    from viz.projection import ProjectionSettings

    # Whoever ends this from outside gets the same order as Ctrl-C leaves.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    passages = PassageTable.read(args.passages)
    settings = BuildSettings(projection=ProjectionSettings(method=args.method), smallest_cluster=args.smallest_cluster)
    progress = _Progress()
    try:
        scene, reason = build_scene(passages, settings, progress.show)
    finally:
        progress.close()
    scene.write(args.scene)
    if reason:
        print(f"novelscope: this map was made by PCA, which shows less: {reason}", file=sys.stderr, flush=True)
    facts = {**_facts(scene), "map": str(args.scene)}
    if args.json:
        _print_json(facts)
    else:
        _print_facts(facts)
    return 0


def _render(args: argparse.Namespace) -> int:
    from viz.export import write_png

    if args.output.suffix.lower() != ".png":
        raise SettingsError(f"the picture's file is named {args.output.name}, wanted a name that ends in .png")
    studio = _studio(args)
    write_png(args.output, studio.picture(args.size))
    if args.json:
        _print_json({"output": str(args.output), "width": args.size[0], "height": args.size[1]})
    return 0


def _turntable(args: argparse.Namespace) -> int:
    from viz.export import film_kind, write_film

    film_kind(args.output)
    studio = _studio(args)
    start, count = studio.state.camera.azimuth_deg, args.frames

    def frames() -> Iterator[NDArray[np.uint8]]:
        for index in range(count):
            yield studio.picture(args.size, azimuth_deg=start + 360.0 * index / count)

    progress = _Progress()
    write_film(args.output, frames(), args.fps, lambda done: progress.show("frame", done, count))
    progress.close()
    if args.json:
        size = {"width": args.size[0], "height": args.size[1]}
        _print_json({"output": str(args.output), **size, "frames": count, "fps": args.fps})
    return 0


def _pick(args: argparse.Namespace) -> int:
    studio = _studio(args)
    scene = studio.scene
    row = studio.renderer.pick(studio.state.camera, args.size, args.x, args.y)
    if row is None:
        if args.json:
            _print_json({"id": None})
        else:
            print("nothing there", file=sys.stderr)
        return 0
    start, end = scene.spans[row].tolist()
    found = {"id": scene.ids[row], "chapter": int(scene.chapters[row]), "chapter_title": scene.chapter_titles[row],
             "start": start, "end": end, "text": scene.texts[row]}  # fmt: skip
    if args.json:
        _print_json(found)
    else:
        print(f"{found['id']}  {found['chapter_title']}\n{found['text']}")
    return 0


def _project(args: argparse.Namespace) -> int:
    scene = _read(args.scene)
    state, _ = view_of(args, scene)
    row = scene.rows.get(args.id)
    if row is None or not scene.readable(state.until_chapter)[row]:
        raise SettingsError(f"no passage {args.id!r} on this map, wanted an id such as {scene.ids[0]!r}")
    x, y, depth = state.camera.matrices(args.size).project(scene.points[row : row + 1])[0].tolist()
    is_seen = depth > 0 and 0 <= x < args.size[0] and 0 <= y < args.size[1]
    place: dict[str, Any] = {
        "id": args.id,
        "x": round(x, 3),
        "y": round(y, 3),
        "depth": round(depth, 5),
        "visible": is_seen,
    }
    if args.json:
        _print_json(place)
    else:
        print(f"{place['x']} {place['y']}" if is_seen else "outside the picture")
    return 0


def _info(args: argparse.Namespace) -> int:
    facts = {**_facts(_read(args.scene)), "map": str(args.scene)}
    if args.json:
        _print_json(facts)
    else:
        _print_facts(facts)
    return 0


def _driver(args: argparse.Namespace) -> int:
    from viz.context import open_headless

    context = open_headless()
    print(f"{context.info['GL_RENDERER']}, OpenGL {context.version_code // 100}.{context.version_code % 100 // 10}")
    return 0


def _read(path: Path) -> Scene:
    from core.data.scenes import Scene

    return Scene.read(path)


def _studio(args: argparse.Namespace) -> Studio:
    from viz.context import open_headless
    from viz.export import Studio

    scene = _read(args.scene)
    state, answer = view_of(args, scene)
    return Studio(open_headless(), scene, state, answer)


def _facts(scene: Scene) -> dict[str, Any]:
    facts = scene.facts
    return {
        "book": facts.book,
        "title": facts.title,
        "passages": len(scene),
        "method": facts.method,
        "trustworthiness": round(facts.trustworthiness, 4),
        "clusters": [{"number": c.number, "name": c.name(), "size": c.size} for c in facts.clusters],
        "unclustered": int((scene.clusters < 0).sum()),
    }


def _print_facts(facts: dict[str, Any]) -> None:
    print(f"《{facts['title']}》 {facts['passages']:,} passages, {facts['method']}, trust {facts['trustworthiness']}")
    for cluster in facts["clusters"]:
        print(f"{cluster['size']:>7,}  {cluster['name']}")
    print(f"{facts['unclustered']:>7,}  in no cluster")


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)


def _fail(message: str, code: int) -> int:
    print(f"novelscope: {message}", file=sys.stderr, flush=True)
    return code


class _Progress:
    """One line on stderr, rewritten on a terminal; a line now and then in a log, which another program may read."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._stage, self._next_at = "", 0.0

    def show(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._next_at and stage == self._stage and (done < total or not self._is_terminal):
            return
        self._stage, self._next_at = stage, now + (REWRITE_EVERY_S if self._is_terminal else LINE_EVERY_S)
        start, end = ("\r\x1b[K", "") if self._is_terminal else ("", "\n")
        print(f"{start}{stage}: {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Nothing is left to save, and unloading drivers and libraries one by one would take a fifth of a picture's time.
    os._exit(code)
