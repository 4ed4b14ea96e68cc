"""``novelscope map`` as a person runs it: real vectors, a viewer in a process of its own, pictures without a screen."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time

import pytest
from PIL import Image

from core.data.scenes import Scene
from core.errors import GraphicsError
from demos.verbs import map as map_verb
from tests.demos.cli_runner import novelscope, start, write_novel
from viz import options
from viz.context import open_headless

E5 = {"NOVELSCOPE_EMBEDDER": "e5-small", "NOVELSCOPE_LANG": "zh"}

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A library with one short book, its vectors and its map."""
    folder = tmp_path_factory.mktemp("map")
    home = folder / "home"
    added = novelscope(home, "add", str(write_novel(folder / "山中记.txt", num_chapters=4)), "--wait", env=E5)
    assert added.returncode == 0, added.stderr
    built = novelscope(home, "map", "build", "山中记", "--json", env=E5)
    assert built.returncode == 0, built.stderr
    return home, json.loads(built.stdout)


def run(shelf, *arguments, **options):
    return novelscope(shelf[0], "map", *map(str, arguments), env=E5, **options)


@pytest.fixture
def canvas():
    try:
        open_headless().release()
    except GraphicsError as wrong:
        pytest.skip(f"nothing can be drawn here: {wrong}")


def test_a_map_is_built_once_and_tells_what_it_holds(shelf):
    home, built = shelf
    scene = Scene.read(next(home.glob("books/*/map.parquet")))
    assert built["passages"] == len(scene) and built["title"] == "山中记" and built["method"] == "pca"
    assert "too few for UMAP" in built["notes"][0]
    again = run(shelf, "build", "山中记")
    assert again.returncode == 0 and "up to date" in again.stderr and "《山中记》" in again.stdout


def test_a_picture_of_a_question_differs_from_one_without(shelf, canvas, tmp_path):
    plain, asked = tmp_path / "plain.png", tmp_path / "asked.png"
    size = ["--size", "320x200", "--no-labels"]
    done = run(shelf, "render", "山中记", "--output", plain, *size, "--json")
    assert json.loads(done.stdout) == {"output": str(plain), "width": 320, "height": 200}
    assert run(shelf, "render", "山中记", "--output", asked, *size, "--question", "丙字灯藏在哪里？").returncode == 0
    with Image.open(plain) as one, Image.open(asked) as other:
        assert one.size == other.size == (320, 200) and one.tobytes() != other.tobytes()


def test_a_passage_is_picked_where_it_is_projected(shelf, canvas):
    home, _ = shelf
    scene = Scene.read(next(home.glob("books/*/map.parquet")))
    found = 0
    for passage in scene.ids:
        place = json.loads(run(shelf, "project", "山中记", passage, "--json").stdout)
        picked = json.loads(run(shelf, "pick", "山中记", place["x"], place["y"], "--json").stdout)
        found += picked["id"] == passage
        if found == 3:
            return
    raise AssertionError(f"{found} of {len(scene)} passages are picked where they are")


def test_nothing_beyond_the_bookmark_is_picked_or_projected(shelf, canvas):
    home, _ = shelf
    scene = Scene.read(next(home.glob("books/*/map.parquet")))
    last = scene.ids[-1]
    place = json.loads(run(shelf, "project", "山中记", last, "--json").stdout)
    picked = run(shelf, "pick", "山中记", place["x"], place["y"], "--until", "2", "--json")
    assert json.loads(picked.stdout).get("chapter", 0) <= 2
    refused = run(shelf, "project", "山中记", last, "--until", "2")
    assert refused.returncode == 1 and "no passage" in refused.stderr


def test_a_film_is_written(shelf, canvas, tmp_path):
    path = tmp_path / "turn.gif"
    assert run(shelf, "turntable", "山中记", "--output", path, "--frames", "5", "--size", "96x64").returncode == 0
    with Image.open(path) as film:
        assert film.n_frames == 5 and film.size == (96, 64)


