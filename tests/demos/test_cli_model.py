"""``novelscope model`` and ``chat PATH`` on small checkpoints of our own making, as a person runs them."""

import json
import re
import signal
import time

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.demos.cli_runner import novelscope, start
from tests.engine.vocabularies import as_json, byte_level_json, sentencepiece_model

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}<|im_start|>"


def chatglm2_tensors(vocab, layers=2, hidden=64, inner=96, heads=4, groups=2, head_dim=16):
    front = "transformer.encoder.layers"
    chance = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=chance).half() * 0.1

    tensors = {"transformer.embedding.word_embeddings.weight": draw(vocab, hidden)}
    for layer in range(layers):
        rows = (heads + 2 * groups) * head_dim
        tensors |= {
            f"{front}.{layer}.input_layernorm.weight": torch.ones(hidden).half(),
            f"{front}.{layer}.self_attention.query_key_value.weight": draw(rows, hidden),
            f"{front}.{layer}.self_attention.query_key_value.bias": draw(rows),
            f"{front}.{layer}.self_attention.dense.weight": draw(hidden, heads * head_dim),
            f"{front}.{layer}.post_attention_layernorm.weight": torch.ones(hidden).half(),
            f"{front}.{layer}.mlp.dense_h_to_4h.weight": draw(2 * inner, hidden),
            f"{front}.{layer}.mlp.dense_4h_to_h.weight": draw(hidden, inner),
        }
    return tensors | {
        "transformer.encoder.final_layernorm.weight": torch.ones(hidden).half(),
        "transformer.output_layer.weight": draw(vocab, hidden) * 3,
    }


@pytest.fixture(scope="module")
def chatglm3(tmp_path_factory):
    """A folder as THUDM publishes them, code and all."""
    folder = tmp_path_factory.mktemp("published") / "chatglm3-tiny"
    folder.mkdir()
    pieces = sentencepiece_model()
    (folder / "tokenizer.model").write_bytes(pieces)
    (folder / "modeling_chatglm.py").write_text("raise SystemExit('code of a checkpoint was run')")
    config = {
        "model_type": "chatglm", "auto_map": {"AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration"},
        "padded_vocab_size": 512, "hidden_size": 64, "num_layers": 2, "ffn_hidden_size": 96, "kv_channels": 16,
        "num_attention_heads": 4, "multi_query_attention": True, "multi_query_group_num": 2, "add_qkv_bias": True,
        "add_bias_linear": False, "rmsnorm": True, "layernorm_epsilon": 1e-5, "post_layer_norm": True,
        "apply_residual_connection_post_layernorm": False, "seq_length": 512, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    (folder / "config.json").write_bytes(as_json(**config))
    torch.save(chatglm2_tensors(512), folder / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama") / "tiny-llama"
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=352, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(byte_level_json())
    (folder / "tokenizer_config.json").write_bytes(as_json(chat_template=TEMPLATE))
    return folder


def run(home, *arguments, **options):
    done = novelscope(home, *arguments, **options)
    assert done.returncode == 0, done.stderr
    return done


def test_info_says_what_a_checkpoint_is_and_runs_none_of_its_code(chatglm3, tmp_path):
    facts = json.loads(run(tmp_path, "model", "info", str(chatglm3), "--json").stdout)
    assert (facts["architecture"], facts["prompt_format"], facts["is_chat"]) == ("chatglm2", "chatglm3", True)
    tensors = chatglm2_tensors(512)
    assert facts["num_parameters"] == sum(tensor.numel() for tensor in tensors.values() if tensor.dim() == 2)
    assert facts["sizes"]["32"] == 4 * facts["num_parameters"]
    shown = run(tmp_path, "model", "info", str(chatglm3)).stdout
    assert "chatglm3" in shown and "4 bits" in shown and "512 tokens" in shown


@pytest.mark.parametrize("bits", [4, *(pytest.param(bits, marks=pytest.mark.slow) for bits in (8, 16, 32))])
def test_a_rounded_file_is_as_large_as_foretold_and_answers_like_its_folder(bits, llama, tmp_path):
    target = tmp_path / f"tiny-{bits}.nscope"
    made = json.loads(run(tmp_path, "model", "quantize", str(llama), str(target), "--bits", str(bits), "--json").stdout)
    assert made == {"file": str(target), "bits": bits, "bytes": target.stat().st_size}
    before, after = (json.loads(run(tmp_path, "model", "info", str(path), "--json").stdout) for path in (llama, target))
    assert after["sizes"][str(bits)] == pytest.approx(before["sizes"][str(bits)], rel=0.15)
    for key in ("architecture", "num_parameters", "prompt_format", "tokenizer_pieces", "context_tokens"):
        assert after[key] == before[key]
    said = "你好\n"
    folder = run(tmp_path, "chat", str(llama), "--bits", str(bits), "--greedy", input=said).stdout
    assert folder.strip() and run(tmp_path, "chat", str(target), "--greedy", input=said).stdout == folder


def test_a_published_chatglm_folder_answers(chatglm3, tmp_path):
    assert run(tmp_path, "chat", str(chatglm3), "--bits", "8", "--greedy", input="话说天下\n").stdout.strip()


def test_bench_measures(llama, tmp_path):
    arguments = ["model", "bench", str(llama), "--prompt", "64", "--tokens", "8", "--repeats", "1", "--threads", "1"]
    speed = json.loads(run(tmp_path, *arguments, "--json").stdout)
    assert speed["threads"] == 1 and speed["prompt_tokens"] == 64
    assert all(speed[key] > 0 for key in ("prefill_tokens_per_s", "decode_tokens_per_s", "bandwidth_bytes_per_s"))
    assert re.search(r"writes [\d,.]+ tokens/s", run(tmp_path, *arguments).stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["info", "{nowhere}"], "does not exist"),
        (["info", "{folder}"], "holds no config.json"),
        (["quantize", "{llama}", "{folder}/x.gguf"], "does not end in .nscope"),
        (["quantize", "{llama}", "{there}"], "exists; name another file"),
        (["quantize", "{llama}", "{there}/x.nscope"], "there.nscope"),
        (["bench", "{llama}", "--prompt", "300"], "do not fit the model's 256"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(arguments, words, llama, tmp_path):
    there = tmp_path / "there.nscope"
    there.write_bytes(b"mine")
    places = {"nowhere": tmp_path / "nowhere", "folder": tmp_path, "llama": llama, "there": there}
    done = novelscope(tmp_path / "home", "model", *[argument.format(**places) for argument in arguments])
    assert done.returncode == 1 and words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
    assert [path for path in tmp_path.iterdir() if path.is_file()] == [there] and there.read_bytes() == b"mine"


def test_a_width_that_a_file_does_not_have_is_an_error(llama, tmp_path):
    target = tmp_path / "tiny.nscope"
    run(tmp_path, "model", "quantize", str(llama), str(target))
    done = novelscope(tmp_path, "chat", str(target), "--bits", "8", input="x\n")
    assert done.returncode == 1 and "holds weights of 4 bits, not 8" in done.stderr


def test_ctrl_c_while_rounding_leaves_no_file(tmp_path):
    folder = tmp_path / "larger"
    config = LlamaConfig(
        vocab_size=32000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=12, num_attention_heads=8
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    process = start(tmp_path, "model", "quantize", str(folder), str(tmp_path / "x.nscope"))
    while len(list(tmp_path.iterdir())) == 1 and process.poll() is None:  # until the new file is being written
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["larger"]
