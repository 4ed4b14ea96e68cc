"""What the window writes to files: the view, a picture, the selected passages."""

from __future__ import annotations

from pathlib import Path

from viz.export import selection_csv, selection_text, write_png, write_whole
from viz.panels import Request
from viz.renderer import Renderer
from viz.session import MapSession

__all__ = ["save"]

SUFFIXES = {
    Request.SAVE_VIEW: ".json",
    Request.SAVE_PICTURE: ".png",
    Request.EXPORT_CSV: ".csv",
    Request.EXPORT_TEXT: ".txt",
}


def save(request: Request, session: MapSession, renderer: Renderer, folder: Path) -> Path:
    """Write what was asked for into ``folder`` under a name that is free; the path.

    Raises:
        SceneError, SettingsError: the file cannot be written.
    """
    path = _free_name(folder, session.scene.facts.title, SUFFIXES[request])
    scene = session.scene
    rows = [scene.rows[name] for name in session.state.selected]
    if request is Request.SAVE_VIEW:
        session.saved_view().write(path)
    elif request is Request.SAVE_PICTURE:
        write_png(path, renderer.picture(session.state.camera, session.size))
    elif request is Request.EXPORT_CSV:
        # Spreadsheet programs know UTF-8 by its mark.
        write_whole(path, selection_csv(scene, rows, session.state.until_chapter).encode("utf-8-sig"))
    else:
        write_whole(path, selection_text(scene, rows).encode())
    return path


def _free_name(folder: Path, title: str, suffix: str) -> Path:
    name = "".join(char for char in title if char.isalnum())[:40] or "map"
    number = 1
    while (path := (folder / f"{name}-{number}{suffix}").absolute()).exists():
        number += 1
    return path
