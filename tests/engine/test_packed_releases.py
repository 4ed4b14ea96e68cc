"""Releases in few bits against packers of the test's own, and parts that contradict each other."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from core.engine.sources import open_source
from tests.engine.checkpoints import folder_with, refused, same, split_into_shards


def pack_rows(weights, bits):
    """Symmetric codes per row as ChatGLM's releases have them, value by value."""
    limit = 2 ** (bits - 1) - 1
    scale = (np.abs(weights).max(axis=1) / limit).astype(np.float16)
    codes = np.round(weights / scale[:, None].astype(np.float32)).clip(-limit - 1, limit).astype(int)
    if bits == 8:
        packed = codes.astype(np.int8)
    else:
        packed = np.array(
            [[((row[i] & 15) << 4) | (row[i + 1] & 15) for i in range(0, len(row), 2)] for row in codes], np.uint8
        ).view(np.int8)
    widened = codes.astype(np.float32) * scale[:, None].astype(np.float32)
    return torch.from_numpy(packed), torch.from_numpy(scale), torch.from_numpy(widened)


NAME = "transformer.encoder.layers.0.self_attention.query_key_value.weight"


def chatglm_release(path, bits, config):
    weights = np.random.default_rng(bits).normal(size=(6, 8)).astype(np.float32)
    packed, scale, widened = pack_rows(weights, bits)
    tensors = {NAME: packed, f"{NAME}_scale": scale, "transformer.final.weight": torch.ones(8).half()}
    split_into_shards(folder_with(path, config), "bin", dict(sorted(tensors.items(), key=lambda pair: len(pair[0]))))
    return {NAME: widened, "transformer.final.weight": torch.ones(8).half()}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("is_said", [True, False])
def test_a_chatglm_release_in_few_bits_comes_out_as_floats(tmp_path, bits, is_said):
    config = {"model_type": "chatglm", "hidden_size": 8} | ({"quantization_bit": bits} if is_said else {})
    wanted = chatglm_release(tmp_path / "release", bits, config)
    source = open_source(tmp_path / "release")
    assert {name: entry.shape for name, entry in source.entries.items()} == {
        n: tuple(t.shape) for n, t in wanted.items()
    }
    assert source.num_bytes == sum(tensor.nbytes for tensor in wanted.values())
    same(dict(source.tensors()), wanted)


@pytest.mark.parametrize("config", [{"quantization_bit": 3}, {"quantization_bit": "4"}, {}, {"hidden_size": 10}])
def test_a_number_of_bits_that_cannot_be_is_refused(tmp_path, config):
    chatglm_release(tmp_path / "release", 4, config)
    refused(tmp_path / "release", "config.json", "quantization_bit", NAME)


def test_a_scale_that_does_not_fit_its_matrix_is_refused(tmp_path):
    path = folder_with(tmp_path / "release", {"quantization_bit": 8})
    tensors = {"a.weight": torch.ones(3, 4, dtype=torch.int8), "a.weight_scale": torch.ones(4).half()}
    save_file(tensors, path / "model.safetensors")
    refused(path, "model.safetensors", "'a.weight_scale'", "'a.weight'")


