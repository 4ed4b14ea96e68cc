"""Ids against the sentencepiece library, on books and on texts made to confuse, for small models trained here."""

import io
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.engine.piece_models import MergeModel
from core.engine.piece_tokenizer import PieceTokenizer
from core.engine.piece_vocabulary import PieceKind, PieceRules, PieceVocabulary
from core.engine.tokenizer import IncrementalDecoder
from core.errors import ModelLoadError

BOOKS = ("sanguoyanyi", "xiyouji", "pride_and_prejudice")
USER = ["\n\n", "▁▁", "▁▁▁▁", "<sep>", "[U]", "曰"]
PLAIN = {"normalization_rule_name": "identity"}
OPTIONS = {
    "as_trained": PLAIN,
    "gemma": PLAIN
    | {
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "user_defined_symbols": USER,
        "split_digits": True,
    },
    "llama": PLAIN | {"remove_extra_whitespaces": False},
    "no_bytes": PLAIN | {"byte_fallback": False, "remove_extra_whitespaces": False},
    "across_words": PLAIN | {"split_by_whitespace": False, "control_symbols": ["<ctl>"]},
    "nmt_nfkc": {"normalization_rule_name": "nmt_nfkc", "user_defined_symbols": ["<sep>", "☃"]},
}
ATOMS = (
    *("三国", "刘备", "曰", "，", "。", "the ", "and", "ing", "123", "１２３", "a b", "'s"),
    *(" ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", "\u3000", "\u00a0", "\ufeff", "▁", "▁▁"),
    *("😀", "👨‍👩‍👧", "é", "e\u0301", "Ａ", "ﬁ", "𠮷", "‗", "☃☃", "\x00", "\x01", "\ud83d"),
    *("<s>", "</s>", "<bos>", "<unk>", "<0x41>", "<end_of_turn>", "<sep>", "[U]", "<ctl>"),
)


def confusing_texts(count, seed=0):
    """Atoms mixed with characters from all over, each text up to 25 of them."""
    chance = random.Random(seed)

    def unit():
        if chance.random() < 0.7:
            return chance.choice(ATOMS)
        return chr(
            chance.choice([chance.randrange(32, 127), chance.randrange(0x4E00, 0x9FFF), chance.randrange(160, 55000)])
        )

    texts = ["".join(unit() for _ in range(chance.randrange(25))) for _ in range(count)]
    # Python's text may hold half a character, which the library refuses; ours shows it as U+FFFD.
    return [text.replace("\ud83d", "\ufffd") for text in texts] + ["", " ", "  ", "▁", "a ", " a", "\n"]


def book(shared, name):
    return (shared / "corpus" / f"{name}.txt").read_text(encoding="utf-8")


