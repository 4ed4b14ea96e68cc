"""Settings: which source wins, and what a path means to a process in another folder."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from core.errors import SettingsError
from demos.settings import Settings, is_space
from tests.support import ROOT


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a folder ``encoder`` and a file ``small.gguf`` in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "small.gguf").touch()
    return tmp_path


def test_a_flag_goes_before_the_environment_and_that_before_the_default():
    variables = {"NOVELSCOPE_MODEL": "hf:a/b", "NOVELSCOPE_HOME": "/somewhere"}
    assert Settings.from_environment(environment=variables).model == "hf:a/b"
    assert Settings.from_environment(model="hf:c/d", environment=variables).model == "hf:c/d"
    assert Settings.from_environment(environment={}).model == "builtin:gemma3-270m"


def test_a_path_that_exists_is_made_absolute(folder):
    made = Settings.from_environment(
        environment={"NOVELSCOPE_EMBEDDER": "encoder", "NOVELSCOPE_MODEL": "./small.gguf", "NOVELSCOPE_HOME": "home"}
    )
    assert (made.embedder, made.model, made.home) == (
        str(folder / "encoder"),
        str(folder / "small.gguf"),
        folder / "home",
    )
    assert Settings.from_environment(model="small.gguf", environment={}).model == str(folder / "small.gguf")


@pytest.mark.parametrize("spec", ["e5-small", "hf:owner/name", "no/such/folder", "scripted:" + "长" * 300, "~nobody/x"])
def test_what_is_no_path_stays_as_it_is(folder, spec):
    made = Settings.from_environment(model=spec, environment={"NOVELSCOPE_EMBEDDER": spec})
    assert made.embedder == made.model == spec


def test_a_bundled_name_is_not_taken_for_a_folder_of_that_name(folder):
    (folder / "e5-small").mkdir()
    assert Settings.from_environment(environment={}).embedder == "e5-small"


def test_a_process_in_another_folder_sees_the_same_embedder_and_library(folder, monkeypatch):
    monkeypatch.setenv("NOVELSCOPE_EMBEDDER", "encoder")
    monkeypatch.setenv("NOVELSCOPE_HOME", "home")
    settings = Settings.from_environment()
    monkeypatch.chdir(ROOT)
    again = Settings.from_environment(environment=settings.environment())
    assert (again.embedder, again.home) == (settings.embedder, settings.home)


def test_every_mistake_is_named_at_once(folder):
    variables = {"NOVELSCOPE_LANG": "fr", "NOVELSCOPE_MODLE": "x", "NOVELSCOPE_HOME": "small.gguf"}
    with pytest.raises(SettingsError, match=r"NOVELSCOPE_MODLE.*NOVELSCOPE_LANG.*small\.gguf is a file"):
        Settings.from_environment(environment=variables)


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5", "99999"])
def test_threads_are_a_whole_number(given):
    with pytest.raises(SettingsError, match=f"NOVELSCOPE_THREADS is '{given}', wanted a whole number from 1 to 1024"):
        Settings.from_environment(environment={"NOVELSCOPE_THREADS": given})


def test_a_page_keeps_a_core_where_there_are_enough(monkeypatch):
    for cores, threads in ((1, 1), (2, 2), (3, 3), (4, 3), (16, 15)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert Settings.from_environment(environment={}).threads == threads
    assert Settings.from_environment(environment={"NOVELSCOPE_THREADS": "7"}).threads == 7
    assert Settings.from_environment(environment={"NOVELSCOPE_THREADS": "7"}, threads=2).threads == 2


def test_device_and_memory_come_from_the_flag_or_the_environment():
    settings = Settings.from_environment(environment={"NOVELSCOPE_DEVICE": "cuda:1", "NOVELSCOPE_LOW_MEMORY": "1"})
    assert (settings.device, settings.low_memory) == ("cuda:1", True)
    settings = Settings.from_environment(environment={"NOVELSCOPE_DEVICE": "cuda:1"}, device="cpu")
    assert (settings.device, settings.low_memory) == ("cpu", False)
    with pytest.raises(SettingsError, match="LOW_MEMORY"):
        Settings.from_environment(environment={"NOVELSCOPE_LOW_MEMORY": "yes"})


def test_a_space_is_known_by_its_variable():
    assert is_space({"SPACE_ID": "owner/name"}) and not is_space({"SPACE_ID": ""}) and not is_space({})


def test_gradios_analytics_are_off_once_they_are_quieted():
    code = (
        "import os; from demos.settings import quiet_analytics as q; q(); print(os.environ['GRADIO_ANALYTICS_ENABLED'])"
    )
    kept = {name: value for name, value in os.environ.items() if name != "GRADIO_ANALYTICS_ENABLED"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
