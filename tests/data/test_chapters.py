"""Chapters: what a heading is, what it is not, and how numbers make a fence."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data.chapters import split_chapters
from core.data.headings import classify, parse_number

BODY = "他走进屋里，看见桌上放着一封信。\n“是谁写的？”她问道。窗外的雨还在下，没有人回答。\n" * 8
PROSE = "It was a dark night, and nobody was at home. “Who is there?” she asked, but no one answered her.\n" * 12


def book(*headings, body=BODY):
    return "".join(f"{heading}\n\n{body}\n" for heading in headings)


def numbers(text, language="zh"):
    return [chapter.number for chapter in split_chapters(text, language)]


def titles(text, language="zh"):
    return [chapter.title for chapter in split_chapters(text, language)]


def tiles(text, chapters):
    edges = [0]
    for chapter in chapters:
        assert chapter.span.start == edges[-1]
        edges.append(chapter.span.end)
    return edges[-1] == len(text) and all(a.number < b.number for a, b in pairwise(chapters))


@pytest.mark.parametrize(
    ("name", "language", "count"),
    [("xiyouji", "zh", 100), ("sanguoyanyi", "zh", 120), ("pride_and_prejudice", "en", 61)],
)
def test_the_corpus_has_the_chapters_its_readme_counts(corpus, name, language, count):
    text = corpus(name).read_text("utf-8")
    chapters = split_chapters(text, language)
    assert [chapter.number for chapter in chapters] == list(range(1, count + 1))
    assert tiles(text, chapters)


def test_the_appendix_behind_chapter_8_of_xiyouji_is_part_of_chapter_8(corpus):
    text = corpus("xiyouji").read_text("utf-8")
    at = text.index("附录 陈光蕊赴任逢灾")
    holder = next(c for c in split_chapters(text, "zh") if c.span.start <= at < c.span.end)
    assert holder.number == 8


@pytest.mark.parametrize(
    ("line", "kind", "value"),
    [
        ("第一回 宴桃园豪杰三结义", "chapter", 1),
        ("　　第十二章　风起", "chapter", 12),
        ("第 12 章", "chapter", 12),
        ("第１２章 全角", "chapter", 12),
        ("第一百零八回", "chapter", 108),
        ("第廿三回 旧法", "chapter", 23),
        ("第二〇二章", "chapter", 202),
        ("第一千两百章", "chapter", 1200),
        ("## 第三章 标题", "chapter", 3),
        ("【第四章】初见", "chapter", 4),
        ("《第五章 归来》", "chapter", 5),
        ("正文 第六章 启程", "chapter", 6),
        ("第一卷 风云 第七章 少年", "chapter", 7),
        ("第8话", "chapter", 8),
        ("第十二章 你是谁？", "chapter", 12),
        ("第三节 起因", "section", 3),
        ("第一卷 青云直上", "part", 1),
        ("第二部分 归途", "part", 2),
        ("卷一", "part", 1),
        ("卷之十二 列传", "part", 12),
        ("上卷", "part", 1),
        ("楔子", "front", None),
        ("　楔　子", "front", None),
        ("Vol. 2", "part", 2),
        ("序章：起源", "front", None),
        ("引言", "front", None),
        ("番外（一）", "back", None),
        ("番外篇 后来", "back", None),
        ("附录", "back", None),
        ("后记", "back", None),
        ("尾声", "back", None),
        ("完本感言", "back", None),
        ("Chapter 12", "chapter", 12),
        ("CHAPTER XII. The Storm", "chapter", 12),
        ("Chapter Twenty-Three: Home", "chapter", 23),
        ("CHAPTER THE FIRST", "chapter", 1),
        ("Chapter 3 The Boy Who Lived", "chapter", 3),
        ("Book One", "part", 1),
        ("PART II", "part", 2),
        ("Prologue", "front", None),
        ("EPILOGUE", "back", None),
        ("Appendix A", "back", None),
        ("IV. The Title", "roman", 4),
        ("XIV", "roman", 14),
        ("001 标题", "listed", 1),
        ("12、夜行", "listed", 12),
        ("1. The Door", "listed", 1),
    ],
)
def test_forms_of_headings_are_recognised(line, kind, value):
    heading = classify(line)
    assert (heading.kind, heading.value) == (kind, value)


@pytest.mark.parametrize(
    "line",
    [
        "第二章的内容我忘了。",
        "第一回，他没有来。",
        "第三节课上，他睡着了",
        "第一部电影",
        "第二回他再也没有说过话。",
        "“第二章”",
        "第二天早上",
        "“Chapter 7 is my favourite,” he said.",
        "Chapter 12 was the one I liked best.",
        "Chapter 7, he said",
        "chapter by chapter",
        "Part of the house was dark.",
        "Introduction to the family was made.",
        "prologue",
        "序幕拉开了，大家都来了。",
        "后记得早点来",
        "I went home.",
    ],
)
def test_sentences_are_not_headings(line):
    assert classify(line).kind == "plain"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("十", 10),
        ("二十一", 21),
        ("一百二十", 120),
        ("一百零五", 105),
        ("三千零四十", 3040),
        ("一万二千", 12000),
        ("卅六", 36),
        ("贰拾", 20),
        ("一二三", 123),
        ("０７", 7),
        ("xiv", 14),
        ("MCMXC", 1990),
        ("forty-two", 42),
    ],
)
def test_numerals_have_their_value(written, value):
    assert parse_number(written) == value


def test_a_prologue_before_chapter_1_is_chapter_0_so_that_printed_numbers_hold():
    text = book("楔子", "第一章 甲", "第二章 乙", "第三章 丙", "尾声", "后记")
    assert numbers(text) == [0, 1, 2, 3, 4, 5]
    assert titles(text)[0] == "楔子" and titles(text)[-1] == "后记"


def test_a_title_page_before_chapter_1_belongs_to_it():
    text = "《书名》\n作者：某人\n\n" + book("第一章", "第二章")
    assert numbers(text) == [1, 2]
    assert split_chapters(text, "zh")[0].span.start == 0


def test_a_long_preface_without_heading_is_chapter_0():
    assert numbers(BODY * 2 + book("第一章", "第二章")) == [0, 1, 2]


def test_printed_numbers_are_kept_with_gaps_and_from_any_start():
    assert numbers(book("第五十章", "第五十一章", "第五十三章")) == [50, 51, 53]


def test_a_mistyped_number_gets_the_free_one_between_its_neighbours():
    headings = [f"第{n}章" for n in range(1, 31)]
    headings[14] = "第1005章"
    assert numbers(book(*headings)) == list(range(1, 31))


def test_a_number_printed_twice_for_two_titles_is_mended_where_the_next_shows_the_slip():
    assert numbers(book("第一章 甲", "第二章 乙", "第二章 丙", "第四章 丁", "第五章 戊")) == [1, 2, 3, 4, 5]


def test_halves_of_a_chapter_are_one_chapter():
    assert numbers(book("第一章（上）", "第一章（下）", "第二章（上）", "第二章（下）")) == [1, 2]


def test_titles_joined_to_their_numbers_are_headings_where_all_are_like_that():
    assert numbers(book("第一章风起，云涌", "第二章谁来了？", "第三章雨落")) == [1, 2, 3]


def test_numbers_that_begin_anew_in_each_volume_are_replaced_by_reading_order():
    text = book("第一卷 春\n第一章 甲", "第二章 乙", "尾声", "第二卷 夏\n第一章 丙", "第二章 丁", "第三章 戊")
    assert numbers(text) == [1, 2, 3, 4, 5, 6]
    assert titles(text)[3] == "第二卷 夏 · 第一章 丙"
    assert titles(text)[4] == "第二卷 夏 · 第二章 丁"


def test_a_short_last_volume_is_not_taken_for_a_slip():
    headings = [f"第{n}章" for n in range(1, 41)]
    text = "第一卷\n" + book(*headings) + "第二卷\n" + book("第1章")
    assert numbers(text) == list(range(1, 42))


def test_a_volume_heading_belongs_to_the_chapter_behind_it():
    text = book("第一章", "第二章") + "第二卷 秋\n\n" + book("第三章 丙", "第四章")
    third = split_chapters(text, "zh")[2]
    assert third.span.of(text).startswith("第二卷 秋")
    assert third.title == "第二卷 秋 · 第三章 丙"
    assert numbers(text) == [1, 2, 3, 4]


def test_an_interlude_in_the_middle_joins_the_chapter_before_it():
    assert numbers(book("第一章", "第二章", "番外一", "第三章")) == [1, 2, 3]


def test_a_table_of_contents_makes_no_chapters():
    names = [f"第{n}章 标题{n}" for n in range(1, 21)]
    text = "书名\n目录\n" + "\n".join(names) + "\n\n" + book(*names)
    chapters = split_chapters(text, "zh")
    assert [chapter.number for chapter in chapters] == list(range(1, 21))
    assert min(len(chapter.span) for chapter in chapters) > len(BODY)
    contents = "CONTENTS\n" + "\n".join(f"Chapter {n}. Name {n} .... {n * 7}" for n in range(1, 9)) + "\n\n"
    english = contents + book(*(f"Chapter {n}. Name {n}" for n in range(1, 9)), body=PROSE)
    assert numbers(english, "en") == list(range(1, 9))


def test_a_table_of_contents_with_a_preface_behind_it_keeps_the_preface():
    names = [f"第{n}章" for n in range(1, 6)]
    text = "目录\n前言\n" + "\n".join(names) + "\n\n" + book("前言", *names)
    assert numbers(text) == [0, 1, 2, 3, 4, 5]


def test_a_heading_repeated_on_every_page_is_one_chapter():
    page = "第一章 雨\n" + BODY
    assert numbers(page * 3 + book("第二章 雪") + "第二章 雪\n" + BODY) == [1, 2]


def test_a_sentence_in_the_body_that_begins_like_a_heading_opens_no_chapter():
    text = book("第一章", "第二章") + "第一章的事情\n第三回合打完了\n第二章里\n" + BODY + book("第三章")
    assert numbers(text) == [1, 2, 3]


def test_roman_numerals_count_only_as_a_run():
    text = book("I", "II", "III", "IV", body=PROSE * 2)
    assert numbers(text, "en") == [1, 2, 3, 4]
    lone = PROSE * 3 + "I\n" + PROSE * 3
    assert titles(lone, "en") == ["Part 1"]


def test_listed_numbers_count_at_the_distance_of_chapters_only():
    assert numbers(book(*(f"{n:03d} 标题{n}" for n in range(1, 6)), body=BODY * 3)) == [1, 2, 3, 4, 5]
    with_list = BODY + "1. 米\n2. 油\n3. 盐\n4. 茶\n" + BODY
    assert titles(with_list) == ["第 1 部分"]


def test_markdown_headings_without_numbers_are_chapters():
    text = "# The Book\n\n" + book("## The Door", "## The Key", "## The Room", body=PROSE)
    assert titles(text, "en") == ["The Door", "The Key", "The Room"]


def test_a_book_without_headings_is_cut_into_bounded_parts_at_paragraph_borders():
    text = BODY * 60
    chapters = split_chapters(text, "zh")
    assert [c.title for c in chapters][:2] == ["第 1 部分", "第 2 部分"]
    assert max(len(c.span) for c in chapters) < 12_000
    assert all(text[c.span.start - 1] == "\n" for c in chapters[1:])
    assert tiles(text, chapters)


lines = st.one_of(
    st.sampled_from(
        [
            "第一章",
            "第二章 乙",
            "第1章",
            "第三卷",
            "卷一",
            "楔子",
            "附录",
            "尾声",
            "Chapter 1",
            "CHAPTER II",
            "Part One",
            "I",
            "II",
            "III",
            "1. a",
            "2. b",
            "# A",
            "## B",
            "目录",
            "",
            "",
        ]
    ),
    st.text(max_size=30),
    st.just(BODY),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(lines, max_size=25).map("\n".join), st.sampled_from(["zh", "en"]))
def test_chapters_tile_any_text_and_their_numbers_grow(text, language):
    chapters = split_chapters(text, language)
    assert tiles(text, chapters)
    assert bool(chapters) == bool(text)


def test_a_book_of_20_megabytes_splits_in_seconds(corpus):
    text = corpus("pride_and_prejudice").read_text("utf-8") * 30
    started = time.perf_counter()
    split_chapters(text, "en")
    split_chapters("第" * 5_000_000, "zh")
    split_chapters("一\n" * 200_000, "zh")
    assert time.perf_counter() - started < 10  # 1.5 s on one busy core
