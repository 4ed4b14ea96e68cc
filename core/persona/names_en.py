"""Names in English novels: titles, first names and family names, and which of them are one person's.

Darcy, Mr. Darcy and Fitzwilliam Darcy are one where no other man of that family speaks; Mr. Bennet and Mrs. Bennet are
two, and Miss Bennet is nobody's for sure in a family with sisters.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from core.persona.speech import Speech
from core.persona.word_lists import word_rows, words

__all__ = ["completed", "count_names", "kept_apart", "short_names", "ties"]

TITLES = {
    "Mr": "m", "Sir": "m", "Lord": "m", "Colonel": "m", "Captain": "m", "Major": "m", "General": "m", "Father": "m",
    "Uncle": "m", "Monsieur": "m", "Mrs": "f", "Miss": "f", "Ms": "f", "Lady": "f", "Aunt": "f", "Madame": "f",
    "Dr": "", "Professor": "",
}  # fmt: skip
NOT_NAMES = words("not_names.en")
SHORT_FORMS = {first: rest for first, *rest in word_rows("short_forms.en")}
TWO_WORDS = re.compile(r"(?<![.?!] )(?<!\w)[A-Z][a-z]+\.? [A-Z][a-z]+(?!\w)")


def completed(text: str, said: Counter[str]) -> dict[str, str]:
    """Names that were taken too short: none, where words stand apart."""
    return {}


def count_names(text: str, said: Counter[str]) -> dict[str, int]:
    """How often each name occurs that stands beside a quotation, and the fuller forms of it that the text has."""
    names = {name for name, times in said.items() if _can_be_name(name) and (times >= 2 or " " in name)}
    found = Counter(TWO_WORDS.findall(text))
    single = {name for name in names if " " not in name}
    for form, times in found.items():
        first, _, last = form.partition(" ")
        if times >= 2 and (first in single or last in single) and _can_be_name(form):
            names.add(form)
    short = {each: full for full, forms in SHORT_FORMS.items() if full in names for each in forms}
    names |= set(short)
    counts = {name: len(re.findall(rf"(?<!\w){re.escape(name)}(?!\w)", text)) for name in sorted(names)}
    return {name: count for name, count in counts.items() if count >= 2}


def ties(text: str, counts: Mapping[str, int], spoken: Sequence[Speech]) -> Iterator[tuple[str, str]]:
    """Pairs of names that are one person's, surest first."""
    for full, forms in SHORT_FORMS.items():
        if full in counts:
            yield from ((full, form) for form in forms if form in counts)
    families: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        families[_parts(name)[2] or name].append(name)
    for family, names in families.items():
        holders = Counter({name: counts[name] for name in names if name != family})
        untitled = [name for name in holders if not _parts(name)[0]]
        for name in untitled:
            # A first name that goes with one family name only.
            first = _parts(name)[1]
            if first in counts and sum(1 for other in counts if _parts(other)[1] == first and _parts(other)[2]) == 1:
                yield first, name
        men = [name for name in holders if TITLES.get(_parts(name)[0]) == "m" and not _parts(name)[1]]
        if (
            family in counts
            and len(men) == 1
            and not any(TITLES.get(_parts(name)[0]) == "m" and name not in men for name in holders)
        ):
            yield men[0], family
        if len(untitled) == 1 and len(men) == 1 and not any(TITLES.get(_parts(n)[0]) == "f" for n in holders):
            yield men[0], untitled[0]


def kept_apart(text: str, counts: Mapping[str, int], spoken: Sequence[Speech]) -> set[frozenset[str]]:
    """Pairs of names that are certainly two people's."""
    apart = set()
    names = list(counts)
    for number, one in enumerate(names):
        for other in names[:number]:
            first, second = _parts(one), _parts(other)
            sexes = {TITLES.get(first[0], ""), TITLES.get(second[0], "")} - {""}
            has_two_titles = first[0] and second[0] and first[0] != second[0]
            has_two_firsts = first[1] and second[1] and _full_form(first[1]) != _full_form(second[1])
            if len(sexes) == 2 or has_two_titles or has_two_firsts:
                apart.add(frozenset((one, other)))
    return apart


def short_names(groups: Sequence[Sequence[str]], counts: Mapping[str, int], said: Counter[str]) -> dict[str, int]:
    """No name is too short to search for here; a family name beside a quotation is its only holder's."""
    return {}


def _can_be_name(name: str) -> bool:
    parts = name.replace(".", "").split()
    return not (set(parts[:1]) & (NOT_NAMES - set(TITLES))) and parts[-1] not in NOT_NAMES


def _parts(name: str) -> tuple[str, str, str]:
    """Title, first name and family name; each may be empty. One word alone is a first name."""
    words = name.replace(".", "").split()
    title = words.pop(0) if words and words[0] in TITLES else ""
    if title and len(words) == 1:
        # Sir William, Lady Catherine: these two titles go with a first name as often; it stands for the family here.
        return title, "", words[0]
    if len(words) == 1:
        return title, words[0], ""
    return title, words[0], words[-1]


def _full_form(first: str) -> str:
    for full, forms in SHORT_FORMS.items():
        if first == full or first in forms:
            return full
    return first
