"""What characters remember of those who talk with them: the last turns, a summary of the earlier ones, and facts.

Everything belongs to one reader and one character, and was said under one bookmark: who has gone back to an earlier
chapter is told nothing that was said later on, neither in a turn nor in a summary of it. Nothing here knows a model or
an embedder; what sums up and what embeds is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.data.dialogues import Turn
from core.data.sqlite_file import FileForm, SqliteFile
from core.errors import NovelscopeError, SettingsError

__all__ = ["Embed", "Fact", "FactNotFound", "Memory", "MemoryUnusable", "Recalled", "Summarise"]

# What the whole book counts as; SQLite has no greater chapter to offer.
WHOLE = 2**62
VECTOR = np.dtype("<f4")

Summarise = Callable[[str, Sequence[Turn]], str]
"""From the summary so far, "" at first, and the turns that follow it, the new summary."""

Embed = Callable[[Sequence[str]], np.ndarray]
"""Vectors of texts, (len(texts), dim)."""


class MemoryUnusable(NovelscopeError):
    """The file of memories cannot be read or written."""


# Texts are blobs: SQLite's own strings cannot hold half a character, and whoever wrote it is to find it again.
# A chapter is the reader's bookmark when the row was written. `covers_*`: a summary tells all turns up to that chapter
# and that turn.
_FORM = FileForm(
    application=0x6E766D73,  # "nvms"
    version=1,
    error=MemoryUnusable,
    schema="""
