"""Pictures, films and lists written to files: whole, or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.data.files import replacing
from core.data.scenes import NOISE, Scene
from core.errors import MissingExtra, SceneError, SettingsError
from viz.answers import Answer
from viz.drawing import Drawing, compose
from viz.interface import words_in
from viz.labels import Placed, legend_plates
from viz.renderer import Renderer, unit_scale
from viz.state import ViewState

if TYPE_CHECKING:
    import moderngl

__all__ = [
    "FILM_KINDS",
    "Studio",
    "film_kind",
    "selection_csv",
    "selection_text",
    "write_film",
    "write_png",
    "write_whole",
]

FILM_KINDS = (".gif", ".mp4")
GIF_COLOURS = 128


class Studio:
    """One view of a scene, ready to be drawn at any size and from any side."""

    def __init__(self, context: moderngl.Context, scene: Scene, state: ViewState, answer: Answer | None = None) -> None:
        """Compose the view and put it on the GPU."""
        self.scene, self.state = scene, state
        words = words_in(state.language) if state.legend or state.mode == "score" else None
        self.drawing: Drawing = compose(scene, state, answer, words)
        self.renderer = Renderer(context)
        self.renderer.update(self.drawing)

    def picture(self, size: tuple[int, int], *, azimuth_deg: float | None = None) -> NDArray[np.uint8]:
        """(height, width, 3) uint8, top row first; seen from another side where ``azimuth_deg`` is given."""
        camera = self.state.camera
        if azimuth_deg is not None:
            camera = replace(camera, azimuth_deg=azimuth_deg)
        return self.renderer.picture(camera, size, self.plates(size))

    def plates(self, size: tuple[int, int]) -> list[Placed]:
        """The legend, if the view has one."""
        if not self.state.legend:
            return []
        return legend_plates(
            self.scene.facts.title, self.drawing.coloured.legend, self.drawing.theme, size, unit_scale(size),
            self.renderer.text.measure, words_in(self.state.language)["more"],
        )  # fmt: skip


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a picture.

    Raises:
        SceneError: the file cannot be written.
    """
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG", compress_level=2)
    write_whole(path, encoded.getvalue())


def film_kind(path: Path) -> str:
    """``".gif"`` or ``".mp4"``.

    Raises:
        SettingsError: the name ends otherwise.
    """
    if path.suffix.lower() not in FILM_KINDS:
        raise SettingsError(f"a film's file is named {path.name}, wanted a name that ends in .gif or .mp4")
    return path.suffix.lower()


def write_film(path: Path, frames: Iterator[NDArray[np.uint8]], fps: int, on_frame: Callable[[int], None]) -> None:
    """Write frames of one size as an endless GIF or an MP4, by the name's ending; a stop leaves no file.

    Args:
        on_frame: hears how many frames are done.

    Raises:
        SettingsError: the name ends otherwise.
        MissingExtra: an MP4 was asked for, and imageio-ffmpeg is not installed.
        SceneError: the file cannot be written.
    """
    kind = film_kind(path)
    with replacing(path, SceneError, suffix=kind) as partial:
        (_write_gif if kind == ".gif" else _write_mp4)(partial, _counted(frames, on_frame), fps)


def selection_csv(scene: Scene, rows: Sequence[int], until_chapter: int | None = None) -> str:
    """Passages as a table that spreadsheet programs open, in reading order."""
    names = {cluster.number: cluster.name(until_chapter) for cluster in scene.facts.clusters}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["id", "chapter", "chapter_title", "start", "end", "cluster", "trust", "text"])
    for row in sorted(rows):
        cluster = int(scene.clusters[row])
        start, end = scene.spans[row].tolist()
        writer.writerow(
            [scene.ids[row], int(scene.chapters[row]), scene.chapter_titles[row], start, end,
             names.get(cluster, "") if cluster != NOISE else "", f"{scene.trust[row]:.3f}", scene.texts[row]]
        )  # fmt: skip
    return out.getvalue()


def selection_text(scene: Scene, rows: Sequence[int]) -> str:
    """Passages as plain text in reading order, each chapter's title once."""
    parts: list[str] = []
    chapter = None
    for row in sorted(rows):
        if scene.chapters[row] != chapter:
            chapter = scene.chapters[row]
            parts.append(f"# {scene.chapter_titles[row]}")
        parts.append(scene.texts[row].strip())
    return "\n\n".join(parts) + "\n"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader finds the old one or the new one.

    Raises:
        SceneError: it cannot be written.
    """
    with replacing(path, SceneError) as partial:
        partial.write_bytes(data)


def _counted(frames: Iterator[NDArray[np.uint8]], on_frame: Callable[[int], None]) -> Iterator[NDArray[np.uint8]]:
    for done, frame in enumerate(frames, 1):
        yield frame
        on_frame(done)


def _write_gif(path: Path, frames: Iterator[NDArray[np.uint8]], fps: int) -> None:
    from PIL import Image

    first = Image.fromarray(next(frames)).quantize(GIF_COLOURS, dither=Image.Dither.NONE)
    # One palette for all frames: colours that changed from frame to frame would flicker.
    rest = (Image.fromarray(frame).quantize(palette=first, dither=Image.Dither.NONE) for frame in frames)
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)


def _write_mp4(path: Path, frames: Iterator[NDArray[np.uint8]], fps: int) -> None:
    try:
        import imageio_ffmpeg
    except ImportError as missing:
        raise MissingExtra("an MP4 needs imageio-ffmpeg; install it with: pip install 'novelscope[viz]'") from missing
    first = next(frames)
    height, width = first.shape[:2]
    # Most players refuse yuv420p of odd sides; the encoder pads them to even ones.
    writer: Any = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, codec="libx264", quality=8, macro_block_size=2, ffmpeg_log_level="error"
    )
    writer.send(None)
    try:
        writer.send(np.ascontiguousarray(first))
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()
