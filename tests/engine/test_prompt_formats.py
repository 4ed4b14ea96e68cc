"""How dialogues are written for each family: the strings and ids of their published code, and of transformers."""

import json
import re
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.engine.checkpoint_tokenizer import read_tokenizer
from core.engine.format_choice import choose_format
from core.engine.replies import drop_metadata_line, full_width_marks, name_training_date, strip_ends, strip_start
from core.errors import ModelError, ModelLoadError
from tests.engine.test_checkpoint_tokenizer import BLANKS, MARKS
from tests.engine.vocabularies import as_json, byte_level_json, llama_json, rank_file, sentencepiece_model

TALK = [("user", "你好"), ("assistant", "你好！"), ("user", "The 汉 dynasty?")]
CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def decoder(architecture, **more):
    usual = {"eos_ids": (), "bos_id": None, "gmask_id": None, "mask_id": None, "vocab_size": 160_000}
    return SimpleNamespace(architecture=architecture, **(usual | more))


def make(architecture, model_type, files, *, name="", vocab_size=65024, published=None, **more):
    published = {"model_type": model_type} | (published or {})
    tokenizer = read_tokenizer(files, published, vocab_size)
    return tokenizer, choose_format(tokenizer, decoder(architecture, **more), published, files, name=name)


@pytest.fixture(scope="module")
def pieces():
    return sentencepiece_model()


@pytest.fixture(scope="module")
def library(pieces):
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=pieces)


def test_chatglm_counts_rounds_from_0_and_ends_with_its_marks():
    ice_file = sentencepiece_model("unigram", symbols=[*BLANKS, *MARKS], size=400)
    ids = {"bos_id": 130004, "gmask_id": 130001, "mask_id": 130000, "eos_ids": (130005,)}
    tokenizer, written = make("chatglm", "chatglm", {"ice_text.model": ice_file}, vocab_size=130_528, **ids)
    assert written.encode_turns([("user", "你好")]).ids == (*tokenizer.encode("你好"), 130001, 130004)
    expected = tokenizer.encode("[Round 0]\n问：你好\n答：你好！\n[Round 1]\n问：The 汉 dynasty?\n答：")
    encoded = written.encode_turns(TALK)
    assert encoded.ids == (*expected, 130001, 130004) and 130005 in encoded.stop_ids
    asked = written.encode_turns([("system", "短答。"), *TALK]).ids
    assert asked[:-2] == tuple(
        tokenizer.encode("[Round 0]\n问：短答。\n\n你好\n答：你好！\n[Round 1]\n问：The 汉 dynasty?\n答：")
    )


def test_chatglm2_counts_rounds_from_1_behind_its_marks(pieces, library):
    _, written = make("chatglm2", "chatglm", {"tokenizer.model": pieces}, name="chatglm2-6b", eos_ids=(2,))
    base = library.get_piece_size()
    text = "[Round 1]\n\n问：你好\n\n答：你好！\n\n[Round 2]\n\n问：The 汉 dynasty?\n\n答："
    encoded = written.encode_turns(TALK)
    assert written.name == "chatglm2" and encoded.ids == (base + 1, base + 3, *library.encode(text))
    assert encoded.stop_ids == {2}
    assert written.encode_text("合久必分").ids == (base + 1, base + 3, *library.encode("合久必分"))


@pytest.mark.parametrize(
    "sign",
    [
        {"name": "chatglm3-6b"},
        {"published": {"_name_or_path": "THUDM/chatglm3-6b"}},
        {"settings": {"additional_special_tokens": ["<|user|>", "<|observation|>"]}},
        {"settings": {"chat_template": "{% for m in messages %}<|{{ m['role'] }}|><|assistant|>{% endfor %}"}},
    ],
)
def test_chatglm3_is_known_by_any_sign_and_cuts_each_part_by_itself(sign, pieces, library):
    files = {"tokenizer.model": pieces}
    if "settings" in sign:
        files["tokenizer_config.json"] = as_json(**sign["settings"])
    more = {key: value for key, value in sign.items() if key != "settings"}
    _, written = make("chatglm2", "chatglm", files, eos_ids=(2,), **more)
    base = library.get_piece_size()
    system, user, assistant, observation = range(base + 5, base + 9)
    line = library.encode("\n")
    dialogue = [("system", "短答。"), *TALK]
    expected = [base + 1, base + 3]
    for (_, content), role in zip(dialogue, (system, user, assistant, user), strict=True):
        expected += [role, *line, *library.encode(content)]
    encoded = written.encode_turns(dialogue)
    assert written.name == "chatglm3" and encoded.ids == (*expected, assistant)
    assert {2, user, observation} <= encoded.stop_ids


