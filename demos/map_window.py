"""Opening the viewer's window from the page, where the page runs on the reader's own machine."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from core.errors import GraphicsError
from demos.loopback import is_loopback
from demos.mapping import ROOT
from demos.settings import has_display, is_space
from demos.wiring import Services

if TYPE_CHECKING:
    import gradio as gr

__all__ = ["is_own_machine", "open_map_window", "window_command"]

STARTUP_S = 4.0
"""A window that cannot be opened says so within this time."""
FORWARDED = ("x-forwarded-for", "forwarded", "x-real-ip")


def is_own_machine(request: gr.Request | None) -> bool:
    """Whether the browser runs on the machine that this runs on, with nothing between them."""
    client = getattr(request, "client", None)
    headers = getattr(request, "headers", None)
    if client is None or is_space() or any(name in headers for name in FORWARDED if headers is not None):
        return False
    return is_loopback(str(client.host))


def window_command(services: Services, book_id: str, until_chapter: int | None) -> str:
    """What a reader types to open the window."""
    return shlex.join(["novelscope", *_arguments(services, book_id, until_chapter)])


def open_map_window(services: Services, book_id: str, until_chapter: int | None, request: Any) -> str | None:
    """Open the window for a reader who sits at this machine; why not, ``"elsewhere"`` or ``"no_display"``.

    Raises:
        GraphicsError: it could not be opened; with the viewer's own reason.
    """
    if not is_own_machine(request):
        return "elsewhere"
    if not has_display():
        return "no_display"
    process = subprocess.Popen(
        [sys.executable, "-m", "demos", *_arguments(services, book_id, until_chapter)],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8",
        start_new_session=True, env=services.settings.environment(),
    )  # fmt: skip
    try:
        _, complaint = process.communicate(timeout=STARTUP_S)
    except subprocess.TimeoutExpired:
        # It stays open for as long as the reader likes; without this Popen would warn that it still runs.
        process.returncode = 0
        if process.stderr is not None:
            process.stderr.close()
        return None
    if process.returncode != 0:
        lines = complaint.strip().splitlines() or [f"the window ended with {process.returncode}"]
        raise GraphicsError(lines[-1].removeprefix("novelscope: "))
    return None


def _arguments(services: Services, book_id: str, until_chapter: int | None) -> list[str]:
    until = [] if until_chapter is None else ["--until", str(until_chapter)]
    return ["map", "window", book_id, "--follow", *until, "--home", str(services.settings.home)]
