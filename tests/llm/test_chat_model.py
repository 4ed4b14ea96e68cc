"""The chat model over a scripted backend: streaming, settings, messages, stopping, queueing."""

import asyncio
import threading
import time
from contextlib import aclosing

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from core.data.dialogues import Turn
from core.errors import ModelError, PromptTooLong, SettingsError
from core.llm.backend import SamplingSettings
from core.llm.backends.scripted import ScriptedBackend
from core.llm.chat_model import NovelChatModel


def chat(answers="赵云字子龙。", **options):
    sampling = options.pop("sampling", SamplingSettings())
    return NovelChatModel(backend=ScriptedBackend(answers, **options), sampling=sampling)


def wait_until(claim, seconds=5.0):
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_a_stream_ends_with_one_chunk_of_usage_and_reason():
    chunks = list(chat().stream("问"))
    assert [chunk.content for chunk in chunks] == [*"赵云字子龙。", ""]
    assert [chunk.usage_metadata is not None for chunk in chunks] == [False] * 6 + [True]
    last = chunks[-1]
    assert last.usage_metadata == {"input_tokens": 1, "output_tokens": 6, "total_tokens": 7}
    assert last.response_metadata == {"finish_reason": "stop", "model_name": "scripted"}
    assert last.chunk_position == "last"


def test_invoke_and_its_async_twin_give_the_whole_of_the_stream():
    model = chat()
    for message in (model.invoke("问"), asyncio.run(model.ainvoke("问"))):
        assert isinstance(message, AIMessage)
        assert message.content == "赵云字子龙。"
        assert message.usage_metadata["output_tokens"] == 6
        assert message.response_metadata["finish_reason"] == "stop"


def test_it_works_in_a_chain():
    chain = ChatPromptTemplate.from_messages([("system", "简短"), ("human", "{q}")]) | chat() | StrOutputParser()
    assert "".join(chain.stream({"q": "谁"})) == "赵云字子龙。"


def test_each_token_reaches_callbacks_once():
    class Sync(BaseCallbackHandler):
        def __init__(self):
            self.tokens = []

        def on_llm_new_token(self, token, **_):
            self.tokens.append(token)

    class Async(AsyncCallbackHandler):
        def __init__(self):
            self.tokens = []

        async def on_llm_new_token(self, token, **_):
            self.tokens.append(token)

    async def drain(model, handler):
        return [chunk async for chunk in model.astream("问", config={"callbacks": [handler]})]

    ours, theirs = Sync(), Async()
    list(chat().stream("问", config={"callbacks": [ours]}))
    asyncio.run(drain(chat(), theirs))
    assert ours.tokens == theirs.tokens == [*"赵云字子龙。", ""]


def test_messages_become_turns():
    model = chat()
    blocks = HumanMessage(content=["一", {"type": "text", "text": "二"}])
    model.invoke([SystemMessage("规矩"), blocks, AIMessage("三"), HumanMessage("四")])
    prompt, _ = model.backend.calls[0]
    assert prompt == (Turn("system", "规矩"), Turn("user", "一二"), Turn("assistant", "三"), Turn("user", "四"))


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "no message"),
        ([ToolMessage("x", tool_call_id="1")], "'tool'"),
        ([HumanMessage([{"type": "image_url", "image_url": "x"}])], "'image_url'"),
        ([AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])], "calls tools"),
    ],
)
def test_other_messages_are_refused_in_one_sentence(messages, words):
    with pytest.raises(ModelError, match=words) as refusal:
        chat().invoke(messages)
    assert "\n" not in str(refusal.value)


def test_settings_come_from_the_model_the_binding_and_the_call():
    model = chat(sampling=SamplingSettings(temperature=0.1, stop=("甲",)))
    model.bind(max_tokens=3, seed=7).invoke("问", temperature=0, top_p=0.5, stop=["乙", "甲"])
    _, sampling = model.backend.calls[0]
    assert sampling == SamplingSettings(max_new_tokens=3, temperature=0, top_p=0.5, seed=7, stop=("甲", "乙"))


def test_a_model_is_made_with_the_keywords_that_a_call_takes():
    made = NovelChatModel(backend=ScriptedBackend(""), temperature=0, max_tokens=9, stop=["甲"], timeout=60, top_p=None)
    assert made.sampling == SamplingSettings(temperature=0, max_new_tokens=9, stop=("甲",))
    with pytest.raises(SettingsError, match="unknown settings warmth"):
        NovelChatModel(backend=ScriptedBackend(""), warmth=1)


def test_another_model_is_named_in_traces_and_refused_by_the_call():
    model = chat()
    assert model._get_ls_params()["ls_model_name"] == "scripted"
    assert model._get_ls_params(model="other")["ls_model_name"] == "other"
    with pytest.raises(SettingsError, match="unknown settings model"):
        model.invoke("问", model="other")


def test_raw_text_reaches_the_backend_as_it_is():
    model = chat(is_chat=False)
    model.invoke("问：谁？\n答：", raw=True)
    assert model.backend.calls[0][0] == "问：谁？\n答："
    assert not model.is_chat


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"warmth": 1}, "unknown settings warmth"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_new"),
        ({"stop": "甲乙"}, "stop is '甲乙'"),
    ],
)
def test_unknown_or_impossible_settings_are_errors(keywords, words):
    model = chat()
    with pytest.raises(SettingsError, match=words):
        model.invoke("问", **keywords)
    assert model.backend.calls == []


