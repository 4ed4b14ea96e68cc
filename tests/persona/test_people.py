"""People found in novels: which names are one person's, who says what, and that nothing past the bookmark counts."""

import textwrap
from collections import Counter
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
        ("xiyouji", [["行者", "大圣", "孙悟空", "悟空"], ["八戒", "猪八戒", "呆子", "悟能"], ["沙僧", "沙和尚", "悟净"],
                     ["三藏", "唐僧", "玄奘"]]),
        ("sanguo", [["玄德", "刘备"], ["孔明", "诸葛亮"], ["曹操", "孟德"], ["关公", "云长", "关羽"],
                    ["赵云", "子龙"], ["张飞", "张翼德"], ["徐晃", "公明"], ["曹丕"]]),
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
        "呆子道",
        "多官",
        "使人",
        "百姓",
        "驸马",
    }


def test_a_name_is_not_joined_with_the_end_of_the_word_before_it(xiyouji, sanguo):
    names = {name for _, people in (xiyouji, sanguo) for person in people for name in person.names}
    # 太白金星, 文武多官, 魏王曹丕, 刺史邓艾, 蛮王孟获: none of these is of the family 白, 武, 王 or 史.
    assert not names & {"白金星", "武多官", "王曹丕", "史邓艾", "王孟获", "吴陆逊"}


def test_a_modern_novel_is_read_in_both_orders_of_name_and_quotation():
    novel = novel_from_bytes(MODERN.encode(), name="x.txt", title="x")
    people = find_people(novel.text, novel.chapters, "zh")
    assert {"陈家洛", "余鱼同", "霍青桐", "文泰来"} <= {person.name for person in people}
    said = speeches_of(novel.text, novel.chapters, find_person(people, "霍青桐").names, "zh")
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
        # Before a colon the name belongs to the words that come.
        ("“你是谁？”八戒道：“我是老猪。”", [("八戒", "我是老猪。")]),
        ("“走罢。”段誉道。“天晚了。”", [("段誉", "走罢。"), ("段誉", "天晚了。")]),
        ('段誉道："走罢。"', [("段誉", "走罢。")]),
        ("段誉道：「他说『走罢』。」", [("段誉", "他说『走罢』。")]),
        ("他听了，心里想：“不好。”", []),
        ("牌上写着“斋堂”二字。", []),
        ("“A fine day,” said Mr. Darcy. “Indeed,” replied Elizabeth Bennet.",
         [("Mr. Darcy", "A fine day,"), ("Elizabeth Bennet", "Indeed,")]),
        ("Elizabeth turned and said, “Never.”", [("Elizabeth", "Never.")]),
        ("“Come!”\n\nJane said nothing.", []),
        # One paragraph is one speaker's, unless somebody else is said to speak in it.
        ("“True,” said Jane, “but late.”\n“Why?”", [("Jane", "True,"), ("Jane", "but late.")]),
        ("“Come here,” cried her father. “I sent for you.” Jane replied that she knew.", []),
        ("‘It’s late,’ said Jane. ‘Don’t go.’", [("Jane", "It’s late,"), ("Jane", "Don’t go.")]),
    ],
)  # fmt: skip
def test_a_quotation_is_its_speakers_only_where_a_name_stands_beside_it(text, said):
    language = "en" if "Elizabeth" in text or "Jane" in text else "zh"
    assert [(each.speaker, each.span.of(text)) for each in speeches(text, language)] == said


# Two who speak one right after the other are two people.
LATER = "那天风大，院里落了许多叶子。" * 16


def chapters_of(*bodies):
    text = "\n".join(f"第{number}章　题\n{body}" for number, body in zip("一二三四五六", bodies, strict=False))
    novel = novel_from_bytes(text.encode(), name="x.txt", title="x")
    return novel, find_people(novel.text, novel.chapters, novel.language)


def test_who_answers_to_a_name_bears_it_and_who_calls_it_does_not():
    call = f"林远山道：“阿笨，过来。”\n周大福道：“来了。”\n{LATER}\n阿笨笑道：“做甚么？”\n{LATER}\n"
    _, people = chapters_of(call * 3, call * 3)
    assert find_person(people, "阿笨") == find_person(people, "周大福")
    assert find_person(people, "阿笨") != find_person(people, "林远山")


