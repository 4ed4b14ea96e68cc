"""Which names are one person's: by what the book says of names, by who answers to them, and never by likeness alone.

    names beside quotations (names_zh, names_en)  -> without roles, gestures and names that were cut wrong
    ties between them, surest first               -> groups, unless two of a group must stay apart
    who answers to a name, who gives it as his own -> ties between groups

A wrong merger is worse than a missed one, so two names that speak to each other, or stand side by side joined by "and",
stay apart whatever else is true. Nothing here knows a particular novel.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from core.data.text import Language
from core.persona import names_en, names_zh
from core.persona.speech import MANNER, VERB, Speech
from core.persona.word_lists import words

__all__ = ["NameGroup", "group_names"]

HAN = "\u3400-\u4dbf\u4e00-\u9fff"
FAMILIES = words("families.zh")
# Offices, ages, kin and crowds that speak in many novels, beside those that names_zh leaves out.
GENERIC = words("offices.zh")
CROWD = re.compile(r"[群众诸多各]|[两二三四五六七八九十](?:个)?[老怪童星神将僧王妖魔人女仙鬼官位]$|假")
ROLE_SHARE, SUBJECT_SHARE, DOMINANT_SHARE = 0.1, 0.1, 0.8
ROLE_ZH = ("一个", "一位", "一名", "有个", "几个", "两个", "三个", "众", "诸", "那些", "这些")
SUBJECT_ZH = "”。！？\n“、与对向问见请把将被和同拜救拿杀召"
# Titles of one calling: two of them behind one family name are one person's.
CALLINGS = (("僧", "和尚", "长老"), ("道长", "道人", "真人"))
SELF_ZH = "我|吾|某|咱|俺|在下|贫僧|贫道|小僧|弟子|老夫|老衲|小人|小弟|小将|末将|晚辈|臣"
NO_NAME_BETWEEN = "，。！？；：“”‘’来寻找请奉见拜与和把将要去问不的"
LEAST_CALLS, CALLED_SHARE, NEXT_CHARS, LEAST_GIVEN = 4, 0.6, 300, 2
LEAST_CLAUSES, CLAUSE_SHARE, FULL_SHARE = 3, 0.85, 0.15
SAYS = "道曰说问答叫喊笑"
NO_REST = frozenset((*MANNER.split("|"), *VERB.split("|")))
STYLED = re.compile(
    rf"姓?(?P<family>{'|'.join(sorted(FAMILIES, key=len, reverse=True))})[，,]?名?(?P<given>[{HAN}]{{1,2}})[，,]?表?$"
)


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
    is_chinese = language == "zh"
    rules = names_zh if is_chinese else names_en
    whole = dict(rules.completed(text, Counter(speech.speaker for speech in spoken)))
    if is_chinese:
        # 慧明道 is no name, however often he speaks.
        whole = {cut: name for cut, name in whole.items() if name[-1] not in SAYS} | _completed_beside(text, spoken)
    spoken = [replace(speech, speaker=whole.get(speech.speaker, speech.speaker)) for speech in spoken]
    said = Counter(speech.speaker for speech in spoken)
    counts = rules.count_names(text, said)
    counts = _sound_names(text, counts) if is_chinese else _clear_names(text, counts)
    apart = rules.kept_apart(text, counts, spoken)
    ties = list(rules.ties(text, counts, spoken))
    if is_chinese:
        ties = [*_undisputed(text, ties), *_of_one_calling(counts)]
    groups = _joined(counts, ties, apart)
    if is_chinese:
        groups = _joined(counts, [*ties, *_answered(text, groups, spoken), *_own_names(text, groups, spoken)], apart)
    short = rules.short_names(groups, counts, said)
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


def _completed_beside(text: str, spoken: Sequence[Speech]) -> dict[str, str]:
    """Names that were cut where a character in them is often a word: 温不欺 where 温 alone was taken.

    The same characters follow the cut in nearly every clause of speaking, and the whole name stands elsewhere too.
    """
    following: dict[str, Counter[str]] = defaultdict(Counter)
    for speech in spoken:
        if len(speech.speaker) <= 2 and speech.speaker[0] in FAMILIES:
            for length in (1, 2):
                following[speech.speaker][text[speech.named_at.end : speech.named_at.end + length]] += 1
    found = {}
    for cut, rests in following.items():
        clauses = sum(times for rest, times in rests.items() if len(rest) == 1)
        for length in (2, 1):
            likely = [rest for rest in rests if len(rest) == length and rests[rest] >= CLAUSE_SHARE * clauses]
            if clauses < LEAST_CLAUSES or not likely or len(cut) + length > 3 or likely[0] in NO_REST:
                continue
            name = cut + likely[0]
            after = Counter(text[match.end() : match.end() + 1] for match in re.finditer(re.escape(name), text))
            if re.fullmatch(rf"[{HAN}]+", name) and 2 * sum(after[verb] for verb in VERB) < after.total():
                found[cut] = name
                break
    return found


def _sound_names(text: str, counts: Mapping[str, int]) -> dict[str, int]:
    """The names without roles, gestures, and words that only look like a family name before a name."""
    kept = dict(counts)
    styles = _styles(text)
    for name, count in counts.items():
        places = [match.start() for match in re.finditer(re.escape(name), text)]
        before = Counter(text[at - 1 : at] for at in places)
        roles = sum(text.endswith(ROLE_ZH, 0, at) or text.startswith("们", at + len(name)) for at in places)
        has_family = name[0] in FAMILIES or name[:2] in FAMILIES
        is_style = any(family + name in text for family, _ in styles.get(name, ()))
        is_subject = sum(before[mark] for mark in SUBJECT_ZH) >= SUBJECT_SHARE * count
        is_plain = not has_family and not is_style and (roles > ROLE_SHARE * count or not is_subject)
        bears_style = any(family == name[0] for family, _ in styles.get(name[1:], ()))
        is_cut_wrong = len(name) > 2 and not bears_style and _only_looks_full(name, count, counts, before)
        is_crowd = name[:2] not in FAMILIES and CROWD.match(name)
        if is_plain or is_cut_wrong or is_crowd or name in GENERIC:
            del kept[name]
    # 张翼德 is no 张翼 with something behind it, if the book says that Zhang's style is 翼德.
    for style in [name for name in kept if name in styles]:
        for family, _ in sorted(styles[style]):
            if (times := text.count(family + style)) >= 2:
                kept.setdefault(family + style, times)
    return kept


def _styles(text: str) -> dict[str, set[tuple[str, str]]]:
    """Styles, each with the family and given names in front of it: 张飞字翼德, 姓刘名备，字玄德."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for mark in re.finditer("字", text):
        style = text[mark.end() : mark.end() + 2]
        named = STYLED.search(text, max(0, mark.start() - 9), mark.start())
        if named is not None and re.fullmatch(f"[{HAN}]{{2}}", style):
            found[style].add((named["family"], named["given"]))
    return found


