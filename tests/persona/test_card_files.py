"""Character files, against files put together here byte by byte, and against Pillow."""

import base64
import dataclasses
import io
import json
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.text import Span
from core.persona.card import BadCard, Card, Line, Relation, Source
from core.persona.card_files import MOST_BYTES, read_card, spoken_text, write_card_json, write_card_png

V2 = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    "data": {
        "name": "林黛玉",
        "description": "姑苏人，林如海之女。\r\n\r\n  寄居荣国府。\n",
        "personality": "语带机锋。",
        "scenario": "潇湘馆，{{user}}来访。",
        "first_mes": "你来了。",
        "mes_example": "<START>\n{{user}}: 在看什么？\n{{char}}: 不过是《中庸》《大学》。\n"
        "<START>\n林黛玉：我就知道。\n别人不挑剩下的也不给我。",
        "creator_notes": "给测试用",
        "system_prompt": "{{original}} 说话要短",
        "post_history_instructions": "",
        "alternate_greetings": ["又是你。"],
        "tags": ["红楼梦"],
        "creator": "某人",
        "character_version": "1.2",
        "extensions": {"depth_prompt": {"depth": 4, "prompt": "x"}, "fav": False},
        "character_book": {"entries": [{"keys": ["玉"], "content": "通灵宝玉", "extensions": {}}], "extensions": {}},
    },
}
SOURCE = Source(3, Span(120, 126), "心较比干多一窍")
DRAWN = Card(
    name="林黛玉",
    aliases=("颦儿", "林妹妹"),
    about=(Line("心思极细。", SOURCE), Line("两行\n一句")),
    knows=(Line("知道宝玉挨了打。", SOURCE),),
    wants=(Line("想回姑苏。"),),
    manner=(Line("爱反问。", SOURCE),),
    sayings=(Line("我就知道。", Source(7, Span(5, 10), "我就知道。")),),
    relations=(Relation("贾宝玉", Line("表兄。", SOURCE)),),
    known_until=34,
    book_id="ab12",
    origin="book",
    greeting="你来了。",
    scenario="潇湘馆",
)


def as_json(value) -> bytes:
    return json.dumps(value).encode()


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


PIXEL = chunk(b"IDAT", zlib.compress(b"\0\x07"))
HEAD = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">II5B", 1, 1, 8, 0, 0, 0, 0))
END = chunk(b"IEND", b"")


def png(*chunks: bytes) -> bytes:
    return HEAD + b"".join(chunks) + PIXEL + END


def text(value, keyword: bytes = b"chara") -> bytes:
    return chunk(b"tEXt", keyword + b"\0" + base64.b64encode(as_json(value)))


def named(name: str, **fields) -> dict:
    return {"spec": "chara_card_v2", "spec_version": "2.0", "data": {"name": name, **fields}}


def test_the_shared_fields_become_lines():
    card = read_card(as_json(V2))
    assert [line.text for line in card.about] == ["姑苏人，林如海之女。", "寄居荣国府。"]
    assert [line.text for line in card.manner] == ["语带机锋。"]
    assert (card.name, card.greeting, card.origin) == ("林黛玉", "你来了。", "file")


def test_sayings_are_what_the_character_says_and_nobody_else():
    told = (
        "<START>\n{{user}}: no\n{{Char}}: one\nstill one\nAnon: no\nno\n"
        "<start>\nno\n<BOT>： two\n黛玉: three\n{{random_user_1}}: no"
    )
    card = read_card(as_json(named("黛玉", mes_example=told)))
    assert [line.text for line in card.sayings] == ["one\nstill one", "two", "three"]


def test_a_file_of_another_program_is_written_back_unchanged():
    assert json.loads(write_card_json(read_card(as_json(V2)))) == V2


def test_a_file_of_version_3_stays_one():
    third = V2 | {"spec": "chara_card_v3", "spec_version": "3.0"}
    third["data"] = V2["data"] | {
        "nickname": "颦颦",
        "group_only_greetings": [],
        "assets": [{"type": "icon"}],
        "source": [],
    }
    assert json.loads(write_card_json(read_card(as_json(third)))) == third


