"""The Map tab's handlers, without a browser: what is sent, and what never is."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from core.data.scenes import Scene
from core.llm.backends.scripted import ScriptedBackend
from core.retrieval.indexing import embed_missing
from demos import map_window
from demos.mapping import answer_of, build_map, is_map_current
from demos.stepwise import Cancelled, Finished, stepwise
from demos.tabs.document import answer_question
from demos.tabs.map import open_window, rebuild_map, show_map
from tests.demos.web_server import ScriptedServices
from tests.support import make_novel


class Visit:
    """A visitor's request, as far as handlers look at it."""

    def __init__(self, host: str = "203.0.113.7", **headers: str) -> None:
        self.headers = {"accept-language": "zh-CN", **headers}
        self.client = SimpleNamespace(host=host)


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    services = ScriptedServices(tmp_path_factory.mktemp("home"), ScriptedBackend("丙字灯藏在丙谷的石桥底下。"))
    # A window's own process finds the vectors by this name.
    services.settings = replace(services.settings, embedder="hashed")
    services.library.add(make_novel())
    with services.library.vector_store("a test") as store:
        embed_missing(services.library, store)
    return services


@pytest.fixture(scope="module")
def book(services):
    book_id = services.library.find("山中记")
    told = list(rebuild_map(services, book_id, Visit()))
    assert "正在生成地图" in told[0] and is_map_current(services.library, book_id)
    return book_id


def shown(services, book, until=8, turns=()):
    told, value, build, _ = show_map(services, book, until, list(turns), Visit())
    return told, json.loads(value) if value else None, build["visible"] if isinstance(build, dict) else build.visible


def test_the_page_gets_every_passage_at_its_place(services, book):
    told, figure, can_build = shown(services, book)
    scene = Scene.read(services.library.open(book).map_path)
    assert not can_build and f"{len(scene):,} 段" in told
    np.testing.assert_allclose(np.array(figure["points"]).T[:, [0, 2, 1]], scene.points, atol=1e-4)
    assert figure["span"] == scene.spans.tolist() and figure["chapter"] == scene.chapters.tolist()
    assert sum(cluster["count"] for cluster in figure["clusters"]) == len(scene)


def test_nothing_past_the_bookmark_is_sent(services, book):
    _, figure, _ = shown(services, book, until=3)
    scene = Scene.read(services.library.open(book).map_path)
    assert len(figure["chapter"]) == (scene.chapters <= 3).sum() and max(figure["chapter"]) == 3
    assert set(figure["titles"]) == {"1", "2", "3"}
    words = json.dumps(figure, ensure_ascii=False)
    assert "丙谷" in words and not any(later in words for later in ("丁谷", "戊", "己字", "庚", "辛谷"))


def test_the_passages_of_the_last_answer_are_lit(services, book):
    *_, last = answer_question(services, book, 8, "scripted:test", "丙字灯藏在哪里？", [], Visit())
    _, figure, _ = shown(services, book, turns=last[1])
    found = last[1][0]["found"]
    rows = {hit["row"] for hit in figure["lit"]["hits"]}
    start, end = found[0]["start"], found[0]["end"]
    assert figure["lit"]["question"] == "丙字灯藏在哪里？"
    assert any(figure["span"][row][0] < end and figure["span"][row][1] > start for row in rows)
    assert figure["lit"]["hits"][0]["rank"] == 1
    _, behind, _ = shown(services, book, until=1, turns=last[1])
    assert behind["lit"] is None or all(behind["chapter"][hit["row"]] <= 1 for hit in behind["lit"]["hits"])


def test_an_answer_is_told_to_a_window_that_follows_on_the_readers_own_machine_only(services, book):
    path = services.settings.home / "follow.json"
    list(answer_question(services, book, 8, "scripted:test", "甲字灯呢？", [], Visit()))
    assert not path.exists()
    list(answer_question(services, book, 8, "scripted:test", "乙字灯呢？", [], Visit("127.0.0.1")))
    told = json.loads(path.read_text(encoding="utf-8"))
    assert told["book"] == book and told["question"] == "乙字灯呢？" and told["passages"][0]["near"] is False


def test_without_a_book_a_map_or_vectors_the_tab_says_what_is_missing(services, book, tmp_path):
    assert "先选一本书" in shown(services, None)[0] and shown(services, None)[1] is None
    bare = ScriptedServices(tmp_path / "home", ScriptedBackend("。"))
    bare_book = bare.library.add(make_novel()).info.id
    told, figure, can_build = shown(bare, bare_book)
    assert "已有 0/" in told and figure is None and not can_build
    with bare.library.vector_store("a test") as store:
        embed_missing(bare.library, store)
    told, figure, can_build = shown(bare, bare_book)
    assert "还没有地图" in told and figure is None and can_build
    bare.library.open(bare_book).map_path.write_bytes(b"damaged")
    assert "还没有地图" in shown(bare, bare_book)[0]


def test_a_build_that_is_stopped_leaves_no_map(services, book):
    path = services.library.open(book).map_path
    before = path.read_bytes()
    assert build_map(services.library, book, should_stop=lambda: True) is None
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("visit", "is_own"),
    [
        (Visit("127.0.0.1"), True),
        (Visit("::1"), True),
        (Visit("192.168.1.5"), False),
        (Visit("127.0.0.1", **{"x-forwarded-for": "203.0.113.9"}), False),
        (None, False),
    ],
)
def test_the_readers_own_machine_is_where_nothing_stands_between(visit, is_own, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert map_window.is_own_machine(visit) is is_own
    monkeypatch.setenv("SPACE_ID", "someone/novelscope")
    assert not map_window.is_own_machine(visit)


def test_where_no_window_can_be_opened_the_command_is_told(services, book, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert f"novelscope map window {book} --follow" in open_window(services, book, 8, Visit())
    told = open_window(services, book, 3, Visit("127.0.0.1"))
    assert "没有屏幕" in told and "--until 3" in told


def test_a_display_that_does_not_answer_is_reported_in_the_viewers_own_words(services, book, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":99987")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(map_window, "STARTUP_S", 60.0)
    told = open_window(services, book, 8, Visit("127.0.0.1"))
    assert "no window can be opened" in told and "Traceback" not in told


def test_an_answer_s_places_keep_their_order_and_near_misses_come_after():
    def place(start):
        return SimpleNamespace(span=SimpleNamespace(start=start, end=start + 5), score=0.5)

    told = answer_of("b", "谁？", [place(30), place(10)], [place(50)])
    assert [(one["start"], one["near"]) for one in told["passages"]] == [(30, False), (10, False), (50, True)]


def test_long_work_tells_its_steps_then_its_result_and_hears_when_nobody_listens():
    def work(tell, is_cancelled):
        tell(1)
        tell(2)
        return "made"

    assert [step.value if isinstance(step, Finished) else step for step in stepwise(work, name="a")] == [1, 2, "made"]
    ended = []

    def endless(tell, is_cancelled):
        try:
            while True:
                tell(0)
        except Cancelled:
            ended.append(is_cancelled())
            raise

    steps = stepwise(endless, name="b")
    next(steps)
    steps.close()
    for _ in range(200):
        if ended:
            break
        time.sleep(0.02)
    assert ended == [True]

    def failing(tell, is_cancelled):
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        list(stepwise(failing, name="c"))
