"""The trie against a scan over all pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.engine.trie import ByteTrie

BYTES = st.lists(st.sampled_from([0, 1, 97, 98, 254, 255]), max_size=6).map(bytes)
PIECES = st.dictionaries(BYTES.filter(bool), st.integers(0, 9), max_size=30)


@given(PIECES, PIECES, st.lists(BYTES, max_size=5).map(b"".join), st.integers(0, 8))
def test_prefixes_are_those_that_a_scan_over_all_pieces_finds(bulk, inserted, data, start):
    trie = ByteTrie(bulk)
    list(trie.prefixes(data, start))  # nodes made before an insertion must not hide it
    for piece, value in inserted.items():
        trie.insert(piece, value)
    pieces = bulk | inserted
    expected = sorted((start + len(piece), pieces[piece]) for piece in pieces if data.startswith(piece, start))
    expected = expected if start <= len(data) else []
    assert list(trie.prefixes(data, start)) == expected
    assert trie.longest_prefix(data, start) == (expected[-1] if expected else None)


def test_an_empty_trie_finds_nothing():
    assert list(ByteTrie().prefixes(b"abc", 0)) == []
    assert ByteTrie().longest_prefix(b"", 0) is None


def test_an_empty_piece_is_refused():
    with pytest.raises(ValueError, match="begin everywhere"):
        ByteTrie().insert(b"", 1)
