"""The page in headless Chromium, as a reader uses it."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable

import pytest

from core.data.scenes import Scene
from core.llm.backends.scripted import ScriptedBackend
from core.retrieval.indexing import embed_missing
from tests.demos.web_server import ScriptedServices, served
from tests.support import make_novel

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect, sync_playwright  # only where it is installed

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL all the same
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
# What of the answer is on the page at the moment when the first evidence is.
WATCH_FIRST_CARD = """() => new MutationObserver((_, observer) => {
  if (!document.querySelector('#ns-evidence .ns-card')) return;
  window.saidAtFirstCard = document.querySelector('.ns-a')?.innerText ?? '';
  observer.disconnect();
}).observe(document.body, {childList: true, subtree: true, characterData: true})"""
ANSWER = "丙字灯藏在丙谷的石桥底下。"
LONG_ANSWER = "山路上的风吹来，" * 200


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def services(tmp_path_factory) -> ScriptedServices:
    services = ScriptedServices(tmp_path_factory.mktemp("home"), ScriptedBackend(ANSWER, delay_s=0.1))
    services.library.add(make_novel())
    return services


@pytest.fixture(scope="module")
def address(services):
    with served(services) as address:
        yield address


@pytest.fixture
def page(browser, address):
    context = browser.new_context(locale="zh-CN", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.requested, page.troubles = [], []
    page.on("request", lambda request: page.requested.append(request.url))
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    # Gradio asks for a manifest that it serves only to installable pages.
    page.on(
        "console", lambda m: m.type == "error" and "manifest" not in str(m.location) and page.troubles.append(m.text)
    )
    page.goto(address)
    page.wait_for_selector("#ns-facts .ns-facts")
    yield page
    context.close()


@pytest.fixture
def answers(services):
    """Set what the model says from now on."""
    before = services.backend

    def set_backend(backend: ScriptedBackend) -> ScriptedBackend:
        services.backend = backend
        return backend

    yield set_backend
    services.backend = before


def wait_until(holds: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def test_a_reader_asks_sees_evidence_first_and_opens_the_cited_sentence(page, address):
    page.evaluate(WATCH_FIRST_CARD)
    page.fill("#ns-question textarea", "丙谷的石桥：丙字灯藏在丙谷的哪里？")
    page.click("#ns-ask")
    page.wait_for_selector(".ns-usage")
    assert page.evaluate("window.saidAtFirstCard").strip() == ""
    assert ANSWER in page.locator(".ns-a").inner_text()
    quote = page.locator(".ns-cite").first.get_attribute("title")
    page.locator(".ns-cite").first.click()
    mark = page.locator(".ns-sheet mark")
    expect(mark).to_be_in_viewport(timeout=10_000)
    assert mark.inner_text() == quote and quote in make_novel().text
    page.keyboard.press("Escape")
    expect(page.locator(".ns-sheet")).to_have_count(0, timeout=5_000)
    page.locator(".ns-cite").first.click()  # the same one opens again
    expect(mark).to_be_in_viewport(timeout=10_000)
    outside = [url for url in page.requested if not url.startswith((address, "data:", "blob:"))]
    assert outside == [] and page.troubles == []


def test_a_book_is_dropped_in_and_can_be_asked(page, services, tmp_path):
    novel = make_novel("雪夜行", salt="雪")
    path = tmp_path / "雪夜行.txt"
    path.write_bytes(novel.text.encode("gb18030"))
    page.click("#ns-shelf button")
    page.set_input_files("#ns-file input[type=file]", str(path))
    expect(page.locator("#ns-told")).to_contain_text("雪夜行", timeout=15_000)
    expect(page.locator("#ns-told")).to_contain_text("gb18030", timeout=15_000)
    expect(page.locator("#ns-book input")).to_have_value("雪夜行", timeout=10_000)
    expect(page.locator("#ns-facts")).to_contain_text("全书可按意思检索", timeout=30_000)
    page.click("#ns-remove")
    expect(page.locator("#ns-told")).to_contain_text("确定从书库删去《雪夜行》", timeout=10_000)
    page.click("#ns-remove-yes")
    expect(page.locator("#ns-told")).to_contain_text("已删去", timeout=10_000)
    assert [info.title for info in services.library.books()] == ["山中记"]


def test_stop_ends_the_model_within_a_second(page, answers, caplog):
    caplog.set_level(logging.INFO, logger="novelscope.answers")
    backend = answers(ScriptedBackend(LONG_ANSWER, delay_s=0.02))
    page.fill("#ns-question textarea", "丙字灯藏在哪里？")
    page.click("#ns-ask")
    assert wait_until(lambda: backend.pieces_made > 5, 15)
    page.click("#ns-stop")
    assert wait_until(lambda: backend.streams_ended == 1, 1.0)
    made = backend.pieces_made
    expect(page.locator(".ns-a")).to_contain_text("（已停止）", timeout=5_000)
    assert backend.pieces_made == made < len(LONG_ANSWER)
    assert any("stopped after" in line for line in caplog.messages) and "丙字灯" not in caplog.text


@pytest.mark.parametrize(
    ("tab", "box", "send", "stop"),
    [
        ("对话", "#ns-message", "#ns-send", "#ns-chat-stop"),
        ("流式", "#ns-stream-question", "#ns-stream-ask", "#ns-stream-stop"),
    ],
)
def test_stop_ends_the_model_in_the_other_tabs_too(page, answers, tab, box, send, stop):
    backend = answers(ScriptedBackend(LONG_ANSWER, delay_s=0.02))
    page.get_by_role("tab", name=tab).click()
    page.fill(f"{box} textarea", "丙字灯藏在哪里？")
    page.click(send)
    assert wait_until(lambda: backend.pieces_made > 5, 15)
    page.click(stop)
    assert wait_until(lambda: backend.streams_ended == 1, 1.0)
    assert backend.pieces_made < len(LONG_ANSWER)


def test_a_closed_tab_ends_the_model_within_a_second(page, answers, caplog):
    caplog.set_level(logging.INFO, logger="novelscope.answers")
    backend = answers(ScriptedBackend(LONG_ANSWER, delay_s=0.02))
    page.fill("#ns-question textarea", "丙字灯藏在哪里？")
    page.click("#ns-ask")
    assert wait_until(lambda: backend.pieces_made > 5, 15)
    page.close()
    assert wait_until(lambda: backend.streams_ended == 1, 1.0)
    assert any("stopped after" in line for line in caplog.messages)


def test_a_chat_survives_a_reload(page, address):
    page.get_by_role("tab", name="对话").click()
    page.fill("#ns-message textarea", "你好")
    page.click("#ns-send")
    expect(page.locator("#ns-chat")).to_contain_text(ANSWER, timeout=15_000)
    page.wait_for_timeout(500)
    page.goto(address)
    page.get_by_role("tab", name="对话").click()
    expect(page.locator("#ns-chat")).to_contain_text(ANSWER, timeout=15_000)


def test_a_chat_survives_a_restart_of_the_server(browser, tmp_path):
    services = ScriptedServices(tmp_path / "home", ScriptedBackend(ANSWER))
    context = browser.new_context(locale="zh-CN")
    with served(services) as address:
        page = context.new_page()
        page.goto(address)
        page.get_by_role("tab", name="对话").click()
        page.fill("#ns-message textarea", "你好")
        page.click("#ns-send")
        expect(page.locator("#ns-chat")).to_contain_text(ANSWER, timeout=15_000)
        page.wait_for_timeout(500)
        page.close()
    again = ScriptedServices(tmp_path / "home", ScriptedBackend("不同的回答"))
    with served(again, port=int(address.rstrip("/").rpartition(":")[2])) as address:
        page = context.new_page()
        page.goto(address)
        page.get_by_role("tab", name="对话").click()
        expect(page.locator("#ns-chat")).to_contain_text(ANSWER, timeout=15_000)
    context.close()


def set_bookmark(page, chapter: int) -> None:
    page.locator("#ns-bookmark input[type=number]").fill(str(chapter))
    page.locator("#ns-bookmark input[type=number]").press("Enter")


def test_the_bookmark_hides_later_chapters(page):
    set_bookmark(page, 2)
    expect(page.locator("#ns-facts")).to_contain_text("只读到：第2章", timeout=10_000)
    page.fill("#ns-question textarea", "辛字灯藏在谷里的什么地方？重多少斤？")
    page.click("#ns-ask")
    page.wait_for_selector("#ns-evidence .ns-card")
    chapters = page.locator("#ns-evidence .ns-card").evaluate_all("cards => cards.map(card => +card.dataset.chapter)")
    assert chapters and max(chapters) <= 2


@pytest.mark.parametrize("change", ["a new conversation", "a bookmark moved back"])
def test_a_change_in_the_middle_of_an_answer_is_not_written_over(page, answers, change):
    backend = answers(ScriptedBackend("庚字灯藏在庚谷。" + LONG_ANSWER, delay_s=0.01))
    page.fill("#ns-question textarea", "庚字灯藏在庚谷的哪里？")
    page.click("#ns-ask")
    expect(page.locator(".ns-a")).to_contain_text("庚字灯藏在庚谷", timeout=15_000)
    if change == "a new conversation":
        page.click("#ns-fresh")
    else:
        set_bookmark(page, 2)
    expect(page.locator(".ns-talk")).to_have_count(0, timeout=10_000)
    assert wait_until(lambda: backend.streams_ended == 1, 2.0)
    page.wait_for_timeout(800)
    assert "庚" not in page.locator("#ns-talk").inner_text() + page.locator("#ns-evidence").inner_text()


def test_a_bookmark_moved_back_takes_what_was_told_off_the_page(page):
    page.fill("#ns-question textarea", "丙谷的石桥：丙字灯藏在丙谷的哪里？")
    page.press("#ns-question textarea", "Enter")
    page.wait_for_selector(".ns-usage")
    page.locator(".ns-cite").first.click()
    page.wait_for_selector(".ns-sheet mark")
    set_bookmark(page, 2)
    expect(page.locator(".ns-sheet")).to_have_count(0, timeout=10_000)
    expect(page.locator(".ns-card")).to_have_count(0, timeout=10_000)
    assert "丙字灯" not in page.locator("#ns-talk").inner_text()


def test_the_stream_tab_lists_events_as_they_come(page):
    page.get_by_role("tab", name="流式").click()
    page.fill("#ns-stream-question textarea", "丙字灯藏在哪里？")
    page.click("#ns-stream-ask")
    page.wait_for_selector("tr.ns-e-done", timeout=20_000)
    assert "event: evidence" in page.locator("#ns-raw").inner_text()


def test_a_summary_fills_in_is_stopped_goes_on_and_leaves_with_its_bookmark(page, answers):
    answers(ScriptedBackend("众人过了山谷。" * 3, delay_s=0.02))
    page.get_by_text("概要：前情、全书、人物").click()
    page.click("#ns-summarise")
    page.wait_for_selector(".ns-chapters li:nth-child(2)")
    page.click("#ns-summary-stop")
    expect(page.locator("#ns-summary .ns-notice")).to_contain_text("接着写", timeout=10_000)
    page.click("#ns-summarise")
    page.wait_for_selector(".ns-ch-kept")
    expect(page.locator(".ns-chapters li")).to_have_count(8, timeout=30_000)
    expect(page.locator(".ns-whole")).to_contain_text("众人过了山谷。", timeout=10_000)
    set_bookmark(page, 2)
    expect(page.locator(".ns-chapters")).to_have_count(0, timeout=10_000)


def test_three_calls_are_shown_side_by_side(page, answers):
    answers(ScriptedBackend(ANSWER))
    page.get_by_role("tab", name="流式").click()
    page.fill("#ns-stream-question textarea", "丙字灯藏在哪里？")
    page.click("#ns-stream-three")
    expect(page.locator("tr.ns-e-done")).to_have_count(3, timeout=20_000)
    tops = [panel.bounding_box()["y"] for panel in page.locator(".ns-panels section").all()]
    assert len(tops) == 3 and len(set(tops)) == 1


@pytest.mark.parametrize("locale", ["zh-CN", "en-US"])
def test_a_phone_shows_the_page_in_the_readers_language_without_sideways_scrolling(browser, address, locale):
    context = browser.new_context(locale=locale, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#ns-facts .ns-facts")
    name = "提问" if locale == "zh-CN" else "Ask"
    expect(page.locator("#ns-ask")).to_have_text(name, timeout=10_000)
    assert overflow_px(page) <= 0
    page.fill("#ns-question textarea", "丙谷的石桥：丙字灯藏在丙谷的哪里？")
    page.click("#ns-ask")
    page.wait_for_selector(".ns-usage")
    assert overflow_px(page) <= 0
    page.locator(".ns-cite").first.click()
    page.wait_for_selector(".ns-sheet mark")
    assert page.locator(".ns-sheet").bounding_box()["width"] == 390 and overflow_px(page) <= 0
    context.close()


def overflow_px(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def test_a_reply_is_asked_for_again_and_a_message_is_edited(page, answers):
    backend = answers(ScriptedBackend(["第一答", "第二答", "第三答"]))
    page.get_by_role("tab", name="对话").click()
    page.fill("#ns-message textarea", "你好")
    page.click("#ns-send")
    chat = page.locator("#ns-chat")
    expect(chat).to_contain_text("第一答", timeout=15_000)
    chat.get_by_role("button", name="重试").click()
    expect(chat).to_contain_text("第二答", timeout=15_000)
    expect(chat).not_to_contain_text("第一答")
    chat.get_by_role("button", name="编辑").first.click()
    chat.locator("textarea").fill("改过的问题")
    chat.get_by_role("button", name="发送").click()
    expect(chat).to_contain_text("第三答", timeout=15_000)
    expect(chat).not_to_contain_text("第二答")
    assert [[turn.content for turn in prompt] for prompt, _ in backend.calls] == [["你好"], ["你好"], ["改过的问题"]]


def test_the_map_is_drawn_lit_by_an_answer_and_a_click_on_a_point_opens_the_book(browser, tmp_path):
    services = ScriptedServices(tmp_path / "home", ScriptedBackend(ANSWER))
    services.library.add(make_novel())
    with services.library.vector_store("a test") as store:
        embed_missing(services.library, store)
    with served(services) as address:
        context = browser.new_context(locale="zh-CN", viewport={"width": 1280, "height": 900})
        page = context.new_page()
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.goto(address)
        page.wait_for_selector("#ns-facts .ns-facts")
        page.fill("#ns-question textarea", "丙字灯藏在哪里？")
        page.click("#ns-ask")
        page.wait_for_selector(".ns-usage")
        page.get_by_role("tab", name="地图").click()
        page.click("#ns-map-build")
        page.wait_for_selector(".ns-map-plot canvas", timeout=90_000)
        traces = page.evaluate("() => document.querySelector('.ns-map-plot').data")
        shown = sum(len(trace["customdata"]) for trace in traces if trace.get("customdata") and "text" not in trace)
        lit = next(trace for trace in traces if trace["mode"] == "markers+text")
        scene = Scene.read(services.library.open(services.library.find("山中记")).map_path)
        assert shown == len(scene) and lit["text"][0] == "1"
        page.get_by_role("button", name="按先后").click()
        page.wait_for_function("() => document.querySelector('.ns-map-plot').data[0].marker.colorscale?.length > 0")
        # Plotly turns a click on a point into this event; where a point lies on the screen only WebGL knows.
        row = lit["customdata"][0]
        click = "(row) => document.querySelector('.ns-map-plot').emit('plotly_click', {points: [{customdata: row}]})"
        page.evaluate(click, row)
        marks = page.locator(".ns-sheet mark:visible")
        expect(marks.first).to_be_in_viewport(timeout=10_000)
        marked = "".join(marks.all_inner_texts())
        assert "".join(marked.split()) == "".join(scene.texts[row].split())
        assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []
        page.keyboard.press("Escape")
        page.get_by_role("tab", name="读书问答").click()
        page.locator("#ns-bookmark input[type=number]").fill("2")
        page.keyboard.press("Tab")
        expect(page.locator("#ns-facts")).to_contain_text("只读到", timeout=10_000)
        page.get_by_role("tab", name="地图").click()
        page.wait_for_function("() => document.querySelector('.ns-map-plot').data?.length > 0", timeout=20_000)
        ahead = page.evaluate(
            "() => document.querySelector('.ns-map-plot').data.flatMap((trace) => trace.hovertemplate ?? []).join()"
        )
        assert "乙谷" in ahead and "丙谷" not in ahead
        context.close()
