"""Questions and conversations through the command line, with a scripted model and with a slow server."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core.retrieval.locks import held_lock
from tests.demos.cli_runner import novelscope, start, write_novel
from tests.support import make_novel

LANTERN = "丙字灯藏在丙谷的石桥底下。"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A library with one book that has no vectors and gets none."""
    folder = tmp_path_factory.mktemp("talk")
    with held_lock(folder / "home" / "vectors.lock", "the web demo"):
        path = write_novel(folder / "book.txt", num_chapters=8)
        assert novelscope(folder / "home", "add", str(path), "--title", "山中记").returncode == 0
        yield folder / "home"


def test_an_answer_is_printed_with_the_sentence_it_rests_on(home):
    done = novelscope(home, "ask", "山中记", "丙字灯藏在哪里？", "--model", f"scripted:{LANTERN}")
    assert done.returncode == 0
    answer, citation = done.stdout.splitlines()
    assert answer == LANTERN and citation.startswith("[1] 第3章 丙谷：“丙字灯藏在丙谷")
    assert "证据" in done.stderr and "by words" in done.stderr


def test_json_holds_the_answer_and_citations_that_are_the_books_text(home):
    text = make_novel(num_chapters=8).text
    done = novelscope(home, "ask", "山中记", "丙字灯藏在哪里？", "--json", "--model", f"scripted:{LANTERN}")
    result = json.loads(done.stdout)
    assert done.returncode == 0 and set(result) == {"answer", "citations", "found", "usage"}
    assert result["answer"] == LANTERN and result["found"] is True and result["usage"]["output_tokens"] > 0
    assert [set(citation) for citation in result["citations"]] == [{"chapter", "start", "end", "quote"}]
    for citation in result["citations"]:
        assert text[citation["start"] : citation["end"]] == citation["quote"]


@pytest.mark.parametrize(
    ("question", "answer"), [("丙字灯藏在哪里？", "书中没有提到。"), ("航天飞机何时发射？", "明天发射。")]
)
def test_what_the_book_does_not_say_is_3(question, answer, home):
    done = novelscope(home, "ask", "山中记", question, "--json", "--model", f"scripted:{answer}")
    result = json.loads(done.stdout)
    assert done.returncode == 3 and result["found"] is False and result["citations"] == []
    shown = novelscope(home, "ask", "山中记", question, "--model", f"scripted:{answer}")
    assert shown.returncode == 3 and "书中" in shown.stdout


def test_nothing_beyond_the_bookmark_is_found_or_told(home):
    found = json.loads(novelscope(home, "search", "山中记", "庚字灯藏在哪里？", "--until", "2", "--json").stdout)
    assert found["results"] and all(result["chapter"] <= 2 for result in found["results"])
    asked = ("ask", "山中记", "丙字灯藏在哪里？", "--model", f"scripted:{LANTERN}", "--json")
    assert novelscope(home, *asked, "--until", "3").returncode == 0
    early = novelscope(home, *asked, "--until", "2")
    assert "丙谷" not in early.stderr
    assert all(citation["chapter"] <= 2 for citation in json.loads(early.stdout)["citations"])
    assert novelscope(home, *asked, "--until", "999").returncode == 0


def test_a_conversation_runs_over_a_pipe(home):
    typed = "你好\n/clear\n\n再说一遍\n/quit\n不会再说\n"
    done = novelscope(home, "chat", "--model", "scripted:好的。", "--system", "简短。", input=typed)
    assert done.returncode == 0 and done.stdout == "好的。\n好的。\n"


def test_ctrl_c_stops_the_model_and_keeps_the_part_that_was_written(home, slow_server):
    process = start(home, "ask", "山中记", "丙字灯藏在哪里？", "--json", "--model", slow_server.spec)
    slow_server.wait_for_pieces(25)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=30)
    assert slow_server.was_left.wait(timeout=10), "the server was still being read"
    result = json.loads(out)
    assert process.returncode == 130 and "Traceback" not in said
    assert result["stopped"] is True and result["answer"].startswith("丙字灯藏在") and result["found"] is True


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(home, slow_server):
    process = start(home, "chat", "--model", slow_server.spec, stdin=subprocess.PIPE)
    process.stdin.write("丙字灯藏在哪里？\n")
    process.stdin.flush()
    slow_server.wait_for_pieces(5)
    process.send_signal(signal.SIGINT)
    assert slow_server.was_left.wait(timeout=10), "the server was still being read"
    out, said = process.communicate("/quit\n", timeout=30)
    assert process.returncode == 0 and said == ""
    assert out.startswith("丙字灯藏") and out.endswith("stopped）\n")


def test_ctrl_c_stops_every_call_of_a_summary(home, slow_server):
    process = start(home, "summarize", "山中记", "--model", slow_server.spec)
    slow_server.wait_for_pieces(100)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=30)
    assert slow_server.was_left.wait(timeout=10), "the server was still being read"
    assert process.returncode == 130 and "Traceback" not in said
    assert out.startswith("【第1章 甲谷】\n丙字灯藏") and "已停止" in out
    made = slow_server.num_pieces
    time.sleep(0.2)
    assert slow_server.num_pieces == made


class SlowServer(ThreadingHTTPServer):
    """Speaks as an OpenAI-compatible server does, one character every 20 ms, until its client leaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SlowAnswer)
        self.num_pieces = 0
        self.was_left = threading.Event()

    @property
    def spec(self) -> str:
        return f"openai:slow@http://127.0.0.1:{self.server_address[1]}/v1"

    def wait_for_pieces(self, count: int) -> None:
        end = time.monotonic() + 60
        while self.num_pieces < count:
            assert time.monotonic() < end, "no answer was asked for"
            time.sleep(0.01)


class SlowAnswer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for number in range(3000):
                delta = {"role": "assistant", "content": LANTERN[number % len(LANTERN)]}
                chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "slow"}
                chunk["choices"] = [{"index": 0, "delta": delta, "finish_reason": None}]
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.server.num_pieces += 1
                time.sleep(0.02)
        except OSError:
            self.server.was_left.set()

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing."""


@pytest.fixture
def slow_server():
    with SlowServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
