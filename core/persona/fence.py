"""The bookmark and a card: what a card draws from must not lie past it. Nothing here knows a model."""

from __future__ import annotations

from core.errors import SettingsError
from core.persona.card import Card

__all__ = ["require_bookmark"]


def require_bookmark(card: Card, until_chapter: int | None) -> None:
    """See that a card tells nothing past the bookmark.

    Raises:
        SettingsError: it draws from more of the book, or it does not say from how much.
    """
    if until_chapter is None:
        return
    cited = [line.source.chapter for line in card.lines() if line.source is not None]
    known = max([*cited, *([] if card.known_until is None else [card.known_until])], default=None)
    is_unbounded = card.origin == "book" and card.known_until is None
    if is_unbounded or (known is not None and known > until_chapter):
        cure = "draw it again" if card.origin == "book" else "set the bookmark to where it ends, or change the card"
        raise SettingsError(
            f"the card of {card.name} knows more than chapter {until_chapter}, where the bookmark stands; {cure}"
        )
