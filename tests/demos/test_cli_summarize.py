"""Summaries through the command line, with a scripted model."""

from __future__ import annotations

import json

import pytest

from core.retrieval.locks import held_lock
from tests.demos.cli_runner import novelscope, write_novel

SAID = "众人翻山越岭，终于到了谷底。"


@pytest.fixture
def home(tmp_path):
    """A library with one book that has no vectors and gets none."""
    with held_lock(tmp_path / "home" / "vectors.lock", "the web demo"):
        path = write_novel(tmp_path / "book.txt", num_chapters=8)
        assert novelscope(tmp_path / "home", "add", str(path), "--title", "山中记").returncode == 0
        yield tmp_path / "home"


def test_chapters_and_the_whole_are_printed_in_the_books_order(home):
    done = novelscope(home, "summarize", "山中记", "--chapters", "2-4", "--model", f"scripted:{SAID}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["【第2章", "乙谷】", SAID, "【第3章", "丙谷】", SAID, "【第4章", "丁谷】", SAID,
                                   "【全文", "/", "the", "whole】", SAID]  # fmt: skip


def test_json_holds_the_whole_and_every_chapter_and_nothing_beyond_the_bookmark(home):
    done = novelscope(home, "summarize", "山中记", "--recap", "--until", "3", "--json", "--model", f"scripted:{SAID}")
    result = json.loads(done.stdout)
    assert done.returncode == 0 and set(result) == {"summary", "chapters", "usage"}
    assert [one["chapter"] for one in result["chapters"]] == [1, 2, 3] and result["summary"] == SAID


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--chapters", "x"], 2, "no span of chapters"),
        (["--chapters", "5-2"], 1, "backwards"),
        (["--chapters", "50-"], 1, "the book has 1 to 8"),
        (["--person", "武松"], 1, "does not occur"),
        (["--person", "武松", "--recap"], 2, "not allowed with"),
    ],
)
def test_what_cannot_be_summarised_is_one_sentence(home, options, code, said):
    done = novelscope(home, "summarize", "山中记", *options, "--model", f"scripted:{SAID}")
    assert done.returncode == code and said in done.stderr and not done.stdout.strip()
