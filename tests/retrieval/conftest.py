"""An empty library with the embedder of ``tests.support``."""

import pytest

from core.retrieval.library import Library, LibrarySettings
from tests.support import HashedEmbedder


@pytest.fixture
def embedder() -> HashedEmbedder:
    return HashedEmbedder()


@pytest.fixture
def library(tmp_path, embedder) -> Library:
    return Library(LibrarySettings(home=tmp_path / "home"), embedder=embedder)
