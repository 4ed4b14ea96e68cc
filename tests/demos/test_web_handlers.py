"""What the tabs' handlers yield, without a browser."""

from __future__ import annotations

import ast
import re
from contextlib import closing
from pathlib import Path

import pytest

from core.data.text import Span
from core.llm.backends.scripted import ScriptedBackend
from demos import rendering
from demos.spans import chapters_from
from demos.tabs.chat import mark_stopped, stream_reply
from demos.tabs.document import answer_question, choose_book, move_bookmark
from demos.tabs.leaf import open_at, turn_leaf
from demos.tabs.shelf import add_book, ask_to_remove, hold_vectors, remove_book, show_facts
from demos.tabs.streaming import stream_events
from demos.tabs.summary import mark_summary_stopped, summarise
from demos.translations import LANGUAGES, language_of, strings_in
from tests.demos.web_server import ScriptedServices
from tests.support import make_novel

ANSWER = "丙字灯藏在丙谷的石桥底下。"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>${alert(3)}"


class Visit:
    """A visitor's request, as far as handlers look at it."""

    def __init__(self) -> None:
        self.headers = {"accept-language": "zh-CN,zh;q=0.9"}


class Click:
    """A click on something that carries a place."""

    def __init__(self, **where: object) -> None:
        self.__dict__.update(where)


@pytest.fixture
def services(tmp_path) -> ScriptedServices:
    services = ScriptedServices(tmp_path / "home", ScriptedBackend(ANSWER))
    services.library.add(make_novel())
    return services


def ask(services: ScriptedServices, question: str, until: int = 8, turns=()):
    book = services.library.find("山中记")
    return list(answer_question(services, book, until, "scripted:test", question, list(turns), Visit()))


def test_evidence_is_on_the_page_before_the_first_word(services):
    shown = ask(services, "丙字灯藏在哪里？")
    first_evidence = next(at for at, (*_, cards) in enumerate(shown) if isinstance(cards, str) and "ns-card" in cards)
    first_word = next(at for at, (_, _, talk, _) in enumerate(shown) if "藏在丙" in talk)
    assert first_evidence < first_word


def test_a_cited_answer_opens_at_its_sentence(services):
    *_, (box, turns, talk, cards) = ask(services, "丙字灯藏在哪里？")
    citation = turns[-1]["citations"][0]
    assert box == "" and turns[-1]["state"] == "done" and 'class="ns-cite"' in talk and "<mark>" in cards
    book = services.library.find("山中记")
    place = Click(chapter=citation["chapter"], start=citation["start"], end=citation["end"])
    page, where = open_at(services, book, 8, place, Visit())
    assert f"<mark>{citation['quote']}</mark>" in page and where == {"chapter": 3}


def test_a_page_beyond_the_bookmark_stays_closed(services):
    book = services.library.find("山中记")
    chapter = services.library.open(book).record.chapters[6]
    page, where = open_at(
        services, book, 3, Click(chapter=7, start=chapter.span.start, end=chapter.span.start + 3), Visit()
    )
    assert where == {"chapter": 3} and "庚谷" not in page and strings_in("zh")["beyond_bookmark"] in page
    page, where = turn(services, 1, {"chapter": 3}, until=3)
    assert where == {"chapter": 3} and "丁谷" not in page and strings_in("zh")["page_bookmark"] in page


def turn(services: ScriptedServices, step: int, place: dict, until: int = 8):
    book = services.library.find("山中记")
    return turn_leaf(services, book, until, place, Click(step=step), Visit())


def test_pages_turn_both_ways_stop_at_the_ends_and_close(services):
    assert turn(services, 1, {"chapter": 1})[1] == {"chapter": 2}
    assert turn(services, -1, {"chapter": 2})[1] == {"chapter": 1}
    assert turn(services, -1, {"chapter": 1})[1] == {"chapter": 1}
    page, where = turn(services, 1, {"chapter": 8})
    assert where == {"chapter": 8} and strings_in("zh")["page_end"] in page
    assert turn(services, 0, {"chapter": 3}) == ("", {})