def pack_gptq(codes, zeros, bits):
    """Codes (in, out) and zeros (groups, out), bit by bit into int32 words."""
    count = 32 // bits
    words = np.zeros((codes.shape[0] // count, codes.shape[1]), np.uint32)
    zero_words = np.zeros((zeros.shape[0], zeros.shape[1] // count), np.uint32)
    for i, row in enumerate(codes):
        for out, code in enumerate(row):
            words[i // count, out] |= np.uint32(int(code) << (bits * (i % count)))
    for group, row in enumerate(zeros):
        for out, zero in enumerate(row):
            zero_words[group, out // count] |= np.uint32(int(zero - 1) << (bits * (out % count)))
    return torch.from_numpy(words.view(np.int32)), torch.from_numpy(zero_words.view(np.int32))


def gptq_release(bits, group_size, num_inputs, is_ordered=False):
    chance = np.random.default_rng(bits)
    num_outputs, num_groups = 16, -(-num_inputs // group_size)
    codes = chance.integers(0, 2**bits, (num_inputs, num_outputs))
    zeros = chance.integers(1, 2**bits + 1, (num_groups, num_outputs))
    scales = chance.uniform(0.01, 0.1, (num_groups, num_outputs)).astype(np.float16)
    group = chance.permutation(num_inputs) // group_size if is_ordered else np.arange(num_inputs) // group_size
    words, zero_words = pack_gptq(codes, zeros, bits)
    wanted = scales[group].astype(np.float32) * (codes - zeros[group]).astype(np.float32)
    stem = "transformer.h.0.attn.qkv_proj"
    tensors = {f"{stem}.qweight": words, f"{stem}.qzeros": zero_words, f"{stem}.scales": torch.from_numpy(scales)}
    if is_ordered:
        tensors[f"{stem}.g_idx"] = torch.from_numpy(group.astype(np.int32))
    return tensors, {f"{stem}.weight": torch.from_numpy(wanted.T.copy())}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("is_ordered", [False, True])
@pytest.mark.parametrize(("group_size", "num_inputs"), [(32, 128), (64, 64), (32, 48)])
def test_a_gptq_release_comes_out_as_floats(tmp_path, bits, is_ordered, group_size, num_inputs):
    tensors, wanted = gptq_release(bits, group_size, num_inputs, is_ordered)
    plain = {"transformer.wte.weight": torch.randn(4, 8).half()}
    path = folder_with(tmp_path / "release", {"model_type": "moss", "wbits": bits, "groupsize": group_size})
    split_into_shards(path, "bin", {**tensors, **plain})  # the parts of the matrix lie in both shards
    source = open_source(path)
    assert {name: entry.shape for name, entry in source.entries.items()} == {
        name: tuple(tensor.shape) for name, tensor in {**plain, **wanted}.items()
    }
    same(dict(source.tensors()), {**plain, **wanted})


@pytest.mark.parametrize(
    ("change", "config", "words"),
    [
        ({"qzeros": None}, {}, "qkv_proj.qzeros' is missing"),
        ({"scales": None}, {}, "qkv_proj.scales' is missing"),
        ({}, {"wbits": 8}, "have 4 bits and config.json says 8"),
        ({}, {"wbits": 32}, "have 4 bits and config.json says 32"),
        ({}, {"quantization_config": {"bits": 8}}, "have 4 bits and config.json says 8"),
        ({}, {"quantization_config": {"checkpoint_format": "gptq_v2"}}, "'gptq_v2', wanted 'gptq'"),
        ({}, {"groupsize": 64}, "groups of 64 inputs"),
        ({"qweight": torch.ones(16, 15, dtype=torch.int32)}, {}, "do not fit each other"),
        ({"qweight": torch.ones(16, 16)}, {}, "do not fit each other"),
        ({"qzeros": torch.ones(4, dtype=torch.int32)}, {}, "wanted three matrices"),
        ({"qzeros": torch.ones(3, 2, dtype=torch.int32)}, {}, "do not fit each other"),
        ({"scales": torch.ones(4, 0)}, {}, "wanted three matrices"),
        ({"g_idx": torch.ones(3, dtype=torch.int32)}, {}, "do not fit each other"),
        ({"g_idx": torch.full((128,), 4, dtype=torch.int32)}, {}, "g_idx names groups 4 to 4, wanted 0 to 3"),
        ({"weight": torch.ones(16, 128)}, {}, "both packed and whole"),
    ],
)
def test_gptq_parts_that_contradict_each_other_are_named(tmp_path, change, config, words):
    tensors, _ = gptq_release(4, 32, 128)
    stem = "transformer.h.0.attn.qkv_proj"
    changed = {**tensors, **{f"{stem}.{part}": tensor for part, tensor in change.items()}}
    path = folder_with(tmp_path / "release", config)
    save_file({name: t for name, t in changed.items() if t is not None}, path / "model.safetensors")
    refused(path, "model.safetensors", words)
