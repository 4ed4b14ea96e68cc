"""Names in Chinese novels: which words beside a quotation are names, and which names belong to one person.

姓刘，名备，字玄德        one person, by the book's own word
孙 + 行者, 孙 + 悟空      a family name before a name that also stands alone
“悟空，……” 行者道        who is called so is who answers
唐僧, 关公               a family name and a title, of whoever is most of that family
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from core.persona.speech import LEAD, MANNER, Speech
from core.persona.word_lists import words

__all__ = ["completed", "count_names", "kept_apart", "short_names", "ties"]

FAMILIES = words("families.zh")
SINGLE = "".join(sorted(name for name in FAMILIES if len(name) == 1))
DOUBLE = frozenset(name for name in FAMILIES if len(name) == 2)
TITLES = words("titles.zh")
ROLES = words("roles.zh") | TITLES
HAN = "\u3400-\u4dbf\u4e00-\u9fff"
MARK = "[，,！!：:？?]"
PRONOUNS = "他她它我你您咱谁"
FIRST_OF_NO_NAME = (
    "对向众那这一两诸某几数每各其有无不又便却就只都即乃遂因忽问答叫喝骂笑小上下左右前后隔末背点递跪唬慌急暗" + PRONOUNS
)
LAST_OF_NO_NAME = "的地得了着过们之等皆俱亦也又大高厉嘶尖低轻吼念喘报唱扭随由"
LEAST_CALLS, LEAST_SHARE, NEXT_CHARS = 3, 0.45, 300
FAMILY_SHARE, COMPLETE_SHARE = 0.6, 0.85


def completed(text: str, said: Counter[str]) -> dict[str, str]:
    """Names that were taken too short, because their last character is often a word of its own: 余鱼 for 余鱼同."""
    found = {}
    for cut, times in said.items():
        if times < 2 or not (cut in SINGLE or (len(cut) == 2 and _can_be_name(cut))):
            continue
        name = cut
        while len(name) < 3:
            after = Counter(match[1] for match in re.finditer(rf"{re.escape(name)}([{HAN}])", text))
            if not after or (best := after.most_common(1)[0])[1] < COMPLETE_SHARE * text.count(name):
                break
            name += best[0]
        if len(name) > max(1, len(cut)) and _can_be_name(name):
            found[cut] = name
    return found


def count_names(text: str, said: Counter[str]) -> dict[str, int]:
    """How often each name occurs that stands beside a quotation, or that the book itself gives to somebody."""
    given = {name for group in _given_names(text) for name in group}
    beside = {name for name, times in said.items() if times >= 2}
    wanted = {name for name in given | beside if _can_be_name(name)}
    wanted |= {
        full for name in beside if _can_be_name(name) for full in _full_names(text, name, text.count(name)) if full
    }
    counts = {name: text.count(name) for name in sorted(wanted)}

    def is_cut_wrong(name: str) -> bool:
        """Whether a commoner name begins it, and the rest is no title: 行者闻."""
        heads = (name[:length] for length in range(2, len(name)))
        return any(counts.get(head, 0) > 2 * counts[name] and name[len(head) :] not in TITLES for head in heads)

    return {name: count for name, count in counts.items() if count >= 2 and not is_cut_wrong(name)}


def ties(text: str, counts: Mapping[str, int], spoken: Sequence[Speech]) -> Iterator[tuple[str, str]]:
    """Pairs of names that are one person's, surest first."""
    for group in _given_names(text):
        known = [name for name in group if name in counts]
        yield from ((known[0], name) for name in known[1:])
    families: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts, key=lambda name: -counts[name]):
        for full in _full_names(text, name, counts[name]):
            if full in counts:
                yield name, full
    yield from _called(text, counts, spoken)
    for name in sorted(counts, key=lambda name: -counts[name]):
        if (family := _family(name)) and len(name) > len(family):
            families[family].append(name)
    for family, names in families.items():
        titled = [name for name in names if name[len(family) :] in TITLES]
        # Whoever is most of that family in this book is meant by the family name and a title.
        weights = {name: max(counts[name], counts.get(name[len(family) :], 0)) for name in names if name not in titled}
        if not weights:
            continue
        first = max(weights, key=lambda name: weights[name])
        for name in titled:
            if weights[first] >= max(FAMILY_SHARE * sum(weights.values()), 0.5 * counts[name]):
                yield first, name


def kept_apart(text: str, counts: Mapping[str, int], spoken: Sequence[Speech]) -> set[frozenset[str]]:
    """Pairs of names that are certainly two people's."""
    apart: set[frozenset[str]] = set()
    said = Counter(speech.speaker for speech in spoken)
    exchanged = Counter(
        frozenset((one.speaker, other.speaker))
        for one, other in pairwise(spoken)
        if one.speaker != other.speaker and other.span.start - one.span.end < 200
    )
    for pair, times in exchanged.items():
        if all(name in counts for name in pair) and times >= 3 and times > 0.06 * min(said[name] for name in pair):
            apart.add(pair)
    joined = re.compile(rf"(?P<one>{_any(counts)})(?:与|和|、|同|及|并)(?P<other>{_any(counts)})") if counts else None
    side_by_side = Counter(
        frozenset((found["one"], found["other"])) for found in (joined.finditer(text) if joined else ())
    )
    apart |= {pair for pair, times in side_by_side.items() if len(pair) == 2 and times >= 2}
    # Whom the book itself gives other names is somebody else.
    owners = [[name for name in group if name in counts] for group in _given_names(text)]
    for number, group in enumerate(owners):
        for other_group in owners[:number]:
            if not set(group) & set(other_group):
                apart |= {frozenset((one, other)) for one in group for other in other_group}
    return apart