def test_a_bookmark_moved_back_takes_later_answers_and_pages_off_the_screen(services):
    *_, (_, turns, *_) = ask(services, "甲字灯藏在甲谷的哪里？", until=2)
    *_, (_, turns, *_) = ask(services, "庚字灯藏在庚谷的哪里？", until=8, turns=turns)
    book = services.library.find("山中记")
    _, kept, talk, evidence, sheet, place = move_bookmark(services, book, 3, turns, {"chapter": 7}, Visit())
    assert [turn["until"] for turn in kept] == [2] and "庚字灯" not in talk and "ns-card" not in evidence
    assert sheet == "" and place == {}
    _, kept, *_, place = move_bookmark(services, book, 5, kept, {"chapter": 3}, Visit())
    assert len(kept) == 1 and place == {"chapter": 3}


def test_a_card_shows_the_sentence_that_matters_and_not_the_whole_passage(services):
    shown = ask(services, "丙字灯藏在哪里？")
    before = next(cards for _, _, talk, cards in shown if isinstance(cards, str) and "ns-cite" not in talk)
    first = before.split("ns-card-text")[1].split("</div>")[0]
    assert "丙字灯藏在丙谷" in first and len(first) < 400
    after = shown[-1][3]
    assert 'class="ns-card ns-cited"' in after and "<mark>丙字灯藏在丙谷的石桥底下" in after


def test_a_click_with_made_up_numbers_marks_nothing(services):
    book = services.library.find("山中记")
    page, _ = open_at(services, book, 8, Click(chapter=2, start=-5, end=10**9), Visit())
    assert "<mark>" not in page and "乙谷" in page
    assert open_at(services, book, 8, Click(chapter=99), Visit())[1] == {}


def test_a_follow_up_carries_the_conversation(services):
    *_, (_, turns, *_) = ask(services, "丙字灯藏在哪里？")
    ask(services, "山路石桥底下的灯重多少斤？", turns=turns)
    prompt = services.backend.calls[-1][0]
    assert [turn.content for turn in prompt[1:3]] == ["丙字灯藏在哪里？", ANSWER]


def test_a_model_that_fails_leaves_a_calm_line_and_what_was_written(tmp_path):
    services = ScriptedServices(tmp_path / "home", ScriptedBackend(ANSWER, fails_after=4))
    services.library.add(make_novel())
    *_, (_, turns, talk, _) = ask(services, "丙字灯藏在哪里？")
    assert turns[-1]["state"] == "failed" and turns[-1]["answer"] == ANSWER[:4]
    assert "ns-error" in talk and "Traceback" not in talk


def test_nothing_of_a_strangers_text_becomes_markup(services, tmp_path):
    path = tmp_path / f"{'x' * 3}.txt"
    path.write_text(f"第一章 {EVIL}\n{EVIL}藏在石桥底下。\n", encoding="utf-8")
    *_, (told, _, _) = add_book(services, str(path), "", Visit())
    book = services.library.books()[-1].id
    services.backend = ScriptedBackend(EVIL)
    shown = list(answer_question(services, book, 1, "m", f"{EVIL} 石桥？", [], Visit()))
    *_, (_, _, talk, cards) = shown
    page, _ = open_at(services, book, 1, Click(chapter=1, start=0, end=20), Visit())
    _, facts, *_ = choose_book(services, book, Visit())
    streamed = list(stream_events(services, book, 1, "m", f"{EVIL} 石桥？", "three", Visit()))[-1]
    for html in (told, talk, cards, page, facts, *streamed):
        assert "<script" not in html and "<img" not in html
    assert "&lt;script&gt;" in page


def test_marks_are_cut_at_the_borders_of_what_is_shown():
    text = "甲乙丙丁\n戊己庚辛"
    chapter = make_novel().chapters[0]
    chapter = type(chapter)(1, "甲乙丙丁", Span(0, len(text)))
    page = rendering.reading_sheet(chapter, text, Span(2, 7), strings_in("zh"), is_first=True, ending="")
    assert "甲乙<mark>丙丁</mark>" in page and "<mark>戊己</mark>庚辛" in page


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("空.txt", b"", "空.txt"),
        ("乱.txt", bytes(range(256)) * 40, "乱.txt"),
        ("书.epub", b"PK\x03\x04 not a zip", "书.epub"),
        ("图.txt", b"\x89PNG\r\n\x1a\n" + bytes(64), "PNG"),
    ],
)
def test_a_bad_file_gets_one_sentence_and_loses_nothing(services, tmp_path, name, data, said):
    path = tmp_path / name
    path.write_bytes(data)
    before = services.library.books()
    *_, (told, _, _) = add_book(services, str(path), "", Visit())
    assert "ns-error" in told and said in told and str(tmp_path) not in told
    assert services.library.books() == before