def test_a_flat_file_is_read_and_becomes_version_2_with_its_other_fields_kept():
    flat = {field: value for field, value in V2["data"].items() if isinstance(value, str) and "_" not in field}
    flat |= {"first_mes": "早。", "mes_example": "{{char}}: 嗯。", "create_date": "2023-1-1", "talkativeness": 0.5}
    card = read_card(as_json(flat))
    assert (card.name, card.greeting, card.sayings) == ("林黛玉", "早。", (Line("嗯。"),))
    again = json.loads(write_card_json(card))
    assert again["spec"] == "chara_card_v2" and again["talkativeness"] == 0.5 and again["create_date"] == "2023-1-1"
    assert again["data"]["description"] == V2["data"]["description"] and again["data"]["tags"] == []


def test_fields_that_a_program_repeats_outside_follow_a_change():
    both = V2 | {"name": "林黛玉", "description": V2["data"]["description"], "chat": "c"}
    changed = dataclasses.replace(read_card(as_json(both)), about=(Line("新的。"),))
    again = json.loads(write_card_json(changed))
    assert (again["description"], again["data"]["description"], again["chat"]) == ("新的。", "新的。", "c")


def test_a_card_drawn_from_a_book_keeps_every_passage():
    assert read_card(write_card_json(DRAWN)) == DRAWN
    assert read_card(write_card_png(DRAWN)) == DRAWN


def test_other_programs_find_the_shared_fields_of_a_drawn_card():
    data = json.loads(write_card_json(DRAWN))["data"]
    assert data["description"].startswith("心思极细。") and data["personality"] == "爱反问。"
    assert "{{char}}: 我就知道。" in data["mes_example"]
    assert data["extensions"]["novelscope"]["about"][0]["source"]["quote"] == "心较比干多一窍"
    assert {"creator_notes", "alternate_greetings", "tags", "character_version"} <= data.keys()


def test_where_another_program_edited_a_description_its_lines_win_and_the_others_keep_their_passages():
    edited = json.loads(write_card_json(DRAWN))
    edited["data"]["description"] = "心思极细。\n能诗。"
    assert read_card(as_json(edited)).about == (Line("心思极细。", SOURCE), Line("能诗。"))


def test_what_a_newer_novelscope_added_is_kept():
    ours = {"novelscope": {"mood": "sad", "aliases": ["颦儿"]}}
    again = json.loads(write_card_json(read_card(as_json(named("黛玉", extensions=ours)))))
    assert again["data"]["extensions"] == ours


lines = st.lists(
    st.builds(
        Line,
        st.text(max_size=12) | st.sampled_from(["{{char}}: a", "<START>", "", "a\n\nb", "Bob: hi", "\u2028"]),
        st.none() | st.builds(Source, st.integers(0, 99), st.just(Span(1, 4)), st.text(max_size=5)),
    ),
    max_size=4,
).map(tuple)
cards = st.builds(
    Card,
    name=st.text(min_size=1, max_size=8).filter(str.strip),
    aliases=st.lists(st.text(max_size=4), max_size=3).map(tuple),
    about=lines,
    knows=lines,
    wants=lines,
    manner=lines,
    sayings=lines,
    relations=st.lists(st.builds(Relation, st.text(max_size=5), st.just(Line("x"))), max_size=2).map(tuple),
    known_until=st.none() | st.integers(-1, 200),
    book_id=st.none() | st.text(max_size=5),
    origin=st.sampled_from(["hand", "file", "book"]),
    greeting=st.text(max_size=9),
    scenario=st.text(max_size=9),
)


@given(cards)
def test_any_card_comes_back_equal(card):
    written = write_card_json(card)
    assert read_card(written) == card
    assert write_card_json(read_card(written)) == written


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["tags", "creator", "character_book", "zz", ""]), values), values, st.data())
def test_fields_that_mean_nothing_here_come_back_unchanged(fields, top, data):
    extensions = data.draw(st.dictionaries(st.text(max_size=4), values, max_size=2))
    document = named("n", **fields, extensions=extensions) | {"top": top}
    again = json.loads(write_card_json(read_card(as_json(document))))
    assert again["top"] == top and again["data"]["extensions"] == extensions
    assert {field: again["data"][field] for field in fields} == fields


@given(st.recursive(values, lambda inner: st.dictionaries(st.sampled_from([*V2, *V2["data"], "novelscope"]), inner)))
def test_any_json_is_a_card_or_refused(document):
    try:
        write_card_json(read_card(as_json(document)))
    except BadCard as refusal:
        assert "\n" not in str(refusal)


