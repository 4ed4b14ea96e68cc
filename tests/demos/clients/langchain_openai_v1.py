"""langchain-openai, unchanged. In an environment of its own: python langchain_openai_v1.py ROOT_URL KEY MODEL."""

import asyncio
import sys

from langchain_openai import ChatOpenAI

root, key, MODEL = sys.argv[1:]
model = ChatOpenAI(
    model=MODEL, base_url=f"{root}/api/paas/v4", api_key=key, temperature=0, max_tokens=32, max_retries=0
)
asked = [("system", "你是苏梦远，一位女歌手。"), ("user", "你好，最近在忙什么？")]

told = model.invoke(asked)
assert told.content.strip() and told.usage_metadata["total_tokens"] > 0
whole = None
for chunk in model.stream(asked, stream_usage=True):
    whole = chunk if whole is None else whole + chunk
assert whole.content == told.content
assert whole.usage_metadata["total_tokens"] == told.usage_metadata["total_tokens"]


async def in_a_loop():
    answers = await asyncio.gather(*(model.ainvoke(asked) for _ in range(3)))
    assert {answer.content for answer in answers} == {told.content}
    assert "".join([chunk.content async for chunk in model.astream(asked)]) == told.content


asyncio.run(in_a_loop())
assert len(model.batch([asked, asked])) == 2
print("ok")
