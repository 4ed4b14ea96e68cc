"""The engine on every architecture: logits, cache, padding, drafts, reuse, files. References are shared/parity."""

import threading

import numpy as np
import pytest
import torch

import core.engine as engine
from core.engine.cache import StaticCache
from core.engine.factory import assemble
from core.engine.loading import PrecisionSettings, load_weights
from core.engine.lowbit_file import read_lowbit, write_lowbit
from core.engine.sampling import Choice
from core.engine.sources import open_source
from core.errors import ModelError, ModelLoadError, PromptTooLong, SettingsError, UnknownModel
from core.model.layout import plan
from tests.support import PARITY_FOLDERS, PARITY_LIMIT


@pytest.fixture(params=PARITY_FOLDERS)
def folder(request, shared):
    return shared / "parity" / request.param


@pytest.fixture
def expected(folder):
    with np.load(folder / "expected.npz") as arrays:
        return dict(arrays)


def prompts(expected):
    return [expected[f"prefill_{number}_ids"].tolist() for number in range(int(expected["n_prefill"]))]


def test_float32_logits_and_greedy_tokens_are_those_of_the_reference(folder, expected):
    model = engine.load(folder, bits=32)
    for number, ids in enumerate(prompts(expected)):
        wanted = torch.tensor(expected[f"prefill_{number}_logits"])
        torch.testing.assert_close(model.forward(ids), wanted, rtol=0, atol=PARITY_LIMIT)
    found = list(model.generate(expected["greedy_prompt_ids"], max_new_tokens=20, stop_ids=()))
    assert found == expected["greedy_ids"].tolist()


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_steps_with_the_cache_equal_a_full_pass(folder, expected, bits):
    model = engine.load(folder, bits=bits, device="cpu")
    prompt, answer = expected["greedy_prompt_ids"].tolist(), expected["greedy_ids"].tolist()
    full = model.forward(prompt + answer)
    config = model.config
    with torch.inference_mode():
        cache = StaticCache(config, room=4)
        if model._decoder.prefix is not None:
            cache.seed(model._decoder.prefix(1))
        layout = plan(config, torch.tensor(prompt)[None])
        model._decoder(torch.tensor(prompt)[None], cache=cache, layout=layout)
        cache.advance(len(prompt))
        rows = []
        for number, token_id in enumerate(answer):
            whole = torch.tensor(prompt + answer[: number + 1])[None]
            place = plan(config, whole, past=len(prompt) + number).positions[0].flatten().tolist()
            rows.append(model._step.logits(token_id, tuple(place) if len(place) == 2 else place[0], cache))
    # The 4-bit product computes in bfloat16, whose step is 2^-8 of a value.
    limit = {32: 1e-4, 8: 5e-3, 4: 0.1}[bits]
    torch.testing.assert_close(torch.stack(rows), full[len(prompt) :], rtol=0, atol=limit * float(full.abs().max()))


def test_a_batch_of_unequal_prompts_equals_each_alone(folder, expected):
    model = engine.load(folder, bits=32)
    sequences = prompts(expected)[:4]
    for rows, ids in zip(model.forward_batch(sequences), sequences, strict=True):
        torch.testing.assert_close(rows, model.forward(ids), rtol=0, atol=PARITY_LIMIT)


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_a_saved_model_gives_the_same_logits_to_the_last_bit(folder, expected, bits, tmp_path):
    source = open_source(folder)
    loaded = load_weights(source, PrecisionSettings(bits=bits))
    path = tmp_path / "model.nscope"
    write_lowbit(path, loaded, bits=bits, name="tiny", published=source.config, files={"a.txt": b"x"})
    ids = prompts(expected)[-1]
    assert torch.equal(engine.load(path).forward(ids), assemble(loaded).forward(ids))
    assert read_lowbit(path).files == {"a.txt": b"x"}


@pytest.fixture
def llama(shared):
    return engine.load(shared / "parity" / "llama", bits=32)


