"""``python -m viz`` as a program: pictures without a screen, and failures in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def viz(*arguments, env=None):
    clean = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.run(
        [sys.executable, "-m", "viz", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, env={**clean, **(env or {})},
    )  # fmt: skip


def test_a_picture_has_the_size_that_was_asked_for_and_repeats(gl, scene_file, tmp_path):
    pictures = []
    for name in ("a.png", "b.png"):
        done = viz("render", scene_file, "--output", tmp_path / name, "--size", "321x203", "--legend", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["width"] == 321
        with Image.open(tmp_path / name) as drawn:
            pictures.append(drawn.convert("RGB"))
    assert pictures[0].size == (321, 203)
    assert pictures[0].tobytes() == pictures[1].tobytes()


def test_picking_where_a_passage_is_projected_finds_it(gl, scene_file, cloud):
    found = 0
    for passage in cloud.ids[::20]:
        place = json.loads(viz("project", scene_file, passage, "--json").stdout)
        picked = json.loads(viz("pick", scene_file, place["x"], place["y"], "--json").stdout)
        found += picked["id"] == passage
    assert found >= 3  # the others stand behind nearer ones


def test_what_lies_past_the_bookmark_cannot_be_projected(gl, scene_file, cloud):
    done = viz("project", scene_file, cloud.ids[-1], "--until", "3")
    assert done.returncode == 1 and "no passage" in done.stderr


@pytest.mark.parametrize("name", ["turn.gif", "turn.mp4"])
def test_a_turntable_is_a_film_of_its_frames(gl, scene_file, tmp_path, name):
    done = viz("turntable", scene_file, "--output", tmp_path / name, "--frames", 6, "--size", "160x90")
    assert done.returncode == 0, done.stderr
    if name.endswith("gif"):
        with Image.open(tmp_path / name) as film:
            assert film.n_frames == 6
    else:
        assert (tmp_path / name).read_bytes()[4:8] == b"ftyp"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent.json"}, "apt-get install libegl1 libgl1 libgl1-mesa-dri"),
        ({"LIBGL_DRIVERS_PATH": "/nonexistent"}, "apt-get install libegl1 libgl1 libgl1-mesa-dri"),
        ({"GLCONTEXT_LINUX_LIBEGL": "libnope.so"}, "apt-get install libegl1 libgl1 libgl1-mesa-dri"),
        ({"MESA_GL_VERSION_OVERRIDE": "2.1"}, "older than 3.3"),
    ],
)
def test_a_machine_that_cannot_draw_says_what_to_install(gl, scene_file, tmp_path, env, words):
    done = viz("render", scene_file, "--output", tmp_path / "a.png", env=env)
    assert done.returncode == 1
    assert words in done.stderr and len(done.stderr.strip().splitlines()) <= 3
    assert "Traceback" not in done.stderr and not (tmp_path / "a.png").exists()


def test_no_display_names_the_command_that_needs_none(scene_file):
    done = viz("window", scene_file)
    assert done.returncode == 1
    assert "novelscope map render" in done.stderr and "Traceback" not in done.stderr


def test_a_broken_map_is_told_in_one_line(tmp_path):
    path = tmp_path / "map.parquet"
    path.write_bytes(b"PAR1 nothing")
    done = viz("info", path)
    assert done.returncode == 1 and "not a readable map" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_pictures_are_drawn_without_loading_glfw_or_imgui(gl, scene_file, tmp_path):
    code = (
        "import sys; from viz.__main__ import main; "
        f"main(['render', {str(scene_file)!r}, '--output', {str(tmp_path / 'a.png')!r}]); "
        "print(sorted({'glfw', 'imgui_bundle', 'pandas', 'umap', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["window", "SCENE", "--search-command", "{"], "is not a JSON list"),
        (["pick", "SCENE", "nan", "3"], "'nan' is not a number"),
        (["render", "SCENE", "--output", "OUT/a.png", "--zoom", "inf"], "'inf' is not a number"),
        (["render", "SCENE", "--output", "OUT/a.png", "--zoom", "0"], "zoom is 0"),
        (["render", "SCENE", "--output", "OUT/a.png", "--size", "0x9"], "is not a size"),
        (["render", "SCENE", "--output", "OUT/a.gif"], "wanted a name that ends in .png"),
        (["render", "SCENE", "--output", "OUT/none/a.png"], "cannot write"),
        (["render", "SCENE", "--output", "OUT/a.png", "--ids", "nobody"], "no passage 'nobody'"),
        (["render", "SCENE", "--output", "OUT/a.png", "--view", "OUT/view.json"], "is not a view of a map"),
        (["render", "SCENE", "--output", "OUT/a.png", "--answer", "OUT/view.json"], "the answer cannot be read"),
        (["turntable", "SCENE", "--output", "OUT/a.webm"], "ends in .gif or .mp4"),
        (["info", "OUT/nowhere"], "there is no map at"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_no_file(gl, scene_file, tmp_path, arguments, words):
    (tmp_path / "view.json").write_text("[1]", encoding="utf-8")
    places = {"SCENE": str(scene_file), "OUT": str(tmp_path)}
    done = viz(*(word.replace("SCENE", places["SCENE"]).replace("OUT", places["OUT"]) for word in arguments))
    assert done.returncode in (1, 2)
    assert words in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.parquet", "view.json"]
