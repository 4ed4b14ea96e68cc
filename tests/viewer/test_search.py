"""The search helper and the followed file, with real processes and files."""

import json
import os
import sys
import time

import pytest

from core.errors import SettingsError
from viz.search import FollowFile, SearchProcess

ECHO = """
import sys, json
for line in sys.stdin:
    print(json.dumps({"question": json.loads(line)["question"], "passages": []}), flush=True)
"""
DIES = "import sys; sys.stdin.readline(); print('the index is gone', file=sys.stderr); sys.exit(3)"
BABBLES = "import sys; sys.stdin.readline(); print('no json', flush=True); sys.stdin.readline()"


def helper(code):
    return SearchProcess([sys.executable, "-c", code])


def awaited(search):
    for _ in range(400):
        answer = search.poll()
        if answer is not None:
            return answer
        time.sleep(0.02)
    raise AssertionError("no answer came")


@pytest.fixture
def opened():
    made = []
    yield lambda code: made.append(helper(code)) or made[-1]
    for search in made:
        search.close()


def test_an_answer_comes_back_and_only_the_newest_question_s_counts(opened):
    search = opened(ECHO)
    assert not search.is_waiting and search.poll() is None
    search.ask("第一问", None)
    search.ask("第二问", 3)
    assert search.is_waiting and awaited(search)["question"] == "第二问" and not search.is_waiting


def test_a_helper_that_dies_is_told_in_its_own_last_words_and_started_again(opened):
    search = opened(DIES)
    search.ask("谁？", None)
    assert awaited(search)["error"] == "the index is gone" and not search.is_waiting
    for _ in range(100):
        if search._process.poll() is not None:
            break
        time.sleep(0.02)
    search.ask("谁？", None)
    assert "index is gone" in awaited(search)["error"]


def test_what_is_no_json_is_an_error(opened):
    search = opened(BABBLES)
    search.ask("谁？", None)
    assert "unexpected" in awaited(search)["error"]


def test_a_program_that_is_not_there_is_one_sentence():
    with pytest.raises(SettingsError, match="cannot be started"):
        SearchProcess(["/no/such/program"]).ask("谁？", None)


def test_a_followed_file_is_told_once_for_each_answer(tmp_path):
    path = tmp_path / "follow.json"
    follow = FollowFile(path)
    assert follow.poll() is None

    def put(value):
        (tmp_path / "new").write_text(value, encoding="utf-8")
        os.replace(tmp_path / "new", path)

    put(json.dumps({"question": "一", "passages": []}))
    assert follow.poll() == {"question": "一", "passages": []} and follow.poll() is None
    put("{ half")
    assert follow.poll() is None
    put(json.dumps({"question": "二", "passages": []}))
    assert follow.poll()["question"] == "二"
