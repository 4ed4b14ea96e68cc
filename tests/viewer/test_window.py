"""The real window on a virtual screen, moved by a real pointer and real keys; the view that it saves says the rest."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageGrab

from viz.camera import Camera

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("Xvfb", "openbox", "xdotool")
PATIENCE_S = 30.0
# Answers each question with its own text and the first passage.
HELPER = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    passage = {"start": 0, "end": 100, "score": 1.0, "near": False}
    print(json.dumps({"question": asked["question"], "passages": [passage]}), flush=True)
"""


def until(condition, what):
    """The condition's value, as soon as it is true."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


@pytest.fixture(scope="module")
def screen():
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    read_end, write_end = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_end), "-screen", "0", "1500x1000x24"],
        pass_fds=[write_end], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        display = f":{pipe.readline().strip()}"
    manager = subprocess.Popen(["openbox"], env={**os.environ, "DISPLAY": display}, stderr=subprocess.DEVNULL)
    yield display
    for process in (manager, server):
        process.terminate()
        process.wait()


class OpenWindow:
    """A window of ours, and the hands that move it."""

    def __init__(self, display, scene_file, folder, *arguments):
        self.display, self.folder = display, folder
        self.env = {**os.environ, "DISPLAY": display}
        command = [sys.executable, "-m", "viz", scene_file, "--save-to", folder, *arguments]
        self.process = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=self.env, stderr=subprocess.PIPE, text=True
        )
        self.id = until(lambda: self.do("search", "--onlyvisible", "--name", "novelscope").split()[:1], "the window")[0]
        self.do("windowfocus", "--sync", self.id)
        self.saved = 0
        self.key("h")  # panels away: they cover the map

    def do(self, *words):
        done = subprocess.run(["xdotool", *map(str, words)], env=self.env, capture_output=True, text=True, timeout=30)
        return done.stdout

    def key(self, *names):
        self.do("key", "--window", self.id, "--delay", "60", *names)

    def drag(self, start, end, button=1):
        middle = [(start[0] + end[0]) // 2, (start[1] + end[1]) // 2]
        self.do(
            "mousemove", "--window", self.id, *start, "mousedown", button, "sleep", "0.1",
            "mousemove", "--window", self.id, *middle, "sleep", "0.1",
            "mousemove", "--window", self.id, *end, "sleep", "0.1", "mouseup", button,
        )  # fmt: skip

    def click(self, x, y):
        self.do("mousemove", "--window", self.id, round(x), round(y), "sleep", "0.2", "click", "1")
        time.sleep(0.5)  # or the next click would make it a double one

    def view(self):
        """The view, as the window saves it."""
        self.saved += 1
        path = self.folder / f"山中记-{self.saved}.json"
        self.key("s")
        until(path.exists, f"a saved view; the window is {self.process.poll()}")
        return json.loads(path.read_text(encoding="utf-8"))

    def size(self):
        words = dict(line.split("=") for line in self.do("getwindowgeometry", "--shell", self.id).split())
        return int(words["WIDTH"]), int(words["HEIGHT"])

    def pixels(self, *, keep_pointer=False):
        width, height = self.size()
        here = self.do("getmouselocation", "--shell").split()[:2]
        # The geometry that xdotool tells counts the frame in; a pointer sent to the corner does not.
        told = self.do("mousemove", "--window", self.id, 0, 0, "getmouselocation", "--shell")
        x, y = (int(line.split("=")[1]) for line in told.split()[:2])
        if keep_pointer:
            self.do("mousemove", *(line.split("=")[1] for line in here), "sleep", "0.7")
        time.sleep(0.3)
        return np.asarray(ImageGrab.grab((x, y, x + width, y + height), xdisplay=self.display).convert("RGB")).astype(
            int
        )

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=30)


@pytest.fixture
def window(screen, scene_file, tmp_path):
    opened = []

    def make(*arguments):
        opened.append(OpenWindow(screen, scene_file, tmp_path, *arguments))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_a_drag_turns_the_map_and_the_opposite_drag_turns_it_back(window):
    opened = window()
    opened.key("space")  # the slow turning stops
    first = opened.view()["camera"]
    opened.drag((600, 400), (750, 340))
    turned = opened.view()["camera"]
    opened.drag((750, 340), (600, 400))
    back = opened.view()["camera"]
    assert abs(turned["azimuth_deg"] - first["azimuth_deg"]) > 20 and turned["elevation_deg"] != first["elevation_deg"]
    assert back["azimuth_deg"] == pytest.approx(first["azimuth_deg"], abs=1e-6)
    assert back["elevation_deg"] == pytest.approx(first["elevation_deg"], abs=1e-6)


def test_the_wheel_zooms_and_the_right_button_pans(window):
    opened = window()
    opened.key("space")
    first = opened.view()["camera"]
    opened.do("mousemove", "--window", opened.id, 800, 300, "click", 4, "click", 4)
    nearer = opened.view()["camera"]
    opened.drag((600, 400), (700, 400), button=3)
    moved = opened.view()["camera"]
    assert nearer["zoom"] == pytest.approx(first["zoom"] * 1.15**2)
    assert moved["zoom"] == nearer["zoom"] and moved["target"] != nearer["target"]


def test_the_map_turns_until_the_first_touch(window):
    opened = window()
    first = opened.view()["camera"]
    time.sleep(1.0)
    second = opened.view()["camera"]
    assert first["azimuth_deg"] != second["azimuth_deg"]
    opened.click(5, 5)
    third, fourth = opened.view()["camera"], opened.view()["camera"]
    assert third == fourth


def test_a_click_pins_the_passage_and_arrows_walk_on(window, cloud):
    opened = window()
    opened.key("space")
    camera = opened.view()["camera"]
    width, height = opened.size()
    seen = Camera(**{**camera, "target": tuple(camera["target"])}).matrices((width, height)).project(cloud.points)
    front = int(np.argmin(seen[:, 2]))
    opened.click(*seen[front, :2])
    assert opened.view()["pinned"] == cloud.ids[front]
    opened.key("Right")
    assert opened.view()["pinned"] == cloud.ids[min(front + 1, len(cloud) - 1)]
    opened.key("Escape")
    assert opened.view()["pinned"] is None


def test_shift_and_a_drag_select_what_lies_inside(window, cloud):
    opened = window()
    opened.key("space")
    width, height = opened.size()
    opened.do(
        "mousemove", "--window", opened.id, 5, 5, "keydown", "shift", "mousedown", 1, "sleep", "0.1",
        "mousemove", "--window", opened.id, width - 5, 5, "sleep", "0.1",
        "mousemove", "--window", opened.id, width - 5, height - 5, "sleep", "0.1",
        "mousemove", "--window", opened.id, 5, height - 5, "sleep", "0.1", "mouseup", 1, "keyup", "shift",
    )  # fmt: skip
    assert opened.view()["selected"] == list(cloud.ids)


def test_control_and_a_drag_select_a_box(window, cloud):
    opened = window()
    opened.key("space")
    camera = opened.view()["camera"]
    width, height = opened.size()
    opened.do("keydown", "ctrl")
    opened.drag((5, 5), (width // 2, height - 5))
    opened.do("keyup", "ctrl")
    seen = Camera(**{**camera, "target": tuple(camera["target"])}).matrices((width, height)).project(cloud.points)
    left = [name for name, place in zip(cloud.ids, seen, strict=True) if place[0] < width // 2 - 1]
    assert set(left) <= set(opened.view()["selected"]) < set(cloud.ids)


def test_a_card_appears_beside_a_pointer_that_stays_and_goes_when_it_leaves(window, cloud):
    opened = window()
    opened.key("space")
    camera = opened.view()["camera"]
    opened.key("t", "t")  # the notice of the saved view goes
    width, height = opened.size()
    seen = Camera(**{**camera, "target": tuple(camera["target"])}).matrices((width, height)).project(cloud.points)
    left = np.flatnonzero(seen[:, 0] < width / 2)
    x, y, _ = seen[left[np.argmin(seen[left, 2])]]
    bare = opened.pixels()
    rows = slice(round(y) + 10, round(y) + 60) if y < height * 0.6 else slice(round(y) - 60, round(y) - 10)
    beside = (rows, slice(round(x) + 40, round(x) + 280))

    def share_changed():
        opened.do("mousemove", "--window", opened.id, round(x), round(y))
        shown = opened.pixels(keep_pointer=True)
        return (shown[beside] != bare[beside]).any(axis=2).mean()

    until(lambda: share_changed() > 0.5, "a card beside the pointer")
    opened.do("mousemove", "--window", opened.id, 1, 1)
    time.sleep(1.0)
    assert (np.abs(opened.pixels() - bare).max(axis=2) > 4).mean() < 0.001


def test_a_chinese_question_reaches_the_search_and_lights_its_passage(window, tmp_path):
    opened = window("--search-command", json.dumps([sys.executable, "-c", HELPER]))
    opened.key("h")
    answer = None
    for patience_s in (0.5, 1.0, 2.0, 4.0):  # keys are not waited for: a busy machine may hear the first too late
        opened.key("slash")
        time.sleep(patience_s)
        opened.do("type", "--delay", "150", "红")
        time.sleep(patience_s)
        opened.key("Return")
        time.sleep(2 * patience_s)
        opened.click(700, 790)  # the question's box lets go of the keyboard
        answer = opened.view()["answer"]
        if answer:
            break
    assert answer is not None and set(answer["question"]) == {"红"} and answer["passages"][0]["end"] == 100


def test_an_answer_in_the_followed_file_lights_up(window, tmp_path):
    opened = window("--follow", tmp_path / "follow.json")
    passage = {"start": 500, "end": 600, "score": 0.5}
    (tmp_path / "follow.json").write_text(json.dumps({"question": "谁？", "passages": [passage]}), encoding="utf-8")
    time.sleep(1.0)
    answer = until(lambda: opened.view()["answer"], "an answer")
    assert answer["question"] == "谁？"


@pytest.mark.parametrize("size", [(1280, 800), (700, 520)])
def test_the_window_shows_what_render_draws_at_any_size(window, scene_file, tmp_path, size):
    opened = window("--until", "15")
    opened.key("space")
    opened.do("windowsize", "--sync", opened.id, *size)
    time.sleep(1.0)
    opened.view()
    opened.key("t", "t")  # a change of theme and back takes the notice's place
    width, height = opened.size()
    time.sleep(1.0)
    shown = opened.pixels()
    path = tmp_path / "drawn.png"
    view = tmp_path / f"山中记-{opened.saved}.json"
    command = [sys.executable, "-m", "viz", "render", scene_file, "--view", view, "--size", f"{width}x{height}"]
    subprocess.run([*map(str, command), "--output", str(path)], cwd=ROOT, check=True, timeout=60)
    with Image.open(path) as picture:
        drawn = np.asarray(picture.convert("RGB")).astype(int)
    top = slice(0, height - 90)  # the notice of the saved view stands at the foot
    assert (np.abs(shown[top] - drawn[top]).max(axis=2) > 2).mean() < 0.001


def test_a_minimised_window_comes_back_as_it_was(window):
    opened = window()
    opened.key("space")
    time.sleep(1.0)
    before = opened.pixels()
    opened.do("windowminimize", "--sync", opened.id)
    time.sleep(1.0)
    opened.do("windowmap", "--sync", opened.id, "windowactivate", "--sync", opened.id)
    time.sleep(1.0)
    assert (opened.pixels() == before).all()


def test_escape_closes_the_window_with_success_and_without_a_word(window):
    opened = window()
    opened.key("Escape")
    _, complaints = opened.process.communicate(timeout=30)
    assert opened.process.returncode == 0
    assert "Traceback" not in complaints
