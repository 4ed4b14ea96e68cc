"""What the window does, driven by numbers: hover, bookmark, walking, flights, selections."""

import numpy as np
import pytest

from core.data.scenes import NOISE
from viz.session import HOVER_DWELL_S, MapSession
from viz.state import ViewState

SIZE = (800, 600)


@pytest.fixture
def session(cloud):
    made = MapSession(cloud, ViewState(), None, SIZE)
    made.touch()
    made.tick(0.0)
    return made


def passage(start, end, score=1.0, near=False):
    return {"start": start, "end": end, "score": score, "near": near}


def test_a_card_appears_once_the_pointer_has_stayed_and_the_picture_is_drawn_for_it(session):
    session.point_at(5, 1.0)
    assert session.pointed == 5 and session.hovered(1.0 + HOVER_DWELL_S / 2) is None
    assert not session.tick(1.0 + HOVER_DWELL_S / 2)
    assert session.tick(1.0 + HOVER_DWELL_S)  # a new picture, though nothing but time has changed
    assert session.hovered(1.0 + HOVER_DWELL_S) == 5 and not session.tick(1.2)
    session.point_at(5, 1.3)  # jitter on the same point does not begin anew
    assert session.hovered(1.31) == 5
    session.point_at(None, 1.4)
    assert session.hovered(2.0) is None and session.tick(2.0)


def test_what_the_bookmark_hides_is_let_go(session, cloud):
    late, early = 150, 10
    session.show_answer({"question": "谁？", "passages": [passage(0, 100), passage(19_000, 19_100)]})
    session.pin(late)
    session.change(selected=(cloud.ids[early], cloud.ids[late]), playhead=cloud.ids[late])
    session.point_at(late, 0.0)
    session.change(until_chapter=3)
    assert session.pinned is None and session.pointed is None and session.state.playhead is None
    assert session.state.selected == (cloud.ids[early],) and [hit.main for hit in session.answer.hits] == [0]
    assert max(cloud.chapters[session.readable_rows]) == 3
    session.change(until_chapter=None)
    assert [hit.main for hit in session.answer.hits] == [0, 190]


def test_arrows_walk_from_passage_to_passage_and_stop_at_the_bookmark(session, cloud):
    session.pin(8)
    session.change(until_chapter=1)
    session.step(1)
    session.step(1)
    assert session.pinned == 9
    for _ in range(12):
        session.step(-1)
    assert session.pinned == 0


def test_the_walk_goes_at_its_pace_and_ends_at_the_last_readable_passage(session, cloud):
    session.change(until_chapter=2)
    session.play()
    now = 0.0
    for _ in range(10):
        now += 0.1
        session.tick(now)
    assert cloud.ids.index(session.state.playhead) in (7, 8) and session.state.path
    for _ in range(40):
        now += 0.1
        session.tick(now)
    assert not session.is_playing and session.state.playhead == cloud.ids[19]
    session.play()
    assert session.state.playhead == cloud.ids[0]


def test_a_flight_ends_where_it_said_and_a_touch_ends_it(session, cloud):
    session.fly_to(3)
    for now in np.arange(1.0, 2.0, 0.1):
        session.tick(float(now))
    np.testing.assert_allclose(session.state.camera.target, cloud.points[3], atol=1e-6)
    assert not session.is_moving
    session.reset()
    session.tick(3.0)
    session.tick(3.1)
    session.orbit(10, 0)
    before = session.state.camera
    session.tick(3.2)
    assert session.state.camera == before


def test_a_map_turns_until_it_is_touched(cloud):
    session = MapSession(cloud, ViewState(), None, SIZE)
    session.tick(0.0)
    session.tick(0.2)
    turned = session.state.camera.azimuth_deg
    assert turned != ViewState().camera.azimuth_deg
    session.zoom(1, (400, 300))
    session.tick(1.0)
    assert session.state.camera.azimuth_deg == turned


def test_a_polygon_selects_what_is_seen_inside_it(session, cloud):
    seen = session.state.camera.matrices(SIZE).project(cloud.points)
    session.select_within([(0, 0), (400, 0), (400, 600), (0, 600)])
    wanted = {cloud.ids[row] for row in np.flatnonzero((seen[:, 0] < 400) & (seen[:, 0] > 0))}
    assert set(session.state.selected) == wanted and 0 < len(wanted) < len(cloud)
    session.select_within([(1, 1)])
    assert session.state.selected == ()


def test_true_neighbours_are_told_with_whether_the_map_shows_them_near(session, cloud):
    told = session.true_neighbours(4)
    assert [row for row, _, _ in told] == [row for row in cloud.neighbours[4].tolist() if row != NOISE]
    assert all(is_shown for _, _, is_shown in told)  # this map was made so
    session.change(until_chapter=1)
    assert all(cloud.chapters[row] == 1 for row, _, _ in session.true_neighbours(4))


def test_an_answer_about_another_book_is_left_alone_and_one_that_failed_is_told(session):
    session.show_answer({"book": "f" * 16, "question": "别书", "passages": []})
    assert session.answer is None and session.notice == ""
    session.show_answer({"error": "the index is gone"})
    assert session.answer is None and "the index is gone" in session.notice
    session.show_answer({"question": "谁？", "passages": []})
    assert session.answer is not None and session.notice == session.words["found_nothing"]
    session.clear_answer()
    assert session.answer is None and session.question == ""


def test_the_same_drawing_serves_until_something_but_the_camera_changes(session):
    drawing = session.drawing
    session.orbit(30, 5)
    assert session.drawing is drawing
    session.change(mode="chapter")
    assert session.drawing is not drawing
