"""Distractors that sound like what is said."""

from __future__ import annotations

import pytest

from nemo_bias.evaluation.near_lists import bases, near_distractors, near_phrases
from nemo_bias.pronunciation import Pronouncer

ITEMS = [
    {"text": "the smiths walked by the lake", "entities": ["smiths"]},
    {"text": "carrying stones was planned", "entities": []},
]
POOL = [
    "zanzibar",
    "smithe",
    "smith",
    "walking",
    "plan",
    "lakes",
    "smiths",
    "carries",
    "stoans",
    "by the lake",
    "loughborough",
]
POOL += ["plant", "bi thee", "", "lake", "stoans", "北京"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_near_phrases_are_not_said_and_no_inflections():
    phrases = near_phrases(ITEMS, POOL, 6, Pronouncer())
    assert set(phrases) == {"zanzibar", "smithe", "stoans", "loughborough", "plant", "bi thee"}
    assert set(phrases[-2:]) == {"zanzibar", "loughborough"}
    assert near_phrases(ITEMS, POOL, 4, Pronouncer()) == phrases[:4]


def test_pairs_of_words_are_near_too():
    items = [{"text": "a new castle", "entities": []}]
    assert near_phrases(items, ["glasgow", "newcastle", "rome"], 1, Pronouncer()) == ["newcastle"]


def test_too_few_phrases():
    with pytest.raises(ValueError, match="7 near phrases wanted, but the pool has only 6 that are not said"):
        near_phrases(ITEMS, POOL, 7, Pronouncer())
    with pytest.raises(ValueError, match="no reference has a pronunciation"):
        near_phrases([{"text": "北京", "entities": []}], POOL, 1, Pronouncer())


@pytest.mark.parametrize(
    ("a", "b", "related"),
    [
        ("walk", "walking", True),
        ("plan", "planned", True),
        ("carry", "carries", True),
        ("make", "making", True),
        ("smith", "smith's", True),
        ("boys", "boys'", True),
        ("walk", "talk", False),
        ("plan", "plant", False),
        ("sing", "string", False),
        ("mary", "marry", False),
    ],
)
def test_forms_of_a_word(a, b, related):
    assert bool(bases(a) & bases(b)) == related


def test_a_file_or_a_number(tmp_path):
    (tmp_path / "near.txt").write_text("one\ntwo\n")
    assert near_distractors(str(tmp_path / "near.txt"), ITEMS, POOL) == ["one", "two"]
    lexicon = tmp_path / "words.dict"
    lexicon.write_text("zanzibar L EY K\n")
    assert near_distractors("1", ITEMS, POOL, str(lexicon)) == ["zanzibar"]
    with pytest.raises(FileNotFoundError):
        near_distractors(str(tmp_path / "no.txt"), ITEMS, POOL)
