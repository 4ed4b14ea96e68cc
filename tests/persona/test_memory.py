"""Memories, against a list of all that was said, numpy, and the bytes of the file."""

import os
import sqlite3
import stat
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.dialogues import Turn
from core.errors import NovelscopeError, SettingsError
from core.persona.memory import FactNotFound, Memory, MemoryUnusable

ME, HER = "reader", "daiyu"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "memory.sqlite"


@pytest.fixture
def memory(path):
    memory = Memory(path)
    yield memory
    memory.close()


def said(word: str, role: str = "user") -> Turn:
    return Turn(role, word)


def joined(before: str, turns) -> str:
    return " ".join([before, *(turn.content for turn in turns)]).strip()


def words(memory, until, reader=ME, character=HER):
    return [turn.content for turn in memory.turns(reader, character, until)]


def embedded(texts):
    """Counts of four letters."""
    return np.array([[text.count(letter) for letter in "abcd"] for text in texts], dtype=np.float64)


def test_what_was_said_is_kept_word_for_word_and_in_order_also_for_the_next_process(memory, path):
    turns = [said("你好，\n  妹妹 \0"), said("a\ud800", "assistant"), said("", "system"), said("😀" * 9)]
    for turn in turns:
        memory.add_turn(ME, HER, turn, 3)
    memory.close()
    again = Memory(path)
    assert again.turns(ME, HER, 3) == tuple(turns)
    again.close()


def test_a_turn_said_under_a_later_bookmark_is_left_out(memory):
    for word, chapter in (("three", 3), ("five", 5), ("all", None), ("again", 3)):
        memory.add_turn(ME, HER, said(word), chapter)
    assert [words(memory, until) for until in (2, 3, 5, None)] == [
        [],
        ["three", "again"],
        ["three", "five", "again"],
        ["three", "five", "all", "again"],
    ]


def test_folding_moves_the_oldest_turns_into_the_summary_and_only_past_the_limit(memory):
    for number in range(6):
        memory.add_turn(ME, HER, said(f"t{number}"), 1)
    assert not memory.fold(ME, HER, 1, limit=6, keep=2, summarise=joined)
    assert memory.summary(ME, HER, 1) == ""
    memory.add_turn(ME, HER, said("t6"), 1)
    assert memory.fold(ME, HER, 1, limit=6, keep=2, summarise=joined)
    assert memory.summary(ME, HER, 1) == "t0 t1 t2 t3 t4" and words(memory, 1) == ["t5", "t6"]
    assert len(memory.turns(ME, HER, 1, with_folded=True)) == 7
    for number in range(7, 12):
        memory.add_turn(ME, HER, said(f"t{number}"), 1)
    assert memory.fold(ME, HER, 1, limit=6, keep=0, summarise=joined)
    assert memory.summary(ME, HER, 1).split() == [f"t{number}" for number in range(12)] and not words(memory, 1)


def test_a_summary_of_later_chapters_is_not_shown_to_a_reader_who_has_gone_back(memory):
    for chapter in (3, 5):
        for number in range(3):
            memory.add_turn(ME, HER, said(f"c{chapter}n{number}"), chapter)
        memory.fold(ME, HER, chapter, limit=2, keep=1, summarise=joined)
    assert memory.summary(ME, HER, 5) == "c3n0 c3n1 c3n2 c5n0 c5n1" and words(memory, 5) == ["c5n2"]
    assert memory.summary(ME, HER, 4) == "c3n0 c3n1" and words(memory, 4) == ["c3n2"]
    assert memory.summary(ME, HER, 2) == "" and words(memory, 2) == []


def test_turns_that_are_older_than_what_the_summary_tells_are_told_with_it(memory):
    for word, chapter in (("late", 5), ("early1", 3), ("early2", 3)):
        memory.add_turn(ME, HER, said(word), chapter)
    memory.fold(ME, HER, 3, limit=1, keep=0, summarise=joined)
    assert memory.summary(ME, HER, 3) == "early1 early2" and words(memory, 5) == ["late"]
    for word in ("later1", "later2"):
        memory.add_turn(ME, HER, said(word), 5)
    assert memory.fold(ME, HER, 5, limit=2, keep=2, summarise=joined)
    assert memory.summary(ME, HER, 5) == "early1 early2 late" and words(memory, 5) == ["later1", "later2"]
    assert memory.summary(ME, HER, 4) == "early1 early2" and words(memory, 4) == []


def test_a_summary_is_known_from_the_last_chapter_it_tells_of_on(memory):
    for number in range(3):
        memory.add_turn(ME, HER, said(f"t{number}"), 2)
    memory.fold(ME, HER, 9, limit=1, keep=1, summarise=joined)
    assert [memory.summary(ME, HER, until) for until in (1, 2, 9)] == ["", "t0 t1", "t0 t1"]


