"""The shelf of characters, against the files in its folder."""

import dataclasses
import json
import os
import threading

import pytest

from core.data.text import Span
from core.errors import NovelscopeError
from core.persona.card import BadCard, Card, Line, Source
from core.persona.shelf import CharacterNotFound, CharacterShelf, ShelfError

DAIYU = Card(name="林黛玉", book_id="b1", about=(Line("心细。", Source(3, Span(1, 3), "心细")),), origin="book")
DARCY = Card(name="Mr Darcy", book_id="b2", known_until=4)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "deep" / "characters"


@pytest.fixture
def shelf(folder):
    return CharacterShelf(folder)


def test_what_is_put_is_got_also_by_another_shelf_on_the_same_folder(shelf, folder):
    id = shelf.put(DAIYU)
    assert shelf.get(id) == DAIYU == CharacterShelf(folder).get(id)


def test_a_file_on_the_shelf_is_a_character_file_of_version_2(shelf, folder):
    id = shelf.put(DAIYU)
    assert [path.name for path in folder.iterdir()] == [f"{id}.json"]
    document = json.loads((folder / f"{id}.json").read_text(encoding="utf-8"))
    assert document["spec"] == "chara_card_v2" and document["data"]["name"] == "林黛玉"


def test_a_character_put_again_takes_its_own_place_and_namesakes_of_other_books_stay(shelf):
    first = shelf.put(DAIYU)
    changed = dataclasses.replace(DAIYU, greeting="你来了。")
    assert shelf.put(changed) == first
    others = {shelf.put(dataclasses.replace(DAIYU, book_id=book_id)) for book_id in (None, "b2", "")}
    assert len(others | {first}) == 4 and shelf.get(first) == changed


def test_names_that_join_alike_with_their_books_are_kept_apart(shelf):
    pairs = [("ab", "c"), ("a", "bc"), (None, "abc"), ("null", "abc"), ("", "abc"), ("a\ud800", "c"), ("a\udfff", "c")]
    cards = [Card(name=name, book_id=book_id) for book_id, name in pairs]
    ids = [shelf.put(card) for card in cards]
    assert len(set(ids)) == len(pairs) and [shelf.get(id) for id in ids] == cards


def test_the_list_is_of_one_book_or_of_all(shelf):
    ids = [shelf.put(card) for card in (DAIYU, DARCY)]
    assert [(one.id, one.card) for one in shelf.list().characters] == [(ids[1], DARCY), (ids[0], DAIYU)]
    assert [one.card for one in shelf.list("b1").characters] == [DAIYU]
    assert shelf.list("b3").characters == ()


def test_a_folder_that_is_not_there_is_an_empty_shelf(shelf):
    assert shelf.list() == dataclasses.replace(shelf.list(), characters=(), skipped=())


def test_damaged_files_are_reported_and_hide_no_other(shelf, folder):
    ids = [shelf.put(card) for card in (DAIYU, DARCY)]
    (folder / f"{ids[0]}.json").write_bytes(b'{"name": ')
    (folder / f"{'0' * 32}.json").write_bytes((folder / f"{ids[1]}.json").read_bytes())
    (folder / "mine.json").write_text('{"name": "n"}')
    (folder / f"{'1' * 32}.json").mkdir()
    (folder / f".{'2' * 32}.json.ab.tmp").write_text("half")
    (folder / "notes.txt").write_text("x")
    found = shelf.list("b2")
    assert [one.id for one in found.characters] == [ids[1]]
    assert {one.file for one in found.skipped} == {
        f"{ids[0]}.json",
        f"{'0' * 32}.json",
        f"{'1' * 32}.json",
        "mine.json",
    }
    assert all(one.reason and "\n" not in one.reason for one in found.skipped)
    with pytest.raises(BadCard):
        shelf.get(ids[0])
    shelf.remove(ids[0])
    assert ids[0] not in {one.file for one in shelf.list().skipped}


def test_a_removed_character_is_gone(shelf):
    id = shelf.put(DAIYU)
    shelf.remove(id)
    assert shelf.list().characters == ()
    for ask in (shelf.get, shelf.remove):
        with pytest.raises(CharacterNotFound):
            ask(id)


@pytest.mark.parametrize("id", ["../secret", "", "a" * 32 + "\n", "A" * 32, "/etc/passwd", "x" * 4000, "\0"])
def test_an_id_names_no_file_outside_the_folder(shelf, folder, id):
    shelf.put(DAIYU)
    secret = folder.parent / "secret.json"
    secret.write_text('{"name": "n"}')
    for ask in (shelf.get, shelf.remove):
        with pytest.raises(CharacterNotFound) as refusal:
            ask(id)
        assert isinstance(refusal.value, NovelscopeError) and len(str(refusal.value)) < 200
    assert secret.exists()


def test_a_card_that_cannot_be_written_leaves_the_old_one(shelf, folder):
    id = shelf.put(DAIYU)
    with pytest.raises(BadCard):
        shelf.put(dataclasses.replace(DAIYU, other={"x": {1}}))
    assert shelf.get(id) == DAIYU and len(os.listdir(folder)) == 1


def test_a_folder_that_refuses_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    shelf = CharacterShelf(tmp_path / "file")
    for ask in (lambda: shelf.put(DAIYU), lambda: shelf.get("0" * 32), shelf.list, lambda: shelf.remove("0" * 32)):
        with pytest.raises(ShelfError):
            ask()


def test_readers_find_a_whole_card_while_it_is_replaced(shelf):
    versions = [dataclasses.replace(DAIYU, greeting=str(number) * 50_000) for number in range(2)]
    id = shelf.put(versions[0])
    writer = threading.Thread(target=lambda: [shelf.put(versions[turn % 2]) for turn in range(20)])
    writer.start()
    while writer.is_alive():
        assert shelf.get(id) in versions
        assert len(shelf.list().characters) == 1
    writer.join()