def test_answers_of_one_batch_are_those_of_each_prompt_alone(folder, expected):
    model = engine.load(folder, bits=32)
    sequences = prompts(expected)[:3]
    assert len({len(ids) for ids in sequences}) > 1
    alone = [list(model.generate(ids, max_new_tokens=8, stop_ids=())) for ids in sequences]
    steps = list(model.generate_batch(sequences, max_new_tokens=8, stop_ids=()))
    assert [list(answer) for answer in zip(*steps, strict=True)] == alone
    stop = alone[0][3]
    ended = list(zip(*model.generate_batch(sequences, max_new_tokens=8, stop_ids=[stop]), strict=True))
    for answer, whole in zip(ended, alone, strict=True):
        until = whole.index(stop) if stop in whole else len(whole)
        assert [token for token in answer if token is not None] == whole[:until]


def test_each_answer_of_a_batch_has_a_seed_of_its_own(llama):
    def draw(prompts, seed):
        choice = Choice(temperature=1.5)
        steps = llama.generate_batch(prompts, max_new_tokens=12, choice=choice, seed=seed, stop_ids=())
        return list(zip(*steps, strict=True))

    both = draw([[3, 4, 5], [3, 4, 5]], 7)
    assert both == draw([[3, 4, 5], [3, 4, 5]], 7)
    assert both[0] != both[1] and [both[1]] == draw([[3, 4, 5]], 8)


def test_drafts_change_no_greedy_answer(llama):
    prompt = [5, 9, 2, 7, 1, 5, 9, 2, 7, 1, 5, 9]
    plain = list(llama.generate(prompt, max_new_tokens=80, stop_ids=()))
    assert list(llama.generate(prompt, max_new_tokens=80, stop_ids=(), use_drafts=True)) == plain
    assert len(plain) == 80


def test_a_second_turn_reads_only_what_is_new(llama, monkeypatch):
    first = list(range(40, 80))
    answer = list(llama.generate(first, max_new_tokens=6, stop_ids=()))
    second = first + answer + [11, 12, 13]
    read = []
    decoder = llama._decoder
    forward = decoder.forward
    monkeypatch.setattr(decoder, "forward", lambda ids, *a, **k: read.append(ids.shape[1]) or forward(ids, *a, **k))
    with_reuse = list(llama.generate(second, max_new_tokens=6, stop_ids=()))
    assert sum(read) <= 4
    llama._kept.clear()
    assert list(llama.generate(second, max_new_tokens=6, stop_ids=())) == with_reuse
    assert sum(read) >= len(second)


def test_equal_seeds_give_equal_answers(llama):
    def draw(seed):
        return list(llama.generate([3, 4, 5], max_new_tokens=30, temperature=1.5, seed=seed, stop_ids=()))

    assert draw(7) == draw(7) != draw(8)


def test_two_requests_take_turns(llama):
    order, ready = [], threading.Barrier(2)

    def read(name):
        ready.wait()
        for _ in llama.generate([3, 4, 5], max_new_tokens=60, stop_ids=()):
            order.append(name)

    threads = [threading.Thread(target=read, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first_done = min(len(order) - order[::-1].index(name) for name in "ab")
    # Neither finishes while the other has barely begun.
    assert min(order[:first_done].count(name) for name in "ab") > 20


def test_a_biased_and_a_stopping_token(llama):
    assert list(llama.generate([3, 4], max_new_tokens=3, logit_bias={17: 1e4}, stop_ids=())) == [17] * 3
    assert list(llama.generate([3, 4], max_new_tokens=3, logit_bias={17: 1e4}, stop_ids=(17,))) == []


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda model: model.forward([]), ModelError, "no token ids"),
        (lambda model: model.forward([999]), ModelError, "999"),
        (lambda model: model.forward([1.5]), ModelError, "1.5"),
        (lambda model: next(model.generate([1], seed=1 << 70)), SettingsError, "seed"),
        (lambda model: next(model.generate([1], seed="7")), SettingsError, "seed"),
        (lambda model: model.forward([1] * 257), PromptTooLong, "257"),
        (lambda model: next(model.generate([1], max_new_tokens=0)), SettingsError, "max_new_tokens"),
        (lambda model: next(model.generate([1], temperature=-1)), SettingsError, "temperature"),
        (lambda model: next(model.generate([1], min_p=1)), SettingsError, "min_p"),
        (lambda model: next(model.generate([1], logit_bias={999: 1.0})), SettingsError, "logit_bias"),
    ],
)
def test_bad_requests_get_one_sentence(llama, call, error, words):
    with pytest.raises(error, match=words):
        call(llama)


