"""The decode loop against ``generate`` of transformers, on a tiny random Llama with a real tokenizer."""

import json
import shutil
import threading

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from core.data.dialogues import Turn
from core.errors import ModelLoadError, PromptTooLong, SettingsError, UnknownModel
from core.llm.backend import Finish, SamplingSettings
from core.llm.backends import transformers_backend
from core.llm.backends.transformers_backend import TransformersBackend
from core.llm.chat_model import NovelChatModel

TEXT = "话说天下大势，分久必合，合久必分。The three kingdoms: 魏、蜀、吴。" * 4
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT_TOKENS = 192
GREEDY = SamplingSettings(temperature=0, max_new_tokens=24)


def make_tokenizer():
    """Byte-level pieces, few merges: a Chinese character takes two or three tokens."""
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([TEXT], vocab_size=290, special_tokens=["<s>", "</s>"], show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("tiny")
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.6,  # wide, so that greedy text does not fall into one token at once
    )
    torch.manual_seed(5)
    LlamaForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def backend(folder):
    return TransformersBackend(folder, name="tiny", bits=32, device="cpu")


def text_of(pieces):
    return "".join(piece for piece in pieces if isinstance(piece, str))


def reference(folder, prompt, max_new_tokens=24, **options):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    made = model.generate(ids, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0, **options)[0]
    prompt_text, whole = (tokenizer.decode(part, skip_special_tokens=True) for part in (ids[0], made))
    return whole[len(prompt_text) :]


@pytest.mark.parametrize("prompt", ["话说", "The three", TEXT[:40]])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_text_equals_generate(folder, backend, prompt, penalty):
    sampling = SamplingSettings(temperature=0, max_new_tokens=24, repetition_penalty=penalty)
    expected = reference(folder, prompt, repetition_penalty=penalty)
    assert text_of(backend.stream(prompt, sampling)) == expected


def test_a_prompt_read_in_parts_gives_the_same_text(folder, backend, monkeypatch):
    monkeypatch.setattr(transformers_backend, "PREFILL_TOKENS", 7)
    pieces = list(backend.stream(TEXT[:40], GREEDY))
    assert text_of(pieces) == reference(folder, TEXT[:40])
    assert pieces[0] == ""


def test_drawing_is_reproducible_by_seed(backend):
    def draw(seed):
        return text_of(backend.stream("话说", SamplingSettings(temperature=1.5, seed=seed, max_new_tokens=24)))

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 0.999}, {"logit_bias": {70: 1e4}}])
def test_each_filter_reaches_the_draw(backend, options):
    """Each of them leaves one token to draw: the likeliest, or the one that is favoured."""
    sampling = SamplingSettings(temperature=2.0, top_p=options.pop("top_p", 1.0), max_new_tokens=12, **options)
    ids = [token_id for token_id in backend._tokens([5, 6, 7], sampling) if token_id is not None]
    greedy = SamplingSettings(temperature=0, max_new_tokens=12)
    likeliest = [token_id for token_id in backend._tokens([5, 6, 7], greedy) if token_id is not None]
    assert ids == ([70] * 12 if "logit_bias" in options else likeliest)


def test_chinese_comes_out_in_whole_characters(backend):
    def replay(*_):
        return iter(backend._tokenizer(TEXT[:40], add_special_tokens=False).input_ids)

    real, backend._tokens = backend._tokens, replay
    try:
        pieces = [piece for piece in backend.stream("x", GREEDY) if isinstance(piece, str)]
    finally:
        backend._tokens = real
    assert "".join(pieces) == TEXT[:40]
    assert not any("\ufffd" in piece for piece in pieces)
    assert len([piece for piece in pieces if piece]) > 20


def test_the_last_piece_counts_tokens_and_says_why_it_ended(backend):
    *_, finish = backend.stream("话说", SamplingSettings(temperature=0, max_new_tokens=5))
    assert finish == Finish("length", backend.count_tokens("话说"), 5)


