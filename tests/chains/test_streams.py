"""Guarded streams and prompt chains: one end, nothing shown is lost, a stop within one token, over sync and async."""

import asyncio
import threading
from contextlib import aclosing, closing

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate

from core.chains.prompt_chain import PromptChain
from core.errors import ModelError, SettingsError
from core.llm.backends.scripted import ScriptedBackend
from core.llm.chat_model import NovelChatModel
from core.llm.events import TERMINAL, Done, Failed, Status, Stopped, Token
from core.llm.streams import as_async, guarded

ANSWER = "赵云字子龙，常山真定人。"


def chain(answer=ANSWER, prompt="{name}字什么？", **options):
    backend = ScriptedBackend(answer, **options)
    return PromptChain(NovelChatModel(backend=backend), prompt, temperature=0), backend


def made_of(*items, fails=None):
    yield from items
    if fails is not None:
        raise fails


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        ([Token("一"), Done("一", True, "stop")], Done("一", True, "stop")),
        ([Token("一"), Done("一", True, "stop"), Token("二"), Done("二", True, "stop")], Done("一", True, "stop")),
        ([Token("一"), Token("x", 3)], Failed("the answer broke off without an end; ask again", "一")),
    ],
)
def test_there_is_exactly_one_end(events, wanted):
    found = list(guarded(made_of(*events)))
    assert found[-1] == wanted
    assert sum(isinstance(event, TERMINAL) for event in found) == 1


def test_what_breaks_in_mid_stream_keeps_what_was_shown_and_tells_no_secret(caplog):
    ours = list(guarded(made_of(Token("一"), Token("二"), fails=ModelError("the server left"))))
    assert ours[-1] == Failed("the server left", "一二")
    foreign = list(guarded(made_of(Token("一"), fails=RuntimeError("key=abc"))))
    assert isinstance(foreign[-1], Failed) and foreign[-1].text == "一" and "abc" not in foreign[-1].message
    assert "abc" in caplog.text, "whoever runs it must find the cause in the log"


def test_predict_gives_a_string_and_stream_its_pieces():
    made, backend = chain()
    assert made.predict(name="赵云") == ANSWER
    assert list(made.stream(name="赵云")) == list(ANSWER)
    assert [turn.content for turn in backend.calls[0][0]] == ["赵云字什么？"]
    assert isinstance(list(made.events(name="赵云"))[-1], Done)


def test_the_async_twins_give_the_same():
    async def run():
        made, _ = chain()
        pieces = [piece async for piece in made.astream(name="赵云")]
        return await made.apredict(name="赵云"), pieces, [event async for event in made.aevents(name="赵云")]

    whole, pieces, events = asyncio.run(run())
    assert whole == ANSWER and pieces == list(ANSWER)
    assert [event.type for event in events] == ["token"] * len(ANSWER) + ["usage", "done"]


def test_it_works_with_a_chat_model_that_is_not_ours():
    model = GenericFakeChatModel(messages=iter([AIMessage("one two three")] * 2))
    made = PromptChain(model, ChatPromptTemplate.from_messages([("system", "be short"), ("human", "{question}")]))
    assert made.predict(question="count") == "one two three"
    assert "".join(made.stream(question="count")) == "one two three"


def test_a_prompt_gets_just_its_values():
    made, backend = chain()
    with pytest.raises(SettingsError, match="wants name and was given nothing"):
        made.predict()
    with pytest.raises(SettingsError, match="was given age, name"):
        made.stream(name="赵云", age=3).__next__()
    assert not backend.calls


def test_an_error_raises_from_predict_and_follows_the_pieces_of_a_stream():
    made, _ = chain(fails_after=3)
    with pytest.raises(ModelError, match="broke off"):
        made.predict(name="赵云")
    events = list(made.events(name="赵云"))
    assert events[-1] == Failed("the script broke off after 3 pieces, as told", ANSWER[:3])


@pytest.mark.parametrize("way", ["stream", "events"])
def test_closing_stops_the_model_within_a_token(way):
    made, backend = chain()
    with closing(getattr(made, way)(name="赵云")) as items:
        for _ in range(4):
            next(items)
    assert backend.pieces_made <= 5 and backend.streams_ended == 1


def test_leaving_or_cancelling_an_async_stream_stops_the_model_within_a_token():
    async def leave(made):
        async with aclosing(made.aevents(name="赵云")) as events:
            async for _ in events:
                return

    async def cancel(made, backend):
        async def read():
            async with aclosing(made.astream(name="赵云")) as pieces:
                async for _ in pieces:
                    pass

        task = asyncio.create_task(read())
        while backend.pieces_made < 3:
            await asyncio.sleep(0.001)
        made_before = backend.pieces_made
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not backend.streams_ended:
            await asyncio.sleep(0.001)
        return backend.pieces_made - made_before

    made, backend = chain()
    asyncio.run(leave(made))
    assert backend.pieces_made <= 2
    made, backend = chain(ANSWER * 50, delay_s=0.002)
    assert asyncio.run(cancel(made, backend)) <= 1


def test_a_stop_from_another_thread_keeps_the_part_that_was_written():
    made, backend = chain(ANSWER * 20, delay_s=0.002)
    stop, found = threading.Event(), []
    for event in made.events(name="赵云", halt=stop):
        found.append(event)
        if len(found) == 5:
            threading.Thread(target=stop.set).start()
            stop.wait()
    assert isinstance(found[-1], Stopped) and found[-1].text == ANSWER[:5]
    assert backend.pieces_made <= 6 and backend.streams_ended == 1


def test_a_slow_reader_makes_nothing_pile_up():
    async def read_slowly():
        made, backend = chain(ANSWER * 20)
        ahead = []
        async with aclosing(made.aevents(name="赵云")) as events:
            read = 0
            async for _ in events:
                read += 1
                await asyncio.sleep(0.002)
                ahead.append(backend.pieces_made - read)
                if read == 30:
                    return max(ahead)

    assert asyncio.run(read_slowly()) <= 1


def test_no_thread_is_left_of_cancelled_streams():
    async def one(number):
        async with aclosing(as_async(guarded(made_of(*[Status("x")] * 50)))) as events:
            async for _ in events:
                if number % 2:
                    return

    async def many():
        await asyncio.gather(*(one(number) for number in range(40)))

    before = threading.active_count()
    asyncio.run(many())
    for thread in threading.enumerate():
        if thread.name.startswith("novelscope-events"):
            thread.join(5)
    assert threading.active_count() <= before
