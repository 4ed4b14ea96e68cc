"""The Characters tab: its handlers over a real library, and the page in a real browser."""

from __future__ import annotations

import base64
import json
import shutil
from types import SimpleNamespace

import pytest

from core.data.reading import novel_from_bytes
from core.data.text import Span
from core.llm.backends.scripted import ScriptedBackend
from core.persona.card import Card, Line, Source
from core.persona.card_files import write_card_json
from demos.tabs.characters import converse, forget_all, keep_reader, let_talk, save_memory, show_character
from demos.tabs.own_cards import drop_card, import_card, list_people, write_card
from tests.demos.web_server import ScriptedServices, served

BOOK = "\n".join(
    f"第{number}回　{title}\n　　{text}\n"
    for number, title, text in (
        (
            "一",
            "渡口",
            "沈砚在渡口拾到一枚铜钱。\n　　沈砚道：“钱不会说谎，人会说谎。”\n　　罗船家道：“这钱是沉船上的。”" * 3,
        ),
        (
            "二",
            "客栈",
            "沈砚夜里翻墙进了库房。\n　　沈砚道：“账本在这里，名字也在。”\n　　罗船家笑道：“小心掌柜的狗。”" * 3,
        ),
        (
            "三",
            "山门",
            "山门前的石狮少了一只眼睛。\n　　温不言道：“秘密叫做天枢星。”温不言道：“不可说。”\n　　沈砚道：“山门开了。”"
            * 3,
        ),
    )
)
ZH = SimpleNamespace(headers={"accept-language": "zh-CN"}, client=SimpleNamespace(host="127.0.0.1"))
MODEL = "builtin:gemma3-270m"


@pytest.fixture
def services(tmp_path):
    made = ScriptedServices(tmp_path, ScriptedBackend("钱会说话，<b>人</b>不会。"))
    made.book = made.library.add(novel_from_bytes(BOOK.encode(), name="渡口.txt", title="渡口")).info.id
    return made


def last(steps):
    return list(steps)[-1]


def test_people_are_listed_up_to_the_bookmark(services):
    def names(until):
        choices, _, note = list_people(services, services.book, until, None, ZH)
        return [value for _, value in choices.choices], choices.value, note

    assert names(2) == (["book:沈砚", "book:罗船家"], "book:沈砚", "")
    assert "book:温不言" in names(3)[0]
    assert list_people(services, None, 1, None, ZH)[0].choices == []


def test_the_card_is_shown_with_places_in_the_book_and_nothing_past_the_bookmark(services):
    card, *_ = last(show_character(services, "r", services.book, 2, "book:沈砚", "阿明", MODEL, ZH))
    assert "沈砚在渡口拾到一枚铜钱" in card and 'data-chapter="1"' in card and "只据第 2 回" in card
    assert "天枢" not in card and "山门" not in card
    *_, told = last(show_character(services, "r", services.book, 2, "book:温不言", "阿明", MODEL, ZH))
    assert "ns-error" in told, "nobody of that name speaks before the bookmark"


def test_a_conversation_streams_is_escaped_and_is_remembered_for_this_reader(services):
    steps = list(converse(services, "r", services.book, 2, "book:沈砚", "阿明", MODEL, "我叫阿明。你信钱吗？", ZH))
    box, talk, _, _, facts = steps[-1]
    assert (
        box == "" and "钱会说话，&lt;b&gt;人&lt;/b&gt;不会。" in talk and "我叫阿明。" in talk and "<b>人" not in talk
    )
    assert facts == [[1, "我叫阿明。"]]
    _, _, again, *_ = last(show_character(services, "r", services.book, 2, "book:沈砚", "阿明", MODEL, ZH))
    assert "钱会说话" in again
    _, _, stranger, *_ = last(show_character(services, "other", services.book, 2, "book:沈砚", "x", MODEL, ZH))
    assert "钱会说话" not in stranger


def test_memory_is_changed_and_forgotten_as_the_reader_wants(services):
    last(converse(services, "r", services.book, 2, "book:沈砚", "阿明", MODEL, "我叫阿明。我爱喝茶。", ZH))
    who = (services, "r", services.book, 2, "book:沈砚", "阿明")
    summary, facts, told = save_memory(*who, "谈过钱", [[1, ""], [2, "我爱喝酒。"], [None, "住在渡口"]], ZH)
    assert summary == "谈过钱" and [text for _, text in facts] == ["我爱喝酒。", "住在渡口"] and "记下了" in told
    forget_all(*who)
    *_, summary, facts, _ = last(show_character(services, "r", services.book, 2, "book:沈砚", "阿明", MODEL, ZH))
    assert (summary, facts) == ("", [])


