"""The streams over HTTP: a real server on loopback, real clients, and connections that break."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing

import httpx
import pytest

from core.data.reading import novel_from_bytes
from core.llm.backends.scripted import ScriptedBackend
from demos.api.event_models import EVENT_MODELS
from tests.demos.web_server import ScriptedServices, served

BOOK = "\n".join(
    f"第{number}回　{title}\n　　{text}\n"
    for number, title, text in (
        ("一", "渡口", "沈砚在渡口拾到一枚铜钱，铜钱上刻着北斗。船家姓罗，说这枚钱是二十年前沉船上的。" * 6),
        ("二", "客栈", "客栈的掌柜藏起了账本，账本写着失踪者的名字。沈砚夜里翻墙进了库房。" * 6),
        ("三", "山门", "山门前的石狮少了一只眼睛，秘密叫天枢。沈砚把铜钱放进眼眶，山门开了。" * 6),
    )
)
ANSWER = "沈砚在渡口拾到一枚铜钱。"
SLOW = "山路上的风吹来，" * 200


class Service:
    """A server with one small book, and the backend that speaks."""

    def __init__(self, home, backend):
        self.backend = backend
        self.services = ScriptedServices(home, backend)
        self.book = self.services.library.add(novel_from_bytes(BOOK.encode(), name="渡口.txt", title="渡口")).info.id


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    service = Service(tmp_path_factory.mktemp("quick"), ScriptedBackend(ANSWER))
    with served(service.services) as service.url:
        yield service


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    service = Service(tmp_path_factory.mktemp("slow"), ScriptedBackend(SLOW, delay_s=0.01))
    with served(service.services) as service.url:
        yield service


def parsed(lines):
    """(id, event, data) of each server-sent event, by the rules of the standard; comments are passed over."""
    fields = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield fields["id"], fields["event"], json.loads(fields["data"])
            fields = {}


def post(service, path, body, **options):
    return httpx.post(f"{service.url}stream/{path}", json=body, timeout=30, **options)


def events_of(service, path, body, **options):
    answer = post(service, path, body, **options)
    assert answer.status_code == 200, answer.text
    return list(parsed(answer.text.split("\n")))


BODIES = {
    "ask": {"book": "渡口", "question": "沈砚在渡口拾到了什么？"},
    "summarize": {"book": "渡口", "first": 1, "last": 2},
    "chat": {"messages": [{"role": "user", "content": "你好"}]},
}


@pytest.mark.parametrize("path", BODIES)
def test_a_stream_is_numbered_has_one_end_and_keeps_to_the_published_schemas(path, quick):
    events = events_of(quick, path, BODIES[path])
    names = [event for _, event, _ in events]
    assert sum(name in ("done", "error", "stopped") for name in names) == 1 and names[-1] == "done"
    stream = events[0][0].rpartition(":")[0]
    assert [event_id for event_id, _, _ in events] == [f"{stream}:{n}" for n in range(1, len(events) + 1)]
    for _, name, data in events:
        EVENT_MODELS[name].model_validate(data)
    pieces = "".join(data["text"] for _, name, data in events if name == "token" and "chapter" not in data)
    assert pieces and pieces == events[-1][2]["text"]


def test_the_headers_let_no_proxy_hold_pieces_back(quick):
    answer = post(quick, "chat", BODIES["chat"])
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no" and answer.headers["cache-control"] == "no-cache"


def test_the_answer_cites_what_stands_in_the_book_and_nothing_beyond_the_bookmark(quick):
    events = events_of(quick, "ask", {**BODIES["ask"], "until": 1})
    text = quick.services.library.open(quick.book).text
    cited = [data for _, name, data in events if name == "citation"]
    assert cited and all(text[one["start"] : one["end"]] == one["quote"] for one in cited)
    (evidence,) = (data for _, name, data in events if name == "evidence")
    assert {passage["chapter"] for passage in evidence["passages"]} == {1}


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("ask", {"book": "没有", "question": "谁？"}, 404, "没有"),
        ("ask", {"book": "渡口", "question": "  "}, 422, "question"),
        ("ask", {"book": "渡口", "question": "谁？", "untill": 1}, 422, "untill"),
        ("ask", {"book": "渡口", "question": "谁？", "model": "/etc/passwd"}, 404, "there are scripted:test"),
        ("ask", {"book": "渡口", "question": "谁" * 5000}, 422, "4000"),
        ("summarize", {"book": "渡口", "first": 3, "last": 1}, 422, "backwards"),
        ("summarize", {"book": "渡口", "mode": "person"}, 422, "name"),
        ("chat", {"messages": []}, 422, "messages"),
        ("chat", {"messages": [{"role": "assistant", "content": "好"}]}, 422, "user's"),
        ("chat", {"messages": [{"role": "user", "content": "好"}], "temperature": 9}, 422, "temperature"),
    ],
)
def test_a_request_that_cannot_be_served_gets_one_sentence(path, body, status, said, quick):
    answer = post(quick, path, body)
    assert answer.status_code == status
    assert list(answer.json()) == ["message"] and said in answer.json()["message"]


def test_a_body_without_end_is_refused_however_it_is_sent(quick):
    def chunks():
        for _ in range(100):
            yield b" " * 100_000

    whole = post(quick, "chat", {"messages": [{"role": "user", "content": "x" * 3_000_000}]})
    piecewise = httpx.post(
        f"{quick.url}stream/chat", content=chunks(), headers={"content-type": "application/json"}, timeout=30
    )
    for answer in (whole, piecewise):
        assert answer.status_code == 413 and "bytes" in answer.json()["message"]


def read_some(service, body, count, headers=()):
    """The first events of a stream whose connection is then cut."""
    with (
        httpx.Client(timeout=30) as client,
        client.stream("POST", f"{service.url}stream/chat", json=body, headers=dict(headers)) as answer,
        closing(parsed(answer.iter_lines())) as events,
    ):
        return [next(events) for _ in range(count)]


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_reader_who_comes_back_misses_nothing_and_gets_nothing_twice(slow):
    body = {**BODIES["chat"], "max_tokens": 80}
    whole = "".join(data["text"] for _, name, data in events_of(slow, "chat", body) if name == "token")
    first = read_some(slow, body, 20)
    second = read_some(slow, body, 15, {"Last-Event-ID": first[-1][0]}.items())
    third = events_of(slow, "chat", body, headers={"Last-Event-ID": second[-1][0]})
    events = [*first, *second, *third]
    stream = first[0][0].rpartition(":")[0]
    assert [event_id for event_id, _, _ in events] == [f"{stream}:{n}" for n in range(1, len(events) + 1)]
    assert "".join(data["text"] for _, name, data in events if name == "token") == whole
    again = events_of(slow, "chat", body, headers={"Last-Event-ID": events[-3][0]})
    assert again == events[-2:], "an end that was lost on the way is sent again"


def test_only_the_same_request_goes_on_and_only_while_it_is_kept(slow):
    body = {**BODIES["chat"], "max_tokens": 30}
    (first,) = read_some(slow, body, 1)
    other = {**body, "messages": [{"role": "user", "content": "别的"}]}
    for sent, name in ((other, first[0]), (body, "nobody:3"), (body, "???"), (body, first[0] + "99999")):
        answer = post(slow, "chat", sent, headers={"Last-Event-ID": name})
        assert answer.status_code == 410 and "Last-Event-ID" in answer.json()["message"]


def test_a_closed_socket_stops_the_model_within_a_token_every_time(slow):
    body = json.dumps(BODIES["chat"]).encode()
    head = (
        "POST /stream/chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    host, port = slow.url.split("/")[2].split(":")
    backend = slow.backend
    for trial in range(25):
        ended = backend.streams_ended
        with socket.create_connection((host, int(port))) as line:
            line.sendall(head + body)
            seen = b""
            while seen.count(b"event: token") < 1 + trial % 3:
                seen += line.recv(4096)
            made = backend.pieces_made
        wait_for(lambda ended=ended: backend.streams_ended > ended)
        # One token may be under way, and one may have been made between the count and the close.
        assert backend.pieces_made - made <= 2
        left = backend.pieces_made
        time.sleep(0.02)
        assert backend.pieces_made == left


def test_the_page_about_the_interface_knows_every_event_and_asks_no_other_host(quick):
    described = httpx.get(f"{quick.url}openapi.json").json()
    for path in BODIES:
        content = described["paths"][f"/stream/{path}"]["post"]["responses"]["200"]["content"]["text/event-stream"]
        kinds = {one["properties"]["event"]["const"] for one in content["itemSchema"]["oneOf"]}
        assert kinds == set(EVENT_MODELS)
        for one in content["itemSchema"]["oneOf"]:
            name = one["properties"]["data"]["contentSchema"]["$ref"].rpartition("/")[2]
            assert name in described["components"]["schemas"]
    page = httpx.get(f"{quick.url}docs").text
    assert "swagger-ui" in page and "https://" not in page
