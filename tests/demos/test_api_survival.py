"""The service as a process of its own: killed, stopped, started again, and used by clients that nobody here wrote."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import venv
import zlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import httpx
import pytest

from core.llm.models import available_models
from demos.api.service import open_keys

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = Path(__file__).with_name("clients")
SLOW_SCRIPT = """
import sys
from pathlib import Path
from core.llm.backends.scripted import ScriptedBackend
from core.llm.chat_model import NovelChatModel
from demos.api.service import ApiSettings
from demos.server import serve
from demos.settings import Settings
from demos.wiring import Services

backend = ScriptedBackend(lambda turns: turns[-1].content * 20, delay_s=float(sys.argv[3]), piece_chars=4)
model = NovelChatModel(backend=backend)
services = Services(Settings(home=Path(sys.argv[1]), model="openai:x@http://127.0.0.1:1"), model=model)
serve(services, port=int(sys.argv[2]), api=ApiSettings(), has_page=False)
"""


class Process:
    """A server that can be killed and started again on the same port and folder."""

    def __init__(
        self, home: Path, *, delay_s: float = 0.005, model: str | None = None, verb: Sequence[str] = ("api",)
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments = ["-c", SLOW_SCRIPT, str(home), str(self.port), str(delay_s)]
        if model is not None:
            place = ["--home", str(home), "--port", str(self.port)]
            self.arguments = ["-m", "demos", *verb, *place, *([] if "web" in verb else ["--model", model])]
        with open_keys(home) as keys:
            self.key = keys.create("test").key
        self.headers, self.log = {"Authorization": self.key}, home / "server.log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, *self.arguments], cwd=ROOT, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def end(self, how: int) -> int:
        self.process.send_signal(how)
        return self.process.wait(timeout=30)

    def submit(self, text: str) -> str:
        body = {"prompt": [{"role": "user", "content": text}], "temperature": 0.01}
        told = httpx.post(
            f"{self.url}/api/paas/v3/model-api/charglm-3/async-invoke", json=body, timeout=10,
            headers={**self.headers, "Idempotency-Key": str(zlib.crc32(text.encode()))},
        ).json()  # fmt: skip
        return told["data"]["task_id"]

    def poll(self, task_id: str) -> dict[str, object]:
        url = f"{self.url}/api/paas/v3/model-api/-/async-invoke/{task_id}"
        return httpx.get(url, headers=self.headers, timeout=10).json()["data"]


@pytest.fixture
def process(tmp_path):
    made = Process(tmp_path)
    yield made
    if made.process.poll() is None:
        made.end(signal.SIGKILL)


def kill_under_load(process: Process, home: Path, times: int, tasks_each: int) -> None:
    tasks: dict[str, str] = {}
    ended: dict[str, dict[str, object]] = {}
    for round_number in range(times):
        stop = threading.Event()

        def load(number=round_number, stop=stop):
            for each in range(tasks_each):
                if stop.is_set():
                    return
                text = f"第{number}轮{each}。"
                # A client whose connection breaks sends the same again, under the same key.
                with contextlib.suppress(httpx.HTTPError, json.JSONDecodeError):
                    tasks[text] = process.submit(text)

        loading = threading.Thread(target=load)
        loading.start()
        time.sleep(0.3 + 0.05 * (round_number % 5))
        for text, task_id in list(tasks.items())[:20]:
            told = process.poll(task_id)
            if told["task_status"] != "PROCESSING":
                ended.setdefault(text, told)
        process.end(signal.SIGKILL)
        stop.set()
        loading.join()
        with contextlib.closing(sqlite3.connect(home / "api" / "service.sqlite3")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        process.start()
    assert len(tasks) > times
    deadline = time.monotonic() + 120
    for text, task_id in tasks.items():
        assert process.submit(text) == task_id, "the same request is the same task, before and after"
        while (told := process.poll(task_id))["task_status"] == "PROCESSING":
            assert time.monotonic() < deadline, "a task was lost"
            time.sleep(0.05)
        if told["task_status"] == "SUCCESS":
            assert told["choices"][0]["content"] == text * 20
        else:
            assert "ended twice" in told["fail_reason"]
        assert ended.get(text, told) == told, "an end was written over"
    with contextlib.closing(sqlite3.connect(home / "api" / "service.sqlite3")) as database:
        states = dict(database.execute("SELECT state, COUNT(*) FROM tasks GROUP BY state"))
    assert set(states) <= {"done", "failed"} and states["done"] > len(tasks) / 2


def test_a_killed_server_loses_no_task_and_answers_none_twice(process, tmp_path):
    kill_under_load(process, tmp_path, 2, 30)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_lose_no_task_and_answer_none_twice(process, tmp_path):
    kill_under_load(process, tmp_path, 20, 60)


def test_a_stopped_server_ends_its_streams_and_leaves_its_tasks_to_the_next(tmp_path):
    process = Process(tmp_path, delay_s=0.05)
    task_id = process.submit("很长的任务" * 4)
    body = {"prompt": [{"role": "user", "content": "很长的话" * 5}]}
    said = []
    url = f"{process.url}/api/paas/v3/model-api/charglm-3/sse-invoke"
    with httpx.stream("POST", url, json=body, headers=process.headers, timeout=20) as response:
        for line in response.iter_lines():
            said.append(line)
            if len(said) == 8:
                process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(timeout=20) == 0, process.log.read_text()
    assert "event:error" in said and json.loads(said[-2].removeprefix("data:"))["code"] == 1305, said[-6:]
    process.arguments[-1] = "0"
    process.start()
    deadline = time.monotonic() + 20
    while (told := process.poll(task_id))["task_status"] == "PROCESSING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert told["choices"][0]["content"] == "很长的任务" * 80
    assert process.end(signal.SIGTERM) == 0


def test_the_service_stands_beside_the_page_where_it_is_asked_for(tmp_path):
    process = Process(tmp_path, model="scripted:hi", verb=["web", "--api"])
    assert "novelscope" in httpx.get(process.url, timeout=20).text
    assert httpx.get(f"{process.url}/v1/models", headers=process.headers, timeout=20).status_code == 200
    assert httpx.get(f"{process.url}/v1/models", timeout=20).status_code == 401
    assert process.end(signal.SIGTERM) == 0


def run_api(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demos", "api", "--home", str(home), "--model", "scripted:hi", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def test_without_a_key_nothing_listens_beyond_this_machine(tmp_path):
    done = run_api(tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1 and "novelscope key create" in done.stderr and "Traceback" not in done.stderr


def test_a_library_is_served_by_one_process(process, tmp_path):
    done = run_api(tmp_path, "--port", "0")
    assert done.returncode == 1 and "serving the API" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("option", "value"), [("--rate", "often"), ("--keep-days", "0"), ("--keep-days", "nan")])
def test_a_setting_that_cannot_work_is_one_sentence(tmp_path, option, value):
    done = run_api(tmp_path, option, value)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and value in done.stderr


def test_a_damaged_file_of_the_service_is_one_sentence(tmp_path):
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "service.sqlite3").write_bytes(os.urandom(8192))
    done = run_api(tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "move the file away" in done.stderr


# Clients that nobody here wrote --------------------------------------------------------------------------------------

ENVIRONMENTS = {
    "zhipuai-1": ("zhipuai_v1.py", ["zhipuai==1.0.7"]),
    "zhipuai-2": ("zhipuai_v4.py", ["zhipuai==2.1.5.20250825", "sniffio"]),
    "zai": ("zhipuai_v4.py", ["zai-sdk==0.2.3"]),
    "openai": ("openai_v1.py", ["openai==3.54.0"]),
    "langchain-openai": ("langchain_openai_v1.py", ["langchain-openai==1.7.3"]),
}


def environment(name: str, packages: list[str]) -> Path:
    """The Python of an environment with those packages and nothing of ours; made once beside this one."""
    folder = Path(sys.prefix) / "clients" / name
    stamp = folder / "packages.json"
    python = folder / "bin" / "python"
    if not stamp.exists() or json.loads(stamp.read_text()) != packages:
        venv.create(folder, clear=True, with_pip=False)
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-qq", *packages]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        if done.returncode:
            pytest.skip(f"{name} cannot be installed: {done.stderr[-200:]}")
        stamp.write_text(json.dumps(packages))
    return python


def python_of(name: str) -> Path:
    """The Python that runs a client by default: this one where it has the very same packages already."""
    _, packages = ENVIRONMENTS[name]
    is_here = all(_version(package.partition("==")[0]) == package.partition("==")[2] for package in packages)
    return Path(sys.executable) if is_here else environment(name, packages)


def _version(package: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def use(process: Process, name: str, model: str, *, has_own: bool = False) -> str:
    script, packages = ENVIRONMENTS[name]
    python = environment(name, packages) if has_own else python_of(name)
    command = [str(python), str(CLIENTS / script), process.url, process.key, model]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    home = tmp_path_factory.mktemp("scripted")
    made = Process(home, model="scripted:你好呀！ Hello, 朋友。")
    yield made
    made.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    if not any(model.name == "gemma3-270m" for model in available_models()):
        pytest.skip("the bundled model is not installed")
    home = tmp_path_factory.mktemp("bundled")
    made = Process(home, model="builtin:gemma3-270m")
    yield made
    made.end(signal.SIGTERM)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_unmodified_client_is_served(scripted, name):
    assert use(scripted, name, "charglm-3") == "ok"


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_unmodified_client_is_served_by_the_bundled_model(bundled, name):
    assert use(bundled, name, "charglm-4", has_own=True) == "ok"
