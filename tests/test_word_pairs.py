"""How strongly neighbouring words belong together."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from nemo_bias.decoder import word_pairs
from nemo_bias.decoder.word_pairs import STRONGEST, TYPICAL, SpacedWords, plain, strongest_tie, text_counts, word_ties

TIES = {("b", "c"): 2.0, ("c", "d"): 3.0, ("d", "e"): 1.0, ("a", "b"): 5.0, ("e", "f"): 4.0}


def tie(first: str, second: str) -> float:
    return TIES.get((first, second), 0.0)


def test_english_is_known():
    ties = word_ties("en")
    assert ties("which", "he") > ties("of", "the") == pytest.approx(2.23, abs=0.01)
    assert ties("he", "which") == ties("rod", "in") == ties("zzyzx", "he") == ties("", "he") == 0


def test_english_is_read_once():
    """Whatever the number of threads that ask first."""
    word_pairs._english_tie.cache_clear()
    word_pairs._english.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: word_ties("en")("new", "york"), range(8)))
    assert len(set(found)) == 1 and word_pairs._english.cache_info().misses == 1


def test_other_languages_are_typical():
    assert word_ties("de")("der", "mann") == TYPICAL


def test_ties_of_a_text_are_mutual_information(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("New York is old.\nis new York\nnew old once upon\n")
    ties = word_ties(str(text))
    assert ties("new", "york") == pytest.approx(math.log(2 / (3 * 2 / 11)))
    assert ties("old", "is") == 0, "lines are sentences"
    assert ties("once", "upon") == 0, "once may be chance"


@pytest.mark.parametrize("text", ["one\n", "a a a a\n"])
def test_texts_of_little_use(text, tmp_path):
    (tmp_path / "text.txt").write_text(text)
    assert 0 <= word_ties(str(tmp_path / "text.txt"))("a", "a") <= STRONGEST


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\n", "it has no words"), (b"gr\xfcn\n", "no text in UTF-8"), (None, "cannot be read: No such file")],
)
def test_texts_that_cannot_be_used(content, message, tmp_path):
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(ValueError, match=f"^word_frequencies {tmp_path / 'text.txt'}.*{message}"):
        text_counts(str(tmp_path / "text.txt"))


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


def test_only_the_neighbours_are_looked_at():
    """So the time does not follow the length of the utterance."""
    looked_at = []

    class Text(list):
        def __getitem__(self, k):
            looked_at.append(k)
            return super().__getitem__(k)

        def __iter__(self):
            raise AssertionError("all words are gone through")

    assert strongest_tie(Text("abcdef" * 1000), 3001, 3003, "x", tie) == 5
    assert set(looked_at) == {3000, 3001, 3002, 3003}


def test_nothing_is_parted_where_nothing_stands():
    assert strongest_tie([], 0, 0, "x", tie) == 0


@pytest.mark.parametrize(
    ("word", "bare"),
    [
        ("Store,", "store"),
        ("O'Brien's", "o'brien's"),
        ("O’Brien’s", "o'brien's"),
        ("--", ""),
        ("Ümit.", "ümit"),
        ("हिन्दी", "हिन्दी"),
    ],
)
def test_marks_and_case_do_not_count(word, bare):
    assert plain(word) == bare


@pytest.mark.parametrize(
    ("pieces", "words", "ranges"),
    [
        ("▁no ▁b orn ▁a", "no born a", {(1, 3): (1, 2), (0, 4): (0, 3), (1, 1): (1, 1), (4, 4): (3, 3), (1, 2): (1, 2)}),
        ("n o ▁ b o r n", "no born", {(0, 2): (0, 1), (3, 7): (1, 2), (2, 7): (1, 2), (7, 7): (2, 2)}),  # characters
        ("▁no ▁ ▁b orn", "no born", {(2, 4): (1, 2), (1, 4): (1, 2), (1, 1): (1, 1)}),  # a lone word start
        ("▁n 'a ▁born", "n'a born", {(0, 1): (0, 1), (1, 2): (0, 1), (2, 3): (1, 2)}),
        ("▁no , ▁- ▁born .", "no born", {(0, 1): (0, 1), (1, 2): (0, 1), (2, 3): (1, 1), (3, 5): (1, 2)}),
        ("▁no▁b orn", "no born", {(0, 1): (0, 2), (1, 2): (1, 2)}),  # a token of two words
    ],
)
def test_words_stand_between_spaces(pieces, words, ranges):
    text = SpacedWords(pieces.split(" "))
    assert text.words == words.split()
    assert {tokens: text.of_tokens(*tokens) for tokens in ranges} == ranges


def test_a_text_without_words():
    assert SpacedWords([]).words == [] and SpacedWords([]).of_tokens(0, 0) == (0, 0)
    assert SpacedWords(["▁"]).words == [] and SpacedWords(["▁"]).of_tokens(0, 1) == (0, 0)
