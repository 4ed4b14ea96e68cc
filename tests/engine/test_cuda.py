"""The engine on an NVIDIA GPU against the CPU and the references; its 8-bit arithmetic is also tried without one."""

import numpy as np
import pytest
import torch

import core.engine as engine
from core.engine.cuda_weights import CudaInt8Weight, on_device
from core.engine.factory import choose_device
from core.engine.int8_weight import Int8Weight
from core.engine.loading import PrecisionSettings, load_weights
from core.engine.lowbit_file import write_lowbit
from core.engine.packing import WeightBuilder
from core.engine.sources import open_source
from core.errors import SettingsError
from tests.support import PARITY_FOLDERS, PARITY_LIMIT

gpu = pytest.mark.gpu
CUDA = torch.device("cuda")
SHAPES = [(350, 172), (128, 64), (16, 32), (65, 33), (512, 1024)]


@pytest.fixture(params=PARITY_FOLDERS)
def folder(request, shared):
    return shared / "parity" / request.param


@pytest.fixture
def expected(folder):
    with np.load(folder / "expected.npz") as arrays:
        return dict(arrays)


def prompts(expected):
    return [expected[f"prefill_{number}_ids"].tolist() for number in range(int(expected["n_prefill"]))]


def some_weight(shape, kind):
    builder = WeightBuilder(*shape, kind, use="rows", balances_columns=True)
    builder.add(0, torch.randn(shape, generator=torch.Generator().manual_seed(3)), name="a")
    return builder.finish()


def some_rows(tokens, columns):
    x = torch.randn(tokens, columns, generator=torch.Generator().manual_seed(4))
    x[0, 0] = 50  # an outlier, as real activations have
    return x


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tokens", [1, 3, 70])
def test_the_product_of_integers_is_that_of_the_rounded_matrix(shape, tokens):
    weight = some_weight(shape, "int8")
    assert isinstance(weight, Int8Weight)
    found = CudaInt8Weight(weight.codes, weight.scale, weight.zero, column_scale=weight.column_scale)
    x = some_rows(tokens, shape[1])
    wanted = x @ weight.take(torch.arange(shape[0])).t()
    # A step of the finer of the two roundings is 1/32,258 of the outlier, and errors of 1,024 columns add up.
    torch.testing.assert_close(found(x), wanted, rtol=0, atol=4e-4 * float(wanted.abs().max()))
    assert torch.equal(found.take(torch.tensor([0, 5])), weight.take(torch.tensor([0, 5])))


@gpu
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tokens", [1, 3, 70])
@pytest.mark.parametrize(("kind", "limit"), [("float32", 1e-6), ("bfloat16", 8e-3), ("int8", 4e-4), ("int4", 1.2e-2)])
def test_a_product_on_the_gpu_is_that_of_the_rounded_matrix(shape, tokens, kind, limit):
    weight = some_weight(shape, kind)
    x = some_rows(tokens, shape[1])
    ids = torch.arange(shape[0])
    wanted = x @ weight.take(ids).t()
    moved = on_device(weight, CUDA, use="both")
    torch.testing.assert_close(moved(x.to(CUDA)).cpu(), wanted, rtol=0, atol=limit * float(wanted.abs().max()))
    torch.testing.assert_close(moved.take(ids.to(CUDA)).cpu(), weight.take(ids))


@gpu
def test_float32_logits_and_greedy_tokens_are_those_of_the_reference(folder, expected):
    model = engine.load(folder, bits=32, device="cuda")
    for number, ids in enumerate(prompts(expected)):
        wanted = torch.tensor(expected[f"prefill_{number}_logits"])
        torch.testing.assert_close(model.forward(ids), wanted, rtol=0, atol=PARITY_LIMIT)
    found = list(model.generate(expected["greedy_prompt_ids"], max_new_tokens=20, stop_ids=()))
    assert found == expected["greedy_ids"].tolist()
    for rows, ids in zip(model.forward_batch(prompts(expected)[:4]), prompts(expected)[:4], strict=True):
        torch.testing.assert_close(rows, model.forward(ids), rtol=0, atol=PARITY_LIMIT)


