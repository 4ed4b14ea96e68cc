"""Draw a character's card from a book: who it is, what it knows and wants, how it speaks, whom it lives with.

Every line rests on a passage: it is the book's own sentence, or a shorter one by a chat model of which every word is
in that sentence. Nothing after the bookmark is read. Nothing here finds out who is who.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.data.sentences import sentences
from core.data.text import Language, Span, chapter_at
from core.persona.card import Card, Line, Relation, Source
from core.persona.people import Person, end_of_reading, mentions_of, speeches_of
from core.persona.speech import Speech
from core.retrieval.book_folder import BookFolder
from core.retrieval.tokens import index_terms

if TYPE_CHECKING:
    from langchain_core.language_models.chat_models import BaseChatModel

__all__ = ["Progress", "draw_card", "drawing"]

MOST_MENTIONS = 4000
LINE_CHARS = 120
MOST_LINES = {"about": 4, "knows": 3, "wants": 3}
MOST_SAYINGS, MOST_RELATIONS = 6, 5
SAYING_CHARS = {"zh": (8, 60), "en": (25, 200)}
LEAST_SUPPORT = 0.9
"""Of the terms of a model's sentence, so many must stand in the passage."""

_PATTERNS: dict[Language, dict[str, str]] = {
    "zh": {
        "about": r"{name}[，,]?(?:乃|本是|原是|便是|就是|是个|是一|姓|生得|生来|年[约方纪]|身[长高材]|面如"
        r"|长得|住在|出身|为人|性[情子格])"
        r"|(?:名叫|名唤|唤作|唤做|叫做|叫作|人称|绰号|外号|法名|姓名|叫)[“‘]?{name}|店主[^。]{{0,6}}{name}|{name}，[^。]{{0,6}}岁",
        "wants": r"{name}[^。！？“”]{{0,12}}(?:一心|想要|要去|欲要|欲|愿|打算|决心|决意|立志|发誓|盼"
        r"|巴不得|恨不得|想[着把将让找去]|图)",
        "knows": r"{name}[^。！？“”]{{0,10}}(?:知道|得知|已知|早知|情知|晓得|明白|记得|认得|认出"
        r"|听说|闻知|看出|识破|料[到想定]|心知|明知)",
    },
    "en": {
        "about": r"{name},? (?:was|is|had been) (?:a|an|the|so|very|one|not|in|of)\b|named {name}|called {name}",
        "wants": r"{name} [^.!?“”]{{0,40}}\b(?:wish|want|hope|determin|resol|long|desire|intend|anxious)",
        "knows": r"{name} [^.!?“”]{{0,40}}\b(?:knew|know|learn|understood|heard|discover|perceiv|recollect|remember)",
    },
}
_KIN: dict[Language, str] = {
    "zh": "师父|徒弟|弟子|师兄|师弟|父亲|母亲|爹|娘|儿子|女儿|哥哥|弟弟|兄弟|姐姐|妹妹|妻|夫人|丈夫|叔|伯"
    "|舅|侄|孙|结义|主公|部下|仇|朋友|"
    "故人|义父|义兄|义弟|表|岳父|女婿|未婚",
    "en": "father|mother|brother|sister|son|daughter|wife|husband|uncle|aunt|cousin|nephew|niece|friend|engaged|marri|"
    "love|master|servant|enemy",
}
_SELF: dict[Language, str] = {
    "zh": "老孙|老猪|俺老|俺|洒家|贫僧|贫道|本座|老夫|老身|老朽|小生|小人|小的|在下|不才|小弟"
    "|妾身|奴家|奴婢|奴才|属下|末将|微臣|臣|寡人|朕|孤"
    "|本王|某|吾|咱|人家|小女子|晚辈|弟子|鄙人",
    "en": "",
}
_SELF_LINE = {"zh": "自称“{word}”。", "en": "Calls oneself “{word}”."}
_TONE: dict[Language, dict[str, str]] = {
    "zh": {"！": "说话常带惊叹。", "？": "说话爱反问、追问。", "long": "话多而长。", "short": "话短，三言两语。"},
    "en": {"!": "Often exclaims.", "?": "Often asks.", "long": "Speaks at length.", "short": "Speaks briefly."},
}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a card is drawn."""

    done: int
    total: int


def draw_card(
    book: BookFolder,
    person: Person,
    people: Sequence[Person],
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
    people: Sequence[Person],
    *,
    until_chapter: int | None = None,
    model: BaseChatModel | None = None,
) -> Generator[Progress, None, Card]:
    """Draw the card step by step; closing this stops it.

    Args:
        people: all that were found up to the same bookmark, for relations.
        until_chapter: number of the last chapter that may be read; None for the whole book.
        model: a chat model makes lines shorter; a base model, or None, leaves them as the book has them.
    """
    draft = _Draft(book, person, until_chapter)
    yield Progress(0, 4)
    parts = draft.lines()
    yield Progress(1, 4)
    sayings, manner = draft.voice()
    yield Progress(2, 4)
    relations = draft.relations(people)
    yield Progress(3, 4)
    if model is not None and getattr(model, "is_chat", True):
        lines = [line for part in parts.values() for line in part]
        total = 4 + len(lines)
        for number, line in enumerate(lines):
            short = _shorter(line, person.name, book.record.language, model)
            for part in parts.values():
                part[:] = [short if one is line else one for one in part]
            yield Progress(4 + number, total)
    return Card(
        name=person.name,
        aliases=person.aliases,
        about=tuple(parts["about"]),
        knows=tuple(parts["knows"]),
        wants=tuple(parts["wants"]),
        manner=tuple(manner),
        sayings=tuple(sayings),
        relations=tuple(relations),
        known_until=until_chapter,
        book_id=book.id,
        origin="book",
    )


class _Draft:
    """What the book says of one person, up to the bookmark."""

    def __init__(self, book: BookFolder, person: Person, until_chapter: int | None) -> None:
        self._text, self._language = book.text, book.record.language
        self._chapters, self._person, self._until = book.record.chapters, person, until_chapter
        self._end = end_of_reading(self._chapters, until_chapter)
        mentions = mentions_of(self._text, self._chapters, person.names, self._language, until_chapter=until_chapter)
        # A heading tells what will happen, and is no sentence.
        spans = [span for span in mentions if not self._is_heading(span)]
        # Of somebody who is on every page, so many mentions spread over the book tell enough.
        step = max(1, len(spans) // MOST_MENTIONS)
        self._sentences = list(dict.fromkeys(self._sentence_at(span) for span in spans[::step]))

    def lines(self) -> dict[str, list[Line]]:
        """The telling sentences of each kind, in the book's order; a sentence serves once."""
        name = "(?:" + "|".join(map(re.escape, sorted(self._person.names, key=len, reverse=True))) + ")"
        used: set[Span] = set()
        found: dict[str, list[Line]] = {}
        for kind, pattern in _PATTERNS[self._language].items():
            telling = re.compile(pattern.format(name=name))
            hits = [span for span in self._sentences if span not in used and telling.search(span.of(self._text))]
            if kind == "about" and self._sentences:
                hits = list(dict.fromkeys((self._sentences[0], *hits)))
            chosen = _spread(hits, MOST_LINES[kind], keeps_first=kind == "about")
            used.update(chosen)
            found[kind] = [Line(span.of(self._text), self._source(span)) for span in chosen]
        return found

    def voice(self) -> tuple[list[Line], list[Line]]:
        """The person's own words, and how they are spoken."""
        spoken = speeches_of(self._text, self._chapters, self._person, self._language, until_chapter=self._until)
        low, high = SAYING_CHARS[self._language]
        fitting = [speech for speech in spoken if low <= len(speech.span) <= high and self._is_whole(speech)]
        weights = Counter[str]()
        for speech in spoken:
            weights.update(set(index_terms(speech.span.of(self._text))))
        # What somebody says again and again is the voice; what is said once is the plot.
        ranked = sorted(fitting, key=lambda speech: -self._own_share(speech, weights))
        sayings = _spread([speech.span for speech in ranked[: MOST_SAYINGS * 6]], MOST_SAYINGS)
        lines = [Line(span.of(self._text), self._source(span)) for span in sorted(sayings)]
        return lines, list(self._manner(spoken))

    def relations(self, people: Sequence[Person]) -> Iterator[Relation]:
        """Those who stand in the same sentences most, each with one that says most of the two."""
        kin = re.compile(_KIN[self._language])
        shared: dict[str, list[Span]] = defaultdict(list)
        for other in people:
            if other.name == self._person.name:
                continue
            names = re.compile("|".join(map(re.escape, sorted(other.names, key=len, reverse=True))))
            shared[other.name] = [span for span in self._sentences if names.search(span.of(self._text))]
        closest = sorted(shared, key=lambda name: (-len(shared[name]), name))[:MOST_RELATIONS]
        for name in closest:
            if spans := shared[name]:
                best = max(spans, key=lambda span: (bool(kin.search(span.of(self._text))), -len(span)))
                yield Relation(name, Line(best.of(self._text), self._source(best)))

    def _manner(self, spoken: Sequence[Speech]) -> Iterator[Line]:
        if not spoken:
            return
        said = [speech.span.of(self._text) for speech in spoken]
        if pattern := _SELF[self._language]:
            words = Counter(word for text in said for word in set(re.findall(pattern, text)))
            for word, times in words.most_common(2):
                if times >= max(2, 0.05 * len(said)):
                    yield self._shown(_SELF_LINE[self._language].format(word=word), spoken, word)
        tone = _TONE[self._language]
        for mark in list(tone)[:2]:
            if sum(mark in text for text in said) > 0.45 * len(said):
                yield self._shown(tone[mark], spoken, mark)
        length = sorted(map(len, said))[len(said) // 2]
        low, high = SAYING_CHARS[self._language]
        if length > high or length < low * 1.5:
            kind = "long" if length > high else "short"
            best = min(spoken, key=lambda speech: abs(len(speech.span) - length))
            yield Line(tone[kind], self._source(best.span))

    def _shown(self, text: str, spoken: Sequence[Speech], mark: str) -> Line:
        example = min((one for one in spoken if mark in one.span.of(self._text)), key=lambda one: len(one.span))
        return Line(text, self._source(example.span))

    def _own_share(self, speech: Speech, weights: Counter[str]) -> float:
        terms = set(index_terms(speech.span.of(self._text)))
        return sum(min(weights[term], 8) - 1 for term in terms) / (len(terms) + 4) if terms else 0.0

    def _is_heading(self, span: Span) -> bool:
        chapter = chapter_at(self._chapters, span.start).span
        return "\n" not in self._text[chapter.start : span.start].lstrip()

    def _is_whole(self, speech: Speech) -> bool:
        return self._text[speech.span.end - 1] in "。！？…!?.—"

    def _sentence_at(self, span: Span) -> Span:
        """The sentence that holds the span, without the white space around it, and not too long."""
        start = self._text.rfind("\n", 0, span.start) + 1
        end = self._text.find("\n", span.end)
        end = min(len(self._text) if end < 0 else end, self._end)
        for sentence in sentences(self._text, start, end, self._language):
            if sentence.start <= span.start < sentence.end:
                return self._trimmed(sentence, span)
        return span

    def _trimmed(self, sentence: Span, around: Span) -> Span:
        start, end = sentence.start, sentence.end
        if end - start > 2 * LINE_CHARS:
            start = max(start, around.start - LINE_CHARS // 2)
            end = min(end, max(around.end, start + LINE_CHARS))
        text = self._text[start:end]
        start += len(text) - len(text.lstrip())
        return Span(start, start + len(text.strip()))

    def _source(self, span: Span) -> Source:
        return Source(chapter_at(self._chapters, span.start).number, span, span.of(self._text))


def _spread(spans: Sequence[Span], most: int, *, keeps_first: bool = False) -> list[Span]:
    """So many of the spans, from all over the book rather than from one place, in order."""
    ordered = sorted(spans)
    if len(ordered) <= most:
        return ordered
    if keeps_first:
        # Who somebody is, is told at the beginning.
        return ordered[:most]
    return [ordered[(2 * number + 1) * len(ordered) // (2 * most)] for number in range(most)]


_ASKED = {
    "zh": "用一句不超过四十字的话，只用原文的词句，写出下面的原文说了{name}什么。只写这一句。\n\n原文：{quote}",
    "en": "In one sentence of at most 25 words, in the passage's own words, say what the passage tells of {name}. Only "
    "that sentence.\n\nPassage: {quote}",
}


def _shorter(line: Line, name: str, language: Language, model: BaseChatModel) -> Line:
    """The line in fewer words by the model, where every word of them stands in the passage; else the line."""
    from langchain_core.messages import HumanMessage

    if line.source is None:
        return line
    asked = _ASKED[language].format(name=name, quote=line.source.quote)
    said = model.invoke([HumanMessage(asked)], temperature=0.0, max_tokens=96).text.strip()
    terms, known = set(index_terms(said)), {*index_terms(line.source.quote), *index_terms(name)}
    is_supported = bool(terms) and len(terms & known) >= LEAST_SUPPORT * len(terms)
    return Line(said, line.source) if is_supported and len(said) < len(line.text) else line
