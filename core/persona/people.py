"""The people of a novel: who speaks, under which names, and where they are mentioned.

    quotations -> names beside them -> names of one person joined (core.persona.aliases) -> people, most prominent first

Nothing after the bookmark is looked at, not even to find out who is who. Nothing here knows a card or a model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from core.data.text import Chapter, Language, Span, chapter_at
from core.persona.aliases import group_names
from core.persona.speech import Speech, speeches
from core.persona.word_lists import words

__all__ = ["Person", "end_of_reading", "find_people", "find_person", "is_said_by", "mentions_of", "speeches_of"]

LEAST_SPEECHES, LEAST_SHARE = 2, 0.01
FULL_NAME_CHARS = 1500
# Miss Darcy is no mention of Darcy; Mr. Darcy is one, found from its title on, if it is among the names.
NOT_TITLED = "".join(
    rf"(?<!\b{re.escape(title)} )"
    for title in ("Miss", "Mrs", "Mrs.", "Mr", "Mr.", "Lady", "Lord", "Sir", "Colonel", "Captain")
)


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
    forms = "|".join(re.escape(name).replace(r"\ ", r"\s") for name in sorted(names, key=len, reverse=True))
    pattern = re.compile(forms if language == "zh" else rf"(?<!\w){NOT_TITLED}(?:{forms})(?!\w)")
    end = end_of_reading(chapters, until_chapter)
    return [Span(*match.span()) for match in pattern.finditer(text, 0, min(end, len(text)))]


def speeches_of(
    text: str,
    chapters: Sequence[Chapter],
    names: Sequence[str],
    language: Language,
    *,
    until_chapter: int | None = None,
) -> list[Speech]:
    """The quotations that are said by the bearer of the names, in order; see ``is_said_by``."""
    end = end_of_reading(chapters, until_chapter)
    return [speech for speech in speeches(text, language, 0, min(end, len(text))) if is_said_by(text, speech, names)]


def is_said_by(text: str, speech: Speech, names: Collection[str]) -> bool:
    """Whether one of a person's names, the short ones too, stands beside a quotation.

    A name of one character is that of the last full name before it that ends so: 肃 is Li Su's soon after 李肃.
    """
    if speech.speaker not in names:
        return False
    if len(speech.speaker) > 1:
        return True
    at = speech.named_at.start
    full = re.compile(f"(?:{'|'.join(sorted(words('families.zh')))}){re.escape(speech.speaker)}")
    before = full.findall(text, max(0, at - FULL_NAME_CHARS), at)
    return not before or any(name.endswith(before[-1]) for name in names)


def end_of_reading(chapters: Sequence[Chapter], until_chapter: int | None) -> int:
    """How many characters of the text may be read."""
    ends = [chapter.span.end for chapter in chapters if until_chapter is None or chapter.number <= until_chapter]
    return max(ends, default=0)


def _folded(name: str) -> str:
    return re.sub(r"[\s.·・]+", "", name).casefold()
