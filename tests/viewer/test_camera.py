"""The orbit camera against PyGLM's own look-at and project."""

import math

import numpy as np
import pytest
from pyglm import glm

from core.errors import SettingsError
from viz.camera import HALF_VIEW_RAD, Camera

SIZE = (1280, 720)
POINTS = np.random.default_rng(3).uniform(-0.9, 0.9, (50, 3))


@pytest.mark.parametrize("azimuth", [0.0, 35.0, 200.0])
@pytest.mark.parametrize("elevation", [-70.0, 0.0, 22.0, 80.0])
def test_the_view_equals_a_look_at_from_the_eye(azimuth, elevation):
    camera = Camera(azimuth_deg=azimuth, elevation_deg=elevation, target=(0.1, -0.2, 0.3))
    matrices = camera.matrices(SIZE)
    turn, lift = math.radians(azimuth), math.radians(elevation)
    direction = glm.vec3(math.cos(lift) * math.cos(turn), math.cos(lift) * math.sin(turn), math.sin(lift))
    target = glm.vec3(0.1, -0.2, 0.3)
    expected = glm.lookAt(target + matrices.distance * direction, target, glm.vec3(0, 0, 1))
    np.testing.assert_allclose(np.array(matrices.view), np.array(expected), atol=2e-6)


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_a_projected_point_is_where_glm_puts_it(projection):
    matrices = Camera(projection=projection, zoom=2.0).matrices(SIZE)
    seen = matrices.project(POINTS)
    for point, (x, y, _) in zip(POINTS, seen, strict=True):
        there = glm.project(glm.vec3(point), matrices.view, matrices.projection, glm.vec4(0, 0, *SIZE))
        assert (x, y) == pytest.approx((there.x, SIZE[1] - there.y), abs=0.02)


@pytest.mark.parametrize("size", [(1280, 720), (400, 900), (300, 300)])
@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_zoom_one_shows_the_whole_sphere_in_any_proportions(size, projection):
    sphere = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
    seen = Camera(projection=projection).matrices(size).project(sphere)
    assert (seen[:, 0] >= 0).all() and (seen[:, 0] <= size[0]).all()
    assert (seen[:, 1] >= 0).all() and (seen[:, 1] <= size[1]).all()


def test_zero_and_a_full_turn_are_the_same_camera_to_the_bit():
    assert Camera(azimuth_deg=360.0) == Camera(azimuth_deg=0.0)
    assert Camera(azimuth_deg=-90.0) == Camera(azimuth_deg=270.0)


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_zooming_keeps_what_lies_under_the_pointer(projection):
    camera = Camera(projection=projection)
    pointer = (900.0, 200.0)
    matrices = camera.matrices(SIZE)
    # A point at the target's depth under the pointer: unproject at that depth by hand.
    half_height = matrices.distance * math.tan(HALF_VIEW_RAD)
    right, up = camera._axes()
    world_per_px = 2 * half_height / SIZE[1]
    point = ((pointer[0] - SIZE[0] / 2) * right - (pointer[1] - SIZE[1] / 2) * up) * world_per_px
    assert matrices.project(point[None])[0, :2] == pytest.approx(pointer, abs=1e-3)
    nearer = camera.zoomed(1.7, pointer, SIZE)
    assert nearer.zoom == pytest.approx(1.7)
    assert nearer.matrices(SIZE).project(point[None])[0, :2] == pytest.approx(pointer, abs=1e-2)


def test_panning_moves_the_target_by_the_pixels_of_the_pointer():
    camera = Camera(elevation_deg=10.0)
    before = camera.matrices(SIZE).project(np.zeros((1, 3)))[0]
    after = camera.panned(40.0, -25.0, SIZE).matrices(SIZE).project(np.zeros((1, 3)))[0]
    assert after[:2] - before[:2] == pytest.approx([40.0, -25.0], abs=1e-2)


def test_panning_never_loses_the_map():
    camera = Camera()
    for _ in range(50):
        camera = camera.panned(500.0, 500.0, SIZE)
    assert np.linalg.norm(camera.target) <= 1.2 + 1e-9


def test_fitting_fills_the_picture_with_the_points():
    few = POINTS[:8] * 0.1 + 0.3
    seen = Camera().fitted(few).matrices(SIZE).project(few)
    assert (seen[:, 1] >= 0).all() and (seen[:, 1] <= SIZE[1]).all()
    spread = np.linalg.norm(seen[:, None, :2] - seen[None, :, :2], axis=2).max()
    assert spread > 0.5 * SIZE[1]


def test_a_flight_turns_the_shorter_way_and_ends_at_its_goal():
    start, goal = Camera(azimuth_deg=350.0), Camera(azimuth_deg=20.0, zoom=4.0)
    assert start.blended(goal, 0.5).azimuth_deg == pytest.approx(5.0)
    assert start.blended(goal, 0.5).zoom == pytest.approx(2.0)
    end = start.blended(goal, 1.0)
    assert (end.azimuth_deg, end.zoom) == pytest.approx((20.0, 4.0))


def test_looking_straight_down_is_a_view_like_any_other():
    matrices = Camera(elevation_deg=90.0, azimuth_deg=270.0, projection="orthographic").matrices(SIZE)
    seen = matrices.project(np.array([[0.0, 0, 0.9], [0.5, 0, 0], [0, 0.5, 0]]))
    assert seen[0, :2] == pytest.approx([640, 360], abs=1e-3)
    assert seen[1, 0] > 640 and seen[1, 1] == pytest.approx(360, abs=1e-3)
    assert seen[2, 1] < 360 and seen[2, 0] == pytest.approx(640, abs=1e-3)


@pytest.mark.parametrize(
    "values", [{"zoom": 0.0}, {"zoom": math.nan}, {"azimuth_deg": math.inf}, {"projection": "fisheye"}]
)
def test_a_camera_that_cannot_be_is_refused(values):
    with pytest.raises(SettingsError):
        Camera(**values)
