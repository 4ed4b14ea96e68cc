"""What a reader has set: camera, colours, filter, bookmark, selection. A small JSON keeps it, to be opened again.

The same value drives the window and the pictures, which is why they agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from core.data.files import replacing
from core.errors import SettingsError
from viz.camera import Camera
from viz.choices import LANGUAGES, MODES, NEIGHBOUR_KINDS, THEME_NAMES

__all__ = ["SCHEMA", "ViewState", "read_view"]

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewState:
    """One view of a map.

    Attributes:
        mode: what colours tell, of ``viz.choices.MODES``.
        isolated: keys of the legend's entries that stay; empty for all.
        until_chapter: the bookmark: nothing later is drawn, picked or named; None for the whole book.
        selected: ids of passages that were lassoed or named.
        pinned: id of the passage whose card is open.
        playhead: id of the passage at which the story's path has arrived.
        neighbours: ``"none"``, or lines from the pinned passage to its neighbours: ``"true"`` in vector space,
            ``"map"`` in the picture, ``"both"``.
        point_scale: of the points' size.
        answer: as ``viz.answers`` reads it.
    """

    camera: Camera = field(default_factory=Camera)
    mode: str = "cluster"
    theme: str = "dark"
    language: str = "zh"
    isolated: tuple[int, ...] = ()
    until_chapter: int | None = None
    selected: tuple[str, ...] = ()
    pinned: str | None = None
    playhead: str | None = None
    neighbours: str = "none"
    labels: bool = True
    legend: bool = False
    path: bool = False
    point_scale: float = 1.0
    answer: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        choices = {"mode": MODES, "theme": THEME_NAMES, "language": LANGUAGES, "neighbours": NEIGHBOUR_KINDS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise SettingsError(f"{name} is {getattr(self, name)!r}, wanted one of {', '.join(known)}")
        if self.until_chapter is not None and not isinstance(self.until_chapter, int):
            raise SettingsError(f"until_chapter is {self.until_chapter!r}, wanted a chapter's number or null")
        if not isinstance(self.point_scale, (int, float)) or not 0.1 <= self.point_scale <= 10:
            raise SettingsError(f"point_scale is {self.point_scale!r}, wanted 0.1 to 10")
        for name in ("labels", "legend", "path"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name} is {getattr(self, name)!r}, wanted true or false")
        if not all(isinstance(key, int) for key in self.isolated):
            raise SettingsError("isolated holds something other than numbers of classes")
        if not all(isinstance(name, str) for name in (*self.selected, self.pinned or "", self.playhead or "")):
            raise SettingsError("selected, pinned and playhead hold ids of passages, which are text")
        if self.answer is not None and not isinstance(self.answer, Mapping):
            raise SettingsError("answer is not an object of question and passages")

    def to_json(self) -> str:
        values: dict[str, Any] = {name: getattr(self, name) for name in (f.name for f in fields(self))}
        values |= {"camera": self.camera.to_dict(), "schema": SCHEMA}
        return json.dumps(values, ensure_ascii=False, indent=1)

    def write(self, path: Path) -> None:
        """Keep the view; a reader of ``path`` finds the old one or the new one.

        Raises:
            SettingsError: the file cannot be written.
        """
        with replacing(path, SettingsError) as partial:
            partial.write_text(self.to_json(), encoding="utf-8")

    def toggled(self, key: int) -> ViewState:
        """The legend's entry ``key`` isolated too, or no longer."""
        kept = tuple(k for k in self.isolated if k != key)
        return replace(self, isolated=kept if len(kept) < len(self.isolated) else (*self.isolated, key))


def read_view(path: Path) -> ViewState:
    """The view that was kept at ``path``.

    Raises:
        SettingsError: no such file, not a view, or a name that is not known; all strange names are told together.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.pop("schema", None) != SCHEMA:
            raise ValueError(f"wanted an object of schema {SCHEMA}")
        known = {f.name for f in fields(ViewState)}
        camera = values.pop("camera", {})
        strange = sorted({*values} - known) + sorted({*camera} - {f.name for f in fields(Camera)})
        if strange:
            raise ValueError(f"unknown names: {', '.join(strange)}")
        for name in ("isolated", "selected"):
            values[name] = tuple(values.get(name, ()))
        target = tuple(camera.pop("target", (0.0, 0.0, 0.0)))
        return ViewState(camera=Camera(target=target, **camera), **values)
    except OSError as wrong:
        raise SettingsError(f"the view {path} cannot be read: {wrong.strerror or wrong}") from wrong
    except (ValueError, TypeError, AttributeError) as wrong:
        raise SettingsError(f"{path} is not a view of a map ({wrong}); save one from the window with S") from wrong
