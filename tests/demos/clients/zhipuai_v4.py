"""zhipuai 2.x or zai-sdk, unchanged, by key and by token: python zhipuai_v4.py ROOT_URL KEY MODEL."""

import sys
import time

root, key, MODEL = sys.argv[1:]
try:
    from zai import ZaiClient as Client
    from zai.core import APIAuthenticationError, APIRequestFailedError
except ImportError:
    from zhipuai import ZhipuAI as Client
    from zhipuai.core._errors import APIAuthenticationError, APIRequestFailedError

META = {"bot_name": "苏梦远", "bot_info": "当红女歌手。", "user_name": "陆星辰", "user_info": "知名导演。"}
ASKED = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "你好，最近在忙什么？"}],
    "meta": META,
    "temperature": 0,
    "max_tokens": 48,
}

for by_token in (False, True):
    client = Client(api_key=key, base_url=f"{root}/api/paas/v4/", disable_token_cache=not by_token)
    told = client.chat.completions.create(**ASKED)
    text = told.choices[0].message.content
    assert text.strip() and told.choices[0].finish_reason in ("stop", "length")
    assert told.usage.total_tokens == told.usage.prompt_tokens + told.usage.completion_tokens

    chunks = list(client.chat.completions.create(**ASKED, stream=True))
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == text
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [told.usage.total_tokens]
    assert chunks[-1].choices[0].finish_reason == told.choices[0].finish_reason

task = client.chat.asyncCompletions.create(**ASKED) if hasattr(client.chat, "asyncCompletions") else None
if task is not None:
    assert task.task_status == "PROCESSING"
    while (polled := client.chat.asyncCompletions.retrieve_completion_result(id=task.id)).task_status == "PROCESSING":
        time.sleep(0.2)
    assert polled.task_status == "SUCCESS" and polled.choices[0].message.content == text

for wrong, error in (({"model": "no-such-model"}, APIRequestFailedError), ({"messages": []}, APIRequestFailedError)):
    try:
        client.chat.completions.create(**{**ASKED, **wrong})
    except error as refusal:
        assert refusal.status_code == 400
    else:
        raise AssertionError(f"{wrong} was taken")
try:
    Client(api_key="nobody.secret", base_url=f"{root}/api/paas/v4/").chat.completions.create(**ASKED)
except APIAuthenticationError as refusal:
    assert refusal.status_code == 401
else:
    raise AssertionError("a key that nobody made was taken")
print("ok" if task is not None else "ok without tasks")
