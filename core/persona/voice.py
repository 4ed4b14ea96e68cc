"""How somebody speaks, by figures of their own words against everybody else's, and which words show it best.

What a person says again and again, and others seldom, is the voice; what is said once is the plot. Nothing here knows
a card, or who is who.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from core.data.sentences import sentences
from core.data.text import Span
from core.persona.people import Person, is_said_by
from core.persona.speech import Speech
from core.persona.telling import KIN, LONGEST_LINE, Reading
from core.retrieval.tokens import content_words, index_terms

__all__ = ["Trait", "Voice"]

LEAST_SPEECHES, MOST_TRAITS = 4, 4
SAYING_CHARS = {"zh": (8, 60), "en": (25, 200)}
SELF_ZH = (
    "俺|洒家|贫僧|贫道|本座|老夫|老衲|老身|老朽|老娘|小生|小僧|小人|小的|在下|不才|小弟|妾身|奴家|奴婢|奴才|属下|末将|小将|微臣|臣"
    "|寡人|朕|孤|本王|某|吾|咱家|咱|人家|小女子|晚辈|弟子|鄙人|哀家|老爷"
)
LEAST_SHARE, LEAST_LIFT, LEAST_TIMES, LEAST_CHAPTERS = 0.05, 1.5, 4, 3
LONG_CHARS = {"zh": (12, 24), "en": (50, 120)}
"""Speech of at most so many characters may be called brief, and of at least so many, long."""
CLAUSE_ENDS = re.compile(r"[，。！？；：…—“”‘’「」『』,.!?;:()_\n]+|--+")
# Nobody is known by how they begin to answer or whom they address.
DULL_ZH = re.compile(
    f"{KIN['zh']}|师傅|[兄弟哥]|陛下|大王|丞相|将军|先生|姑娘|公子|老爷|小姐|爷爷|奶奶|妈|今日|如今|然后|于是|但是|可是|因此|所以|因为|此[事人言]"
)
_TRAITS = {
    "zh": {
        "self": "自称“{word}”。",
        "phrase": "常说“{word}”。",
        "exclaims": "比旁人更常惊叹，{share}的话带叹号。",
        "asks": "比旁人更爱发问，{share}的话带问号。",
        "long": "话多而长，一开口常有{size}字上下，旁人约{other}字。",
        "short": "话短，一开口常只{size}字上下，旁人约{other}字。",
    },
    "en": {
        "self": "Calls oneself “{word}”.",
        "phrase": "Is fond of saying “{word}”.",
        "exclaims": "Exclaims more than others: {share} of the speeches do.",
        "asks": "Asks more than others: {share} of the speeches do.",
        "long": "Speaks at length, about {size} characters at a time where others use {other}.",
        "short": "Speaks briefly, about {size} characters at a time where others use {other}.",
    },
}
THOUGHT = re.compile(r"想|思|暗|念|心|寻|忖|thought|herself|himself")


@dataclass(frozen=True, slots=True)
class Trait:
    """One thing about how somebody speaks, and words of theirs that show it."""

    text: str
    shown_at: Span


class Voice:
    """The words of one person, beside those of everybody else in what may be read.

    Attributes:
        own: the person's speeches, in order.
    """

    def __init__(self, reading: Reading, person: Person) -> None:
        self._reading, self._person = reading, person
        names = {*person.names, *person.short_names}
        self.own = [speech for speech in reading.spoken if is_said_by(reading.text, speech, names)]
        self._others = [speech for speech in reading.spoken if speech.speaker not in names]
        self._words = [reading.of(speech.span) for speech in self.own]
        self._their_words = [reading.of(speech.span) for speech in self._others]

    def sayings(self, most: int) -> list[tuple[float, Span]]:
        """Telling words said aloud, each with how much they are the person's own.

        Of a long speech, or one that the narrator breaks off, these are its whole sentences.
        """
        found = []
        for speech in self.own:
            if not self._is_thought(speech):
                whole = [speech.span] if self._is_saying(speech.span) else self._sentences(speech.span)
                found += [(self._own_share(self._reading.of(span)), span) for span in whole if self._is_saying(span)]
        found.sort(key=lambda each: (-each[0], each[1]))
        return found[: most * 8]

    def _is_saying(self, span: Span) -> bool:
        text = self._reading.of(span)
        low, high = SAYING_CHARS[self._reading.language]
        is_whole = text[-1] in "。！？…!?.—" and not text[0].islower() and not re.search(r"[“”\n]", text)
        return low <= len(text) <= high and is_whole

    def _sentences(self, span: Span) -> list[Span]:
        return list(sentences(self._reading.text, span.start, span.end, self._reading.language))

    def traits(self) -> list[Trait]:
        """What sets the person's speech apart, most telling first."""
        if len(self.own) < LEAST_SPEECHES:
            return []
        found = [self._trait("self", word, word=word) for word in self.self_words[:1]]
        found += [self._trait("phrase", phrase, word=phrase) for phrase in self._phrases()[:2]]
        found += self._tone()
        found += self._length()
        return found[:MOST_TRAITS]

    @cached_property
    def self_words(self) -> list[str]:
        """What the person says instead of "I", more than others do, most used first."""
        if self._reading.language != "zh":
            return []
        families = {name[0] for name in self._person.names}
        names = [short for short in self._person.short_names if len(short) == 1]
        words = [*SELF_ZH.split("|"), *sorted("老" + family for family in families), *names]
        shares = {}
        for word in words:
            # A single character is a word of its own only where a clause begins.
            used = re.compile(rf"(?:^|[，。！？；：“‘、]){word}" if len(word) == 1 else word)
            own, others = _share(used, self._words), _share(used, self._their_words)
            if own * len(self.own) >= LEAST_TIMES and own >= LEAST_SHARE and own >= LEAST_LIFT * others:
                shares[word] = own
        return sorted(shares, key=lambda word: (-shares[word], word))

    def _phrases(self) -> list[str]:
        """Whole clauses, or in English their first words, that are this person's more than others'."""
        own, others = self._clauses(self.own), self._clauses(self._others)
        ratio = (len(self._others) + 1) / (len(self.own) + 1)
        scored = {}
        for phrase, chapters in own.items():
            times = len(chapters)
            lift = times * ratio / (len(others.get(phrase, ())) + 0.5)
            is_habit = times >= max(LEAST_TIMES, 0.004 * len(self.own)) and len(set(chapters)) >= LEAST_CHAPTERS
            if is_habit and lift >= 2 * LEAST_LIFT and self._is_telling(phrase):
                scored[phrase] = times * math.log(lift)
        return sorted(scored, key=lambda phrase: (-scored[phrase], phrase))

    def _clauses(self, spoken: Sequence[Speech]) -> dict[str, list[int]]:
        """Clauses, each with the chapter of every speech that has it."""
        found: dict[str, list[int]] = defaultdict(list)
        for speech in spoken:
            clauses = set()
            for clause in CLAUSE_ENDS.split(self._reading.of(speech.span)):
                if self._reading.language == "zh":
                    clauses.add(clause.strip())
                else:
                    words = clause.split()
                    clauses |= {" ".join(words[:length]) for length in (2, 3, 4) if len(words) >= length}
            for clause in clauses:
                found[clause].append(self._reading.chapter(speech.span))
        return found

    def _is_telling(self, phrase: str) -> bool:
        if any(word in phrase for word in self.self_words):
            return False
        if self._reading.language == "zh":
            is_named = any(phrase.startswith(name) or name.startswith(phrase) for name in self._known_names)
            return 2 <= len(phrase) <= 6 and not is_named and DULL_ZH.search(phrase) is None
        words = phrase.split()
        return any(content_words(phrase)) and not any(word[0].isupper() and word != "I" for word in words[1:])

    @cached_property
    def _known_names(self) -> set[str]:
        """Whoever stands beside a quotation often enough to be somebody."""
        return {name for name, times in Counter(each.speaker for each in self._reading.spoken).items() if times >= 3}

    def _tone(self) -> Iterator[Trait]:
        for kind, marks in (("exclaims", "！!"), ("asks", "？?")):
            mark = re.compile(f"[{marks}]")
            own, others = _share(mark, self._words), _share(mark, self._their_words)
            if own >= 0.3 and own >= LEAST_LIFT * others:
                yield self._trait(kind, mark, share=f"{own:.0%}")

    def _length(self) -> Iterator[Trait]:
        if not self._others:
            return
        size, other = (sorted(map(len, words))[len(words) // 2] for words in (self._words, self._their_words))
        brief, long = LONG_CHARS[self._reading.language]
        if (size >= long and size >= LEAST_LIFT * other) or (size <= brief and other >= LEAST_LIFT * size):
            kind = "long" if size > other else "short"
            text = _TRAITS[self._reading.language][kind].format(size=size, other=other)
            example = min(self.own, key=lambda speech: (abs(len(speech.span) - size), speech.span))
            yield Trait(text, self._fitting(example.span, None))

    def _trait(self, kind: str, shown_by: str | re.Pattern[str], **facts: str) -> Trait:
        pattern = re.compile(re.escape(shown_by)) if isinstance(shown_by, str) else shown_by
        low, high = SAYING_CHARS[self._reading.language]
        showing = [speech for speech in self.own if pattern.search(self._reading.of(speech.span))]
        # One of a size that shows how the word is used, not the bare word.
        low *= 2
        example = min(showing, key=lambda speech: (not low <= len(speech.span) <= high, len(speech.span), speech.span))
        return Trait(_TRAITS[self._reading.language][kind].format(**facts), self._fitting(example.span, pattern))

    def _fitting(self, span: Span, pattern: re.Pattern[str] | None) -> Span:
        """The speech, or of a long one the sentence that shows the thing."""
        if len(span) <= LONGEST_LINE[self._reading.language]:
            return span
        parts = self._sentences(span)
        return next((part for part in parts if pattern and pattern.search(self._reading.of(part))), parts[0])

    def _own_share(self, text: str) -> float:
        terms = {term for term in index_terms(text) if len(term) > 1}
        if not terms:
            return 0.0
        score = 0.0
        for term in terms:
            own, others = self._terms[0][term], self._terms[1][term]
            if own > 1:
                rate = (own / (len(self.own) + 1)) / ((others + 0.5) / (len(self._others) + 1))
                score += min(2.0, max(0.0, math.log(rate)))
        return score / (len(terms) + 4) + 0.3 * any(word in text for word in self.self_words)

    @cached_property
    def _terms(self) -> tuple[Counter[str], Counter[str]]:
        """In how many speeches a term stands: the person's, and everybody else's."""
        counted = []
        for texts in (self._words, self._their_words):
            found = Counter[str]()
            for text in texts:
                found.update(set(index_terms(text)))
            counted.append(found)
        return counted[0], counted[1]

    def _is_thought(self, speech: Speech) -> bool:
        start, end = speech.named_at.end, speech.span.start
        if start > end:
            start, end = speech.span.end, speech.named_at.end
        return end - start < 60 and THOUGHT.search(self._reading.text, start, end) is not None


def _share(pattern: re.Pattern[str], texts: Sequence[str]) -> float:
    return sum(pattern.search(text) is not None for text in texts) / len(texts) if texts else 0.0
