"""What a view can be asked for, by name. Nothing heavy: the command line lists these before anything is loaded."""

from __future__ import annotations

__all__ = ["LANGUAGES", "METHODS", "MODES", "NEIGHBOUR_KINDS", "PROJECTIONS", "THEME_NAMES"]

MODES = ("cluster", "chapter", "position", "score", "length")
"""What a passage's colour can tell."""
PROJECTIONS = ("perspective", "orthographic")
THEME_NAMES = ("dark", "light")
LANGUAGES = ("zh", "en")
NEIGHBOUR_KINDS = ("none", "true", "map", "both")
"""Lines from the pinned passage to its neighbours: none, true ones in vector space, those on the map, both."""
METHODS = ("auto", "umap", "pca")
"""How a map may be made; "auto" takes UMAP where that can be done."""
