"""Summaries: the order of events, the bookmark, what is kept and reused, joins that end, and models of every kind."""

import re
from dataclasses import replace

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from core.chains.summary import Summariser, SummaryRequest, SummarySettings
from core.errors import SettingsError
from core.llm.chat_model import NovelChatModel
from core.llm.events import TERMINAL, Done, Failed, Status, Token, UsageReport
from core.retrieval.library import Library
from tests.chains.scribe import CHAPTER, Scribe, final, library_of, novel_of, ready, request_for, retold, summariser
from tests.support import make_novel

MODES = ["book", "recap", "person"]


@pytest.fixture
def library(tmp_path) -> Library:
    return library_of(tmp_path)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_chat", [True, False])
def test_every_chapter_begins_forms_and_is_ready_then_the_whole_is_written_with_exactly_one_end(library, mode, is_chat):
    events = list(summariser(library, Scribe(is_chat=is_chat)).stream(request_for(library, mode)))
    story = " ".join(
        (
            event.key
            if isinstance(event, Status)
            else f"{event.type}{'' if getattr(event, 'chapter', None) is None else '-of'}"
        )
        for event in events
        if not (isinstance(event, Status) and event.key == "thinking")
    )
    each = r"(chapter_begins( token-of)+ chapter_ready )"
    assert re.fullmatch(rf"summarising {each}{{8}}(writing|listing)( token| listing)+ usage done", story)
    assert sum(isinstance(event, TERMINAL) for event in events) == 1
    assert "".join(e.text for e in events if isinstance(e, Token) and e.chapter is None) == final(events)
    counts = [
        (dict(e.values)["done"], dict(e.values)["of"]) for e in events if getattr(e, "key", "") == "chapter_ready"
    ]
    assert counts == [(number, 8) for number in range(1, 9)]


def test_a_chat_models_tokens_of_a_chapter_are_that_chapters_summary(library):
    events = list(summariser(library).stream(request_for(library)))
    for number, summary in ready(events).items():
        assert "".join(e.text for e in events if isinstance(e, Token) and e.chapter == number) == summary


def test_usage_counts_the_tokens_of_all_calls(library):
    backend = Scribe()
    events = list(summariser(library, backend).stream(request_for(library)))
    usage = next(event for event in events if isinstance(event, UsageReport))
    assert usage.input_tokens == sum(map(len, backend.prompts))
    assert usage.output_tokens == sum(map(len, ready(events).values())) + len(final(events))
    assert 0 < usage.first_token_s <= usage.elapsed_s


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_chat", [True, False])
@pytest.mark.parametrize("parallel", [1, 4])
def test_nothing_beyond_the_bookmark_reaches_any_prompt_or_the_reader(library, mode, is_chat, parallel):
    backend = Scribe(is_chat=is_chat, context_tokens=700 if is_chat else 100_000)
    request = request_for(library, mode, until_chapter=5, last=7)
    events = list(summariser(library, backend, parallel=parallel).stream(request))
    assert isinstance(events[-1], Done)
    seen = "".join(backend.prompts) + repr(events)
    for mark in "甲乙丙丁戊":
        assert f"{mark}字灯" in seen
    for mark in "己庚辛":
        assert f"{mark}字" not in seen and f"{mark}谷" not in seen


@pytest.mark.parametrize(
    ("first", "last", "wanted"), [(3, 5, [3, 4, 5]), (None, 2, [1, 2]), (7, None, [7, 8]), (4, 4, [4])]
)
def test_a_span_of_chapters_is_read_and_no_more(library, first, last, wanted):
    backend = Scribe()
    events = list(summariser(library, backend).stream(request_for(library, first=first, last=last)))
    assert list(ready(events)) == wanted
    assert backend.chapters_read == [f"第{number}章 {'甲乙丙丁戊己庚辛'[number - 1]}" for number in wanted]


def test_one_chapters_summary_is_the_whole_and_asks_for_nothing_more(library):
    backend = Scribe()
    events = list(summariser(library, backend).stream(request_for(library, first=4, last=4)))
    assert final(events) == ready(events)[4] and len(backend.prompts) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"first": 9}, "there is no chapter from 9 to 8: the book has 1 to 8"),
        ({"first": 4, "until_chapter": 3}, "there is no chapter from 4 to 3.*the bookmark stands at 3"),
        ({"until_chapter": 0}, "there is no chapter"),
        ({"mode": "person", "person": "王五"}, "'王五' does not occur in chapters 1 to 8"),
        ({"mode": "person", "person": "己字灯", "until_chapter": 5}, "'己字灯' does not occur in chapters 1 to 5"),
    ],
)
def test_what_cannot_be_summarised_is_one_sentence_and_asks_no_model(library, options, said):
    backend = Scribe()
    events = list(summariser(library, backend).stream(request_for(library, **options)))
    assert isinstance(events[-1], Failed) and sum(isinstance(event, TERMINAL) for event in events) == 1
    assert re.search(said, events[-1].message) and "\n" not in events[-1].message and not backend.prompts


