"""zhipuai 1.0.7, unchanged: all four calls. In an environment of its own: python zhipuai_v1.py ROOT_URL KEY MODEL."""

import json
import sys
import time

import zhipuai

root, zhipuai.api_key, MODEL = sys.argv[1:]
zhipuai.model_api_url = f"{root}/api/paas/v3/model-api"
ASKED = {
    "model": MODEL,
    "meta": {
        "user_info": "我是陆星辰，是一个男性，是一位知名导演。",
        "bot_info": "苏梦远，本名苏远心，是一位当红的国内女歌手及演员。",
        "bot_name": "苏梦远",
        "user_name": "陆星辰",
    },
    "prompt": [{"role": "user", "content": "你好，最近在忙什么？"}],
    "temperature": 0.01,
}

told = zhipuai.model_api.invoke(**ASKED)
assert told["code"] == 200 and told["success"] is True, told
assert told["data"]["task_status"] == "SUCCESS"
text = told["data"]["choices"][0]["content"]
assert text.strip() and told["data"]["choices"][0]["role"] == "assistant"
usage = told["data"]["usage"]
assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0

submitted = zhipuai.model_api.async_invoke(**ASKED)
assert submitted["data"]["task_status"] == "PROCESSING" and "choices" not in submitted["data"], submitted
task_id = submitted["data"]["task_id"]
assert isinstance(task_id, str)
while (polled := zhipuai.model_api.query_async_invoke_result(task_id))["data"]["task_status"] == "PROCESSING":
    time.sleep(0.2)
assert polled["data"]["task_status"] == "SUCCESS", polled
assert polled["data"]["choices"][0]["content"] == text, "greedy answers are the same, however they are asked for"
assert zhipuai.model_api.query_async_invoke_result(task_id) == polled, "a result can be read again"

pieces, finishes, ids = [], [], set()
for event in zhipuai.model_api.sse_invoke(**ASKED, incremental=True).events():
    ids.add(event.id)
    if event.event == "add":
        pieces.append(event.data)
    else:
        finishes.append(event)
assert "".join(pieces) == text and all(pieces) and len(ids) == 1
(finish,) = finishes
assert finish.event == "finish" and not finish.data
meta = json.loads(finish.meta)
assert meta["task_status"] == "SUCCESS" and meta["usage"] == usage

whole = [event.data for event in zhipuai.model_api.sse_invoke(**ASKED, incremental=False).events() if event.data]
assert whole[-1] == text and all(text.startswith(said) for said in whole)

(refused,) = zhipuai.model_api.sse_invoke(model=MODEL, prompt=[]).events()
assert refused.event == "error" and json.loads(refused.data)["code"] == 1214, refused.data
assert zhipuai.model_api.invoke(model="no-such-model", prompt=ASKED["prompt"])["code"] == 1211
print("ok")
