"""Every Python block of docs/langchain.md prints what the page says it prints."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "langchain.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```\n```text\n(.*?)^```$", PAGE, re.S | re.M)


def test_every_block_is_followed_by_what_it_prints():
    assert len(EXAMPLES) == PAGE.count("```python") == 5


@pytest.mark.parametrize(("source", "printed"), EXAMPLES)
def test_a_block_prints_what_the_page_says(source, printed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(source, "docs/langchain.md", "exec"), {"__name__": "langchain_page"})
    assert capsys.readouterr().out == printed
    assert not list(tmp_path.iterdir()), "a scripted model writes no file"


def test_the_page_is_short():
    assert len(PAGE.splitlines()) < 130
