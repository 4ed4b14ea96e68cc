"""The people of a novel: who speaks, under which names, and where they are mentioned.

    quotations -> names beside them -> names of one person joined (core.persona.aliases) -> people, most prominent first

Nothing after the bookmark is looked at, not even to find out who is who. Nothing here knows a card or a model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from core.data.text import Chapter, Language, Span, chapter_at
from core.persona.aliases import group_names
from core.persona.speech import Speech, speeches

__all__ = ["Person", "end_of_reading", "find_people", "find_person", "mentions_of", "speeches_of"]

LEAST_SPEECHES, LEAST_SHARE = 2, 0.01


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in the book.

    Attributes:
        name: the one that the book uses most.
        aliases: the other names, most used first.
        short_names: that stand for the person beside a quotation and are too short to search for.
        count: mentions under all names but the short ones.
        speeches: quotations with one of the names beside them.
        first_chapter: number of the chapter in which the person is first mentioned.
    """

    name: str
    aliases: tuple[str, ...]
    short_names: tuple[str, ...]
    count: int
    speeches: int
    first_chapter: int

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


def find_people(
    text: str, chapters: Sequence[Chapter], language: Language, *, until_chapter: int | None = None, most: int = 40
) -> tuple[Person, ...]:
    """The people who speak in what may be read, most prominent first.

    Args:
        until_chapter: number of the last chapter that may be read; None for the whole book.
        most: so many of them at most.
    """
    read = text[: end_of_reading(chapters, until_chapter)]
    spoken = list(speeches(read, language))
    said = Counter(speech.speaker for speech in spoken)
    people = []
    for group in group_names(read, language, spoken):
        names = sorted(group.names, key=lambda name: (-said[name] - 0.01 * group.counts[name], name))
        spans = mentions_of(read, chapters, names, language)
        num_said = sum(said[name] for name in (*names, *group.short_names))
        # A word that stands often elsewhere, and hardly ever beside a quotation, is no name: 径至.
        if not spans or num_said < LEAST_SPEECHES or num_said < LEAST_SHARE * len(spans):
            continue
        people.append(
            Person(
                name=names[0],
                aliases=tuple(names[1:]),
                short_names=group.short_names,
                count=len(spans),
                speeches=num_said,
                first_chapter=chapter_at(chapters, spans[0].start).number,
            )
        )
    people.sort(key=lambda person: (-person.speeches * 3 - person.count, person.name))
    return tuple(people[:most])


def find_person(people: Iterable[Person], name: str) -> Person | None:
    """The person who goes by that name, written however a reader may write it; None where it is nobody's."""
    wanted = _folded(name)
    for person in people:
        if wanted in map(_folded, person.names):
            return person
    return None


def mentions_of(
    text: str,
    chapters: Sequence[Chapter],
    names: Sequence[str],
    language: Language,
    *,
    until_chapter: int | None = None,
) -> list[Span]:
    """Every place at which one of the names stands, in order; of names within each other, the longest."""
    if not names:
        return []
    forms = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    pattern = re.compile(forms if language == "zh" else rf"(?<!\w)(?:{forms})(?!\w)")
    end = end_of_reading(chapters, until_chapter)
    return [Span(*match.span()) for match in pattern.finditer(text, 0, min(end, len(text)))]


def speeches_of(
    text: str,
    chapters: Sequence[Chapter],
    person: Person,
    language: Language,
    *,
    until_chapter: int | None = None,
) -> list[Speech]:
    """The quotations beside which one of the person's names stands, in order."""
    known = {*person.names, *person.short_names}
    end = end_of_reading(chapters, until_chapter)
    return [speech for speech in speeches(text, language, 0, min(end, len(text))) if speech.speaker in known]


def end_of_reading(chapters: Sequence[Chapter], until_chapter: int | None) -> int:
    """How many characters of the text may be read."""
    ends = [chapter.span.end for chapter in chapters if until_chapter is None or chapter.number <= until_chapter]
    return max(ends, default=0)


def _folded(name: str) -> str:
    return re.sub(r"[\s.·・]+", "", name).casefold()
