"""The server as a process of its own: its address, its port, its log, its end."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from tests.demos.cli_runner import ROOT, novelscope

# What ``novelscope web`` does, with a model that takes its time.
PROGRAM = """
import sys
from pathlib import Path
from core.llm.backends.scripted import ScriptedBackend
from demos.server import serve
from tests.demos.web_server import ScriptedServices

services = ScriptedServices(Path(sys.argv[1]), ScriptedBackend("山路上的风吹来，" * 400, delay_s=0.02))
services.indexer.start()
try:
    serve(services, port=0)
except KeyboardInterrupt:
    pass
finally:
    services.close()
"""


@pytest.fixture
def page(tmp_path):
    """A running server, and the address that it gave on standard error."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        line = ""
        while "http://" not in line:
            line = process.stderr.readline()
            assert line, "the server ended before it was ready"
        yield process, line.split()[-1]
        process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[str, float]:
    """What the server still said after Ctrl-C, and the seconds until it was gone."""
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    return said, time.monotonic() - began


def test_it_listens_on_loopback_answers_healthz_and_ends_on_ctrl_c(page):
    process, address = page
    assert address.startswith("http://127.0.0.1:")
    assert httpx.get(f"{address}/healthz", timeout=20).json() == {"status": "ok"}
    said, _ = ended(process)
    assert "Traceback" not in said


def test_ctrl_c_stops_an_answer_that_is_being_written_and_the_log_keeps_no_words(page):
    process, address = page
    config = httpx.get(f"{address}/config", timeout=20).json()
    send = next(one["id"] for one in config["components"] if one["props"].get("elem_id") == "ns-send")
    reply = next(one for one in config["dependencies"] if [send, "click"] in one["targets"])
    body = {
        "data": ["你好", [], "scripted:test", "", 0.7, 0.9, 2048, None],
        "fn_index": reply["id"],
        "session_hash": "reader",
    }
    httpx.post(f"{address}/gradio_api/queue/join", json=body, timeout=20).raise_for_status()
    with httpx.stream("GET", f"{address}/gradio_api/queue/data?session_hash=reader", timeout=20) as events:
        pieces = (line for line in events.iter_lines() if "process_generating" in line)
        assert [next(pieces) for _ in range(3)]
        said, elapsed_s = ended(process)
    assert elapsed_s < 8
    # 3 pieces were read here and 50 a second are made: it stopped at once, not when uvicorn lost patience after 2 s.
    assert int(re.search(r"stopped after (\d+) pieces", said)[1]) < 60
    assert "Traceback" not in said and "你好" not in said and "山路" not in said


def test_a_port_that_is_taken_is_one_clear_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = novelscope(tmp_path, "web", "--port", str(port))
    assert done.returncode == 1
    sentence = [line for line in done.stderr.splitlines() if "novelscope.indexer" not in line]
    assert len(sentence) == 1 and str(port) in sentence[0] and "--port" in sentence[0]
