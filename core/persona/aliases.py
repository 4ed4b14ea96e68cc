"""Which names are one person's: by what the book says of names, by who answers to them, and never by likeness alone.

A wrong merger is worse than a missed one, so two names that speak to each other, or stand side by side joined by "and",
stay apart whatever else is true. Nothing here knows a particular novel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from core.data.text import Language
from core.persona import names_en, names_zh
from core.persona.speech import Speech

__all__ = ["NameGroup", "group_names"]


@dataclass(frozen=True, slots=True)
class NameGroup:
    """The names of one person.

    Attributes:
        names: that can be searched for.
        short_names: of one character, or cut short, good only beside a quotation.
        counts: how often each name occurs.
    """

    names: tuple[str, ...]
    short_names: tuple[str, ...]
    counts: Mapping[str, int]


def group_names(text: str, language: Language, spoken: Sequence[Speech]) -> list[NameGroup]:
    """The people behind the names that stand beside quotations.

    Args:
        text: only what may be read.
        spoken: its speeches, in order.
    """
    rules = names_zh if language == "zh" else names_en
    whole = rules.completed(text, Counter(speech.speaker for speech in spoken))
    spoken = [replace(speech, speaker=whole.get(speech.speaker, speech.speaker)) for speech in spoken]
    counts = rules.count_names(text, Counter(speech.speaker for speech in spoken))
    ties = rules.ties(text, counts, spoken)
    apart = rules.kept_apart(text, counts, spoken)
    groups = _joined(counts, ties, apart)
    short = rules.short_names(groups, counts, Counter(speech.speaker for speech in spoken))
    return [
        NameGroup(
            tuple(group),
            (
                *(name for name, of in short.items() if of == number),
                *(cut for cut, name in whole.items() if name in group),
            ),
            counts,
        )
        for number, group in enumerate(groups)
    ]


def _joined(counts: Mapping[str, int], ties: Iterable[tuple[str, str]], apart: set[frozenset[str]]) -> list[list[str]]:
    """The names in groups; a tie that would bring together two that must stay apart is left out.

    Args:
        ties: strongest first.
    """
    group_of = {name: [name] for name in counts}
    for one, other in ties:
        left, right = group_of[one], group_of[other]
        if left is right or any(frozenset((a, b)) in apart for a in left for b in right):
            continue
        left += right
        for name in right:
            group_of[name] = left
    unique = {id(group): group for group in group_of.values()}
    return list(unique.values())