def test_two_people_of_the_book_talk_in_turn(services):
    shown = last(let_talk(services, "r", services.book, 2, "book:沈砚", "x", MODEL, "book:罗船家", "铜钱", 2, ZH))
    assert shown.count("<section>") == 4 and shown.index("沈砚") < shown.index("罗船家")


def test_cards_are_written_imported_and_removed_and_a_bad_file_is_one_sentence(services, tmp_path):
    choices, _, told = write_card(services, "Anne", "A sailor's daughter.", "Dry.", "Well.", services.book, 2, ZH)
    assert choices.value.startswith("shelf:") and told == ""
    card, *_ = last(show_character(services, "r", services.book, 2, choices.value, "Tom", MODEL, ZH))
    assert "A sailor&#x27;s daughter." in card
    dropped, *_ = drop_card(services, choices.value, services.book, 2, ZH)
    assert dropped.value == "book:沈砚"
    (tmp_path / "tavern.json").write_bytes(
        write_card_json(Card(name="Tavern", about=(Line("{{char}} keeps an inn."),)))
    )
    choices, *_ = import_card(services, str(tmp_path / "tavern.json"), services.book, 2, ZH)
    card, *_ = last(show_character(services, "r", services.book, 2, choices.value, "Tom", MODEL, ZH))
    assert "Tavern keeps an inn." in card
    for content in (b"\x89PNG\r\n\x1a\nxx", json.dumps([1]).encode(), base64.b64encode(b"x")):
        (tmp_path / "bad").write_bytes(content)
        _, _, told = import_card(services, str(tmp_path / "bad"), services.book, 2, ZH)
        assert "ns-error" in told and "Traceback" not in told
    *_, told = write_card(services, " ", "x", "", "", services.book, 2, ZH)
    assert "ns-error" in told


@pytest.mark.parametrize(
    "fields", [{"known_until": 3}, {"about": (Line("x", Source(3, Span(0, 1), "x")),)}, {"book_id": "other"}]
)
def test_an_imported_card_is_met_only_in_its_book_and_up_to_its_chapter(services, tmp_path, fields):
    (tmp_path / "card.json").write_bytes(write_card_json(Card(**{"name": "天枢客", **fields})))
    imported, _, told = import_card(services, str(tmp_path / "card.json"), services.book, 2, ZH)
    assert "天枢客" not in str(imported.choices) and "the card of 天枢客" in told, "it is said why it is not there"
    [shelved] = services.characters.shelf.list().characters
    later = str(list_people(services, services.book, 3, None, ZH)[0].choices)
    assert ("天枢客" in later) == ("book_id" not in fields)
    *_, told = last(show_character(services, "r", services.book, 2, f"shelf:{shelved.id}", "Tom", MODEL, ZH))
    assert "ns-error" in told


def test_a_browser_is_the_same_reader_after_a_restart_of_the_server(services, tmp_path):
    again = ScriptedServices(tmp_path, ScriptedBackend("x"))
    assert keep_reader(services).secret == keep_reader(again).secret


def test_a_reader_who_is_not_known_yet_shares_no_memory(services):
    *_, told = last(show_character(services, "", services.book, 2, "book:沈砚", "阿明", MODEL, ZH))
    assert "ns-error" in told and services.characters.memory.turns("r", "book", 2) == ()


@pytest.mark.browser
def test_a_reader_talks_with_a_character_in_the_browser(tmp_path):
    chromium = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    services = ScriptedServices(tmp_path, ScriptedBackend("账本在库房里。", delay_s=0.01))
    services.library.add(novel_from_bytes(BOOK.encode(), name="渡口.txt", title="渡口"))
    with served(services) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(locale="zh-CN", viewport={"width": 1280, "height": 900})
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(url)
        page.locator("#ns-facts .ns-facts").wait_for()
        page.get_by_role("tab", name="人物").click()
        page.locator("#ns-card .ns-character").wait_for()
        page.fill("#ns-character-message textarea", "账本在哪里？")
        page.keyboard.press("Enter")
        page.locator("#ns-character-talk .ns-a", has_text="账本在库房里。").wait_for()
        page.locator("#ns-card .ns-cite").first.click()
        page.locator(".ns-sheet mark").first.wait_for()
        page.keyboard.press("Escape")
        page.reload()
        page.locator("#ns-facts .ns-facts").wait_for()
        page.get_by_role("tab", name="人物").click()
        page.locator("#ns-character-talk .ns-a", has_text="账本在库房里。").wait_for()
        assert not problems
        browser.close()
