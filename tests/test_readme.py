"""The README's commands and examples run as they are written there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demos.settings import VARIABLES

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOVEL = ROOT / "demos" / "books" / "dingpanxing.txt"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.S | re.M)


def commands(program: str) -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with the bundled novel where a clone has it; what the examples write stays in it."""
    place = tmp_path / NOVEL.relative_to(ROOT)
    place.parent.mkdir(parents=True)
    shutil.copy(NOVEL, place)
    return tmp_path


def test_the_commands_run_in_their_order(folder):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("NOVELSCOPE_")},
        "NOVELSCOPE_HOME": str(folder / "home"),
        "NOVELSCOPE_MODEL": "scripted:店主姓温，叫温不欺。",
        "PYTHONPATH": str(ROOT),
    }
    # Embedding the novella takes a minute of a core, and no command here waits for it.
    program = "import sys, demos.indexer as i; i.spawn_worker = lambda *a, **k: None; import demos.cli as c; "
    assert {"add", "ask", "search", "web", "map"} <= {arguments[1] for arguments in commands("novelscope")}
    for _, *arguments in commands("novelscope"):
        # The page does not end by itself, and a map needs vectors: both have tests of their own.
        arguments = [*arguments, "--help"] if arguments[0] in ("web", "map") else arguments
        ran = subprocess.run(
            [sys.executable, "-c", f"{program}sys.exit(c.main(sys.argv[1:]))", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode in ((0, 3) if arguments[0] == "ask" else (0,)), (arguments, ran.stderr)
        assert ran.stdout.strip()


@pytest.mark.parametrize("source", blocks("python"))
def test_the_python_examples_run(source, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    exec(compile(source, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.startswith(("第一回", "第二回", "第三回")) for line in lines)


def test_every_make_command_is_a_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {command[1] for command in commands("make")} | set(re.findall(r"`make (\w+)`", README))
    assert named and all(re.search(rf"^{target}:", makefile, re.M) for target in named)


def test_every_setting_is_described():
    assert set(re.findall(r"^\| `(NOVELSCOPE_\w+)`", README, re.M)) == set(VARIABLES)


def test_the_readme_is_short():
    assert len(README.splitlines()) < 200
