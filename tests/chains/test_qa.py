"""The stream of an answer: order of its events, honesty of its citations, the bookmark, stop and failure."""

from __future__ import annotations

import re
import time
from contextlib import closing

import pytest

from core.chains.answers import collect
from core.chains.followup import standalone_question
from core.chains.qa import NOT_FOUND, Question, Reader, ReaderSettings
from core.data.dialogues import Turn
from core.errors import ModelLoadError
from core.llm.backends.scripted import ScriptedBackend
from core.llm.chat_model import NovelChatModel
from core.llm.events import (
    CitationFound,
    Done,
    Evidence,
    Failed,
    Status,
    Stopped,
    Token,
    UsageReport,
    to_sse,
)
from core.retrieval.indexing import embed_missing
from core.retrieval.library import Library, LibrarySettings
from tests.support import HashedEmbedder, make_novel

ANSWER = "丙字灯藏在丙谷的石桥底下。重3斤。"


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Library:
    library = Library(LibrarySettings(home=tmp_path_factory.mktemp("home")), embedder=HashedEmbedder())
    library.add(make_novel())
    with library.vector_store("a test") as store:
        embed_missing(library, store)
    return library


@pytest.fixture
def book_id(library) -> str:
    return library.find("山中记")


def reader(library: Library, backend: ScriptedBackend, **settings: int) -> Reader:
    return Reader(library, NovelChatModel(backend=backend), ReaderSettings(**settings))


def test_events_come_in_order_with_exactly_one_end(library, book_id):
    events = list(reader(library, ScriptedBackend(ANSWER)).stream(Question(book_id=book_id, text="丙字灯藏在哪里？")))
    kinds = [event.type for event in events if not isinstance(event, Status)]
    assert re.fullmatch(r"evidence( token| citation)+ usage done", " ".join(kinds))
    assert kinds.index("evidence") < kinds.index("token")
    assert "".join(event.text for event in events if isinstance(event, Token)) == events[-1].text == ANSWER


def test_every_citation_equals_the_books_text_and_stands_in_its_passage(library, book_id):
    answer = collect(
        reader(library, ScriptedBackend(ANSWER)).stream(Question(book_id=book_id, text="丙字灯藏在哪里？"))
    )
    text = library.open(book_id).text
    assert answer.found and answer.citations
    for citation in answer.citations:
        passage = answer.passages[citation.passage - 1]
        assert citation.quote == citation.span.of(text)
        assert passage.span.overlap(citation.span) == len(citation.span)
        assert citation.answer_span.of(answer.text).strip()


@pytest.mark.parametrize("is_chat", [True, False])
def test_an_answer_that_nothing_supports_is_marked_and_only_the_books_words_are_cited(library, book_id, is_chat):
    backend = ScriptedBackend("皇后的侍女偷走了它。", is_chat=is_chat)
    answer = collect(reader(library, backend).stream(Question(book_id=book_id, text="丙字灯藏在哪里？")))
    assert answer.text.startswith("皇后的侍女偷走了它。（") and "找不到支持" in answer.text and answer.passages
    for citation in answer.citations:
        assert citation.answer_span.of(answer.text) == citation.quote


def test_a_model_that_says_the_book_does_not_say_is_believed(library, book_id):
    answer = collect(
        reader(library, ScriptedBackend("书中没有提到")).stream(Question(book_id=book_id, text="丙字灯是谁做的？"))
    )
    assert not answer.found and answer.text == "书中没有提到"


def test_a_question_about_nothing_in_the_book_asks_no_model(library, book_id):
    backend = ScriptedBackend(ANSWER)
    answer = collect(
        reader(library, backend).stream(Question(book_id=book_id, text="哈利波特魔杖价格咖啡？", until_chapter=1))
    )
    assert answer.text == NOT_FOUND["zh"] and not answer.found and answer.passages
    assert backend.calls == []


@pytest.mark.parametrize("is_chat", [True, False])
def test_nothing_beyond_the_bookmark_reaches_the_prompt(library, book_id, is_chat):
    backend = ScriptedBackend(ANSWER, is_chat=is_chat)
    question = Question(book_id=book_id, text="山路石桥底下藏的字灯重多少斤？", until_chapter=3)
    answer = collect(reader(library, backend).stream(question))
    prompt = backend.calls[0][0]
    read = prompt if isinstance(prompt, str) else prompt[-1].content
    assert "辛字灯藏在" not in read and "丙谷" in read
    assert all(passage.chapter <= 3 for passage in answer.passages)


def test_closing_the_stream_stops_the_model_within_a_token(library, book_id):
    backend = ScriptedBackend("风" * 500, delay_s=0.002)
    events = reader(library, backend).stream(Question(book_id=book_id, text="丙字灯藏在哪里？"))
    tokens = 0
    for event in events:
        tokens += isinstance(event, Token)
        if tokens == 5:
            break
    events.close()
    made = backend.pieces_made
    time.sleep(0.1)
    assert backend.pieces_made == made <= 6 and backend.streams_ended == 1


