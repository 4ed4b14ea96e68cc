"""A character's card: what a model is told before it speaks as somebody, and where the book says so.

A card is written by hand, read from a file, or drawn from a book; only the last has sources. Nothing here reads a file,
searches a book or knows a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from core.data.text import Span
from core.errors import NovelscopeError

__all__ = ["BadCard", "Card", "Line", "Origin", "Relation", "Source"]

Origin = Literal["hand", "file", "book"]


class BadCard(NovelscopeError, ValueError):
    """A character's card does not have the form that novelscope reads."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the book says something.

    Attributes:
        chapter: number of the chapter, as in ``Chapter.number``.
        span: of the quotation in the novel's text; ``quote`` equals the text at that span.
    """

    chapter: int
    span: Span
    quote: str


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that a card says, in a sentence, and the passage it rests on; None where there is no book behind it."""

    text: str
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Relation:
    """What another person is to the character."""

    person: str
    line: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A character.

    Attributes:
        name: the one that the character is best known by.
        aliases: other names of the same person.
        about: who the character is.
        knows, wants: what moves the character.
        manner: how the character speaks, described.
        sayings: the character's own words, quoted.
        known_until: last chapter, by number, that the card draws from; None where it draws from no book, or all of it.
        book_id: of the book that the character belongs to.
        greeting: what the character says first.
        scenario: where and when a conversation takes place.
        other: what a file held that has no place here, kept so that it is written back unchanged.
    """

    name: str
    aliases: tuple[str, ...] = ()
    about: tuple[Line, ...] = ()
    knows: tuple[Line, ...] = ()
    wants: tuple[Line, ...] = ()
    manner: tuple[Line, ...] = ()
    sayings: tuple[Line, ...] = ()
    relations: tuple[Relation, ...] = ()
    known_until: int | None = None
    book_id: str | None = None
    origin: Origin = "hand"
    greeting: str = ""
    scenario: str = ""
    other: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise BadCard("the character has no name; give it one")

    @property
    def names(self) -> tuple[str, ...]:
        """The name and the aliases, each once, longest first: the order in which a text is searched for them."""
        return tuple(sorted(dict.fromkeys((self.name, *self.aliases)), key=lambda name: (-len(name), name)))

    def lines(self) -> Iterator[Line]:
        """Every line of the card, in the order in which it is shown."""
        for part in (self.about, self.knows, self.wants, self.manner, self.sayings):
            yield from part
        yield from (relation.line for relation in self.relations)
