"""The window: GLFW's events into a ``MapSession``, and its drawing onto the screen whenever something changed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.data.scenes import Scene
from core.errors import NovelscopeError
from viz.context import attach_context
from viz.fonts import FONT_WARNING, find_font
from viz.renderer import Renderer
from viz.screen import window_on_screen
from viz.search import FollowFile, SearchProcess
from viz.session import HOVER_DWELL_S, MapSession

if TYPE_CHECKING:
    from viz.answers import Answer
    from viz.panels import Request
    from viz.state import ViewState

__all__ = ["WindowSettings", "open_window"]

FRAME_S = 1 / 60
TURNING_FRAME_S = 1 / 30  # slow turning looks as smooth, and leaves the CPU to the model
IDLE_S = 0.5
PICK_EVERY_S = 0.05
CLICK_PX, DOUBLE_CLICK_S = 4.0, 0.35
STILL_S = 0.15  # after the last movement a large map is drawn whole
FONT_UNITS = 17.0
SETTLING_FRAMES = 3  # Dear ImGui needs some frames to come to rest after an event


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSettings:
    """What a window is connected to.

    Attributes:
        search_command: program and arguments of the search helper; None leaves questions out.
        follow: file in which another program's answers appear.
        save_to: folder of pictures, views and selections.
    """

    search_command: tuple[str, ...] | None = None
    follow: Path | None = None
    save_to: Path = Path()


def open_window(scene: Scene, state: ViewState, answer: Answer | None, settings: WindowSettings) -> int:
    """Show a map until its window is closed; 0.

    Raises:
        GraphicsError: there is no display, or no OpenGL 3.3.
        MissingExtra: glfw or imgui-bundle is not installed.
    """
    with window_on_screen(f"《{scene.facts.title}》 · novelscope") as (glfw, window):
        _Window(glfw, window, scene, state, answer, settings).run()
    return 0


class _Window:
    """One open window."""

    def __init__(
        self, glfw: Any, window: Any, scene: Scene, state: ViewState, answer: Answer | None, settings: WindowSettings
    ) -> None:
        from imgui_bundle import imgui

        from viz.panels import Panels

        self._glfw, self._handle, self._settings = glfw, window, settings
        self._imgui: Any = imgui
        self._context = attach_context(glfw.get_proc_address)
        self._screen = self._context.detect_framebuffer()
        self._renderer = Renderer(self._context)
        self._session = MapSession(scene, state, answer, glfw.get_framebuffer_size(window))
        self._search = (
            SearchProcess(settings.search_command, glfw.post_empty_event) if settings.search_command else None
        )
        self._follow = FollowFile(settings.follow) if settings.follow else None
        font = find_font()
        warning = "" if font.has_chinese else FONT_WARNING
        if warning:
            print(f"novelscope: {warning}", file=sys.stderr, flush=True)
        self._panels = Panels(
            self._session, can_ask=self._search is not None, is_following=self._follow is not None, font_warning=warning
        )
        self._overlay = self._make_overlay(font)
        self._shown: Any = None
        self._theme = ""
        self._frames_due = SETTLING_FRAMES
        self._pressed: tuple[int, float, float, int] | None = None
        self._is_dragging = False
        self._lasso: list[tuple[float, float]] = []
        self._last_click = (-1.0, 0.0, 0.0)
        self._moved_at = self._picked_at = -1.0
        self._place: tuple[float, float] = glfw.get_cursor_pos(window)
        self._drawn_moving = self._is_iconified = False
        self._pick_due = False
        self._attach()

    def run(self) -> None:
        """Until the window is closed."""
        glfw = self._glfw
        try:
            while not glfw.window_should_close(self._handle):
                self._wait()
                self._hear()
                now = glfw.get_time()
                if self._session.tick(now):
                    # A card needs some frames to find its size; what moves gets its next frame anyway.
                    is_calm = not (self._session.is_moving or self._session.is_playing)
                    self._frames_due = max(self._frames_due, SETTLING_FRAMES if is_calm else 1)
                self._update_hover(now)
                if self._drawn_moving and now - self._moved_at >= STILL_S and not self._session.is_moving:
                    self._frames_due = max(self._frames_due, 1)
                if self._frames_due and not self._is_iconified:
                    self._frames_due -= 1
                    self._draw(now)
        finally:
            if self._search is not None:
                self._search.close()
            self._overlay.shutdown()
            self._renderer.release()

    def _wait(self) -> None:
        """Sleep until an event, or until something moves by itself."""
        glfw, session = self._glfw, self._session
        if self._is_iconified:
            glfw.wait_events_timeout(IDLE_S)
        elif self._frames_due or session.is_moving or session.is_playing:
            slow = session.is_rotating and not self._frames_due
            glfw.wait_events_timeout(TURNING_FRAME_S if slow else FRAME_S)
        elif self._pick_due or session.pointed is not None or self._drawn_moving:
            glfw.wait_events_timeout(HOVER_DWELL_S / 2)
        else:
            glfw.wait_events_timeout(IDLE_S)

    def _hear(self) -> None:
        """Answers of the helper, and of the program that is followed."""
        session = self._session
        if self._search is not None:
            answer = self._search.poll()
            if answer is not None:
                session.show_answer(answer)
                self._frames_due = SETTLING_FRAMES
            self._panels.is_searching = self._search.is_waiting
        if self._follow is not None:
            answer = self._follow.poll()
            if answer is not None:
                session.show_answer(answer)
                self._frames_due = SETTLING_FRAMES

    # Drawing --------------------------------------------------------------------------------------------------------

    def _draw(self, now: float) -> None:
        glfw, imgui, session = self._glfw, self._imgui, self._session
        session.size = glfw.get_framebuffer_size(self._handle)
        if min(session.size) < 1:
            return
        if session.state.theme != self._theme:
            from viz.widgets import apply_theme

            self._theme = session.state.theme
            apply_theme(self._theme)
        drawing = session.drawing
        if drawing is not self._shown:
            self._renderer.update(drawing)
            self._shown = drawing
        self._drawn_moving = session.is_moving or now - self._moved_at < STILL_S
        self._renderer.draw(
            self._screen, session.state.camera, session.size, hovered=session.pointed, is_moving=self._drawn_moving
        )
        self._overlay.process_inputs()
        imgui.new_frame()
        requests = self._panels.draw(tuple(glfw.get_window_size(self._handle)), now, self._lasso)
        imgui.render()
        self._overlay.render(imgui.get_draw_data())
        glfw.swap_buffers(self._handle)
        for request in requests:
            self._serve(request)
        if session.drawing is not drawing:
            self._frames_due = max(self._frames_due, 1)

    def _make_overlay(self, font: Any) -> Any:
        from imgui_bundle.python_backends.glfw_backend import GlfwRenderer

        imgui = self._imgui
        imgui.create_context()
        imgui.get_io().set_ini_filename("")
        overlay = GlfwRenderer(self._handle, attach_callbacks=False)
        if font.path is not None:
            config = imgui.ImFontConfig()
            config.font_no = font.face
            imgui.get_io().fonts.add_font_from_file_ttf(str(font.path), FONT_UNITS, config)
        return overlay

    def _serve(self, request: Request) -> None:
        from viz.panels import Request
        from viz.saving import save

        session = self._session
        self._disturb()
        try:
            if request is not Request.ASK:
                path = save(request, session, self._renderer, self._settings.save_to)
                session.notice = session.words["exported"].format(path=path)
            elif self._search is not None:
                self._search.ask(session.question.strip(), session.state.until_chapter)
                self._panels.is_searching, session.notice = True, ""
        except NovelscopeError as wrong:
            session.notice = str(wrong)

    # Events ---------------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        glfw, handle = self._glfw, self._handle
        glfw.set_key_callback(handle, self._on_key)
        glfw.set_char_callback(handle, self._on_char)
        glfw.set_mouse_button_callback(handle, self._on_button)
        glfw.set_cursor_pos_callback(handle, self._on_pointer)
        glfw.set_scroll_callback(handle, self._on_wheel)
        glfw.set_framebuffer_size_callback(handle, lambda *_: self._disturb())
        glfw.set_window_refresh_callback(handle, lambda *_: self._disturb())
        glfw.set_window_iconify_callback(handle, self._on_iconify)

    def _disturb(self) -> None:
        self._frames_due = SETTLING_FRAMES

    def _on_iconify(self, handle: Any, is_iconified: int) -> None:
        self._is_iconified = bool(is_iconified)
        self._disturb()

    def _on_key(self, handle: Any, key: int, scancode: int, action: int, mods: int) -> None:
        self._overlay.keyboard_callback(handle, key, scancode, action, mods)
        self._disturb()
        glfw = self._glfw
        if action == glfw.RELEASE or self._imgui.get_io().want_text_input:
            return
        if not mods & (glfw.MOD_CONTROL | glfw.MOD_ALT | glfw.MOD_SUPER):
            from viz.keys import press

            press(
                glfw, key, self._session, self._panels, self._serve, lambda: glfw.set_window_should_close(handle, True)
            )

    def _on_char(self, handle: Any, codepoint: int) -> None:
        self._disturb()
        if self._imgui.get_io().want_text_input:
            # Not the backend's own callback: it drops characters beyond the first 65,536, which old books use.
            self._imgui.get_io().add_input_character(codepoint)
        elif chr(codepoint) in "?？":
            self._panels.shows_help = not self._panels.shows_help
        elif chr(codepoint) in "/、":
            self._panels.wants_question = True

    def _on_wheel(self, handle: Any, dx: float, dy: float) -> None:
        self._overlay.scroll_callback(handle, dx, dy)
        self._disturb()
        if not self._imgui.get_io().want_capture_mouse:
            self._session.zoom(dy, self._pointer())
            self._moved_at = self._glfw.get_time()

    def _on_button(self, handle: Any, button: int, action: int, mods: int) -> None:
        self._overlay.mouse_button_callback(handle, button, action, mods)
        self._disturb()
        glfw = self._glfw
        x, y = self._pointer()
        if action == glfw.PRESS:
            if not self._imgui.get_io().want_capture_mouse:
                self._session.touch()
                self._pressed, self._is_dragging = (button, x, y, mods), False
                self._imgui.set_window_focus(None)  # the question's box lets go of the keyboard
            return
        if self._pressed is None or self._pressed[0] != button:
            return
        if self._lasso:
            self._finish_selection(x, y)
        elif not self._is_dragging and button == glfw.MOUSE_BUTTON_LEFT:
            self._click(x, y)
        self._pressed, self._is_dragging = None, False

    def _finish_selection(self, x: float, y: float) -> None:
        ratio = self._ratio()
        self._session.select_within([(px * ratio, py * ratio) for px, py in self._lasso])
        self._lasso = []

    def _click(self, x: float, y: float) -> None:
        session, now = self._session, self._glfw.get_time()
        row = self._renderer.pick(session.state.camera, session.size, x, y)
        since, last_x, last_y = self._last_click
        is_double = now - since < DOUBLE_CLICK_S and abs(x - last_x) + abs(y - last_y) < 3 * CLICK_PX
        self._last_click = (now, x, y)
        session.notice = ""
        session.pin(row)
        if row is not None and is_double:
            session.fly_to(row)

    def _on_pointer(self, handle: Any, window_x: float, window_y: float) -> None:
        # The backend's own callback ignores a window without focus, where hovering should work as well.
        self._imgui.get_io().add_mouse_pos_event(window_x, window_y)
        self._place = (window_x, window_y)
        if self._imgui.get_io().want_capture_mouse:
            self._disturb()
        glfw, session = self._glfw, self._session
        x, y = self._pointer()
        if self._pressed is None:
            self._pick_due = True
            return
        button, from_x, from_y, mods = self._pressed
        if not self._is_dragging and abs(x - from_x) + abs(y - from_y) < CLICK_PX:
            return
        dx, dy = x - from_x, y - from_y
        self._disturb()
        self._is_dragging = True
        session.point_at(None, glfw.get_time())
        if button == glfw.MOUSE_BUTTON_LEFT and mods & glfw.MOD_SHIFT:
            ratio = self._ratio()
            self._lasso = [*(self._lasso or [(from_x / ratio, from_y / ratio)]), (window_x, window_y)]
            return
        # Not Alt: window managers move windows by it.
        if button == glfw.MOUSE_BUTTON_LEFT and mods & glfw.MOD_CONTROL:
            ratio = self._ratio()
            left, top = from_x / ratio, from_y / ratio
            self._lasso = [(left, top), (window_x, top), (window_x, window_y), (left, window_y)]
            return
        if button == glfw.MOUSE_BUTTON_LEFT:
            session.orbit(dx, dy)
        else:
            session.pan(dx, dy)
        self._moved_at = glfw.get_time()
        self._pressed = (button, x, y, mods)

    def _update_hover(self, now: float) -> None:
        """Look what is under the pointer, not for every event."""
        session = self._session
        if session.is_moving or self._pressed is not None:
            return
        if self._pick_due and now - self._picked_at >= PICK_EVERY_S:
            self._pick_due, self._picked_at = False, now
            before = session.pointed
            is_free = not self._imgui.get_io().want_capture_mouse and self._shown is session.drawing
            x, y = self._pointer()
            row = self._renderer.pick(session.state.camera, session.size, x, y) if is_free else None
            session.point_at(row, now)
            if row != before:
                self._frames_due = max(self._frames_due, 1)

    def _pointer(self) -> tuple[float, float]:
        """The pointer in the picture's pixels, when the event under way happened.

        GLFW would tell where the pointer is by now; events that waited for a slow frame would all seem to be there.
        """
        ratio = self._ratio()
        return self._place[0] * ratio, self._place[1] * ratio

    def _ratio(self) -> float:
        """Pixels in a unit of the pointer's place, more than 1 on dense screens."""
        width = self._glfw.get_window_size(self._handle)[0]
        return self._glfw.get_framebuffer_size(self._handle)[0] / width if width else 1.0
