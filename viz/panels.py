"""The window's panels, drawn with Dear ImGui: question, legend, reading, view, and the pinned passage.

Widgets read and change a ``MapSession``; what needs files, the search or the window itself is handed back as a
``Request``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from itertools import pairwise

from imgui_bundle import imgui

from viz.cards import draw_card, draw_hover
from viz.choices import MODES, NEIGHBOUR_KINDS, PROJECTIONS, THEME_NAMES
from viz.session import MapSession
from viz.widgets import BARE, FIXED, MARGIN, faint, literal, swatch, wrapped

__all__ = ["Panels", "Request"]

PANEL_WIDTH = 300.0
RESULTS_ROWS, LEGEND_ROWS = 7, 9


class Request(Enum):
    """What the window does for a panel."""

    ASK = auto()
    SAVE_VIEW = auto()
    SAVE_PICTURE = auto()
    EXPORT_CSV = auto()
    EXPORT_TEXT = auto()


class Panels:
    """All panels of one window.

    Attributes:
        shows_help, shows_panels: what is open.
        wants_question: the question's box takes the keyboard at the next frame.
    """

    def __init__(self, session: MapSession, *, can_ask: bool, is_following: bool, font_warning: str = "") -> None:
        self._session = session
        self._can_ask, self._is_following, self._font_warning = can_ask, is_following, font_warning
        self.shows_help, self.shows_panels, self.wants_question = False, True, False
        self.is_searching = False
        self._requests: list[Request] = []

    def draw(self, size: tuple[float, float], now_s: float, lasso: Sequence[tuple[float, float]]) -> list[Request]:
        """Draw everything for a window of that size; what was asked for."""
        self._requests = []
        session = self._session
        if self.shows_panels:
            self._draw_main(size)
            if session.pinned is not None:
                draw_card(session, size)
        hovered = session.hovered(now_s)
        if hovered is not None and hovered != session.pinned and not imgui.get_io().want_capture_mouse:
            draw_hover(session, hovered, size)
        if self.shows_help:
            self._draw_help(size)
        self._draw_notice(size)
        if len(lasso) > 1:
            colour = imgui.get_color_u32(
                (1.0, 0.85, 0.35, 0.9) if session.state.theme == "dark" else (0.6, 0.1, 0.1, 0.9)
            )
            corners = [*lasso, lasso[0]]
            drawn = imgui.get_foreground_draw_list()
            for start, end in pairwise(corners):
                drawn.add_line(start, end, colour, 1.5)
        return self._requests

    def _draw_main(self, size: tuple[float, float]) -> None:
        session, words = self._session, self._session.words
        facts = session.scene.facts
        imgui.set_next_window_pos((MARGIN, MARGIN))
        imgui.set_next_window_size((PANEL_WIDTH, size[1] - 2 * MARGIN))
        imgui.begin("main", None, BARE)
        imgui.text_unformatted(f"《{facts.title}》" if session.state.language == "zh" else facts.title)
        trust = words["trust_whole"].format(value=f"{facts.trustworthiness:.2f}", method=facts.method.upper())
        faint(session, trust, is_wrapped=True)
        if self._font_warning:
            imgui.push_style_color(imgui.Col_.text, (0.95, 0.45, 0.3, 1.0))
            wrapped(self._font_warning)
            imgui.pop_style_color()
        imgui.dummy((0, 2))
        self._draw_question()
        if imgui.collapsing_header(f"{words['color_by']}###colours", imgui.TreeNodeFlags_.default_open):
            self._draw_colours()
        if imgui.collapsing_header(f"{words['tab_reading']}###reading", imgui.TreeNodeFlags_.default_open):
            self._draw_reading()
        if imgui.collapsing_header(f"{words['tab_view']}###view"):
            self._draw_view()
        self._draw_selection()
        imgui.end()

    def _draw_question(self) -> None:
        session, words = self._session, self._session.words
        if not self._can_ask and not self._is_following:
            faint(session, words["no_search"], is_wrapped=True)
            return
        if self._is_following:
            faint(session, words["following"], is_wrapped=True)
        if self._can_ask:
            if self.wants_question:
                imgui.set_keyboard_focus_here()
                self.wants_question = False
            imgui.set_next_item_width(-1)
            is_entered, session.question = imgui.input_text_with_hint(
                "##question", words["ask_hint"], session.question, imgui.InputTextFlags_.enter_returns_true
            )
            is_pressed = imgui.button(words["ask"])
            if (is_entered or is_pressed) and session.question.strip():
                self._requests.append(Request.ASK)
        if session.answer or session.question:
            if self._can_ask:
                imgui.same_line()
            if imgui.button(words["clear"]):
                session.clear_answer()
        if self.is_searching:
            faint(session, words["searching"])
        elif session.answer is not None and session.answer.hits:
            self._draw_results()

    def _draw_results(self) -> None:
        session, words = self._session, self._session.words
        answer = session.answer
        assert answer is not None
        rows = min(RESULTS_ROWS, len(answer.hits)) + (1 if answer.near else 0)
        imgui.begin_child(
            "results", (0, rows * imgui.get_text_line_height_with_spacing() + 8), imgui.ChildFlags_.borders
        )
        said_near = False
        for hit in answer.hits:
            if hit.is_near and not said_near:
                faint(session, words["near_misses"])
                said_near = True
            title = session.scene.chapter_titles[hit.main]
            label = f"{hit.rank}. {title}###hit{hit.rank}"
            is_clicked, _ = imgui.selectable(label, session.pinned == hit.main)
            if imgui.is_item_hovered():
                imgui.set_tooltip(f"{hit.score:.4f}")
            if is_clicked:
                session.pin(hit.main)
                session.fly_to(hit.main)
        imgui.end_child()
        if answer.found and imgui.is_item_hovered():
            imgui.set_tooltip(words["approximate"])

    def _draw_colours(self) -> None:
        session, words = self._session, self._session.words
        names = [words[f"mode_{mode}"] for mode in MODES]
        imgui.set_next_item_width(-1)
        is_changed, index = imgui.combo("##mode", MODES.index(session.state.mode), names)
        if is_changed:
            session.change(mode=MODES[index], isolated=())
        legend = session.drawing.coloured.legend
        height = min(LEGEND_ROWS, len(legend)) * imgui.get_text_line_height_with_spacing() + 8
        imgui.begin_child("legend", (0, height), imgui.ChildFlags_.borders)
        for position, entry in enumerate(legend):
            isolated = session.state.isolated
            is_faded = bool(isolated) and entry.key not in isolated
            swatch(entry.colour, 0.3 if is_faded else 1.0)
            imgui.same_line()
            label = f"{entry.label}  {entry.count}###entry{position}"
            if not entry.is_class:
                imgui.text_unformatted(f"{entry.label}  {entry.count}")
                continue
            is_clicked, _ = imgui.selectable(label, entry.key in isolated)
            if imgui.is_item_hovered():
                imgui.set_tooltip(words["legend_hint"])
            if is_clicked:
                session.state = session.state.toggled(entry.key)
        imgui.end_child()
        if session.state.isolated and imgui.button(words["show_all"]):
            session.change(isolated=())

    def _draw_reading(self) -> None:
        session, words = self._session, self._session.words
        numbers = list(session.scene.chapter_names)
        until = session.state.until_chapter
        place = len(numbers) - 1 if until is None else sum(number <= until for number in numbers) - 1
        imgui.text_unformatted(words["bookmark"])
        imgui.set_next_item_width(-1)
        # A title past the bookmark must not be seen, so the slider names only where it stands.
        shown = words["whole_book"] if until is None else session.scene.chapter_names[numbers[max(0, place)]]
        is_changed, place = imgui.slider_int("##bookmark", max(0, place), 0, len(numbers) - 1, literal(shown))
        if is_changed:
            place = min(max(0, place), len(numbers) - 1)
            session.change(until_chapter=None if place == len(numbers) - 1 else numbers[place])
            if session.answer is not None and self._can_ask:
                self._requests.append(Request.ASK)
        is_changed, is_on = imgui.checkbox(words["story_path"], session.state.path)
        if is_changed:
            session.change(path=is_on, playhead=session.state.playhead if is_on else None)
            session.is_playing = session.is_playing and is_on
        imgui.same_line()
        if imgui.button(words["pause"] if session.is_playing else words["play"]):
            session.play()
        if session.state.path:
            self._draw_playhead()

    def _draw_playhead(self) -> None:
        session, words = self._session, self._session.words
        rows = session.readable_rows
        head = session.scene.rows.get(session.state.playhead or "", int(rows[-1]))
        place = int(rows.searchsorted(head))
        title = session.scene.chapter_titles[int(rows[min(place, len(rows) - 1)])]
        imgui.set_next_item_width(-1)
        is_changed, place = imgui.slider_int("##playhead", place, 0, len(rows) - 1, literal(title))
        if is_changed:
            session.change(playhead=session.scene.ids[int(rows[min(max(0, place), len(rows) - 1)])])
        imgui.set_next_item_width(-1)
        label = literal(words["path_speed"]) + ": %.0f"
        _, session.passages_per_s = imgui.slider_float("##speed", session.passages_per_s, 1.0, 60.0, label)

    def _draw_view(self) -> None:
        session, words = self._session, self._session.words
        state = session.state
        for index, theme in enumerate(THEME_NAMES):
            if index:
                imgui.same_line()
            if imgui.radio_button(words[f"theme_{theme}"], state.theme == theme):
                session.change(theme=theme)
        for index, projection in enumerate(PROJECTIONS):
            if index:
                imgui.same_line()
            if imgui.radio_button(words[projection], state.camera.projection == projection):
                session.change(camera=replace(state.camera, projection=projection))
        is_changed, is_on = imgui.checkbox(words["labels"], state.labels)
        if is_changed:
            session.change(labels=is_on)
        imgui.same_line()
        is_changed, is_on = imgui.checkbox(words["rotate"], session.is_rotating)
        if is_changed:
            session.is_rotating = is_on
        imgui.set_next_item_width(-1)
        is_changed, scale = imgui.slider_float(
            "##size", state.point_scale, 0.3, 3.0, literal(words["point_size"]) + " %.1f"
        )
        if is_changed:
            session.change(point_scale=min(10.0, max(0.1, scale)))
        names = [words[f"neighbours_{kind}"] for kind in NEIGHBOUR_KINDS]
        imgui.text_unformatted(words["neighbours"])
        imgui.set_next_item_width(-1)
        is_changed, index = imgui.combo("##neighbours", NEIGHBOUR_KINDS.index(state.neighbours), names)
        if is_changed:
            session.change(neighbours=NEIGHBOUR_KINDS[index])
        if imgui.button(words["fit"]):
            session.fit()
        imgui.same_line()
        if imgui.button(words["reset"]):
            session.reset()
        imgui.same_line()
        if imgui.button(words["from_above"]):
            session.fly(replace(state.camera, elevation_deg=90.0, azimuth_deg=270.0, projection="orthographic"))
        if imgui.button(words["save_view"]):
            self._requests.append(Request.SAVE_VIEW)
        imgui.same_line()
        if imgui.button(words["save_picture"]):
            self._requests.append(Request.SAVE_PICTURE)
        if imgui.button(words["keys"]):
            self.shows_help = True

    def _draw_selection(self) -> None:
        session, words = self._session, self._session.words
        count = len(session.state.selected)
        imgui.separator()
        if not count:
            faint(session, words["select_hint"], is_wrapped=True)
            return
        imgui.text_unformatted(words["selection"].format(count=count))
        if imgui.button(words["export_csv"]):
            self._requests.append(Request.EXPORT_CSV)
        imgui.same_line()
        if imgui.button(words["export_text"]):
            self._requests.append(Request.EXPORT_TEXT)
        if imgui.button(words["clear_selection"]):
            session.change(selected=())

    def _draw_help(self, size: tuple[float, float]) -> None:
        words = self._session.words
        imgui.set_next_window_pos((size[0] / 2, size[1] / 2), imgui.Cond_.always, (0.5, 0.5))
        flags = FIXED | imgui.WindowFlags_.always_auto_resize | imgui.WindowFlags_.no_collapse
        is_open = imgui.begin(f"{words['help_title']}###help", True, flags)[1]
        imgui.text_unformatted(words["help"].strip())
        imgui.end()
        self.shows_help = bool(is_open)

    def _draw_notice(self, size: tuple[float, float]) -> None:
        if not self._session.notice:
            return
        imgui.set_next_window_pos((size[0] / 2, size[1] - 2 * MARGIN), imgui.Cond_.always, (0.5, 1.0))
        imgui.begin(
            "notice", None, BARE | imgui.WindowFlags_.always_auto_resize | imgui.WindowFlags_.no_focus_on_appearing
        )
        imgui.text_unformatted(self._session.notice)
        imgui.end()
