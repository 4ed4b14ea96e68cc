"""A book of the library as the table that a map is made of."""

import pytest

from core.data.scenes import Scene
from core.errors import LibraryError
from core.retrieval.indexing import embed_missing
from core.retrieval.passages import passages_of
from tests.support import make_novel


def test_passages_tile_the_book_in_order_with_the_vectors_of_their_texts(library, embedder):
    novel = make_novel()
    book_id = library.add(novel).info.id
    with library.vector_store("a test") as store:
        embed_missing(library, store)
    table = passages_of(library, book_id)
    assert "".join("".join(table.texts).split()) == "".join(novel.text.split())
    assert all(novel.text[start:end] == text for (start, end), text in zip(table.spans, table.texts, strict=True))
    assert table.vectors.tolist() == embedder.embed_passages(table.texts).tolist()
    titles = {chapter.number: chapter.title for chapter in novel.chapters}
    assert [titles[number] for number in table.chapters.tolist()] == list(table.chapter_titles)
    assert (table.title, table.book, table.language) == ("山中记", book_id, "zh")
    assert table.key == library.open(book_id).vector_key("hashed")


def test_a_book_without_all_its_vectors_says_how_many_are_missing(library):
    book_id = library.add(make_novel()).info.id
    with pytest.raises(LibraryError, match=r"0 of \d+ passages of 《山中记》"):
        passages_of(library, book_id)


def test_a_map_lies_in_the_books_folder_and_goes_with_the_book(library, tmp_path):
    book_id = library.add(make_novel()).info.id
    path = library.open(book_id).map_path
    path.write_bytes(b"a map")
    assert path.is_relative_to(tmp_path / "home" / "books" / book_id)
    library.rebuild(book_id)
    assert path.exists()
    library.remove(book_id)
    assert not path.exists()
    with pytest.raises(Exception, match="no map"):
        Scene.read(path)
