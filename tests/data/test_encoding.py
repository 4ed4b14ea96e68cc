"""Decoding: every encoding comes back as it went in, and nothing else is ever guessed silently."""

from __future__ import annotations

import codecs
import time

import pytest

from core.data.encoding import decode
from core.errors import SettingsError, UndecodableText, UnsupportedFormat

TRADITIONAL = (
    "話說天下大勢，分久必合，合久必分。週末七國分爭，併入於秦。及秦滅之後，楚、漢分爭，又併入於漢。漢朝自高祖斬白蛇而起義，"
    "一統天下。後來光武中興，傳至獻帝，遂分為三國。\n「你來了？」他問道：「我還沒有吃飯，你呢？」\n"
)
MODERN = "今天天气很好，我们一起去公园散步。“你怎么来了？”她笑着问道。他没有回答，只是看着远处的山。\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。泣いていた事だけは記憶している。\n"
KOREAN = (
    "그는 아무 말도 하지 않고 그녀를 바라보았다. 밤은 깊었고 바람이 불었다. 사람들은 모두 집으로 돌아가고 있었다.\n"
)
FRENCH = "« Longtemps, je me suis couché de bonne heure. » Parfois, à peine ma bougie éteinte, mes yeux se fermaient.\n"
ENGLISH = "“It is a truth universally acknowledged,” he said — and the café was dark. ‘Don’t,’ she answered.\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030"])
def test_a_real_chapter_survives_every_unicode_encoding_and_gb18030(real_chapter, encoding):
    assert decode(real_chapter.encode(encoding)).text == real_chapter


@pytest.mark.parametrize("mark", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE])
def test_a_byte_order_mark_is_believed_and_not_part_of_the_text(mark):
    name = {2: "utf-16", 4: "utf-32"}[len(mark)] + ("-le" if mark[0] == 0xFF else "-be")
    decoded = decode(mark + MODERN.encode(name))
    assert (decoded.text, decoded.encoding) == (MODERN, name)


def test_gbk_is_read_as_gb18030_which_contains_it(real_chapter):
    plain = real_chapter.encode("gbk", "ignore").decode("gbk")
    decoded = decode(plain.encode("gbk"))
    assert (decoded.text, decoded.encoding) == (plain, "gb18030")


@pytest.mark.parametrize("repeats", [1, 400, 4000])
@pytest.mark.parametrize("encoding", ["big5", "cp950", "big5hkscs", "gb18030", "utf-16-le", "utf-16-be"])
def test_traditional_text_survives_in_both_scripts_encodings(encoding, repeats):
    text = TRADITIONAL * repeats
    decoded = decode(text.encode(encoding))
    assert decoded.text == text
    assert decoded.encoding.startswith("big5" if encoding in ("big5", "cp950", "big5hkscs") else encoding)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (MODERN, "gb18030"),
        (JAPANESE, "cp932"),
        (JAPANESE, "euc_jp"),
        (KOREAN, "cp949"),
        (FRENCH, "cp1252"),
        (ENGLISH, "cp1252"),
        ("café ", "cp1252"),
        ("你好", "gb18030"),
        (MODERN[:12], "utf-16-le"),
        (MODERN[:12], "utf-16-be"),
    ],
)
@pytest.mark.parametrize("repeats", [1, 3000])
def test_a_novel_in_another_legacy_encoding_is_told_by_its_common_characters(text, encoding, repeats):
    decoded = decode((text * repeats).encode(encoding))
    assert (decoded.text, decoded.encoding) == (text * repeats, encoding)


def test_rare_characters_of_four_bytes_survive_gb18030():
    # The characters RAGFlow loses by guessing GB2312 from the first kilobyte (findings_web.md).
    text = MODERN * 40 + "㐀，𠀀，瞭望，镕，喆，堃，龘。\n"
    assert decode(text.encode("gb18030")).text == text


def test_a_few_chinese_words_in_an_english_text_are_read_as_chinese():
    text = "The word 你好 means hello, and 谢谢 means thanks. He said so, and left the room.\n" * 50
    assert decode(text.encode("gb18030")).text == text


def test_mostly_english_text_with_curly_quotes_is_windows_1252(corpus):
    text = corpus("pride_and_prejudice").read_text("utf-8").replace("\u2033", "")
    decoded = decode(text.encode("cp1252"))
    assert (decoded.text, decoded.encoding) == (text, "cp1252")


