"""Low-bit inference over core.model: load any supported checkpoint, keep it in few bits, stream its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.engine.factory import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # torch loads with the first use, not with the package.
    if name == "load":
        from core.engine.factory import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
