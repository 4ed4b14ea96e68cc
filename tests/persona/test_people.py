"""People found in novels: which names are one person's, who says what, and that nothing past the bookmark counts."""

from pathlib import Path

import pytest

from core.data.reading import novel_from_bytes
from core.persona.people import end_of_reading, find_people, find_person, mentions_of, speeches_of
from core.persona.speech import speeches

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"

MODERN = "\n".join(
    f"第{number}章　{title}\n{text}"
    for number, title, text in (
        (
            "一",
            "山道",
            "“你是谁？”陈家洛问道。\n“在下余鱼同。”那人抱拳道。余鱼同笑道：“久仰。”\n陈家洛说：“不敢。”" * 3,
        ),
        ("二", "客栈", "陈家洛低声道：“余鱼同，你听。”\n余鱼同道：“有人来了。”\n霍青桐冷冷地说道：“是我。”" * 3),
        ("三", "大漠", "霍青桐道：“陈家洛，你来。”\n陈家洛道：“我来了。”\n文泰来喝道：“住手！”文泰来道：“且慢。”" * 3),
    )
)


def people_in(name):
    path = CORPUS / f"{name}.txt"
    if not path.exists():
        pytest.skip("../shared is not there")
    novel = novel_from_bytes(path.read_bytes(), name=path.name, title=name)
    return novel, find_people(novel.text, novel.chapters, novel.language)


@pytest.fixture(scope="module")
def xiyouji():
    return people_in("xiyouji")


@pytest.fixture(scope="module")
def sanguo():
    return people_in("sanguoyanyi")


@pytest.fixture(scope="module")
def pride():
    return people_in("pride_and_prejudice")


@pytest.mark.parametrize(
    ("book", "groups"),
    [
        ("xiyouji", [["行者", "大圣", "孙悟空", "悟空"], ["八戒", "猪八戒"], ["沙僧"], ["三藏", "唐僧"]]),
        ("sanguo", [["玄德", "刘备"], ["孔明", "诸葛亮"], ["曹操", "孟德"], ["关公", "云长", "关羽"], ["赵云"]]),
        ("pride", [["Elizabeth", "Lizzy", "Eliza"], ["Darcy", "Mr. Darcy"], ["Jane"], ["Mr. Bennet"], ["Mrs. Bennet"],
                   ["Bingley", "Mr. Bingley"], ["Miss Bingley"]]),
    ],
)  # fmt: skip
def test_names_of_one_person_are_joined_and_of_two_are_not(book, groups, request):
    _, people = request.getfixturevalue(book)
    found = [{find_person(people, name) for name in group} for group in groups]
    assert all(len(each) == 1 and None not in each for each in found), found
    assert len({next(iter(each)).name for each in found}) == len(groups)


def test_those_who_speak_most_come_first(xiyouji, pride):
    assert [person.name for person in xiyouji[1][:4]] == ["行者", "三藏", "八戒", "沙僧"]
    assert pride[1][0].name == "Elizabeth" and pride[1][0].first_chapter == 1
    # Sun Wukong speaks in some two and a half thousand quotations that name him.
    assert 2000 < xiyouji[1][0].speeches < 3000


def test_no_role_crowd_or_gesture_is_a_person(xiyouji, sanguo):
    names = {name for _, people in (xiyouji, sanguo) for person in people for name in person.names}
    assert not names & {
        "众人",
        "老者",
        "小妖",
        "那怪",
        "国王",
        "左右",
        "后人",
        "众将",
        "他",
        "商议",
        "笑道",
        "大王",
        "师父",
    }


def test_a_modern_novel_is_read_in_both_orders_of_name_and_quotation():
    novel = novel_from_bytes(MODERN.encode(), name="x.txt", title="x")
    people = find_people(novel.text, novel.chapters, "zh")
    assert {"陈家洛", "余鱼同", "霍青桐", "文泰来"} <= {person.name for person in people}
    said = speeches_of(novel.text, novel.chapters, find_person(people, "霍青桐"), "zh")
    assert {speech.span.of(novel.text) for speech in said} == {"是我。", "陈家洛，你来。"}


def test_nothing_past_the_bookmark_counts():
    novel = novel_from_bytes(MODERN.encode(), name="x.txt", title="x")
    fenced = find_people(novel.text, novel.chapters, "zh", until_chapter=2)
    cut = novel.text[: end_of_reading(novel.chapters, 2)]
    assert fenced == find_people(cut, novel.chapters[:2], "zh")
    assert find_person(fenced, "文泰来") is None
    assert max(span.end for span in mentions_of(novel.text, novel.chapters, ["陈家洛"], "zh", until_chapter=2)) <= len(
        cut
    )


def test_nothing_past_the_bookmark_counts_in_a_long_novel(xiyouji):
    novel, _ = xiyouji
    cut = novel.text[: end_of_reading(novel.chapters, 10)]
    chapters = [chapter for chapter in novel.chapters if chapter.number <= 10]
    assert find_people(novel.text, novel.chapters, "zh", until_chapter=10) == find_people(cut, chapters, "zh")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("行者呵呵大笑道：“你听我说。”", [("行者", "你听我说。")]),
        ("玄德谓孔明曰：“先生如何？”", [("玄德", "先生如何？")]),
        ("“走罢。”段誉低声道，“天晚了。”", [("段誉", "走罢。"), ("段誉", "天晚了。")]),
        ("他听了，心里想：“不好。”", []),
        ("牌上写着“斋堂”二字。", []),
        ("“A fine day,” said Mr. Darcy. “Indeed,” replied Elizabeth Bennet.",
         [("Mr. Darcy", "A fine day,"), ("Elizabeth Bennet", "Indeed,")]),
        ("Elizabeth turned and said, “Never.”", [("Elizabeth", "Never.")]),
        ("“Come!”\n\nJane said nothing.", []),
    ],
)  # fmt: skip
def test_a_quotation_is_its_speakers_only_where_a_name_stands_beside_it(text, said):
    language = "en" if text.isascii() or "Elizabeth" in text or "Jane" in text else "zh"
    assert [(each.speaker, each.span.of(text)) for each in speeches(text, language)] == said
