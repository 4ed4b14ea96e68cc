"""Turn the bytes of a text file into characters, with the evidence for the choice.

A byte-order mark decides, then UTF-8, which rejects nearly every text that is not UTF-8. The other encodings accept
each other's bytes as nonsense, so the winner is the one whose characters are common in written language. Scores may
look at samples; the decoding itself always covers every byte and never drops one. Nothing here opens a file.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from core.data.common_characters import CJK_PUNCTUATION, HAN, HANGUL, WESTERN_LETTERS, WESTERN_PUNCTUATION
from core.data.formats import refuse_binary
from core.errors import SettingsError, UndecodableText, UnsupportedFormat

__all__ = ["Decoded", "decode"]

_BOMS = (
    # UTF-32's mark begins with that of UTF-16, so it goes first.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)

# Each family is scored once and then decoded by its first member that accepts every byte.
_FAMILIES: dict[str, tuple[str, ...]] = {
    "gb18030": ("gb18030",),
    "big5": ("big5", "cp950", "big5hkscs"),
    "cp932": ("cp932", "shift_jisx0213"),
    "euc_jp": ("euc_jp", "euc_jisx0213"),
    "cp949": ("cp949",),
}
_UTF16 = ("utf-16-le", "utf-16-be")

_SAMPLE_BYTES, _SAMPLES = 8192, 32
_ENOUGH_SCORE = 0.3
_WHITE_CONTROLS = "\t\n\r\x0b\x0c\x1a\x1c\x1d\x1e\x1f\x85"
_CONTROLS = re.compile("[\x01-\x08\x0e-\x19\x1b\x7f]")
_MOST_CONTROLS = 0.002

_HIGH_BYTES = re.compile(rb"[\x80-\xff]")
_HIGH_RUNS = re.compile(rb"[\x80-\xff]+")
_UTF8_SEQUENCES = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_CUT_SEQUENCE = re.compile(rb"\A[\x80-\xbf]{1,3}|[\xc2-\xf4][\x80-\xbf]{0,2}\Z")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text, the encoding it was decoded with, and one sentence on why."""

    text: str
    encoding: str
    evidence: str


def decode(data: bytes, *, encoding: str | None = None, source: str = "text") -> Decoded:
    """The characters of ``data``, without a byte-order mark.

    Args:
        encoding: the reader's word for it, taken strictly; None looks for evidence.
        source: how error messages name the bytes.

    Raises:
        SettingsError: no encoding is called that.
        UndecodableText: nothing plausible decodes every byte.
        UnsupportedFormat: the bytes are not text.
    """
    refuse_binary(data, source)
    if encoding is not None:
        return _checked(_decode_as_told(data, encoding, source), source)
    for mark, name in _BOMS:
        if data.startswith(mark) and not (name == "utf-32-le" and len(data) % 4):
            text = _strict(data[len(mark) :], name, source, skipped_bytes=len(mark))
            shown = "utf-8-sig" if name == "utf-8" else name
            return _checked(Decoded(text, shown, f"the file begins with the byte-order mark of {name.upper()}"), source)
    if b"\0" in data:
        return _checked(_decode_wide(data, source), source)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return _checked(_decode_by_score(data, wrong, source), source)
    evidence = (
        "every byte is ASCII"
        if text.isascii()
        else "every byte fits UTF-8, as text in other encodings hardly ever does"
    )
    return _checked(Decoded(text, "utf-8", evidence), source)


def _decode_as_told(data: bytes, encoding: str, source: str) -> Decoded:
    try:
        codec = codecs.lookup(encoding)
    except (LookupError, ValueError) as unknown:
        raise SettingsError(
            f"no encoding is called {encoding!r}; wanted a name such as utf-8, gb18030, big5 or utf-16"
        ) from unknown
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as wrong:
        raise UndecodableText(source, [codec.name], wrong.start) from wrong
    except (UnicodeError, LookupError) as wrong:
        # Codecs such as base64 turn bytes into bytes, and idna and its like speak of labels, not offsets.
        raise SettingsError(f"{encoding!r} does not decode this file ({wrong}); wanted a text encoding") from wrong
    return Decoded(text.removeprefix("\ufeff"), codec.name, f"the reader named {codec.name}")


