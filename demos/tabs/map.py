"""The tab that shows a book as a map: its passages in 3D, the last answer's passages lit, a click opens the book.

The book and the bookmark are those of the first tab; what lies past the bookmark is never sent to the browser. The
map itself is built by the viewer in a process of its own, and can be opened in the viewer's window.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import resources
from types import MethodType
from typing import Any

import gradio as gr

from core.data.scenes import Scene
from core.errors import NovelscopeError
from demos import rendering
from demos.map_figure import map_json
from demos.map_window import open_map_window, window_command
from demos.mapping import build_map, is_map_current
from demos.stepwise import Cancelled, Finished, stepwise
from demos.tabs.leaf import build_leaf, open_at
from demos.translations import strings_for
from demos.wiring import Services

__all__ = ["build_map_tab", "open_window", "rebuild_map", "show_map"]

FRAME = '<div class="ns-map-frame" hidden><div class="ns-map-bar"></div><div class="ns-map-plot"></div></div>'
WHY_NO_WINDOW = {"elsewhere": "map_window_elsewhere", "no_display": "map_window_no_display"}
STAGES = ("neighbours", "umap", "map", "space for clusters", "clusters", "names", "trust")

_log = logging.getLogger("novelscope.web")


def build_map_tab(
    services: Services, text: gr.I18n, tab: gr.Tab, book: gr.Dropdown, bookmark: gr.Slider, turns: gr.State
) -> None:
    """Put the tab on the page.

    Args:
        turns: of the conversation about the book; the passages of the last answer are lit.
    """
    told = gr.HTML(elem_id="ns-map-told")
    with gr.Row(elem_classes="ns-buttons"):
        build = gr.Button(text("map_build"), variant="primary", visible=False, elem_id="ns-map-build")
        stop = gr.Button(text("stop"), variant="stop", elem_id="ns-map-stop")
        window = gr.Button(text("map_window"), visible=False, elem_id="ns-map-window")
    script = resources.files("demos").joinpath("static").joinpath("map.js").read_text(encoding="utf-8")
    plot = gr.HTML("", html_template=FRAME, js_on_load=script, elem_id="ns-map")
    leaf, place = build_leaf(services, book, bookmark)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    seen = {"fn": MethodType(show_map, services), "inputs": [book, bookmark, turns],
            "outputs": [told, plot, build, window], **quiet}  # fmt: skip
    tab.select(**seen)
    building = build.click(
        MethodType(rebuild_map, services), book, told, concurrency_id="map", concurrency_limit=1, **quiet
    )
    building.success(**seen)
    stop.click(None, cancels=[building], queue=False, api_visibility="private").then(**seen)
    window.click(MethodType(open_window, services), [book, bookmark], told, **quiet)
    plot.click(MethodType(open_at, services), [book, bookmark], [leaf, place], **quiet)
    # They are moved in another tab; a map of another book, or of chapters not read yet, must not wait in this one.
    for changed in (book, bookmark):
        changed.change(lambda: ("", "", "", {}), None, [told, plot, leaf, place], queue=False, **quiet)


def show_map(
    services: Services, book_id: str | None, until: float, turns: Sequence[Mapping[str, Any]], request: gr.Request
) -> tuple[str, str, Any, Any]:
    """(what to tell, the map as JSON, the build button, the window button)."""
    strings = strings_for(request)
    no_map = "", gr.Button(visible=False), gr.Button(visible=False)
    try:
        info = services.library.info(book_id or "")
    except NovelscopeError:
        return rendering.notice(strings["pick_book"]), *no_map
    if not info.is_dense and not is_map_current(services.library, info.id):
        missing = strings["map_waits"].format(done=f"{info.dense_done:,}", total=f"{info.chunks:,}")
        return rendering.notice(missing, "busy", info.dense_done / max(1, info.chunks)), *no_map
    if not is_map_current(services.library, info.id):
        return rendering.notice(strings["map_none"]), "", gr.Button(visible=True), gr.Button(visible=False)
    try:
        scene = Scene.read(services.library.open(info.id).map_path)
    except NovelscopeError as wrong:
        return rendering.notice(str(wrong), "error"), "", gr.Button(visible=True), gr.Button(visible=False)
    facts = scene.facts
    line = strings["map_line"].format(
        passages=f"{int(scene.readable(int(until)).sum()):,}",
        method=facts.method.upper(),
        trust=f"{facts.trustworthiness:.2f}",
    )
    shown = map_json(scene, int(until), _last_found(turns), strings)
    return f'<p class="ns-muted">{line}</p>', shown, gr.Button(visible=False), gr.Button(visible=True)


def rebuild_map(services: Services, book_id: str | None, request: gr.Request) -> Iterator[str]:
    """Yield what to tell while the book's map is built; closing this stops it."""
    strings = strings_for(request)
    if not book_id:
        yield rendering.notice(strings["pick_book"])
        return
    yield rendering.notice(strings["map_building"], "busy", 0.0)
    try:
        for step in stepwise(partial(_build, services, book_id), name="map"):
            if not isinstance(step, Finished):
                yield rendering.notice(strings["map_building"], "busy", _share(*step))
    except NovelscopeError as wrong:
        raise gr.Error(str(wrong)) from wrong
    except Exception as wrong:
        _log.exception("a map could not be built")
        raise gr.Error(strings["unexpected"]) from wrong


def open_window(services: Services, book_id: str | None, until: float, request: gr.Request) -> str:
    """What to tell after the viewer's window was opened, or how the reader opens it where this cannot."""
    strings = strings_for(request)
    try:
        info = services.library.info(book_id or "")
        chapter = int(until) if until < info.last_chapter else None
        why_not = open_map_window(services, info.id, chapter, request)
    except NovelscopeError as wrong:
        return rendering.notice(str(wrong), "error")
    if why_not is None:
        return rendering.notice(strings["map_opened"])
    command = window_command(services, info.id, chapter)
    return rendering.notice(strings[WHY_NO_WINDOW[why_not]].format(command=command))


def _build(
    services: Services, book_id: str, tell: Callable[[tuple[str, int, int]], None], is_cancelled: Callable[[], bool]
) -> None:
    with services.indexer.give_way():
        if build_map(services.library, book_id, lambda *step: tell(step), is_cancelled) is None:
            raise Cancelled


def _share(stage: str, done: int, total: int) -> float:
    """How much of the whole work is done, each stage counted alike."""
    at = STAGES.index(stage) if stage in STAGES else 0
    return (at + done / max(1, total)) / len(STAGES)


def _last_found(turns: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The question and the passages of the newest turn that found any."""
    for turn in reversed(turns):
        if turn.get("found"):
            return {"question": turn["question"], "places": turn["found"]}
    return None
