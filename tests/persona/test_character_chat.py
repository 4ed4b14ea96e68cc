"""Talking with a character: what reaches the model, what is remembered, and that the bookmark holds."""

import pytest

from core.data.dialogues import Turn
from core.data.reading import novel_from_bytes
from core.data.text import Span
from core.errors import SettingsError
from core.llm.backends.scripted import ScriptedBackend
from core.llm.chat_model import NovelChatModel
from core.llm.events import Done, Evidence, Failed, Token
from core.persona.card import Card, Line, Relation, Source
from core.persona.chat import CharacterChat, ChatSettings, Conversation, persona_of, scenes_with
from core.persona.duet import duet
from core.persona.memory import Memory
from core.persona.shelf import character_id
from core.retrieval.library import Library, LibrarySettings
from tests.support import HashedEmbedder

BOOK = "\n".join(
    f"第{number}回　{title}\n　　{text}\n"
    for number, title, text in (
        ("一", "渡口", "沈砚在渡口拾到一枚铜钱，铜钱上刻着北斗。船家姓罗，说这枚钱是二十年前沉船上的。" * 6),
        ("二", "客栈", "客栈的掌柜藏起了账本。沈砚夜里翻墙进了库房，见到失踪者的名字。" * 6),
        ("三", "山门", "山门前的石狮少了一只眼睛，秘密叫天枢。沈砚把铜钱放进眼眶，山门开了。" * 6),
    )
)
SECRETS = ("天枢", "石狮", "山门")


@pytest.fixture
def library(tmp_path):
    made = Library(LibrarySettings(home=tmp_path / "home"), embedder=HashedEmbedder())
    made.add(novel_from_bytes(BOOK.encode(), name="渡口.txt", title="渡口"))
    return made


@pytest.fixture
def memory(tmp_path):
    made = Memory(tmp_path / "memory.sqlite3")
    yield made
    made.close()


def character_of(talk):
    return character_id(talk.card.book_id, talk.card.name)


def card_for(library, **changes):
    given = {
        "name": "沈砚", "about": (Line("沈砚是个捕快。"),), "sayings": (Line("钱不会说谎。"),),
        "book_id": library.books()[0].id, "known_until": 2, "origin": "book",
    }  # fmt: skip
    return Card(**{**given, **changes})


def told(
    library, memory, message, answer="我在渡口拾到过一枚铜钱。", *, is_chat=True, until=2, settings=None, **changes
):
    backend = ScriptedBackend(answer, is_chat=is_chat)
    chat = CharacterChat(library, NovelChatModel(backend=backend), memory, settings)
    talk = Conversation(reader="r", card=card_for(library, **changes), reader_name="阿明", until_chapter=until)
    return list(chat.stream(talk, message)), backend, talk


def prompt_text(backend):
    prompt, _ = backend.calls[-1]
    return prompt if isinstance(prompt, str) else "\n".join(turn.content for turn in prompt)


@pytest.mark.parametrize("is_chat", [True, False])
def test_the_card_and_scenes_with_the_character_reach_the_model_and_nothing_past_the_bookmark(library, memory, is_chat):
    events, backend, _ = told(library, memory, "山门的秘密是什么？你拾到过铜钱吗？", is_chat=is_chat)
    (evidence,) = [event for event in events if isinstance(event, Evidence)]
    assert all("沈砚" in passage.text and passage.chapter <= 2 for passage in evidence.passages)
    prompt = prompt_text(backend)
    for part in ("沈砚是个捕快。", "钱不会说谎。", "铜钱", "阿明"):
        assert part in prompt
    question_only = prompt.replace("山门的秘密是什么", "")
    assert not any(secret in question_only for secret in SECRETS)
    assert isinstance(events[-1], Done) and events[-1].text == "我在渡口拾到过一枚铜钱。"
    assert "".join(event.text for event in events if isinstance(event, Token)) == events[-1].text


def test_a_card_that_knows_more_than_the_bookmark_is_refused(library, memory):
    for known in (None, 3):
        with pytest.raises(SettingsError, match="draw it again"):
            told(library, memory, "你好", known_until=known)
    told(library, memory, "你好", known_until=None, origin="hand")


@pytest.mark.parametrize("origin", ["hand", "file"])
def test_a_card_that_was_not_drawn_keeps_to_the_bookmark_where_it_says_what_it_draws_from(library, memory, origin):
    past = Line("天枢是沈砚的兄长。", Source(3, Span(0, 2), "天枢"))
    for changes in (
        {"known_until": 3},
        {"known_until": None, "about": (past,)},
        {"known_until": 2, "relations": (Relation("天枢", past),)},
    ):
        with pytest.raises(SettingsError, match="set the bookmark"):
            told(library, memory, "你好", origin=origin, **changes)
    told(library, memory, "你好", origin=origin, known_until=2)
    told(library, memory, "你好", origin=origin, known_until=3, until=None)


