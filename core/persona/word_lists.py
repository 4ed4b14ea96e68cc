"""Lists of words that are not of any one novel, kept as plain text beside the code that reads them."""

from __future__ import annotations

from importlib import resources

__all__ = ["word_rows", "words"]


def words(name: str) -> frozenset[str]:
    """Every word of a list; lines that begin with # are comments."""
    return frozenset(word for row in word_rows(name) for word in row)


def word_rows(name: str) -> list[list[str]]:
    """The words of a list, line by line."""
    text = resources.files("core.persona").joinpath("words").joinpath(f"{name}.txt").read_text(encoding="utf-8")
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