def test_a_map_that_is_missing_is_built_before_it_is_drawn(shelf, canvas, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(shelf[0], home)
    next(home.glob("books/*/map.parquet")).unlink()
    done = novelscope(home, "map", "render", "山中记", "--output", str(tmp_path / "m.png"), env=E5)
    assert done.returncode == 0 and "building the map first" in done.stderr and (tmp_path / "m.png").exists()
    assert next(home.glob("books/*/map.parquet")).exists()


def test_a_map_of_other_vectors_is_built_anew(shelf, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(shelf[0], home)
    path = next(home.glob("books/*/map.parquet"))
    path.write_bytes(b"damaged")
    assert novelscope(home, "map", "build", "山中记", env=E5).returncode == 0
    assert Scene.read_facts(path).title == "山中记"


def test_ctrl_c_while_building_leaves_the_old_map_and_no_process(shelf, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(shelf[0], home)
    path = next(home.glob("books/*/map.parquet"))
    before = path.read_bytes()
    process = start(home, "map", "build", "山中记", "--force", env=E5, start_new_session=True)
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("it was built before it could be stopped")
    assert process.returncode == 130 and "Traceback" not in complaint
    assert path.read_bytes() == before
    assert [other.name for other in path.parent.glob(".map*")] == []
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(path) not in listed


def test_the_window_s_helper_answers_line_by_line_until_its_input_ends(shelf):
    asked = [{"question": "丙字灯藏在哪里？", "until": None}, {"question": "丁字灯呢？", "until": 2}, {"no": 1}]
    lines = "".join(f"{json.dumps(each)}\n" for each in asked) + "not json\n"
    done = novelscope(shelf[0], "map-search", "山中记", env=E5, input=lines)
    first, bounded, *wrong = map(json.loads, done.stdout.splitlines())
    scene = Scene.read(next(shelf[0].glob("books/*/map.parquet")))
    best = first["passages"][0]
    assert done.returncode == 0 and any(
        "丙字灯" in scene.texts[row] for row in scene.rows_within(best["start"], best["end"])
    )
    rows = [row for each in bounded["passages"] for row in scene.rows_within(each["start"], each["end"])]
    assert rows and max(scene.chapters[rows]) <= 2
    assert ["error" in each for each in wrong] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["render", "无此书", "--output", "x.png"], "no book is called"),
        (["render", "山中记", "--output", "x.jpg"], "ends in .png"),
        (["turntable", "山中记", "--output", "x.avi"], "x.avi"),
        (["project", "山中记", "nowhere"], "no passage 'nowhere'"),
        (["render", "山中记", "--output", "x.png", "--question", "谁", "--answer", "a.json"], "both --question and"),
        (["render", "山中记", "--output", "x.png", "--answer", "/no/such.json"], "no/such.json"),
    ],
)
def test_a_mistake_is_one_sentence(shelf, tmp_path, arguments, words):
    done = run(shelf, *[str(tmp_path / word) if word.startswith("x.") else word for word in arguments])
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and done.stdout == "" and not list(tmp_path.iterdir())


def test_the_window_without_a_screen_says_what_to_do_instead(shelf):
    done = novelscope(shelf[0], "map", "window", "山中记", env={**E5, "DISPLAY": "", "WAYLAND_DISPLAY": ""})
    assert done.returncode == 1 and "map render" in done.stderr and "Traceback" not in done.stderr


def test_the_command_line_offers_every_option_that_the_viewer_has():
    import argparse

    ours, viewers = argparse.ArgumentParser(), argparse.ArgumentParser()
    map_verb._add_view_options(ours)
    options.add_view_options(viewers)

    def offered(parser):
        return {
            name: sorted(map(str, action.choices or [])) for action in parser._actions for name in action.option_strings
        }

    assert offered(ours) == {**offered(viewers), "--question": []}
