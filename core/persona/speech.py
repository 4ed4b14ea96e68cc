"""Who says which quotation: the names that stand beside quoted words, by the way that novels write them.

Chinese: 行者笑道：“…”, “…”段誉道, 玄德谓孔明曰：“…”. English: said Mr. Darcy, Elizabeth replied. A quotation whose
speaker is not named beside it has none here: a wrong speaker is worse than none. Nothing here knows who is who.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from core.data.text import Language, Span

__all__ = ["Speech", "speeches"]


@dataclass(frozen=True, slots=True)
class Speech:
    """Quoted words and the name beside them.

    Attributes:
        span: of the words, without their marks.
        speaker: as written there.
        said_to: the name that the speaker is said to turn to; empty where none is.
    """

    span: Span
    speaker: str
    said_to: str = ""


HAN = "\u3400-\u4dbf\u4e00-\u9fff"
QUOTED_ZH = re.compile(r"[“「『](?P<words>[^“”「」『』]{1,600})[”」』]")
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
BOUNDARY = "。！？；，、：…—”」』\n　 "
BEFORE_CHARS, AFTER_CHARS = 24, 14
AFTER_ZH = re.compile(rf"[{HAN}·]{{2,{AFTER_CHARS}}}?(?=[，。：！；])")
SPEAKS_ZH = re.compile(rf"(?:{VERB})(?:道|曰|着)?$")

QUOTED_EN = re.compile(r"[“\"](?P<words>[^“”\"]{1,1500})[”\"]")
TITLE = (
    r"(?:Mr|Mrs|Miss|Ms|Dr|Sir|Lady|Lord|Colonel|Captain|Major|General|Father|Uncle|Aunt|Madame|Monsieur|Professor)\.?"
)
NAME_EN = rf"(?P<name>(?:{TITLE} )?[A-Z][a-zé'’-]+(?: (?:de |of |von )?[A-Z][a-zé'’-]+){{0,2}})"
VERB_EN = (
    "said|replied|cried|answered|asked|added|exclaimed|returned|continued|observed|whispered|repeated|remarked|began|"
    "inquired|enquired|called|shouted|murmured|muttered|demanded|declared|interrupted|resumed|rejoined|responded|spoke"
)
AFTER_EN = re.compile(
    rf" ?,? ?(?:(?:{VERB_EN}) (?:his |her |the )?{NAME_EN}|{NAME_EN.replace('?P<name>', '?P<first>')} (?:{VERB_EN})\b)"
)
BEFORE_EN = re.compile(rf"{NAME_EN}(?: \w+){{0,4}} (?:{VERB_EN})[^.?!“”\"]{{0,40}}[,:]\s*$")


def speeches(text: str, language: Language, start: int = 0, end: int | None = None) -> Iterator[Speech]:
    """Every quotation whose speaker is named beside it, in order."""
    return (_chinese if language == "zh" else _english)(text, start, len(text) if end is None else end)


def _chinese(text: str, start: int, end: int) -> Iterator[Speech]:
    for quoted in QUOTED_ZH.finditer(text, start, end):
        words = Span(*quoted.span("words"))
        found = _before(text, quoted.start(), start) or _after(text, quoted.end(), end)
        if found is not None:
            yield Speech(words, *found)


def _before(text: str, at: int, start: int) -> tuple[str, str] | None:
    """The speaker that a clause names which ends in a verb of speaking right before the quotation."""
    stop = at
    while stop > start and text[stop - 1] in "：:，, 　\n":
        stop -= 1
    if stop == at or ("：" not in text[stop:at] and ":" not in text[stop:at] and "，" not in text[stop:at]):
        return None
    clause = _clause(text, max(start, stop - BEFORE_CHARS), stop)
    if not SPEAKS_ZH.search(clause):
        return None
    return _named(clause)


def _after(text: str, at: int, end: int) -> tuple[str, str] | None:
    """The speaker that is named right behind the quotation."""
    found = AFTER_ZH.match(text, at, min(end, at + AFTER_CHARS + 1))
    if found is None or not SPEAKS_ZH.search(found[0]):
        return None
    return _named(found[0])


def _named(clause: str) -> tuple[str, str] | None:
    found = CLAUSE_ZH.fullmatch(clause)
    if found is None:
        return None
    turned = TURNED_TO.search(clause, found.end("name"))
    return found["name"], turned["name"] if turned else ""


def _clause(text: str, low: int, high: int) -> str:
    begin = high
    while begin > low and text[begin - 1] not in BOUNDARY:
        begin -= 1
    return text[begin:high]


def _english(text: str, start: int, end: int) -> Iterator[Speech]:
    for quoted in QUOTED_EN.finditer(text, start, end):
        words = Span(*quoted.span("words"))
        after = AFTER_EN.match(text, quoted.end(), min(end, quoted.end() + 80))
        before = None if after else BEFORE_EN.search(text, max(start, quoted.start() - 90), quoted.start())
        name = (after["name"] or after["first"]) if after else before["name"] if before else None
        if name:
            yield Speech(words, name)