def _checked(decoded: Decoded, source: str) -> Decoded:
    """The same, if it can be a text: no NUL, no half character, hardly any control character."""
    text = decoded.text
    if "\0" in text:
        raise UnsupportedFormat(
            f"{source} holds a NUL at character {text.index(chr(0))} when read as {decoded.encoding}, which no text "
            "does; wanted a text, Markdown or EPUB file: check the file, or name its encoding with --encoding"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as half:
        raise UndecodableText(f"{source} (half a character)", [decoded.encoding], half.start) from half
    controls = len(_CONTROLS.findall(text))
    if controls > max(4, _MOST_CONTROLS * len(text)):
        raise UnsupportedFormat(
            f"{source} holds {controls:,} control characters when read as {decoded.encoding}, as binary files do; "
            "wanted a text, Markdown or EPUB file: export the book as text, or name its encoding with --encoding"
        )
    return decoded


def _strict(data: bytes, encoding: str, source: str, *, skipped_bytes: int = 0) -> str:
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as wrong:
        raise UndecodableText(source, [encoding], wrong.start + skipped_bytes) from wrong


def _decode_wide(data: bytes, source: str) -> Decoded:
    """Text with NULs among its bytes: UTF-16 or UTF-32 without a mark, or no text at all."""
    samples = _samples(data, align_to_lines=False)
    scores = {name: _wide_score(samples, name) for name in (*_UTF16, "utf-32-le", "utf-32-be")}
    best = max(scores, key=lambda name: scores[name])
    if scores[best] < 0.6:
        raise UnsupportedFormat(
            f"{source} holds a NUL at byte {data.index(0)}, which no text does, and is not UTF-16 either; wanted a "
            "text, Markdown or EPUB file: check the file, or export the book as text or EPUB"
        )
    share = f"{scores[best]:.0%} of the sampled characters are common ones"
    return Decoded(_strict(data, best, source), best, f"bytes come in {best.upper()} order: {share}")


def _decode_by_score(data: bytes, not_utf8: UnicodeDecodeError, source: str) -> Decoded:
    samples = _samples(data, align_to_lines=True)
    if _is_damaged_utf8(samples):
        is_cut = not_utf8.end >= len(data) and "unexpected end" in not_utf8.reason
        what = "cut off inside its last character" if is_cut else "damaged in a few places"
        raise UndecodableText(f"{source} (UTF-8 {what}; get an intact copy)", ["utf-8"], not_utf8.start)
    scores = {name: _double_byte_score(samples, name) for name in _FAMILIES}
    scores["cp1252"] = _western_score(samples)
    if len(data) >= 4:
        scores |= {name: _wide_score(samples, name) for name in _UTF16}
    ranked = sorted(scores, key=lambda name: -scores[name])
    best, second = ranked[:2]
    if scores[best] < _ENOUGH_SCORE:
        raise UndecodableText(source, ["utf-8", *ranked[:3]], not_utf8.start)
    first_failure: UnicodeDecodeError | None = None
    for name in _FAMILIES.get(best, (best,)):
        try:
            text = data.decode(name)
        except UnicodeDecodeError as wrong:
            first_failure = first_failure or wrong
            continue
        evidence = (
            f"not UTF-8 (byte {not_utf8.start}); read as {name}, {scores[best]:.0%} of the characters beyond ASCII "
            f"are common ones, against {max(0.0, scores[second]):.0%} for {second}"
        )
        return Decoded(text, name, evidence)
    assert first_failure is not None
    raise UndecodableText(source, _FAMILIES.get(best, (best,)), first_failure.start) from first_failure


def _samples(data: bytes, *, align_to_lines: bool) -> list[bytes]:
    """Parts of ``data`` from all over it, each beginning where a character does."""
    if len(data) <= _SAMPLE_BYTES * _SAMPLES:
        return [data]
    samples = []
    for at in range(0, len(data) - _SAMPLE_BYTES, len(data) // _SAMPLES):
        # UTF-16 and UTF-32 keep their step; a line feed is never the second byte of a double-byte character.
        at -= at % 4
        feed = data.find(b"\n", at, at + _SAMPLE_BYTES // 2) if align_to_lines and at else -1
        start = feed + 1 if feed >= 0 else at
        samples.append(data[start : start + _SAMPLE_BYTES])
    return samples


def _is_damaged_utf8(samples: list[bytes]) -> bool:
    """Whether nearly all bytes beyond ASCII form UTF-8 sequences."""
    sequences = strays = 0
    for sample in samples:
        whole = _CUT_SEQUENCE.sub(b"", sample) if len(samples) > 1 else sample
        found = _UTF8_SEQUENCES.findall(whole)
        sequences += len(found)
        strays += len(_HIGH_BYTES.findall(whole)) - sum(map(len, found))
    return sequences > 4 * strays


def _score(samples: list[bytes], encoding: str, weigh: Callable[[str], float], *, beyond_ascii: bool) -> float:
    counts: Counter[str] = Counter()
    for sample in samples:
        counts.update(sample.decode(encoding, errors="replace"))
    total = weight = 0.0
    for character, count in counts.items():
        if beyond_ascii and character < "\x80":
            continue
        total += count
        weight += count * weigh(character)
    return weight / total if total else 0.0


def _double_byte_score(samples: list[bytes], encoding: str) -> float:
    kana = 1.0 if encoding in ("cp932", "euc_jp") else 0.3
    return _score(samples, encoding, lambda character: _weight(character, kana), beyond_ascii=True)


def _wide_score(samples: list[bytes], encoding: str) -> float:
    def weigh(character: str) -> float:
        if character < "\x80":
            return 1.0 if character.isprintable() or character in _WHITE_CONTROLS else -3.0
        return _weight(character, 1.0)

    even = [sample[: len(sample) - len(sample) % 4] or sample for sample in samples]
    return _score(even, encoding, weigh, beyond_ascii=False)


def _weight(character: str, kana: float) -> float:
    if character in HAN or character in CJK_PUNCTUATION:
        return kana if "\u3040" <= character <= "\u30ff" else 1.0
    if character in WESTERN_PUNCTUATION or character in WESTERN_LETTERS or character in HANGUL:
        return 1.0
    if "\u30a1" <= character <= "\u30fa":
        return kana
    if "\u4e00" <= character <= "\u9fff" or "\uff01" <= character <= "\uff5e":
        return 0.0
    if "\uac00" <= character <= "\ud7a3":
        return 0.2
    if character == "\ufffd" or character < "\xa0" or "\ue000" <= character <= "\uf8ff":
        return -3.0
    return -0.5


def _western_score(samples: list[bytes]) -> float:
    """How much the bytes look like single letters and quotation marks among ASCII words.

    Double-byte characters come in runs of high bytes; an é or a curly quote stands alone or beside one other.
    """
    lone = 0
    high = 0
    for sample in samples:
        for run in _HIGH_RUNS.findall(sample):
            high += len(run)
            lone += len(run) if len(run) <= 2 else 0
    if not high:
        return 0.0

    def weigh(character: str) -> float:
        if character in WESTERN_LETTERS or character in WESTERN_PUNCTUATION:
            return 1.0
        return -3.0 if character == "\ufffd" else -1.0

    plausible = _score(samples, "cp1252", weigh, beyond_ascii=True)
    return min(plausible, plausible * lone / high) * 0.9
