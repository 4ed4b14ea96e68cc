"""The engine as a backend, on a tiny random Llama with a chat template, against transformers' own ``generate``."""

import threading

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import core.engine.generation as generation
from core.data.dialogues import Turn
from core.errors import ModelLoadError, PromptTooLong, SettingsError
from core.llm.backend import Finish, SamplingSettings
from core.llm.models import load_chat_model
from tests.engine.vocabularies import as_json, byte_level_json

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
CONTEXT_TOKENS = 256
GREEDY = SamplingSettings(temperature=0, max_new_tokens=24)
TALK = (Turn("user", "话说天下大势"), Turn("assistant", "分久必合"), Turn("user", "The answer?"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=352, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT_TOKENS, initializer_range=0.4, bos_token_id=None,
        eos_token_id=331,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(place)
    (place / "tokenizer.json").write_bytes(byte_level_json())
    (place / "tokenizer_config.json").write_bytes(
        as_json(chat_template=TEMPLATE, eos_token="<|im_end|>", tokenizer_class="PreTrainedTokenizerFast")
    )
    return place


@pytest.fixture(scope="module")
def backend(folder, tmp_path_factory):
    return load_chat_model(str(folder), cache_dir=tmp_path_factory.mktemp("cache"), bits=32).backend


def text_of(pieces):
    return "".join(piece for piece in pieces if isinstance(piece, str))


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_a_dialogue_is_answered_as_transformers_answers_it(folder, backend, penalty):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    messages = [{"role": turn.role, "content": turn.content} for turn in TALK]
    ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)["input_ids"]
    made = model.generate(ids, max_new_tokens=24, do_sample=False, repetition_penalty=penalty, pad_token_id=0)
    expected = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    sampling = SamplingSettings(temperature=0, max_new_tokens=24, repetition_penalty=penalty)
    *pieces, finish = backend.stream(TALK, sampling)
    assert text_of(pieces) == expected.lstrip()
    assert finish.input_tokens == backend.count_tokens(TALK) == ids.shape[1]


def test_a_text_is_continued_word_for_word(folder, backend):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("周末七国", return_tensors="pt").input_ids
    made = model.generate(ids, max_new_tokens=24, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
    assert text_of(backend.stream("周末七国", GREEDY)) == tokenizer.decode(made, skip_special_tokens=True)


def test_a_stop_string_ends_the_answer_and_a_limit_is_told_apart(backend):
    whole = text_of(backend.stream("周末七国", GREEDY))
    stop = whole[5:8]
    *pieces, finish = backend.stream("周末七国", SamplingSettings(temperature=0, max_new_tokens=24, stop=(stop,)))
    assert text_of(pieces) == whole[: whole.index(stop)] and finish.reason == "stop"
    *_, finish = backend.stream("周末七国", SamplingSettings(temperature=0, max_new_tokens=3))
    assert finish == Finish("length", backend.count_tokens("周末七国"), 3)


def test_a_prompt_that_is_read_in_parts_gives_signs_of_life(backend, monkeypatch):
    monkeypatch.setattr(generation, "PREFILL_TOKENS", 16)
    pieces = list(backend.stream((Turn("user", "天下大势，" * 12),), GREEDY))
    assert pieces[:3] == ["", "", ""]


def test_a_prompt_that_does_not_fit_is_refused_before_anything_is_computed(backend):
    with pytest.raises(PromptTooLong, match=f"the model holds {CONTEXT_TOKENS}"):
        next(iter(backend.stream("天下" * CONTEXT_TOKENS, GREEDY)))


def test_closing_stops_the_model(backend, monkeypatch):
    steps = []
    step = backend._assistant.model._step
    logits = step.logits
    monkeypatch.setattr(step, "logits", lambda *args: steps.append(1) or logits(*args))
    stream = backend.stream("周末七国", SamplingSettings(temperature=0, max_new_tokens=100, logit_bias={331: -1e9}))
    for _ in range(4):
        next(stream)
    stream.close()
    assert len(steps) <= 4


def test_two_answers_at_once_are_those_of_each_alone(backend):
    alone = {text: text_of(backend.stream(text, GREEDY)) for text in ("周末七国", "The three")}
    found = {}

    def ask(text):
        found[text] = text_of(backend.stream(text, GREEDY))

    threads = [threading.Thread(target=ask, args=(text,)) for text in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_what_the_model_is_made_of(backend):
    facts = backend.facts
    assert (facts.architecture, facts.bits, facts.device) == ("llama", 32, "cpu")
    assert facts.memory_bytes >= facts.bytes_per_token > 4 * 2 * 64 * 64


def test_a_checkpoint_without_a_tokenizer_and_a_bad_width_get_one_sentence(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ModelLoadError, match="there is no tokenizer; wanted one of"):
        load_chat_model(str(tmp_path), cache_dir=tmp_path / "cache")
    with pytest.raises(SettingsError, match="bits is 5"):
        load_chat_model(str(folder), cache_dir=tmp_path, bits=5)
