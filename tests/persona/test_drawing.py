"""Cards drawn from a book: every line is the book's own, nothing lies past the bookmark, and a model adds no word."""

from dataclasses import replace
from pathlib import Path

import pytest

from core.data.reading import novel_from_bytes
from core.llm.backends.scripted import ScriptedBackend
from core.llm.chat_model import NovelChatModel
from core.persona.drawing import draw_card, drawing
from core.persona.people import find_people, find_person, speeches_of
from core.persona.telling import Reading
from core.persona.voice import Voice
from core.retrieval.library import Library, LibrarySettings
from tests.support import HashedEmbedder

NOVELLA = Path(__file__).resolve().parents[2] / "demos" / "books" / "dingpanxing.txt"


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    library = Library(LibrarySettings(home=tmp_path_factory.mktemp("books")), embedder=HashedEmbedder())
    novel = novel_from_bytes(NOVELLA.read_bytes(), name=NOVELLA.name, title="定盘星")
    return library.open(library.add(novel).info.id)


def people_of(book, until=None):
    return find_people(book.text, book.record.chapters, book.record.language, until_chapter=until)


def test_every_line_cites_the_books_own_words(book):
    people = people_of(book)
    for person in people[:6]:
        card = draw_card(book, person, people)
        assert card.name == person.name and card.origin == "book" and card.book_id == book.id
        lines = list(card.lines())
        assert len(lines) > 3
        for line in lines:
            assert line.source is not None and line.source.quote == line.source.span.of(book.text)
            chapter = next(
                one for one in book.record.chapters if one.span.start <= line.source.span.start < one.span.end
            )
            assert chapter.number == line.source.chapter
        for saying in card.sayings:
            assert saying.text == saying.source.quote
        for line in (*card.about, *card.wants, *card.knows):
            assert any(name in line.text for name in person.names)


def test_the_card_knows_nothing_past_the_bookmark(book):
    people = people_of(book, until=4)
    end = max(one.span.end for one in book.record.chapters if one.number <= 4)
    card = draw_card(book, find_person(people, "半斤"), people, until_chapter=4)
    assert card.known_until == 4
    assert all(line.source.chapter <= 4 and line.source.span.end <= end for line in card.lines())
    assert (
        len(
            {
                line.source.chapter
                for line in draw_card(book, find_person(people_of(book), "半斤"), people_of(book)).lines()
            }
        )
        > 4
    )


def test_a_book_that_ends_at_the_bookmark_gives_the_same_card(book, tmp_path):
    record = book.record
    end = max(one.span.end for one in record.chapters if one.number <= 5)
    library = Library(LibrarySettings(home=tmp_path), embedder=HashedEmbedder())
    short = library.open(
        library.add(novel_from_bytes(book.text[:end].encode(), name="short.txt", title="定盘星")).info.id
    )
    assert short.text == book.text[:end]
    for person in people_of(book, until=5):
        card = draw_card(book, person, until_chapter=5)
        assert replace(draw_card(short, person), known_until=5, book_id=card.book_id) == card


def test_the_narrator_says_who_somebody_is(book):
    card = draw_card(book, find_person(people_of(book), "温不欺"))
    assert "店主姓温，叫温不欺，六十一岁，背有点驼，左手只剩下大拇指和食指。" in [line.text for line in card.about]


def test_sayings_are_the_persons_own_words_from_all_over_the_book(book):
    people = people_of(book)
    for person in people[:3]:
        card = draw_card(book, person, people)
        said = speeches_of(book.text, book.record.chapters, (*person.names, *person.short_names), "zh")
        assert len(card.sayings) >= 3 and len({line.source.chapter for line in card.sayings}) > 1
        for line in card.sayings:
            assert any(one.span.overlap(line.source.span) == len(line.source.span) for one in said)
            assert 8 <= len(line.text) <= 60


def test_how_somebody_speaks_is_told_by_what_others_do_not_say():
    plain = "“今日天气甚好，我们走罢。”王大石道。\n“路上小心些才是。”赵小川道。\n"
    marked = "“老孟不去，你们去，怕他怎的！”孟老三道。\n“怕他怎的！老孟一个人便够了。”孟老三道。\n"
    text = "\n".join(f"第{number}章　题\n{(plain + marked) * 2}" for number in "一二三")
    novel = novel_from_bytes(text.encode(), name="x.txt", title="x")
    people = find_people(novel.text, novel.chapters, "zh")
    reading = Reading(novel.text, novel.chapters, "zh", None)
    traits = Voice(reading, find_person(people, "孟老三")).traits()
    assert [trait.text for trait in traits[:2]] == ["自称“老孟”。", "常说“怕他怎的”。"]
    assert "老孟" in traits[0].shown_at.of(text) and "怕他怎的" in traits[1].shown_at.of(text)
    assert not [trait for trait in Voice(reading, find_person(people, "王大石")).traits() if "自称" in trait.text]


def test_no_line_begins_or_ends_within_a_quotation_of_another(book):
    people = people_of(book)
    for person in people:
        for line in draw_card(book, person, people).lines():
            assert line.text.count("“") == line.text.count("”"), line.text


def test_relations_are_with_other_people_who_stand_in_the_same_sentence(book):
    people = people_of(book)
    card = draw_card(book, find_person(people, "半斤"), people)
    assert "八两" in [relation.person for relation in card.relations]
    for relation in card.relations:
        assert relation.person != card.name
        assert any(name in relation.line.text for name in find_person(people, relation.person).names)


def test_a_chat_models_sentence_is_taken_only_if_the_passage_holds_its_words(book):
    people = people_of(book)
    person = find_person(people, "半斤")
    plain = draw_card(book, person, people)

    def first_words(prompt):
        return prompt[-1].content.split("原文：")[1][:14]

    def first_words_denied(prompt):
        return "不" + first_words(prompt)

    scripts = ((first_words, True), ("他其实是天外飞来的外星人，会隐身术。", False), (first_words_denied, False))
    for script, is_taken in scripts:
        card = draw_card(book, person, people, model=NovelChatModel(backend=ScriptedBackend(script)))
        changed = [one for one, other in zip(card.about, plain.about, strict=True) if one.text != other.text]
        assert bool(changed) is is_taken
        assert [line.source for line in card.lines()] == [line.source for line in plain.lines()]
    base = NovelChatModel(backend=ScriptedBackend("x", is_chat=False))
    assert draw_card(book, person, people, model=base) == plain and not base.backend.calls


def test_drawing_can_be_watched_and_stopped(book):
    people = people_of(book)
    steps = drawing(book, people[0], people)
    first = next(steps)
    assert (first.done, first.total) == (0, 4)
    steps.close()