CREATE TABLE turns (
    id INTEGER PRIMARY KEY AUTOINCREMENT, reader BLOB NOT NULL, character BLOB NOT NULL, chapter INTEGER NOT NULL,
    role TEXT NOT NULL, content BLOB NOT NULL
) STRICT;
CREATE INDEX turns_of ON turns (reader, character, id);
CREATE TABLE summaries (
    reader BLOB NOT NULL, character BLOB NOT NULL, chapter INTEGER NOT NULL, content BLOB NOT NULL,
    covers_chapter INTEGER NOT NULL, covers_turn INTEGER NOT NULL, PRIMARY KEY (reader, character, chapter)
) STRICT;
CREATE TABLE facts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, reader BLOB NOT NULL, character BLOB NOT NULL, chapter INTEGER NOT NULL,
    content BLOB NOT NULL, vector BLOB, embedder BLOB
) STRICT;
CREATE INDEX facts_of ON facts (reader, character, id);
""",
)


class FactNotFound(NovelscopeError, LookupError):
    """The character remembers no fact of that id about that reader."""

    def __init__(self, id: int) -> None:
        super().__init__(f"no fact {str(id)[:20]} is remembered; list the facts to see which are")
        self.id = id


@dataclass(frozen=True, slots=True)
class Fact:
    """Something to be remembered of a reader.

    Attributes:
        until_chapter: the bookmark under which it was learned; None where the whole book was read.
    """

    id: int
    text: str
    until_chapter: int | None


@dataclass(frozen=True, slots=True)
class Recalled:
    """A fact, and the cosine of the angle between it and what was asked."""

    fact: Fact
    score: float


@dataclass(frozen=True, slots=True)
class _Summary:
    """The summary in force: what it says, and that it tells the turns up to a chapter and a turn."""

    chapter: int = -WHOLE
    text: str = ""
    covers_chapter: int = -WHOLE
    covers_turn: int = 0


@dataclass(frozen=True, slots=True)
class _Said:
    id: int
    chapter: int
    turn: Turn


class Memory:
    """Memories in a file, which is made where it is missing. Several threads and processes may use it.

    ``until_chapter`` is the reader's bookmark throughout: the last chapter, by number, that may be known; None for the
    whole book.

    Raises:
        MemoryUnusable: here and in every method: the file is damaged, or the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, _FORM)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def add_turn(self, reader: str, character: str, turn: Turn, until_chapter: int | None) -> None:
        """Remember what was said."""
        self._file.write(
            "INSERT INTO turns (reader, character, chapter, role, content) VALUES (?, ?, ?, ?, ?)",
            (*_whose(reader, character), _number(until_chapter), turn.role, _bytes(turn.content)),
        )

    def turns(
        self, reader: str, character: str, until_chapter: int | None, *, with_folded: bool = False
    ) -> tuple[Turn, ...]:
        """What was said and is not in the summary, oldest first.

        Args:
            with_folded: also what the summary tells, as for showing the whole conversation.
        """
        summary = _Summary() if with_folded else self._in_force(reader, character, until_chapter)
        return tuple(said.turn for said in self._after(summary, reader, character, until_chapter))

    def fold(
        self,
        reader: str,
        character: str,
        until_chapter: int | None,
        *,
        limit: int,
        keep: int,
        summarise: Summarise,
    ) -> bool:
        """Move the oldest turns into the summary if there are more than ``limit``; whether that was done.

        The turns stay in the file, for a reader who goes back to an earlier chapter. Nothing waits while ``summarise``
        works; if what it was given has changed in the meantime, or it returns nothing, all stays as it was.

        Args:
            keep: how many of the last turns stay as they are. Fewer stay where the reader had gone back, and what was
                said then, later on, is told by the summary already.

        Raises:
            SettingsError: ``keep`` is negative, or more than ``limit``.
        """
        if not 0 <= keep <= limit:
            raise SettingsError(f"{keep} turns cannot be kept of {limit}; keep between 0 and {limit}")
        before = self._in_force(reader, character, until_chapter)
        waiting = self._after(before, reader, character, until_chapter)
        if len(waiting) <= limit:
            return False
        last = max(before.covers_turn, waiting[len(waiting) - keep - 1].id)
        folded = [said for said in waiting if said.id <= last]
        latest = max(said.chapter for said in folded)
        text = summarise(before.text, [said.turn for said in folded])
        if not text.strip():
            return False
        after = _Summary(max(before.chapter, latest), text, max(before.covers_chapter, latest), last)
        with self._file.transaction():
            now = self._after(before, reader, character, until_chapter)
            if self._in_force(reader, character, until_chapter) != before or now[: len(folded)] != folded:
                return False
            self._keep(after, reader, character)
        return True

    def summary(self, reader: str, character: str, until_chapter: int | None) -> str:
        """The summary of what was said earlier; "" where there is none."""
        return self._in_force(reader, character, until_chapter).text

    def set_summary(self, reader: str, character: str, text: str, until_chapter: int | None) -> None:
        """Let the summary say something else, to whoever has read as far as that; it tells the same turns as before."""
        with self._file.transaction():
            found = self._in_force(reader, character, until_chapter)
            new = _Summary(_number(until_chapter), text, found.covers_chapter, found.covers_turn)
            self._keep(new, reader, character)

    def facts(self, reader: str, character: str, until_chapter: int | None) -> tuple[Fact, ...]:
        """The facts, oldest first."""
        return tuple(_fact(row) for row in self._fact_rows(reader, character, until_chapter))

    def add_fact(self, reader: str, character: str, text: str, until_chapter: int | None) -> Fact:
        """Remember a fact; one that says the same is not remembered twice."""
        owned, chapter = (*_whose(reader, character), _bytes(text)), _number(until_chapter)
        with self._file.transaction():
            found = self._file.row(
                "SELECT id, content, chapter FROM facts WHERE reader = ? AND character = ? AND content = ?", owned
            )
            if found is not None:
                # Learned under an earlier bookmark too, it may be known from there on.
                self._file.write("UPDATE facts SET chapter = min(chapter, ?) WHERE id = ?", (chapter, found[0]))
                return _fact((found[0], found[1], min(found[2], chapter)))
            (id,) = self._file.row(
                "INSERT INTO facts (reader, character, content, chapter) VALUES (?, ?, ?, ?) RETURNING id",
                (*owned, chapter),
            )
        return Fact(id, text, until_chapter)

    def edit_fact(self, reader: str, character: str, id: int, text: str, until_chapter: int | None) -> Fact:
        """Let a fact say something else, which may draw on all that was read until now.

        Raises:
            FactNotFound: no such fact is remembered of this reader, or none from so early in the book.
        """
        whose, chapter = _whose(reader, character), _number(until_chapter)
        found = self._file.row(
            "UPDATE facts SET content = ?, chapter = ?, vector = NULL, embedder = NULL "
            "WHERE id = ? AND reader = ? AND character = ? AND chapter <= ? RETURNING id, content, chapter",
            (_bytes(text), chapter, _id(id), *whose, chapter),
        )
        if found is None:
            raise FactNotFound(id)
        return _fact(found)

    def delete_fact(self, reader: str, character: str, id: int) -> None:
        """Remember a fact no longer.

        Raises:
            FactNotFound: no such fact is remembered of this reader.
        """
        whose = _whose(reader, character)
        if not self._file.write("DELETE FROM facts WHERE id = ? AND reader = ? AND character = ?", (_id(id), *whose)):
            raise FactNotFound(id)
        self._file.empty_log()

    def recall(
        self,
        reader: str,
        character: str,
        query: str | np.ndarray,
        until_chapter: int | None,
        *,
        embed: Embed,
        top_k: int,
        embedder: str = "",
    ) -> tuple[Recalled, ...]:
        """The facts that lie nearest to the query, nearest first; of equal ones the older first.

        Args:
            query: a text, or its vector, (dim,).
            embed: makes vectors of the query's kind; those of facts are kept and made only once.
            embedder: names the weights behind ``embed``; vectors of others are made anew.

        Raises:
            SettingsError: a vector is not finite, or those of the embedder have another form than the query's.
        """
        rows = self._fact_rows(reader, character, until_chapter)
        if not rows or top_k < 1:
            return ()
        wanted = np.asarray(_embedded(embed, [query])[0] if isinstance(query, str) else query, dtype=np.float64)
        if wanted.ndim != 1 or not np.isfinite(wanted).all():
            raise SettingsError(f"the query is an array of shape {wanted.shape}, wanted one finite vector")
        kept = {
            row[0]: row[3]
            for row in rows
            if row[4] == _bytes(embedder) and len(row[3]) == wanted.size * VECTOR.itemsize
        }
        if stale := [row for row in rows if row[0] not in kept]:
            made = _embedded(embed, [_text(row[1]) for row in stale])
            if made.shape[1:] != wanted.shape:
                raise SettingsError(f"facts have vectors of shape {made.shape[1:]}, the query has {wanted.shape}")
            kept |= {row[0]: vector.tobytes() for row, vector in zip(stale, made, strict=True)}
            with self._file.transaction():
                for id, content, *_ in stale:
                    self._file.write(
                        "UPDATE facts SET vector = ?, embedder = ? WHERE id = ? AND content = ?",
                        (kept[id], _bytes(embedder), id, content),
                    )
        vectors = np.stack([np.frombuffer(kept[row[0]], VECTOR) for row in rows]).astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(wanted)
        # A vector without length points nowhere.
        scores = np.divide(vectors @ wanted, lengths, out=np.zeros(len(rows)), where=lengths > 0)
        order = np.argsort(-scores, kind="stable")[:top_k]
        return tuple(Recalled(_fact(rows[place]), float(scores[place])) for place in order)

    def forget(self, reader: str, character: str) -> None:
        """Remember nothing of that reader; what was kept is overwritten in the file."""
        with self._file.transaction():
            for table in ("turns", "summaries", "facts"):
                self._file.write(f"DELETE FROM {table} WHERE reader = ? AND character = ?", _whose(reader, character))
        self._file.empty_log()

    def _in_force(self, reader: str, character: str, until_chapter: int | None) -> _Summary:
        """The last summary that tells nothing from beyond the bookmark."""
        found = self._file.row(
            "SELECT chapter, content, covers_chapter, covers_turn FROM summaries "
            "WHERE reader = ? AND character = ? AND chapter <= ? ORDER BY chapter DESC LIMIT 1",
            (*_whose(reader, character), _number(until_chapter)),
        )
        return _Summary() if found is None else _Summary(found[0], _text(found[1]), *found[2:])

    def _after(self, summary: _Summary, reader: str, character: str, until_chapter: int | None) -> list[_Said]:
        """The turns up to the bookmark that the summary does not tell."""
        rows = self._file.rows(
            "SELECT id, chapter, role, content FROM turns WHERE reader = ? AND character = ? AND chapter <= ? "
            "AND NOT (chapter <= ? AND id <= ?) ORDER BY id",
            (*_whose(reader, character), _number(until_chapter), summary.covers_chapter, summary.covers_turn),
        )
        return [_Said(id, chapter, Turn(role, _text(content))) for id, chapter, role, content in rows]

    def _keep(self, summary: _Summary, reader: str, character: str) -> None:
        covers = (summary.covers_chapter, summary.covers_turn)
        self._file.write(
            "INSERT OR REPLACE INTO summaries (reader, character, chapter, content, covers_chapter, covers_turn) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (*_whose(reader, character), summary.chapter, _bytes(summary.text), *covers),
        )

    def _fact_rows(self, reader: str, character: str, until_chapter: int | None) -> list[Any]:
        return self._file.rows(
            "SELECT id, content, chapter, vector, embedder FROM facts "
            "WHERE reader = ? AND character = ? AND chapter <= ? ORDER BY id",
            (*_whose(reader, character), _number(until_chapter)),
        )


def _whose(reader: str, character: str) -> tuple[bytes, bytes]:
    if not reader or not character:
        raise SettingsError("whose memory is meant was left empty; name the reader and the character")
    return _bytes(reader), _bytes(character)


def _number(until_chapter: int | None) -> int:
    return WHOLE if until_chapter is None else max(-WHOLE, min(until_chapter, WHOLE))


def _id(id: int) -> int:
    """An id that SQLite can look for; ids begin at 1."""
    return id if 0 < id < WHOLE else 0


def _fact(row: Sequence[Any]) -> Fact:
    """From id, content, chapter."""
    return Fact(row[0], _text(row[1]), None if row[2] == WHOLE else row[2])


def _embedded(embed: Embed, texts: Sequence[str]) -> np.ndarray:
    made = np.asarray(embed(texts), dtype=VECTOR)
    if made.ndim != 2 or len(made) != len(texts) or not np.isfinite(made).all():
        raise SettingsError(f"the embedder made {made.shape} of {len(texts)} texts, wanted one finite vector of each")
    return made


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(kept: bytes) -> str:
    return kept.decode("utf-8", "surrogatepass")
