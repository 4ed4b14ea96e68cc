"""Words in a picture: names that do not overlap, fonts that show Chinese, lines broken as they are set in books."""

from dataclasses import replace

import pytest

from viz import fonts
from viz.camera import Camera
from viz.drawing import Label
from viz.folding import fold
from viz.fonts import Font, draw_text, find_font
from viz.labels import place_labels

INK = (255, 255, 255)


def named(text, place=(0.0, 0.0, 0.0), priority=1.0, fades=True):
    return replace(Label(text, place, INK, 14, priority), fades=fades)


def boxes(placed):
    return [(one.left, one.top, one.left + 60, one.top + 20) for one in placed]


def placed(labels, zoom=1.0, size=(640, 480)):
    camera = Camera(zoom=zoom)
    return place_labels(labels, camera.matrices(size), 1.0, lambda text, height: (60, 20), zoom)


def test_of_names_in_one_place_the_more_important_is_shown():
    shown = placed([named("小", priority=2), named("大", priority=5), named("旁", place=(0.6, 0.3, 0), priority=3)])
    assert [one.label.text for one in shown] == ["大", "旁"]


def test_no_two_names_overlap_and_all_lie_in_the_picture():
    spots = [(x / 5 - 0.9, y / 5 - 0.9, 0.0) for x in range(10) for y in range(10)]
    shown = boxes(placed([named(f"{i}", spot, 1 + i / 100) for i, spot in enumerate(spots)]))
    assert len(shown) > 5
    for i, one in enumerate(shown):
        assert one[0] >= 0 and one[1] >= 0 and one[2] <= 640 and one[3] <= 480
        assert all(one[2] <= b[0] or b[2] <= one[0] or one[3] <= b[1] or b[3] <= one[1] for b in shown[:i])


def test_small_clusters_are_named_only_from_near_by():
    labels = [named("大", (-0.3, 0, 0), 100), named("小", (0.3, 0, 0), 4)]
    assert [one.label.text for one in placed(labels)] == ["大"]
    assert {one.label.text for one in placed(labels, zoom=2.5)} == {"大", "小"}


def width(char):
    return 2.0 if ord(char) > 0x2E80 or char in "“”‘’…—" else 1.0


@pytest.mark.parametrize(
    ("text", "room", "wanted"),
    [
        ("悟空道：“师父，我去也。”说罢就走。", 12, ["悟空道：“师", "父，我去", "也。”说罢就", "走。"]),
        ("It is a truth, you know", 9, ["It is a", "truth,", "you know"]),
        ("一二三四五，六", 10, ["一二三四", "五，六"]),
        ("甲乙丙（丁", 8, ["甲乙丙", "（丁"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("山\n\n水", 10, ["山", "", "水"]),
        ("", 10, [""]),
    ],
)
def test_lines_are_broken_as_in_books(text, room, wanted):
    assert fold(text, room, width) == wanted


def test_nothing_of_a_text_is_lost_in_its_lines():
    text = "却说那猴王，“喏”了一声 and then——he said, don't! 便走（向东）。" * 7
    for room in range(3, 40):
        assert "".join("".join(fold(text, room, width)).split()) == "".join(text.split())


def test_different_chinese_characters_have_different_shapes():
    if not find_font().has_chinese:
        pytest.skip(fonts.FONT_WARNING)
    assert (draw_text("红", 24).shape != draw_text("楼", 24).shape) or (
        draw_text("红", 24) != draw_text("楼", 24)
    ).any()


def test_a_latin_font_is_found_out_and_the_warning_names_the_package(monkeypatch):
    find_font.cache_clear()
    monkeypatch.setattr(fonts, "_candidates", lambda: [])
    try:
        assert find_font() == Font(None, 0, has_chinese=False)
        assert not fonts._has_chinese(find_font()) and "fonts-noto-cjk" in fonts.FONT_WARNING
    finally:
        find_font.cache_clear()
