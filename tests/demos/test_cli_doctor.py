"""The doctor: exit code and report agree, and what is broken is named with its cure and does not take it down."""

from __future__ import annotations

import json

import pytest

from core.retrieval.locks import held_lock
from demos.settings import Settings
from demos.verbs.doctor import examine
from tests.demos.cli_runner import novelscope


def checks_in(home, **settings):
    return {check.name: check for check in examine(Settings(home=home, **settings))}


def test_the_report_and_the_exit_code_agree(tmp_path):
    healthy = novelscope(tmp_path, "doctor", "--json", env={"NOVELSCOPE_EMBEDDER": "e5-small"})
    report = json.loads(healthy.stdout)
    assert set(report["checks"][0]) == {"name", "ok", "detail", "cure", "is_needed"}
    assert report["ok"] == all(check["ok"] or not check["is_needed"] for check in report["checks"])
    assert healthy.returncode == (0 if report["ok"] else 1)
    assert all(check["ok"] or check["cure"] for check in report["checks"])
    names = {check["name"] for check in report["checks"]}
    assert {"python", "torch", "gradio", "embedder e5-small", "free disk", "vectors lock", "chromium"} <= names


def test_what_is_missing_is_printed_with_its_cure(tmp_path):
    done = novelscope(tmp_path, "doctor")
    assert done.returncode == 1 and done.stderr == ""
    assert "✗ embedder /no/such/embedder: there is no such folder\n    → set NOVELSCOPE_EMBEDDER" in done.stdout


def test_looking_leaves_no_trace(tmp_path):
    novelscope(tmp_path / "home", "doctor")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_index_is_reported_from_a_child_process(tmp_path):
    (tmp_path / "chroma").mkdir()
    (tmp_path / "chroma" / "chroma.sqlite3").write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    check = checks_in(tmp_path)["vector index"]
    assert not check.ok and "failed with code" in check.detail
    assert check.cure.startswith(f"rm -r '{tmp_path / 'chroma'}'") and "novelscope rebuild" in check.cure


def test_an_index_in_use_is_left_alone_and_its_holder_is_named(tmp_path):
    (tmp_path / "chroma").mkdir()
    with held_lock(tmp_path / "vectors.lock", "the web demo"):
        found = checks_in(tmp_path)
    assert "held by" in found["vectors lock"].detail and "the web demo" in found["vectors lock"].detail
    assert found["vector index"].ok and "not checked" in found["vector index"].detail


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"chroma_url": "http://127.0.0.1:9"}, "chroma server"),
        ({"model": "/no/such/model"}, "/no/such/model"),
        ({"model": "openai:x@http://127.0.0.1:9/v1"}, "openai:x@http://127.0.0.1:9/v1"),
    ],
)
def test_what_does_not_answer_is_needed_and_has_a_cure(settings, name, tmp_path):
    check = checks_in(tmp_path, **settings)[name]
    assert not check.ok and check.is_needed and check.cure


def test_a_bundled_model_is_needed_only_when_it_is_the_one_in_use(tmp_path):
    assert checks_in(tmp_path)["builtin:gemma3-270m"].is_needed
    assert not checks_in(tmp_path, model="builtin:smollm2-135m")["builtin:gemma3-270m"].is_needed


def test_a_damaged_book_is_reported(tmp_path):
    folder = tmp_path / "books" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "book.json").write_text("{", encoding="utf-8")
    check = checks_in(tmp_path)["books"]
    assert not check.ok and "add the book again" in check.detail
    assert check.cure == "novelscope remove 0123456789abcdef"