@pytest.mark.parametrize(
    "part",
    [
        chunk(b"tEXt", b"chara\0" + base64.b64encode(as_json(V2))),
        chunk(b"zTXt", b"chara\0\0" + zlib.compress(base64.b64encode(as_json(V2)))),
        chunk(b"iTXt", b"chara\0\0\0en\0\0" + base64.b64encode(as_json(V2))),
        chunk(b"iTXt", b"chara\0\1\0\0Zeichen\0" + zlib.compress(base64.encodebytes(as_json(V2)))),
    ],
    ids=["tEXt", "zTXt", "iTXt", "packed iTXt"],
)
def test_every_kind_of_text_in_a_png_is_read(part):
    assert read_card(png(text({}, b"Comment"), part)) == read_card(as_json(V2))


def test_version_3_is_preferred_and_of_two_the_first():
    third = V2 | {"spec": "chara_card_v3", "spec_version": "3.0"}
    assert read_card(png(text(named("old")), text(third, b"ccv3"))).name == "林黛玉"
    assert read_card(png(text(named("one")), text(named("two")))).name == "one"


def test_pillow_reads_our_picture_and_finds_the_card():
    image_of = pytest.importorskip("PIL.Image")
    with image_of.open(io.BytesIO(write_card_png(DRAWN))) as image:
        image.load()
        assert image.size == (64, 96) and len(set(image.tobytes())) == 1
        assert json.loads(base64.b64decode(image.text["chara"]))["data"]["name"] == "林黛玉"


def test_a_picture_of_pillow_keeps_its_pixels_and_other_texts_and_loses_its_old_card():
    image_of = pytest.importorskip("PIL.Image")
    info = pytest.importorskip("PIL.PngImagePlugin").PngInfo()
    info.add_text("chara", "b2xk", zip=True)
    info.add_text("ccv3", "b2xk")
    info.add_itxt("Title", "像")
    held = io.BytesIO()
    drawn = image_of.frombytes("RGB", (16, 16), bytes(range(256)) * 3)
    drawn.save(held, "PNG", pnginfo=info)
    with image_of.open(io.BytesIO(write_card_png(DRAWN, held.getvalue()))) as image:
        image.load()
        assert image.tobytes() == drawn.tobytes()
        assert image.text.keys() == {"chara", "Title"} and image.text["Title"] == "像"
    assert read_card(write_card_png(DRAWN, held.getvalue())) == DRAWN


def test_a_card_of_version_3_is_written_for_both_versions():
    third = V2 | {"spec": "chara_card_v3", "spec_version": "3.0"}
    made = write_card_png(read_card(as_json(third)), png())
    assert made == png(_card_chunk(made, b"chara"), _card_chunk(made, b"ccv3"))
    assert _card_in(made, b"chara") == V2 and _card_in(made, b"ccv3") == third


def _card_chunk(made: bytes, keyword: bytes) -> bytes:
    at = made.index(b"tEXt" + keyword + b"\0")
    length = int.from_bytes(made[at - 4 : at], "big")
    return chunk(b"tEXt", made[at + 4 : at + 4 + length])


def _card_in(made: bytes, keyword: bytes) -> dict:
    return json.loads(base64.b64decode(_card_chunk(made, keyword)[8 + len(keyword) + 1 : -4]))


