"""Books for the tests of ``core.data``: the real corpus where it lies beside the repository, and made-up ones."""

from __future__ import annotations

from pathlib import Path

import pytest

CORPUS = Path(__file__).resolve().parents[2].parent / "shared" / "corpus"


@pytest.fixture(scope="session")
def corpus():
    """A function from a book's name to its path; skips where the corpus is not at hand."""

    def path_of(name: str) -> Path:
        path = CORPUS / f"{name}.txt"
        if not path.is_file():
            pytest.skip(f"the evaluation corpus is not at {CORPUS}")
        return path

    return path_of


@pytest.fixture(scope="session")
def real_chapter(corpus) -> str:
    """The first chapter of 西游记, rare characters included."""
    text = corpus("xiyouji").read_text("utf-8")
    return text[: text.index("第二回")]