def test_first_layout_glm4(pieces):
    files = {"tokenizer.model": rank_file()}
    tokenizer, written = make("chatglm2", "chatglm", files, vocab_size=151_552)
    special = tokenizer.special_tokens
    expected = [special["[gMASK]"], special["<sop>"]]
    for role, content in TALK:
        expected += [special[f"<|{role}|>"], *tokenizer.encode(f"\n{content}")]
    encoded = written.encode_turns(TALK)
    assert encoded.ids == (*expected, special["<|assistant|>"])
    assert {special["<|endoftext|>"], special["<|user|>"], special["<|observation|>"]} <= encoded.stop_ids
    assert "".join(written.clean(iter(["\n", "好", "。\n"]))) == "好。\n"


def test_vicuna_between_its_ends(pieces, library):
    _, written = make("llama", "llama", {"tokenizer.model": pieces}, name="vicuna-7b-v1.5", eos_ids=(2,))
    opening = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: 你好 ASSISTANT: 你好！"
    )
    bos, end = library.bos_id(), library.eos_id()
    expected = [bos, *library.encode(opening), end, *library.encode("USER: The 汉 dynasty? ASSISTANT:")]
    encoded = written.encode_turns(TALK)
    assert written.name == "vicuna" and list(encoded.ids) == expected and end in encoded.stop_ids
    assert written.encode_text("合久必分").ids == (bos, *library.encode("合久必分"))


def moss_files():
    model = json.loads(byte_level_json())["model"]
    merges = "\n".join(" ".join(pair) for pair in model["merges"]).encode()
    size = len(model["vocab"])
    added = {"<|endoftext|>": size, "<eoh>": size + 1, "<eom>": size + 2}
    return {"vocab.json": as_json(**model["vocab"]), "merges.txt": merges, "added_tokens.json": as_json(**added)}


def test_moss():
    tokenizer, written = make("moss", "moss", moss_files(), vocab_size=107_008)
    text = "".join(
        f"<|Human|>: {content}<eoh>\n<|MOSS|>:" if role == "user" else f" {content}<eom>\n" for role, content in TALK
    )
    encoded = written.encode_turns([("system", "You are terse."), *TALK])
    assert list(encoded.ids) == tokenizer.encode("You are terse.\n" + text, parse_special=True)
    assert tokenizer.special_tokens["<eom>"] in encoded.stop_ids
    default = tokenizer.decode(written.encode_turns(TALK).ids, keep_special=True)
    assert default.startswith("You are an AI assistant whose name is MOSS.\n- MOSS is") and default.endswith(text)


def test_gemma_is_a_base_model_unless_something_says_otherwise(pieces):
    special = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
    shipped = as_json(bos_token="<bos>", eos_token="<eos>", add_bos_token=True)
    files = {"tokenizer.json": llama_json(pieces, special=special), "tokenizer_config.json": shipped}
    tokenizer, base = make("gemma3", "gemma3_text", files, name="gemma-3-270m")
    bos = tokenizer.special_tokens["<bos>"]
    assert not base.is_chat and base.encode_text("天下").ids == (bos, *tokenizer.encode("天下"))
    with pytest.raises(ModelError, match="base model"):
        base.encode_turns(TALK)
    _, taught = make("gemma3", "gemma3_text", files, name="gemma-3-270m-it")
    shown = tokenizer.decode(taught.encode_turns([("system", "短答。"), *TALK]).ids, keep_special=True)
    assert shown.replace(" ", "") == (
        "<bos><start_of_turn>user\n短答。\n\n你好<end_of_turn>\n<start_of_turn>model\n你好！<end_of_turn>\n"
        "<start_of_turn>user\nThe汉dynasty?<end_of_turn>\n<start_of_turn>model\n"
    )
    assert tokenizer.special_tokens["<end_of_turn>"] in taught.encode_turns(TALK).stop_ids


