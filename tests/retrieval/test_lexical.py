"""BM25 against its published formula, and the terms that it counts."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DamagedBook
from core.retrieval.lexical import K1, B, LexicalIndex
from core.retrieval.tokens import index_terms, question_terms

PASSAGES = [
    "金箍棒重一万三千五百斤，插在海底。",
    "老石匠的铁锤重十八斤。",
    "Anne hid the letters under the lamp; the letter was never found.",
    "行者掣出金箍棒，金箍棒迎风便长。",
]


def reference_scores(question: str) -> list[float]:
    """Lucene's BM25 as Kamphuis et al. (ECIR 2020) write it, term by term."""
    documents = [Counter(index_terms(passage)) for passage in PASSAGES]
    mean_length = sum(sum(document.values()) for document in documents) / len(documents)
    scores = [0.0] * len(documents)
    for term in question_terms(question):
        holders = sum(term in document for document in documents)
        idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
        for row, document in enumerate(documents):
            length = sum(document.values())
            count = document[term]
            scores[row] += idf * count / (count + K1 * (1 - B + B * length / mean_length))
    return scores


@pytest.mark.parametrize("question", ["金箍棒有多重？", "铁锤有多重？", "Where are the letters?", "曹操是谁？"])
def test_scores_equal_the_formula(question):
    scores = LexicalIndex.build(PASSAGES).scores(question)
    np.testing.assert_allclose(scores, reference_scores(question), rtol=1e-4, atol=1e-6)


def test_an_index_read_from_disk_scores_the_same(tmp_path):
    index = LexicalIndex.build(PASSAGES)
    index.save(tmp_path / "lexical")
    again = LexicalIndex.load(tmp_path / "lexical")
    assert again.scores("金箍棒有多重？").tolist() == index.scores("金箍棒有多重？").tolist()
    assert again.num_passages == len(PASSAGES)


def test_a_missing_file_of_the_index_names_the_cure(tmp_path):
    LexicalIndex.build(PASSAGES).save(tmp_path / "lexical")
    (tmp_path / "lexical" / "indptr.csc.index.npy").unlink()
    with pytest.raises(DamagedBook, match="novelscope rebuild"):
        LexicalIndex.load(tmp_path / "lexical")


def test_chinese_gives_characters_and_pairs_and_english_gives_stems():
    assert list(index_terms("石桥 Letters")) == ["石", "桥", "石桥", "letter"]


def test_question_words_are_left_out_and_no_pair_bridges_the_gap():
    assert question_terms("金箍棒有多重？") == ["金", "箍", "棒", "金箍", "箍棒"]
    assert question_terms("Who hid the letters?") == ["hid", "letter"]


def test_a_question_of_nothing_but_question_words_keeps_them():
    assert question_terms("他是谁？") and question_terms("Who is it?")


@given(st.text())
def test_any_text_has_terms_without_error(text):
    assert all(term == term.lower() or len(term) <= 2 for term in index_terms(text))
    assert isinstance(question_terms(text), list)
