"""The words that the window and its pictures speak, in the reader's language, from ``viz/strings``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources

__all__ = ["words_in"]


@lru_cache(maxsize=2)
def words_in(language: str) -> Mapping[str, str]:
    """All words by key, ``"zh"`` or ``"en"``."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    text = resources.files("viz").joinpath("strings").joinpath(f"{language}.toml").read_text(encoding="utf-8")
    words: dict[str, str] = tomllib.loads(text)
    return words
