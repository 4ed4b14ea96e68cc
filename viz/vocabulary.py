"""Words that can tell what passages are about, read out of a book's texts: nouns and names, never function words.

Chinese goes through jieba's dictionary, whose entries say what part of speech they are, with the book's own names
added so that they stay whole; English by its spaces, with names of several words joined. Nothing here counts.
"""

from __future__ import annotations

import logging
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import resources
from typing import Any

from viz.new_words import find_words

__all__ = ["telling_words"]

# Parts of speech of jieba's dictionary: nouns, people, places, organisations, other names, verbal nouns.
NOUNS = frozenset(["n", "nr", "nrt", "nrfg", "ns", "nt", "nz", "vn"])
# A found string that begins or ends with one of these is a phrase, not a name.
LOOSE_ENDS = frozenset(
    "的了着過过之其此是有不也在把被將将與与和于於以为為无無未又却卻都就才便再很更最已曾若并並即各全盡尽得地他她它我你您这這那哪谁"
    "誰甚么麼吗嗎呢吧啊呀哩曰道说說云问問答叫唤喚从從向往到对對让讓给給使令教等个個些点點里裡上下中前后後内外时時一二三四五六七八九"
    "十百千万萬两兩几幾数數每者而且但因所可要会會能想去来來出入起"
)
DETERMINERS = frozenset(["the", "a", "an", "his", "her", "my", "your", "their", "our", "its", "this", "every", "no"])
NOUN_SHARE = 0.3
"""A word that so often stands right after a determiner is a noun; adjectives and verbs mostly stand elsewhere."""
_TITLES = "Mr|Mrs|Ms|Miss|Dr|Lady|Sir|Lord|Madame|Monsieur|Colonel|Captain|Aunt|Uncle|King|Queen|Prince|Princess"
# A title belongs to the name after it: Miss Bingley is not Mr Bingley.
_LATIN = re.compile(rf"(?:\b(?:{_TITLES})\.?\s+(?=[A-Z]))?[^\W\d_]+(?:['\u2019\-][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?:;\u201c\u201d\"\n]\s*$")


def telling_words(texts: Sequence[str], language: str) -> Iterator[list[str]]:
    """The telling words of each text, in order, with repetitions.

    Args:
        language: ``"zh"`` for scripts without spaces, ``"en"`` for scripts with spaces.
    """
    cut = _chinese(texts) if language == "zh" else _spaced(texts)
    return map(cut, texts)


def _chinese(texts: Sequence[str]) -> Callable[[str], list[str]]:
    general = _general_words("zh")
    names = {
        word
        for word in find_words(texts)
        if word[0] not in LOOSE_ENDS and word[-1] not in LOOSE_ENDS and word not in general
    }
    cutter, tags = _jieba()
    if cutter is None:
        return partial(_whole_names, re.compile("|".join(sorted(map(re.escape, names), key=len, reverse=True)) or "$^"))
    for name in names:
        cutter.add_word(name)
    kept = {word for word, tag in tags.items() if tag in NOUNS and len(word) > 1} - general
    kept |= {name for name in names if name not in tags}

    def cut(text: str) -> list[str]:
        return [word for word in cutter.cut(text, HMM=False) if word in kept]

    return cut


def _general_words(language: str) -> frozenset[str]:
    """Nouns and verbs that stand in any story and tell nothing of this one."""
    text = resources.files("viz").joinpath("stopwords").joinpath(f"{language}.txt").read_text(encoding="utf-8")
    return frozenset(text.split())


def _whole_names(pattern: re.Pattern[str], text: str) -> list[str]:
    return pattern.findall(text)


def _jieba() -> tuple[Any, dict[str, str]]:
    """A cutter of our own and the part of speech of each word it knows; (None, {}) where jieba is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import jieba
    except ImportError:
        return None, {}
    jieba.setLogLevel(logging.ERROR)
    # jieba would keep its dictionary in the folder that all users share, and read it from there unchecked.
    with tempfile.TemporaryDirectory() as folder:
        cutter = jieba.Tokenizer()
        cutter.tmp_dir = folder
        cutter.initialize()
    with cutter.get_dict_file() as lines:
        entries = [line.decode("utf-8").split() for line in lines]
    return cutter, {entry[0]: entry[2] for entry in entries if len(entry) == 3}


def _spaced(texts: Sequence[str]) -> Callable[[str], list[str]]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    stop = ENGLISH_STOP_WORDS | _general_words("en")
    upper, lower, led, pairs = Counter[str](), Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    for text in texts:
        last = before = ""
        for word, is_first, is_joined in _tokens(text):
            led[word] += is_joined and before in DETERMINERS
            before = word.lower()
            if word[0].isupper():
                upper[word] += not is_first
                if is_joined and last:
                    pairs[last, word] += 1
                last = word
            else:
                lower[word] += 1
                last = ""
    names = {word for word, count in upper.items() if count > 2 * lower[word.lower()] and word.lower() not in stop}
    titled = {word for word in names if " " in word}
    # Of a language without our determiners nothing is known but its spaces.
    is_english = lower["the"] * 100 > sum(lower.values())
    nouns = {word for word, count in lower.items() if not is_english or led[word] >= NOUN_SHARE * count}
    joined = {
        pair for pair, count in pairs.items()
        if set(pair) <= names - titled and count >= 3 and 3 * count >= min(upper[pair[0]], upper[pair[1]])
    }  # fmt: skip

    def cut(text: str) -> list[str]:
        found: list[str] = []
        last = ""
        for word, _, is_joined in _tokens(text):
            if word in names:
                if is_joined and (last, word) in joined:
                    found[-1] += f" {word}"
                else:
                    found.append(word)
                last = word
                continue
            last, common = "", word.lower()
            if common in nouns and len(common) > 3 and common not in stop and "'" not in common:
                found.append(common)
        return found

    return cut


def _tokens(text: str) -> Iterator[tuple[str, bool, bool]]:
    """Each word, whether it begins a sentence, and whether only a space parts it from the word before."""
    end = 0
    for match in _LATIN.finditer(text):
        between = text[end : match.start()]
        yield _plain(match[0]), not end or bool(_SENTENCE_END.search(between)), between == " "
        end = match.end()


def _plain(word: str) -> str:
    """Without a possessive ending and with plain marks; a title keeps no dot."""
    word = " ".join(word.replace("\u2019", "'").replace(".", "").split())
    return word[:-2] if word.endswith("'s") else word
