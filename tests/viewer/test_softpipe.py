"""The same pictures by softpipe, a driver of exactly OpenGL 3.3; and no shader that nothing uses."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOFTPIPE = {**os.environ, "GALLIUM_DRIVER": "softpipe", "LIBGL_ALWAYS_SOFTWARE": "1"}


@pytest.fixture(scope="module")
def driver():
    done = subprocess.run(
        [sys.executable, "-m", "viz", "driver"], cwd=ROOT, env=SOFTPIPE, capture_output=True, text=True, timeout=60
    )
    if done.returncode or "softpipe" not in done.stdout:
        pytest.skip(f"softpipe is not here: {done.stdout}{done.stderr}")
    return done.stdout


def test_softpipe_is_a_driver_of_opengl_3_3(driver):
    assert "OpenGL 3.3" in driver


def test_every_test_of_the_renderer_passes_under_softpipe(driver):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/viewer/test_renderer.py"]
    done = subprocess.run(command, cwd=ROOT, env=SOFTPIPE, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= 20 and "skipped" not in done.stdout


def test_every_shader_is_written_for_3_3_and_is_loaded_by_name():
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "viz").glob("*.py"))
    shaders = [*(ROOT / "shaders").glob("*.vert"), *(ROOT / "shaders").glob("*.frag")]
    assert len(shaders) >= 8
    for path in shaders:
        assert path.read_text(encoding="utf-8").startswith("#version 330\n"), path.name
        assert re.search(rf"\"{path.stem}\"", code), f"nothing loads {path.name}"
    assert "#version" not in code
