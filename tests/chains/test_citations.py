"""Citations are facts: what they quote is the book's text, and it supports what is claimed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.chains.citations import Aligner, supported_share
from core.data.text import Span
from core.llm.events import Passage

TEXT = (
    "太守道：“此剑长三尺六寸，乃先帝所赐，名唤寒霜。”说罢交与韩信阳。\n"
    "韩信阳跪受，连夜出城，骑黄骠马走了八十里。\n"
    "城外三十里有座石桥，桥下埋着一只铁箱，重一百二十斤。"
)


def aligner(question: str) -> Aligner:
    return Aligner(TEXT, [Passage(1, 1, "第一章", Span(0, len(TEXT)), TEXT, 1.0)], question, "zh")


@pytest.mark.parametrize(
    ("question", "answer", "quoted"),
    [
        ("剑叫什么名字？", "名唤寒霜。", "太守道：“此剑长三尺六寸，乃先帝所赐，名唤寒霜。”"),
        ("剑给了谁？", "剑交与韩信阳。", "说罢交与韩信阳。"),
        ("他走了多远？", "走了八十里。", "韩信阳跪受，连夜出城，骑黄骠马走了八十里。"),
        ("铁箱有多重？", "重一百二十斤。", "城外三十里有座石桥，桥下埋着一只铁箱，重一百二十斤。"),
    ],
)
def test_an_answer_is_cited_to_the_sentence_that_says_it(question, answer, quoted):
    support = aligner(question).support(answer)
    assert support is not None and support.span.of(TEXT) == quoted


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("剑叫什么名字？", "名唤青釭。"),
        ("铁箱有多重？", "重一百三十斤。"),
        ("他走了多远？", "他走了80里。"),
        ("谁偷了剑？", "是皇后的侍女偷走的。"),
        ("剑叫什么名字？", "，。"),
        ("剑叫什么名字？", ""),
    ],
)
def test_what_the_book_does_not_say_is_not_cited(question, answer):
    assert aligner(question).support(answer) is None


def test_the_words_of_the_question_alone_support_nothing_new():
    assert supported_share("铁箱埋在石桥下面的井里", "石桥下有铁箱", ignoring="铁箱石桥") < 0.5


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_share_is_between_none_and_all(claim, source):
    assert 0.0 <= supported_share(claim, source) <= 1.0


@given(
    st.text(alphabet="山风石桥剑客夜雨，。“”\n", min_size=1, max_size=200), st.text(alphabet="山风石桥剑", max_size=20)
)
def test_every_quotation_is_cut_from_the_text(text, answer):
    passage = Passage(1, 1, "", Span(0, len(text)), text, 1.0)
    support = Aligner(text, [passage], "", "zh").support(answer)
    if support is not None:
        assert support.span.of(text).strip() and support.passage == 1
