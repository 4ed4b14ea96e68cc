"""The stop cutter against a search in the whole text."""

from hypothesis import given
from hypothesis import strategies as st

from core.llm.stops import StopCutter

SMALL = st.text(alphabet="ab用\n：", max_size=24)
STOPS = st.lists(st.text(alphabet="ab用\n：", min_size=1, max_size=4), max_size=3)


def run(pieces, stops):
    cutter = StopCutter(stops)
    return "".join(cutter.feed(piece) for piece in pieces) + cutter.flush()


@given(pieces=st.lists(SMALL, max_size=8), stops=STOPS)
def test_any_split_gives_the_text_up_to_the_first_stop(pieces, stops):
    text = "".join(pieces)
    first = min((text.index(stop) for stop in stops if stop in text), default=len(text))
    assert run(pieces, stops) == text[:first]


@given(text=SMALL, stops=STOPS)
def test_single_characters_give_the_same_as_one_piece(text, stops):
    assert run(list(text), stops) == run([text], stops)


def test_nothing_is_held_back_that_cannot_begin_a_stop():
    cutter = StopCutter(["\n用户："])
    assert [cutter.feed(piece) for piece in ("你好", "。\n", "用", "心", "\n用户", "：走")] == [
        "你好",
        "。",
        "",
        "\n用心",
        "",
        "",
    ]
    assert cutter.is_cut
    assert cutter.feed("还有") == "" and cutter.flush() == ""


def test_text_held_back_comes_out_at_the_end():
    cutter = StopCutter(["END"])
    assert cutter.feed("the EN") == "the "
    assert cutter.flush() == "EN"


def test_a_stop_inside_a_longer_one_that_began_earlier_waits_for_it():
    cutter = StopCutter(["abab", "b"])
    assert cutter.feed("xab") == "x"
    assert not cutter.is_cut
    assert cutter.feed("c") == "a"
    assert cutter.is_cut