def test_a_cancelled_addition_leaves_nothing(services, tmp_path):
    path = tmp_path / "长.txt"
    path.write_text(make_novel(salt="夜").text * 40, encoding="utf-8")
    steps = add_book(services, str(path), "", Visit())
    for told, *_ in steps:
        if "/" in told and "ns-busy" in told:
            break
    steps.close()
    import time

    deadline = time.monotonic() + 20
    while any((services.settings.home / "books").glob(".new-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [info.title for info in services.library.books()] == ["山中记"]
    assert not list((services.settings.home / "books").glob(".*"))


def test_a_book_is_removed_only_after_a_second_question(services):
    book = services.library.find("山中记")
    told, *_ = ask_to_remove(services, book, Visit())
    assert "山中记" in told and len(services.library.books()) == 1
    remove_book(services, book, Visit())
    assert services.library.books() == []
    assert "ns-error" in remove_book(services, book, Visit())[0]


def test_vectors_pause_and_go_on_and_the_line_says_so(services):
    book = services.library.find("山中记")
    strings = strings_in("zh")
    assert strings["dense_pause"] in show_facts(services, book, 8, Visit())
    hold_vectors(services)
    assert services.indexer.is_paused and "已暂停" in show_facts(services, book, 8, Visit())
    hold_vectors(services)
    assert not services.indexer.is_paused
    services.indexer.trouble = "<b>another process</b> holds the index"
    line = show_facts(services, book, 8, Visit())
    assert "another process" in line and "<b>" not in line


def test_only_a_browser_that_asks_for_chinese_first_gets_chinese():
    class Asking(Visit):
        def __init__(self, accepted: str) -> None:
            self.headers = {"accept-language": accepted}

    said = {accepted: language_of(Asking(accepted)) for accepted in ("zh-TW,en", "en-US,zh", "fr,zh;q=0.5", "")}
    assert said == {"zh-TW,en": "zh", "en-US,zh": "en", "fr,zh;q=0.5": "en", "": "zh"}


def test_the_stream_tab_shows_every_event_and_the_bytes_of_the_stream(services):
    book = services.library.find("山中记")
    *_, (panels, timeline, raw) = stream_events(services, book, 8, "m", "丙字灯藏在哪里？", "one", Visit())
    assert "ns-e-evidence" in timeline and "ns-e-done" in timeline and ANSWER in panels
    assert "event: evidence\n" in raw and "event: done\n" in raw and "–" not in panels


def test_three_calls_stand_side_by_side_and_each_has_its_end(services):
    book = services.library.find("山中记")
    *_, (panels, timeline, raw) = stream_events(services, book, 3, "m", "丙字灯藏在哪里？", "three", Visit())
    assert panels.count("<section>") == panels.count(ANSWER) == raw.count("event: done\n") == 3
    # Each call is a stream of its own, and its ids count from 0.
    assert raw.count("<pre>") == raw.count("id: 0\n") == 3
    assert all(f"{number} · done" in timeline for number in (1, 2, 3))


def test_a_buffered_call_shows_nothing_before_its_end(services):
    book = services.library.find("山中记")
    shown = list(stream_events(services, book, 8, "m", "丙字灯藏在哪里？", "both", Visit()))
    buffered = [panels.split("<section>")[1] for panels, *_ in shown if "<section>" in panels]
    assert all(ANSWER in panel or ANSWER[:2] not in panel for panel in buffered)
    panels, timeline, raw = shown[-1]
    assert panels.count(ANSWER) == 2 and "1 · evidence" not in timeline and "2 · evidence" in timeline
    assert "waiting" not in timeline + raw and raw.count("event: done\n") == 1


def test_the_time_to_the_first_token_counts_from_the_call_not_from_its_first_event(services):
    services.backend = ScriptedBackend(ANSWER, delay_s=0.2)
    book = services.library.find("山中记")
    *_, (panels, _, _) = stream_events(services, book, 3, "m", "丙字灯藏在哪里？", "three", Visit())
    firsts = re.findall(r"<b>([\d.]+) 秒</b><span>首字", panels)
    assert len(firsts) == 3 and all(float(first) >= 0.2 for first in firsts)


def summary_of(services, until=8, mode="recap", person="", chapters=""):
    book = services.library.find("山中记")
    return list(summarise(services, book, until, "m", mode, person, chapters, Visit()))


def test_a_summary_fills_in_chapter_by_chapter_and_stays_behind_the_bookmark(services):
    shown = summary_of(services, until=3)
    data, view = shown[-1]
    assert list(data["chapters"]) == [1, 2, 3] and data["state"] == "done" and data["text"] == ANSWER
    assert "丙谷" in view and "丁谷" not in "".join(view for _, view in shown)
    again, _ = summary_of(services, until=3)[-1]
    assert {one["state"] for one in again["chapters"].values()} == {"kept"}


def test_chapters_that_a_base_model_cannot_join_are_not_shown_twice(services):
    services.backend = ScriptedBackend("啊" * 200, is_chat=False)
    data, view = summary_of(services, until=3)[-1]
    titles = [one["title"] for one in data["chapters"].values()]
    assert len(titles) == 3 and [view.count(title) for title in titles] == [1, 1, 1]
    assert data["note"] == strings_in("zh")["summary_listed"] and "ns-whole" not in view


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("", (None, None)),
        ("7", (7, 7)),
        (" 3 - 10 ", (3, 10)),
        ("3-", (3, None)),
        ("—10", (None, 10)),
        ("３到5", (3, 5)),
    ],
)
def test_a_span_of_chapters_is_read_as_people_write_it(given, meant):
    assert chapters_from(given) == meant


