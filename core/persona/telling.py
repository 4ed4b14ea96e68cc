"""Which sentences of a book tell who somebody is, what they know and want, and what another is to them.

Sentences are ranked by how plainly they tell it: the person is the subject, the narrator speaks, no quotation is cut in
two. Nothing here knows a card, or who is who.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from core.data.sentences import sentences, stripped_span
from core.data.text import Chapter, Language, Span, chapter_at
from core.persona.people import Person, end_of_reading, mentions_of
from core.persona.speech import Speech, speeches

__all__ = ["KIN", "LONGEST_LINE", "Reading", "best_spread", "first_told", "told_between", "told_of", "wished_for"]

LONGEST_LINE = {"zh": 90, "en": 260}
"""Characters of a sentence that a card's line may have."""
MOST_MENTIONS = 4000
MARKS = {"“": "”", "「": "」", "『": "』", "‘": "’"}
# The mark that closes a quotation is an apostrophe too in English.
MARKS_EN = {"“": "”"}
HEAR = r"[^，。！？；“”‘’：\n]"
# Somebody behind one of these is not who acts.
SUBJECT = r"(?<![望向对把被与将给跟和同、])"
SUBJECT_EN = r"(?<!\bof )(?<!\bby )(?<!\bto )(?<!\bwith )(?<!\bfrom )"
# 乃 is "is" before a noun, and "then" before a verb.
NOUNS = r"[^，。！？；“”‘’：\n为拜辞取引令教命遣差入出上回到见请将把与使]"
KINDS = "人|氏|子|弟|兄|将|臣|主|士|徒|僧|侯|后|客|女|娘|妻|儿|丫头|师|头|仙|神|身|化身"

_TOLD: dict[Language, dict[str, tuple[str, ...]]] = {
    "zh": {
        "about": (
            rf"(?:姓{HEAR}{{{{1,2}}}}[，,]?名|字|法名|人称|绰号|外号|唤作|唤做|叫做|叫作|名叫|名唤|此人叫|的叫)[“‘]?(?:个|做)?{{name}}",
            rf"{SUBJECT}{{name}}(?:乃是?|原是|本是|原来是|却是|系){NOUNS}{{{{1,24}}}}(?:{KINDS})(?=[，。；！也])",
            rf"{SUBJECT}{{name}}(?:是|便是|就是)(?:个|一个|一位){HEAR}{{{{1,24}}}}(?:{KINDS})(?=[，。；！也])",
            r"{name}[，,]?(?:表字|字[^样号]|绰号|外号|人称|号称)",
            rf"{SUBJECT}{{name}}(?:[^，。！？；“”‘’：\n见闻看问令命请与]){{{{0,10}}}}(?:生得|长得|身长|身高|面如|年约|年方|年纪|性情|性子|住在|出身"
            rf"|(?<!不)为人(?![所之])|[一二三四五六七八九十]岁)",
        ),
        "knows": (
            rf"{SUBJECT}{{name}}{HEAR}{{{{0,8}}}}(?<![不怎岂那未谁莫哪])(?:知道|得知|已知|早知|情知|晓得|明白|记得|识破|看破|料定|心知"
            rf"|明知(?!故)|方知|始知|才知|探知|打听到|懂得|想起)(?![他她]?么){HEAR}{{{{2,}}}}",
            rf"{SUBJECT}{{name}}{HEAR}{{{{0,8}}}}(?<![不怎])(?:认得|认出|看出|闻知){HEAR}{{{{4,}}}}",
        ),
        "wants": (
            rf"{SUBJECT}{{name}}{HEAR}{{{{0,8}}}}(?<![不发许])(?:一心|只想|想要|意欲|愿意|情愿|立志|决心|决意|打算|盼望|盼着|巴不得|恨不得"
            rf"|指望|有心|誓要)(?!然){HEAR}{{{{2,}}}}",
            rf"{SUBJECT}{{name}}{HEAR}{{{{0,4}}}}(?<![不就正待却再])欲(?![得已待])要?{HEAR}{{{{3,}}}}",
        ),
    },
    "en": {
        "about": (
            rf"{SUBJECT_EN}{{name}},? (?:was|is|had been) (?:a|an|the|one of|so \w+ an?)\b"
            r"(?! (?:happy|same|only|least))",
            rf"{SUBJECT_EN}{{name}}, (?:an?|the) \w+",
            r"(?:named|called|name (?:is|was)) {name}",
        ),
        "knows": (
            rf"{SUBJECT_EN}{{name}} (?:\w+ly |had |now |soon |at last )*(?:knew|learned|learnt|understood|discovered"
            r"|perceived|remembered|recollected|realised|realized|was aware|found (?:that|out))\b",
        ),
        "wants": (
            rf"{SUBJECT_EN}{{name}} (?:\w+ly |had |now |only |was |much )*(?:wished|wanted|hoped|longed|desired"
            r"|intended|determined|resolved|meant|anxious|eager)\b",
        ),
    },
}
_WISH: dict[Language, str] = {
    "zh": rf"(?:{{me}})(?:今|也|只|定|一定|便|就|必|正|如今|今日)?(?:要|想|欲|愿|誓)(?![是不么])(?:{HEAR}{{{{4,}}}})",
    "en": r"\bI (?:do |only |must |shall always )?(?:wish|want|long|mean|intend|hope to|am determined|am resolved)\b",
}
KIN: dict[Language, str] = {
    "zh": "师父|徒弟|弟子|师兄|师弟|父亲|母亲|爹|娘|儿子|女儿|哥哥|弟弟|兄弟|姐姐|妹妹|妻|夫人|丈夫|叔|伯父|舅|侄|结义"
    "|主公|部下|仇|朋友|故人|义父|义兄|义弟|岳父|女婿|未婚|师妹|师姐|主人|伙伴",
    "en": r"\b(?:father|mother|brother|sister|son|daughter|wife|husband|uncle|aunt|cousin|nephew|niece|friend|engaged"
    r"|married|master|mistress|servant|enemy)s?\b",
}