BROKEN = png(text(V2))
BOMB = zlib.compress(b"\0" * (64 * 1024 * 1024))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "JSON"),
        (b"[]", "object"),
        (b"\xff\xfe\x00", "JSON"),
        (b'{"name": NaN}', "NaN"),
        (b'{"name": 1e999}', "1e999"),
        (b'{"name": ' + b"9" * 5000 + b"}", "JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"name": "n", "x": ' + b"[" * 150 + b"]" * 150 + b"}", "100 levels"),
        (b" " * (MOST_BYTES + 1), "10 MB"),
        (as_json({"name": " "}), "name"),
        (as_json(named("")), "name"),
        (as_json({"data": {}}), "name"),
        (as_json({"spec": "chara_card_v2"}), "data"),
        (as_json({"spec": 2, "data": {"name": "n"}}), "spec"),
        (as_json({"data": []}), "data"),
        (as_json(named("n", description=["x"])), "description"),
        (as_json(named("n", extensions="x")), "extensions"),
        (as_json(named("n", extensions={"novelscope": [1]})), "extensions"),
        (as_json(named("n", extensions={"novelscope": {"aliases": "x"}})), "aliases"),
        (as_json(named("n", extensions={"novelscope": {"aliases": [1]}})), "aliases"),
        (as_json(named("n", extensions={"novelscope": {"known_until": True}})), "known_until"),
        (as_json(named("n", extensions={"novelscope": {"origin": "moon"}})), "origin"),
        (as_json(named("n", extensions={"novelscope": {"knows": [{"text": "x", "source": {"chapter": 1}}]}})), "knows"),
        (as_json(named("n", extensions={"novelscope": {"relations": [{"text": "x"}]}})), "relations"),
        (BROKEN[:-1], "cut off"),
        (BROKEN[:50], "cut off"),
        (HEAD, "cut off"),
        (HEAD[:8] + text(V2) + END, "damaged"),
        (BROKEN.replace(b"chara", b"chare"), "checksum"),
        (HEAD + b"\xff\xff\xff\xfftEXt" + b"x" * 40, "cut off"),
        (png(), "no character"),
        (png(text(V2, b"Chara")), "no character"),
        (png(chunk(b"tEXt", b"chara\0***")), "base64"),
        (png(chunk(b"tEXt", b"chara\0" + base64.b64encode(b"{"))), "JSON"),
        (png(chunk(b"tEXt", b"chara")), "JSON"),
        (png(chunk(b"zTXt", b"chara\0\0junk")), "unpacked"),
        (png(chunk(b"zTXt", b"chara\0\0" + zlib.compress(b"e30=")[:-3])), "cut off"),
        (png(chunk(b"zTXt", b"chara\0\0" + BOMB)), "16 MB"),
        (png(chunk(b"iTXt", b"chara\0\0\0en")), "cut off"),
    ],
)
def test_what_is_no_card_is_refused_in_one_sentence(data, says):
    with pytest.raises(BadCard, match=says) as refusal:
        read_card(data)
    assert len(str(refusal.value)) < 200 and "\n" not in str(refusal.value)


def test_no_byte_of_a_png_can_change_unnoticed():
    small = png(chunk(b"tEXt", b"chara\0" + base64.b64encode(b'{"name": "n"}')))
    for at in range(len(small)):
        broken = bytearray(small)
        broken[at] ^= 0x20
        with pytest.raises(BadCard):
            read_card(bytes(broken))


@pytest.mark.parametrize("other", [{"data": 3}, {"x": {1, 2}}, {"x": float("nan")}, {"data": {"extensions": 1}}])
def test_what_no_file_can_hold_is_not_written(other):
    with pytest.raises(BadCard):
        write_card_json(Card(name="n", other=other))


def test_a_card_too_large_to_be_read_again_is_not_written():
    large = Card(name="n", greeting="x" * (MOST_BYTES * 4 // 5))
    assert read_card(write_card_json(large)) == large
    with pytest.raises(BadCard, match="10 MB"):
        write_card_png(large)


def test_a_picture_that_is_none_is_refused():
    with pytest.raises(BadCard, match="no PNG"):
        write_card_png(DRAWN, b"GIF89a")


def test_half_characters_survive():
    card = read_card(b'{"name": "n", "first_mes": "a\\ud800b\\\\", "\\udfff": ["\\ud83d"]}')
    assert card.greeting == "a\ud800b\\"
    again = write_card_json(card)
    assert read_card(again) == card and json.loads(again.decode("utf-8"))["\udfff"] == ["\ud83d"]
    assert read_card(write_card_png(card)) == card


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_encoding_of_json_is_read(encoding):
    assert read_card(json.dumps(V2, ensure_ascii=False).encode(encoding)) == read_card(as_json(V2))


def test_placeholders_stay_in_the_card_and_are_replaced_once():
    card = read_card(as_json(V2))
    assert card.scenario == "潇湘馆，{{user}}来访。"
    assert spoken_text(card.scenario, "黛玉", "宝玉") == "潇湘馆，宝玉来访。"
    assert (
        spoken_text("{{Char}}, <BOT>, <user>, {{ USER }}, {{other}}", "{{user}}", "u")
        == "{{user}}, {{user}}, u, u, {{other}}"
    )
