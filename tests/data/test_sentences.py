"""Sentences: exact offsets, nothing lost, quotes closed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data.sentences import sentences


def split(text, language):
    return [span.of(text) for span in sentences(text, 0, len(text), language)]


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("他来了。她走了！", "zh", ["他来了。", "她走了！"]),
        ("“你来了？”他说。“嗯。”", "zh", ["“你来了？”", "他说。", "“嗯。”"]),
        ("『真的吗？！』（他想。）夜深了", "zh", ["『真的吗？！』", "（他想。）", "夜深了"]),
        ("“我……我不知道……”他说。", "zh", ["“我……我不知道……”", "他说。"]),
        ('他说:"好。"然后走了。"再见。"', "zh", ['他说:"好。"', "然后走了。", '"再见。"']),
        ('他来了。"你好。"', "zh", ["他来了。", '"你好。"']),
        ("一共3.14元.他走了.", "zh", ["一共3.14元.", "他走了."]),
        ("第一回 题目\n话说天下。", "zh", ["第一回 题目", "话说天下。"]),
        (
            "Mr. and Mrs. Bennet met Dr. J. Smith. They spoke.",
            "en",
            ["Mr. and Mrs. Bennet met Dr. J. Smith.", "They spoke."],
        ),
        ("“Is it so?” he asked. “Yes!” She left.", "en", ["“Is it so?” he asked.", "“Yes!”", "She left."]),
        (
            "See e.g. the map, i.e. No. 5, at 3.15 p.m. today.",
            "en",
            ["See e.g. the map, i.e. No. 5, at 3.15 p.m. today."],
        ),
        (
            "I said no. Then I left... and cried. So am I. Good.",
            "en",
            ["I said no.", "Then I left... and cried.", "So am I.", "Good."],
        ),
        ('"Stop!" "Why?" he said.', "en", ['"Stop!"', '"Why?" he said.']),
        ("One line\n\nAnother line", "en", ["One line", "Another line"]),
        (
            "It is a truth universally acknowledged, that a single man in\npossession of a good fortune. Yes.",
            "en",
            ["It is a truth universally acknowledged, that a single man in\npossession of a good fortune.", "Yes."],
        ),
        ("   \n\u3000 ", "zh", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text, language, expected):
    assert split(text, language) == expected


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(), st.text("他来了。！？…”“\"'. \n\u3000aB,Mr", max_size=80)),
    st.sampled_from(["zh", "en"]),
    st.integers(0, 10),
)
def test_every_character_that_is_not_white_space_lies_in_exactly_one_sentence(text, language, skipped):
    start = min(skipped, len(text))
    at = start
    for span in sentences(text, start, len(text), language):
        assert text[at : span.start].strip() == ""
        assert span.of(text) == span.of(text).strip() != ""
        at = span.end
    assert text[at:].strip() == ""
