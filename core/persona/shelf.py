"""The shelf: characters kept in a folder, one JSON file each, in the form that other programs read too.

A file is named by a hash of the book and the character's name, so a character put again takes its own place. Each file
is replaced in one step; a damaged one is reported and hides no other. Nothing here knows how a card is made or used.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from core.data.files import replacing
from core.errors import NovelscopeError
from core.persona.card import BadCard, Card
from core.persona.card_files import MOST_BYTES, read_card, write_card_json

__all__ = ["CharacterNotFound", "CharacterShelf", "OnShelf", "ShelfError", "ShelfList", "Skipped", "character_id"]

ID = re.compile(r"[0-9a-f]{32}")


class ShelfError(NovelscopeError):
    """The folder of characters cannot be read or written."""


class CharacterNotFound(NovelscopeError, LookupError):
    """No character of that id is on the shelf."""

    def __init__(self, id: str) -> None:
        super().__init__(f"there is no character {id[:64]!r}; list the characters to see which there are")
        self.id = id


@dataclass(frozen=True, slots=True)
class OnShelf:
    """A character and the id that finds it."""

    id: str
    card: Card


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was passed over, and why."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class ShelfList:
    """What is on the shelf: the characters by name, and the files that hold none."""

    characters: tuple[OnShelf, ...]
    skipped: tuple[Skipped, ...]


def character_id(book_id: str | None, name: str) -> str:
    """The id of the character of that name in that book, or in none."""
    written = json.dumps([book_id, name])
    return hashlib.sha256(written.encode()).hexdigest()[:32]


class CharacterShelf:
    """Characters in a folder, which is made when the first is put there. Several threads and processes may use it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, card: Card) -> str:
        """Keep a character, in place of one with its name in its book; its id.

        Raises:
            BadCard: the card cannot be written.
            ShelfError: the folder refuses.
        """
        written = write_card_json(card)
        id = character_id(card.book_id, card.name)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as wrong:
            raise ShelfError(f"cannot make {self._folder}: {wrong.strerror or wrong}; check the folder") from wrong
        with replacing(self._path(id), ShelfError) as partial:
            partial.write_bytes(written)
        return id

    def get(self, id: str) -> Card:
        """The character of that id.

        Raises:
            CharacterNotFound: there is none.
            BadCard: its file is damaged.
            ShelfError: the folder refuses.
        """
        # Anything else could name a file outside the folder.
        if not ID.fullmatch(id):
            raise CharacterNotFound(id)
        return self._read(id)

    def list(self, book_id: str | None = None) -> ShelfList:
        """The characters of a book, or all, by name; and every file that should hold a character and does not.

        Raises:
            ShelfError: the folder refuses.
        """
        characters, skipped = [], []
        for path in self._files():
            try:
                card = self.get(path.stem)
            except CharacterNotFound:
                # Gone since the folder was looked through, or never a file of the shelf.
                if not ID.fullmatch(path.stem):
                    skipped.append(Skipped(path.name, "the file is not named by an id; add the character from it"))
            except NovelscopeError as wrong:
                skipped.append(Skipped(path.name, str(wrong)))
            else:
                if book_id is None or card.book_id == book_id:
                    characters.append(OnShelf(path.stem, card))
        return ShelfList(tuple(sorted(characters, key=lambda one: (one.card.name, one.id))), tuple(skipped))

    def remove(self, id: str) -> None:
        """Take a character off the shelf, damaged or not.

        Raises:
            CharacterNotFound: there is none.
            ShelfError: the folder refuses.
        """
        if not ID.fullmatch(id):
            raise CharacterNotFound(id)
        try:
            self._path(id).unlink()
        except FileNotFoundError:
            raise CharacterNotFound(id) from None
        except OSError as wrong:
            raise ShelfError(f"cannot remove {self._path(id)}: {wrong.strerror or wrong}; check the folder") from wrong

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}.json"

    def _files(self) -> tuple[Path, ...]:
        try:
            # Hidden ones are being written.
            return tuple(sorted(path for path in self._folder.iterdir() if path.match("[!.]*.json")))
        except FileNotFoundError:
            return ()
        except OSError as wrong:
            raise ShelfError(f"cannot read {self._folder}: {wrong.strerror or wrong}; check the folder") from wrong

    def _read(self, id: str) -> Card:
        path = self._path(id)
        try:
            with path.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            raise CharacterNotFound(id) from None
        except OSError as wrong:
            raise ShelfError(f"cannot read {path}: {wrong.strerror or wrong}; check the file") from wrong
        card = read_card(data)
        if character_id(card.book_id, card.name) != id:
            raise BadCard(f"{path.name} holds {card.name!r}, which is not the character of its id; add it anew")
        return card