def test_what_was_said_is_in_the_next_prompt_and_facts_are_kept(library, memory):
    told(library, memory, "我叫阿明。我喜欢下棋。你喜欢什么？")
    _, backend, talk = told(library, memory, "我喜欢什么？")
    prompt, _ = backend.calls[-1]
    assert Turn("user", "我叫阿明。我喜欢下棋。你喜欢什么？") in prompt
    facts = memory.facts("r", character_of(talk), 2)
    assert [fact.text for fact in facts] == ["我叫阿明。", "我喜欢下棋。"], "a question is no fact"
    assert "阿明说过：我喜欢下棋。" in prompt[0].content


def test_long_talks_are_folded_into_a_summary_that_reaches_the_model(library, memory):
    settings = ChatSettings(most_turns=4, kept_turns=2)
    for number in range(3):
        _, backend, talk = told(library, memory, f"第{number}句话", is_chat=False, settings=settings)
    whose = ("r", character_of(talk), 2)
    assert len(memory.turns(*whose)) == 2 and "第0句话" in memory.summary(*whose)
    _, backend, _ = told(library, memory, "后来呢", is_chat=False, settings=settings)
    assert "先前谈过：" in prompt_text(backend) and "第0句话" in prompt_text(backend)


def test_a_stopped_answer_is_remembered_as_far_as_it_came_and_marked(library, memory):
    backend = ScriptedBackend("慢慢说来，话就长了。")
    chat = CharacterChat(library, NovelChatModel(backend=backend), memory)
    talk = Conversation(reader="r", card=card_for(library), until_chapter=2)
    events = chat.stream(talk, "讲讲")
    for event in events:
        if isinstance(event, Token) and event.text == "来":
            break
    events.close()
    assert backend.streams_ended == 1
    assert memory.turns("r", character_of(talk), 2)[-1].content == "慢慢说来……"


def test_whoever_stops_an_answer_waits_for_no_summary(library, memory):
    settings = ChatSettings(most_turns=4, kept_turns=2)
    for number in range(2):
        told(library, memory, f"第{number}句话", settings=settings)
    backend = ScriptedBackend("慢慢说来，话就长了。")
    chat = CharacterChat(library, NovelChatModel(backend=backend), memory, settings)
    talk = Conversation(reader="r", card=card_for(library), until_chapter=2)
    events = chat.stream(talk, "讲讲")
    while not isinstance(next(events), Token):
        pass
    events.close()
    assert (len(backend.calls), backend.streams_ended, backend.pieces_made) == (1, 1, 1)
    _, backend, _ = told(library, memory, "接着讲", settings=settings)
    assert len(backend.calls) == 2 and len(memory.turns("r", character_of(talk), 2)) == 2, "folded the next time"


def test_a_summary_that_is_being_written_can_be_stopped_and_the_turns_stay(library, memory):
    settings = ChatSettings(most_turns=4, kept_turns=2)
    for number in range(2):
        told(library, memory, f"第{number}句话", settings=settings)
    backend = ScriptedBackend(["好。", "很长的缩写" * 20])
    chat = CharacterChat(library, NovelChatModel(backend=backend), memory, settings)
    talk = Conversation(reader="r", card=card_for(library), until_chapter=2)
    events = chat.stream(talk, "讲讲")
    while len(backend.calls) < 2:
        next(events)
    events.close()
    assert backend.streams_ended == 2 and backend.pieces_made < 10
    whose = ("r", character_of(talk), 2)
    assert memory.summary(*whose) == ""
    assert [turn.content for turn in memory.turns(*whose)][-2:] == ["讲讲", "好。"], "a whole answer bears no mark"


@pytest.mark.parametrize("wrong", ["too long", "in circles"])
def test_an_answer_is_whole_though_no_summary_can_be_made(library, memory, wrong):
    settings = ChatSettings(most_turns=4, kept_turns=2, max_tokens=100)
    long = "长话" * 250
    for number in range(2):
        told(library, memory, f"{number}号{long}", settings=settings)
    backend = ScriptedBackend(
        lambda prompt: "好。" if len(prompt) > 1 else "的" * 90, context_tokens=900 if wrong == "too long" else 9000
    )
    chat = CharacterChat(library, NovelChatModel(backend=backend), memory, settings)
    talk = Conversation(reader="r", card=card_for(library), reader_name="阿明", until_chapter=2)
    events = list(chat.stream(talk, "讲讲"))
    assert isinstance(events[-1], Done) and events[-1].text == "好。"
    whose = ("r", character_of(talk), 2)
    assert memory.summary(*whose).startswith("阿明：0号长话") and len(memory.turns(*whose)) == 2


