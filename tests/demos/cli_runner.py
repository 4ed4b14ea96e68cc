"""Runs the program as a person does: a process of its own, a library of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support import make_novel

ROOT = Path(__file__).resolve().parents[2]
# Vectors by this embedder are filed under its name and never made: whoever tries fails at once.
NO_EMBEDDER = "/no/such/embedder"


def environment(home: Path, **extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NOVELSCOPE_")}
    return {**kept, "NOVELSCOPE_HOME": str(home), **extra}


def novelscope(home: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The finished process; bytes that are not UTF-8 fail the test."""
    env = environment(home, NOVELSCOPE_EMBEDDER=NO_EMBEDDER) | options.pop("env", {})
    options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=env, capture_output=True, encoding="utf-8", timeout=120, **options
    )


def start(home: Path, *arguments: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    env = environment(home, NOVELSCOPE_EMBEDDER=NO_EMBEDDER) | (env or {})
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command(*arguments), cwd=ROOT, env=env, encoding="utf-8", **pipes)


def command(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "demos", *arguments]


def write_novel(path: Path, **options: Any) -> Path:
    path.write_text(make_novel(**options).text, encoding="utf-8")
    return path
