"""Split a decoded novel into chapters.

Headings are lines of their own (``core.data.headings``); here they are weighed against each other: a table of contents
is not a run of empty chapters, a numbered list is not a book, a volume's heading belongs to the chapter behind it.

How chapters are numbered, so that "chapter <= N" is a fence against spoilers and N is what the reader sees in print:

* Printed numbers are kept where they grow through the book, gaps included. A heading that breaks the order is given
  the free number between its neighbours, or joins the chapter before it; so do headings that repeat a number, and
  unnumbered ones in the middle (an 附录 behind chapter 8 is part of chapter 8). Unnumbered ones behind the last
  chapter (尾声, 后记, Epilogue) count on from it.
* Everything before the first numbered heading is chapter 0 (楔子, 序, Prologue), unless it is a title page or a table
  of contents only: then it belongs to the first chapter's span.
* Where printed numbers begin anew in each volume, chapters are numbered in reading order from 1.
* A book without headings is cut into numbered parts of bounded size.

The spans tile the text: the first begins at 0, each begins where the one before ends, the last ends with the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from core.data.headings import Heading, find_headings
from core.data.numbering import printed_numbers
from core.data.text import Chapter, Language, Span

__all__ = ["chapters_from_headings", "split_chapters"]

_PART_CHARS = {"zh": 8_000, "en": 20_000}
_FRONT_CHARS = {"zh": 200, "en": 500}
# Numbers alone ("3.", "IV", "003 初见") are headings only at distances that a chapter has and a list has not.
_LIST_GAP_CHARS = {"zh": 200, "en": 500}
_LIST_MEDIAN_CHARS = {"zh": 600, "en": 1_500}
_BARE_MEDIAN_CHARS = {"zh": 1_200, "en": 3_000}

_LISTING_ONLY = re.compile(r"[\s\d.…·•*|#\-—_=－]*(?:目\s*[录錄次]|contents)?[\s\d.…·•*|#\-—_=－]*\Z", re.I)
_LONGEST_LISTING_GAP = 120
_APPENDIX = re.compile(r"附[录錄]|appendix", re.I)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A chapter whose end is not known yet."""

    start: int
    number: int
    title: str


def split_chapters(text: str, language: Language) -> tuple[Chapter, ...]:
    """Chapters in reading order, found by their headings; numbered parts if there are no headings."""
    return chapters_from_headings(text, tuple(find_headings(text)), language)


def chapters_from_headings(text: str, headings: Sequence[Heading], language: Language) -> tuple[Chapter, ...]:
    """Chapters in reading order, given every line that may be a heading, in order."""
    if not text:
        return ()
    language = language if language in _PART_CHARS else "en"
    headings = _without_listings(text, headings)
    leaves = _leaves(text, headings, language)
    if not leaves:
        return _numbered_parts(text, language)
    drafts = _drafts(text, headings, leaves, language)
    starts = [0, *(draft.start for draft in drafts[1:]), len(text)]
    return tuple(
        Chapter(draft.number, draft.title, Span(start, end))
        for draft, (start, end) in zip(drafts, pairwise(starts), strict=True)
    )


def _without_listings(text: str, headings: Sequence[Heading]) -> list[Heading]:
    """The headings without those of tables of contents: three or more with nothing between, repeated elsewhere."""
    places: defaultdict[tuple[str, int | str], list[int]] = defaultdict(list)
    for at, heading in enumerate(headings):
        places[_key(heading)].append(at)
    kept: list[Heading] = []
    first = 0
    while first < len(headings):
        last = first
        while last + 1 < len(headings) and _is_listing_gap(text, headings[last].end, headings[last + 1].start):
            last += 1
        group = range(first, last + 1)
        most = Counter(headings[at].kind for at in group).most_common(1)[0][1]
        for at in group:
            own = places[_key(headings[at])]
            is_repeated = own[-1] > at or own[0] < first
            if most < 3 or not is_repeated:
                kept.append(headings[at])
        first = last + 1
    return kept


def _key(heading: Heading) -> tuple[str, int | str]:
    return (heading.kind, heading.title.lower() if heading.value is None else heading.value)


def _is_listing_gap(text: str, start: int, end: int) -> bool:
    return end - start <= _LONGEST_LISTING_GAP and _LISTING_ONLY.match(text, start, end) is not None