@dataclass(frozen=True)
class Reading:
    """As much of a book as may be read, with what is asked of it more than once.

    Attributes:
        end: how many characters of the text may be read.
    """

    text: str
    chapters: Sequence[Chapter]
    language: Language
    until_chapter: int | None
    end: int = field(init=False)
    _of_person: dict[str, list[Span]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "end", min(len(self.text), end_of_reading(self.chapters, self.until_chapter)))

    @cached_property
    def spoken(self) -> list[Speech]:
        return list(speeches(self.text, self.language, 0, self.end))

    @cached_property
    def _sentences(self) -> list[Span]:
        found: list[Span] = []
        for chapter in self.chapters:
            if chapter.span.start < self.end:
                # A heading is no sentence, and tells what will happen.
                heading = (
                    self.text.find("\n", chapter.span.start, chapter.span.end) if chapter.title else chapter.span.start
                )
                if heading >= 0:
                    found += sentences(self.text, heading, min(chapter.span.end, self.end), self.language)
        return found

    @cached_property
    def _starts(self) -> list[int]:
        return [span.start for span in self._sentences]

    def of(self, span: Span) -> str:
        return span.of(self.text)

    def chapter(self, span: Span) -> int:
        return chapter_at(self.chapters, span.start).number

    def sentence_at(self, offset: int) -> Span | None:
        """The sentence around an offset, with whole quotations where that stays short; None in a heading."""
        place = bisect_right(self._starts, offset) - 1
        if place < 0 or offset >= self._sentences[place].end:
            return None
        sentence = self._sentences[place]
        longest = LONGEST_LINE[self.language]
        if self.is_cut(sentence) and self.of(sentence).rstrip()[-1:] not in MARKS.values():
            for following in self._sentences[place + 1 : place + 6]:
                longer = Span(sentence.start, following.end)
                if len(longer) > longest or "\n" in self.of(longer):
                    break
                if not self.is_cut(longer):
                    return longer
        text = self.of(sentence)
        if text[-1] in MARKS.values() and self.is_cut(sentence):
            return Span(sentence.start, sentence.end - 1)
        return sentence

    def is_cut(self, span: Span) -> bool:
        """Whether one of two quotation marks is outside."""
        text = self.of(span)
        marks = MARKS_EN if self.language == "en" else MARKS
        return any(text.count(opener) != text.count(closer) for opener, closer in marks.items())

    @cached_property
    def _quoted(self) -> list[int]:
        """Offsets at which a quotation with marks of its own kind opens and closes, in turn."""
        edges: list[int] = []
        for mark in re.finditer(r"[“”「」]", self.text[: self.end]):
            is_opener = mark[0] in "“「"
            if is_opener == (len(edges) % 2 == 0):
                edges.append(mark.start())
        return edges

    def is_quoted(self, span: Span) -> bool:
        """Whether the span begins within somebody's words, or with them."""
        return bisect_right(self._quoted, span.start) % 2 == 1

    def sentences_of(self, person: Person) -> list[Span]:
        """The sentences that are not too long for a line and have one of the person's names, in order."""
        if person.name not in self._of_person:
            found = {self.sentence_at(span.start): None for span in self.mentions(person)}
            longest = LONGEST_LINE[self.language]
            self._of_person[person.name] = [span for span in found if span is not None and len(span) <= longest]
        return self._of_person[person.name]

    def mentions(self, person: Person) -> list[Span]:
        found = mentions_of(self.text, self.chapters, person.names, self.language, until_chapter=self.until_chapter)
        # Of somebody who is on every page, so many mentions spread over the book tell enough.
        return found[:: max(1, len(found) // MOST_MENTIONS)]


def told_of(reading: Reading, person: Person, kind: str) -> list[tuple[float, Span]]:
    """Sentences that tell something of the person, each with how plainly.

    Args:
        kind: "about", "knows" or "wants".
    """
    name = _any_of(person.names)
    patterns = [re.compile(pattern.format(name=name)) for pattern in _TOLD[reading.language][kind]]
    found = []
    for span in reading.sentences_of(person):
        text = reading.of(span)
        if (plainest := next((n for n, pattern in enumerate(patterns) if pattern.search(text)), None)) is not None:
            found.append((3.0 - 0.4 * plainest + _plainness(reading, span), span))
    return found


def wished_for(reading: Reading, spoken: Sequence[Speech], self_words: Sequence[str]) -> Iterator[tuple[float, Span]]:
    """What the person says to want, each with the name beside the words.

    Args:
        spoken: the person's own speeches.
        self_words: by which the person speaks of himself.
    """
    me = "|".join(map(re.escape, ("我", "吾", *self_words)))
    wish = re.compile(_WISH[reading.language].format(me=me))
    for speech in spoken:
        found = wish.search(reading.text, speech.span.start, speech.span.end)
        if found is None:
            continue
        said = next(
            each
            for each in sentences(reading.text, speech.span.start, speech.span.end, reading.language)
            if each.end > found.start()
        )
        is_named_first = speech.named_at.end <= said.start
        if is_named_first == (reading.language == "zh"):
            # A name between two quotations would begin the line in the middle of the narrator's clause.
            whole = (
                Span(speech.named_at.start, said.end) if is_named_first else Span(said.start - 1, speech.named_at.end)
            )
            if len(whole) <= LONGEST_LINE[reading.language] and "\n" not in reading.of(whole):
                yield 4.5 + 0.5 * (said.start == speech.span.start), whole


def told_between(reading: Reading, person: Person, other: Person) -> list[tuple[float, Span]]:
    """Sentences in which both stand, each with how plainly it says what one is to the other."""
    kin = re.compile(KIN[reading.language])
    others = re.compile(_any_of(other.names))
    either = f"(?:{_any_of(other.names)}|{_any_of(person.names)})"
    near = re.compile(
        rf"{either}[^，。！？,.!?]{{0,12}}(?:{kin.pattern})|(?:{kin.pattern})[^，。！？,.!?]{{0,6}}{either}"
    )
    both = re.compile(rf"{either}[^，。！？,.!?]{{0,30}}(?:{kin.pattern})[^，。！？,.!?]{{0,12}}{either}")
    found = []
    for span in reading.sentences_of(person):
        text = reading.of(span)
        if others.search(text):
            kinship = 1.5 * bool(both.search(text)) + 1.5 * bool(near.search(text)) + 0.5 * bool(kin.search(text))
            found.append((kinship + _plainness(reading, span), span))
    return found


def first_told(reading: Reading, person: Person) -> Span | None:
    """The first sentence that has the person's name, without the white space around it."""
    for span in reading.mentions(person):
        if (sentence := reading.sentence_at(span.start)) is not None:
            longest = LONGEST_LINE[reading.language]
            if len(sentence) <= longest:
                return sentence
            return stripped_span(reading.text, *_clauses_around(reading, sentence, span, longest))
    return None


def best_spread(reading: Reading, scored: Sequence[tuple[float, Span]], most: int, used: set[Span]) -> list[Span]:
    """So many of the spans, the best first chosen and no two of one chapter while others are left, in order."""
    chosen: list[Span] = []
    chapters: set[int] = set()
    ranked = [span for _, span in sorted(scored, key=lambda each: (-each[0], each[1]))]
    for is_second_round in (False, True):
        for span in ranked:
            number = reading.chapter(span)
            is_free = all(span.overlap(other) == 0 for other in (*chosen, *used))
            if len(chosen) < most and is_free and (is_second_round or number not in chapters):
                chosen.append(span)
                chapters.add(number)
    return sorted(chosen)


def _plainness(reading: Reading, span: Span) -> float:
    longest = LONGEST_LINE[reading.language]
    is_right_size = longest // 8 <= len(span) <= longest * 2 // 3
    return 1.0 * (not reading.is_cut(span)) + 1.0 * (not reading.is_quoted(span)) + 0.5 * is_right_size


def _any_of(names: Sequence[str]) -> str:
    return "(?:" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + ")"


def _clauses_around(reading: Reading, sentence: Span, around: Span, longest: int) -> tuple[int, int]:
    """The clauses of a long sentence that fit around a place, whole ones only."""
    stops = [sentence.start]
    stops += [
        found.end()
        for found in re.finditer(r"[，；：,;:] ?", reading.text[: sentence.end])
        if found.start() > sentence.start
    ]
    stops.append(sentence.end)
    start = max(stop for stop in stops if stop <= around.start)
    ends = [stop for stop in stops if around.end <= stop <= start + longest]
    return start, max(ends, default=around.end)
