"""Progress: rewritten in place where somebody looks, sparse where a file listens."""

from __future__ import annotations

import io

import pytest

from demos.verbs.common import pad
from demos.verbs.progress import ProgressLine, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(out: io.StringIO, seconds: int) -> str:
    """What a hundred messages a second leave behind."""
    now = [0.0]
    line = ProgressLine(out, clock=lambda: now[0])
    for step in range(seconds * 100 + 1):
        now[0] = step / 100
        line.show(f"step {step}")
    line.close()
    return out.getvalue()


def test_a_terminal_sees_one_line_ten_times_a_second_and_gets_it_back():
    written = shown(Terminal(), 3)
    assert "\n" not in written and 25 <= written.count("step") <= 35
    assert written.endswith("\r\x1b[K")


def test_a_log_gets_a_line_every_ten_seconds():
    assert shown(io.StringIO(), 25) == "step 1000\nstep 2000\n"


def test_what_is_quick_leaves_no_line_in_a_log():
    assert shown(io.StringIO(), 9) == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3725, "62 min 05 s")]
)
def test_durations_read_as_words(seconds, words):
    assert duration(seconds) == words


def test_columns_count_chinese_characters_twice():
    assert pad("山中记", 8) == "山中记  " and pad("abc", 5) == "abc  "