@pytest.fixture(
    scope="module", params=[(model, name) for model in ("bpe", "unigram") for name in OPTIONS], ids="-".join
)
def pair(request, shared):
    """The library's tokenizer and ours, of one small model."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model, name = request.param
    lines = (book(shared, "sanguoyanyi")[5000:17000] + book(shared, "pride_and_prejudice")[5000:25000]).split("\n")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        model_type=model,
        vocab_size=2200,
        character_coverage=0.98,
        max_sentence_length=100_000,
        num_threads=1,
        minloglevel=2,
        **({"byte_fallback": True} | OPTIONS[name]),
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    converted = PieceTokenizer.from_sentencepiece(written.getvalue())
    return theirs, PieceTokenizer.from_bytes(converted.to_bytes())


def test_ids_and_texts_equal_those_of_sentencepiece_on_confusing_texts(pair):
    theirs, ours = pair
    for text in confusing_texts(1500):
        ids = theirs.encode(text)
        assert ours.encode(text) == ids, text
        assert ours.decode(ids) == theirs.decode(ids), text


@pytest.mark.parametrize("name", BOOKS)
def test_ids_equal_those_of_sentencepiece_on_a_stretch_of_a_book(pair, shared, name):
    theirs, ours = pair
    text = book(shared, name)[30_000:45_000]
    assert ours.encode(text) == theirs.encode(text)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOOKS)
def test_ids_equal_those_of_sentencepiece_on_a_whole_book(pair, shared, name):
    theirs, ours = pair
    text = book(shared, name)
    assert ours.encode(text) == theirs.encode(text)  # as one text: sums of scores grow as large as they can
    for line in text.splitlines():
        assert ours.encode(line) == theirs.encode(line)


def test_named_tokens_equal_those_of_sentencepiece(pair):
    theirs, ours = pair
    assert (ours.vocab_size, ours.bos_id, ours.eos_id, ours.unk_id, ours.pad_id) == (
        theirs.vocab_size(),
        theirs.bos_id(),
        theirs.eos_id(),
        theirs.unk_id(),
        None,
    )
    assert ours.special_tokens["<s>"] == theirs.bos_id()


def small_vocabulary(**rules):
    """Merges that lead to 三国, to ab and to abc, and the 256 bytes."""
    scores = {"三": -9, "国": -9, "a": -9, "b": -9, "c": -9, "▁": -9, "三国": -1, "bc": -3, "ab": -2, "abc": -4}
    named = {"<unk>": PieceKind.UNKNOWN, "<s>": PieceKind.CONTROL, "<end>": PieceKind.CONTROL, "\n\n": PieceKind.USER}
    bytes_ = {f"<0x{byte:02X}>": PieceKind.BYTE for byte in range(256)}
    kinds = named | bytes_ | dict.fromkeys(scores, PieceKind.NORMAL)
    return PieceVocabulary(
        list(kinds),
        np.array([scores.get(piece, 0) for piece in kinds], np.float32),
        np.array(list(kinds.values()), np.uint8),
        PieceRules(add_space_prefix=False, bos_id=1, eos_id=2, unk_id=0, **rules),
    )


@pytest.fixture
def small():
    return PieceTokenizer(small_vocabulary())


def shown(tokenizer, ids):
    return [tokenizer.decode([number], keep_special=True) for number in ids]


def test_merges_go_by_score_and_not_by_length(small):
    assert shown(small, small.encode("abc三国")) == ["abc", "三国"]
    assert shown(small, small.encode("bbc")) == ["b", "bc"]
    assert shown(small, small.encode("abbc")) == ["ab", "bc"]


def test_what_looks_like_a_control_token_is_text_unless_asked_for(small):
    text = "<s>ab<end>"
    assert small.encode(text, parse_special=True) == [1, *small.encode("ab"), 2]
    assert not {1, 2} & set(small.encode(text))
    assert small.decode(small.encode(text)) == text


def test_control_tokens_are_left_out_of_a_text_unless_kept(small):
    ids = [1, *small.encode("三国"), 2]
    assert small.decode(ids) == "三国"
    assert small.decode(ids, keep_special=True) == "<s>三国<end>"


def test_the_leading_space_stands_at_the_start_of_a_text_only():
    vocabulary = small_vocabulary()
    tokenizer = PieceTokenizer(
        PieceVocabulary(vocabulary.pieces, vocabulary.scores, vocabulary.kinds, PieceRules(add_space_prefix=True))
    )

    assert shown(tokenizer, tokenizer.encode("ab<s>ab", parse_special=True)) == ["", "ab", "<s>", "ab"]
    assert tokenizer.decode(tokenizer.encode("ab")) == "ab"


def test_an_id_beyond_the_vocabulary_stands_for_nothing(small):
    assert small.decode([small.vocab_size, -1, *small.encode("ab")]) == "ab"
    assert small.decode([small.vocab_size], keep_special=True) == ""


@given(st.text(max_size=30))
def test_text_given_out_as_ids_come_equals_the_whole_and_never_shows_half_a_character(text):
    tokenizer = PieceTokenizer(small_vocabulary())
    decoder = IncrementalDecoder(tokenizer)
    pieces = [decoder.add(number) for number in tokenizer.encode(text)]
    assert decoder.flush() == ""
    assert "".join(pieces) == text.replace("▁", " ")
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces)


def test_a_character_cut_in_half_shows_when_the_answer_ends(small):
    decoder = IncrementalDecoder(small)
    ids = small.encode("龍")
    assert [decoder.add(number) for number in ids[:2]] == ["", ""]
    assert decoder.flush() == small.decode(ids[:2]) == "\ufffd"
    assert [decoder.add(number) for number in ids] == ["", "", "龍"]


def test_an_inserted_piece_is_used(small):
    before = small.encode("国三")
    number = small.insert("国三", -0.5)
    assert (len(before), small.encode("国三"), number) == (2, [number], small.vocab_size - 1)
    assert small.insert("<new>", 0, PieceKind.CONTROL) == small.special_tokens["<new>"]
    assert PieceTokenizer.from_bytes(small.to_bytes()).encode("国三") == [number]
    with pytest.raises(ModelLoadError, match="in the vocabulary already"):
        small.insert("三国", 0)


@given(st.text("abc", max_size=12), st.lists(st.text("abc", min_size=2, max_size=4), max_size=8, unique=True))
def test_merging_equals_a_search_of_all_neighbours_for_the_best(text, unions):
    """The definition of merging by score, without queue, memory or segments."""
    pieces = ["a", "b", "c", *unions]
    ids = {piece: number for number, piece in enumerate(pieces)}
    scores = [-float(number) // 2 for number in range(len(pieces))]
    units = list(text)
    while True:
        pairs = [
            (-scores[ids[left + right]], at) for at, (left, right) in enumerate(pairwise(units)) if left + right in ids
        ]
        if not pairs:
            break
        at = min(pairs)[1]
        units[at : at + 2] = [units[at] + units[at + 1]]
    assert MergeModel(ids, scores, user={}).cut(text) == [ids[unit] for unit in units]


@given(st.data())
def test_damaged_bytes_are_refused_in_one_sentence(data):
    content = bytearray(small_vocabulary().to_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(content), bytes(content[:at])):
        with pytest.raises(ModelLoadError) as refusal:
            PieceTokenizer.from_bytes(damaged)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rules": PieceRules(bos_id=9999)}, "names the id 9999"),
        ({"rules": PieceRules(byte_fallback=False)}, "no token for unknown text"),
        ({"scores": np.zeros(3, np.float32)}, "3 scores"),
        ({"scores": np.full(270, np.nan, np.float32)}, "no numbers"),
        ({"kinds": np.full(270, 9, np.uint8)}, "kinds unheard of"),
        ({"kinds": np.full(270, 1, np.uint8)}, "0 of the 256 byte pieces"),
    ],
)
def test_a_vocabulary_that_contradicts_itself_is_refused(change, words):
    good = small_vocabulary()
    parts = {"pieces": good.pieces, "scores": good.scores, "kinds": good.kinds, "rules": good.rules} | change
    with pytest.raises(ModelLoadError, match=words):
        PieceTokenizer(PieceVocabulary(**parts))


def test_rules_that_are_not_followed_are_refused_in_one_sentence():
    pytest.importorskip("sentencepiece")
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    def model(**changes):
        proto = ModelProto()
        proto.pieces.add(piece="<unk>", score=0, type=2)
        proto.pieces.add(piece=" x", score=0, type=4)
        proto.trainer_spec.model_type = changes.get("model_type", 2)
        proto.trainer_spec.treat_whitespace_as_suffix = changes.get("suffix", False)
        proto.normalizer_spec.remove_extra_whitespaces = changes.get("remove", False)
        proto.normalizer_spec.precompiled_charsmap = changes.get("charsmap", b"")
        return proto.SerializeToString()

    PieceTokenizer.from_sentencepiece(model())
    for changes, words in (
        ({"model_type": 3}, "the model 'word'"),
        ({"suffix": True}, "before a word"),
        ({"remove": True}, "begin or end with one"),
    ):
        with pytest.raises(ModelLoadError, match=words):
            PieceTokenizer.from_sentencepiece(model(**changes))
    with pytest.raises(ModelLoadError, match="table of characters is damaged"):
        PieceTokenizer.from_sentencepiece(model(charsmap=b"\xff\xff\xff\xff")).encode("a")
    with pytest.raises(ModelLoadError, match="no sentencepiece model"):
        PieceTokenizer.from_sentencepiece(b"\xff" * 50)