def test_an_english_talk_is_shortened_in_english(library, memory):
    settings = ChatSettings(most_turns=2, kept_turns=1)
    backend = ScriptedBackend("They spoke.")
    chat = CharacterChat(library, NovelChatModel(backend=backend), memory, settings)
    for _ in range(2):
        list(chat.stream(Conversation(reader="r", card=Card(name="Ann"), reader_name="Tom"), "Hello there."))
    (asked,) = [prompt for prompt, _ in backend.calls if len(prompt) == 1]
    assert asked[0].content.isascii() and "Tom: Hello there." in asked[0].content
    assert memory.summary("r", character_id(None, "Ann"), None) == "They spoke."


def test_why_an_answer_ended_is_told(library, memory):
    for tokens, reason in ((5, "length"), (200, "stop")):
        events, _, _ = told(library, memory, "你好", settings=ChatSettings(max_tokens=tokens))
        assert events[-1].finish_reason == reason


def test_a_small_model_that_runs_in_circles_is_stopped(library, memory):
    events, _, _ = told(library, memory, "你好", "不去，" * 200, is_chat=False)
    assert isinstance(events[-1], Done) and len(events[-1].text) < 60


@pytest.mark.parametrize("pieces", [0, 3])
def test_an_error_is_the_last_event_and_is_not_remembered(library, memory, pieces):
    backend = ScriptedBackend("一二三四五六", fails_after=pieces)
    chat = CharacterChat(library, NovelChatModel(backend=backend), memory)
    talk = Conversation(reader="r", card=card_for(library), until_chapter=2)
    events = list(chat.stream(talk, "你好"))
    assert isinstance(events[-1], Failed) and events[-1].text == "一二三四五六"[:pieces]
    assert memory.turns("r", character_of(talk), None) == ()


@pytest.mark.parametrize(
    ("message", "facts"),
    [
        ("你好，我叫阿明。其实我喜欢下棋！你呢？", ["你好，我叫阿明。", "其实我喜欢下棋！"]),
        ("我不知道。我有个问题。我在想你是谁。", []),
        ("我是谁？我喜欢你吗。他说，我是王。", []),
        ("我喜欢" + "棋" * 100 + "。", []),
        ("Hello, I am Tom. My dog is old! He said, I am king.", ["Hello, I am Tom.", "My dog is old!"]),
        ("I think so. I don't know. Am I wrong?", []),
    ],
)
def test_facts_are_what_a_reader_says_of_themself_and_no_question(library, memory, message, facts):
    _, _, talk = told(library, memory, message)
    assert [fact.text for fact in memory.facts("r", character_of(talk), 2)] == facts


def test_a_name_within_another_is_no_scene_of_the_character(library):
    text = "Chapter 1\n" + "Anna walked to the mill. " * 40 + "\nChapter 2\n" + "Ann walked to the mill. " * 40
    library.add(novel_from_bytes(text.encode(), name="mill.txt", title="Mill"))
    card = Card(name="Ann", aliases=("",), book_id=library.find("Mill"))
    assert {scene.chapter for scene in scenes_with(library, card, "Who walked to the mill?", 9, None)} == {2}
    assert scenes_with(library, card, "Who walked to the mill?", 9, 1) == ()


def test_placeholders_of_an_imported_card_are_names_when_spoken():
    card = Card(name="Anne", about=(Line("{{char}} likes {{user}}."),), scenario="<USER> visits <BOT>.", origin="file")
    persona = persona_of(card, "Tom")
    assert "Anne likes Tom." in persona.bot_info and "Tom visits Anne." in persona.bot_info


def test_two_characters_talk_in_turn_and_can_be_stopped(library):
    backend = ScriptedBackend(lambda prompt: f"第{len(backend.calls)}句。")
    other = Card(name="罗船家", about=(Line("渡口的船家。"), Line("{{char}}认得{{user}}。")))
    turns = []
    talk = duet(
        library, NovelChatModel(backend=backend), card_for(library), other, topic="铜钱", until_chapter=2, rounds=3
    )
    for said in talk:
        if said.is_whole:
            turns.append((said.speaker, said.text))
    assert [speaker for speaker, _ in turns] == ["沈砚", "罗船家"] * 3
    assert [text for _, text in turns] == [f"第{number}句。" for number in range(6)]
    second, _ = backend.calls[1]
    assert second[-1].content == "第0句。" and "渡口的船家。" in second[0].content, (
        "each hears the other as the one it talks with"
    )
    assert not any(secret in turn.content for prompt, _ in backend.calls for turn in prompt for secret in SECRETS)
    first, _ = backend.calls[0]
    assert "罗船家：渡口的船家。\n罗船家认得沈砚。" in first[0].content
    stopped = duet(
        library, NovelChatModel(backend=backend), card_for(library), other, topic="铜钱", until_chapter=2, rounds=3
    )
    next(stopped)
    stopped.close()
    assert backend.streams_ended == 7
