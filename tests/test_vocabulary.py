"""Where words begin and end between tokens, and how phrases stand in texts."""

from __future__ import annotations

import itertools

import pytest
from conftest import CAPITALS, MARKS, PIECES, is_boundary

from nemo_bias.decoder.vocabulary import EDGE, Vocabulary, character_vocabulary

UNSPACED = ("東", "か", "ヤ", "ก", "กี", "ี", "東a", "a東")


def between(vocabulary, before: str, after: str) -> bool:
    boundaries = vocabulary.boundaries
    last = boundaries.last[vocabulary.pieces.index(before)] if before else EDGE
    first = boundaries.first[vocabulary.pieces.index(after)] if after else EDGE
    return bool(boundaries.between[last, first])


def opens(vocabulary, before: str, after: str) -> bool:
    boundaries = vocabulary.boundaries
    last = boundaries.last[vocabulary.pieces.index(before)]
    return bool(boundaries.opens[last, boundaries.first[vocabulary.pieces.index(after)]])


def test_boundaries_of_all_pairs_of_tokens():
    pieces = (*PIECES, *MARKS, *CAPITALS, *UNSPACED, "7", "ü", "о")
    vocabulary = Vocabulary(pieces, len(pieces))
    for before, after in itertools.product(("", *pieces), repeat=2):
        if before or after:
            assert between(vocabulary, before, after) == is_boundary(before, after), (before, after)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("n", "e", False),
        ("n", "▁e", True),
        ("▁", "e", True),
        ("n", "'", True),  # an ending may follow
        ("'", "s", False),  # but no word begins in `o'brien`
        ("▁'", "s", True),  # a quotation mark
        ("’", "s", False),
        ("n", ",", True),
        (",", "n", True),
        ("-", "n", True),
        ("€", "7", True),
        ("n", "7", False),
        ("東", "京", True),
        ("東", "a", True),
        ("ー", "ヒ", True),
        ("ก", "ข", True),
        ("ก", "ี", False),
        ("ี", "ข", True),
        ("n", "\u0301", False),
        ("", "n", True),
        ("n", "", True),
    ],
)
def test_boundaries(before, after, expected):
    pieces = tuple(piece for piece in dict.fromkeys((before, after)) if piece)
    assert between(Vocabulary(pieces, len(pieces)), before, after) == expected


def test_tokens_without_text_are_edges():
    vocabulary = Vocabulary(("a", ""), 2)
    assert vocabulary.boundaries.first.tolist()[1:] == vocabulary.boundaries.last.tolist()[1:] == [EDGE, EDGE]


def test_a_lone_word_start_belongs_to_the_word_that_follows(subwords, characters):
    assert not opens(subwords, "▁", "a")
    assert opens(subwords, "a", "▁") and opens(subwords, "▁", "▁a") and opens(subwords, "a", "▁a")
    assert not opens(subwords, "a", "b")
    assert opens(characters, "▁", "a") and opens(characters, "a", "▁")  # there it is a word of its own


def test_phrases_in_each_way_that_they_may_stand(subwords, marked, characters):
    assert subwords.marked("to be") == ("▁to▁be",)
    assert marked.marked("to be") == ("▁to▁be", "to▁be")  # as in `(to be`
    assert characters.marked("to be") == ("to▁be",)
    assert Vocabulary(("▁a", "東"), 2).marked("東") == ("▁東", "東")  # as in `東京東`


@pytest.mark.parametrize(
    ("pieces", "delimited"), [(("▁", "a", "b"), True), (("▁", "▁a", "b"), False), (("a", "b"), False), (("▁a", "b"), False)]
)
def test_delimited_vocabularies_separate_words_by_a_token(pieces, delimited):
    assert Vocabulary(pieces, len(pieces)).delimited == delimited


def test_both_cases(subwords, cased):
    assert cased.writes_both_cases and not subwords.writes_both_cases
    assert not Vocabulary(("A", "B"), 2).writes_both_cases


def test_text(subwords):
    tokens = [subwords.pieces.index(piece) for piece in ("▁", "a", "▁to", "ar", "▁")]
    assert subwords.text(tokens) == "a toar"
    assert character_vocabulary([" ", "a", "b"]).text([1, 0, 2]) == "a b"


@pytest.mark.parametrize("characters", ["▁born", "▁to▁born", "born", "▁", "▁bononer", "bx", "", "▁toar"])
def test_the_fewest_tokens(characters, subwords):
    ways = [[]] if not characters else []
    for count in range(1, len(characters) + 1):
        for cuts in itertools.combinations(range(1, len(characters)), count - 1):
            parts = [characters[a:b] for a, b in itertools.pairwise([0, *cuts, len(characters)])]
            if all(part in PIECES for part in parts):
                ways.append(parts)
    found = subwords.shortest(characters)
    if not ways:
        assert found is None
    else:
        assert len(found) == min(map(len, ways))
        assert "".join(PIECES[token] for token in found) == characters


@pytest.mark.parametrize(("blank", "size"), [(0, 3), (1, 3), (3, 4)])
def test_the_blank_is_counted(blank, size):
    vocabulary = Vocabulary(("a", "b", "c"), blank)
    assert vocabulary.size == size
    assert vocabulary.boundaries.first[blank] == EDGE
    assert vocabulary.shortest("abc"[blank : blank + 1]) == (None if blank < 3 else ())


@pytest.mark.parametrize("blank", [-1, 4])
def test_a_blank_outside_is_refused(blank):
    with pytest.raises(ValueError, match=f"blank id {blank} is outside 0..3"):
        Vocabulary(("a", "b", "c"), blank)
