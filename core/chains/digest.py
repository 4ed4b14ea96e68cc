"""Cut what a model is to summarise out of a chapter: pieces that fit, a few telling sentences, or one person's lines.

A model of a few hundred million parameters loses the thread in a long text, so it reads the most telling sentences from
every part of the chapter; a person's part in it is the sentences around the name. Nothing here knows a model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from core.data.sentences import sentences
from core.data.text import Chapter, Language, Span
from core.retrieval.tokens import index_terms

__all__ = ["lines_about", "pieces_of", "telling_sentences"]

PARTS = 6
NEIGHBOURS = 1


def pieces_of(text: str, span: Span, language: Language, cost: Callable[[str], int], limit: int) -> list[str]:
    """The span cut at ends of sentences into pieces that cost the limit at most; no more than white space is left out.

    A sentence that costs more by itself is cut in two as often as needed.
    """
    pieces: list[str] = []
    start, stop, spent = span.start, span.start, 0
    for sentence in sentences(text, span.start, span.end, language):
        price = cost(text[stop : sentence.end])
        if spent and spent + price > limit:
            pieces += _halved(text[start:stop], cost, limit)
            start, spent = stop, 0
        stop, spent = sentence.end, spent + price
    pieces += _halved(text[start : span.end], cost, limit)
    return [piece for piece in pieces if piece.strip()]


def telling_sentences(text: str, chapter: Chapter, language: Language, max_chars: int) -> str:
    """Sentences of at most ``max_chars`` together, the best of each sixth of the chapter, in the book's order.

    A sentence tells much if its words come up again and again in the chapter.
    """
    gap = "" if language == "zh" else " "
    spans = list(sentences(text, _after_title(text, chapter), chapter.span.end, language))
    if sum(len(span) + len(gap) for span in spans) <= max_chars:
        return gap.join(span.of(text) for span in spans)
    counts = Counter(term for span in spans for term in set(index_terms(span.of(text))))
    size = -(-len(spans) // PARTS)
    chosen: list[Span] = []
    for first in range(0, len(spans), size):
        part = spans[first : first + size]
        room = max_chars // PARTS
        for span in sorted(part, key=lambda one: -_weight(one.of(text), counts)):
            if len(span) + len(gap) <= room:
                chosen.append(span)
                room -= len(span) + len(gap)
    chosen = chosen or [Span(spans[0].start, min(spans[0].end, spans[0].start + max_chars))]
    return gap.join(span.of(text) for span in sorted(chosen, key=lambda one: one.start))


def lines_about(text: str, chapter: Chapter, language: Language, person: str) -> str:
    """The sentences that hold the name, with their neighbours, in the book's order; empty where it does not occur.

    Sentences that follow each other stand as in the book; a line end stands where others were left out.
    """
    start, end = chapter.span.start, chapter.span.end
    named = [Span(*match.span()) for match in _name(person, language).finditer(text, start, end)]
    if not named:
        return ""
    spans = list(sentences(text, start, end, language))
    near = {
        other
        for number, span in enumerate(spans)
        if any(span.overlap(one) for one in named)
        for other in range(number - NEIGHBOURS, number + NEIGHBOURS + 1)
        if 0 <= other < len(spans)
    }
    starts = [spans[number].start for number in sorted(near) if number - 1 not in near]
    ends = [spans[number].end for number in sorted(near) if number + 1 not in near]
    return "\n".join(text[start:end] for start, end in zip(starts, ends, strict=True))


def _name(person: str, language: Language) -> re.Pattern[str]:
    """Finds a name, broken over a line or not, and in a script with spaces only where it is a word of its own."""
    name = r"\s+".join(re.escape(word) for word in person.split())
    return re.compile(name if language == "zh" else rf"(?<!\w){name}(?!\w)")


def _after_title(text: str, chapter: Chapter) -> int:
    """Where the chapter goes on after its heading; the titles of numbered parts do not stand in the text."""
    start = chapter.span.start
    while start < chapter.span.end and text[start].isspace():
        start += 1
    return start + len(chapter.title) if text.startswith(chapter.title, start, chapter.span.end) else start


def _weight(sentence: str, counts: Counter[str]) -> float:
    terms: Sequence[str] = list(set(index_terms(sentence)))
    return sum(counts[term] - 1 for term in terms) / (len(terms) + 5) if terms else 0.0


def _halved(piece: str, cost: Callable[[str], int], limit: int) -> list[str]:
    if len(piece) < 2 or cost(piece) <= limit:
        return [piece]
    middle = len(piece) // 2
    return _halved(piece[:middle], cost, limit) + _halved(piece[middle:], cost, limit)