def _leaves(text: str, headings: Sequence[Heading], language: Language) -> list[Heading]:
    """The headings that open chapters: one kind of them, the innermost that counts through the book."""
    by_kind: defaultdict[str, list[Heading]] = defaultdict(list)
    for heading in headings:
        by_kind[heading.kind].append(heading)
    chapters = _without_sentences(by_kind["chapter"])
    if len(chapters) >= 2:
        return chapters
    sections = _without_sentences(by_kind["section"])
    if len(sections) >= 2:
        return sections
    parts = _without_sentences(by_kind["part"])
    listed = _list_runs(text, by_kind["listed"], parts, language)
    roman = _list_runs(text, by_kind["roman"], parts, language)
    if listed or roman:
        return min((run for run in (listed, roman) if run), key=lambda run: run[0].start)
    if len(parts) >= 2:
        return parts
    marked = [heading for heading in headings if heading.level or heading.kind == "plain"]
    level, count = min(
        ((level, n) for level, n in Counter(heading.level for heading in marked).items() if n >= 2), default=(0, 0)
    )
    if count:
        # Where chapters have names only, a prologue is a chapter among them.
        return [h for h in headings if h.level == level and h.kind in ("plain", "front", "back", "listed", "roman")]
    return [heading for heading in chapters or sections or parts if not heading.is_weak]


def _without_sentences(headings: Sequence[Heading]) -> list[Heading]:
    """Headings whose title is joined to the number, as in "第八回说的是", count only where their number is due."""
    weak = sum(heading.is_weak for heading in headings)
    if weak * 2 >= len(headings):
        return list(headings)
    kept: list[Heading] = []
    for heading in headings:
        due = kept[-1].value if kept else 0
        if not heading.is_weak or heading.value == (due or 0) + 1:
            kept.append(heading)
    return kept


def _list_runs(text: str, candidates: Sequence[Heading], parts: Sequence[Heading], language: Language) -> list[Heading]:
    """Bare numbers that count 1, 2, 3, … at the distances of chapters; anew behind the heading of a part."""
    best: list[Heading] = []
    by_digits: defaultdict[bool, list[Heading]] = defaultdict(list)
    for heading in candidates:
        by_digits[heading.title[0].isdecimal()].append(heading)
    part_starts = [part.start for part in parts]
    for notation in by_digits.values():
        crowded = {
            at
            for this, following in pairwise(notation)
            if following.start - this.start < _LIST_GAP_CHARS[language] and following.value == (this.value or 0) + 1
            for at in (this.start, following.start)
        }
        run: list[Heading] = []
        for heading in notation:
            if heading.start in crowded or heading.value is None:
                continue
            if not run:
                if heading.value <= 1:
                    run.append(heading)
            elif heading.value == (run[-1].value or 0) + 1:
                run.append(heading)
            elif heading.value == 1:
                passed = bisect_left(part_starts, heading.start) - bisect_left(part_starts, run[-1].start)
                if passed:
                    run.append(heading)
        if len(run) < 3 or run[0].start > len(text) * 0.3:
            continue
        gap = median(following.start - this.start for this, following in pairwise(run))
        is_bare = sum(heading.is_weak for heading in run) * 2 > len(run) and run[0].title[0].isdecimal()
        wanted = (_BARE_MEDIAN_CHARS if is_bare else _LIST_MEDIAN_CHARS)[language]
        if gap >= wanted and (not best or run[0].start < best[0].start):
            best = run
    return best


def _drafts(text: str, headings: Sequence[Heading], leaves: Sequence[Heading], language: Language) -> list[_Draft]:
    leaf_starts = {leaf.start for leaf in leaves}
    kinds = ("front", "back") if leaves[0].kind == "part" else ("front", "back", "part")
    others = [heading for heading in headings if heading.kind in kinds and heading.start not in leaf_starts]
    openings = _openings(leaves, [heading for heading in others if heading.kind == "part"])
    values = _values(leaves)
    numbers = printed_numbers(values, [bool(opening) for opening in openings])

    drafts: list[_Draft] = []
    front_end = (openings[0] or leaves)[0].start
    front = _front(text, [heading for heading in others if heading.start < front_end], front_end, language)
    if front is not None and not (numbers and numbers[0] == 0):
        drafts.append(front)
    volume = ""
    for at, leaf in enumerate(leaves):
        opening = openings[at]
        if opening or leaf.volume:
            volume = " · ".join(part.title for part in opening) or leaf.volume
        is_repeated = at > 0 and values[at] is not None and values[at] == values[at - 1] and not opening
        printed = numbers[at] if numbers else None
        if is_repeated or (numbers and printed is None):
            continue
        if numbers is None:
            drafts.extend(_closing(leaves, at, others, opening, _next_number(drafts)))
        needs_volume = bool(volume) and not leaf.volume and (bool(opening) or numbers is None)
        title = f"{volume} · {leaf.title}" if needs_volume else leaf.title
        number = _next_number(drafts) if printed is None else printed
        drafts.append(_Draft((opening or [leaf])[0].start, number, title))
    last = leaves[-1]
    plain = [heading for heading in headings if heading.kind == "plain" and heading.level == last.level]
    for heading in sorted([*others, *plain], key=lambda heading: heading.start):
        if heading.start > last.start:
            drafts.append(_Draft(heading.start, _next_number(drafts), heading.title))
    return drafts


