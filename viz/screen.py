"""A window with an OpenGL 3.3 context on whatever screen there is; what goes wrong becomes one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from core.errors import GraphicsError, MissingExtra

__all__ = ["window_on_screen"]

FIRST_SIZE, SMALLEST_SIZE = (1280, 800), (480, 320)


@contextlib.contextmanager
def window_on_screen(title: str) -> Iterator[tuple[Any, Any]]:
    """The glfw module and a window whose context is current; both end with the block.

    Raises:
        GraphicsError: there is no display, or no OpenGL 3.3.
        MissingExtra: glfw or imgui-bundle is not installed.
    """
    try:
        import glfw
        import imgui_bundle  # noqa: F401
    except ImportError as missing:
        raise MissingExtra(
            f"the window needs {missing.name}; install it with: pip install 'novelscope[viz]'"
        ) from missing
    complaints: list[str] = []
    glfw.set_error_callback(lambda code, text: complaints.append(_text(text)))
    if not glfw.init():
        raise GraphicsError(
            f"no window can be opened ({_last(complaints, 'no display')}); without a screen, draw pictures with: "
            "novelscope map render BOOK --output PNG"
        )
    try:
        yield glfw, _make_window(glfw, title, complaints)
    finally:
        glfw.terminate()


def _make_window(glfw: Any, title: str, complaints: list[str]) -> Any:
    for hint, value in (
        (glfw.CONTEXT_VERSION_MAJOR, 3), (glfw.CONTEXT_VERSION_MINOR, 3),
        (glfw.OPENGL_PROFILE, glfw.OPENGL_CORE_PROFILE),
        (glfw.OPENGL_FORWARD_COMPAT, glfw.TRUE), (glfw.DEPTH_BITS, 24), (glfw.SAMPLES, 0),
    ):  # fmt: skip
        glfw.window_hint(hint, value)
    window = glfw.create_window(*FIRST_SIZE, title, None, None)
    if not window:
        raise GraphicsError(
            f"no OpenGL 3.3 window can be opened ({_last(complaints, 'no reason given')}); update the graphics driver, "
            "or draw in software: apt-get install libgl1 libgl1-mesa-dri, then LIBGL_ALWAYS_SOFTWARE=1"
        )
    glfw.set_window_size_limits(window, *SMALLEST_SIZE, glfw.DONT_CARE, glfw.DONT_CARE)
    glfw.make_context_current(window)
    glfw.swap_interval(1)
    return window


def _text(message: Any) -> str:
    """GLFW's messages come as bytes, whatever their type says."""
    return message.decode(errors="replace") if isinstance(message, bytes) else str(message)


def _last(complaints: list[str], otherwise: str) -> str:
    return " ".join(complaints[-1].split()) if complaints else otherwise
