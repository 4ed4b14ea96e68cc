"""The examples on the API page: each is run as it is copied, against a real service, and the page's own keys work."""

from __future__ import annotations

import signal
import subprocess
from types import SimpleNamespace

import httpx
import pytest

from core.llm.backends.scripted import ScriptedBackend
from demos.tabs.api import EXAMPLES, example, list_keys, make_key, revoke_key, show_example, show_service
from tests.demos.test_api_survival import Process, python_of
from tests.demos.web_server import ScriptedServices

WORDS = "在排练新歌呢。"
PYTHON = {
    "zhipuai 1.0.7": "zhipuai-1",
    "zhipuai 2.x / zai-sdk": "zhipuai-2",
    "openai": "openai",
    "langchain-openai": "langchain-openai",
}
OTHER = {"curl": ["bash", "-c"], "JavaScript": ["node", "--input-type=module", "-e"]}


def visitor(host):
    return SimpleNamespace(
        headers={"accept-language": "zh"}, client=SimpleNamespace(host=host), request=SimpleNamespace()
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    made = Process(tmp_path_factory.mktemp("examples"), model=f"scripted:{WORDS}")
    yield made
    made.end(signal.SIGTERM)


@pytest.mark.parametrize("client", EXAMPLES)
def test_an_example_runs_as_it_is_copied(service, client, tmp_path):
    program = example(client, service.url, service.key)
    assert "__" not in program
    if client in PYTHON:
        (tmp_path / "example.py").write_text(program, encoding="utf-8")
        command = [str(python_of(PYTHON[client])), str(tmp_path / "example.py")]
    else:
        command = [*OTHER[client], program]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    assert done.returncode == 0, done.stderr[-1500:]
    said = done.stdout.replace("\n", "").replace("data:", "")
    assert WORDS in said or "event:finish" in done.stdout, done.stdout


def test_a_key_of_the_page_works_until_it_is_revoked_and_only_this_machine_makes_one(service, tmp_path):
    services = ScriptedServices(tmp_path, ScriptedBackend("x"))
    services.settings = SimpleNamespace(home=service.log.parent, model="scripted:x")
    home, away = visitor("127.0.0.1"), visitor("192.168.1.7")
    shown, told = make_key(services, "页面", away)
    assert not shown.value and "ns-error" in told
    shown, told = make_key(services, "页面", home)
    assert "只" not in shown.value and "记下" in told
    headers = {"Authorization": f"Bearer {shown.value}"}
    assert httpx.get(f"{service.url}/v1/models", headers=headers).status_code == 200
    table, which = list_keys(services, home)
    assert "页面" in table and shown.value.split(".")[1] not in table
    assert "页面" not in list_keys(services, away)[0]
    key_id = shown.value.split(".")[0]
    assert key_id in [value for _, value in which.choices]
    assert "ns-error" in revoke_key(services, key_id, away)
    assert httpx.get(f"{service.url}/v1/models", headers=headers).status_code == 200
    assert "已作废" in revoke_key(services, key_id, home)
    assert httpx.get(f"{service.url}/v1/models", headers=headers).status_code == 401


def test_the_page_says_whether_the_service_stands_beside_it(tmp_path):
    services = ScriptedServices(tmp_path, ScriptedBackend("x"))
    assert "novelscope web --api" in show_service(services, visitor("127.0.0.1"))[0]
    services.offers_api = True
    assert "CharacterGLM" in show_service(services, visitor("127.0.0.1"))[0]
    assert "k.s" in show_example(services, "curl", "k.s", visitor("127.0.0.1")).value