def test_a_failure_in_mid_stream_keeps_what_was_said(library, book_id):
    backend = ScriptedBackend(ANSWER, fails_after=4)
    events = list(reader(library, backend).stream(Question(book_id=book_id, text="丙字灯藏在哪里？")))
    assert isinstance(events[-1], Failed) and events[-1].text == ANSWER[:4]
    assert sum(isinstance(event, (Done, Failed, Stopped)) for event in events) == 1


def test_a_removed_book_is_one_clear_error_event(library):
    events = list(reader(library, ScriptedBackend("")).stream(Question(book_id="0" * 16, text="谁？")))
    assert [event.type for event in events] == ["status", "error"] and "novelscope list" in events[-1].message


def test_a_loop_is_cut_short(library, book_id):
    backend = ScriptedBackend("是火的源头，" * 60, is_chat=False)
    collect(reader(library, backend).stream(Question(book_id=book_id, text="丙字灯藏在哪里？")))
    assert backend.pieces_made < 30


def test_what_does_not_fit_is_left_out_and_said(library, book_id):
    history = tuple(Turn(role, "路上说过的话" * 60) for role in ("user", "assistant") * 3)
    backend = ScriptedBackend(ANSWER, context_tokens=3000)
    question = Question(book_id=book_id, text="丙字灯藏在丙谷的什么地方？", history=history)
    events = list(reader(library, backend, max_new_tokens=64).stream(question))
    reading = next(event for event in events if isinstance(event, Status) and event.key == "reading")
    assert dict(reading.values)["turns_left_out"] > 0
    assert backend.count_tokens(backend.calls[0][0]) + 64 <= 3000


def test_a_prompt_that_cannot_fit_is_an_error_not_a_cut(library, book_id):
    backend = ScriptedBackend(ANSWER, context_tokens=200)
    events = list(reader(library, backend).stream(Question(book_id=book_id, text="丙字灯藏在哪里？")))
    assert isinstance(events[-1], Failed) and "200" in events[-1].message


def test_usage_counts_the_models_tokens(library, book_id):
    events = list(reader(library, ScriptedBackend(ANSWER)).stream(Question(book_id=book_id, text="丙字灯藏在哪里？")))
    usage = next(event for event in events if isinstance(event, UsageReport))
    assert usage.output_tokens == len(ANSWER) and 0 <= usage.first_token_s <= usage.elapsed_s


def test_a_server_sent_event_parses_back(library, book_id):
    import json

    events = list(reader(library, ScriptedBackend(ANSWER)).stream(Question(book_id=book_id, text="丙字灯藏在哪里？")))
    for number, event in enumerate(events):
        lines = to_sse(event, number).split("\n")
        assert lines[0] == f"id: {number}" and lines[1] == f"event: {event.type}" and lines[3:] == ["", ""]
        assert json.loads(lines[2].removeprefix("data: ")) == event.to_dict()
    evidence = next(event for event in events if isinstance(event, Evidence))
    cited = next(event for event in events if isinstance(event, CitationFound))
    assert evidence.to_dict()["passages"][0]["number"] == 1 and cited.to_dict()["number"] == 1


NAMES = "猪八戒往高老庄去。猪八戒吃了西瓜。猪八戒睡了。红孩儿放火。红孩儿哭了。红孩儿走了。他的儿子。"


@pytest.mark.parametrize(
    ("before", "question", "wanted"),
    [
        ("猪八戒去了哪里？", "他后来怎么样了？", "猪八戒后来怎么样了？"),
        ("红孩儿是谁的儿子？", "他放了什么？", "红孩儿放了什么？"),
        ("猪八戒去了哪里？", "为什么？", "猪八戒去了哪里？ 为什么？"),
        ("猪八戒去了哪里？", "红孩儿放了什么火烧山？", "红孩儿放了什么火烧山？"),
    ],
)
def test_a_follow_up_is_made_to_stand_alone(before, question, wanted):
    history = [Turn("user", before), Turn("assistant", "高老庄。")]
    assert standalone_question(question, history, NAMES, "zh") == wanted
    assert standalone_question(question, [], NAMES, "zh") == question


def test_evidence_does_not_wait_for_the_model_to_load(library, book_id):
    loaded: list[str] = []

    def load() -> NovelChatModel:
        loaded.append("model")
        return NovelChatModel(backend=ScriptedBackend(ANSWER))

    with closing(Reader(library, load).stream(Question(book_id=book_id, text="丙字灯藏在哪里？"))) as events:
        for event in events:
            if isinstance(event, Evidence):
                break
        assert loaded == []
        assert collect(events).text == ANSWER and loaded == ["model"]


def test_a_model_that_cannot_be_loaded_keeps_the_evidence(library, book_id):
    def load() -> NovelChatModel:
        raise ModelLoadError("the weights are missing")

    events = list(Reader(library, load).stream(Question(book_id=book_id, text="丙字灯藏在哪里？")))
    assert any(isinstance(event, Evidence) for event in events)
    assert isinstance(events[-1], Failed) and "weights are missing" in events[-1].message
