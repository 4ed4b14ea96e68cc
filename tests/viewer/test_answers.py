"""An answer's places on the map."""

import json

import numpy as np
import pytest

from core.errors import SettingsError
from viz.answers import read_answer


def raw(*places, **more):
    return {
        "question": "谁？",
        "passages": [dict(zip(("start", "end", "score"), place, strict=False)) for place in places],
        **more,
    }


def test_a_place_lights_every_passage_it_shares_characters_with_and_the_most_shared_is_its_main_one(cloud):
    answer = read_answer(raw((180, 350, 0.9), (1000, 1001, 0.5)), cloud)
    assert [hit.rows for hit in answer.hits] == [(1, 2, 3), (10,)]
    assert [hit.main for hit in answer.hits] == [2, 10] and [hit.rank for hit in answer.hits] == [1, 2]
    assert answer.scores == {1: 0.9, 2: 0.9, 3: 0.9, 10: 0.5}


def test_near_misses_are_ranked_on_and_told_apart(cloud):
    places = raw((0, 100, 0.9), (500, 600, 0.1))
    places["passages"][1]["near"] = True
    answer = read_answer(places, cloud)
    assert [hit.rank for hit in answer.found] == [1] and [hit.rank for hit in answer.near] == [2]


def test_places_beyond_the_bookmark_or_the_book_are_left_out(cloud):
    answer = read_answer(raw((0, 100, 0.9), (15_000, 15_100, 0.8), (10**7, 10**7 + 5, 0.7)), cloud, until_chapter=2)
    assert [hit.main for hit in answer.hits] == [0]


def test_the_question_stands_among_its_passages_nearest_the_best(cloud):
    answer = read_answer(raw((0, 100, 3.0), (100, 200, 1.0)), cloud)
    place = answer.place(cloud)
    first, second = cloud.points[0].astype(float), cloud.points[1].astype(float)
    assert np.linalg.norm(place - first) < np.linalg.norm(place - second)
    assert np.linalg.norm(place - first) + np.linalg.norm(place - second) == pytest.approx(
        np.linalg.norm(first - second)
    )
    assert read_answer(raw(), cloud).place(cloud) is None
    equal = read_answer(raw((0, 100, 1.0), (100, 200, 1.0)), cloud)
    np.testing.assert_allclose(equal.place(cloud), (first + second) / 2, atol=1e-6)


def test_another_book_s_answer_is_none_and_a_file_is_read_as_well(cloud, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(raw((0, 100, 1.0), book=cloud.facts.book)), encoding="utf-8")
    assert read_answer(path, cloud).hits[0].main == 0
    assert read_answer(raw((0, 100, 1.0), book="another"), cloud) is None


@pytest.mark.parametrize(
    "value",
    [
        {}, {"question": "谁"}, {"question": "谁", "passages": [{"start": 1}]}, {"error": "broken"}, [],
        {"question": "谁", "passages": [{"start": 0, "end": 9, "score": float("nan")}]},
        {"question": "谁", "passages": 7},
    ],
)  # fmt: skip
def test_what_is_no_answer_is_one_sentence(cloud, value):
    with pytest.raises(SettingsError):
        read_answer(value, cloud)
