"""``novelscope map``: build a book's map, look at it in a window, draw it without a screen.

Pictures and the window are the viewer's, a process of its own; this finds the book's map, builds it where it is
missing or out of date, turns a question into an answer, and hands the rest on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import SettingsError
from demos.verbs.common import action_maker, add_book, at_least_one, open_services, print_json, say, text_argument
from demos.verbs.progress import ProgressLine

if TYPE_CHECKING:
    from core.retrieval.indexing import EmbeddingProgress
    from demos.wiring import Services

__all__ = ["add_arguments", "run"]

MODES = ("cluster", "chapter", "position", "score", "length")
OWN = frozenset(("verb", "action", "book", "home", "debug", "question", "follow", "force", "x", "y", "id"))
"""Arguments that the viewer does not know by these names; it is handed all the others."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = action_maker(parser)

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        made = add(name, summary)
        add_book(made)
        return made

    build = action("build", "生成一本书的地图 / make a book's map, or make it anew")
    build.add_argument("--method", choices=("auto", "umap", "pca"), help="how places are found (default: UMAP, or PCA)")
    build.add_argument("--smallest-cluster", metavar="N", type=at_least_one, help="passages that make a cluster")
    build.add_argument("--force", action="store_true", help="also where the map is up to date")

    window = action("window", "在窗口里看 / look at the map in a window")
    window.add_argument("--follow", action="store_true", help="light up the passages of each answer in the browser")
    window.add_argument("--view", metavar="FILE", type=Path, help="open a view that was saved")
    window.add_argument("--save-to", metavar="DIR", type=Path, help="folder of what the window saves (default: here)")
    _add_until(window)
    _add_language(window)

    render = action("render", "画成图片，不需屏幕 / draw a picture, without a screen")
    render.add_argument("--output", metavar="PNG", type=Path, required=True)
    _add_view_options(render)

    turntable = action("turntable", "转一圈的动画 / a film of the map turning once, without a screen")
    turntable.add_argument("--output", metavar="FILE", type=Path, required=True, help="a .gif or .mp4 file")
    turntable.add_argument("--frames", metavar="N", type=at_least_one, help="in a whole turn (default: 120)")
    turntable.add_argument("--fps", metavar="N", type=at_least_one, help="frames a second (default: 24)")
    _add_view_options(turntable)

    pick = action("pick", "图上某点是哪一段 / which passage is at a pixel of the picture")
    pick.add_argument("x", metavar="X", type=float, help="pixels from the left")
    pick.add_argument("y", metavar="Y", type=float, help="pixels from the top")
    _add_view_options(pick)

    project = action("project", "某一段在图上哪里 / at which pixel of the picture a passage is")
    project.add_argument("id", metavar="ID", help="of the passage")
    _add_view_options(project)


def run(args: argparse.Namespace) -> int:
    """Do what the action says."""
    services = open_services(args)
    book_id = services.library.find(args.book)
    if args.action == "build":
        return _build(services, book_id, args)
    _ensure(services, book_id)
    return _view(services, book_id, args)


def _add_view_options(parser: argparse.ArgumentParser) -> None:
    """What the viewer's own options are, with a question beside them; a test compares the two."""
    on_or_off = argparse.BooleanOptionalAction
    parser.add_argument("--size", metavar="WxH", help="pixels (default: 1280x720)")
    parser.add_argument("--azimuth", metavar="DEG", type=float, help="direction of the eye about the vertical axis")
    parser.add_argument("--elevation", metavar="DEG", type=float, help="of the eye over the horizon; 90 looks down")
    parser.add_argument("--zoom", metavar="F", type=float, help="1 shows the whole map")
    parser.add_argument("--projection", choices=("perspective", "orthographic"))
    parser.add_argument("--color", choices=MODES, help="what colours tell (default: cluster)")
    parser.add_argument("--theme", choices=("dark", "light"))
    parser.add_argument("--question", metavar="TEXT", type=text_argument, help="light up the passages that it finds")
    parser.add_argument("--answer", metavar="FILE", type=Path, help="a question and the passages found, as JSON")
    parser.add_argument("--ids", metavar="A,B", help="passages to light up")
    _add_until(parser)
    parser.add_argument("--labels", action=on_or_off, default=None, help="names of the clusters (default: shown)")
    parser.add_argument("--legend", action=on_or_off, default=None, help="what the colours mean (default: not shown)")
    parser.add_argument("--path", action=on_or_off, default=None, help="the story's path (default: not shown)")
    parser.add_argument("--view", metavar="FILE", type=Path, help="a view that the window saved; options go over it")
    _add_language(parser)


