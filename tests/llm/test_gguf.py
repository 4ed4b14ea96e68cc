"""What becomes of a GGUF file for transformers: refusals that leave nothing behind, and its name in the cache."""

import numpy as np
import pytest

from core.errors import ModelLoadError
from core.llm.backends.gguf_checkpoint import fingerprint, unpack_gguf

gguf = pytest.importorskip("gguf")


def write_model(path, architecture="llama", **more):
    """Two small tensors, one of them in blocks, with values of every shape."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_name("小模型")
    writer.add_token_list(["<s>", "三", "国"])
    writer.add_token_scores([0.0, -1.5, -2.5])
    for key, value in more.items():
        writer.add_string(key.replace("__", "."), value)
    chance = np.random.default_rng(0)
    embeddings = chance.normal(size=(3, 64)).astype(np.float32)
    writer.add_tensor("output_norm.weight", chance.normal(size=64).astype(np.float32))
    packed = gguf.quantize(embeddings, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("token_embd.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("gguf") / "small.gguf")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"architecture": "mamba"}, "architecture is 'mamba'; GGUF files of llama and gemma3"),
        ({"llama__rope__scaling__type": "yarn"}, "stretched in the manner 'yarn'"),
        ({}, "its tokenizer cannot be read"),
    ],
)
def test_what_cannot_be_unpacked_leaves_nothing_behind(tmp_path, options, words):
    import torch

    path = write_model(tmp_path / "x.gguf", **options)
    with pytest.raises(ModelLoadError, match=words) as refusal:
        unpack_gguf(path, tmp_path / "cache" / "x", weight_dtype=torch.float32)
    assert "\n" not in str(refusal.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_fingerprint_tells_files_apart(path, tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(path.read_bytes())
    assert fingerprint(other) == fingerprint(path)
    other.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert fingerprint(other) != fingerprint(path)
