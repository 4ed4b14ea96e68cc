"""The character service over HTTP: a real server on loopback, real sockets, and a model that says what it is told."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing

import httpx
import jwt
import pytest

from core.llm.backends.scripted import ScriptedBackend
from demos.api.answer_models import ModelList, V3Refusal, V3Success, V4Completion, V4Refusal
from demos.api.service import ApiSettings
from tests.demos.api_server import ANSWER, ASKED, LONG, META, V3, V4, api_served, events_of, signed, v3, v4


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with api_served(tmp_path_factory.mktemp("api"), ScriptedBackend(ANSWER)) as served:
        yield served


@pytest.fixture
def slow(tmp_path):
    with api_served(tmp_path, ScriptedBackend(LONG, delay_s=0.01), ApiSettings(queue=2)) as served:
        yield served


# Who calls ----------------------------------------------------------------------------------------------------------


def test_four_spellings_of_an_authorization_are_taken_on_both_generations(api):
    token = signed(api.key)
    for spelling in (token, f"Bearer {token}", f"bearer  {api.key}", api.key):
        assert v3(api, Authorization=spelling).json()["success"] is True
        assert v4(api, Authorization=spelling).status_code == 200


def bad_authorizations(api):
    now = time.time() * 1000
    key_id, secret = api.key.split(".")
    other = "x" * 43
    none = jwt.encode({"api_key": key_id, "exp": now + 60_000}, None, algorithm="none")
    return {
        "": "1001",
        "Bearer": "1002",
        "Bearer x": "1002",
        "Bearer a.b.c.d": "1002",
        "a.b.c": "1002",
        f"Bearer {key_id}.{other}": "1002",
        f"Bearer {key_id}.": "1002",
        f"Bearer {'0' * 32}.{secret}": "1002",
        none: "1002",
        none + "x": "1002",
        signed(api.key, algorithm="HS384"): "1002",
        signed(api.key, algorithm="HS512"): "1002",
        signed(f"{key_id}.{other}"): "1004",
        signed(f"{'0' * 32}.{secret}"): "1004",
        signed(api.key)[:-4] + "AAAA": "1004",
        signed(api.key, exp=now - 120_000): "1003",
        signed(api.key, exp=now / 1000 + 60): "1003",  # seconds are long past, counted in milliseconds
        signed(api.key, exp=...): "1002",
        signed(api.key, exp="soon"): "1002",
        signed(api.key, exp=True): "1002",
        signed(api.key, api_key=None): "1004",
        signed(api.key, api_key=["x"]): "1004",
        f"Bearer {'A' * 10_000}.{secret}": "1002",
        "Basic dXNlcjpwYXNz": "1002",
    }


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_every_bad_authorization_is_refused_by_its_code_and_tells_nothing(api):
    for given, code in bad_authorizations(api).items():
        for url, body in ((api.v4, V4), (api.v3("invoke"), V3), (api.v3("sse-invoke"), V3)):
            refused = httpx.post(url, json=body, headers={"Authorization": given} if given else {}, timeout=30)
            told = refused.json()
            assert refused.status_code == 401, (given, refused.text)
            assert str(told["error"]["code"] if "error" in told else told["code"]) == code, (given, refused.text)
            assert api.key.split(".")[1] not in refused.text
    unknown = v4(api, Authorization=f"{'0' * 32}.{'y' * 43}").json()
    assert unknown == v4(api, Authorization=f"{api.key.split('.')[0]}.{'y' * 43}").json(), (
        "id or secret: it is not said"
    )


def test_a_token_without_sign_type_and_with_long_life_is_taken(api):
    token = signed(api.key, headers={"alg": "HS256"}, exp=time.time() * 1000 + 86_400_000)
    assert v4(api, Authorization=token).status_code == 200


def test_a_revoked_key_is_refused_at_once_and_keys_are_never_stored(api):
    made = api.service.keys.create("short-lived")
    assert v4(api, Authorization=made.key).status_code == 200
    api.service.keys.revoke(made.info.id)
    assert v4(api, Authorization=made.key).status_code == 401
    assert v4(api, Authorization=signed(made.key)).status_code == 401
    folder = api.service._database.path.parent
    stored = b"".join(path.read_bytes() for path in folder.iterdir())
    assert made.key.split(".")[1].encode() not in stored and made.info.id.encode() in stored
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("*.s*"))


def test_without_any_key_only_this_machine_and_no_web_page_is_served(tmp_path):
    with api_served(tmp_path, ScriptedBackend(ANSWER)) as api:
        api.service._database.write("DELETE FROM keys")
        assert httpx.post(api.v4, json=V4).status_code == 200
        assert httpx.post(api.v4, json=V4, headers={"Host": "evil.example:80"}).status_code == 401
        assert httpx.post(api.v4, json=V4, headers={"Origin": "https://evil.example"}).status_code == 401


# Answers ------------------------------------------------------------------------------------------------------------


def test_the_older_interface_answers_in_its_envelope(api):
    told = v3(api, body={**V3, "request_id": "r-1", "temperature": None, "ref": {"enable": True}}).json()
    V3Success.model_validate(told)
    data = told["data"]
    assert (told["code"], data["request_id"], data["task_status"]) == (200, "r-1", "SUCCESS")
    assert data["choices"] == [{"role": "assistant", "content": ANSWER}] and isinstance(data["task_id"], str)
    prompt, sampling = api.backend.calls[-1]
    assert (sampling.temperature, sampling.top_p) == (0.95, 0.7)
    assert data["usage"]["prompt_tokens"] == api.backend.count_tokens(prompt)
    for part in (*META.values(), "你好"):
        assert any(part in turn.content for turn in prompt), "persona and history reach the model"


def test_the_newer_interface_answers_as_openai_does_and_without_a_persona_passes_messages_on(api):
    messages = [{"role": "system", "content": "说短些。"}, *ASKED]
    told = v4(
        api, {**V4, "messages": messages, "stop": "Nice", "seed": 7, "tools": [], "thinking": {"type": "x"}}
    ).json()
    V4Completion.model_validate(told)
    assert told["choices"][0]["message"]["content"] == ANSWER.split("Nice")[0]
    assert told["choices"][0]["finish_reason"] == "stop" and abs(told["created"] - time.time()) < 60
    prompt, sampling = api.backend.calls[-1]
    assert [(turn.role, turn.content) for turn in prompt] == [("system", "说短些。"), ("user", "你好")]
    assert sampling.seed == 7 and sampling.stop == ("Nice",)
    assert v4(api, {**V4, "max_tokens": 3}).json()["choices"][0] == {
        "index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": ANSWER[:3]},
    }  # fmt: skip


@pytest.mark.parametrize("changed", [{"temperature": 0}, {"temperature": 0.01}, {"do_sample": False}])
def test_near_greedy_sampling_is_greedy(api, changed):
    assert v4(api, {**V4, **changed}).status_code == 200
    assert api.backend.calls[-1][1].temperature == 0


def test_a_stream_of_the_older_interface_is_the_whole_answer_in_events(api):
    response = v3(api, "sse-invoke", {**V3, "request_id": "r-2", "incremental": "true"})
    assert response.headers["content-type"] == "text/event-stream;charset=UTF-8"
    events = [event.split("\n") for event in response.text.strip("\n").split("\n\n")]
    added = [event[2:] for event in events if event[1] == "event:add"]
    said = ["\n".join(line.removeprefix("data:").removeprefix(" ") for line in lines) for lines in added]
    assert "".join(said) == ANSWER
    (last,) = [event for event in events if event[1] != "event:add"]
    assert last[1:3] == ["event:finish", "data:"]
    meta = json.loads(last[3].removeprefix("meta:"))
    assert meta["task_id"] == last[0].removeprefix("id:") and meta["request_id"] == "r-2"
    assert len({event[0] for event in events}) == 1
    whole = v3(api, "sse-invoke", {**V3, "incremental": False}).text
    said = ["\n".join(line[5:] for line in one.split("\n")[2:]) for one in whole.split("\n\n") if "event:add" in one]
    assert said[-1] == ANSWER and all(ANSWER.startswith(one) for one in said)


def test_a_stream_of_the_newer_interface_joins_to_the_whole_answer(api):
    response = v4(api, {**V4, "stream": True})
    told = events_of(response.text)
    assert "".join(one["choices"][0]["delta"]["content"] for one in told) == ANSWER
    assert response.text.endswith("data: [DONE]\n\n") and "x-request-id" in response.headers


def test_models_are_listed_as_openai_lists_them(api):
    for base in ("/v1", "/api/paas/v4"):
        listed = httpx.get(f"{api.url}{base}/models", headers=api.bearer).json()
        ModelList.model_validate(listed)
        assert {"charglm-3", "charglm-4", "characterglm"} <= {model["id"] for model in listed["data"]}
    assert httpx.get(f"{api.url}/v1/models/charglm-3", headers=api.bearer).json()["id"] == "charglm-3"


# Refusals -----------------------------------------------------------------------------------------------------------

REFUSED = [
    (b"", 1210), (b"{", 1210), (b"[]", 1210), (b'"x"', 1210), (b"\xff\xfe{", 1210), (b"[" * 100_000, 1210),
    (b'{"prompt": ' + b"[" * 500 + b"]" * 500 + b"}", 1210), (b"1" * 5000, 1210),
    ({}, 1213), ({"prompt": None}, 1213), ({"prompt": []}, 1214), ({"prompt": "hi"}, 1214),
    ({"prompt": [{"role": "robot", "content": "x"}]}, 1214), ({"prompt": [{"role": "user"}]}, 1213),
    ({"prompt": [{"role": "user", "content": ""}]}, 1214), ({"prompt": [{"role": "user", "content": 5}]}, 1214),
    ({"prompt": [{"role": "assistant", "content": "x"}]}, 1214), ({"prompt": ASKED * 1001}, 1214),
    ({"prompt": [{"role": "user", "content": "x" * 500_000}]}, 1261),
    ({**V3, "meta": {"bot_name": "x"}}, 1213), ({**V3, "meta": {"bot_info": "x"}}, 1213), ({**V3, "meta": 5}, 1214),
    ({**V3, "meta": {"bot_name": " ", "bot_info": ""}}, 1214),
    ({**V3, "temperature": 1.5}, 1214), ({**V3, "temperature": -1}, 1214), ({**V3, "temperature": "hot"}, 1214),
    (b'{"prompt": [{"role": "user", "content": "x"}], "temperature": NaN}', 1214),
    (b'{"prompt": [{"role": "user", "content": "x"}], "top_p": Infinity}', 1214),
    ({**V3, "top_p": 0}, 1214), ({**V3, "return_type": "xml"}, 1214), ({**V3, "request_id": "x" * 500}, 1214),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code"), REFUSED)
def test_a_bad_body_is_refused_with_200_and_a_code_in_the_older_interface(api, body, code):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    for way in ("invoke", "async-invoke"):
        refused = httpx.post(api.v3(way), content=data, headers=api.bearer)
        V3Refusal.model_validate(refused.json())
        assert (refused.status_code, refused.json()["code"]) == (200, code), refused.text
    streamed = httpx.post(api.v3("sse-invoke"), content=data, headers=api.bearer)
    assert streamed.status_code == 200 and streamed.headers["content-type"].startswith("text/event-stream")
    lines = streamed.text.split("\n")
    assert lines[1] == "event:error" and json.loads(lines[2].removeprefix("data:"))["code"] == code
    assert len(streamed.text) < 2000, "nothing of the request is echoed"


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"model": "no-such"}, 400, "1211"), ({"model": ...}, 400, "1213"), ({"messages": ...}, 400, "1213"),
        ({"messages": []}, 400, "1214"), ({"messages": [{"role": "system", "content": "x"}]}, 400, "1214"),
        ({"temperature": 2.5}, 400, "1214"), ({"max_tokens": 0}, 400, "1214"), ({"max_tokens": 1.5}, 400, "1214"),
        ({"n": 2}, 400, "1214"), ({"stop": [""]}, 400, "1214"), ({"stop": ["x"] * 17}, 400, "1214"),
        ({"stream": "yes"}, 400, "1214"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "1214"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_bad_body_is_refused_by_a_status_in_the_newer_interface(api, changed, status, code, is_streamed):
    body = {**V4, "stream": is_streamed, **changed}
    refused = v4(api, {name: value for name, value in body.items() if value is not ...})
    V4Refusal.model_validate(refused.json())
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code), refused.text


def test_a_body_too_large_is_refused_and_its_client_gets_to_read_why(api):
    large = json.dumps({**V4, "messages": [{"role": "user", "content": "x" * 10_000_000}]}).encode()
    refused = httpx.post(api.v4, content=large, headers=api.bearer)
    assert refused.status_code == 413 and refused.json()["error"]["code"] == "1210"
    chunked = httpx.post(api.v4, content=(b"x" * 100_000 for _ in range(50)), headers=api.bearer)
    assert chunked.status_code == 413
    assert httpx.post(api.v3("invoke"), content=large, headers=api.bearer).json()["code"] == 1210


def test_a_body_that_does_not_arrive_is_given_up(api, monkeypatch):
    monkeypatch.setattr("demos.api.reading_bodies.PATIENCE_S", 0.3)
    host, port = api.url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=10)) as connection:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: {api.key}\r\nContent-Length: 99\r\n\r\n"
        )
        connection.sendall(head.encode() + b'{"model"')
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_what_no_file_can_hold_is_replaced_at_the_door(api):
    body = b'{"prompt": [{"role": "user", "content": "a\\ud83d\\u0000\\u2028b"}], "request_id": "\\udc00"}'
    told = httpx.post(api.v3("invoke"), content=body, headers=api.bearer).json()
    assert told["success"] and told["data"]["request_id"] == "\ufffd"
    assert "a\ufffd\ufffd\u2028b" in [turn.content for turn in api.backend.calls[-1][0]]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/paas/v4/nothing", 404), ("GET", "/api/paas/v4/chat/completions", 405), ("PUT", "/v1/models", 405),
        ("POST", "/api/paas/v3/model-api/x/shout", 404), ("GET", "/api/paas/v3/model-api/x/invoke", 405),
        ("GET", "/api/paas/v4/async-result/%2e%2e%2fx", 404),
        ("GET", "/v1/%00", 404), ("GET", "/v1/models/%ff%fe", 400),
    ],
)  # fmt: skip
def test_an_unknown_path_or_method_is_told_in_the_form_of_its_interface(api, method, path, status):
    told = httpx.request(method, api.url + path, headers=api.bearer)
    assert told.status_code == status, told.text
    body = told.json()
    assert body.get("success") is False if "/v3/" in path else "error" in body
