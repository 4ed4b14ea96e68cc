"""The character service at work: tasks, many clients at once, and what those who run it see."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import closing

import httpx
import pytest

from core.llm.backends.scripted import ScriptedBackend
from demos.api import event_stream
from demos.api.answer_models import V4TaskState
from demos.api.answers import Answer
from demos.api.calls import call_of_v4
from demos.api.database import open_database
from demos.api.faults import ApiFault
from demos.api.gate import Gate
from demos.api.persona_bodies import V4Body
from demos.api.service import ApiSettings
from demos.api.tasks import TaskStore
from tests.demos.api_server import ANSWER, LONG, V3, V4, api_served, events_of, signed, v3, v4, wait_for


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with api_served(tmp_path_factory.mktemp("api"), ScriptedBackend(ANSWER)) as served:
        yield served


@pytest.fixture
def slow(tmp_path):
    with api_served(tmp_path, ScriptedBackend(LONG, delay_s=0.01), ApiSettings(queue=2)) as served:
        yield served


# Tasks --------------------------------------------------------------------------------------------------------------


def finished(api, task_id, key=None):
    headers = {"Authorization": key or api.key}
    wait_for(
        lambda: (
            httpx.get(api.v3(f"async-invoke/{task_id}", "-"), headers=headers).json()["data"]["task_status"]
            != "PROCESSING"
        ),
        "the task did not end",
    )
    return httpx.get(api.v3(f"async-invoke/{task_id}", "-"), headers=headers).json()


def test_a_task_is_submitted_polled_and_read_again_by_its_owner_alone(api):
    submitted = v3(api, "async-invoke", {**V3, "request_id": "mine"}).json()
    data = submitted["data"]
    assert data.keys() == {"request_id", "task_id", "task_status"} and data["task_status"] == "PROCESSING"
    told = finished(api, data["task_id"])
    assert told["data"]["choices"][0]["content"] == ANSWER and told == finished(api, data["task_id"])
    newer = httpx.get(f"{api.url}/api/paas/v4/async-result/{data['task_id']}", headers=api.bearer).json()
    V4TaskState.model_validate(newer)
    assert newer["task_status"] == "SUCCESS" and newer["choices"][0]["message"]["content"] == ANSWER
    for task_id in (data["task_id"], "0" * 38):
        stranger = httpx.get(api.v3(f"async-invoke/{task_id}"), headers={"Authorization": api.other})
        assert stranger.json() == {"code": 1222, "msg": "任务不存在 / no task has that id", "success": False}
        refused = httpx.delete(f"{api.url}/api/paas/v4/async-result/{task_id}", headers={"Authorization": api.other})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "1222")


def test_a_task_of_the_newer_interface_hides_what_is_not_there_yet(slow):
    told = httpx.post(f"{slow.url}/api/paas/v4/async/chat/completions", json=V4, headers=slow.bearer).json()
    assert told.keys() == {"id", "request_id", "model", "task_status"} and told["task_status"] == "PROCESSING"


def test_cancelling_a_task_stops_the_model_and_ends_as_a_failure(slow):
    task_id = v3(slow, "async-invoke").json()["data"]["task_id"]
    wait_for(lambda: slow.backend.pieces_made > 3, "the task did not begin")
    told = httpx.delete(slow.v3(f"async-invoke/{task_id}"), headers=slow.bearer).json()
    assert told["data"]["task_status"] == "FAIL" and "cancelled" in told["data"]["fail_reason"]
    wait_for(lambda: slow.backend.streams_ended == 1, "the model was not stopped")
    assert slow.backend.pieces_made < 400
    assert finished(slow, task_id)["data"]["task_status"] == "FAIL"


def test_the_same_idempotency_key_gives_the_first_answer_and_another_call_is_refused(api):
    asked = len(api.backend.calls)
    first = v4(api, **{"Idempotency-Key": "k"})
    again = v4(api, **{"Idempotency-Key": "k"})
    assert first.json()["choices"] == again.json()["choices"] and again.headers["idempotency-replayed"] == "true"
    assert len(api.backend.calls) == asked + 1
    assert (
        "".join(
            one["choices"][0]["delta"]["content"]
            for one in events_of(v4(api, {**V4, "stream": True}, **{"Idempotency-Key": "k"}).text)
        )
        == ANSWER
        and len(api.backend.calls) == asked + 1
    )
    assert v4(api, {**V4, "max_tokens": 5}, **{"Idempotency-Key": "k"}).status_code == 409
    assert v4(api, **{"Idempotency-Key": "k", "Authorization": api.other}).status_code == 200, "keys are an owner's own"
    tasks = {v3(api, "async-invoke", **{"Idempotency-Key": "t"}).json()["data"]["task_id"] for _ in range(3)}
    assert len(tasks) == 1
    assert v3(api, **{"Idempotency-Key": "x" * 300}).json()["code"] == 1214


def test_a_task_that_two_servers_died_over_fails_and_old_results_go(tmp_path):
    with closing(open_database(tmp_path / "db")) as database:
        store = TaskStore(database, most_open=2)
        call = call_of_v4(V4Body.model_validate(V4), "me")
        first, second = store.submit(call), store.submit(call)
        with pytest.raises(ApiFault) as full:
            store.submit(call)
        assert full.value.code == 1302
        assert store.claim("").id == first.id, "first come, first served"
        assert store.recover() == (1, 0) and store.get(first.id, "me").status == "PROCESSING"
        assert store.claim("").id == first.id
        assert store.recover() == (0, 1)
        assert store.get(first.id, "me").status == "FAIL" and "ended twice" in store.get(first.id, "me").failure
        task = store.claim("")
        assert task.id == second.id and task.call == call
        assert store.finish(task, Answer("好", "stop", 1, 1)) and not store.finish(task, Answer("二", "stop", 1, 1))
        assert store.get(second.id, "me").answer.text == "好"
        assert store.forget_older_than(3600) == 0
        assert store.forget_older_than(-1) == 2


# Load ---------------------------------------------------------------------------------------------------------------


def opened_stream(api, body=None, key=None):
    """A socket that has sent a request for a stream, and has read nothing yet."""
    data = json.dumps({**V4, "stream": True, **(body or {})}).encode()
    host, port = api.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key or api.key}\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    connection.sendall(head.encode() + data)
    return connection


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_client_that_leaves_stops_the_model_and_frees_its_place(slow, is_streamed):
    with closing(opened_stream(slow, {"stream": is_streamed})):
        wait_for(lambda: slow.backend.pieces_made > 3, "the answer did not begin")
    wait_for(lambda: slow.backend.streams_ended == 1, "the model was not stopped")
    assert slow.backend.pieces_made < 200
    wait_for(lambda: slow.service.answering.gate.running == 0, "the place was not freed")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_queue_is_refused_with_a_time_to_come_back_and_other_keys_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr("demos.api.service.SCRIPT_SLOTS", 1)
    monkeypatch.setattr(event_stream, "KEEP_ALIVE_S", 0.2)
    backend = ScriptedBackend(LONG, delay_s=0.01)
    with api_served(tmp_path, backend, ApiSettings(queue=2)) as api:
        streams = [opened_stream(api) for _ in range(3)]
        wait_for(lambda: api.service.answering.gate.waiting == 2, "two did not wait")
        for refused, code in ((v4(api), "1302"), (v4(api, {**V4, "stream": True}), "1302")):
            assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["code"] == code
        assert v3(api).json()["code"] == 1302
        streams.append(opened_stream(api, key=api.other))
        wait_for(lambda: api.service.answering.gate.waiting == 3, "another key could not wait")
        silent = b""
        while b": keep-alive\n\n" not in silent:
            silent += streams[1].recv(4096)
        assert b"data:" not in silent, "it is told that it waits, before the first token"
        for stream in streams:
            stream.close()
        wait_for(lambda: api.service.answering.gate.waiting == api.service.answering.gate.running == 0, "places leaked")


def test_twenty_streams_at_once_are_neither_lost_nor_mixed(tmp_path):
    backend = ScriptedBackend(lambda prompt: f"{prompt[-1].content}。" * 20)
    with api_served(tmp_path, backend) as api:

        async def one(client, number):
            body = {**V4, "messages": [{"role": "user", "content": f"第{number}人"}], "stream": True}
            response = await client.post(api.v4, json=body, headers=api.bearer)
            return "".join(one["choices"][0]["delta"]["content"] for one in events_of(response.text))

        async def all_of_them():
            async with httpx.AsyncClient(timeout=60) as client:
                return await asyncio.gather(*(one(client, number) for number in range(20)))

        assert asyncio.run(all_of_them()) == [f"第{number}人。" * 20 for number in range(20)]


def test_one_request_id_is_at_work_once_at_a_time(slow):
    with closing(opened_stream(slow, {"request_id": "same"})):
        wait_for(lambda: slow.backend.pieces_made > 1, "the answer did not begin")
        refused = v4(slow, {**V4, "request_id": "same"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "1231")


def test_a_rate_is_kept_for_each_key(tmp_path):
    with api_served(tmp_path, ScriptedBackend("好"), ApiSettings(rate="3/minute")) as api:
        assert [v4(api).status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = v4(api)
        assert refused.json()["error"]["code"] == "1303" and 1 <= int(refused.headers["retry-after"]) <= 60
        assert v4(api, Authorization=api.other).status_code == 200


async def test_turns_go_round_between_owners_and_first_come_within_one():
    gate, order = Gate(slots=1, most_waiting=10), []

    async def call(owner, number):
        async with gate.slot(owner):
            order.append((owner, number))
            await asyncio.sleep(0)

    async with gate.slot("x"):
        waiting = [asyncio.create_task(call("a", number)) for number in range(3)]
        waiting += [asyncio.create_task(call("b", number)) for number in range(2)]
        await asyncio.sleep(0)
        gone = asyncio.create_task(call("a", 9))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    await asyncio.gather(*waiting)
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)]
    assert gate.running == gate.waiting == 0
    gate.close()
    with pytest.raises(ApiFault):
        async with gate.slot("a"):
            pass


# Operations ---------------------------------------------------------------------------------------------------------


def test_health_readiness_and_metrics_are_there(api):
    v4(api)
    assert httpx.get(f"{api.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{api.url}/readyz").status_code == 200
    numbers = httpx.get(f"{api.url}/metrics").text
    for name in (
        "queue_length",
        "completion_tokens_total",
        "first_token_seconds_bucket",
        "requests_total",
        "tasks_open",
    ):
        assert f"novelscope_{name}" in numbers
    assert 'route="/api/paas/v4/chat/completions"' in numbers


def test_logs_hold_ids_and_neither_secrets_nor_what_was_said(api, caplog):
    caplog.set_level("INFO", "novelscope")
    token = signed(api.key)
    v4(api, {**V4, "messages": [{"role": "user", "content": "一件私事"}]}, Authorization=token)
    wait_for(lambda: [record for record in caplog.records if record.message == "request"], "nothing was logged")
    from demos.api.operations import JsonLines

    lines = "\n".join(JsonLines().format(record) for record in caplog.records)
    assert api.key.split(".")[0] in lines and '"completion_tokens"' in lines
    for secret in (token, api.key.split(".")[1], "一件私事", json.dumps("一件私事")[1:-1], ANSWER[:4]):
        assert secret not in lines


def test_an_error_of_ours_is_a_mark_that_the_log_explains(tmp_path, caplog):
    def breaks(prompt):
        raise RuntimeError("at /secret/place")

    with api_served(tmp_path, ScriptedBackend(breaks)) as api:
        told = v4(api)
        assert (told.status_code, told.json()["error"]["code"]) == (500, "500") and "secret" not in told.text
        streamed = v4(api, {**V4, "stream": True}).text
        assert json.loads(streamed.split("\n")[0][6:])["error"]["code"] == "500" and streamed.endswith("[DONE]\n\n")
        assert v3(api).json()["code"] == 500
        assert "event:error" in v3(api, "sse-invoke").text
    mark = told.json()["error"]["message"].split("（")[1].split("）")[0]
    assert mark in caplog.text
