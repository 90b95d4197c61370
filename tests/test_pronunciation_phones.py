"""Phones, their two alphabets, and the distance of pronunciations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_bias.pronunciation.distance import feature_costs, packed, phone_distance
from nemo_bias.pronunciation.index import BLOCK, LONGEST, index_of, nearest
from nemo_bias.pronunciation.phones import IPA_TO_ARPABET, PHONES, arpabet, ipa, read_phones

COSTS = feature_costs()
pronunciations = st.lists(st.integers(0, len(PHONES) - 1), min_size=1, max_size=8).map(tuple)


def distance(a: str, b: str) -> float:
    return phone_distance(np.array(read_phones(a)), np.array(read_phones(b)), COSTS)


def test_the_phone_set():
    assert len(PHONES) == 39 and list(PHONES) == sorted(PHONES)
    assert PHONES[0] == "AA" and PHONES[38] == "ZH"
    assert {phone for value in IPA_TO_ARPABET.values() for phone in value.split()} == set(PHONES)


@given(pronunciations)
def test_what_is_written_is_read_back(phones):
    assert read_phones(ipa(phones)) == phones
    if len(phones) > 1:
        assert read_phones(arpabet(phones).lower()) == phones
    assert read_phones(arpabet(phones)) == phones


def test_a_dot_parts_phones_that_would_be_read_as_one():
    assert ipa(read_phones("N AH1 T SH EH0 L")) == "nʌt.ʃɛl"
    assert ipa(read_phones("N AH1 CH EH0 L")) == "nʌtʃɛl"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("N IH0 V IY1 D IY0 AH0", "N IH V IY D IY AH"),
        ("n ih0 v iy1", "N IH V IY"),
        ("OW", "OW"),
        ("nɪˈvɪdiə", "N IH V IH D IY AH"),
        ("/ˈsmɪθ/", "S M IH TH"),
        ("[ˈt͡ʃɜːt͡ʃ]", "CH ER CH"),
        ("ʧɜːrʧ", "CH ER CH"),
        ("d͜ʒ eɪ m z", "JH EY M Z"),
        ("əʊvəɹ", "OW V ER"),
        ("bʌtɚ", "B AH T ER"),
        ("ˈbʌtə˞", "B AH T ER"),
        ("bɑːɹ", "B AA R"),
        ("ˈlɪtl̩", "L IH T AH L"),
        ("ˈmʏlɐ", "M UH L AH"),
        ("bax", "B AA K"),
        ("bɔ̃ʒuʁ", "B AO N ZH UW R"),
        ("vɛ̃", "V AE N"),
        ("weːk", "W EY K"),
        ("ˈniːtʃə", "N IY CH AH"),
        ("ɕiː tɕʰin", "SH IY CH IY N"),
        ("hɪə", "HH IH R"),
        ("naɪ̯n", "N AY N"),
        ("na\u0308ɪ̯n", "N AY N"),
        ("ç", "SH"),
        ("mɐ̃", "M AH N"),
        ("ˈhɪdᵊn", "HH IH D AH N"),
        ("pei˨˩˦ t͡ɕiŋ", "P EY CH IY NG"),
    ],
)
def test_reading(text, expected):
    assert arpabet(read_phones(text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("N IX V IY", '"IX" is not an ARPAbet phone, did you mean "IY"?; use AA AE '),
        ("n ih v ixx", '"ixx" is not an ARPAbet phone'),
        ("AH3", '"AH3" is not an ARPAbet phone'),
        ("nɪ#", '"#" is neither an ARPAbet phone nor an IPA symbol; write ARPAbet or IPA'),
        ("слово", '"с" is neither'),
        ("ˈ", "it has no phones"),
    ],
)
def test_what_is_neither_alphabet_is_named(text, message):
    with pytest.raises(ValueError) as caught:
        read_phones(text)
    assert message in str(caught.value)


def test_costs_follow_the_features():
    assert COSTS.shape == (40, 40) and COSTS.dtype == np.float32
    assert np.array_equal(COSTS, COSTS.T) and not COSTS.diagonal().any()
    assert (COSTS[~np.eye(40, dtype=bool)] > 0).all()
    voicing, vowels, unlike = distance("P", "B"), distance("IH", "IY"), distance("S", "OW")
    assert voicing < 0.3 and vowels < 0.4 and unlike > 1
    assert distance("M", "N") < distance("M", "K") < unlike
    assert distance("EH", "AE") < distance("EH", "UW")
    assert distance("Y", "IY") < distance("Y", "AA")


def test_distance_is_by_the_longer_length():
    assert distance("S M IH TH", "S M IH DH") == pytest.approx(distance("TH", "DH") / 4)
    insertion = COSTS[PHONES.index("S"), 39]
    assert distance("K AE T", "K AE T S") == pytest.approx(insertion / 4)
    small = np.array(read_phones("K AE T"), np.int8), np.array(read_phones("K AE T S"), np.int8)
    assert phone_distance(*small, COSTS) == distance("K AE T", "K AE T S")
    empty = np.array([], np.int32)
    assert phone_distance(empty, empty, COSTS) == 0


@settings(deadline=None)  # compiles at first
@given(pronunciations, pronunciations)
def test_distance_is_a_symmetric_edit_distance(a, b):
    both = np.array(a, np.int32), np.array(b, np.int32)
    value = phone_distance(*both, COSTS)
    assert value == pytest.approx(phone_distance(*both[::-1], COSTS))
    assert (value == 0) == (a == b)
    gaps = sum(COSTS[phone, 39] for phone in a + b)
    assert value <= gaps / max(len(a), len(b)) + 1e-6


@settings(deadline=None)  # compiles at first
@given(
    st.lists(pronunciations, min_size=1, max_size=4),
    st.lists(st.lists(pronunciations, max_size=2), min_size=1, max_size=12),
    st.integers(0, 12),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.123, 0.317, 0.611, 1.2]),
)
def test_the_nearest_entities_are_those_of_an_exhaustive_search(sounds, entities, cut, most, farthest):
    heard = [phones for phones in sounds for phones in (phones, phones + sounds[0])]  # some begin as the one before
    cut = min(cut, len(entities))
    second = index_of(entities[cut:])
    index = index_of(entities[:cut]).joined(second, np.arange(cut, len(entities), dtype=np.int32))
    found, distances = nearest(index, *packed([np.array(each, np.int32) for each in heard]), most, np.float32(farthest))
    for phones, own_found, own_distances in zip(heard, found.tolist(), distances.tolist(), strict=True):
        every = [min((float(apart(phones, each)) for each in own), default=np.inf) for own in entities]
        near = sorted((value, entity) for entity, value in enumerate(every) if value <= np.float32(farthest))[:most]
        assert list(zip(own_distances, own_found, strict=True)) == near + [(np.inf, -1)] * (most - len(near))


def apart(a, b):
    return np.float32(phone_distance(np.array(a, np.int32), np.array(b, np.int32), COSTS))


def test_an_index_of_many_pronunciations_finds_the_nearest():
    draw = np.random.default_rng(5)
    said = [tuple(draw.integers(0, 39, draw.integers(1, 20)).tolist()) for _ in range(3 * BLOCK)]
    found, distances = nearest(index_of([[each] for each in said]), *packed([np.array(said[7]), np.array(said[8])]), 2, 9.9)
    for phones, own_found, own_distances in zip(said[7:9], found.tolist(), distances, strict=True):
        near = sorted((apart(phones, each), entity) for entity, each in enumerate(said))[:2]
        assert own_found == [entity for _, entity in near]
        assert own_distances.tolist() == [distance for distance, _ in near]


def test_what_is_too_long_to_be_a_name_is_never_near():
    long, short = (1,) * (LONGEST + 1), (1, 2)
    found, _ = nearest(index_of([[long], [short]]), *packed([np.array(long), np.array(short)]), 2, np.inf)
    assert found.tolist() == [[-1, -1], [1, -1]]
