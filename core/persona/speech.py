"""Who says which quotation: the names that stand beside quoted words, by the way that novels write them.

Chinese: 行者笑道：“…”, “…”段誉道，“…”, 玄德谓孔明曰：“…”. English: said Mr. Darcy, Elizabeth replied; there a paragraph
belongs to one speaker. In “甲…”乙道：“乙…” the name is the second quotation's alone. A quotation whose speaker is not
told so has none here: a wrong speaker is worse than none. Nothing here knows who is who.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from core.data.text import Language, Span

__all__ = ["Speech", "speeches"]


@dataclass(frozen=True, slots=True)
class Speech:
    """Quoted words and the name beside them.

    Attributes:
        span: of the words, without their marks.
        speaker: as written there.
        named_at: where the name is written.
        said_to: the name that the speaker is said to turn to; empty where none is.
    """

    span: Span
    speaker: str
    named_at: Span
    said_to: str = ""


HAN = "\u3400-\u4dbf\u4e00-\u9fff"
# Words in corner marks may hold the other kind; a straight mark opens and closes, so a pair of them keeps to its line.
QUOTED_ZH = re.compile(
    r"“(?P<curly>[^“”]{1,600})”|「(?P<corner>[^「」]{1,600})」|『(?P<double>[^『』]{1,600})』|[\"＂](?P<straight>[^\"＂\n]{1,600})[\"＂]"
)
# What a clause about speaking begins with, before the name.
LEAD = (
    "却说|只见|忽见|正是|于是|当下|当时|只听得|只听|忽听得|忽听|忽然|突然|原来|那边|这边|那个|这个|那|这|但见|早见|便见|又见|见|"
    "却见|却听|听得|慌得|急得|喜得|唬得|吓得|好|还是|毕竟|此时|这时|那时|须臾|少顷|随后|接着|又|再|即|遂|乃|时|忽|且说|话说|"
    "次日|连|众|其|有|一旁|旁边|座上|阶下|帐下"
)
# What follows the name, up to the verb: whatever begins so is no longer part of the name.
MANNER = (
    "大笑|大怒|大惊|大喜|大叫|大喝|大骂|微笑|冷笑|苦笑|陪笑|赔笑|呵呵|哈哈|嘻嘻|嘿嘿|厉声|高声|低声|轻声|柔声|朗声|齐声|连声|失声|大声|"
    "听了|听说|听见|听罢|听得|闻言|闻说|见了|见说|看了|心中|心下|暗|在|从|向|对|谓|问|答|笑|怒|惊|喜|叹|泣|哭|急|忙|慌|喝|骂|叫|喊|"
    "说|应|回|告|拜|奏|禀|启|劝|道|曰|云|又|乃|便|即|就|也|却|方|才|再|亦|忽|遂|连|只|都|俱|不|沉|皱|摇|点|指|拍|拱|躬|跪|起|出|入|"
    "上前|近前|向前|转|抬|低|把|将|与|和|同|扯|拉|扶|拿|接|唤|呼|望|看|想|思|自|含|陪|欠|谢|劈|咬|睁|伸|举|提|按|执|抱|合|着|了|得|"
    "正|已|早|终|还|更|最|很|一边|一面|一|淡|缓|慢|冷|柔|微|略|颤|吃|松|接口|插口|接|续|解|纵|飞|奔|跑|走|坐|立|站|躺|倒|满|面|脸|眼|"
    "口|手|头|双|故|佯|假|伪|狂|仰|俯|呆|愕|愣|怔|恨|恼|羞|愧|赞|夸|称|安|慰|嘱|吩|命|令|传|下|进|当|后|先|前|左|右|密|私|独|仍|尚|且"
)
VERB = "道|曰|说|云|问|答|叫|喊|喝|骂|笑|言"
CLAUSE_ZH = re.compile(
    rf"(?:{LEAD})*?(?P<name>[{HAN}·]{{1,5}}?)(?:(?:{MANNER})(?P<rest>[{HAN}]{{0,14}}?))?(?:{VERB})(?:道|曰|着)?"
)
TURNED_TO = re.compile(rf"(?:谓|对|向|与|问|唤|叫|顾|骂|告|命|劝)(?P<name>[{HAN}]{{2,4}}?)(?:{VERB}|$)")
BOUNDARY = '。！？；，、：…—”」』"＂\n　 '
BEFORE_CHARS, AFTER_CHARS = 24, 14
AFTER_ZH = re.compile(rf"[{HAN}·]{{2,{AFTER_CHARS}}}?(?P<mark>[，。：！；\n]|$)")
SPEAKS_ZH = re.compile(rf"(?:{VERB})(?:道|曰|着)?$")

TITLE = (
    r"(?:Mr|Mrs|Miss|Ms|Dr|Sir|Lady|Lord|Colonel|Captain|Major|General|Father|Uncle|Aunt|Madame|Monsieur|Professor)\.?"
)
# A name may go on in the next line of a page.
NAME_EN = rf"(?P<name>(?:{TITLE}[ \n])?[A-Z][a-zé'’-]+(?:[ \n](?:de |of |von )?[A-Z][a-zé'’-]+){{0,2}})"
VERB_EN = (
    "said|says|replied|cried|answered|asked|added|exclaimed|returned|continued|observed|whispered|repeated|remarked|began|"
    "inquired|enquired|called|shouted|murmured|muttered|demanded|declared|interrupted|resumed|rejoined|responded|spoke|"
    "ejaculated|persisted|protested|suggested|explained|pursued|growled|sighed|gasped|faltered|stammered|screamed|roared"
)
QUOTED_EN = re.compile(r"“(?P<curly>[^“”]{1,1500})”|\"(?P<straight>[^\"]{1,1500})\"")
# Where ‘ opens speech, ’ is an apostrophe too; it closes only behind a stop or a comma.
QUOTED_SINGLE_EN = re.compile(r"(?<!\w)‘(?P<single>[^‘“”]{0,1500}?[,.?!;:—-])’(?!\w)")
SINGLE_SHARE = 4
"""A novel has its speech in single marks if it has so many times more of them than of double ones."""
# “…” Elizabeth replied that it was: a reply that is told, not the words before it.
AFTER_EN = re.compile(
    rf" ?,?[ \n]?(?:(?:{VERB_EN})[ \n](?:his |her |the )?{NAME_EN}|"
    rf"(?<![.][”\"’] ){NAME_EN.replace('?P<name>', '?P<first>')}[ \n](?:{VERB_EN})\b"
    r"(?! (?:nothing|no|that|to|him|her|it|only) ))"
)
BEFORE_EN = re.compile(rf"{NAME_EN}(?: \w+){{0,4}} (?:{VERB_EN})[^.?!“”\"]{{0,40}}[,:]\s*$")
PARAGRAPHS = {True: re.compile(r"\n[ \t]*\n|\n(?=[“\"‘\t ])"), False: re.compile(r"\n")}
WRAPPED_CHARS = (45, 100)
# Words that stand where a name may, and say that somebody else than the named one speaks.
SAID_BY_OTHER = re.compile(
    rf"\b(?:(?:{VERB_EN}) (?:he|she|they|I|we|(?:his|her|the|my|their|a) [a-z]+)|(?:he|she|they|I|we) (?:{VERB_EN}))\b"
)


def speeches(text: str, language: Language, start: int = 0, end: int | None = None) -> Iterator[Speech]:
    """Every quotation whose speaker is named beside it, in order."""
    return (_chinese if language == "zh" else _english)(text, start, len(text) if end is None else end)


def _chinese(text: str, start: int, end: int) -> Iterator[Speech]:
    behind: tuple[int, Speech] | None = None
    for quoted in QUOTED_ZH.finditer(text, start, end):
        words = Span(*quoted.span(quoted.lastgroup or 0))
        speech = _before(text, quoted.start(), start, words)
        if speech is None and behind is not None and behind[0] == quoted.start():
            # “走罢。”段誉道。“天晚了。” goes on with what he says.
            speech = replace(behind[1], span=words)
        behind = None
        if speech is None and (found := _after(text, quoted.end(), end, words)) is not None:
            behind = found
            speech = found[1]
        if speech is not None:
            yield speech


def _before(text: str, at: int, start: int, words: Span) -> Speech | None:
    """The speech by a clause that ends in a verb of speaking right before the quotation."""
    stop = at
    while stop > start and text[stop - 1] in "：:，, 　\n":
        stop -= 1
    if stop == at or not any(mark in text[stop:at] for mark in "：:，,"):
        return None
    begin = stop
    while begin > max(start, stop - BEFORE_CHARS) and text[begin - 1] not in BOUNDARY:
        begin -= 1
    return _named(text, begin, stop, words)


def _after(text: str, at: int, end: int, words: Span) -> tuple[int, Speech] | None:
    """The speech by a clause right behind the quotation, and where it would go on."""
    found = AFTER_ZH.match(text, at, min(end, at + AFTER_CHARS + 1))
    # Before a colon the clause belongs to the quotation that comes.
    if found is None or found["mark"] == "：" or (not found["mark"] and found.end() != end):
        return None
    speech = _named(text, at, found.start("mark"), words)
    return None if speech is None else (found.end(), speech)


def _named(text: str, begin: int, stop: int, words: Span) -> Speech | None:
    clause = text[begin:stop]
    found = CLAUSE_ZH.fullmatch(clause) if SPEAKS_ZH.search(clause) else None
    if found is None:
        return None
    turned = TURNED_TO.search(clause, found.end("name"))
    named_at = Span(begin + found.start("name"), begin + found.end("name"))
    return Speech(words, found["name"], named_at, turned["name"] if turned else "")


def _english(text: str, start: int, end: int) -> Iterator[Speech]:
    doubles, singles = text.count("“", start, end) + text.count('"', start, end) // 2, text.count("‘", start, end)
    pattern = QUOTED_SINGLE_EN if singles > SINGLE_SHARE * doubles else QUOTED_EN
    paragraph_end = PARAGRAPHS[_is_wrapped(text, start, end)]
    paragraph: list[tuple[Span, Speech | None]] = []
    last = low = start
    for quoted in pattern.finditer(text, start, end):
        if breaks := [each.end() for each in paragraph_end.finditer(text, last, quoted.start())]:
            yield from _of_one_speaker(text, paragraph)
            paragraph, low = [], breaks[-1]
        last = quoted.end()
        words = Span(*quoted.span(quoted.lastgroup or 0))
        stop = paragraph_end.search(text, quoted.end(), min(end, quoted.end() + 80))
        high = stop.start() if stop else min(end, quoted.end() + 80)
        paragraph.append((words, _beside(text, quoted, max(low, quoted.start() - 90), high, words)))
    yield from _of_one_speaker(text, paragraph)


def _is_wrapped(text: str, start: int, end: int) -> bool:
    """Whether lines end where a page did, so that only an empty line ends a paragraph."""
    lines = [len(line) for line in text[start:end].split("\n") if line]
    return 2 * sum(WRAPPED_CHARS[0] <= length <= WRAPPED_CHARS[1] for length in lines) > len(lines) > 20


def _beside(text: str, quoted: re.Match[str], low: int, high: int, words: Span) -> Speech | None:
    found = AFTER_EN.match(text, quoted.end(), high)
    if found is None:
        found = BEFORE_EN.search(text, low, quoted.start())
    if found is None:
        return None
    group = "name" if found["name"] else "first"
    name = " ".join(found[group].split())
    return None if re.fullmatch(TITLE, name) else Speech(words, name, Span(*found.span(group)))


def _of_one_speaker(text: str, paragraph: list[tuple[Span, Speech | None]]) -> Iterator[Speech]:
    """The speeches of a paragraph; a quotation without a name goes with the only one named there."""
    named = {speech.speaker: speech for _, speech in reversed(paragraph) if speech is not None}
    only = next(iter(named.values())) if len(named) == 1 else None
    if only is not None and SAID_BY_OTHER.search(_between(text, [words for words, _ in paragraph])):
        only = None
    for words, speech in paragraph:
        if speech is not None:
            yield speech
        elif only is not None:
            yield replace(only, span=words)


def _between(text: str, quotations: list[Span]) -> str:
    """What the narrator says within a paragraph, from the first quotation on."""
    pieces = [text[one.end : other.start] for one, other in pairwise(quotations)]
    return " ".join((*pieces, text[quotations[-1].end : quotations[-1].end + 40].partition("\n")[0]))
