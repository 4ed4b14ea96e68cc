"""What docs/streams.md shows works as it stands: the line for a terminal, and the client for the browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from core.llm.backends.scripted import ScriptedBackend
from tests.demos.web_server import ScriptedServices, served
from tests.support import make_novel

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "streams.md").read_text(encoding="utf-8")
((CURL,), (CLIENT, CALL)) = (re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.S | re.M) for kind in ("sh", "js"))
BOOK = re.findall(r'"book": "(.+?)"', CURL)[0]
ANSWER = "山路很长，" * 30


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    services = ScriptedServices(tmp_path_factory.mktemp("home"), ScriptedBackend(ANSWER))
    services.library.add(make_novel(title=BOOK))
    with served(services) as address:
        yield address


def test_the_client_is_as_long_as_said():
    assert len(CLIENT.splitlines()) <= 32


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: apt-get install curl")
def test_the_line_for_a_terminal_works_as_it_stands(address):
    line = CURL.replace("http://127.0.0.1:7860/", address)
    assert line != CURL
    done = subprocess.run(["bash", "-c", line], capture_output=True, encoding="utf-8", timeout=60)
    names = re.findall(r"^event: (\w+)$", done.stdout, re.M)
    assert names[0] == "status" and names[-1] == "done"


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed: apt-get install chromium")
def test_the_client_for_the_browser_writes_the_whole_answer(address):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{address}healthz")
        page.evaluate(f"async () => {{ document.body.textContent = ''; {CLIENT}\n{CALL} }}")
        assert page.evaluate("document.body.textContent") == ANSWER
        refused = page.evaluate(
            f"async () => {{ {CLIENT}\n try {{ for await (const one of events('/stream/chat', {{}})); }}"
            " catch (wrong) { return wrong.message; } }"
        )
        assert refused.startswith("messages:")
        browser.close()
