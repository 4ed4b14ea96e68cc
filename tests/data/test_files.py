"""Files replaced in one step."""

import pytest

from core.data.files import replacing
from core.errors import SceneError


def test_a_block_that_ends_puts_the_new_file_in_place(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path, SceneError) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("wrong", [ValueError("no"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, wrong):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(wrong)), replacing(path, SceneError) as partial:
        partial.write_text("half")
        raise wrong
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_told_in_words(tmp_path):
    with (
        pytest.raises(SceneError, match=r"cannot write .*nowhere"),
        replacing(tmp_path / "no" / "nowhere", SceneError) as p,
    ):
        p.write_text("new")
