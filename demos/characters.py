"""The characters of a library as the page and the command line meet them: found in a book, written, or imported.

A character of a book is named ``book:NAME`` and drawn anew for every bookmark; one on the shelf is named ``shelf:ID``.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from core.errors import SettingsError
from core.persona.card import Card
from core.persona.fence import require_bookmark
from core.persona.memory import Memory
from core.persona.people import Person, find_people, find_person
from core.persona.shelf import CharacterNotFound, CharacterShelf, OnShelf
from core.retrieval.library import Library

if TYPE_CHECKING:
    from pathlib import Path

    from core.llm.chat_model import NovelChatModel
    from core.persona.drawing import Progress

__all__ = ["Characters"]

MOST_KEPT = 64
BOOK, SHELF = "book:", "shelf:"


class Characters:
    """The characters of one library.

    Attributes:
        shelf: those that were written or imported.
        memory: what all of them remember.
    """

    def __init__(self, library: Library, home: Path) -> None:
        self._library, self._folder = library, home / "characters"
        self.shelf = CharacterShelf(self._folder / "cards")
        self._people: OrderedDict[tuple[object, ...], tuple[Person, ...]] = OrderedDict()
        self._cards: OrderedDict[tuple[object, ...], Card] = OrderedDict()
        self._guard = threading.Lock()

    @cached_property
    def memory(self) -> Memory:
        return Memory(self._folder / "memory.sqlite3")

    def people(self, book_id: str, until_chapter: int | None) -> tuple[Person, ...]:
        """The people of a book who speak up to the bookmark, most prominent first.

        Raises:
            BookNotFound: there is no such book.
        """
        book = self._library.open(book_id)
        key = (book_id, book.stamp, until_chapter)
        with self._guard:
            if key not in self._people:
                record = book.record
                found = find_people(book.text, record.chapters, record.language, until_chapter=until_chapter)
                _keep(self._people, key, found)
            return self._people[key]

    def on_shelf(self, book_id: str | None, until_chapter: int | None) -> tuple[list[OnShelf], list[str]]:
        """The characters on the shelf that can be met in this book up to the bookmark, and why files were passed over.

        Even the name of another could tell what is to come.
        """
        found = self.shelf.list()
        met = []
        for one in found.characters:
            with contextlib.suppress(SettingsError):
                self.card(SHELF + one.id, book_id, until_chapter)
                met.append(one)
        return met, [skipped.reason for skipped in found.skipped]

    def needs_drawing(self, name: str) -> bool:
        """Whether a character comes out of a book, which takes a while with a model."""
        return name.startswith(BOOK)

    def card(
        self,
        name: str,
        book_id: str | None,
        until_chapter: int | None,
        *,
        model: NovelChatModel | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> Card:
        """The card of a character: ``book:NAME`` or ``shelf:ID``.

        Args:
            model: a chat model that makes the lines of a drawn card shorter.

        Raises:
            CharacterNotFound: nobody of that name speaks up to the bookmark, or nothing on the shelf has that id.
            SettingsError: the card on the shelf is of another book, or tells what lies past the bookmark.
        """
        if name.startswith(SHELF):
            card = self.shelf.get(name.removeprefix(SHELF))
            if card.book_id not in (None, book_id):
                raise SettingsError(f"the card of {card.name} belongs to another book; pick that book first")
            require_bookmark(card, until_chapter)
            return card
        from core.persona.drawing import drawing

        wanted = name.removeprefix(BOOK)
        people = self.people(book_id or "", until_chapter)
        person = find_person(people, wanted)
        if person is None:
            raise CharacterNotFound(wanted)
        book = self._library.open(book_id or "")
        key = (book_id, book.stamp, until_chapter, person.name, model and model.backend.name)
        if (known := self._cards.get(key)) is not None:
            return known
        steps = drawing(book, person, people, until_chapter=until_chapter, model=model)
        while True:
            try:
                on_progress(next(steps))
            except StopIteration as end:
                drawn: Card = end.value
                with self._guard:
                    _keep(self._cards, key, drawn)
                return drawn


def _keep(kept: OrderedDict, key: object, value: object) -> None:  # type: ignore[type-arg]
    kept[key] = value
    while len(kept) > MOST_KEPT:
        kept.popitem(last=False)
