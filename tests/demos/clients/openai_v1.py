"""openai, unchanged, sync and async. In an environment of its own: python openai_v1.py ROOT_URL KEY MODEL."""

import asyncio
import sys

import openai

root, key, MODEL = sys.argv[1:]
ASKED = {
    "model": MODEL,
    "messages": [
        {"role": "system", "content": "你是苏梦远，一位女歌手。"},
        {"role": "user", "content": [{"type": "text", "text": "你好，"}, {"type": "text", "text": "最近在忙什么？"}]},
    ],
    "temperature": 0,
    "max_tokens": 32,
}

for base in ("/v1", "/api/paas/v4"):
    client = openai.OpenAI(base_url=root + base, api_key=key, max_retries=0)
    assert MODEL in [model.id for model in client.models.list()]
    told = client.chat.completions.create(**ASKED)
    text = told.choices[0].message.content
    assert told.object == "chat.completion" and text.strip() and told.model == MODEL
    assert told.usage.total_tokens == told.usage.prompt_tokens + told.usage.completion_tokens
    for options in (None, {"include_usage": True}):
        chunks = list(client.chat.completions.create(**ASKED, stream=True, stream_options=options))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
        assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [told.usage.total_tokens]
        assert bool(chunks[-1].choices) == (options is None), "usage has a chunk of its own only where it is asked for"

short = client.chat.completions.create(**{**ASKED, "max_tokens": 2})
assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 2
first = text.strip()[1]
stopped = client.chat.completions.create(**ASKED, stop=[first])
assert stopped.choices[0].finish_reason == "stop" and first not in stopped.choices[0].message.content
spoken = client.chat.completions.create(
    **ASKED,
    extra_body={"meta": {"bot_name": "苏梦远", "bot_info": "女歌手。"}},
    extra_headers={"Idempotency-Key": "k1"},
)
again = client.chat.completions.create(
    **ASKED,
    extra_body={"meta": {"bot_name": "苏梦远", "bot_info": "女歌手。"}},
    extra_headers={"Idempotency-Key": "k1"},
)
assert spoken.choices == again.choices

for changed, error, code in (
    ({"model": "no-such-model"}, openai.BadRequestError, "1211"),
    ({"temperature": 3}, openai.BadRequestError, "1214"),
):
    try:
        client.chat.completions.create(**{**ASKED, **changed})
    except error as refusal:
        assert refusal.code == code, refusal
    else:
        raise AssertionError(f"{changed} was taken")
try:
    openai.OpenAI(base_url=f"{root}/v1", api_key="nobody.secret", max_retries=0).models.list()
except openai.AuthenticationError as refusal:
    assert refusal.code == "1002"
else:
    raise AssertionError("a key that nobody made was taken")


async def in_a_loop():
    async with openai.AsyncOpenAI(base_url=f"{root}/v1", api_key=key, max_retries=0) as client:
        streams = [client.chat.completions.create(**ASKED, stream=True) for _ in range(4)]
        for stream in await asyncio.gather(*streams):
            said = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert "".join(said) == text


asyncio.run(in_a_loop())
print("ok")
