"""The interface's strings, in Chinese and English, and which of them a visitor sees.

Labels of components follow the browser by Gradio's own I18n; what handlers render is chosen here from the request's
``Accept-Language``. The strings are data in ``demos/strings``; both files have the same keys.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import gradio as gr

__all__ = ["LANGUAGES", "interface", "language_of", "strings_for", "strings_in"]

LANGUAGES = ("zh", "en")


@cache
def strings_in(language: str) -> Mapping[str, str]:
    """Every string of one language, by key."""
    path = resources.files("demos").joinpath("strings").joinpath(f"{language}.toml")
    strings: Mapping[str, str] = tomllib.loads(path.read_text(encoding="utf-8"))
    return strings


def strings_for(request: gr.Request | None) -> Mapping[str, str]:
    """The strings of the language that the visitor's browser asks for first."""
    return strings_in(language_of(request))


def language_of(request: gr.Request | None) -> str:
    """The visitor's language, "zh" or "en"."""
    accepted = str(request.headers.get("accept-language") or "zh") if request is not None else "zh"
    # The first choice only, and English for all that is not Chinese: so decides Gradio for its labels, too.
    return "zh" if accepted.strip().lower().startswith("zh") else "en"


def interface() -> gr.I18n:
    """The same strings for the labels of components; the browser picks."""
    import gradio as gr

    return gr.I18n(**{language: dict(strings_in(language)) for language in LANGUAGES})