def short_names(groups: Sequence[Sequence[str]], counts: Mapping[str, int], said: Counter[str]) -> dict[str, int]:
    """Single characters beside quotations, each with the group whose full name alone ends in it: 操 for 曹操."""
    found: dict[str, int] = {}
    for short in said:
        if len(short) != 1:
            continue
        weights = Counter[int]()
        for number, group in enumerate(groups):
            # Of a style that looks like a family and a given name, the full name is the commoner one.
            full = max((name for name in group if _family(name)), key=lambda name: counts[name], default="")
            if full and full == _family(full) + short and short not in TITLES:
                weights[number] += counts[full]
        ranked = weights.most_common(2)
        if ranked and (len(ranked) == 1 or ranked[0][1] >= 3 * ranked[1][1]):
            found[short] = ranked[0][0]
    return found


_STOP = frozenset((*LEAD.split("|"), *MANNER.split("|")))


def _can_be_name(name: str) -> bool:
    return (
        2 <= len(name) <= 5
        and name not in ROLES
        and name not in _STOP
        and name not in DOUBLE
        and (name[:2] in DOUBLE or name[0] not in FIRST_OF_NO_NAME)
        and name[-1] not in LAST_OF_NO_NAME
        and not any(char in PRONOUNS for char in name)
    )


def _given_names(text: str) -> list[list[str]]:
    """Names that the text itself ties together: 姓刘，名备，字玄德; 曹操，字孟德."""
    groups = []
    family = rf"(?P<family>{'|'.join(sorted(DOUBLE))}|[{SINGLE}])"
    for found in re.finditer(
        rf"姓{family}[，,]?(?:单|双)?名(?P<given>[{HAN}]{{1,2}}?)(?:[，,]?(?:表)?字(?P<style>[{HAN}]{{2}})"
        rf"(?:[，,]?后改(?:字)?(?P<later>[{HAN}]{{2}}))?)?(?=[，。,；：也！])",
        text,
    ):
        names = [found["family"] + found["given"]]
        for style in (found["style"], found["later"]):
            names += [style, found["family"] + style] if style else []
        groups.append(names)
    for found in re.finditer(
        rf"{family}(?P<given>[{HAN}]{{1,2}})[，,]?(?:表)?字(?P<style>[{HAN}]{{2}})(?=[，。,；也！])", text
    ):
        name = found["family"] + found["given"]
        if found["given"][0] not in "名姓表":
            groups.append([name, found["style"], found["family"] + found["style"]])
    return groups


def _full_names(text: str, name: str, count: int) -> list[str]:
    """The name with the family name that the text puts before it."""
    if len(name) != 2 or count < 3:
        return []
    before = Counter(text[match.start() - 1] for match in re.finditer(re.escape(name), text) if match.start())
    family = [(char, times) for char, times in before.items() if char in SINGLE]
    total = sum(times for _, times in family)
    return [
        char + name for char, times in family if times >= 3 and times >= FAMILY_SHARE * total and times >= 0.005 * count
    ]


def _called(text: str, counts: Mapping[str, int], spoken: Sequence[Speech]) -> Iterator[tuple[str, str]]:
    """Names by which somebody is called, each with the name under which the book lets that one answer."""
    opening = re.compile(rf"(?P<called>{_any(counts)}){MARK}")
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    callers: dict[str, Counter[str]] = defaultdict(Counter)
    for speech, following in pairwise(spoken):
        found = opening.match(text, speech.span.start, speech.span.end)
        if found is None:
            continue
        called = found["called"]
        callers[called][speech.speaker] += 1
        if following.span.start - speech.span.end < NEXT_CHARS and following.speaker != speech.speaker:
            answers[called][following.speaker] += 1
    for called in sorted(answers, key=lambda name: -answers[name].total()):
        (answerer, times), total = answers[called].most_common(1)[0], answers[called].total()
        is_caller = callers[called][answerer] > 0.1 * callers[called].total()
        if answerer in counts and times >= LEAST_CALLS and times >= LEAST_SHARE * total and not is_caller:
            yield answerer, called


def _family(name: str) -> str:
    if name[:2] in DOUBLE and len(name) > 2:
        return name[:2]
    return name[0] if name[0] in SINGLE else ""


def _any(names: Mapping[str, int]) -> str:
    return "|".join(sorted(map(re.escape, names), key=len, reverse=True)) or "(?!)"
