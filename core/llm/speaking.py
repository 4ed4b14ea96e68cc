"""What a model says in a role: without white space before the first word, and ended where it runs in circles.

A label before a role's words leaves the model a space to begin with, and a small model does not find out of a loop by
itself. Nothing here knows a persona.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from core.llm.backend import Finish, Prompt, SamplingSettings, TokenBackend
from core.llm.loops import is_looping

__all__ = ["spoken"]

LOOKED_AT = 80
"""Pieces at the end in which a loop is looked for."""


def spoken(backend: TokenBackend, prompt: Prompt, sampling: SamplingSettings) -> Generator[str | Finish, None, None]:
    """The pieces of an answer, then one ``Finish``; closing this stops the model within one token.

    Empty pieces are signs of life. Where a loop ended the answer, the tokens of its ``Finish`` are
    counted from the text.
    """
    said: list[str] = []
    with closing(backend.stream(prompt, sampling)) as pieces:  # type: ignore[type-var]  # made as a generator
        for piece in pieces:
            if isinstance(piece, Finish):
                yield piece
                return
            text = piece if said else piece.lstrip()
            yield text
            if not text:
                continue
            said.append(text)
            if is_looping("".join(said[-LOOKED_AT:])):
                break
    yield Finish("stop", backend.count_tokens(prompt), backend.count_tokens("".join(said)))
