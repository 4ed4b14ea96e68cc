"""Any encoder that transformers can load, on a tiny random BERT that is made here."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from core.errors import ModelLoadError
from core.retrieval.embedders import load_embedder
from core.retrieval.hub_embedder import HubEmbedder

TEXTS = ["山中的灯藏在石桥底下。", "剑", "北风吹过山谷，行人沉默了半晌，谁也没有说话。"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with a two-layer BERT of random weights, and a tokenizer that knows every character of the texts."""
    vocabulary = {token: row for row, token in enumerate([*SPECIAL, *sorted(set("".join(TEXTS)))])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(handle_chinese_chars=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    folder = tmp_path / "tiny-bert"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=16, **names).save_pretrained(folder)
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@torch.inference_mode()
def hidden_rows(folder, text):
    """The last hidden state of one text alone, (tokens, dim): no padding that could be pooled by mistake."""
    tokens = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=16, return_tensors="pt")
    return AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0].numpy()


def unit(vector):
    return vector / np.linalg.norm(vector)


def set_pooling(folder, **flags):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags), encoding="utf-8")


def test_a_folder_is_loaded_and_gives_unit_vectors_under_its_name(checkpoint):
    embedder = load_embedder(str(checkpoint))
    assert isinstance(embedder, HubEmbedder) and (embedder.name, embedder.dim) == ("tiny-bert", 32)
    vectors = embedder.embed_passages(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (3, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert embedder.embed_passages([]).shape == (0, 32)


def test_vectors_are_the_mean_of_a_plain_forward_pass(checkpoint):
    embedder = HubEmbedder(str(checkpoint))
    wanted = np.stack([unit(hidden_rows(checkpoint, text).mean(0)) for text in TEXTS])
    # fp32: a batch is padded, which changes only the order of sums
    np.testing.assert_allclose(embedder.embed_passages(TEXTS), wanted, atol=1e-5)
    np.testing.assert_allclose(embedder.embed_query(TEXTS[0]), wanted[0], atol=1e-5)


@pytest.mark.parametrize(("flag", "row"), [("pooling_mode_cls_token", 0), ("pooling_mode_lasttoken", -1)])
def test_the_checkpoints_own_pooling_is_honoured(checkpoint, flag, row):
    set_pooling(checkpoint, **{flag: True, "pooling_mode_mean_tokens": False})
    wanted = np.stack([unit(hidden_rows(checkpoint, text)[row]) for text in TEXTS])
    np.testing.assert_allclose(HubEmbedder(str(checkpoint)).embed_passages(TEXTS), wanted, atol=1e-5)


def test_a_folder_named_after_e5_gets_its_prefixes(checkpoint):
    folder = checkpoint.rename(checkpoint.with_name("my-e5-base"))
    embedder = HubEmbedder(str(folder))
    wanted = unit(hidden_rows(folder, "query: 剑").mean(0))
    np.testing.assert_allclose(embedder.embed_query("剑"), wanted, atol=1e-5)
    wanted = unit(hidden_rows(folder, "passage: 剑").mean(0))
    np.testing.assert_allclose(embedder.embed_passages(["剑"])[0], wanted, atol=1e-5)


@pytest.mark.parametrize("harm", ["empty", "no weights", "cut weights", "no tokenizer", "config", "pooling"])
def test_a_folder_that_is_no_model_is_refused_in_one_sentence(checkpoint, harm):
    if harm == "empty":
        for path in checkpoint.iterdir():
            path.unlink()
    elif harm == "no weights":
        (checkpoint / "model.safetensors").unlink()
    elif harm == "cut weights":
        whole = (checkpoint / "model.safetensors").read_bytes()
        (checkpoint / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    elif harm == "no tokenizer":
        for path in checkpoint.glob("tokenizer*"):
            path.unlink()
    elif harm == "config":
        (checkpoint / "config.json").write_text("{", encoding="utf-8")
    else:
        set_pooling(checkpoint)
        (checkpoint / "1_Pooling" / "config.json").write_text("[", encoding="utf-8")
    with pytest.raises(ModelLoadError, match="tiny-bert") as refused:
        HubEmbedder(str(checkpoint))
    assert "\n" not in str(refused.value)