@pytest.mark.parametrize(
    "options",
    [{"mode": "x"}, {"mode": "person"}, {"mode": "person", "person": " "}, {"person": "张三"}, {"first": 3, "last": 2}],
)
def test_a_request_that_contradicts_itself_is_refused_when_it_is_made(options):
    with pytest.raises(SettingsError):
        SummaryRequest(book_id="x", **options)


def test_a_removed_book_is_one_clear_error_event(library):
    events = list(summariser(library).stream(SummaryRequest(book_id="0" * 16)))
    assert [event.type for event in events] == ["error"] and "novelscope list" in events[0].message


PEOPLE = (
    "远山起雾。张三上山。雾散了。李四在家磨刀。李四吃饭。狗叫了。",
    "李四下山。天黑了。鸡叫了。",
    "月亮升起。王五唱歌。张三听见。李四睡了。门关了。灯灭了。",
)


@pytest.mark.parametrize("is_chat", [True, False])
def test_a_persons_story_is_made_from_the_sentences_around_the_name(tmp_path, is_chat):
    library, backend = library_of(tmp_path, novel_of(*PEOPLE)), Scribe(is_chat=is_chat)
    events = list(summariser(library, backend).stream(request_for(library, "person", person=" 张三 ")))
    assert list(ready(events)) == [1, 3], "a chapter without the name is not read"
    read = "".join(backend.prompts)
    for sentence in ("远山起雾。", "张三上山。", "雾散了。", "王五唱歌。", "张三听见。", "李四睡了。"):
        assert sentence in read
    for sentence in ("磨刀", "吃饭", "狗叫", "下山", "月亮", "门关"):
        assert sentence not in read


def test_a_second_request_makes_no_call_and_gives_the_same(library):
    first = list(summariser(library).stream(request_for(library)))
    backend = Scribe()
    second = list(summariser(library, backend).stream(request_for(library)))
    assert final(second) == final(first) and ready(second) == ready(first) and not backend.prompts
    kept = [dict(event.values)["was_kept"] for event in second if getattr(event, "key", "") == "chapter_ready"]
    assert kept == [1] * 8
    assert summariser(library).kept_summaries(request_for(library)) == ready(first)


def test_a_second_request_says_again_that_the_text_was_cut_off(library):
    for _ in range(2):
        assert list(summariser(library, final_tokens=10).stream(request_for(library)))[-1].finish_reason == "length"


def test_another_question_reuses_the_chapters_and_another_model_does_not(library):
    list(summariser(library).stream(request_for(library, last=6)))
    again = Scribe()
    list(summariser(library, again).stream(request_for(library, "recap")))
    assert [name[1] for name in again.chapters_read] == ["7", "8"] and len(again.prompts) == 3
    other = Scribe(name="another")
    list(summariser(library, other).stream(request_for(library)))
    assert len(other.chapters_read) == 8


@pytest.mark.parametrize("settings", [{}, {"piece_tokens": 400, "summary_tokens": 60}])
def test_kept_summaries_tell_what_is_there_however_often_it_was_joined(tmp_path, settings):
    library = library_of(tmp_path, novel_of(*["山路很长，行人不语。" * 300] * 2, "短。"))
    backend = Scribe(lambda text: retold(text) + "山" * 100)
    made = summariser(library, backend, **settings)
    assert made.kept_summaries(request_for(library)) == {3: "第3章 山谷\n短。"}
    events = list(made.stream(request_for(library, last=2)))
    asked = len(backend.prompts)
    assert made.kept_summaries(request_for(library)) == ready(events) | {3: "第3章 山谷\n短。"}
    again = list(made.stream(request_for(library, last=2)))
    assert [dict(e.values)["was_kept"] for e in again if getattr(e, "key", "") == "chapter_ready"] == [1, 1]
    assert len(backend.prompts) == asked


