"""The novels that come with the project, and the cards that describe them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from core.retrieval.library import Library

__all__ = ["add_bundled_books", "examples_of"]


def add_bundled_books(library: Library) -> None:
    """Put the bundled novels into a library that is empty."""
    from core.data.reading import novel_from_bytes

    if library.books():
        return
    for name, card in _cards().items():
        data = resources.files("demos").joinpath("books").joinpath(f"{name}.txt").read_bytes()
        library.add(novel_from_bytes(data, name=f"{name}.txt", title=card["title"]))


def examples_of(title: str, language: str) -> list[str]:
    """Questions to offer about a bundled novel, none of them a spoiler; empty for any other book."""
    cards = (card for card in _cards().values() if card["title"] == title)
    return [question for card in cards for question in card[f"examples_{language}"]]


@cache
def _cards() -> Mapping[str, Mapping[str, Any]]:
    """What is known of each bundled novel, by the stem of its files."""
    files = resources.files("demos").joinpath("books").iterdir()
    return {
        file.name.removesuffix(".toml"): tomllib.loads(file.read_text(encoding="utf-8"))
        for file in files
        if file.name.endswith(".toml")
    }
