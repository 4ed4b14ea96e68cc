"""The server backend against a real HTTP server on loopback that streams as an OpenAI-compatible one does."""

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core.errors import ModelError
from core.llm.backends.openai_compat import OpenAICompatBackend
from core.llm.chat_model import NovelChatModel
from core.llm.models import load_chat_model

pytest.importorskip("langchain_openai")
KEY = "sk-very-secret"


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.pieces, self.delay_s = [], list("常山赵子龙"), 0.0
        self.client_left = threading.Event()
        self.num_sent = 0
        self.breaks_off = False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body, dict(self.headers)))
        if self.headers["Authorization"] != f"Bearer {KEY}":
            return self.refuse(401, "no such key")
        if body["model"] != "good":
            return self.refuse(404, "no such model")
        if body["messages"][-1]["content"] == "too long":
            return self.refuse(400, "maximum context length is 10 tokens")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for piece in self.server.pieces:
                time.sleep(self.server.delay_s)
                self.event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
                self.server.num_sent += 1
            if self.server.breaks_off:
                return self.event({"error": {"message": "out of memory", "code": 500}})
            self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
            usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
            self.event({"choices": [], "usage": usage})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.client_left.set()

    def event(self, data):
        head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "good"}
        self.wfile.write(f"data: {json.dumps({**head, **data})}\n\n".encode())
        self.wfile.flush()

    def refuse(self, status, message):
        body = json.dumps({"error": {"message": message, "code": status}}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def chat(server, model="good", key=KEY):
    return NovelChatModel(backend=OpenAICompatBackend(model, base_url=server.url, api_key=key))


def test_pieces_usage_and_reason_come_from_the_server(server):
    chunks = [chunk for chunk in chat(server).stream("问") if chunk.content or chunk.usage_metadata]
    assert [chunk.content for chunk in chunks] == [*"常山赵子龙", ""]
    assert chunks[-1].usage_metadata == {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}
    assert chunks[-1].response_metadata["finish_reason"] == "length"


def test_settings_and_turns_go_into_the_request(server):
    stops = [*"一二三四五"]
    chat(server).invoke(
        [("system", "规矩"), ("human", "问")], temperature=0.5, max_tokens=9, seed=3, top_k=4, stop=stops
    )
    path, body, _ = server.requests[0]
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "system", "content": "规矩"}, {"role": "user", "content": "问"}]
    sent = {name: body[name] for name in ("model", "stream", "temperature", "max_tokens", "seed", "top_k", "stop")}
    assert sent == {
        "model": "good",
        "stream": True,
        "temperature": 0.5,
        "max_tokens": 9,
        "seed": 3,
        "top_k": 4,
        "stop": stops[:4],
    }


def test_a_stop_string_that_the_server_ignores_is_cut_here(server):
    assert chat(server).invoke("问", stop=["赵子"]).content == "常山"


def test_closing_the_stream_closes_the_connection(server):
    server.pieces, server.delay_s = ["字"] * 2000, 0.002
    stream = chat(server).stream("问")
    for _ in range(3):
        next(stream)
    stream.close()
    assert server.client_left.wait(5)
    assert server.num_sent < 2000


def test_cancelling_a_task_closes_the_connection(server):
    server.pieces, server.delay_s = ["字"] * 2000, 0.002

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(chat(server).ainvoke("问"), 0.5)

    asyncio.run(main())
    assert server.client_left.wait(5)
    assert server.num_sent < 2000


@pytest.mark.parametrize(
    ("model", "key", "question", "words"),
    [
        ("good", "wrong", "问", "refused the key"),
        ("bad", KEY, "问", "knows no model 'bad'"),
        ("good", KEY, "too long", "answered 400: maximum context length"),
    ],
)
def test_refusals_are_one_sentence_without_the_key(server, model, key, question, words):
    with pytest.raises(ModelError, match=words) as refusal:
        chat(server, model, key).invoke(question)
    assert "\n" not in str(refusal.value)
    assert key not in str(refusal.value)


def test_an_error_in_the_middle_of_the_stream_is_told(server):
    server.breaks_off = True
    with pytest.raises(ModelError, match="out of memory"):
        chat(server).invoke("问")


def test_a_server_that_is_not_there_is_named():
    backend = OpenAICompatBackend("good", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:9/v1 cannot be reached"):
        NovelChatModel(backend=backend).invoke("问")


def test_the_key_of_the_environment_is_not_sent(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")
    with pytest.raises(ModelError, match="refused the key"):
        chat(server, key=None).invoke("问")
    assert "sk-of-another-server" not in str(server.requests)


def test_the_key_shows_nowhere(server, tmp_path):
    model = load_chat_model(f"openai:good@{server.url}", cache_dir=tmp_path, api_key=KEY)
    assert model.invoke("问").content == "常山赵子龙"
    assert KEY not in repr(model) + str(model.asdict()) + repr(model.backend)


def test_raw_text_is_refused(server):
    with pytest.raises(ModelError, match="answers dialogues only"):
        chat(server).invoke("续写", raw=True)
