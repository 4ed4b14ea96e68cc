"""Chunks: children tile chapters at sentence borders, parents are windows of children."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data.chapters import split_chapters
from core.data.chunks import ChunkSettings, split_chunks
from core.data.sentences import sentences
from core.data.text import Chapter, Span
from core.errors import SettingsError


def whole(text):
    return (Chapter(1, "", Span(0, len(text))),)


@pytest.mark.parametrize(
    ("name", "language"), [("xiyouji", "zh"), ("sanguoyanyi", "zh"), ("pride_and_prejudice", "en")]
)
def test_children_of_real_novels_are_near_the_wanted_length_and_end_sentences(corpus, name, language):
    text = corpus(name).read_text("utf-8")
    chapters = split_chapters(text, language)
    wanted = ChunkSettings.for_language(language)
    children = split_chunks(text, chapters, wanted).children
    lengths = sorted(len(child.span) for child in children)
    middle = lengths[len(lengths) // 50 : -len(lengths) // 50]
    assert middle[0] > wanted.child_chars * 0.6 and middle[-1] < wanted.child_chars * 1.4
    ends = {
        span.end for chapter in chapters for span in sentences(text, chapter.span.start, chapter.span.end, language)
    }
    assert sum(child.span.end in ends for child in children) > 0.99 * len(children)


def test_a_chapter_heading_is_in_the_first_child_with_what_follows_it(corpus):
    text = corpus("sanguoyanyi").read_text("utf-8")
    chapters = split_chapters(text, "zh")
    children = split_chunks(text, chapters, ChunkSettings()).children
    firsts = {child.chapter: child for child in reversed(children)}
    for chapter in chapters:
        assert firsts[chapter.number].span.start == chapter.span.start
        assert len(firsts[chapter.number].span) > len(chapter.title) + 100


def test_parents_are_windows_of_two_children_that_move_by_one(corpus):
    text = corpus("xiyouji").read_text("utf-8")
    chunks = split_chunks(text, split_chapters(text, "zh"), ChunkSettings())
    for parent in chunks.parents:
        inside = chunks.children[parent.children[0] : parent.children[1]]
        assert len(inside) == 2
        assert {child.chapter for child in inside} == {parent.chapter}
        assert parent.span == Span(inside[0].span.start, inside[-1].span.end)
    for this, following in pairwise(chunks.parents):
        step = following.children[0] - this.children[0]
        assert step == (1 if this.chapter == following.chapter else 2)
    ids = [chunk.id for chunk in chunks.parents]
    assert ids == sorted(set(ids))


def test_a_chapter_of_one_child_has_one_parent_of_it():
    chunks = split_chunks("他来了。", whole("他来了。"), ChunkSettings())
    assert [parent.children for parent in chunks.parents] == [(0, 1)]


def test_no_small_rest_is_left_at_the_end_of_a_chapter():
    for count in range(1, 120):
        text = "他走进屋里看见桌上放着信。" * count
        lengths = [len(child.span) for child in split_chunks(text, whole(text), ChunkSettings()).children]
        assert len(lengths) == 1 or min(lengths) > 100


def test_a_sentence_that_is_too_long_is_cut_at_commas_before_it_is_cut_anywhere():
    text = "他走进屋里看见桌上放着一封信，" * 100
    children = split_chunks(text, whole(text), ChunkSettings()).children
    assert all(child.span.of(text).endswith("，") for child in children)
    assert max(len(child.span) for child in children) <= 450


def test_a_forced_cut_never_parts_a_letter_from_its_accent():
    text = "e\u0301" * 1000
    for child in split_chunks(text, whole(text), ChunkSettings()).children:
        assert not unicodedata.combining(child.span.of(text)[0])


@pytest.mark.parametrize("wrong", [{"child_chars": 3}, {"parent_children": 0}])
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(SettingsError, match="wanted"):
        ChunkSettings(**wrong)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.text(), st.text("他来了。”“，, \n\u3000aB\u0301", max_size=200)), min_size=1, max_size=5),
    st.sampled_from(["zh", "en"]),
    st.sampled_from([16, 40, 300]),
    st.integers(1, 4),
)
def test_nothing_is_lost_or_doubled_in_any_text(texts, language, child_chars, parent_children):
    text = "".join(texts)
    chapters, at = [], 0
    for number, part in enumerate(texts):
        chapters.append(Chapter(number, "", Span(at, at + len(part))))
        at += len(part)
    wanted = ChunkSettings(language=language, child_chars=child_chars, parent_children=parent_children)
    chunks = split_chunks(text, chapters, wanted)
    for chapter in chapters:
        at = chapter.span.start
        for child in (c for c in chunks.children if c.chapter == chapter.number):
            assert text[at : child.span.start].strip() == ""
            assert child.span.of(text) == child.span.of(text).strip() != ""
            assert len(child.span) <= child_chars * 1.5
            at = child.span.end
        assert text[at : chapter.span.end].strip() == ""
    assert [child.index for child in chunks.children] == list(range(len(chunks.children)))
    assert {n for p in chunks.parents for n in range(*p.children)} == set(range(len(chunks.children)))