def _values(leaves: Sequence[Heading]) -> list[int | None]:
    """Printed numbers; a number printed twice for two titles is mended where the next one shows the slip."""
    values = [leaf.value for leaf in leaves]
    for at in range(1, len(leaves) - 1):
        this, following = values[at], values[at + 1]
        is_twice = this is not None and this == values[at - 1] and leaves[at].title != leaves[at - 1].title
        if is_twice and this is not None and following == this + 2:
            values[at] = this + 1
    return values


def _next_number(drafts: Sequence[_Draft]) -> int:
    return drafts[-1].number + 1 if drafts else 1


def _openings(leaves: Sequence[Heading], parts: Sequence[Heading]) -> list[list[Heading]]:
    """For each leaf the headings of parts between it and the leaf before, repeats left out."""
    openings: list[list[Heading]] = []
    previous_end = -1
    current: tuple[str, int | str] | None = None
    at = 0
    for leaf in leaves:
        own: list[Heading] = []
        while at < len(parts) and parts[at].start < leaf.start:
            # The same part again is a running header of the page, not a new part.
            if parts[at].start > previous_end and _key(parts[at]) != current:
                own.append(parts[at])
                current = _key(parts[at])
            at += 1
        openings.append(own)
        previous_end = leaf.end
    return openings


def _front(text: str, named: Sequence[Heading], end: int, language: Language) -> _Draft | None:
    """Chapter 0, if what stands before the first chapter is worth reading."""
    lines = [line.strip() for line in text[:end].split("\n")]
    titles = list(dict.fromkeys(h.title for h in named if h.kind != "part"))
    headings = {heading.title for heading in find_headings(text[:end])}
    body = sum(len(line) for line in lines if " ".join(line.split()) not in headings)
    if body >= _FRONT_CHARS[language] or (titles and body):
        return _Draft(0, 0, " · ".join(titles[:3]) or ("卷首" if language == "zh" else "Front matter"))
    return None


def _closing(
    leaves: Sequence[Heading], at: int, others: Sequence[Heading], opening: Sequence[Heading], next_number: int
) -> list[_Draft]:
    """Where numbers begin anew: what closes a volume (尾声, 番外) before leaf ``at`` is a chapter of its own."""
    if at == 0 or (not opening and (leaves[at].value or 0) > (leaves[at - 1].value or 0)):
        return []
    stop = (opening or leaves[at : at + 1])[0].start
    closing = [
        heading
        for heading in others
        if leaves[at - 1].end < heading.start < stop and heading.kind == "back" and not _APPENDIX.match(heading.title)
    ]
    return [_Draft(heading.start, next_number + n, heading.title) for n, heading in enumerate(closing)]


def _numbered_parts(text: str, language: Language) -> tuple[Chapter, ...]:
    """Parts of about equal length, cut at paragraph borders where there are any near."""
    count = -(-len(text) // _PART_CHARS[language])
    edges = [0]
    for number in range(1, count):
        wanted = len(text) * number // count
        reach = len(text) // count // 3
        after = text.find("\n", wanted, wanted + reach)
        before = text.rfind("\n", max(edges[-1] + 1, wanted - reach), wanted)
        near = [at + 1 for at in (before, after) if at > edges[-1]]
        edges.append(min(near, key=lambda at: abs(at - wanted)) if near else wanted)
    edges.append(len(text))
    return tuple(
        Chapter(number, f"第 {number} 部分" if language == "zh" else f"Part {number}", Span(start, end))
        for number, (start, end) in enumerate(pairwise(edges), 1)
    )
