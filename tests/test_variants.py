"""Variants: further forms of an entity, that are found in its place and written as it is listed."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import collapse, weights_file

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.entities import Entity
from nemo_bias.variants import GENERATORS, MOST_VARIANTS, Variant, VariantSettings, generate_variants, register

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ALPHABET = frozenset(LETTERS + "'")


@pytest.fixture
def letters() -> Vocabulary:
    """Letters, each also as the start of a word."""
    pieces = ("▁", *LETTERS, "'", *(f"▁{letter}" for letter in LETTERS))
    return Vocabulary(pieces, len(pieces))


@pytest.fixture
def cased() -> Vocabulary:
    """Letters of both cases."""
    pieces = ("▁", *LETTERS, *LETTERS.upper(), ".", *(f"▁{letter}" for letter in LETTERS + LETTERS.upper()))
    return Vocabulary(pieces, len(pieces))


@pytest.fixture
def search(tmp_path):
    """Makes decoders with log-odds of 3, less the nats of the gap and those of the variant."""
    evidence = weights_file(tmp_path / "evidence.json", constant=3, gap=-1, variant_cost=-1)

    def make(vocabulary, **options) -> BiasedBeamSearch:
        chosen = {"evidence_file": evidence, "word_frequencies": None, "pronunciations": None, **options}
        return BiasedBeamSearch(vocabulary, DecodingOptions(**chosen), threads=1)

    return make


def say(vocabulary: Vocabulary, text: str, blanks: int = 1) -> np.ndarray:
    """Log-probs [T, V] of words in letters, blanks after each letter; all else is unlikely."""
    rows = []
    for word in text.split():
        for k, letter in enumerate(word):
            for token in (vocabulary.pieces.index(letter if k else f"▁{letter}"), *[vocabulary.blank] * blanks):
                row = np.full(vocabulary.size, 1e-7)
                row[token] = 1 - 1e-7 * (vocabulary.size - 1)
                rows.append(row)
    return np.log(np.array(rows)).astype(np.float32)


def decode(decoder, log_probs, *entities: Entity):
    lists = decoder.compile([entity.text for entity in entities], entities=entities)
    (transcript,) = decoder.decode(log_probs[None], lists=lists)[0]
    assert collapse(transcript.path, decoder.vocabulary.blank) == transcript.tokens
    return transcript


@pytest.mark.parametrize(
    ("spoken", "listed", "spelling"),
    [
        ("i met catarina here", "katharina", "catarina"),  # more letters
        ("i met zum afeld here", "sommerfeld", "zum afeld"),  # fewer words
        ("a knife rank here", "knifrank", "knife rank"),
        ("seagate c gate", "cgate", "c gate"),  # one is no variant
        ("mcneill came", "mcneil", "mcneill"),  # the entity stands in the variant
        ("i saw catarina's hat", "katharina", "catarina"),  # the ending stays
    ],
)
@pytest.mark.parametrize("blanks", [1, 3])
def test_a_spelling_is_found_and_the_entity_written(spoken, listed, spelling, blanks, search, letters):
    log_probs = say(letters, spoken, blanks)
    entity = Entity(listed, spellings=(spelling,))
    assert decode(search(letters, variants=[]), log_probs, entity).text == spoken
    transcript = decode(search(letters), log_probs, entity)
    assert transcript.text == spoken.replace(spelling, listed)
    (span,) = transcript.spans
    assert (span.entity, span.phrase) == (listed, listed)
    assert span.probability == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-3)
    frames_before = len(spoken[: spoken.index(spelling)].replace(" ", "")) * (1 + blanks)
    frames = len(spelling.replace(" ", "")) * (1 + blanks)
    assert span.start == frames_before
    assert span.start <= span.end < span.start + frames
    inside = transcript.path[span.start : span.end + 1]
    assert letters.text(collapse(inside, letters.blank)) == listed
    greedy = log_probs.argmax(axis=1)
    outside = np.ones(len(greedy), np.bool_)
    outside[span.start : span.start + frames] = False
    assert (transcript.path[outside] == greedy[outside]).all()


def test_a_spelling_that_has_no_room_for_the_entity_is_not_taken(search, letters):
    transcript = decode(search(letters), say(letters, "a bo a", blanks=0), Entity("bartholomew", spellings=("bo",)))
    assert (transcript.text, transcript.spans) == ("a bo a", ())


def test_what_the_entity_costs_less_than_its_variant_is_the_entity(search, letters):
    (span,) = decode(search(letters), say(letters, "tom"), Entity("tom", spellings=("thom",))).spans
    assert span.probability == pytest.approx(1 / (1 + np.exp(-3)), rel=1e-3)


@pytest.mark.parametrize(
    ("spoken", "text"), [("i met Catarina", "i met Katharina"), ("i met catarina", "i met Katharina"), ("Catarina", "Katharina")]
)
def test_spellings_in_models_of_both_cases(spoken, text, search, cased):
    assert decode(search(cased), say(cased, spoken), Entity("Katharina", spellings=("catarina",))).text == text


def test_lists_joined_keep_their_variants(search, letters):
    decoder = search(letters)
    lists = [
        decoder.compile([text], entities=[Entity(text, spellings=(spelling,))])
        for text, spelling in (("katharina", "catarina"), ("sommerfeld", "zum afeld"))
    ]
    log_probs = say(letters, "catarina zum afeld")
    for joined in (lists[0].joined(lists[1]), lists[1].joined(lists[0])):
        assert decoder.decode(log_probs[None], lists=joined)[0][0].text == "katharina sommerfeld"


# ---- which variants there are


@pytest.fixture
def generator(monkeypatch):
    """Registers a generator `test` with given variants of every entity."""

    def add(*texts: str) -> None:
        monkeypatch.delitem(GENERATORS, "test", raising=False)

        @register("test")
        def make(settings):
            return lambda entities, phrases: [
                [Variant(text, 1.0 + k, "test") for k, text in enumerate(texts)] for _ in entities
            ]

    yield add
    GENERATORS.pop("test", None)


def generated(names, *entities: Entity, frequencies=None):
    phrases = [entity.text for entity in entities]
    return generate_variants(names, entities, phrases, VariantSettings(ALPHABET), frequencies)


def test_what_is_something_else_is_left_out_with_a_note(generator):
    generator("tom", "thom", "bill", "dumb")
    found = generated(["test"], Entity("tom"), Entity("bill"), frequencies=zipf)
    assert [[v.text for v in own] for own in found.variants] == [["thom"], []]
    assert len(found.notes) == 5
    assert any('"bill" (test) is no variant of "tom"' in note for note in found.notes)
    assert any('"dumb" (test) is no variant of "tom", as it is common' in note for note in found.notes)


def zipf(word: str) -> float:
    return {"dumb": 4.5, "night": 5.3, "shade": 4.1}.get(word, 0.0)


def test_a_spelling_that_the_author_gives_may_be_common(generator):
    assert generated(["spellings"], Entity("tom", spellings=("dumb",)), frequencies=zipf).variants[0][0].text == "dumb"


def test_common_words_in_a_row_may_be_a_variant(generator):
    generator("night shade")
    assert generated(["test"], Entity("nightshade"), frequencies=zipf).variants[0][0].text == "night shade"


def test_at_most_so_many_variants_the_cheapest(generator):
    generator(*(f"tom{letter}" for letter in LETTERS))
    (own,) = generated(["test"], Entity("tom")).variants
    assert [v.text for v in own] == [f"tom{letter}" for letter in LETTERS[:MOST_VARIANTS]]


def test_an_unknown_generator_is_an_error(search, letters):
    with pytest.raises(ValueError, match=r"variants has 'speling'; choose among .*spellings"):
        generated(["speling"], Entity("tom"))


def test_a_name_of_a_generator_is_taken_once(generator):
    with pytest.raises(ValueError, match="'spellings' already"):
        register("spellings")(lambda settings: lambda entities, phrases: [])