steps = st.lists(
    st.tuples(st.sampled_from(["say", "say", "fold", "edit"]), st.sampled_from([1, 2, None]), st.integers(0, 2)),
    max_size=25,
)


@given(steps)
def test_at_every_bookmark_summary_and_turns_tell_all_that_was_said_until_then_once_and_nothing_later(
    tmp_path_factory, steps
):
    memory = Memory(tmp_path_factory.mktemp("m") / "m")
    everything: list[tuple[str, int]] = []
    for number, (step, chapter, keep) in enumerate(steps):
        if step == "say":
            everything.append((f"w{number}", chapter or 99))
            memory.add_turn(ME, HER, said(f"w{number}"), chapter)
        elif step == "fold":
            memory.fold(ME, HER, chapter, limit=keep, keep=keep, summarise=joined)
        else:
            memory.set_summary(ME, HER, memory.summary(ME, HER, chapter), chapter)
        for until in (0, 1, 2, None):
            told = Counter(memory.summary(ME, HER, until).split() + words(memory, until))
            bound = 99 if until is None else until
            assert told == Counter(word for word, chapter in everything if chapter <= bound)
            whole = [turn.content for turn in memory.turns(ME, HER, until, with_folded=True)]
            assert Counter(whole) == told
    memory.close()


def test_an_edited_summary_is_shown_from_the_bookmark_it_was_edited_under(memory):
    for number in range(3):
        memory.add_turn(ME, HER, said(f"t{number}"), 2)
    memory.fold(ME, HER, 2, limit=1, keep=1, summarise=joined)
    memory.set_summary(ME, HER, "new", 7)
    assert [memory.summary(ME, HER, until) for until in (1, 2, 6, 7, None)] == ["", "t0 t1", "t0 t1", "new", "new"]
    assert words(memory, 7) == words(memory, 2) == ["t2"]
    memory.set_summary(ME, HER, "", 7)
    assert memory.summary(ME, HER, 7) == "" and words(memory, 7) == ["t2"]


def test_a_summariser_that_fails_or_says_nothing_changes_nothing(memory):
    for number in range(4):
        memory.add_turn(ME, HER, said(f"t{number}"), 1)

    def fails(before, turns):
        raise RuntimeError("no model")

    with pytest.raises(RuntimeError):
        memory.fold(ME, HER, 1, limit=2, keep=1, summarise=fails)
    assert not memory.fold(ME, HER, 1, limit=2, keep=1, summarise=lambda before, turns: " \n")
    assert words(memory, 1) == ["t0", "t1", "t2", "t3"] and memory.summary(ME, HER, 1) == ""
    for keep in (-1, 3):
        with pytest.raises(SettingsError):
            memory.fold(ME, HER, 1, limit=2, keep=keep, summarise=joined)


@pytest.mark.parametrize("meanwhile", ["forget", "edit", "fold"])
def test_what_changes_while_a_summary_is_written_wins(memory, meanwhile):
    for number in range(4):
        memory.add_turn(ME, HER, said(f"t{number}"), 1)

    def slow(before, turns):
        if meanwhile == "forget":
            memory.forget(ME, HER)
        elif meanwhile == "edit":
            memory.set_summary(ME, HER, "mine", 1)
        else:
            memory.fold(ME, HER, 1, limit=2, keep=2, summarise=joined)
        return "stale"

    assert not memory.fold(ME, HER, 1, limit=2, keep=1, summarise=slow)
    assert memory.summary(ME, HER, 1) == {"forget": "", "edit": "mine", "fold": "t0 t1"}[meanwhile]
    assert len(words(memory, 1)) == {"forget": 0, "edit": 4, "fold": 2}[meanwhile]


def test_others_may_speak_while_a_summary_is_written(memory):
    for number in range(4):
        memory.add_turn(ME, HER, said(f"t{number}"), 1)

    def slow(before, turns):
        speaker = threading.Thread(target=memory.add_turn, args=(ME, HER, said("late"), 1))
        speaker.start()
        speaker.join(10)
        assert not speaker.is_alive()
        return joined(before, turns)

    assert memory.fold(ME, HER, 1, limit=2, keep=1, summarise=slow)
    assert memory.summary(ME, HER, 1) == "t0 t1 t2" and words(memory, 1) == ["t3", "late"]


OTHERS = [
    ("reader", "baoyu"),
    ("other", "daiyu"),
    ("readerd", "aiyu"),
    ("r", "eaderdaiyu"),
    ("READER", "daiyu"),
    ("r\udfff", "d"),
]


def filled(memory, reader, character):
    word = f"{reader}|{character}"
    for number in range(3):
        memory.add_turn(reader, character, said(f"{word}{number}"), 1)
    memory.fold(reader, character, 1, limit=2, keep=1, summarise=lambda before, turns: word + "S")
    return memory.add_fact(reader, character, word + "F", 1)


