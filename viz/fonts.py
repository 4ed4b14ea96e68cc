"""A font that has the book's characters, and letters drawn from it.

A missing character comes out as an empty box without any error, so a font is believed only after two different
characters gave two different shapes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import ImageFont

__all__ = ["FONT_WARNING", "Font", "draw_text", "find_font"]

FONT_WARNING = (
    "no Chinese font was found, so Chinese text cannot be shown; on Debian and Ubuntu run: "
    "apt-get install fonts-noto-cjk (or the smaller fonts-wqy-microhei)"
)
# (file, face within a collection), the best first; then whatever a search of the folders finds.
CANDIDATES = (
    ("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc", 2),
    ("/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc", 2),
    ("/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc", 2),
    ("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc", 0),
    ("/System/Library/Fonts/PingFang.ttc", 0),
    ("/System/Library/Fonts/Hiragino Sans GB.ttc", 0),
    ("/System/Library/Fonts/STHeiti Light.ttc", 1),
    ("C:/Windows/Fonts/msyh.ttc", 0),
    ("C:/Windows/Fonts/simhei.ttf", 0),
)
FOLDERS = ("~/.local/share/fonts", "~/.fonts", "/usr/local/share/fonts", "/usr/share/fonts", "~/Library/Fonts",
           "/Library/Fonts")  # fmt: skip
LIKELY = ("cjk", "wqy", "han", "song", "hei", "kai", "ming", "gothic", "droidsansfallback", "unifont", "sourcehan")
HALO_UNITS = 0.16  # of the letters' height


@dataclass(frozen=True, slots=True)
class Font:
    """A font file.

    Attributes:
        path: None for the Latin font that comes with Pillow.
        face: within a collection.
        has_chinese: whether Chinese characters have shapes of their own in it.
    """

    path: Path | None
    face: int
    has_chinese: bool

    def at(self, height_px: int) -> ImageFont.FreeTypeFont:
        """The font for letters of that height."""
        return _sized(self, height_px)


@lru_cache(maxsize=1)
def find_font() -> Font:
    """The first font on this machine that shows Chinese, or a Latin one."""
    for path, face in _candidates():
        font = Font(path, face, has_chinese=True)
        try:
            if _has_chinese(font):
                return font
        except (OSError, ValueError):
            continue
    return Font(None, 0, has_chinese=False)


def draw_text(text: str, height_px: int, font: Font | None = None) -> NDArray[np.uint8]:
    """Letters and their halo, (rows, columns, 2) uint8: coverage by the letters, coverage by letters and halo."""
    from PIL import Image, ImageDraw

    face = (font or find_font()).at(height_px)
    halo = max(2, round(height_px * HALO_UNITS))
    left, top, right, bottom = face.getbbox(text or " ", stroke_width=halo)
    size = (max(1, round(right - left)), max(1, round(bottom - top)))
    layers: list[Any] = []
    for stroke in (0, halo):
        layer = Image.new("L", size)
        ImageDraw.Draw(layer).text((-left, -top), text, fill=255, font=face, stroke_width=stroke)
        layers.append(np.asarray(layer))
    return np.stack(layers, axis=-1)


@lru_cache(maxsize=32)
def _sized(font: Font, height_px: int) -> Any:
    from PIL import ImageFont

    if font.path is None:
        return ImageFont.load_default(height_px)
    return ImageFont.truetype(str(font.path), height_px, index=font.face)


def _candidates() -> Iterable[tuple[Path, int]]:
    for file, face in CANDIDATES:
        if Path(file).is_file():
            yield Path(file), face
    for folder in FOLDERS:
        root = Path(folder).expanduser()
        if root.is_dir():
            for path in sorted(root.rglob("*")):
                name = path.name.lower()
                if path.suffix.lower() in (".ttf", ".ttc", ".otf") and any(word in name for word in LIKELY):
                    yield path, 0
    if sys.platform == "win32":
        yield from ((path, 0) for path in sorted(Path("C:/Windows/Fonts").glob("sim*.tt?")))


def _has_chinese(font: Font) -> bool:
    face = font.at(16)
    shapes = {bytes(face.getmask(char)) for char in "红楼梦永"}
    return len(shapes) == 4