def test_two_who_talk_with_each_other_stay_two_though_one_is_called_by_the_others_name():
    talk = "林远山道：“周大福，过来。”\n周小福道：“来了。”\n周大福道：“我也来了。”\n周小福道：“一同去。”\n"
    _, people = chapters_of(talk * 4)
    assert find_person(people, "周大福") != find_person(people, "周小福")


def test_what_somebody_calls_himself_more_than_once_is_his_name():
    told = f"慧明道：“贫僧俗家姓陈，法名了因。”\n林远山道：“久仰。”\n{LATER}\n了因笑道：“好。”\n{LATER}\n慧明合掌。\n"
    _, people = chapters_of(told, told, told)
    assert find_person(people, "了因") == find_person(people, "慧明") != find_person(people, "林远山")


def test_a_name_of_one_character_goes_to_the_full_name_before_it():
    body = "鲁肃曰：“请。”鲁肃入。肃曰：“甲。”李肃至。李肃曰：“乙。”肃曰：“丙。”鲁肃再至。肃曰：“丁。”"
    novel, _ = chapters_of(body)
    said = speeches_of(novel.text, novel.chapters, ["鲁肃", "肃"], "zh")
    assert [speech.span.of(novel.text) for speech in said] == ["请。", "甲。", "丁。"]


def test_a_name_with_a_common_word_in_it_is_whole():
    body = "温不欺道：“坐。”\n温不欺笑道：“吃面。”\n温不欺说：“不急。”\n他望着温不欺的手。门外是温不欺，也不是。\n"
    _, people = chapters_of(body * 2)
    assert [person.name for person in people] == ["温不欺"]


def test_a_family_member_with_a_title_is_no_mention_of_another():
    text = "Miss Darcy came. Darcy came. Mr. Darcy came."
    chapters = novel_from_bytes(text.encode(), name="x.txt", title="x").chapters
    found = mentions_of(text, chapters, ["Darcy", "Mr. Darcy"], "en")
    assert [span.of(text) for span in found] == ["Darcy", "Mr. Darcy"]


def test_miss_bennet_is_nobody_for_sure_among_sisters(pride):
    assert find_person(pride[1], "Miss Bennet") is None
    assert find_person(pride[1], "miss bingley").name == "Miss Bingley"


@pytest.mark.parametrize("until", [1, 12, 22])
def test_names_are_joined_by_what_was_read_alone(xiyouji, until):
    novel, _ = xiyouji
    cut = novel.text[: end_of_reading(novel.chapters, until)]
    chapters = [chapter for chapter in novel.chapters if chapter.number <= until]
    assert find_people(novel.text, novel.chapters, "zh", until_chapter=until) == find_people(cut, chapters, "zh")


@pytest.mark.parametrize("marks", ["「」", '""', "＂＂"])
def test_other_quotation_marks_give_the_same_people(marks):
    novel = novel_from_bytes(MODERN.encode(), name="x.txt", title="x")
    other = novel.text.translate(str.maketrans({"“": marks[0], "”": marks[1]}))
    assert find_people(other, novel.chapters, "zh") == find_people(novel.text, novel.chapters, "zh")


@pytest.mark.parametrize("form", ["wrapped", "single"])
def test_an_english_novel_set_otherwise_gives_the_same_speeches(pride, form):
    text = "\n".join(pride[0].text.split("\n")[:700])
    single = text.translate(str.maketrans({"“": "‘", "”": "’"}))
    wrapped = "\n\n".join(textwrap.fill(line, 72) for line in text.split("\n") if line.strip())
    plain = Counter(speech.speaker for speech in speeches(text, "en"))
    other = Counter(speech.speaker for speech in speeches(wrapped if form == "wrapped" else single, "en"))
    assert plain.total() > 100 and (plain - other).total() + (other - plain).total() <= 0.03 * plain.total()
