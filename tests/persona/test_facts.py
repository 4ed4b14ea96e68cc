"""Facts that are remembered and recalled, against numpy."""

import numpy as np
import pytest

from core.errors import NovelscopeError, SettingsError
from core.persona.memory import Fact, FactNotFound, Memory

ME, HER = "reader", "daiyu"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "memory.sqlite"


@pytest.fixture
def memory(path):
    memory = Memory(path)
    yield memory
    memory.close()


def embedded(texts):
    """Counts of four letters."""
    return np.array([[text.count(letter) for letter in "abcd"] for text in texts], dtype=np.float64)


def test_facts_are_added_changed_and_deleted(memory):
    first = memory.add_fact(ME, HER, "爱喝茶", 3)
    second = memory.add_fact(ME, HER, "has a cat", None)
    assert (
        memory.facts(ME, HER, None)
        == (first, second)
        == (Fact(first.id, "爱喝茶", 3), Fact(second.id, "has a cat", None))
    )
    assert memory.facts(ME, HER, 3) == (first,) and memory.facts(ME, HER, 2) == ()
    changed = memory.edit_fact(ME, HER, first.id, "爱喝龙井", 6)
    assert changed == Fact(first.id, "爱喝龙井", 6)
    assert memory.facts(ME, HER, 5) == () and memory.facts(ME, HER, 6) == (changed,)
    memory.delete_fact(ME, HER, first.id)
    assert memory.facts(ME, HER, None) == (second,)
    assert memory.add_fact(ME, HER, "new", 1).id not in (first.id, second.id)


def test_a_fact_is_remembered_once_from_the_earliest_bookmark_on(memory):
    one = memory.add_fact(ME, HER, "x", 5)
    assert memory.add_fact(ME, HER, "x", 2) == Fact(one.id, "x", 2)
    assert memory.add_fact(ME, HER, "x", None) == Fact(one.id, "x", 2)
    assert memory.facts(ME, HER, 2) == (Fact(one.id, "x", 2),)


@pytest.mark.parametrize("id", [0, -1, 2**70, 999])
def test_a_fact_that_is_not_there_is_not_found(memory, id):
    memory.add_fact(ME, HER, "x", 1)
    for ask in (lambda: memory.edit_fact(ME, HER, id, "y", 1), lambda: memory.delete_fact(ME, HER, id)):
        with pytest.raises(FactNotFound) as refusal:
            ask()
        assert isinstance(refusal.value, NovelscopeError)


def test_a_fact_of_a_later_bookmark_cannot_be_changed_by_who_has_gone_back(memory):
    fact = memory.add_fact(ME, HER, "x", 5)
    with pytest.raises(FactNotFound):
        memory.edit_fact(ME, HER, fact.id, "y", 4)
    assert memory.facts(ME, HER, None) == (fact,)


def test_recall_ranks_by_cosine(memory):
    generator = np.random.default_rng(7)
    vectors = {f"fact {number}": generator.normal(size=24) * generator.uniform(0.1, 9) for number in range(40)}
    for text in vectors:
        memory.add_fact(ME, HER, text, 1)
    query = generator.normal(size=24)
    found = memory.recall(ME, HER, query, 1, embed=lambda texts: np.stack([vectors[t] for t in texts]), top_k=7)
    cosines = {text: float(v @ query / np.sqrt((v @ v) * (query @ query))) for text, v in vectors.items()}
    expected = sorted(cosines, key=cosines.__getitem__, reverse=True)[:7]
    assert [one.fact.text for one in found] == expected
    assert [one.score for one in found] == pytest.approx([cosines[text] for text in expected], abs=1e-6)


def test_recall_by_a_text_equals_recall_by_its_vector_and_equal_ones_keep_their_order(memory):
    for text in ("b", "aab", "a", "zzz", "aa"):
        memory.add_fact(ME, HER, text, 1)
    by_text = memory.recall(ME, HER, "aaaa", 1, embed=embedded, top_k=9)
    assert by_text == memory.recall(ME, HER, np.array([4, 0, 0, 0]), 1, embed=embedded, top_k=9)
    assert [one.fact.text for one in by_text] == ["a", "aa", "aab", "b", "zzz"]
    assert by_text[-1].score == 0


def test_vectors_are_made_once_and_again_for_changed_facts_other_lengths_and_other_weights(memory):
    asked = []

    def watched(texts):
        asked.append(list(texts))
        return embedded(texts)

    def recall(query, embedder=""):
        asked.clear()
        memory.recall(ME, HER, query, None, embed=watched, top_k=1, embedder=embedder)
        return list(asked)

    facts = [memory.add_fact(ME, HER, text, 1) for text in ("a", "b")]
    query = np.ones(4)
    assert recall(query) == [["a", "b"]] and recall(query) == []
    memory.edit_fact(ME, HER, facts[0].id, "c", 1)
    memory.add_fact(ME, HER, "d", 1)
    assert recall(query) == [["c", "d"]] and recall("x") == [["x"]]
    assert recall(query, "other") == [["c", "b", "d"]] and recall(query, "other") == []
    longer = memory.recall(
        ME, HER, np.ones(6), 1, embed=lambda texts: np.ones((len(texts), 6)), top_k=3, embedder="other"
    )
    assert [one.score for one in longer] == pytest.approx([1, 1, 1])


def test_recall_knows_no_fact_of_a_later_bookmark_and_asks_for_no_vector_of_one(memory):
    memory.add_fact(ME, HER, "a", 2)
    memory.add_fact(ME, HER, "aa", 9)
    asked = []
    found = memory.recall(ME, HER, "a", 5, embed=lambda texts: asked.extend(texts) or embedded(texts), top_k=9)
    assert [one.fact.text for one in found] == ["a"] == sorted(set(asked))
    assert memory.recall(ME, HER, "a", 1, embed=embedded, top_k=9) == ()
    assert memory.recall(ME, HER, "a", 5, embed=embedded, top_k=0) == ()


@pytest.mark.parametrize(
    ("query", "made"),
    [
        (np.ones(3), np.ones((1, 4))),
        (np.ones((1, 4)), np.ones((1, 4))),
        (np.array([np.nan] * 4), np.ones((1, 4))),
        (np.ones(4), np.ones(4)),
        (np.ones(4), np.ones((2, 4))),
        (np.ones(4), np.full((1, 4), np.inf)),
    ],
)
def test_vectors_of_another_form_are_refused(memory, query, made):
    memory.add_fact(ME, HER, "a", 1)
    with pytest.raises(SettingsError):
        memory.recall(ME, HER, query, 1, embed=lambda texts: made, top_k=1)