def _clear_names(text: str, counts: Mapping[str, int]) -> dict[str, int]:
    """The English names without those of whichever sister is meant: Miss Bennet, of Jane Bennet and Lydia Bennet."""

    def is_shared(name: str) -> bool:
        title, _, family = name.partition(" ")
        if title != "Miss":
            return False
        firsts = set(re.findall(rf"(?<!\w)([A-Z][a-z]+) {re.escape(family)}(?!\w)", text))
        return len(firsts & set(counts)) > 1

    return {name: count for name, count in counts.items() if not is_shared(name)}


def _only_looks_full(name: str, count: int, counts: Mapping[str, int], before: Counter[str]) -> bool:
    """Whether what looks like a family name belongs to the word before it: 太白|金星, 刺史|邓艾."""
    rest = name[1:]
    if rest not in counts:
        return False
    char, times = before.most_common(1)[0]
    if re.fullmatch(f"[{HAN}]", char) and times >= DOMINANT_SHARE * count:
        return True
    return rest[0] in FAMILIES and count < FULL_SHARE * counts[rest]


def _undisputed(text: str, ties: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The ties, but of two people with one style only he keeps it who is called by it: 徐公明, not 管辂."""
    styles = _styles(text)
    holders: dict[str, str] = {}
    for style, named in styles.items():
        if len(named) > 1:
            called = Counter({family + given: text.count(family + style) for family, given in sorted(named)})
            holders[style] = called.most_common(1)[0][0] if called.total() else ""
    return [
        (name, style)
        for name, style in ties
        if style not in holders or name == holders[style] or all(name != "".join(named) for named in styles[style])
    ]


def _of_one_calling(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    for name in sorted(counts, key=lambda name: -counts[name]):
        for titles in CALLINGS:
            family = next((name[: -len(title)] for title in titles if name.endswith(title)), "")
            if family in FAMILIES:
                yield from ((name, family + title) for title in titles if family + title in counts)


def _answered(text: str, groups: Sequence[Sequence[str]], spoken: Sequence[Speech]) -> Iterator[tuple[str, str]]:
    """Names by which somebody is called, each with a name of the one who then speaks.

    Few calls are enough where the two have one family name in common: 猪悟能, 猪八戒.
    """
    number_of = {name: number for number, group in enumerate(groups) for name in group}
    called_at = re.compile(
        rf"({'|'.join(sorted(map(re.escape, number_of), key=len, reverse=True)) or '(?!)'})[，,！!：:？?]"
    )
    answers: dict[int, Counter[int]] = defaultdict(Counter)
    callers: dict[int, Counter[int]] = defaultdict(Counter)
    for speech, following in pairwise(spoken):
        found = called_at.match(text, speech.span.start, speech.span.end)
        if found is None or speech.speaker not in number_of:
            continue
        called = number_of[found[1]]
        callers[called][number_of[speech.speaker]] += 1
        is_near = following.span.start - speech.span.end < NEXT_CHARS
        if is_near and following.speaker in number_of and following.speaker != speech.speaker:
            answers[called][number_of[following.speaker]] += 1
    for called in sorted(answers, key=lambda number: (-answers[number].total(), number)):
        (answerer, times), total = answers[called].most_common(1)[0], answers[called].total()
        calls_himself = callers[called][answerer] > 0.1 * callers[called].total()
        families = [
            {name[0] for name in groups[each] if name[0] in FAMILIES and len(name) > 2} for each in (called, answerer)
        ]
        enough = LEAST_CALLS if not families[0] & families[1] else 2
        if answerer != called and times >= enough and times >= CALLED_SHARE * total and not calls_himself:
            yield groups[answerer][0], groups[called][0]


def _own_names(text: str, groups: Sequence[Sequence[str]], spoken: Sequence[Speech]) -> Iterator[tuple[str, str]]:
    """Names that a speaker gives as his own: 贫僧……法名玄奘; at least twice, and nobody else does as often."""
    number_of = {name: number for number, group in enumerate(groups) for name in group}
    names = "|".join(sorted(map(re.escape, number_of), key=len, reverse=True)) or "(?!)"
    here = rf"[^{NO_NAME_BETWEEN}]"
    given = re.compile(
        rf"(?:(?:{SELF_ZH}){here}{{0,4}}(?:乃|是|名|叫|唤){here}{{0,8}}?"
        rf"|(?:{SELF_ZH}|俗家)[^。！？“”他她徒父母兄弟]{{0,14}}(?:法名|俗名|本名|名叫|名唤|叫做|叫作|唤做|唤作){here}{{0,4}}?"
        rf"|^(?:{SELF_ZH}|是弟子))(?P<name>{names})(?=[，。！也便是到])"
    )
    givers: dict[int, Counter[int]] = defaultdict(Counter)
    for speech in spoken:
        if speech.speaker in number_of:
            for found in given.finditer(text, speech.span.start, speech.span.end):
                givers[number_of[found["name"]]][number_of[speech.speaker]] += 1
    for named in sorted(givers):
        del givers[named][named]
        (giver, times), total = (
            max(givers[named].items(), key=lambda each: each[1], default=(named, 0)),
            givers[named].total(),
        )
        if times >= LEAST_GIVEN and 4 * times >= 3 * total:
            yield groups[giver][0], groups[named][0]