def test_an_answer_ends_where_the_context_does(backend):
    prompt = TEXT[:60]
    *_, finish = backend.stream(prompt, SamplingSettings(temperature=0, max_new_tokens=5000))
    assert finish.input_tokens + finish.output_tokens <= CONTEXT_TOKENS
    assert finish.reason in ("length", "stop")


def test_a_prompt_that_does_not_fit_is_refused(backend):
    with pytest.raises(PromptTooLong):
        next(backend.stream(TEXT * 3, GREEDY))


def test_closing_the_stream_stops_the_model(backend):
    steps, real = [], backend._scores
    backend._scores = lambda ids, cache: (steps.append(1), real(ids, cache))[1]
    try:
        stream = backend.stream("话说", SamplingSettings(temperature=1, seed=1, max_new_tokens=100))
        next(stream), next(stream)
        stream.close()
    finally:
        backend._scores = real
    assert len(steps) == 2
    assert not backend._lock.locked()


def test_gradient_mode_is_as_it_was_between_two_tokens(backend):
    stream = backend.stream("话说", GREEDY)
    next(stream)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    stream.close()


def test_a_stream_may_be_read_from_changing_threads(folder, backend):
    stream, said = backend.stream("话说", GREEDY), []

    def take():
        said.append(next(stream))

    while not (said and isinstance(said[-1], Finish)):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
    assert text_of(said) == reference(folder, "话说")


def test_a_dialogue_goes_through_the_chat_template(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "chat")
    (place / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    chatty = TransformersBackend(place, name="chatty", bits=32, device="cpu")
    assert chatty.is_chat
    turns = (Turn("system", "规矩"), Turn("user", "问"))
    expected = "<|system|>规矩</s><|user|>问</s><|assistant|>"
    assert chatty._tokenizer.decode(chatty._encode(turns)[0]) == expected


def test_a_base_model_gets_a_transcript(backend):
    assert not backend.is_chat
    ids, stops = backend._encode((Turn("user", "谁是赵云？"),))
    text = backend._tokenizer.decode(ids)
    assert text.endswith("用户：谁是赵云？\n助手：")
    assert {"\n用户：", "\nUser:"} <= set(stops)


def test_the_chat_model_streams_it(folder, backend):
    model = NovelChatModel(backend=backend, sampling=GREEDY)
    assert model.invoke("话说", raw=True).content == reference(folder, "话说")


def break_weights(place):
    (place / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{broken")


def cut_weights(place):
    whole = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def drop_a_tensor(place):
    from safetensors.torch import load_file, save_file

    tensors = load_file(place / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})


def change_config(**values):
    def change(place):
        config = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps({**config, **values}))

    return change


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda place: (place / "model.safetensors").unlink(), "holds no weights"),
        (lambda place: (place / "config.json").unlink(), "holds no config.json"),
        (lambda place: (place / "config.json").write_text("{"), "not a JSON object"),
        (lambda place: (place / "config.json").write_text("[]"), "not a JSON object"),
        (break_weights, "damaged"),
        (cut_weights, "damaged"),
        (drop_a_tensor, "lack 1 tensors, model.norm.weight"),
        (change_config(model_type="warp_drive"), "'warp_drive'.*transformers lacks it"),
        (change_config(model_type="chatglm", auto_map={"AutoModel": "m.M"}), "code of its own, which is never run"),
        (change_config(hidden_size=64), "cannot be read|damaged"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_refused_in_one_sentence(folder, tmp_path, damage, words):
    place = shutil.copytree(folder, tmp_path / "broken")
    damage(place)
    with pytest.raises(ModelLoadError, match=words) as refusal:
        TransformersBackend(place, name="broken", bits=32, device="cpu")
    assert "\n" not in str(refusal.value)


def test_a_folder_that_is_not_there_is_unknown(tmp_path):
    with pytest.raises(UnknownModel, match="is not a folder"):
        TransformersBackend(tmp_path / "nowhere", name="nowhere")


def test_bits_are_16_or_32(folder):
    with pytest.raises(SettingsError, match="bits is 4"):
        TransformersBackend(folder, name="tiny", bits=4)
