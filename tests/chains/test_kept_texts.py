"""Texts kept beside a book: nothing that was kept is lost, whatever a killed process or a full disk leaves behind."""

import errno
import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.chains.kept_texts import FILE, KeptTexts, key_of
from core.errors import LibraryError

ODD = ["", "。", "两\n行\r\n", "\u2028\u0085\x00", '"}\n{"key": "a"', "\ud800 half", "😀", " ends in space "]


def test_what_was_put_is_there_at_once_and_for_the_next_reader(tmp_path):
    kept = KeptTexts(tmp_path)
    assert kept.get("a") is None
    for number, text in enumerate(ODD):
        kept.put(str(number), text)
    for reader in (kept, KeptTexts(tmp_path)):
        assert [reader.get(str(number)) for number in range(len(ODD))] == ODD


def test_the_first_text_of_a_key_stays(tmp_path):
    kept = KeptTexts(tmp_path)
    kept.put("a", "first")
    kept.put("a", "second")
    assert kept.get("a") == KeptTexts(tmp_path).get("a") == "first"
    assert (tmp_path / FILE).read_bytes().count(b"\n") == 1


def test_several_threads_keep_everything_each_record_on_a_line_of_its_own(tmp_path):
    kept = KeptTexts(tmp_path)

    def work(worker):
        for number in range(25):
            kept.put(f"{worker}-{number}", f"第{number}段" * 50)
            assert kept.get(f"{worker}-{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    lines = (tmp_path / FILE).read_text(encoding="utf-8").splitlines()
    wanted = {f"{worker}-{number}" for worker in range(8) for number in range(25)}
    assert len(lines) == 200 and {json.loads(line)["key"] for line in lines} == wanted
    assert all(KeptTexts(tmp_path).get(key) for key in wanted)


def test_a_last_line_cut_at_any_byte_loses_that_record_alone_and_the_next_one_is_kept(tmp_path):
    kept = KeptTexts(tmp_path)
    kept.put("a", "第一段。")
    whole = (tmp_path / FILE).stat().st_size
    kept.put("b", "第二段“引\n文”。")
    data = (tmp_path / FILE).read_bytes()
    for size in range(whole, len(data) + 1):
        (tmp_path / FILE).write_bytes(data[:size])
        again = KeptTexts(tmp_path)
        # Without its line end alone, the record is whole.
        is_whole = size >= len(data) - 1
        assert again.get("a") == "第一段。" and again.get("b") == ("第二段“引\n文”。" if is_whole else None)
        again.put("c", "第三段。")
        again.put("b", "重写。")
        last = KeptTexts(tmp_path)
        assert (last.get("a"), last.get("c")) == ("第一段。", "第三段。")
        assert last.get("b") == ("第二段“引\n文”。" if is_whole else "重写。")


def test_a_line_that_another_process_left_unfinished_spoils_no_record_of_ours(tmp_path):
    ours = KeptTexts(tmp_path)
    ours.put("a", "一")
    with (tmp_path / FILE).open("ab") as file:
        file.write('{"key": "b", "text": "没写'.encode())
    ours.put("c", "三")
    assert [KeptTexts(tmp_path).get(key) for key in "abc"] == ["一", None, "三"]


def test_lines_that_are_no_records_are_passed_over(tmp_path):
    lines = [
        b"",
        b"\x00" * 40,
        b"[]",
        b'"a"',
        b'{"key": []}',
        b'{"key": [], "text": "x"}',
        b"\xff\xfe",
        b"1e999",
        b"{}",
    ]
    (tmp_path / FILE).write_bytes(b"\n".join([*lines, b'{"key": "a", "text": "x"}', b""]))
    assert KeptTexts(tmp_path).get("a") == "x"


class ShortOfSpace:
    """A file on a disk that takes so many bytes more, then none."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        taken = bytes(data)[: self.room]
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(taken)
        return self.file.write(taken)


@pytest.mark.parametrize("room", [0, 1, 20, 45])
def test_a_disk_that_fills_up_within_a_record_is_an_error_and_loses_nothing_else(tmp_path, monkeypatch, room):
    kept = KeptTexts(tmp_path)
    kept.put("a", "第一段。")
    real = type(tmp_path).open
    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "open", lambda *args, **kw: ShortOfSpace(real(*args, **kw), room))
        with pytest.raises(LibraryError, match="No space left"):
            kept.put("b", "第二段" * 20)
    assert kept.get("b") is None
    kept.put("c", "第三段。")
    assert [KeptTexts(tmp_path).get(key) for key in "abc"] == ["第一段。", None, "第三段。"]


def test_a_folder_that_cannot_be_read_or_written_is_one_sentence(tmp_path):
    # A folder where the file should be: it refuses everybody, the superuser of a container too.
    (tmp_path / FILE).mkdir()
    with pytest.raises(LibraryError, match=r"cannot be read") as unreadable:
        KeptTexts(tmp_path)
    kept = KeptTexts(tmp_path / "gone")
    with pytest.raises(LibraryError, match=r"cannot be written") as unwritable:
        kept.put("a", "x")
    assert kept.get("a") is None, "what is not on disk must not count as kept"
    for refusal in (unreadable, unwritable):
        assert "\n" not in str(refusal.value) and FILE in str(refusal.value)


PARTS = st.lists(st.text(alphabet=st.characters(), max_size=6), max_size=4)


@given(PARTS, PARTS)
def test_keys_are_equal_only_if_every_part_is(one, other):
    assert (key_of(*one) == key_of(*other)) == (one == other)


def test_no_part_flows_into_the_next_one():
    parts = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ('a", "b', "c"), ("a", "b", "c"), ()]
    for one, other in itertools.combinations(parts, 2):
        assert key_of(*one) != key_of(*other)
    assert key_of("模型", "\ud800") != key_of("模型", "\ud801")
