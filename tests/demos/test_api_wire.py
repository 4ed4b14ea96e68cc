"""The bytes that clients of the character service are sent, against published examples and an independent parser."""

import json

import pytest

from demos.api.answers import Answer
from demos.api.faults import ApiFault, Code
from demos.api.v3_wire import V3Text, v3_add, v3_error, v3_finish
from demos.api.v4_wire import V4Chunks

# ../shared/specs/characterglm_api.md, section 5.
EXAMPLE = (
    "id:7d3a0c61\nevent:add\ndata:你好，\n\n"
    "id:7d3a0c61\nevent:add\ndata:我是苏梦远。\ndata:\n\n"
    "id:7d3a0c61\nevent:add\ndata:很高兴见到你！\n\n"
    'id:7d3a0c61\nevent:finish\ndata:\nmeta:{"request_id":"42","task_id":"7d3a0c61","task_status":"SUCCESS",'
    '"usage":{"prompt_tokens":215,"completion_tokens":14,"total_tokens":229}}\n\n'
)


def standard_data(event):
    """The data of an event by the rules of the WHATWG standard."""
    lines = [line.partition(":")[2] for line in event.decode().split("\n") if line.startswith("data:")]
    return "\n".join(line.removeprefix(" ") for line in lines)


def test_the_published_example_comes_out_byte_by_byte():
    text = V3Text()
    pieces = [text.feed(piece) for piece in ("你好，", "我是苏梦远。\n", "很高兴见到你！")] + [text.flush()]
    sent = [v3_add("7d3a0c61", piece) for piece in pieces if piece]
    sent.append(v3_finish("7d3a0c61", "42", Answer(text.said, "stop", 215, 14)))
    assert b"".join(sent).decode() == EXAMPLE


@pytest.mark.parametrize(
    "pieces",
    [
        ["Hello", " there,", " my", " friend", "."],
        [" leading", "", "  two", " ", " more "],
        ["a\r", "\nb", "\rc", "\r\n", "\r\n d"],
        ["好", " 的", "\n\n", " x", "\u2028", "\u0085"],
        ["line\n", " indented\n", "\n"],
        list("The quick brown fox.\r\n 跳过了 懒狗 "),
    ],
)
def test_any_pieces_reach_a_standard_parser_and_a_careless_one(pieces):
    wanted = "".join(pieces).replace("\r\n", "\n").replace("\r", "\n")
    text = V3Text()
    fed = [*(text.feed(piece) for piece in pieces), text.flush()]
    events = [v3_add("1", piece) for piece in fed if piece]
    assert "".join(map(standard_data, events)) == wanted == text.said
    # One that cuts five bytes off each line can be served unless a line of the answer itself begins with a space.
    if not any(line.startswith(" ") for line in wanted.split("\n")):
        cut = ["\n".join(line[5:] for line in event.decode().split("\n") if line[:5] == "data:") for event in events]
        assert "".join(cut) == wanted
    assert all(event.count(b"\r") == 0 for event in events)


def test_a_character_beyond_latin_is_never_held_back():
    text = V3Text()
    assert [text.feed(piece) for piece in "你好，世界"] == list("你好，世界")


def test_chunks_of_the_newer_interface_are_ascii_and_carry_their_usage_once():
    answer = Answer("好\u2028", "length", 3, 2)
    for has_chunk in (False, True):
        chunks = V4Chunks("c", "charglm-3", 1, has_chunk)
        sent = chunks.text("好\u2028\u0085", is_first=True) + chunks.text("吗", is_first=False) + chunks.finish(answer)
        assert sent.isascii() and sent.endswith(b"data: [DONE]\n\n") and b"event:" not in sent
        told = [json.loads(line[6:]) for line in sent.decode().splitlines() if line.startswith("data: {")]
        assert told[0]["choices"][0]["delta"] == {"role": "assistant", "content": "好\u2028\u0085"}
        (usage,) = [one for one in told if "usage" in one]
        assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        assert (usage["choices"] == []) is has_chunk
        assert [
            one["choices"][0]["finish_reason"]
            for one in told
            if one["choices"][:1] and "finish_reason" in one["choices"][0]
        ] == ["length"]


def test_an_error_event_is_one_line_of_json():
    event = v3_error("9", ApiFault(Code.INVALID, "prompt 参数非法"))
    assert event.decode() == 'id:9\nevent:error\ndata:{"code":1214,"msg":"prompt 参数非法","success":false}\n\n'