def test_bad_settings_and_paths_get_one_sentence(shared, tmp_path):
    with pytest.raises(SettingsError, match="bits"):
        engine.load(shared / "parity" / "llama", bits=5)
    with pytest.raises(UnknownModel):
        engine.load(tmp_path / "nothing")


@pytest.mark.parametrize("damage", ["missing", "shape", "nan", "stranger"])
def test_a_wrong_tensor_is_named(shared, tmp_path, damage):
    from safetensors.torch import load_file, save_file

    source = shared / "parity" / "llama"
    tensors = load_file(source / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    if damage == "missing":
        del tensors[name]
    elif damage == "shape":
        tensors[name] = tensors[name][:, :-1].contiguous()
    elif damage == "nan":
        tensors[name][3, 4] = float("nan")
    else:
        name = "model.layers.1.self_attn.q_proj.bias"
        tensors[name] = torch.zeros(64)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    with pytest.raises(ModelLoadError, match=name.replace(".", r"\.")):
        engine.load(tmp_path, bits=8)


def test_a_changed_byte_in_a_saved_model_is_found(shared, tmp_path):
    source = open_source(shared / "parity" / "llama")
    path = tmp_path / "model.nscope"
    loaded = load_weights(source, PrecisionSettings(bits=4))
    write_lowbit(path, loaded, bits=4, name="tiny", published=source.config, files={})
    data = bytearray(path.read_bytes())
    data[4096] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelLoadError, match=r"layers|embedding|head"):
        engine.load(path)


def test_a_large_file_is_used_before_it_is_checked_and_gives_nothing_away_if_damaged(shared, tmp_path, monkeypatch):
    monkeypatch.setattr("core.engine.lowbit_file.CHECKED_FIRST_BYTES", 0)
    source = open_source(shared / "parity" / "llama")
    path = tmp_path / "model.nscope"
    loaded = load_weights(source, PrecisionSettings(bits=4))
    write_lowbit(path, loaded, bits=4, name="tiny", published=source.config, files={})
    ids = list(range(20, 60))
    assert torch.equal(engine.load(path).forward(ids), assemble(loaded).forward(ids))
    data = bytearray(path.read_bytes())
    data[4096] ^= 1
    path.write_bytes(data)
    model = engine.load(path)
    for use in (
        lambda: model.forward(ids),
        lambda: model.forward_batch([ids]),
        lambda: next(model.generate(ids)),
        lambda: next(model.generate_batch([ids])),
    ):
        with pytest.raises(ModelLoadError, match=r"layers|embedding|head"):
            use()


def test_low_memory_changes_no_token_and_keeps_one_conversation(folder, expected):
    prompt = expected["greedy_prompt_ids"].tolist()
    model = engine.load(folder, bits=32, low_memory=True)
    assert list(model.generate(prompt, max_new_tokens=20, stop_ids=())) == expected["greedy_ids"].tolist()
    list(model.generate([7] * 12 + prompt, max_new_tokens=2, stop_ids=()))
    assert len(model._kept) <= 1


def test_finished_requests_are_kept_within_bounds(llama, shared, monkeypatch):
    for start in range(20, 40):
        list(llama.generate([start] * 20, max_new_tokens=2, stop_ids=()))
    assert len(llama._kept) <= 4
    monkeypatch.setattr("core.engine.kept.MAX_BYTES", 1)
    list(llama.generate([3, 4], max_new_tokens=2, stop_ids=()))
    assert not llama._kept
    first_generation = engine.load(shared / "parity" / "chatglm", bits=32)
    list(first_generation.generate([5, 6, 7, 325, 328], max_new_tokens=2, stop_ids=()))
    assert not first_generation._kept, "its keys depend on all of the context, so no other request can use them"
