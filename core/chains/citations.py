"""Attach to each sentence of an answer the sentence of the book that supports it.

Small models write "[1]" as they write anything else, so nothing a model claims about its sources is believed. A
sentence is supported when the words that make it up, beyond those of the question, stand together in one sentence of
the evidence, or in two neighbouring ones, and every number in it stands there too. The quotation is cut from the
novel's own text, so it equals that text by construction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from core.data.sentences import sentences
from core.data.text import Language, Span
from core.llm.events import Passage
from core.retrieval.tokens import content_words, strip_question_words

__all__ = ["Aligner", "Support", "supported_share"]

# A share of an answer's content that one place of the book must hold. Chosen on the development questions: at .5
# answers borrowed words from passages that do not support them, at .8 honest paraphrases lost their source.
MIN_SHARE = 0.65
MIN_QUESTION_SHARE = 0.4
# "八两。" stands in a hundred sentences; the one that supports it stands near something of the question.
MIN_CONTEXT = 0.3
QUESTION_WEIGHT, RANK_WEIGHT, LENGTH_WEIGHT = 0.35, 0.02, 0.0005
LONGEST_QUOTE = {"zh": 160, "en": 480}

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*|[〇零一二三四五六七八九十百千万亿两]{2,}")
# Characters that hold sentences together and say nothing by themselves.
_GLUE = frozenset(
    "的了是在他她它们我你您这那有和与就也都不而把被让给对从到说道着过个一之其中上下里去来会要能可以及为于"
)


@dataclass(frozen=True, slots=True)
class Support:
    """Where the book supports a sentence.

    Attributes:
        passage: number of the passage that holds the quotation.
        share: how much of the sentence's content stands there, 0 to 1.
    """

    span: Span
    passage: int
    share: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    span: Span
    passage: int
    text: str
    surroundings: str
    is_pair: bool


class Aligner:
    """Finds support among the sentences of some passages of one novel."""

    def __init__(self, text: str, passages: Sequence[Passage], question: str, language: Language) -> None:
        """Split the passages into candidate quotations.

        Args:
            text: the novel's whole text; passages' spans count its characters.
        """
        self._question = strip_question_words(question)
        self._candidates: list[_Candidate] = []
        longest = LONGEST_QUOTE.get(language, LONGEST_QUOTE["en"])
        for passage in passages:
            spans = list(sentences(text, passage.span.start, passage.span.end, language))
            pairs = [Span(first.start, second.end) for first, second in pairwise(spans)]
            for first, span in [
                *enumerate(spans),
                *((i, pair) for i, pair in enumerate(pairs) if len(pair) <= longest),
            ]:
                last = first + (span != spans[first])
                around = Span(spans[max(0, first - 1)].start, spans[min(len(spans) - 1, last + 1)].end)
                self._candidates.append(
                    _Candidate(span, passage.number, span.of(text), around.of(text), is_pair=last > first)
                )

    def support(self, sentence: str) -> Support | None:
        """The best support of a sentence of the answer; None when nothing supports it."""
        numbers = [number for number in _NUMBER.findall(sentence) if number not in self._question]
        best: tuple[float, Support] | None = None
        for candidate in self._candidates:
            share = supported_share(sentence, candidate.text, ignoring=self._question)
            if share < MIN_SHARE or any(number not in candidate.text for number in numbers):
                continue
            if _characters_shared(self._question, candidate.surroundings) < MIN_CONTEXT:
                continue
            score = (
                share
                + QUESTION_WEIGHT * supported_share(self._question, candidate.text)
                - RANK_WEIGHT * candidate.passage
                - LENGTH_WEIGHT * len(candidate.text)
            )
            if best is None or score > best[0]:
                best = (score, Support(candidate.span, candidate.passage, share))
        return best[1] if best else None

    def nearest(self) -> Support | None:
        """The sentence that shares most with the question itself; None when none shares much."""
        shares = [
            (supported_share(self._question, candidate.text) - RANK_WEIGHT * candidate.passage, candidate)
            for candidate in self._candidates
            if not candidate.is_pair
        ]
        share, best = max(shares, key=lambda scored: scored[0], default=(0.0, None))
        if best is None or share < MIN_QUESTION_SHARE:
            return None
        return Support(best.span, best.passage, share)


def supported_share(claim: str, source: str, ignoring: str = "") -> float:
    """Share of the claim's content that the source has in the same words, 0 to 1.

    Han text counts by characters that lie in a run of two or more common to both; other text by stemmed words.

    Args:
        ignoring: content that also stands here is not counted, unless the claim has no other.
    """
    rest = _content(claim) - _content(ignoring) if ignoring else _content(claim)
    wanted = rest or _content(claim)
    if not wanted:
        return 0.0
    held = _content(source)
    # A single character of the claim may stand inside a longer run of the source, which counts by pairs.
    return sum(unit in held or (len(unit) == 1 and unit in source) for unit in wanted) / len(wanted)


def _characters_shared(question: str, source: str) -> float:
    """Share of the question's Han characters, and words of other scripts, that the source has; 1 if it has none."""
    wanted = set("".join(_HAN.findall(question))) - _GLUE | set(content_words(_HAN.sub(" ", question)))
    held = set(source) | set(content_words(source))
    return len(wanted & held) / len(wanted) if wanted else 1.0


@lru_cache(maxsize=4096)
def _content(text: str) -> frozenset[str]:
    """Pairs of neighbouring Han characters and stemmed content words; single characters where a run has only one."""
    units: set[str] = set()
    for run in _HAN.findall(text):
        if len(run) == 1:
            units.update(set(run) - _GLUE)
        for place in range(len(run) - 1):
            pair = run[place : place + 2]
            if not _GLUE.issuperset(pair):
                units.add(pair)
    units.update(content_words(_HAN.sub(" ", text)))
    return frozenset(units)