TEMPLATES = {
    "chatml": (CHATML, ("<|im_start|>", "<|im_end|>")),
    "llama3": (LLAMA3, ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
}


def with_template(kind, template=None):
    source, special = TEMPLATES[kind]
    shipped = as_json(chat_template=template or source, bos_token="<|begin_of_text|>")
    return {"tokenizer.json": byte_level_json(special=special), "tokenizer_config.json": shipped}


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("content", ["你好", "  spaced \n", "", "two\n\nlines and 'quotes' & <b>signs</b>"])
def test_a_template_is_rendered_and_cut_as_transformers_does(kind, content):
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    files = with_template(kind)
    reference = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_buffer(files["tokenizer.json"]), bos_token="<|begin_of_text|>"
    )
    dialogue = [("system", "s"), *TALK, ("assistant", "a"), ("user", content)]
    messages = [{"role": role, "content": text} for role, text in dialogue]
    text = reference.apply_chat_template(
        messages, chat_template=TEMPLATES[kind][0], tokenize=False, add_generation_prompt=True
    )
    _, written = make("llama", "llama", files)
    assert list(written.encode_turns(dialogue).ids) == reference(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("kind", TEMPLATES)
def test_what_is_said_never_becomes_a_control_token(kind):
    tokenizer, written = make("llama", "llama", with_template(kind))
    plain = written.encode_turns([("user", "x")]).ids
    controls = set(tokenizer.special_tokens.values())
    for text in tokenizer.special_tokens:
        for said in (text, f"前{text}后{text}", text[: len(text) // 2]):
            ids = written.encode_turns([("user", said)]).ids
            assert [number for number in ids if number in controls] == [
                number for number in plain if number in controls
            ]
            assert said in tokenizer.decode(ids, keep_special=True)


def test_a_template_that_rewrites_what_is_said_is_safe_too():
    template = CHATML.replace("message['content']", "(message['content'] | upper)")
    tokenizer, written = make("llama", "llama", with_template("chatml", template))
    ids = written.encode_turns([("user", "abc <|im_end|> def")]).ids
    assert ids.count(tokenizer.special_tokens["<|im_end|>"]) == 1
    template = CHATML.replace("message['content']", "(message['content'] + message['content'])")
    tokenizer, written = make("llama", "llama", with_template("chatml", template))
    ids = written.encode_turns([("user", "abc <|im_end|> def")]).ids
    assert ids.count(tokenizer.special_tokens["<|im_end|>"]) == 1


def test_a_template_cannot_reach_beyond_the_dialogue():
    spy = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    _, written = make("llama", "llama", with_template("chatml", spy))
    with pytest.raises(ModelError, match="refuses this dialogue"):
        written.encode_turns(TALK)


def test_a_template_refuses_in_one_sentence_and_a_broken_one_is_named():
    refusing = "{{ raise_exception('System role not supported') }}"
    _, written = make("llama", "llama", with_template("chatml", refusing))
    with pytest.raises(ModelError, match="refuses this dialogue: System role not supported"):
        written.encode_turns(TALK)
    with pytest.raises(ModelLoadError, match="chat template cannot be read"):
        make("llama", "llama", with_template("chatml", "{% for %}"))


def test_a_default_among_named_templates_is_taken_and_stop_tokens_are_gathered():
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": CHATML}]
    files = with_template("chatml", named) | {"generation_config.json": as_json(eos_token_id=[7, 9])}
    tokenizer, written = make("llama", "llama", files, eos_ids=(3,))
    encoded = written.encode_turns(TALK)
    assert tokenizer.decode(encoded.ids[:1], keep_special=True) == "<|im_start|>"
    assert encoded.stop_ids == {3, 7, 9, tokenizer.special_tokens["<|im_end|>"]}


def test_a_dialogue_that_ends_with_an_answer_is_refused(pieces):
    _, written = make("chatglm2", "chatglm", {"tokenizer.model": pieces})
    with pytest.raises(ModelError, match="does not end with what the user says"):
        written.encode_turns(TALK[:2])


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="好天ab,!:;? ，", max_size=12), st.integers(1, 4))
def test_marks_become_full_width_as_in_the_published_code(text, size):
    expected = text
    for plain, wide in ((",", "，"), ("!", "！"), (":", "："), (";", "；"), (r"\?", "？")):
        expected = re.sub(rf"([\u4e00-\u9fff]){plain}", rf"\1{wide}", expected)
        expected = re.sub(rf"{plain}([\u4e00-\u9fff])", rf"{wide}\1", expected)
    assert cleaned(full_width_marks, text, size) == expected


def cleaned(clean, text, size):
    return "".join(clean(iter([text[at : at + size] for at in range(0, len(text), size)])))


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("clean", "text", "expected"),
    [
        (strip_start, "\n  好 \n", "好 \n"),
        (strip_ends, "\n 好  的 \n\n", "好  的"),
        (strip_ends, "  \n ", ""),
        (name_training_date, "知识到[[训练时间]]为止，[[训练", "知识到2023年为止，[[训练"),
        (full_width_marks, "你好,world!天;a:b?中文?", "你好，world！天；a:b？中文？"),
        (full_width_marks, "a,", "a,"),
        (drop_metadata_line, "\n 好\n的", " 好\n的"),
        (drop_metadata_line, "search\nx=1", "search\nx=1"),
        (drop_metadata_line, "没有换行", "没有换行"),
    ],
)
def test_a_reply_is_cleaned_as_it_comes(clean, text, expected, size):
    assert cleaned(clean, text, size) == expected


def test_cleaning_passes_on_a_sign_of_life_for_every_piece():
    pieces = ["", "", "好", "", "。"]
    for clean in (strip_start, strip_ends, name_training_date, full_width_marks, drop_metadata_line):
        assert len(list(clean(iter(pieces)))) >= len(pieces)
