"""Whole characters out of token ids, and dialogues as transcripts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.dialogues import Turn
from core.llm.detokenise import TextAssembler
from core.llm.transcript import render_transcript


def decode_bytes(ids):
    return bytes(ids).decode("utf-8", errors="replace")


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=30), st.text(max_size=3))
def test_bytes_one_by_one_give_the_text_in_whole_characters(text, before):
    assembler = TextAssembler(decode_bytes, before.encode())
    pieces = [assembler.add(byte) for byte in text.encode()]
    assert "".join(pieces) + assembler.flush() == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_characters_come_as_soon_as_they_are_whole():
    halves = {1: "三".encode()[:2], 2: "三".encode()[2:] + "国".encode()[:1], 3: "国".encode()[1:]}
    assembler = TextAssembler(lambda ids: b"".join(halves[i] for i in ids).decode("utf-8", errors="replace"))
    assert [assembler.add(i) for i in (1, 2, 3)] == ["", "三", "国"]


def test_a_character_cut_in_half_shows_at_the_end():
    assembler = TextAssembler(decode_bytes)
    assert [assembler.add(byte) for byte in "好三".encode()[:-1]] == ["", "", "好", "", ""]
    assert assembler.flush() == "\ufffd"


def test_the_space_of_a_first_word_is_kept_when_it_continues_a_text():
    words = {1: "capital", 2: " is", 3: " Paris"}
    assembler = TextAssembler(lambda ids: "".join(words[i] for i in ids).lstrip(), [1, 2])
    assert assembler.add(3) == " Paris"


@pytest.mark.parametrize(
    ("question", "ending"), [("谁是赵云？", "用户：谁是赵云？\n助手："), ("Who?", "User: Who?\nAssistant:")]
)
def test_a_transcript_speaks_the_language_of_the_question(question, ending):
    transcript = render_transcript([Turn("system", "S"), Turn("user", question)])
    assert transcript.text.endswith(ending)
    assert "\nS\n" in transcript.text
    assert {"\n用户：", "\nUser:"} <= set(transcript.stops)


def test_a_dialogue_under_way_needs_no_examples():
    turns = [Turn("user", "甲？"), Turn("assistant", "乙。"), Turn("user", "丙？")]
    text = render_transcript(turns).text
    assert "红楼梦" not in text
    assert text.endswith("用户：甲？\n助手：乙。\n\n用户：丙？\n助手：")
