"""Words that name clusters, on real novels and on sentences made to mislead."""

from itertools import chain
from pathlib import Path
from random import Random

import pytest

from viz.new_words import find_words
from viz.vocabulary import telling_words

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"


def novel(name):
    path = CORPUS / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    text = path.read_text(encoding="utf-8")
    return [text[start : start + 400] for start in range(0, len(text), 400)]


def test_names_of_a_novel_are_found_without_a_dictionary():
    found = find_words(novel("sanguoyanyi.txt"))
    assert {"玄德", "孔明", "司马懿", "诸葛亮", "夏侯惇", "荆州", "公孙瓒"} <= found.keys()
    assert not {"曰", "玄德曰", "孔明曰", "大喜曰", "也不", "了一"} & found.keys()
    assert found["司马懿"] == "".join(novel("sanguoyanyi.txt")).count("司马懿")


def test_an_invented_name_is_found_where_it_stands_freely_and_not_as_a_part_of_a_phrase():
    random = Random(3)
    common = "天地人山水风雨来去看听说笑坐起身回头点门窗灯火路桥船马酒茶花月夜日春秋东西南北上下左右大小多少高低"

    def filler():
        return "".join(random.choices(common, k=random.randint(6, 12)))

    texts = [filler() + ("轩辕澈" if number % 20 == 0 else "") + filler() for number in range(800)]
    assert find_words(texts) == {"轩辕澈": 40}


def test_no_text_has_no_words():
    assert find_words([]) == {} and find_words(["abc", "，。"]) == {} and find_words(["山"]) == {}


def test_chinese_words_that_tell_are_nouns_and_names():
    texts = novel("xiyouji.txt")
    words = set(chain.from_iterable(telling_words(texts, "zh")))
    assert {"孙行者", "牛魔王", "芭蕉扇", "钉钯", "葫芦", "袈裟"} <= words
    assert not {"的", "只见", "却说", "怎么", "不知", "什么", "我们", "起来", "五百", "十余", "如何", "在马上"} & words
    assert all(len(word) > 1 for word in words)


def test_english_names_stay_whole_and_verbs_and_small_words_are_left_out():
    texts = novel("pride_and_prejudice.txt")
    words = set(chain.from_iterable(telling_words(texts, "en")))
    assert {"Mr Darcy", "Lady Catherine", "Miss Bingley", "Colonel Fitzwilliam", "Lydia", "Pemberley"} <= words
    assert {"letter", "marriage", "officers", "regiment"} <= words
    assert not {"the", "said", "replied", "would", "could", "speaking", "Mr", "Lady", "very", "asking"} & words


def test_where_jieba_is_missing_the_books_own_names_are_left(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jieba", None)
    words = set(chain.from_iterable(telling_words(novel("sanguoyanyi.txt"), "zh")))
    assert {"玄德", "司马懿"} <= words and "的" not in words


def test_jieba_reads_no_dictionary_that_others_could_have_written(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "jieba.cache").write_bytes(b"no dictionary")
    before = (tmp_path / "jieba.cache").stat()
    list(telling_words(["轩辕澈拔剑。"], "zh"))
    after = (tmp_path / "jieba.cache").stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    assert [path.name for path in tmp_path.iterdir()] == ["jieba.cache"]
