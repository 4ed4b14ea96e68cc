"""Tokenizers of checkpoint folders, against the libraries that made their files."""

import base64
import json
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.engine.checkpoint_tokenizer import read_tokenizer
from core.engine.tokenizer import IncrementalDecoder
from core.errors import ModelLoadError
from tests.engine.vocabularies import (
    SAMPLES,
    TEXT,
    as_json,
    byte_level_json,
    llama_json,
    rank_file,
    sentencepiece_model,
)

CHATGLM2, LLAMA, MOSS = {"model_type": "chatglm"}, {"model_type": "llama"}, {"model_type": "moss"}
BLANKS = ["<n>", "<|tab|>", *(f"<|blank_{count}|>" for count in range(2, 81))]
MARKS = ["[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"]


@pytest.fixture(scope="module")
def pieces():
    return sentencepiece_model()


@pytest.fixture(scope="module")
def reference(pieces):
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=pieces)


@pytest.fixture(scope="module")
def ice_file():
    return sentencepiece_model("unigram", symbols=[*BLANKS, *MARKS], size=400)


def first_generation(ice_file, vocab_size=130_528, **ids):
    config = {"model_type": "chatglm", "bos_token_id": 130004, "eos_token_id": 130005} | ids
    return read_tokenizer({"ice_text.model": ice_file}, config, vocab_size)


@pytest.fixture(scope="module")
def everyone(pieces, ice_file):
    merged = json.loads(byte_level_json())["model"]
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merged["merges"])]).encode()
    added = as_json(**{"<eom>": len(merged["vocab"]) + 1, "<eoh>": len(merged["vocab"])})
    return {
        "chatglm": first_generation(ice_file),
        "chatglm2": read_tokenizer({"tokenizer.model": pieces}, CHATGLM2, 65024),
        "glm4": read_tokenizer({"tokenizer.model": rank_file()}, CHATGLM2, 151552),
        "vicuna": read_tokenizer({"tokenizer.model": pieces}, LLAMA, 32000),
        "llama json": read_tokenizer({"tokenizer.json": llama_json(pieces), "tokenizer.model": pieces}, LLAMA, 32000),
        "byte-level json": read_tokenizer({"tokenizer.json": byte_level_json()}, LLAMA, 400),
        "moss": read_tokenizer(
            {"vocab.json": as_json(**merged["vocab"]), "merges.txt": merges, "added_tokens.json": added}, MOSS, 400
        ),
    }


KINDS = ["chatglm", "chatglm2", "glm4", "vicuna", "llama json", "byte-level json", "moss"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_comes_back_and_a_stream_shows_the_same_in_whole_characters(kind, everyone):
    tokenizer = everyone[kind]
    pieces = kind in ("chatglm", "chatglm2", "vicuna", "llama json")

    @settings(max_examples=60, deadline=None)
    @example("▁")
    @given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=40) | st.sampled_from(SAMPLES))
    def holds(text):
        ids = tokenizer.encode(text)
        assert all(0 <= number < tokenizer.vocab_size for number in ids)
        # SentencePiece keeps no difference between a space and the sign it writes for one.
        text = text.replace("▁", " ") if pieces else text
        assert tokenizer.decode(ids) == text
        stream = IncrementalDecoder(tokenizer)
        shown = [stream.add(number) for number in ids] + [stream.flush()]
        # The space that some files put in front of a text is shown: an answer goes on from a prompt.
        assert "".join(shown) in (text, " " + text) and not any("\ufffd" in part for part in shown)

    holds()


@pytest.mark.parametrize("kind", KINDS)
def test_what_looks_like_a_control_token_is_text_until_it_is_asked_for(kind, everyone):
    tokenizer = everyone[kind]
    special = tokenizer.special_tokens
    assert special
    for text, number in special.items():
        said = f"前{text}后"
        assert number not in tokenizer.encode(said)
        assert number in tokenizer.encode(said, parse_special=True)
        assert tokenizer.decode([number]) == "" and tokenizer.decode([number], keep_special=True) == text
        if kind != "chatglm":  # there a look-alike is cut in two, and the second half may get a space in front
            assert tokenizer.decode(tokenizer.encode(said)) == said


@pytest.mark.parametrize("text", [*SAMPLES, *TEXT[:4]])
def test_sentencepiece_files_give_the_librarys_ids(text, everyone, reference):
    for kind in ("chatglm2", "vicuna"):
        assert everyone[kind].encode(text) == reference.encode(text)
    assert everyone["llama json"].encode(text) == reference.encode(text)


