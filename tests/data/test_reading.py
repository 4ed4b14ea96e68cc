"""Reading files and uploads: titles, languages, normalised text, and every refusal."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.normalise import normalise
from core.data.reading import novel_from_bytes, read_novel
from core.errors import BadBook, BookTooLarge, EmptyBook, SettingsError, UnsupportedFormat

STORY = "第一章 雨\n\n他走进屋里，看见桌上放着一封信。\n\n第二章 雪\n\n她没有回答。\n"


def test_a_book_of_the_corpus_is_read_as_it_is(corpus):
    path = corpus("xiyouji")
    novel = read_novel(path)
    assert novel.text == path.read_text("utf-8")
    assert (novel.title, novel.language, novel.encoding, len(novel.chapters)) == ("xiyouji", "zh", "utf-8", 100)
    assert novel.id == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert novel.chapter_of(novel.text.index("一万三千五百斤")).number == 3
    assert read_novel(corpus("pride_and_prejudice")).language == "en"


def test_the_same_text_in_two_encodings_is_the_same_book(tmp_path):
    (tmp_path / "a.txt").write_bytes(STORY.encode("gb18030"))
    (tmp_path / "b.txt").write_bytes(STORY.replace("\n", "\r\n").encode("utf-8-sig"))
    first, second = read_novel(tmp_path / "a.txt"), read_novel(tmp_path / "b.txt")
    assert (first.id, first.text, first.chapters) == (second.id, second.text, second.chapters)
    assert (first.encoding, second.encoding) == ("gb18030", "utf-8-sig")


def test_the_title_is_given_or_found_or_the_files_name():
    def title(text, **options):
        return novel_from_bytes(text.encode(), name="folder/dream.txt", **options).title

    assert title(STORY) == "dream"
    assert title(STORY, title=" 红楼梦 ") == "红楼梦"
    assert title("《雪国》\n作者：某\n" + STORY) == "雪国"
    assert title("书名：《雪国》全集\n" + STORY) == "雪国"
    assert title("# Snow Country\n\n## The Train\n\nIt was dark.\n\n## The Inn\n\nIt was cold.\n") == "Snow Country"
    assert title("他读《雪国》。\n" + STORY) == "dream"


def test_a_markdown_file_keeps_its_text_and_its_headings_are_chapters(tmp_path):
    text = "# 雪\n\n## 第一章 甲\n\n**他**来了。\n\n## 第二章 乙\n\n她走了。\n"
    (tmp_path / "a.md").write_text(text, "utf-8")
    novel = read_novel(tmp_path / "a.md")
    assert novel.text == text
    assert [chapter.title for chapter in novel.chapters] == ["第一章 甲", "第二章 乙"]


def test_the_readers_encoding_is_used(tmp_path):
    data = STORY.encode("gb18030")
    assert novel_from_bytes(data, name="a.txt", encoding="gbk").evidence == "the reader named gbk"
    with pytest.raises(SettingsError):
        novel_from_bytes(data, name="a.txt", encoding="klingon")


@pytest.mark.parametrize(
    ("name", "data", "error", "said"),
    [
        ("a.txt", b"", EmptyBook, "is empty"),
        ("a.txt", " \r\n\u3000\ufeff ".encode(), BadBook, ""),
        ("a.txt", " \r\n\u3000".encode(), EmptyBook, "nothing but white space"),
        ("a.pdf", b"abc", UnsupportedFormat, "a PDF"),
        ("a.mobi", b"abc", UnsupportedFormat, "convert it to EPUB"),
        ("a.azw3", b"abc", UnsupportedFormat, "AZW3"),
        ("A.DOCX", b"abc", UnsupportedFormat, "Word"),
        ("a.txt", b"%PDF-1.4", UnsupportedFormat, "a PDF"),
        ("a.txt", b"\n<!DOCTYPE html><html>", UnsupportedFormat, "a web page"),
        ("a.epub", b"just text", UnsupportedFormat, "damaged EPUB"),
        ("a.txt", b"PK\x03\x04 broken", UnsupportedFormat, "damaged EPUB"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence_with_the_files_name(tmp_path, name, data, error, said):
    if said:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(error, match=said) as caught:
            read_novel(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(BadBook, match="does not exist"):
        read_novel(tmp_path / "no.txt")
    with pytest.raises(BadBook, match="is a folder"):
        read_novel(tmp_path)
    with pytest.raises(BadBook):
        read_novel("a\0b.txt")


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.truncate(300 * 2**20)
    with pytest.raises(BookTooLarge, match=r"300\.0 MB, more than the limit of 200\.0 MB"):
        read_novel(path)
    with pytest.raises(BookTooLarge):
        novel_from_bytes(b"abc" * 10, name="a.txt", max_bytes=20)


@given(st.text())
def test_normalised_text_differs_in_line_ends_and_the_leading_mark_only(text):
    odd = "\r\x0b\x0c\x85\u2028\u2029"
    clean = "".join(character for character in text if character not in odd).lstrip("\ufeff")
    assert normalise(clean) == clean
    assert not set(normalise(text)) & set(odd)
    assert normalise("a\r\nb\rc\u2028d\x85e") == "a\nb\nc\nd\ne"


@given(st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text))
def test_any_readable_text_gives_chapters_that_tile_it(text):
    try:
        novel = novel_from_bytes(text.encode("utf-8"), name="a.txt")
    except (UnsupportedFormat, EmptyBook):
        return
    assert "".join(chapter.span.of(novel.text) for chapter in novel.chapters) == novel.text
