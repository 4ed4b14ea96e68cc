"""What a model reads of a chapter: pieces that lose nothing, sentences that fit, lines about one person; and loops."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.chains.digest import PARTS, lines_about, pieces_of, telling_sentences
from core.chains.soundness import is_sound
from core.data.sentences import sentences
from core.data.text import Chapter, Span

WORDS = [
    "曹操",
    "大喜。",
    "“走！”",
    "他说：",
    "\n",
    "　　",
    " ",
    "Mr. Low ",
    "went home. ",
    "“Why?” ",
    "...",
    "\n\n",
    "x",
]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=60).map("".join)
LANGUAGES = st.sampled_from(["zh", "en"])


def by_words(text: str) -> int:
    """A price that is no count of characters and, as with real tokens, no sum: one for each word or ideograph."""
    return len(re.findall(r"[a-zA-Z]+|\S", text)) + 1


def without_space(text: str) -> str:
    return "".join(text.split())


@given(TEXTS, LANGUAGES, st.integers(1, 40), st.sampled_from([len, by_words]), st.data())
@example("曹操大喜。" * 9, "zh", 1, len, None)
@example("\n" * 50 + "走。" + " " * 50, "zh", 3, len, None)
def test_pieces_joined_are_the_whole_span_and_each_fits(text, language, limit, cost, data):
    start = data.draw(st.integers(0, len(text))) if data else 0
    end = data.draw(st.integers(start, len(text))) if data else len(text)
    pieces = pieces_of(text, Span(start, end), language, cost, limit)
    at = start
    for piece in pieces:
        found = text.index(piece, at, end)
        assert not text[at:found].strip(), "only white space may lie between two pieces"
        at = found + len(piece)
        assert cost(piece) <= limit or len(piece) == 1
        assert piece.strip()
    assert not text[at:end].strip()


@given(TEXTS, LANGUAGES)
def test_a_span_that_fits_is_one_piece_character_for_character(text, language):
    assert pieces_of(text, Span(0, len(text)), language, len, 10_000) == ([text] if text.strip() else [])


def test_pieces_end_where_sentences_do_if_those_fit():
    text = "".join(f"第{number}程山路很长。" for number in range(100))
    pieces = pieces_of(text, Span(0, len(text)), "zh", len, 50)
    assert "".join(pieces) == text and all(piece.endswith("。") for piece in pieces)
    assert min(len(piece) for piece in pieces[:-1]) > 50 - 10, "pieces are filled up"


def chapter_of(text: str, title: str = "") -> Chapter:
    return Chapter(1, title, Span(0, len(text)))


@given(TEXTS, LANGUAGES, st.integers(1, 120))
def test_telling_sentences_keep_to_the_budget_and_the_books_order(text, language, max_chars):
    told = telling_sentences(text, chapter_of(text), language, max_chars)
    assert len(told) <= max_chars
    found = [span.of(text) for span in sentences(text, 0, len(text), language)]
    if sum(map(len, found)) + len(found) <= max_chars:
        assert without_space(told) == without_space(text)
    whole, reached = without_space(told), {0}
    for sentence in map(without_space, found):
        reached |= {at + len(sentence) for at in reached if whole.startswith(sentence, at)}
    # Where no sentence is short enough, the first one is cut.
    assert len(whole) in reached or without_space(found[0]).startswith(whole)


def test_every_sixth_of_a_chapter_tells_something_and_repeated_words_tell_most():
    parts = [[f"{mark}说起红灯与白马。", f"{mark}x{n}。"] for n, mark in enumerate("甲乙丙丁戊己")]
    text = "".join(sentence for part in parts for sentence in part)
    told = telling_sentences(text, chapter_of(text), "zh", 9 * PARTS)
    assert told == "".join(part[0] for part in parts)


def test_a_title_that_does_not_stand_in_the_text_cuts_nothing_off():
    text = "天亮了。他走了。"
    assert telling_sentences(text, chapter_of(text, "第 1 部分"), "zh", 100) == text
    assert telling_sentences("　第一回 山\n" + text, chapter_of("　第一回 山\n" + text, "第一回 山"), "zh", 100) == text


def test_english_sentences_stay_apart():
    text = "Chapter 1\nLow went home. Anne stayed. The river rose. " + "Nobody knew why it rose so. " * 20
    told = telling_sentences(text, chapter_of(text, "Chapter 1"), "en", 180)
    lines = lines_about(text, chapter_of(text, "Chapter 1"), "en", "Anne")
    for passage in (told, lines):
        assert not re.search(r"[.][A-Z]", passage)
    assert len(list(sentences(lines, 0, len(lines), "en"))) == 3


STORY = "第一回 山\n风起了。张三来了。他笑了笑。下雨了。天黑了。李四没睡。天亮了。张三和李四走了。"


@pytest.mark.parametrize(
    ("person", "wanted"),
    [
        ("张三", ["风起了。", "张三来了。", "他笑了笑。", "天亮了。", "张三和李四走了。"]),
        ("李四", ["天黑了。", "李四没睡。", "天亮了。", "张三和李四走了。"]),
        ("王五", []),
    ],
)
def test_lines_about_a_person_are_the_sentences_around_the_name(person, wanted):
    lines = lines_about(STORY, chapter_of(STORY, "第一回 山"), "zh", person)
    assert re.findall(r"[^。\s]+。", lines) == wanted


def test_lines_about_a_person_end_with_the_chapter():
    start = STORY.index("下雨了")
    assert "张三和李四走了" not in lines_about(STORY, Chapter(1, "", Span(0, start)), "zh", "张三")
    assert lines_about(STORY, Chapter(1, "", Span(start, len(STORY) - 9)), "zh", "张三") == ""


def test_an_english_name_is_a_whole_word_and_may_be_broken_over_a_line():
    text = "Annual rains came. They fell long. Then Elizabeth\nBennet left. She wept. Bed. Anne slept. Dawn."
    assert lines_about(text, chapter_of(text), "en", "Ann") == ""
    found = lines_about(text, chapter_of(text), "en", "Elizabeth Bennet")
    assert found == "They fell long. Then Elizabeth\nBennet left. She wept."


LOOPS = [
    "是火的源头，" * 20,
    "曹操大怒。曹操大怒。曹操大怒。曹操大怒。",
    "he went and he went and he went and he went and he went",
    "。。。。。。。。。。。。",
]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_is_not_sound(loop):
    assert not is_sound(loop, loop)


@pytest.mark.parametrize(
    "foreign", ["", "曹操", "差人天不亮就来叫陆三锤修断桥，女儿秋娘劝阻不住。", "Low mends a bridge.", "！？" * 9]
)
def test_what_does_not_speak_of_its_source_is_not_sound(foreign):
    assert not is_sound(foreign, "曹操在许昌大宴群臣，刘备借故离开，关羽随行。")


def test_one_detail_of_a_chapter_is_no_summary_of_it_but_may_be_one_of_a_paragraph():
    source = "貂蝉在后园看花，吕布入园来寻。"
    assert is_sound("貂蝉在后园看花。", source)
    assert not is_sound("貂蝉在后园看花。", source * 20)


@pytest.mark.parametrize(
    ("summary", "source"),
    [
        ("曹操大宴群臣，刘备离开许昌。", "曹操在许昌大宴群臣，刘备借故离开，关羽随行。"),
        ("Low mends the bridge and goes home.", "Old Low mended the bridge that night, and went home and slept."),
    ],
)
def test_a_summary_in_the_words_of_its_source_is_sound(summary, source):
    assert is_sound(summary, source)
