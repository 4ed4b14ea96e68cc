"""Draw a character's card from a book: who it is, what it knows and wants, how it speaks, whom it lives with.

Every line rests on a passage: it is the book's own sentence, or a shorter one by a chat model of which every word is
in that sentence. Nothing after the bookmark is read. Nothing here finds out who is who.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from core.data.text import Language, Span
from core.persona.card import Card, Line, Relation, Source
from core.persona.people import Person, find_people
from core.persona.telling import Reading, best_spread, first_told, told_between, told_of, wished_for
from core.persona.voice import Voice
from core.retrieval.book_folder import BookFolder
from core.retrieval.tokens import content_words, index_terms

if TYPE_CHECKING:
    from langchain_core.language_models.chat_models import BaseChatModel

__all__ = ["Progress", "draw_card", "drawing"]

MOST_LINES = {"about": 4, "knows": 3, "wants": 3}
MOST_SAYINGS, MOST_RELATIONS, NEXT_CHARS = 6, 5, 300
STEPS = 4
LEAST_PAIRS = 0.7
"""Of the pairs of characters in a model's Chinese sentence, so many must stand in the passage; each character must."""
FUNCTION_ZH = frozenset("的了着是在和与而也就都又并且，。；、！？：“”‘’ ")
NEGATIONS = {
    "zh": re.compile("[不没无未莫勿非别]"),
    "en": re.compile(r"\b(?:no|not|never|nor|none|nothing)\b|n['’]t\b"),
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a card is drawn."""

    done: int
    total: int


def draw_card(
    book: BookFolder,
    person: Person,
    people: Sequence[Person] | None = None,
    *,
    until_chapter: int | None = None,
    model: BaseChatModel | None = None,
) -> Card:
    """The card of a person of the book; see ``drawing``."""
    steps = drawing(book, person, people, until_chapter=until_chapter, model=model)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            card: Card = end.value
            return card


def drawing(
    book: BookFolder,
    person: Person,
    people: Sequence[Person] | None = None,
    *,
    until_chapter: int | None = None,
    model: BaseChatModel | None = None,
) -> Generator[Progress, None, Card]:
    """Draw the card step by step; closing this stops it.

    Args:
        person: as found up to the same bookmark.
        people: all that were found up to the same bookmark, for relations; None finds them.
        until_chapter: number of the last chapter that may be read; None for the whole book.
        model: a chat model makes lines shorter; a base model, or None, leaves them as the book has them.
    """
    record = book.record
    reading = Reading(book.text, record.chapters, record.language, until_chapter)
    yield Progress(0, STEPS)
    voice = Voice(reading, person)
    parts = _told(reading, person, voice)
    yield Progress(1, STEPS)
    sayings = best_spread(reading, voice.sayings(MOST_SAYINGS), MOST_SAYINGS, set())
    manner = [Line(trait.text, _source(reading, trait.shown_at)) for trait in voice.traits()]
    yield Progress(2, STEPS)
    if people is None:
        people = find_people(book.text, record.chapters, record.language, until_chapter=until_chapter)
    relations = list(_relations(reading, person, people))
    yield Progress(3, STEPS)
    if model is not None and getattr(model, "is_chat", True):
        total = STEPS + sum(map(len, parts.values()))
        done = STEPS
        for lines in parts.values():
            for place, line in enumerate(lines):
                lines[place] = _shorter(line, person, record.language, model)
                yield Progress(done, total)
                done += 1
    return Card(
        name=person.name,
        aliases=person.aliases,
        about=tuple(parts["about"]),
        knows=tuple(parts["knows"]),
        wants=tuple(parts["wants"]),
        manner=tuple(manner),
        sayings=tuple(_line(reading, span) for span in sayings),
        relations=tuple(relations),
        known_until=until_chapter,
        book_id=book.id,
        origin="book",
    )


def _told(reading: Reading, person: Person, voice: Voice) -> dict[str, list[Line]]:
    """The telling sentences of each kind, in the book's order; a sentence serves once."""
    used: set[Span] = set()
    found: dict[str, list[Line]] = {}
    for kind, most in MOST_LINES.items():
        scored = told_of(reading, person, kind)
        if kind == "wants":
            scored += wished_for(reading, voice.own, voice.self_words)
        chosen = best_spread(reading, scored, most, used)
        # Where a book does not say who somebody is, it shows where they come in.
        first = first_told(reading, person) if kind == "about" else None
        if first is not None and len(chosen) < 2 and first not in chosen:
            chosen = sorted([first, *chosen])
        used.update(chosen)
        found[kind] = [_line(reading, span) for span in chosen]
    return found


def _relations(reading: Reading, person: Person, people: Sequence[Person]) -> Iterator[Relation]:
    """Those whom the person talks to and stands beside most, each with a sentence that says most of the two."""
    speaker = {name: each.name for each in people for name in (*each.names, *each.short_names)}
    speaker |= dict.fromkeys((*person.names, *person.short_names), person.name)
    exchanges = Counter[str]()
    for one, other in pairwise(reading.spoken):
        pair = {speaker.get(one.speaker), speaker.get(other.speaker)}
        if person.name in pair and len(pair) == 2 and other.span.start - one.span.end < NEXT_CHARS:
            exchanges.update(name for name in pair if name is not None and name != person.name)
    told = {each: told_between(reading, person, each) for each in people if each.name != person.name}
    closest = sorted(told, key=lambda each: (-2 * exchanges[each.name] - len(told[each]), each.name))
    for each in closest[:MOST_RELATIONS]:
        for span in best_spread(reading, told[each], 1, set()):
            yield Relation(each.name, _line(reading, span))


def _line(reading: Reading, span: Span) -> Line:
    """The book's own words; of a quotation that goes on, the missing mark is set."""
    text = " ".join(reading.of(span).split()) if reading.language == "en" else reading.of(span)
    for opener, closer in ("“”", "「」"):
        if text.count(opener) == text.count(closer) + 1 and text.rfind(opener) > text.rfind(closer):
            text += closer
        elif text.count(closer) == text.count(opener) + 1 and (
            opener not in text or text.find(closer) < text.find(opener)
        ):
            text = opener + text
    return Line(text, _source(reading, span))


def _source(reading: Reading, span: Span) -> Source:
    return Source(reading.chapter(span), span, reading.of(span))


_ASKED = {
    "zh": "用一句不超过四十字的话，只用原文的词句，写出下面的原文说了{name}什么。只写这一句。\n\n原文：{quote}",
    "en": "In one sentence of at most 25 words, in the passage's own words, say what the passage tells of {name}. Only "
    "that sentence.\n\nPassage: {quote}",
}


def _shorter(line: Line, person: Person, language: Language, model: BaseChatModel) -> Line:
    """The line in fewer words by the model, where the passage holds every word of them; else the line."""
    from langchain_core.messages import HumanMessage

    if line.source is None:
        return line
    asked = _ASKED[language].format(name=person.name, quote=line.source.quote)
    said = " ".join(model.invoke([HumanMessage(asked)], temperature=0.0, max_tokens=96).text.split())
    is_shorter = 0 < len(said) < len(line.text)
    return Line(said, line.source) if is_shorter and _is_supported(said, line.source.quote, person, language) else line


def _is_supported(said: str, quote: str, person: Person, language: Language) -> bool:
    """Whether the passage, or the person's names, hold every word that carries meaning, and deny as much."""
    known = " ".join((quote, *person.names))
    if bool(NEGATIONS[language].search(said)) != bool(NEGATIONS[language].search(quote)):
        return False
    if language == "en":
        words = set(content_words(said))
        return bool(words) and words <= set(content_words(known))
    pairs = {term for term in index_terms(said) if len(term) > 1}
    supported = pairs & set(index_terms(known))
    return bool(pairs) and set(said) - FUNCTION_ZH <= set(known) and len(supported) >= LEAST_PAIRS * len(pairs)