def seen(memory, reader, character):
    facts = memory.facts(reader, character, None)
    recalled = memory.recall(reader, character, "a", None, embed=embedded, top_k=99)
    assert {one.fact for one in recalled} == set(facts)
    return (
        memory.summary(reader, character, None),
        words(memory, None, reader, character),
        [fact.text for fact in facts],
    )


def test_nothing_of_one_reader_or_character_appears_under_another(memory):
    everyone = [(ME, HER), *OTHERS]
    ids = {whose: filled(memory, *whose).id for whose in everyone}
    for whose in everyone:
        word = "|".join(whose)
        assert seen(memory, *whose) == (word + "S", [word + "2"], [word + "F"])
    for other in OTHERS:
        with pytest.raises(FactNotFound):
            memory.edit_fact(*other, ids[ME, HER], "mine now", None)
        with pytest.raises(FactNotFound):
            memory.delete_fact(*other, ids[ME, HER])
    memory.forget(ME, HER)
    assert seen(memory, ME, HER) == ("", [], [])
    assert memory.turns(ME, HER, None, with_folded=True) == ()
    for whose in OTHERS:
        word = "|".join(whose)
        assert seen(memory, *whose) == (word + "S", [word + "2"], [word + "F"])


def test_what_is_forgotten_is_in_no_file_any_more(memory, path):
    secret = "a secret that nobody tells "
    for number in range(300):
        memory.add_turn(ME, HER, said(f"{secret}{number}" * 9), 1)
    memory.fold(ME, HER, 1, limit=2, keep=1, summarise=joined)
    memory.add_fact(ME, HER, secret, 1)
    memory.add_turn(ME, "baoyu", said("stays"), 1)

    def bytes_kept():
        return b"".join(file.read_bytes() for file in path.parent.iterdir())

    assert secret.encode() in bytes_kept()
    memory.forget(ME, HER)
    assert secret.encode() not in bytes_kept() and words(memory, 1, ME, "baoyu") == ["stays"]


def test_the_files_are_for_this_user_alone_and_keep_a_log(memory, path):
    memory.add_turn(ME, HER, said("x"), 1)
    modes = {file.name: stat.S_IMODE(os.stat(file).st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys([path.name, f"{path.name}-wal", f"{path.name}-shm"], 0o600)


def test_vectors_are_kept_as_float32_beside_the_fact(memory, path):
    memory.add_fact(ME, HER, "abb", 1)
    memory.recall(ME, HER, "a", 1, embed=embedded, top_k=1)
    memory.close()
    connection = sqlite3.connect(path)
    ((blob,),) = connection.execute("SELECT vector FROM facts").fetchall()
    connection.close()
    assert np.frombuffer(blob, "<f4").tolist() == [1, 2, 0, 0]


def test_threads_and_a_second_connection_lose_nothing(memory, path):
    second = Memory(path)

    def speak(to, name):
        for number in range(20):
            to.add_turn(ME, HER, said(f"{name}{number}"), 1)
            to.add_fact(ME, HER, f"fact {number}", 1)

    threads = [
        threading.Thread(target=speak, args=(to, name)) for to, name in ((memory, "a"), (memory, "b"), (second, "c"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = words(memory, 1)
    assert sorted(found) == sorted(f"{name}{number}" for name in "abc" for number in range(20))
    assert [word for word in found if word[0] == "c"] == [f"c{number}" for number in range(20)]
    assert len(second.facts(ME, HER, 1)) == 20
    second.close()


def test_a_file_that_is_none_of_ours_is_refused_and_left_alone(tmp_path):
    garbage, foreign, newer, folder = (tmp_path / name for name in ("garbage", "foreign", "newer", "folder"))
    garbage.write_bytes(b"no database at all" * 999)
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE keys (id)")
    connection.close()
    Memory(newer).close()
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    folder.mkdir()
    before = [file.read_bytes() for file in (garbage, foreign, newer)]
    for file in (garbage, foreign, newer, folder, garbage / "under"):
        with pytest.raises(MemoryUnusable) as refusal:
            Memory(file)
        assert isinstance(refusal.value, NovelscopeError) and "\n" not in str(refusal.value)
    assert [file.read_bytes() for file in (garbage, foreign, newer)] == before


def test_a_damaged_file_is_one_sentence(memory, path):
    for _ in range(200):
        memory.add_turn(ME, HER, said("x" * 500), 1)
    memory.close()
    damaged = bytearray(path.read_bytes())
    damaged[4096 : len(damaged) // 2] = b"\xee" * (len(damaged) // 2 - 4096)
    path.write_bytes(damaged)
    with pytest.raises(MemoryUnusable) as refusal:
        Memory(path)
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_closed_memory_is_one_sentence(memory):
    memory.close()
    with pytest.raises(MemoryUnusable):
        memory.turns(ME, HER, 1)