@gpu
@pytest.mark.parametrize("bits", [16, 8, 4])
def test_low_bits_on_the_gpu_are_those_of_the_cpu(folder, expected, bits):
    ours, reference = (engine.load(folder, bits=bits, device=device) for device in ("cuda", "cpu"))
    assert ours.device.type == "cuda" and ours.num_bytes > 0
    for ids in prompts(expected):
        wanted = reference.forward(ids)
        # 16 and 4 bits compute in bfloat16, whose step is 2^-8 of a value, on both devices but in another order.
        limit = {16: 0.1, 8: 3e-2, 4: 0.1}[bits]
        torch.testing.assert_close(ours.forward(ids), wanted, rtol=0, atol=limit * float(wanted.abs().max()))


@gpu
@pytest.mark.parametrize("bits", [16, 8, 4])
def test_replayed_steps_continue_as_whole_passes_would(folder, expected, bits):
    model = engine.load(folder, bits=bits, device="cuda")
    prompt = expected["greedy_prompt_ids"].tolist()
    answer = list(model.generate(prompt, max_new_tokens=12, stop_ids=()))
    logits = model.forward(prompt + answer)[len(prompt) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(answer)[:, None])[:, 0]
    # Each token is the likeliest of a whole pass, or as likely but for what bfloat16 keys leave open.
    assert bool((logits.amax(-1) - chosen <= 0.1 * logits.abs().amax(-1)).all())
    model._kept.clear()  # what is read from a cache is rounded once more than what a prompt computes
    assert list(model.generate(prompt, max_new_tokens=12, stop_ids=())) == answer


@gpu
@pytest.mark.parametrize("bits", [4, 8, 32])
def test_low_memory_leaves_an_embedding_that_is_no_head_on_the_cpu(folder, expected, bits):
    small, usual = (engine.load(folder, bits=bits, device="cuda", low_memory=low) for low in (True, False))
    prompt = expected["greedy_prompt_ids"].tolist()
    answers = [list(model.generate(prompt, max_new_tokens=12, stop_ids=())) for model in (small, usual)]
    assert answers[0] == answers[1]
    assert small._decoder.embedding.is_on_host == (not small.config.ties_embeddings)


@gpu
def test_a_cache_that_grows_and_requests_that_take_turns_change_no_token(shared):
    model = engine.load(shared / "parity" / "llama", bits=32, device="cuda")
    wanted = list(engine.load(shared / "parity" / "llama", bits=32, device="cpu").generate([3, 4], max_new_tokens=250))
    first, second = (model.generate([3, 4], max_new_tokens=250) for _ in range(2))
    both = list(zip(first, second, strict=True))
    assert both == list(zip(wanted, wanted, strict=True))
    drawn = [list(model.generate([3, 4], max_new_tokens=20, temperature=1.5, seed=7, stop_ids=())) for _ in range(2)]
    assert drawn[0] == drawn[1]


@gpu
def test_answers_of_one_batch_are_those_of_each_prompt_alone(folder, expected):
    model = engine.load(folder, bits=32, device="cuda")
    sequences = prompts(expected)[:3]
    alone = [list(model.generate(ids, max_new_tokens=8, stop_ids=())) for ids in sequences]
    steps = list(model.generate_batch(sequences, max_new_tokens=8, stop_ids=()))
    assert [list(answer) for answer in zip(*steps, strict=True)] == alone


@gpu
@pytest.mark.parametrize("bits", [4, 8, 32])
def test_a_saved_model_gives_the_same_logits_to_the_last_bit(folder, expected, bits, tmp_path):
    source = open_source(folder)
    path = tmp_path / "model.nscope"
    write_lowbit(
        path, load_weights(source, PrecisionSettings(bits=bits)), bits=bits, name="tiny", published={}, files={}
    )
    ids = prompts(expected)[-1]
    assert torch.equal(
        engine.load(path, device="cuda").forward(ids), engine.load(folder, bits=bits, device="cuda").forward(ids)
    )


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cuda:x", "cpu:1", ""])
def test_a_device_that_is_not_here_gets_one_sentence(name):
    with pytest.raises(SettingsError, match="device is"):
        choose_device(name)