@pytest.mark.parametrize("is_chat", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_four_at_once_give_the_same_as_one_after_another(tmp_path, is_chat, mode):
    found = []
    for parallel in (1, 4):
        library = library_of(tmp_path / str(parallel))
        backend = Scribe(is_chat=is_chat, context_tokens=700 if is_chat else 100_000, delay_s=0.0005)
        events = list(summariser(library, backend, parallel=parallel).stream(request_for(library, mode)))
        found.append((final(events), sorted(ready(events).items()), sorted(backend.prompts)))
    assert found[0] == found[1]


# Joining -------------------------------------------------------------------------------------------------------------


def as_long_as_allowed(text: str) -> str:
    return retold(text) + "山高水长。" * 500


def test_a_small_context_joins_in_several_levels_each_with_fewer_parts(tmp_path):
    library = library_of(tmp_path, make_novel(num_chapters=20))
    backend = Scribe(as_long_as_allowed, context_tokens=420)
    events = list(summariser(library, backend).stream(request_for(library)))
    levels = [dict(event.values) for event in events if getattr(event, "key", "") == "joining"]
    assert len(levels) >= 2 and levels[0]["parts"] == 20
    for level in levels:
        assert 1 <= level["into"] < level["parts"]
    assert [one["into"] for one in levels[:-1]] == [one["parts"] for one in levels[1:]]
    assert final(events)


@pytest.mark.parametrize("title", ["山中记", "山" * 200])
@pytest.mark.parametrize("mode", MODES)
def test_every_context_ends_in_a_summary_or_says_that_it_is_too_small_before_it_reads(tmp_path, title, mode):
    library = library_of(tmp_path, make_novel(title=title, num_chapters=6))
    outcomes = []
    for room in [1, 2, 40, *range(150, 900, 30)]:
        backend = Scribe(as_long_as_allowed, name=str(room), context_tokens=room)
        request = SummaryRequest(book_id=library.find(title), mode=mode, person="行人" if mode == "person" else None)
        made = summariser(library, backend).stream(request)
        events = [event for _, event in zip(range(100_000), made, strict=False)]
        outcomes.append(isinstance(events[-1], Done))
        if isinstance(events[-1], Failed):
            assert f"the model holds {room}" in events[-1].message and not backend.prompts
        # The answer has its room too, so no prompt is cut and no answer either.
        assert all(len(text) + limit <= room for text, limit in zip(backend.prompts, backend.limits, strict=True))
        assert len(backend.prompts) < 500
    assert outcomes == sorted(outcomes) and outcomes[-1] and not outcomes[0]


@pytest.mark.parametrize("settings", [{"piece_tokens": 100}, {"piece_tokens": 70, "final_tokens": 1}])
def test_settings_at_odds_with_each_other_still_come_to_an_end(tmp_path, settings):
    library = library_of(tmp_path, novel_of(*["山路很长，行人不语。" * 20] * 5))
    made = summariser(library, Scribe(as_long_as_allowed), **settings).stream(request_for(library))
    events = [event for _, event in zip(range(200_000), made, strict=False)]
    assert final(events)


@pytest.mark.parametrize("settings", [{"piece_tokens": 63}, {"summary_tokens": 0}, {"completion_tokens": -1}])
def test_settings_that_cannot_work_are_refused_when_they_are_made(settings):
    with pytest.raises(SettingsError, match=f"{next(iter(settings))} is {next(iter(settings.values()))}, wanted"):
        SummarySettings(**settings)


class Babbler(Scribe):
    """Writes ten times what it is allowed."""

    def stream(self, prompt, sampling):
        return super().stream(prompt, replace(sampling, max_new_tokens=sampling.max_new_tokens * 10))


@pytest.mark.parametrize("room", [400, 1000, 3000])
@pytest.mark.parametrize("parallel", [1, 4])
def test_a_model_that_ignores_its_limit_cannot_keep_the_joining_going(library, room, parallel):
    backend = Babbler(as_long_as_allowed, context_tokens=room)
    made = summariser(library, backend, parallel=parallel).stream(request_for(library))
    events = [event for _, event in zip(range(200_000), made, strict=False)]
    assert isinstance(events[-1], Done) or f"the model holds {room}" in events[-1].message


# Models of every kind ------------------------------------------------------------------------------------------------

NONSENSE = ["", "   \n", "是火的源头，" * 60, "A castle in Spain, and a horse.", "。"]


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("mode", MODES)
def test_where_a_base_model_writes_nonsense_the_books_own_sentences_stand(library, nonsense, mode):
    events = list(summariser(library, Scribe(lambda _: nonsense, is_chat=False)).stream(request_for(library, mode)))
    text = library.open(library.find("山中记")).text
    assert len(ready(events)) == 8
    for number, summary in ready(events).items():
        for sentence in re.findall(r"[^。\n]+。", summary):
            assert sentence in text
        assert summary and summary in final(events)
        assert f"第{number}章" in final(events)
    shown = "".join(event.text for event in events if isinstance(event, Token) and event.chapter is None)
    assert shown == final(events) and not (nonsense.strip(" \n。") and nonsense in shown)
    second = Scribe(lambda _: nonsense, is_chat=False)
    assert final(list(summariser(library, second).stream(request_for(library, mode)))) == final(events)
    assert not second.prompts


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_base_model_reads_one_short_passage_of_each_chapter(tmp_path, language):
    body = "山路很长，行人不语。" if language == "zh" else "The road was long and nobody spoke. "
    library = library_of(tmp_path, novel_of(*[body * 400] * 3, language=language))
    backend = Scribe(is_chat=False)
    list(summariser(library, backend).stream(request_for(library)))
    assert all(len(prompt) < 4000 for prompt in backend.prompts) and len(backend.prompts) in (3, 4)


def test_a_chat_model_that_says_nothing_of_a_chapter_leaves_it_to_the_books_own_words(library):
    silent = Scribe(lambda text: "" if "丙谷”" in text else retold(text))
    events = list(summariser(library, silent).stream(request_for(library)))
    assert ready(events)[3].startswith("第3章 丙谷") and len(ready(events)[3]) <= 80
    assert final(events)


def test_a_chat_model_that_says_nothing_in_the_end_is_an_error_and_is_asked_again(library):
    for _ in range(2):
        backend = Scribe(lambda text: retold(text) if CHAPTER.match(text) else " ")
        events = list(summariser(library, backend).stream(request_for(library)))
        assert isinstance(events[-1], Failed) and "nothing" in events[-1].message
    assert len(backend.prompts) == 1


def foreign(*answers: str) -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter([AIMessage(answer) for answer in answers]))


