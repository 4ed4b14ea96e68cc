"""An OpenGL 3.3 context, with and without a screen; what goes wrong becomes one sentence that says what to install."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from core.errors import GraphicsError, MissingExtra

if TYPE_CHECKING:
    import moderngl

__all__ = ["REQUIRED", "attach_context", "largest_side", "open_headless"]

REQUIRED = 330
NO_DRIVER = (
    "no OpenGL driver was found; on Debian and Ubuntu run: apt-get install libegl1 libgl1 libgl1-mesa-dri "
    "(a graphics card is not needed)"
)
TOO_OLD = (
    "this OpenGL driver is older than 3.3, which the map needs; update it, or draw in software with Mesa: "
    "apt-get install libegl1 libgl1 libgl1-mesa-dri, then LIBGL_ALWAYS_SOFTWARE=1"
)


def open_headless() -> moderngl.Context:
    """A context that needs no display: EGL, on a GPU or in software.

    Raises:
        GraphicsError: there is no driver, or it is too old.
        MissingExtra: moderngl is not installed.
    """
    moderngl = _moderngl()
    try:
        with _quiet_driver():
            context = moderngl.create_standalone_context(backend="egl", require=REQUIRED)
    except Exception as wrong:  # moderngl and glcontext raise bare Exceptions and ValueErrors
        raise _graphics_error(wrong) from wrong
    return _checked(context)


def attach_context(get_proc_address: Any) -> moderngl.Context:
    """The context that a window has made current.

    Args:
        get_proc_address: finds a GL function's address by name. moderngl's own search mistakes some windows for none.

    Raises:
        GraphicsError: it is too old.
        MissingExtra: moderngl is not installed.
    """
    moderngl = _moderngl()
    try:
        moderngl.init_context(loader=_Loader(get_proc_address))
        context = moderngl.get_context()
    except Exception as wrong:
        raise _graphics_error(wrong) from wrong
    return _checked(context)


def largest_side(context: moderngl.Context) -> int:
    """The most pixels that a picture's side may have."""
    return min(int(context.info["GL_MAX_TEXTURE_SIZE"]), *map(int, context.info["GL_MAX_VIEWPORT_DIMS"]))


@contextlib.contextmanager
def _quiet_driver() -> Iterator[None]:
    """Drivers print their search for themselves on file descriptor 2; our one sentence says what matters."""
    sys.stderr.flush()
    kept = os.dup(2)
    silent = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silent, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(silent)


class _Loader:
    def __init__(self, get_proc_address: Any) -> None:
        self._get = get_proc_address

    def load_opengl_function(self, name: str) -> int:
        return self._get(name) or 0

    def release(self) -> None:
        """The window owns the context."""


def _moderngl() -> Any:
    try:
        import moderngl
    except ImportError as missing:
        raise MissingExtra("the map needs moderngl; install it with: pip install 'novelscope[viz]'") from missing
    return moderngl


def _checked(context: moderngl.Context) -> moderngl.Context:
    if context.version_code < REQUIRED:
        raise GraphicsError(TOO_OLD)
    return context


def _graphics_error(wrong: Exception) -> GraphicsError:
    text = str(wrong)
    too_old = "eglCreateContext" in text or "0x3009" in text or "version" in text.lower()
    return GraphicsError(f"{TOO_OLD if too_old else NO_DRIVER} [{' '.join(text.split())}]")
