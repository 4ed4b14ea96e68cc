"""Logits of the reference implementations, for every architecture, against the plain decoder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from core.engine.sources import open_source
from core.errors import ModelError, ModelLoadError
from core.model.architectures import find_architecture, placements, read_config
from core.model.decoder import Decoder
from core.model.layout import plan
from tests.support import PARITY_FOLDERS, PARITY_LIMIT


def fill(decoder, tensors):
    parameters = {**dict(decoder.named_parameters()), **dict(decoder.named_buffers())}
    for name, place in placements(decoder.config, tensors).items():
        if name not in tensors:
            assert place.is_optional, name
            continue
        rows = tensors[name].float()
        assert tuple(rows.shape) == place.shape
        rows = place.reorder(rows) if place.reorder else rows
        with torch.no_grad():
            parameters[place.target][place.start : place.start + len(rows)] = rows


@pytest.fixture(params=PARITY_FOLDERS)
def fixture_folder(request, shared):
    return shared / "parity" / request.param


@pytest.fixture
def decoder(fixture_folder):
    source = open_source(fixture_folder)
    tensors = dict(source.tensors())
    made = Decoder(read_config(source.config, tensors)).eval()
    fill(made, tensors)
    return made


@pytest.fixture
def expected(fixture_folder):
    with np.load(fixture_folder / "expected.npz") as arrays:
        return dict(arrays)


@torch.inference_mode()
def test_a_full_pass_gives_the_logits_of_the_reference(decoder, expected):
    for number in range(int(expected["n_prefill"])):
        ids = torch.tensor(expected[f"prefill_{number}_ids"])[None]
        wanted = torch.tensor(expected[f"prefill_{number}_logits"])
        torch.testing.assert_close(decoder(ids)[0], wanted, rtol=0, atol=PARITY_LIMIT)


@torch.inference_mode()
def test_a_padded_batch_gives_the_logits_of_the_reference(decoder, expected):
    if "batch_ids" not in expected:
        pytest.skip("this fixture has no batch")
    mask = torch.tensor(expected["batch_mask"])
    found = decoder(torch.tensor(expected["batch_ids"]), mask)[mask.bool()]
    wanted = torch.tensor(expected["batch_logits"]).float()[mask.bool()]
    torch.testing.assert_close(found, wanted, rtol=0, atol=PARITY_LIMIT)


def test_positions_are_those_of_the_reference(decoder, expected):
    for number in range(int(expected["n_prefill"])):
        if f"prefill_{number}_position_ids" in expected:
            layout = plan(decoder.config, torch.tensor(expected[f"prefill_{number}_ids"])[None])
            assert layout.positions[0].tolist() == expected[f"prefill_{number}_position_ids"].tolist()


def test_every_parameter_learns(decoder, expected):
    ids = torch.tensor(expected["prefill_2_ids"])[None]
    decoder(ids).float().logsumexp(-1).sum().backward()
    still = [name for name, value in decoder.named_parameters() if value.grad is None or not value.grad.any()]
    assert not still


def transformers_logits(model, ids):
    with torch.inference_mode():
        return model.eval()(ids).logits


SMALL = {"hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 3, "vocab_size": 120, "head_dim": 12}
RIVALS = {
    "llama3 scaling, grouped, tied": (
        "llama",
        dict(
            intermediate_size=80,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            rope_scaling={
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        ),
    ),
    "linear scaling, biases": (
        "llama",
        dict(
            intermediate_size=80,
            attention_bias=True,
            mlp_bias=True,
            rope_scaling={"rope_type": "linear", "factor": 4.0},
        ),
    ),
    "gemma3 with a list of layer types": (
        "gemma3_text",
        dict(
            intermediate_size=80,
            num_key_value_heads=2,
            sliding_window=8,
            query_pre_attn_scalar=20,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        ),
    ),
    "glm with another share of rotated channels": (
        "glm",
        dict(intermediate_size=80, num_key_value_heads=1, partial_rotary_factor=1.0, pad_token_id=0),
    ),
    "glm4 without biases": (
        "glm4",
        dict(intermediate_size=80, num_key_value_heads=4, partial_rotary_factor=0.5, pad_token_id=0),
    ),
}


@pytest.mark.parametrize("name", RIVALS)
def test_other_shapes_equal_transformers(name, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, fields = RIVALS[name]
    torch.manual_seed(3)
    rival = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL, **fields), attn_implementation="eager")
    with torch.no_grad():
        for parameter in rival.parameters():
            parameter.normal_(0, 0.2)
    rival.save_pretrained(tmp_path)
    source = open_source(tmp_path)
    tensors = dict(source.tensors())
    ours = Decoder(read_config(source.config, tensors))
    fill(ours, tensors)
    ids = torch.arange(60)[None] % 117
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids), transformers_logits(rival, ids), rtol=0, atol=PARITY_LIMIT)


def test_a_nested_gemma_config_is_read(shared):
    config = json.loads((shared / "parity" / "gemma3_text" / "config.json").read_text())
    nested = {"model_type": "gemma3", "text_config": config, "vision_config": {}}
    names = [f"language_model.model.{name}" for name in ("embed_tokens.weight", "norm.weight")]
    read = read_config(nested, names)
    assert read == read_config(config)
    assert set(names) <= set(placements(read, names))


@pytest.mark.parametrize(
    ("fields", "names", "architecture"),
    [
        ({"model_type": "chatglm", "position_encoding_2d": True}, [], "chatglm"),
        ({"model_type": "chatglm", "padded_vocab_size": 8}, [], "chatglm2"),
        ({"model_type": "edited"}, ["transformer.word_embeddings.weight"], "chatglm"),
        ({"model_type": "chatglm"}, ["transformer.embedding.word_embeddings.weight"], "chatglm2"),
    ],
)
def test_the_generations_are_told_apart(fields, names, architecture):
    assert find_architecture(fields, names) == architecture


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model_type": "mamba"}, "model_type"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"num_key_value_heads": 3}, "key-value heads"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_scaling"),
        ({"hidden_act": "relu"}, "hidden_act"),
    ],
)
def test_a_config_that_cannot_work_names_its_field(shared, change, field):
    config = json.loads((shared / "parity" / "llama" / "config.json").read_text())
    with pytest.raises(ModelLoadError, match=field):
        read_config({**config, **change})


def test_a_chatglm_sequence_without_its_marks_is_refused(shared):
    config = read_config(json.loads((Path(shared) / "parity" / "chatglm" / "config.json").read_text()))
    with pytest.raises(ModelError, match="sop"):
        plan(config, torch.tensor([[5, 6, 325]]))
    with pytest.raises(ModelError, match="gMASK"):
        plan(config, torch.tensor([[5, 6, 328]]))