@pytest.mark.parametrize("cut_bytes", [1, 2])
def test_utf8_cut_inside_its_last_character_is_an_error_that_names_the_place(real_chapter, cut_bytes):
    data = real_chapter.rstrip().encode()[:-cut_bytes]
    with pytest.raises(UndecodableText, match="cut off inside its last character") as caught:
        decode(data, source="book.txt")
    assert caught.value.offset == len(data) - (3 - cut_bytes)


@pytest.mark.parametrize("repeats", [1, 60])
def test_a_stray_byte_does_not_turn_utf8_into_nonsense(real_chapter, repeats):
    before = real_chapter.encode() * repeats
    with pytest.raises(UndecodableText, match="damaged in a few places") as caught:
        decode(before + b"\xff" + before)
    assert caught.value.offset == len(before)


@pytest.mark.parametrize(("text", "encoding"), [(MODERN, "gb18030"), (TRADITIONAL, "big5"), (MODERN, "utf-16-le")])
def test_a_legacy_text_with_damage_is_an_error_in_its_own_encoding(text, encoding):
    with pytest.raises(UndecodableText) as caught:
        decode((text * 30).rstrip().encode(encoding)[:-1])
    assert caught.value.tried[0] == encoding


def test_letters_of_an_encoding_nobody_tried_are_refused_rather_than_guessed():
    with pytest.raises(UndecodableText, match="--encoding"):
        decode("Он сказал, что это было хорошо, и ничего не ответил.".encode("cp1251"))


def test_the_readers_word_is_taken_strictly():
    assert decode("Он сказал".encode("cp1251"), encoding="windows-1251").text == "Он сказал"
    with pytest.raises(UndecodableText) as caught:
        decode(b"abc\xff", encoding="utf-8")
    assert caught.value.offset == 3
    assert decode(codecs.BOM_UTF8 + b"abc", encoding="utf-8").text == "abc"


@pytest.mark.parametrize("name", ["klingon", "base64", "rot13", "hex", "bad\0name", "zlib", ""])
def test_a_name_that_is_no_text_encoding_is_a_settings_error(name):
    with pytest.raises(SettingsError, match="encoding"):
        decode(b"abc", encoding=name)


def test_half_characters_never_come_out():
    with pytest.raises(UndecodableText, match="half a character"):
        decode(b"a\\ud800b", encoding="unicode_escape")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
        (b"\0" * 60 + b"BOOKMOBI" + b"\0" * 20, "MOBI or AZW"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a PNG image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image"),
        (b"MZ\x90\0\3\0", "a Windows program"),
        (b"PK\x03\x04" + b"\0" * 40, "a damaged ZIP archive"),
        (b"Rar!\x1a\x07\0", "a RAR archive"),
        (b"{\\rtf1 hello}", "Rich Text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Word document"),
        (b"\0\1\2\3" * 100, "a NUL at byte 0"),
        (b"once upon a \0 time", "a NUL at byte 12"),
        (bytes(range(1, 32)) * 40, "control characters"),
    ],
)
def test_what_is_not_text_is_named_with_what_was_wanted_and_a_cure(data, found):
    with pytest.raises(UnsupportedFormat, match="wanted a text, Markdown or EPUB file") as caught:
        decode(data, source="book.txt")
    assert found in str(caught.value)
    assert str(caught.value).startswith("book.txt ")
    assert ";" in str(caught.value) or ":" in str(caught.value)


@pytest.mark.parametrize("text", ["MZ was her name.", "BZh", "ID3 is a tag", "TPZ", "OggS", "", "a", "第"])
def test_a_text_that_begins_like_a_binary_file_is_still_text(text):
    assert decode(text.encode()).text == text


def test_evidence_is_one_sentence_with_the_share_of_common_characters(real_chapter):
    evidence = decode(real_chapter.encode("gb18030")).evidence
    assert "gb18030" in evidence and "%" in evidence and "\n" not in evidence


def test_a_whole_book_decodes_within_a_second(corpus):
    data = corpus("xiyouji").read_text("utf-8").encode("gb18030")
    started = time.perf_counter()
    decode(data)
    assert time.perf_counter() - started < 1  # 0.25 s on one busy core
