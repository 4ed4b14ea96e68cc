"""Pixels: what is drawn, where, in which colour, and that a pointer finds it. Runs on any OpenGL 3.3, softpipe too."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.data.palette import class_colour
from core.errors import GraphicsError
from viz import layers, text_layer
from viz.answers import read_answer
from viz.camera import Camera
from viz.colours import THEMES
from viz.drawing import compose
from viz.programs import CONSTANTS, load_program, shader_source
from viz.renderer import Renderer
from viz.state import ViewState

SIZE = (320, 180)
DARK = np.array(THEMES["dark"].background)
BARE = ViewState(labels=False)
SHADERS = Path(__file__).resolve().parents[2] / "shaders"


def picture(renderer, scene, state=BARE, answer=None, size=SIZE):
    renderer.update(compose(scene, state, answer))
    return renderer.picture(state.camera, size).astype(int)


def test_a_point_at_the_target_lights_the_centre_and_nothing_else(renderer, scene_of):
    pixels = picture(renderer, scene_of([[0, 0, 0]]))
    colour = np.array(class_colour("dark", 0))
    assert np.abs(pixels[90, 160] - colour).sum() < np.abs(pixels[90, 160] - DARK).sum()
    assert (pixels[:80, :] == DARK).all() and (pixels[90, :140] == DARK).all() and (pixels[90, 180:] == DARK).all()


def test_passages_land_on_their_own_colours_where_the_camera_projects_them(renderer, cloud):
    state = replace(BARE, mode="position", camera=Camera(projection="orthographic"))
    drawing = compose(cloud, state)
    pixels = picture(renderer, cloud, state, size=(640, 360))
    seen = state.camera.matrices((640, 360)).project(cloud.points)
    hits = 0
    for row in np.argsort(seen[:, 2]):
        x, y = int(seen[row, 0]), int(seen[row, 1])
        if renderer.pick(state.camera, (640, 360), x, y) == row:
            near = np.asarray(drawing.colours[row, :3], float)
            # Fog mixes in some of the background: the pixel lies on the way from the colour to the background.
            way = DARK - near
            share = float(np.dot(pixels[y, x] - near, way) / np.dot(way, way))
            assert -0.02 <= share <= layers.FOG_MOST + 0.02
            assert np.abs(pixels[y, x] - (near + share * way)).max() <= 3
            hits += 1
    assert hits > 100


def test_the_same_angle_repeats_bit_for_bit_and_another_differs(renderer, cloud):
    first = picture(renderer, cloud, ViewState())
    again = picture(renderer, cloud, ViewState())
    turned = picture(renderer, cloud, replace(ViewState(), camera=Camera(azimuth_deg=80.0)))
    assert (first == again).all()
    assert (first != turned).any()


def test_a_full_turn_gives_the_first_picture(renderer, cloud):
    at_0, at_360 = (replace(BARE, camera=Camera(azimuth_deg=angle)) for angle in (0.0, 360.0))
    assert (picture(renderer, cloud, at_0) == picture(renderer, cloud, at_360)).all()


def test_nearer_points_hide_farther_ones(renderer, scene_of):
    # Seen from +x: the first stands before the second.
    scene = scene_of([[0.5, 0, 0], [-0.5, 0, 0]], clusters=[0, 1])
    state = replace(BARE, camera=Camera(azimuth_deg=0.0, elevation_deg=0.0))
    renderer.update(compose(scene, state))
    assert renderer.pick(state.camera, SIZE, 160, 90) == 0
    back = replace(state, camera=Camera(azimuth_deg=180.0, elevation_deg=0.0))
    assert renderer.pick(back.camera, SIZE, 160, 90) == 1


def test_near_points_are_larger_in_perspective_and_alike_in_parallel(renderer, scene_of):
    scene = scene_of([[0.9, -0.3, 0], [-0.9, 0.3, 0]])
    lit = {}
    for projection in ("perspective", "orthographic"):
        state = replace(BARE, camera=Camera(azimuth_deg=0.0, elevation_deg=0.0, projection=projection), point_scale=3)
        pixels = picture(renderer, scene, state, size=(640, 360))
        is_lit = (np.abs(pixels - DARK).sum(axis=2) > 60) & (np.arange(360) < 230)[:, None]  # the floor lies below
        lit[projection] = (is_lit[:, :320].sum(), is_lit[:, 320:].sum())
    near, far = lit["perspective"]
    assert near > 1.5 * far > 0
    assert lit["orthographic"][0] == pytest.approx(lit["orthographic"][1], rel=0.2)


def test_picking_returns_the_passage_that_numpy_finds_nearest(renderer, scene_of):
    camera = Camera(azimuth_deg=120.0)
    scene = scene_of(np.random.default_rng(5).uniform(-0.55, 0.55, (40, 3)))
    renderer.update(compose(scene, BARE))
    seen = camera.matrices((1280, 720)).project(scene.points)
    checked = 0
    for row in range(len(scene)):
        distances = np.linalg.norm(seen[:, :2] - seen[row, :2], axis=1)
        if np.sort(distances)[1] > 40:  # alone within the pointer's reach, whichever stands in front
            for dx, dy in ((0, 0), (10, 0), (0, -10), (-7, 7)):
                assert renderer.pick(camera, (1280, 720), seen[row, 0] + dx, seen[row, 1] + dy) == row
            checked += 1
    assert checked > 3


def test_picking_far_from_every_point_finds_nothing(renderer, scene_of):
    renderer.update(compose(scene_of([[0, 0, 0]]), BARE))
    assert renderer.pick(Camera(), (1280, 720), 640, 360) == 0
    assert renderer.pick(Camera(), (1280, 720), 640 + 40, 360) is None
    assert renderer.pick(Camera(), (1280, 720), 1, 1) is None


def test_the_fence_hides_later_passages_and_they_cannot_be_picked(renderer, scene_of):
    points = np.zeros((20, 3))
    points[:10, 1], points[10:, 1] = -0.5, 0.5  # chapter 1 left, chapter 2 right, seen from +x
    scene = scene_of(points + np.linspace(0, 0.01, 20)[:, None])
    open_state = replace(BARE, camera=Camera(azimuth_deg=0.0, elevation_deg=0.0))
    fenced = replace(open_state, until_chapter=1)
    x, y, _ = open_state.camera.matrices(SIZE).project(scene.points[15:16])[0]
    renderer.update(compose(scene, open_state))
    assert renderer.pick(open_state.camera, SIZE, x, y) in range(10, 20)
    pixels = picture(renderer, scene, fenced)
    assert renderer.pick(fenced.camera, SIZE, x, y) is None
    assert (pixels[:90, 165:] == DARK).all() and (pixels[:90, :155] != DARK).any()


def test_an_isolated_class_leaves_ghosts_that_cannot_be_picked(renderer, cloud):
    state = replace(BARE, isolated=(2,))
    drawing = compose(cloud, state)
    renderer.update(drawing)
    assert set(cloud.clusters[drawing.crowd]) == {2}
    seen = state.camera.matrices(SIZE).project(cloud.points)
    found = {renderer.pick(state.camera, SIZE, x, y) for x, y, _ in seen} - {None}
    assert found and {int(cloud.clusters[row]) for row in found} == {2}


def test_found_passages_shine_through_those_before_them(renderer, scene_of):
    points = np.concatenate([[[-0.5, 0, 0]], np.tile([[0.5, 0, 0]], (19, 1)) + np.linspace(0, 0.02, 19)[:, None]])
    scene = scene_of(points)
    raw = {"question": "谁在山中？", "passages": [{"start": 0, "end": 100, "score": 1.0}]}
    state = replace(BARE, camera=Camera(azimuth_deg=0.0, elevation_deg=0.0))
    pixels = picture(renderer, scene, state, read_answer(raw, scene))
    assert renderer.pick(state.camera, SIZE, 160, 90) == 0
    found, crowd = (np.array(c) for c in (THEMES["dark"].found, class_colour("dark", 0)))
    around = pixels[84:97, 154:167].reshape(-1, 3)
    assert np.abs(around - found).sum(axis=1).min() < np.abs(around - crowd).sum(axis=1).min()


def test_hovering_draws_a_ring_and_nothing_else(renderer, cloud):
    renderer.update(compose(cloud, BARE))
    plain = renderer.picture(BARE.camera, SIZE).astype(int)
    ringed = renderer.picture(BARE.camera, SIZE, hovered=5).astype(int)
    x, y, _ = BARE.camera.matrices(SIZE).project(cloud.points[5:6])[0]
    rows, columns = np.nonzero((plain != ringed).any(axis=2))
    assert len(rows) > 10
    assert np.hypot(rows + 0.5 - y, columns + 0.5 - x).max() < 12


def test_a_large_crowd_moves_as_a_part_and_stands_whole(renderer, scene_of):
    random = np.random.default_rng(1)
    points = random.normal(0, 0.25, (60_000, 3))
    points /= max(1, np.linalg.norm(points, axis=1).max())
    scene = scene_of(points)
    renderer.update(compose(scene, BARE))
    target = renderer.context.simple_framebuffer(SIZE)
    lit = []
    for is_moving in (True, False):
        renderer.draw(target, BARE.camera, SIZE, is_moving=is_moving)
        pixels = np.frombuffer(target.read(components=3), np.uint8).reshape(-1, 3).astype(int)
        lit.append(int((np.abs(pixels - DARK).sum(axis=1) > 30).sum()))
    target.release()
    assert 0.3 * lit[1] < lit[0] <= lit[1]


def test_words_are_drawn_in_chinese_and_change_only_their_place(renderer, cloud):
    from viz.fonts import find_font

    if not find_font().has_chinese:
        pytest.skip("no Chinese font on this machine")
    plain = picture(renderer, cloud, BARE, size=(640, 360))
    named = picture(renderer, cloud, ViewState(), size=(640, 360))
    changed = (plain != named).any(axis=2)
    assert 200 < changed.sum() < 0.2 * changed.size
    text = np.array(THEMES["dark"].text)
    assert (np.abs(named[changed] - text).sum(axis=1) < 40).any()


def test_a_picture_too_large_for_the_driver_is_refused_in_words(renderer, cloud):
    renderer.update(compose(cloud, BARE))
    with pytest.raises(GraphicsError, match="100000x10 was asked for"):
        renderer.picture(BARE.camera, (100_000, 10))


def test_many_words_make_a_larger_atlas_and_lose_none(gl, monkeypatch):
    monkeypatch.setattr(text_layer, "ATLAS_PX", 256)
    from viz.drawing import Label
    from viz.labels import Placed

    layer = text_layer.TextLayer(gl)
    words = [f"第{number}回" for number in range(120)]
    placed = [Placed(Label(word, (0, 0, 0), (255, 255, 255), 20, 0), 0, 0, 20, 1.0) for word in words]
    spots = layer._spots(placed)
    assert len({(spot.left, spot.top) for spot in spots}) == 120
    layer.release()


# Shaders ----------------------------------------------------------------------------------------------------------


def used_pairs():
    source = "".join(path.read_text(encoding="utf-8") for path in (SHADERS.parent / "viz").glob("*.py"))
    return re.findall(r'load_program\(context, "(\w+)", "(\w+)"\)', source)


def test_every_shader_is_used_and_compiles(gl):
    pairs = used_pairs()
    files = {path.name for path in SHADERS.iterdir() if path.suffix in (".vert", ".frag")}
    assert files == {f"{vertex}.vert" for vertex, _ in pairs} | {f"{fragment}.frag" for _, fragment in pairs}
    for vertex, fragment in pairs:
        load_program(gl, vertex, fragment).release()


def test_every_shader_is_written_for_opengl_3_3():
    for path in SHADERS.iterdir():
        if path.suffix in (".vert", ".frag"):
            assert path.read_text(encoding="utf-8").startswith("#version 330\n//"), path


def test_a_missing_shader_and_a_missing_constant_are_told_in_words(monkeypatch):
    with pytest.raises(GraphicsError, match=r"shader nowhere\.vert is missing"):
        shader_source("nowhere.vert")
    monkeypatch.delitem(CONSTANTS, "RIM_SHARE")
    with pytest.raises(GraphicsError, match="@RIM_SHARE@"):
        shader_source("points.frag")


def test_a_shader_that_the_driver_refuses_is_told_in_words(gl, monkeypatch):
    monkeypatch.setitem(CONSTANTS, "RIM_SHARE", "rubbish rubbish")
    with pytest.raises(GraphicsError, match=r"refuses the shaders points\.vert and points\.frag"):
        load_program(gl, "points", "points")


def test_a_renderer_can_be_made_and_released_many_times(gl, cloud):
    for _ in range(5):
        made = Renderer(gl)
        made.update(compose(cloud, ViewState()))
        made.picture(Camera(), (64, 64))
        made.pick(Camera(), (64, 64), 32, 32)
        made.release()
