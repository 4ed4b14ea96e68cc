"""GLSL programs from ``shaders/``: opened as package data, completed by constants, compiled with errors in words."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

from core.errors import GraphicsError

if TYPE_CHECKING:
    import moderngl

__all__ = ["CONSTANTS", "load_program", "shader_source"]

# What shaders and Python must agree on; a shader names a constant as @NAME@.
CONSTANTS: dict[str, float | int] = {
    "SMALLEST_PX": 1.5,
    "LARGEST_PX": 250.0,  # software GL draws points up to 255 pixels wide
    "RIM_SHARE": 0.35,
    "RING_PX": 2.0,
    "HALO_SHARE": 0.85,
    "RING": 0,
    "GLOW": 1,
    "DIAMOND": 2,
}


def shader_source(file: str) -> str:
    """The text of ``shaders/FILE`` with its constants in place.

    Raises:
        GraphicsError: the file is missing, or names a constant that does not exist.
    """
    try:
        text = resources.files("shaders").joinpath(file).read_text(encoding="utf-8")
    except (ModuleNotFoundError, OSError) as missing:
        raise GraphicsError(
            f"the shader {file} is missing from this installation; install novelscope again"
        ) from missing

    def value(match: re.Match[str]) -> str:
        if match[1] not in CONSTANTS:
            raise GraphicsError(f"the shader {file} names @{match[1]}@, which viz/programs.py does not define")
        return str(CONSTANTS[match[1]])

    return re.sub(r"@(\w+)@", value, text)


def load_program(context: moderngl.Context, vertex: str, fragment: str) -> moderngl.Program:
    """A program of ``shaders/VERTEX.vert`` and ``shaders/FRAGMENT.frag``.

    Raises:
        GraphicsError: a file is missing, or the driver refuses the program; with the driver's first line.
    """
    import moderngl

    sources = shader_source(f"{vertex}.vert"), shader_source(f"{fragment}.frag")
    try:
        return context.program(vertex_shader=sources[0], fragment_shader=sources[1])
    except moderngl.Error as wrong:
        lines = [line.strip() for line in str(wrong).splitlines() if re.search(r"\d+:\d+|error", line)]
        raise GraphicsError(
            f"this OpenGL driver refuses the shaders {vertex}.vert and {fragment}.frag ({(lines or [str(wrong)])[0]}); "
            "update the driver, or draw in software with: LIBGL_ALWAYS_SOFTWARE=1"
        ) from wrong
