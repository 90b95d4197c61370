"""How common the ordinary words are that an entity sounds like."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import speak, weights_file

from nemo_bias.decoder import candidates, soundalikes
from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.entity_list import compile_list
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.soundalikes import PER_DISTANCE, OrdinaryWords, ordinary_words
from nemo_bias.decoder.sounds import word_sounds
from nemo_bias.decoder.vocabulary import character_vocabulary
from nemo_bias.pronunciation.distance import feature_costs, phone_distance

FREQUENCIES = {"really": 6.0, "reel": 4.0, "sea": 5.0, "see": 5.5, "window": 5.0}


def likeness(*phrases: str, words=FREQUENCIES) -> list[float]:
    return likeness_to(OrdinaryWords(list(words), words.__getitem__, word_sounds("en")), *phrases)


def likeness_to(words: OrdinaryWords, *phrases: str) -> list[float]:
    said = [tuple(each.phones for each in own) for own in word_sounds("en").words(phrases)]
    return words.likeness(phrases, said).tolist()


def test_the_strongest_rival_tells():
    assert likeness("reelly", "sie", "zzyzx", "port moresby") == [6.0, 5.5, 0.0, 0.0]


def test_a_word_counts_the_less_the_farther_it_is():
    sounds = word_sounds("en")
    reely, really = (sounds.words([word])[0][0].phones for word in ("reeling", "really"))
    distance = phone_distance(np.array(reely), np.array(really), feature_costs())
    assert 0 < distance < 0.3
    assert likeness("reeling", words={"really": 6.0}) == [pytest.approx(6 - PER_DISTANCE * distance, abs=1e-3)]
    assert likeness("reeling", words={"really": 1.0}) == [0.0]


@pytest.mark.parametrize("phrase", ["really", "Really", "see Wainwright"])
def test_a_phrase_is_not_like_its_own_words(phrase):
    assert likeness(phrase, words={"really": 6.0, "wainwright": 5.0}) == [0.0]


@pytest.mark.parametrize(("phrase", "read"), [("e-mail", "email"), ("Mr.", "mister"), ("1st", "first"), ("F.B.I.", "fbi")])
def test_a_phrase_with_marks_or_digits_is_not_like_its_reading(phrase, read):
    assert likeness(phrase, words={read: 6.0}) == [0.0]


@pytest.mark.parametrize(("phrase", "word"), [("café", "cafe"), ("cafe", "café"), ("chez Café", "cafe")])
def test_a_phrase_is_not_like_its_own_words_without_accents(phrase, word):
    assert likeness(phrase, words={word: 6.0}) == [0.0]


def test_a_word_that_is_said_otherwise_without_accents_is_a_rival():
    words = OrdinaryWords(["schon"], {"schon": 6.0}.__getitem__, word_sounds("en"))
    said = word_sounds("en").words(["schon"])[0][0].phones
    distance = phone_distance(np.array(said), np.array(said[:-1]), feature_costs())
    expected = [0, pytest.approx(6 - PER_DISTANCE * distance, abs=1e-3)]
    assert words.likeness(["schön", "schön"], [[said], [said[:-1]]]).tolist() == expected and distance < 0.3


def test_what_cannot_be_said_is_like_nothing():
    assert likeness("东京", "") == [0.0, 0.0]
    assert likeness("reelly", words={}) == [0.0]


def test_english_is_pronounced_once():
    """Whatever the number of threads that ask first."""
    soundalikes._pronounced.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: ordinary_words("en", "en"), range(8)))
    assert len({id(each) for each in found}) == 1 and soundalikes._pronounced.cache_info().misses == 1


def test_placeholders_of_numbers_are_no_words():
    assert likeness_to(ordinary_words("en", "en"), "zero")[0] < 4


def test_words_of_a_text_have_no_marks(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text('"Paris, Paris!" he said. (Paris.)\n' * 1000)
    options = DecodingOptions(word_frequencies=str(text))
    paris, parris = BiasedBeamSearch(character_vocabulary([" ", *"aiprs"]), options).compile(["paris", "parris"]).likeness
    assert paris == 0 and parris > 5


@pytest.mark.parametrize(("words", "expected"), [(2_000, 0), (2_000_000, 3.45)])
def test_what_occurs_in_a_short_text_need_not_be_common(words, expected, tmp_path):
    """An entity that sounds like a word of it is not doubted for that."""
    text = tmp_path / "text.txt"
    text.write_text("paris " * (words // 20_000 or 1) + "to " * words)
    options = DecodingOptions(word_frequencies=str(text))
    (parris,) = BiasedBeamSearch(character_vocabulary([" ", *"aiprs"]), options).compile(["parris"]).likeness
    assert parris == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    "options", [{}, {"word_frequencies": None}, {"pronunciations": None}, {"language": "de"}, {"method": "adaptive"}]
)
def test_lists_know_it_where_words_and_sounds_are_known(subwords, options):
    compiled = BiasedBeamSearch(subwords, DecodingOptions(**options)).compile(["reelly", "katharina"])
    assert compiled.likeness == pytest.approx([0, 0] if options else [5.97, 0.52], abs=0.01)


def test_words_are_not_pronounced_for_nothing(subwords, monkeypatch):
    monkeypatch.setattr(candidates, "ordinary_words", pytest.fail)
    search = BiasedBeamSearch(subwords)
    assert not len(search.compile([])) and not len(search.compile(["reelly"], [-1.0]))


def test_joined_lists_keep_the_greater(subwords):
    first = compile_list(["a", "b"], subwords, likeness=np.array([1, 2], np.float32))
    second = compile_list(["c", "a", "b"], subwords, likeness=np.array([3, 4, 1], np.float32))
    joined = first.joined(second)
    assert dict(zip(joined.phrases[:3], joined.likeness.tolist(), strict=False)) == {"a": 4, "b": 2, "c": 3}


def test_another_number_of_likenesses_is_refused(subwords):
    with pytest.raises(ValueError, match="2 phrases, but 2 weights, 2 names, pronunciations of 2 and likeness of 1"):
        compile_list(["a", "b"], subwords, likeness=np.zeros(1, np.float32))


def test_it_is_evidence_whatever_an_entity_replaces(tmp_path):
    """Of two names that fit as well, the one that sounds like a common word is the less likely."""
    evidence = weights_file(tmp_path / "evidence.json", constant=3, soundalike=-1)
    characters = character_vocabulary([" ", *"aehklnrsty"])
    search = BiasedBeamSearch(characters, DecodingOptions(evidence_file=evidence, variants=[]), threads=1)
    log_odds = {}
    for heard, listed in (("reells", "reelly"), ("kathars", "katharn")):
        entities = search.compile([listed])
        found = search.evidence(speak(characters, list(heard)), entities).found
        (odds,) = {float(each) for each in found.log_odds}
        log_odds[listed] = odds + float(entities.likeness[0])
    assert log_odds["reelly"] == pytest.approx(log_odds["katharn"]) == pytest.approx(3)
