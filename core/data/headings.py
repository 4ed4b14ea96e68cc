"""Recognise the headings of a novel, line by line.

A heading stands alone on its line: "第一回 宴桃园…", "卷之三", "楔子", "Chapter 12", "XIV. The Storm", "003 初见".
Here a line is judged by its own form; whether it fits among the other headings is for ``core.data.chapters``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Heading", "classify", "find_headings", "parse_number"]

_LONGEST_LINE = 110

_HAN_NUMBER = "〇零○Ｏ一二三四五六七八九十百千万萬两兩廿卅卌壹贰叁肆伍陆柒捌玖拾佰仟貳參陸"
_NUMBER = rf"(?:[0-9０-９]{{1,5}}|[{_HAN_NUMBER}]{{1,9}})"
_PART_UNITS = "卷部篇集册冊季辑輯編编"
_SHORT_LINES = re.compile(rf"^[^\n]{{1,{_LONGEST_LINE}}}$", re.M)
# What a heading may begin with; most lines of a novel end here, before any longer pattern is tried.
_OPENINGS = re.compile(
    r"[\s\ufeff*【《〈\[「『（(〔★☆◆■●=~—-]*"
    r"[#A-Z0-9０-９一二三四五六七八九十百〇零廿卅壹贰叁肆伍陆柒捌玖正第卷上中下楔序自代总總小前引导導开開题題献獻内內番外附后後尾终終大完跋致结結]"
    r"|chapter\b|[Гг]лава\b"
)
_MARKDOWN = re.compile(r"(#{1,6})[ \t\u3000]+(.*?)[ \t\u3000]*#*$")
_WRAPPINGS = ("【】", "《》", "〈〉", "[]", "「」", "『』", "〔〕")
_ORNAMENTS = " \t\u3000\ufeff\u200b=~★☆◆■●*_—-"

_CHINESE = re.compile(
    rf"(?:(?:正文卷?|VIP章?节?)[\s:：·]*)?"
    rf"(?P<volume>(?:第\s*{_NUMBER}\s*[{_PART_UNITS}]|卷之?\s*{_NUMBER})(?:[\s:：·]+[^第\n]{{0,24}}?)?[\s·:：]*)?"
    rf"第\s*(?P<number>{_NUMBER})\s*(?P<unit>部分|[回章节節话話幕折{_PART_UNITS}])(?P<rest>.*)$"
)
_SCROLL = re.compile(rf"(?:卷之?\s*(?P<number>{_NUMBER})|(?P<part>[上中下][{_PART_UNITS}]))(?P<rest>(?:[\s:：·].*)?)$")
_WESTERN = re.compile(
    r"(?P<unit>chap(?:ter|\.)|chapitre|kapitel|cap[ií]tulo|capitolo|глава|book|part|vol(?:ume|\.)|livre|partie|teil)\s+"
    r"(?:the\s+)?(?P<number>\d{1,4}|[ivxlcdm]{1,9}|[a-z]+(?:[- ](?:one|two|three|four|five|six|seven|eight|nine"
    r"|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth))?)(?![\w'’])(?P<rest>.*)$",
    re.I,
)
_FRONT_NAMES = (
    r"楔子|序[章言幕曲文]?|[自代总總小]序|前言|引[子言]|导[言读]|導[言讀]|开[篇场]|開[篇場]|题记|題記|献词|獻詞"
    r"|内容简介|內容簡介"
)
_BACK_NAMES = (
    r"番外[篇卷]?|外[传傳篇]|附[录錄]|[后後][记記序]|尾[声聲]|[终終][章曲]|大[结結]局|完本感言|完[结結]感言|跋"
    r"|致[谢謝]|[结結][语語局尾]"
)
_NAMED_CHINESE = re.compile(
    rf"(?:(?P<front>{_FRONT_NAMES})|(?P<back>{_BACK_NAMES}))"
    rf"(?P<rest>\s*[（(]?\s*(?:之?{_NUMBER})?\s*[)）]?(?:[\s:：·—－\-《【（(之].{{0,40}})?)$"
)
_NAMED_WESTERN = re.compile(
    r"(?:(?P<front>prologue|preface|foreword|introduction|author['’]s note|dedication|prelude)"
    r"|(?P<back>epilogue|afterword|appendix|postscript|interlude|conclusion|acknowledg(?:e)?ments?|finale|coda))"
    r"(?P<rest>(?:\s+(?:\d{1,3}|[ivx]{1,5}|[a-h]))?(?:\s*[.:：—–-]\s*.{0,80})?)$",
    re.I,
)
_ROMAN_LINE = re.compile(r"(?P<number>[IVXLC]{1,9})(?:\.?|[.:]\s+(?P<rest>\S.{0,70}))$")
_LISTED = re.compile(
    rf"(?P<number>[0-9０-９]{{1,5}}|[（(]?[{_HAN_NUMBER}]{{1,6}}[)）]?)"
    r"(?P<rest>$|\s*[.、．:：]\s*\S.{0,40}$|\s+\S.{0,40}$)"
)

# Words that go on with a sentence instead of opening a title: "第二章的内容", "第三节课", "第一部电影".
_NO_TITLE = re.compile(
    r"[的里裡中是讲講说說写寫有也就我你他她它了着著过過到在和与與，,。；;！!？?、）)】》”’」』课課电電]"
)
_SENTENCE_MARKS = re.compile(r"[。；;]|[，,、：:]$")
_JOINED_SENTENCE_MARKS = re.compile(r"[：:“”「」]")

_DIGITS = {**{str(n): n for n in range(10)}, **{chr(0xFF10 + n): n for n in range(10)}}
_HAN_DIGITS = {
    **dict(zip("〇一二三四五六七八九", range(10), strict=True)),
    **dict(zip("零壹贰叁肆伍陆柒捌玖", range(10), strict=True)),
    **{"○": 0, "Ｏ": 0, "两": 2, "兩": 2, "貳": 2, "參": 3, "陸": 6},
}
_HAN_UNITS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000, "万": 10000, "萬": 10000}
_HAN_TENS = {"廿": 20, "卅": 30, "卌": 40}
_UP_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_WORDS = {
    **{word: value for value, word in enumerate(_UP_TO_NINETEEN.split())},
    **{word: 10 * value for value, word in enumerate(_TENS.split(), 2)},
    **{word: value for value, word in enumerate(_ORDINALS.split(), 1)},
}
_ROMAN = re.compile(r"(?=[IVXLCDM])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,4})$")
_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


@dataclass(frozen=True, slots=True)
class Heading:
    """A line that looks like a heading.

    Attributes:
        start: offset of the line's first character, indent included.
        end: offset behind the line's last character, its line end not included.
        title: the line without indent, Markdown signs and wrapping brackets.
        kind: ``"chapter"``, ``"section"``, ``"part"``, ``"front"``, ``"back"``, ``"listed"`` (a bare number),
            ``"roman"`` or ``"plain"`` (known to be a heading only because somebody says so).
        value: the printed number; None where there is none.
        is_weak: the title follows the number without a space, as a sentence might; of a listed one, there is no title.
        level: number of Markdown signs before it.
        volume: the part's heading, where chapter and part share the line.
    """

    start: int
    end: int
    title: str
    kind: str
    value: int | None = None
    is_weak: bool = False
    level: int = 0
    volume: str = ""


def find_headings(text: str) -> Iterator[Heading]:
    """Lines of ``text`` that look like headings, in order."""
    for match in _SHORT_LINES.finditer(text):
        line = match.group()
        if _OPENINGS.match(line):
            heading = classify(line, match.start())
            if heading is not None and (heading.kind != "plain" or heading.level):
                yield heading


def classify(line: str, start: int = 0) -> Heading | None:
    """What kind of heading a line is; None for one without any word. An unknown form is ``"plain"``."""
    title, level = _bare(line)
    if not any(character.isalnum() for character in title):
        return None
    end = start + len(line)
    kind, value, is_weak, volume = _judge(title, bool(level)) or ("plain", None, False, "")
    return Heading(start, end, " ".join(title.split()), kind, value, is_weak, level, volume)


def parse_number(written: str) -> int | None:
    """The value of digits, a Chinese or Roman numeral, or an English number word; None for anything else."""
    written = written.strip(" \t\u3000（）()")
    if written and all(character in _DIGITS for character in written):
        return int("".join(str(_DIGITS[character]) for character in written))
    if written and all(c in _HAN_DIGITS or c in _HAN_UNITS or c in _HAN_TENS for c in written):
        return _han_value(written)
    if _ROMAN.match(written.upper()):
        digits = [_ROMAN_DIGITS[character] for character in written.upper()]
        after = [*digits[1:], 0]
        return sum(-digit if digit < following else digit for digit, following in zip(digits, after, strict=True))
    words = re.split(r"[- ]", written.lower())
    if all(word in _WORDS for word in words) and (len(words) == 1 or _WORDS[words[0]] >= 20 > _WORDS[words[1]]):
        return sum(_WORDS[word] for word in words)
    return None


def _han_value(written: str) -> int:
    if all(character in _HAN_DIGITS for character in written):
        return int("".join(str(_HAN_DIGITS[character]) for character in written))
    total = section = digit = 0
    for character in written:
        if character in _HAN_DIGITS:
            digit = _HAN_DIGITS[character]
        elif character in _HAN_TENS:
            section, digit = section + _HAN_TENS[character], 0
        elif _HAN_UNITS[character] == 10000:
            total, section, digit = (total + section + digit) * 10000, 0, 0
        else:
            section, digit = section + (digit or 1) * _HAN_UNITS[character], 0
    return total + section + digit


def _bare(line: str) -> tuple[str, int]:
    """The line without what decorates it, and its Markdown level."""
    line = line.strip().strip("\ufeff\u200b").strip()
    level = 0
    markdown = _MARKDOWN.match(line)
    if markdown:
        level, line = len(markdown.group(1)), markdown.group(2)
    line = line.strip(_ORNAMENTS)
    for pair in _WRAPPINGS:
        if line.startswith(pair[0]) and line.endswith(pair[1]) and pair[0] not in line[1:]:
            line = line[1:-1].strip()
    # "【第三章】初见" and "《第三章》" wrap the number alone.
    if line[:1] in "【[《〈〔" and line:
        line = re.sub(r"^[【\[《〈〔]([^】\]》〉〕]{1,12})[】\]》〉〕]", r"\1 ", line)
    return line.strip(), level


def _judge(title: str, is_marked: bool) -> tuple[str, int | None, bool, str] | None:
    match = _CHINESE.match(title)
    if match:
        return _judge_chinese(match, is_marked)
    match = _SCROLL.match(title)
    if match and len(title) <= 40 and not _SENTENCE_MARKS.search(title):
        value = parse_number(match["number"]) if match["number"] else "上中下".index(match["part"][0]) + 1
        return "part", value, False, ""
    match = _WESTERN.match(title)
    if match:
        return _judge_western(match, is_marked)
    # "楔　子": two characters set wide.
    squeezed = "".join(title.split())
    match = _NAMED_CHINESE.match(squeezed if len(squeezed) <= 3 else title)
    if match and not _SENTENCE_MARKS.search(title):
        return "front" if match["front"] else "back", None, False, ""
    match = _NAMED_WESTERN.match(title)
    if match and title[0].isupper():
        return "front" if match["front"] else "back", None, False, ""
    match = _ROMAN_LINE.match(title)
    if match and (value := parse_number(match["number"])) is not None:
        return "roman", value, False, ""
    match = _LISTED.match(title)
    if match and not _SENTENCE_MARKS.search(match["rest"] or ""):
        value = parse_number(match["number"])
        return ("listed", value, not match["rest"], "") if value is not None else None
    return None


def _judge_chinese(match: re.Match[str], is_marked: bool) -> tuple[str, int | None, bool, str] | None:
    rest, unit = match["rest"], match["unit"]
    value = parse_number(match["number"])
    is_joined = bool(rest) and not rest[0].isspace() and rest[0] not in ":：.．·、—-–《【（([|_"
    if value is None or len(match.string) > 60:
        return None
    if not is_marked and (_SENTENCE_MARKS.search(rest) or (is_joined and _NO_TITLE.match(rest))):
        return None
    # "第三章他说：“好”": a title joined to its number that holds the marks of a sentence is one.
    if not is_marked and is_joined and _JOINED_SENTENCE_MARKS.search(rest):
        return None
    kind = "chapter" if unit in "回章话話幕折" else "section" if unit in "节節" else "part"
    return kind, value, is_joined, (match["volume"] or "").strip(" \u3000·:：")


def _judge_western(match: re.Match[str], is_marked: bool) -> tuple[str, int | None, bool, str] | None:
    rest, unit = match["rest"].strip(), match["unit"]
    value = parse_number(match["number"])
    if value is None or not (unit[0].isupper() or is_marked or not rest):
        return None
    is_separated = rest[:1] in (".", ":", "—", "–", "-", ")", "：", "|")
    # "Chapter 12 was the one" goes on in small letters; a title does not, nor does it end like a clause.
    looks_like_title = not rest or ((rest[0].isupper() or rest[0] in "“\"'‘(") and rest[-1] not in ".,;")
    if not (is_separated or is_marked or looks_like_title):
        return None
    kind = "part" if unit.lower() in ("book", "part", "volume", "vol.", "livre", "partie", "teil") else "chapter"
    return kind, value, False, ""
