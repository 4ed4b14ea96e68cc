"""Find sentences in a text without moving a character.

A sentence runs to its stop and the closing quotes behind it. A line end is a stop too, except where a file is
wrapped at a fixed width. Nothing here knows chapters or chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from core.data.text import Language, Span

__all__ = ["CLOSERS", "sentences", "stripped_span"]

CLOSERS = "”’」』）)】》〉〕］]}｝»›\"'＂＇"
"""Marks that close what a sentence stood in; they belong to the sentence before them."""

_CANDIDATE = re.compile(r"[。！？!?.…｡．‥⋯]+|\n+")
_CJK_STOPS = frozenset("。！？｡．")
_ELLIPSES = frozenset("….‥⋯")
_NOT_SPACE = re.compile(r"\S")
_WORD_BEFORE = re.compile(r"[^\W\d_](?:[^\W\d_]|\.(?=[^\W\d_])|['’](?=\w))*$")
_LONGEST_WORD = 24

# Titles and Latin short forms that a name or a clause follows. "No." and "etc." are left out: they end sentences.
_ABBREVIATIONS_LIST = (
    "mr mrs ms dr st prof rev hon capt col gen lt maj sgt cpl jr sr messrs mme mlle mm esq vs viz cf "
    "eg ie e.g i.e approx dept gov sen rep pres supt insp adm cmdr fr bros mt ft vol vols chap fig "
    "pp nos ed eds trans"
)
_ABBREVIATIONS = frozenset(_ABBREVIATIONS_LIST.split())

# A fixed-width file breaks lines where a word ends, near its width; below these lengths a line ended on purpose.
_WRAPPED_CHARS = {"en": (45, 100), "zh": (28, 60)}


def sentences(text: str, start: int, end: int, language: Language) -> Iterator[Span]:
    """Spans of the sentences in ``text[start:end]``, without the white space around them.

    Every character that is not white space lies in exactly one span.
    """
    begin = line_start = start
    quote_at = start
    is_quote_open = False
    for match in _CANDIDATE.finditer(text, start, end):
        if match.end() <= begin:
            continue
        if text[match.start()] == "\n":
            if not _is_wrapped(text, line_start, match.start(), match.end(), end, language):
                span = stripped_span(text, begin, match.start())
                if span is not None:
                    yield span
                begin = match.end()
                is_quote_open = False
                quote_at = match.end()
            line_start = match.end()
            continue
        # A straight quote closes only where one is open, since both sides look the same.
        if text.count('"', quote_at, match.end()) % 2:
            is_quote_open = not is_quote_open
        quote_at = match.end()
        stop = _end_of_closers(text, match.end(), end, is_quote_open)
        if _ends_sentence(text, match, stop, begin, end, language):
            span = stripped_span(text, begin, stop)
            if span is not None:
                yield span
            begin = stop
    span = stripped_span(text, begin, end)
    if span is not None:
        yield span


def stripped_span(text: str, start: int, end: int) -> Span | None:
    """The span of ``text[start:end]`` without white space at its ends; None if nothing is left."""
    first = _NOT_SPACE.search(text, start, end)
    if first is None:
        return None
    while text[end - 1].isspace():
        end -= 1
    return Span(first.start(), end)


def _end_of_closers(text: str, at: int, end: int, is_quote_open: bool) -> int:
    while at < end and text[at] in CLOSERS:
        if text[at] == '"':
            if not is_quote_open:
                break
            is_quote_open = False
        at += 1
    return at


def _ends_sentence(text: str, match: re.Match[str], stop: int, begin: int, end: int, language: Language) -> bool:
    marks = match.group()
    if stop >= end or text[stop] == "\n":
        return True
    if any(mark in _CJK_STOPS for mark in marks):
        return True
    if language == "zh" and ("!" in marks or "?" in marks):
        return True
    follower = text[stop]
    if (not _ELLIPSES.isdisjoint(marks) and len(marks) > 1) or "…" in marks:
        # "I ... I do not know": dots end a sentence only where something else shows it.
        return (stop > match.end() and not _continues(text, stop, end)) or _starts_capital(text, stop, end)
    if marks == "." and _is_ideograph(text[match.start() - 1 : match.start()]):
        return not follower.isdigit()
    if not follower.isspace():
        return False
    if _continues(text, stop, end):
        return False
    return marks != "." or not _is_abbreviation(text, match.start(), begin, stop, end)


def _continues(text: str, at: int, end: int) -> bool:
    """Whether what follows ``at`` goes on with the sentence: a small letter, or a mark that opens none."""
    following = _NOT_SPACE.search(text, at, end)
    if following is None:
        return False
    return following.group().islower() or following.group() in ",;:，；："


def _starts_capital(text: str, at: int, end: int) -> bool:
    following = _NOT_SPACE.search(text, at, end)
    return following is not None and following.start() > at and following.group().isupper()


def _is_abbreviation(text: str, at: int, begin: int, stop: int, end: int) -> bool:
    word = _WORD_BEFORE.search(text[max(begin, at - _LONGEST_WORD) : at])
    if word is None:
        return False
    name = word.group()
    if name.lower() in _ABBREVIATIONS:
        return True
    if name.lower() == "no":
        following = _NOT_SPACE.search(text, stop, end)
        return following is not None and following.group().isdigit()
    # An initial: "J. Smith". "I." ends a sentence far more often than it begins a name.
    return len(name) == 1 and name.isupper() and name != "I" and not _is_ideograph(name)


def _is_ideograph(character: str) -> bool:
    return bool(character) and ("\u3040" <= character <= "\u9fff" or "\U00020000" <= character <= "\U0003ffff")


def _is_wrapped(text: str, line_start: int, line_end: int, next_start: int, end: int, language: Language) -> bool:
    """Whether the line end is only the width of the page: one break, a full line, no stop, no indent after it."""
    if next_start - line_end != 1 or next_start >= end or text[next_start].isspace():
        return False
    shortest, longest = _WRAPPED_CHARS.get(language, _WRAPPED_CHARS["en"])
    if not shortest <= line_end - line_start <= longest:
        return False
    last, first = text[line_end - 1], text[next_start]
    if language == "zh":
        return (_is_ideograph(last) or last in "，、；") and _is_ideograph(first)
    return (last.isalnum() and (first.isalnum() or first in "“‘(")) or last in ",;-—–" or first.islower()
