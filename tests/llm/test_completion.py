"""The completion model over a scripted backend: raw text, streaming, settings, stopping, callbacks."""

import asyncio
import time
from contextlib import aclosing, closing

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate

from core.errors import ModelError, PromptTooLong, SettingsError
from core.llm.backend import SamplingSettings
from core.llm.backends.scripted import ScriptedBackend
from core.llm.chat_model import NovelChatModel
from core.llm.completion import NovelCompletion

ANSWER = "却说曹操在许都。"


def completion(answers=ANSWER, keywords=None, **options):
    return NovelCompletion(backend=ScriptedBackend(answers, is_chat=False, **options), **(keywords or {}))


def wait_until(claim, seconds=5.0):
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


class Heard(BaseCallbackHandler):
    def __init__(self):
        self.tokens, self.results = [], []

    def on_llm_new_token(self, token, **_):
        self.tokens.append(token)

    def on_llm_end(self, response, **_):
        self.results.append(response)


class HeardAsync(AsyncCallbackHandler):
    def __init__(self):
        self.tokens = []

    async def on_llm_new_token(self, token, **_):
        self.tokens.append(token)


async def drain(stream):
    async with aclosing(stream) as pieces:
        return [piece async for piece in pieces]


def test_invoke_and_the_joined_streams_are_one_text():
    model = completion()
    assert model.invoke("话说") == ANSWER
    assert list(model.stream("话说")) == [*ANSWER, ""]
    assert asyncio.run(model.ainvoke("话说")) == ANSWER
    assert asyncio.run(drain(model.astream("话说"))) == [*ANSWER, ""]
    assert model.batch(["一", "二"]) == [ANSWER] * 2


def test_the_prompt_reaches_the_backend_word_for_word():
    chain = PromptTemplate.from_template("问：{q}\n答：") | completion() | StrOutputParser()
    assert "".join(chain.stream({"q": "谁？"})) == ANSWER
    assert chain.steps[1].backend.calls[0][0] == "问：谁？\n答："


@pytest.mark.parametrize("max_tokens", [3, 100])
def test_the_last_chunk_tells_the_reason_and_the_usage(max_tokens):
    heard = Heard()
    list(completion().stream("话说", max_tokens=max_tokens, config={"callbacks": [heard]}))
    made = min(max_tokens, len(ANSWER))
    (generation,) = heard.results[0].generations[0]
    assert generation.text == ANSWER[:made]
    assert generation.generation_info == {
        "finish_reason": "length" if max_tokens == 3 else "stop",
        "model_name": "scripted",
        "usage": {"input_tokens": 2, "output_tokens": made, "total_tokens": 2 + made},
    }


def test_each_piece_reaches_callbacks_once_streamed_or_not():
    streamed, invoked = Heard(), Heard()
    list(completion().stream("话说", {"callbacks": [streamed]}))
    completion().invoke("话说", {"callbacks": [invoked]})
    assert streamed.tokens == invoked.tokens == list(ANSWER)


def test_each_piece_reaches_async_callbacks_once_streamed_or_not():
    streamed, invoked = HeardAsync(), HeardAsync()
    asyncio.run(drain(completion().astream("话说", {"callbacks": [streamed]})))
    asyncio.run(completion().ainvoke("话说", {"callbacks": [invoked]}))
    assert streamed.tokens == invoked.tokens == list(ANSWER)


def test_stop_strings_cut_and_end_the_work():
    model = completion("甲乙丙丁戊己庚辛")
    assert model.invoke("话说", stop=["丙丁"]) == "甲乙"
    assert model.backend.pieces_made == 4


def test_settings_come_from_the_model_the_binding_and_the_call():
    model = completion(keywords={"temperature": 0.1, "stop": ["甲"], "top_k": 5})
    model.bind(max_tokens=3, seed=7).invoke("话说", temperature=0, stop=["乙", "甲"])
    _, sampling = model.backend.calls[0]
    assert sampling == SamplingSettings(max_new_tokens=3, temperature=0, top_k=5, seed=7, stop=("甲", "乙"))


@pytest.mark.parametrize("keywords", [{"warmth": 1}, {"raw": True}, {"temperature": -1}, {"stop": "甲"}])
def test_unknown_or_impossible_settings_are_errors_in_a_call_and_in_the_making(keywords):
    model = completion()
    with pytest.raises(SettingsError, match=next(iter(keywords))):
        model.invoke("话说", **keywords)
    with pytest.raises(SettingsError, match=next(iter(keywords))):
        completion(keywords=keywords)
    assert model.backend.calls == []


def test_closing_a_stream_stops_the_model_at_once():
    model = completion("字" * 1000)
    with closing(model.stream("话说")) as pieces:
        for _ in range(3):
            next(pieces)
    assert (model.backend.pieces_made, model.backend.streams_ended) == (3, 1)


def test_leaving_an_async_stream_stops_the_model():
    model = completion("字" * 1000, delay_s=0.005)

    async def main():
        async with aclosing(model.astream("话说")) as pieces:
            async for _ in pieces:
                break

    asyncio.run(main())
    wait_until(lambda: model.backend.streams_ended == 1)
    assert model.backend.pieces_made <= 2  # the one read, and one that may have been under way


def test_cancelling_ainvoke_stops_the_model_within_a_token():
    model = completion("字" * 1000, delay_s=0.01)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(model.ainvoke("话说"), 0.1)
        return model.backend.pieces_made

    made = asyncio.run(main())
    wait_until(lambda: model.backend.streams_ended == 1)
    assert model.backend.pieces_made <= made + 1 < 100


def test_an_error_in_the_middle_comes_after_what_was_said():
    model = completion("甲乙丙", fails_after=2)
    stream = model.stream("话说")
    assert [next(stream), next(stream)] == ["甲", "乙"]
    with pytest.raises(ModelError, match="broke off"):
        next(stream)
    with pytest.raises(PromptTooLong):
        completion(context_tokens=2).invoke("话说")


def test_it_counts_with_the_backend_and_names_itself():
    model = completion()
    assert model.get_num_tokens("四个字呀") == 4
    assert model.context_tokens == model.backend.context_tokens
    assert model.asdict()["model_name"] == "scripted"
    assert model._get_ls_params(stop=["甲"])["ls_model_type"] == "llm"
    assert NovelChatModel(backend=model.backend)._get_ls_params()["ls_model_type"] == "chat"
