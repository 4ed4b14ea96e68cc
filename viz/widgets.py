"""Small things that all of the window's panels are made of, and their colours."""

from __future__ import annotations

from functools import cache
from typing import Any

from imgui_bundle import imgui

from core.data.palette import RGB
from viz.folding import fold
from viz.session import MapSession

__all__ = ["BARE", "FIXED", "MARGIN", "apply_theme", "faint", "literal", "swatch", "wrapped"]

MARGIN = 12.0
FIXED = imgui.WindowFlags_.no_move | imgui.WindowFlags_.no_resize | imgui.WindowFlags_.no_saved_settings
BARE = FIXED | imgui.WindowFlags_.no_title_bar | imgui.WindowFlags_.no_collapse


def apply_theme(theme: str) -> None:
    """Paper by day, ink by night, cinnabar for what is active."""
    style: Any = imgui.get_style()
    if theme == "dark":
        imgui.style_colors_dark()
        panel, frame, text = (0.11, 0.11, 0.13, 0.94), (0.18, 0.18, 0.21, 1.0), (0.92, 0.90, 0.86, 1.0)
        accent, soft = (0.78, 0.34, 0.29, 1.0), (0.27, 0.22, 0.22, 1.0)
    else:
        imgui.style_colors_light()
        panel, frame, text = (1.0, 0.995, 0.975, 0.95), (0.94, 0.92, 0.87, 1.0), (0.17, 0.15, 0.13, 1.0)
        accent, soft = (0.66, 0.20, 0.16, 1.0), (0.90, 0.85, 0.78, 1.0)
    colours: dict[Any, Any] = {
        imgui.Col_.window_bg: panel, imgui.Col_.popup_bg: (*panel[:3], 1.0), imgui.Col_.frame_bg: frame,
        imgui.Col_.text: text, imgui.Col_.button: frame, imgui.Col_.button_hovered: soft,
        imgui.Col_.button_active: accent,
        imgui.Col_.header: soft, imgui.Col_.header_hovered: soft, imgui.Col_.header_active: accent,
        imgui.Col_.frame_bg_hovered: soft, imgui.Col_.frame_bg_active: soft, imgui.Col_.slider_grab: accent,
        imgui.Col_.slider_grab_active: accent, imgui.Col_.check_mark: accent, imgui.Col_.title_bg_active: soft,
        imgui.Col_.title_bg: soft,
    }  # fmt: skip
    for name, colour in colours.items():
        style.set_color_(int(name), colour)
    style.window_rounding = style.frame_rounding = style.child_rounding = style.popup_rounding = 6.0
    style.window_padding, style.frame_padding, style.item_spacing = (12, 10), (8, 4), (8, 6)
    style.window_border_size = 0.0


def wrapped(text: str) -> None:
    """Text broken at the panel's edge; a per cent sign in a book is no format."""
    imgui.push_style_var(imgui.StyleVar_.item_spacing, (8.0, 3.0))
    for line in fold(text, imgui.get_content_region_avail().x, _width_of):
        imgui.text_unformatted(line)
    imgui.pop_style_var()


def faint(session: MapSession, text: str, *, is_wrapped: bool = False) -> None:
    """Text that stands back."""
    red, green, blue = session.drawing.theme.faint_text
    imgui.push_style_color(imgui.Col_.text, (red / 255, green / 255, blue / 255, 1.0))
    if is_wrapped:
        wrapped(text)
    else:
        imgui.text_unformatted(text)
    imgui.pop_style_color()


def swatch(colour: RGB, opacity: float) -> None:
    """A dot of a colour, as high as the text."""
    side = imgui.get_text_line_height()
    corner = imgui.get_cursor_screen_pos()
    packed = imgui.get_color_u32((colour[0] / 255, colour[1] / 255, colour[2] / 255, opacity))
    imgui.get_window_draw_list().add_circle_filled((corner.x + side / 2, corner.y + side / 2), side * 0.32, packed)
    imgui.dummy((side, side))


@cache
def _width_of(char: str) -> float:
    """Of one character; the window has one font in one size."""
    return float(imgui.calc_text_size(char).x)


def literal(text: str) -> str:
    """Text for a place where ImGui expects a format."""
    return text.replace("%", "%%")