def _add_until(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--until", metavar="N", type=at_least_one, help="show chapters up to N only: nothing later is told"
    )


def _add_language(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lang", choices=("zh", "en"), help="of the words shown (default: NOVELSCOPE_LANG)")


def _build(services: Services, book_id: str, args: argparse.Namespace) -> int:
    from demos.mapping import is_map_current

    is_asked = args.force or args.method is not None or args.smallest_cluster is not None
    if not is_asked and is_map_current(services.library, book_id):
        say("the map is up to date; --force makes it anew")
        return _run_viewer("info", services.library.open(book_id).map_path, *(["--json"] if args.json else []))
    built = _make(services, book_id, _forwarded(args, without=("json",)))
    if args.json:
        print_json(built)
        return 0
    return _run_viewer("info", services.library.open(book_id).map_path)


def _ensure(services: Services, book_id: str) -> None:
    """Build the map where there is none that fits."""
    from demos.mapping import is_map_current

    if not is_map_current(services.library, book_id):
        say("building the map first; it is kept for the next time")
        _make(services, book_id, [])


def _make(services: Services, book_id: str, options: Sequence[str]) -> dict[str, Any]:
    """Vectors where they are missing, then the map, with progress."""
    from demos.indexer import finish_vectors
    from demos.mapping import build_map

    progress = ProgressLine()

    def heard(now: EmbeddingProgress) -> None:
        progress.show(f"《{now.title}》: vector {now.done:,} of {now.total:,}")

    try:
        finish_vectors(services.library, book_id, heard)
        built = build_map(
            services.library, book_id,
            lambda stage, done, total: progress.show(f"map, {stage}: {done:,} of {total:,}"), options=options,
        )  # fmt: skip
    finally:
        progress.close()
    assert built is not None  # nobody stops it but Ctrl-C, which is an exception
    for note in built["notes"]:
        say(f"note: {note}")
    return built


def _view(services: Services, book_id: str, args: argparse.Namespace) -> int:
    """Hand the book's map to the viewer; its exit code."""
    from demos.mapping import FOLLOWED, search_answer

    args.lang = args.lang or services.settings.language
    scene = services.library.open(book_id).map_path
    options = _forwarded(args)
    if args.action == "window":
        home = services.settings.home
        search = [sys.executable, "-m", "demos", "map-search", book_id, "--home", str(home)]
        options = [*_forwarded(args, without=("json",)), "--search-command", json.dumps(search)]
        options += ["--follow", str(home / FOLLOWED)] if args.follow else []
        options += [] if args.save_to else ["--save-to", str(Path.cwd())]
        return _run_viewer("window", scene, *options)
    # After the two dashes, since a place may be negative, which would be taken for an option.
    named: list[str | Path] = [
        "--",
        scene,
        *(str(value) for name, value in vars(args).items() if name in ("x", "y", "id")),
    ]
    if args.question is None:
        return _run_viewer(args.action, *options, *named)
    if args.answer is not None:
        raise SettingsError("both --question and --answer were given; a picture shows one of them")
    with tempfile.TemporaryDirectory(prefix="novelscope-map-") as folder:
        answer = Path(folder) / "answer.json"
        found = search_answer(services.library, book_id, args.question, args.until)
        answer.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
        return _run_viewer(args.action, *options, "--answer", answer, *named)


def _forwarded(args: argparse.Namespace, *, without: Sequence[str] = ()) -> list[str]:
    """The options that were given, as the viewer takes them: paths made absolute, for it runs in another folder."""
    words: list[str] = []
    for name, value in vars(args).items():
        flag = f"--{name.replace('_', '-')}"
        if name in OWN or name in without or value is None:
            continue
        if name == "json" or isinstance(value, bool):
            words += [flag] if value else ([f"--no-{name}"] if name != "json" else [])
        else:
            words.append(f"{flag}={value.expanduser().absolute() if isinstance(value, Path) else value}")
    return words


def _run_viewer(*arguments: str | Path) -> int:
    from demos.mapping import ROOT, viewer_command

    try:
        return subprocess.run(viewer_command(*arguments), cwd=ROOT).returncode
    except KeyboardInterrupt:  # the viewer has heard it as well, and said so
        return 130
