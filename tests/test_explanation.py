"""Why an entity is in a transcript, or is not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import random_log_probs, speak, weights_file

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.explanation import best_place, explanation_of
from nemo_bias.decoder.search import BiasedBeamSearch

BARN = ["▁no", "▁b", "o", "r", "n", "▁a"]  # "no born a", in which "born" is heard as "barn"
SECONDS = 0.08


@pytest.fixture
def search(subwords, tmp_path):
    """Makes decoders whose evidence is easy to foresee: log-odds of 4, less the nats lost."""
    evidence = weights_file(tmp_path / "evidence.json", {"constant": 20}, constant=4, gap=-1)

    def make(**options) -> BiasedBeamSearch:
        chosen = {"evidence_file": evidence, "word_frequencies": None, "pronunciations": None, "variants": [], **options}
        return BiasedBeamSearch(subwords, DecodingOptions(**chosen), threads=1)

    return make


@pytest.fixture
def heard(subwords):
    """Log-probs in which "born" loses to "barn" by the given probability."""
    return lambda probability: speak(subwords, BARN, {2: ("a", probability)})


def explain(decoder, log_probs, phrases, weights=None, phrase=0, **more):
    entities = decoder.compile(phrases, weights)
    found = decoder.evidence(log_probs, entities, **more).found
    plain = {name: each[None] for name, each in more.items()}
    ((transcript,),) = decoder.decode(log_probs[None], lists=entities, **plain)
    return explanation_of(phrase, entities, found, transcript, decoder.vocabulary, decoder.options, SECONDS)


def decode(decoder, log_probs, phrases, weights=None):
    return decoder.decode(log_probs[None], lists=decoder.compile(phrases, weights))[0][0].text


def test_one_that_is_written(search, heard):
    told = explain(search(), heard(0.7), ["born", "toast"])
    assert told.written and told.probability > 0.5
    assert (told.start, told.end, told.instead) == (pytest.approx(2 * SECONDS), pytest.approx(9 * SECONDS), "barn")
    assert str(told).startswith("born: written; spotted at 0.16-0.72 s with the probability 0.70")
    assert "looked for as born; tokens ▁bo r n" in str(told)


def test_an_utterance_that_is_not_understood(search, subwords):
    noise = random_log_probs(np.random.default_rng(0), 40, subwords.size, peak=0.5)
    told = explain(search(), noise, ["born"])
    assert not told.written
    assert "the recogniser is hardly sure of a word in this utterance (certainty 0." in told.reason


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_the_weight_that_it_needs(search, heard, weight):
    log_probs, decoder = heard(0.99), search()
    told = explain(decoder, log_probs, ["born", "toast"], [weight, 1.0])
    assert not told.written and told.instead == "barn" and told.probability < 0.5
    assert told.against[0][0] == "gap" and told.against[0][1] < 0
    assert 'where without the list "barn" stands' in str(told) and "below the 0.667 that is asked for" in str(told)
    assert "at a risk of 1 to lose right words" in str(told)
    assert f"with the weight {told.weight:.3g} in the list" in str(told)
    assert decode(decoder, log_probs, ["born", "toast"], [told.weight * 0.99, 1.0]) == "no barn a"
    assert decode(decoder, log_probs, ["born", "toast"], [told.weight * 1.01, 1.0]) == "no born a"


def test_no_weight_is_advised_that_is_not_sensible(search, heard):
    told = explain(search(min_probability=0.9999), heard(0.99), ["born"])
    assert not told.written and told.weight is None and "in the list it would" not in str(told)


def test_tokens_that_are_too_far(search, heard, subwords):
    told = explain(search(token_margin=2.0), heard(0.99), ["born", "toast"])
    assert not told.written and told.probability is None
    assert "the token ▁bo lies 7.6 nats below the frame's best, more than token_margin 2" in told.reason
    assert told.instead == "barn" and "sound" not in told.reason
    told = explain(search(token_margin=2.0, pronunciations="en"), heard(0.99), ["toaster"])
    assert "nor does it sound enough like unsure words" in told.reason


def test_frames_that_lose_too_much(search, subwords):
    log_probs = speak(subwords, ["▁no", "▁b", "o", "r", "n", "▁a"], {1: ("▁a", 0.999), 2: ("a", 0.999), 3: ("e", 0.999)})
    told = explain(search(), log_probs, ["born"])
    assert "all its frames lose" in told.reason and "too much to go on" in told.reason


def test_one_that_would_cut_a_word(search, subwords):
    log_probs = speak(subwords, ["▁no", "▁bo", "r", "n", "e", "st"])
    told = explain(search(), log_probs, ["born"])
    assert not told.written and "it would not stand as a word of its own" in told.reason and told.instead == "bornest"


def test_a_rival_that_is_likelier(search, subwords):
    log_probs = speak(subwords, BARN, {2: ("a", 0.55)})
    told = explain(search(), log_probs, ["born", "barn"], [1.0, 5.0])
    assert not told.written and told.probability > 0.5 and told.weight is None
    assert told.reason.endswith("but barn is likelier there")


def test_what_cannot_be_written_or_heard(search, heard, subwords):
    told = explain(search(), heard(0.7), ["bxrn", "born"])
    assert told.reason == "the tokens of this model cannot write it" and told.tokens == ()
    told = explain(search(), heard(0.7)[:2], ["bornbornborn"])
    assert told.reason == "the utterance has 2 frames, fewer than the entity has tokens"


def test_with_an_adapter_and_variants(search, heard):
    decoder = search(variants=["spellings"])
    told = explain(decoder, heard(0.3), ["born", "toast"], plain=heard(0.99))
    assert told.written and told.instead == "barn"  # what greedy decoding of the plain log-probs writes


@pytest.mark.parametrize("seed", range(20))
def test_the_best_place_is_the_best(seed):
    rng = np.random.default_rng(seed)
    frames, width, blank = 7, 4, 3
    log_probs = random_log_probs(rng, frames, width, 2.0)
    tokens = rng.integers(0, 3, rng.integers(1, 4)).astype(np.int32)
    best = log_probs.max(axis=1)
    highest = -np.inf
    for start in range(frames):
        for end in range(start, frames):
            for path in itertools.product(range(width), repeat=end - start + 1):
                written = [p for p, _ in itertools.groupby(path) if p != blank]
                if path[0] == tokens[0] and path[-1] == tokens[-1] and written == tokens.tolist():
                    rows = np.arange(start, end + 1)
                    highest = max(highest, (log_probs[rows, path] - best[rows]).sum())
    start, end = best_place(log_probs, best, tokens, blank)
    reached = -np.inf
    for path in itertools.product(range(width), repeat=end - start + 1):
        if [p for p, _ in itertools.groupby(path) if p != blank] == tokens.tolist():
            rows = np.arange(start, end + 1)
            reached = max(reached, (log_probs[rows, path] - best[rows]).sum())
    assert reached == pytest.approx(highest, abs=1e-5)
    assert best_place(log_probs[:1], best[:1], np.array([0, 1], np.int32), blank) == (-1, -1)