def test_control_tokens_of_the_second_generation_follow_the_pieces_whatever_their_number(everyone, pieces, reference):
    base = reference.get_piece_size()
    names = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
    special = everyone["chatglm2"].special_tokens
    assert [special[name] for name in names] == list(range(base, base + 9))
    decoder = {str(base + at): {"content": name, "special": True} for at, name in enumerate(names[:5])}
    files = {"tokenizer.model": pieces, "tokenizer_config.json": as_json(added_tokens_decoder=decoder)}
    assert "<|user|>" not in read_tokenizer(files, CHATGLM2, 65024).special_tokens


def test_a_space_stands_behind_a_control_token_only_in_the_legacy_way(pieces, reference):
    legacy, modern = (
        read_tokenizer({"tokenizer.model": pieces, "tokenizer_config.json": as_json(legacy=flag)}, LLAMA, 32000)
        for flag in (True, False)
    )
    front, back = reference.encode("USER"), reference.encode("ASSISTANT")
    end = reference.eos_id()
    assert legacy.encode("USER</s>ASSISTANT", parse_special=True) == [*front, end, *back]
    plain = modern.encode("USER</s>ASSISTANT", parse_special=True)
    assert plain[: len(front) + 1] == [*front, end] and plain[len(front) + 1 :] != back
    assert modern.decode(plain[len(front) + 1 :]) == "ASSISTANT"


def test_the_first_generation_spells_white_space_in_pieces(ice_file):
    import sentencepiece

    library = sentencepiece.SentencePieceProcessor(model_proto=ice_file)
    tokenizer = first_generation(ice_file)
    text = "一行\n二行\t三" + " " * 7 + "四" + " " * 83 + "五"
    spelled = "一行<n>二行<|tab|>三<|blank_7|>四<|blank_80|><|blank_3|>五"
    assert tokenizer.encode(text) == library.encode(spelled)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    stream = IncrementalDecoder(tokenizer)
    assert "".join(map(stream.add, tokenizer.encode(text))).lstrip(" ") == text


def test_the_first_release_shifts_the_ids_of_text(ice_file):
    plain, shifted = first_generation(ice_file), first_generation(ice_file, 150_528, bos_token_id=150004)
    assert shifted.encode("天下") == [number + 20_000 for number in plain.encode("天下")]
    assert shifted.decode(shifted.encode("天下大势")) == "天下大势"
    assert shifted.special_tokens["[gMASK]"] == 150_001 and shifted.bos_id == 150_004
    assert plain.special_tokens == dict(zip(MARKS, (130000, 130001, 130002, 130004, 130005), strict=True))


def brute_force(ranks, word):
    """Merge the pair of the lowest rank until none is left."""
    parts = [bytes([byte]) for byte in word]
    while True:
        pairs = [(ranks[left + right], at) for at, (left, right) in enumerate(pairwise(parts)) if left + right in ranks]
        if not pairs:
            return [ranks[part] for part in parts]
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def test_a_rank_file_is_cut_by_rank(everyone):
    lines = [line.split() for line in rank_file().splitlines()]
    ranks = {base64.b64decode(piece): int(rank) for piece, rank in lines}
    for word in ("话说天下大势", "assistant", "分久必合"):
        assert everyone["glm4"].encode(word) == brute_force(ranks, word.encode())
    base = len(ranks)
    special = everyone["glm4"].special_tokens
    assert [special[name] - base for name in ("<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|observation|>")] == [
        0,
        2,
        4,
        7,
        9,
    ]


def test_added_tokens_of_moss_keep_their_ids(everyone):
    special = everyone["moss"].special_tokens
    assert special["<eom>"] == special["<eoh>"] + 1
    assert everyone["moss"].encode("天下<eom>", parse_special=True)[-1] == special["<eom>"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "there is no tokenizer; wanted one of tokenizer.json"),
        ({"tokenizer.model": b"\x08\x01garbage"}, "no SentencePiece file"),
        ({"tokenizer.model": b""}, "no SentencePiece file"),
        ({"tokenizer.model": b"IQ== 0\nnot a line\n"}, "line 2 of tokenizer.model"),
        ({"tokenizer.model": b"IQ== 0\nIg== 0\n"}, "gives a rank twice or lacks a byte"),
        ({"tokenizer.json": b"{"}, "tokenizer.json cannot be read"),
        ({"tokenizer.json": b'{"model": 3}'}, "tokenizer.json cannot be read"),
        ({"vocab.json": b"[]", "merges.txt": b"a b"}, "vocab.json and merges.txt do not fit"),
        ({"ice_text.model": b"<html>"}, "no SentencePiece file"),
        ({"tokenizer.model": b"IQ== 0\n", "tokenizer_config.json": b"[]"}, "holds a list, wanted a JSON object"),
        ({"added_tokens.json": b'{"<eom>": "x"}'}, "has the id 'x', wanted a whole number"),
    ],
)
def test_a_bad_file_gets_one_sentence(files, words):
    with pytest.raises(ModelLoadError) as refusal:
        read_tokenizer(files, CHATGLM2, 65024)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)
