"""How strongly neighbouring words belong together."""

import math

import pytest

from nemo_bias.decoder.word_pairs import STRONGEST, plain, strongest_tie, word_ties

TIES = {("b", "c"): 2.0, ("c", "d"): 3.0, ("d", "e"): 1.0, ("a", "b"): 5.0, ("e", "f"): 4.0}


def tie(first: str, second: str) -> float:
    return TIES.get((first, second), 0.0)


def test_english_is_known():
    ties = word_ties("en")
    assert ties("which", "he") > ties("of", "the") > 3
    assert ties("he", "which") == ties("rod", "in") == ties("zzyzx", "he") == ties("", "he") == 0


def test_of_other_languages_nothing_is_known():
    assert word_ties("de") is None


def test_ties_of_a_text_are_mutual_information(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("New York is old.\nis new York\nnew old once upon\n")
    ties = word_ties(str(text))
    assert ties("new", "york") == pytest.approx(math.log(2 / (3 * 2 / 11)))
    assert ties("old", "is") == 0, "lines are sentences"
    assert ties("once", "upon") == 0, "once may be chance"


@pytest.mark.parametrize("text", ["", "one\n", "a a a a\n"])
def test_texts_of_little_use(text, tmp_path):
    (tmp_path / "text.txt").write_text(text)
    assert 0 <= word_ties(str(tmp_path / "text.txt"))("a", "a") <= STRONGEST


@pytest.mark.parametrize(
    ("low", "high", "phrase", "strongest"),
    [
        (2, 3, "x", 3.0),  # c
        (2, 4, "x", 3.0),  # c d
        (3, 4, "x", 3.0),  # d
        (4, 5, "x", 4.0),  # e
        (0, 1, "x", 5.0),  # a, the first word
        (5, 6, "x", 4.0),  # f, the last
        (2, 2, "x", 2.0),  # between b and c
        (0, 0, "x", 0.0),  # before all
        (6, 6, "x", 0.0),  # after all
        (1, 4, "B X D", 3.0),  # c alone
        (1, 3, "b x", 3.0),
        (2, 4, "c d", 0.0),  # nothing
        (3, 5, "x e", 3.0),  # d alone
    ],
)
def test_the_strongest_tie_that_is_parted(low, high, phrase, strongest):
    assert strongest_tie(list("abcdef"), low, high, phrase, tie) == strongest


def test_nothing_is_parted_where_nothing_stands():
    assert strongest_tie([], 0, 0, "x", tie) == 0


@pytest.mark.parametrize(("word", "bare"), [("Store,", "store"), ("O'Brien's", "o'brien's"), ("--", ""), ("Ümit.", "ümit")])
def test_marks_and_case_do_not_count(word, bare):
    assert plain(word) == bare