def test_a_stopped_summary_keeps_its_chapters_and_says_that_it_goes_on(services):
    with closing(summarise(services, services.library.find("山中记"), 8, "m", "book", "", "4-", Visit())) as views:
        data = next(data for data, _ in views if data["chapters"])
    stopped, view = mark_summary_stopped(data, Visit())
    assert stopped["state"] == "stopped" and "接着写" in view and "丁谷" in view
    assert mark_summary_stopped(stopped, Visit())[0] == stopped


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "person"}, "name"),
        ({"mode": "person", "person": "武松"}, "武松"),
        ({"chapters": "9-"}, "1 to 8"),
        ({"chapters": "x"}, "3-10"),
    ],
)
def test_a_summary_that_cannot_be_written_is_one_sentence(services, options, said):
    _, view = summary_of(services, **options)[-1]
    assert "ns-error" in view and said in view and "Traceback" not in view


def test_a_chat_reply_grows_and_a_stop_marks_it(services):
    sampling = ("scripted:test", None, 0.7, 0.9, 64, None)
    *_, (box, history, facts) = stream_reply(services, "你好", [], *sampling, Visit())
    assert box == "" and [entry["content"] for entry in history] == ["你好", ANSWER]
    assert "scripted" in facts and "词元/秒" in facts
    stopped = mark_stopped([*history[:-1], {"role": "assistant", "content": "丙字"}], Visit())
    assert stopped[-1]["content"] == "丙字 （已停止）"
    assert mark_stopped(stopped, Visit()) == stopped


def test_both_languages_have_the_same_strings_with_the_same_places():
    import string

    chinese, english = (strings_in(language) for language in LANGUAGES)
    assert chinese.keys() == english.keys()
    for key in chinese:
        places = [
            {name for _, name, _, _ in string.Formatter().parse(text[key]) if name} for text in (chinese, english)
        ]
        assert places[0] == places[1], key


def test_every_string_is_used_and_every_used_string_exists():
    demos = Path(rendering.__file__).parent
    named = set()
    for path in [*demos.glob("*.py"), *demos.glob("tabs/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
    assert set(strings_in("zh")) - named == set()