def test_it_works_with_a_chat_model_that_is_not_ours(library):
    made = Summariser(library, foreign("one. two.", "three.", "the whole story."))
    events = list(made.stream(request_for(library, last=2)))
    assert ready(events) == {1: "one. two.", 2: "three."} and final(events) == "the whole story."
    again = list(Summariser(library, foreign()).stream(request_for(library, last=2)))
    assert final(again) == "the whole story."


def test_a_foreign_models_own_error_tells_no_secret(library):
    events = list(Summariser(library, foreign("one.")).stream(request_for(library)))
    assert isinstance(events[-1], Failed) and "StopIteration" not in events[-1].message


@pytest.mark.parametrize("odd", ["\ud83d 半个", "\x00\x01", "\u2028\u0085\r", '"}{"', "😀👨‍👩‍👧", "{title} {0} %s"])
def test_odd_characters_are_kept_as_they_are_shown_and_can_be_sent(library, odd):
    text = f"曹操{odd}来了"
    first = list(summariser(library, Scribe(lambda _: text)).stream(request_for(library, last=2)))
    second = list(summariser(library, Scribe(lambda _: text)).stream(request_for(library, last=2)))
    assert final(first) == final(second) and ready(first) == ready(second)
    assert final(first).encode("utf-8") and "曹操" in final(first)
    shown = "".join(event.text for event in first if isinstance(event, Token) and event.chapter is None)
    assert shown == final(first)


def test_space_around_an_answer_is_neither_shown_nor_kept(library):
    backend = Scribe(lambda text: f"\n\n 山  \n 水 {len(text)} \n\n ")
    events = list(summariser(library, backend).stream(request_for(library, last=2)))
    shown = "".join(event.text for event in events if isinstance(event, Token) and event.chapter is None)
    assert shown == final(events) == final(events).strip() and "山  \n 水" in shown


def test_an_english_novel_is_asked_about_in_english(tmp_path):
    novel = novel_of(
        *["Low went home. Anne stayed with the boy at the bridge. " * 3] * 3, language="en", heading="Chapter {}"
    )
    library, backend = library_of(tmp_path, novel), Scribe(lambda text: "Low went home.")
    events = list(summariser(library, backend).stream(request_for(library)))
    assert "Chapter 1: Low went home.\nChapter 2: " in backend.prompts[-1]
    assert final(events) == "Low went home."
    assert not re.search("[：“”]?[\u4e00-\u9fff]", "".join(backend.prompts).replace("山中记", ""))


def test_the_model_is_loaded_after_the_first_sign_and_never_for_a_wrong_request(library):
    loaded = []

    def load():
        loaded.append(1)
        return NovelChatModel(backend=Scribe())

    events = Summariser(library, load).stream(request_for(library))
    assert next(events).key == "summarising" and next(events).key == "loading" and not loaded
    events.close()
    list(Summariser(library, load).stream(request_for(library, first=99)))
    assert not loaded
