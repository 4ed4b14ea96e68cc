"""A saved view."""

import json

import pytest

from core.errors import SettingsError
from viz.camera import Camera
from viz.state import ViewState, read_view


def test_a_view_is_read_as_it_was_written(tmp_path):
    view = ViewState(
        camera=Camera(azimuth_deg=12.5, zoom=3.0, target=(0.1, 0.2, 0.3)), mode="chapter", theme="light",
        isolated=(2, -1),
        until_chapter=7, selected=("a", "b"), pinned="a", neighbours="both", path=True, labels=False, point_scale=2.0,
        answer={"question": "谁？", "passages": []},
    )  # fmt: skip
    view.write(tmp_path / "v.json")
    assert read_view(tmp_path / "v.json") == view
    assert json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))["schema"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2}, {"mode": "mood"}, {"theme": "pink"}, {"point_scale": 0}, {"point_scale": "x"}, {"labels": "yes"},
        {"until_chapter": "x"}, {"isolated": ["x"]}, {"selected": [1]}, {"colour": 1}, {"camera": {"roll": 1}},
        {"camera": {"zoom": -1}}, {"camera": {"target": [0, 0]}}, {"answer": 5}, {"pinned": 4},
    ],
)  # fmt: skip
def test_what_is_no_view_is_one_sentence_that_names_the_file(tmp_path, changes):
    path = tmp_path / "v.json"
    path.write_text(json.dumps({**json.loads(ViewState().to_json()), **changes}), encoding="utf-8")
    with pytest.raises(SettingsError) as told:
        read_view(path)
    assert "v.json" in str(told.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"schema": 1, "camera": 5}'])
def test_a_broken_file_is_one_sentence(tmp_path, text):
    (tmp_path / "v.json").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError):
        read_view(tmp_path / "v.json")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_view(tmp_path / "none.json")


def test_an_entry_is_isolated_by_one_click_and_freed_by_another():
    view = ViewState().toggled(3).toggled(-1)
    assert view.isolated == (3, -1) and view.toggled(3).isolated == (-1,)
