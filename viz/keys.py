"""What each key does in the window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from viz.panels import Panels, Request
from viz.session import MapSession

__all__ = ["press"]

PAN_PX, ZOOM_NOTCHES = 40.0, 1.0


def press(
    glfw: Any,
    key: int,
    session: MapSession,
    panels: Panels,
    serve: Callable[[Request], None],
    close: Callable[[], None],
) -> None:
    """Do what ``key`` means; nothing where it means nothing."""
    state = session.state
    middle = (session.size[0] / 2, session.size[1] / 2)
    actions: dict[int, Callable[[], object]] = {
        glfw.KEY_F: session.fit,
        glfw.KEY_R: session.reset,
        glfw.KEY_SPACE: lambda: setattr(session, "is_rotating", not session.is_rotating),
        glfw.KEY_L: lambda: session.change(path=not state.path, playhead=None),
        glfw.KEY_N: lambda: session.change(labels=not state.labels),
        glfw.KEY_T: lambda: session.change(theme="light" if state.theme == "dark" else "dark"),
        glfw.KEY_O: lambda: session.change(
            camera=replace(
                state.camera, projection="perspective" if state.camera.projection == "orthographic" else "orthographic"
            )
        ),
        glfw.KEY_H: lambda: setattr(panels, "shows_panels", not panels.shows_panels),
        glfw.KEY_F1: lambda: setattr(panels, "shows_help", not panels.shows_help),
        glfw.KEY_S: lambda: serve(Request.SAVE_VIEW),
        glfw.KEY_P: lambda: serve(Request.SAVE_PICTURE),
        glfw.KEY_EQUAL: lambda: session.zoom(ZOOM_NOTCHES, middle),
        glfw.KEY_KP_ADD: lambda: session.zoom(ZOOM_NOTCHES, middle),
        glfw.KEY_MINUS: lambda: session.zoom(-ZOOM_NOTCHES, middle),
        glfw.KEY_KP_SUBTRACT: lambda: session.zoom(-ZOOM_NOTCHES, middle),
        glfw.KEY_UP: lambda: session.orbit(0, PAN_PX),
        glfw.KEY_DOWN: lambda: session.orbit(0, -PAN_PX),
        glfw.KEY_LEFT: lambda: _sideways(session, -1),
        glfw.KEY_RIGHT: lambda: _sideways(session, 1),
        glfw.KEY_ESCAPE: lambda: _escape(session, panels, close),
    }
    if key in actions:
        actions[key]()


def _sideways(session: MapSession, by: int) -> None:
    """The passage before or after, or a turn where none is pinned."""
    if session.pinned is None:
        session.orbit(-by * PAN_PX, 0)
    else:
        session.step(by)


def _escape(session: MapSession, panels: Panels, close: Callable[[], None]) -> None:
    """Close the topmost thing that is open, the window last."""
    if panels.shows_help:
        panels.shows_help = False
    elif session.pinned is not None:
        session.pin(None)
    else:
        close()