@pytest.mark.parametrize("settings", [{"top_p": 0}, {"top_k": -1}, {"repetition_penalty": 0}, {"stop": "x"}])
def test_sampling_settings_are_checked_when_made(settings):
    with pytest.raises(SettingsError, match=next(iter(settings))):
        SamplingSettings(**settings)


def test_stop_strings_cut_and_end_the_work():
    model = chat("甲乙丙丁戊己庚辛")
    assert model.invoke("问", stop=["丙丁"]).content == "甲乙"
    assert model.backend.pieces_made == 4


def test_the_length_limit_is_told_from_the_end():
    answer = chat().invoke("问", max_tokens=2)
    assert (answer.content, answer.response_metadata["finish_reason"]) == ("赵云", "length")
    assert chat().invoke("问", max_tokens=6).response_metadata["finish_reason"] == "stop"


def test_a_prompt_that_does_not_fit_is_refused_before_any_token():
    model = chat(context_tokens=4)
    with pytest.raises(PromptTooLong) as refusal:
        next(model.stream("一二三四"))
    assert (refusal.value.prompt_tokens, refusal.value.context_tokens) == (4, 4)
    assert model.backend.pieces_made == 0


def test_an_error_in_the_middle_comes_after_what_was_said_and_frees_the_model():
    model = chat("甲乙丙", fails_after=2)
    stream = model.stream("问")
    assert [next(stream).content, next(stream).content] == ["甲", "乙"]
    with pytest.raises(ModelError, match="broke off"):
        next(stream)
    with pytest.raises(ModelError, match="broke off"):
        model.invoke("问")
    assert model.backend.streams_ended == 2


def test_closing_a_stream_stops_the_model_at_once():
    model = chat("字" * 1000)
    stream = model.stream("问")
    for _ in range(3):
        next(stream)
    stream.close()
    assert model.backend.pieces_made == 3
    assert model.backend.streams_ended == 1


def test_cancelling_a_task_stops_the_model_within_a_token():
    model = chat("字" * 1000, delay_s=0.02)

    async def main():
        heard = asyncio.Event()

        async def listen():
            async for _ in model.astream("问"):
                heard.set()

        task = asyncio.create_task(listen())
        await heard.wait()
        made = model.backend.pieces_made
        task.cancel()
        started_s = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        return made, time.monotonic() - started_s

    made, waited_s = asyncio.run(main())
    wait_until(lambda: model.backend.streams_ended == 1)
    assert model.backend.pieces_made <= made + 2  # the one under way, and one that was ready before the cancel
    assert waited_s < 0.5


def test_cancelling_ainvoke_stops_the_model_too():
    model = chat("字" * 1000, delay_s=0.01)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(model.ainvoke("问"), 0.1)

    asyncio.run(main())
    wait_until(lambda: model.backend.streams_ended == 1)
    made = model.backend.pieces_made
    time.sleep(0.05)
    assert model.backend.pieces_made == made < 100


def test_leaving_an_async_stream_stops_the_model():
    model = chat("字" * 1000)

    async def main():
        async with aclosing(model.astream("问")) as stream:
            async for _ in stream:
                break

    asyncio.run(main())
    wait_until(lambda: model.backend.streams_ended == 1)
    assert model.backend.pieces_made <= 2


def test_two_requests_are_served_one_after_the_other():
    model = chat(lambda prompt: prompt[-1].content * 20, delay_s=0.002)
    answers = {}
    threads = [threading.Thread(target=lambda q=q: answers.update({q: model.invoke(q).content})) for q in "甲乙"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {"甲": "甲" * 20, "乙": "乙" * 20}


def test_a_waiting_request_gives_signs_of_life_and_can_be_closed():
    model = chat("字" * 1000)
    first = model.stream("先")
    next(first)
    second = model.stream("后")
    assert next(second).content == ""
    second.close()
    assert len(model.backend.calls) == 1
    first.close()
    assert model.invoke("再", max_tokens=2).content == "字字"


def test_a_waiting_request_can_be_cancelled():
    model = chat("字" * 1000)
    first = model.stream("先")
    next(first)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(model.ainvoke("后"), 0.15)

    started_s = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - started_s < 2
    first.close()
    assert len(model.backend.calls) == 1
    assert model.invoke("再", max_tokens=2).content == "字字"


def test_many_async_requests_finish_although_they_outnumber_the_worker_threads():
    model = chat("好", delay_s=0.001)

    async def main():
        return await asyncio.gather(*(model.ainvoke("问") for _ in range(40)))

    assert [answer.content for answer in asyncio.run(main())] == ["好"] * 40


def test_it_counts_with_the_backend_and_names_itself():
    model = chat()
    assert model.get_num_tokens("四个字呀") == 4
    assert model.get_num_tokens_from_messages([SystemMessage("一"), HumanMessage("二三")]) == 3
    assert model._llm_type == "novelscope"
    assert model.asdict()["model_name"] == "scripted"


def test_a_list_of_answers_is_given_in_order_and_ends():
    model = chat(["一", "二"])
    assert [model.invoke("问").content for _ in range(2)] == ["一", "二"]
    with pytest.raises(ModelError, match="asked once more"):
        model.invoke("问")
