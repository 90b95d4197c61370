"""Biased beam search: exact without a list, honest bookkeeping with one, clear about bad input."""

from __future__ import annotations

import random

import numpy as np
import pytest
from conftest import collapse, greedy_tokens, prefix_probabilities, random_log_probs, speak
from test_automaton import random_phrases

from nemo_bias.decoder.frames import near_tokens
from nemo_bias.decoder.search import BeamSearchConfig, BiasedBeamSearch
from nemo_bias.decoder.spotter import ArcScoring, find_arcs
from nemo_bias.decoder.vocabulary import Vocabulary

EXACT = BeamSearchConfig(beam_size=2000, token_margin=1e9, most_tokens=1000)
EASY = ArcScoring(threshold=-20.0)  # accepts far-fetched arcs, so that random log-probs have some
METHODS = ("arcs", "adaptive")


def search(vocabulary, **options) -> BiasedBeamSearch:
    return BiasedBeamSearch(vocabulary, BeamSearchConfig(**options), threads=1)


# ---- without a list


@pytest.mark.parametrize("seed", range(30))
def test_prefix_probabilities_are_exact(seed):
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary(("▁a", "b", "▁"), int(rng.integers(3, 4)))
    log_probs = random_log_probs(rng, int(rng.integers(1, 7)), 4)
    expected = prefix_probabilities(log_probs, vocabulary.blank)
    found = BiasedBeamSearch(vocabulary, EXACT, threads=1).decode(log_probs[None], nbest=5000)[0]
    assert {t.tokens for t in found} == set(expected)
    for transcript in found:
        assert transcript.log_prob == pytest.approx(expected[transcript.tokens], abs=1e-4)
    assert [t.score for t in found] == sorted((t.score for t in found), reverse=True)


@pytest.mark.parametrize("seed", range(30))
def test_beam_of_one_is_greedy(seed, subwords):
    log_probs = random_log_probs(np.random.default_rng(seed), 40, subwords.size, peak=2.0)
    (transcript,) = search(subwords, beam_size=1).decode(log_probs[None])[0]
    assert transcript.tokens == greedy_tokens(log_probs, subwords.blank)


def test_empty_list_is_plain_beam_search(subwords):
    log_probs = random_log_probs(np.random.default_rng(1), 50, subwords.size)
    decoder = search(subwords)
    assert (
        decoder.decode(log_probs[None], lists=decoder.compile([]))[0][0].tokens
        == decoder.decode(log_probs[None])[0][0].tokens
    )


# ---- with a list


def test_an_entity_replaces_what_sounds_alike(subwords):
    pieces = ["▁no", "▁b", "o", "r", "n", "▁a", "r", "t"]
    log_probs = speak(subwords, pieces, heard={2: ("a", 0.7)})
    decoder = search(subwords)
    assert decoder.decode(log_probs[None])[0][0].text == "no barn art"
    (transcript,) = decoder.decode(log_probs[None], lists=decoder.compile(["born", "toast"]))[0]
    assert transcript.text == "no born art"
    (span,) = transcript.spans
    assert (span.phrase, span.start, span.end) == ("born", 2, 8)
    assert span.bonus > 0


def test_other_tokenisations_of_an_entity_are_found(subwords):
    log_probs = speak(subwords, ["▁to", "a", "st", "▁no"], heard={2: ("b", 0.6)})
    decoder = search(subwords)
    assert decoder.decode(log_probs[None], lists=decoder.compile(["toast"]))[0][0].text == "toast no"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pieces", [["▁a", "▁b", "o", "r", "n", "e", "▁a"], ["▁a", "b", "o", "r", "n", "▁a"]])
def test_entities_are_whole_words(method, pieces, subwords):
    """`born` is neither found in a sure `borne` nor in a sure `aborn`."""
    log_probs = speak(subwords, pieces, sure=1 - 1e-7)
    decoder = search(subwords, method=method)
    (transcript,) = decoder.decode(log_probs[None], lists=decoder.compile(["born"]))[0]
    assert transcript.spans == ()
    assert transcript.tokens == greedy_tokens(log_probs, subwords.blank)


@pytest.mark.parametrize("method", METHODS)
def test_character_models(method, characters):
    log_probs = speak(characters, list("toast▁no▁born"), heard={2: ("e", 0.6), 10: ("a", 0.6)})
    decoder = search(characters, method=method, boost=3.0)
    (transcript,) = decoder.decode(log_probs[None], lists=decoder.compile(["toast", "born", "orn"]))[0]
    assert transcript.text == "toast no born"
    assert [s.phrase for s in transcript.spans] == ["toast", "born"]


def test_weights_of_entities_decide_between_them(subwords):
    log_probs = speak(subwords, ["▁b", "o", "n", "e"], heard={2: ("t", 0.3)})
    decoder = search(subwords)
    for weights, winner in (([1.0, 0.0], "bone"), ([0.0, 1.0], "bore")):
        found = decoder.decode(log_probs[None], lists=decoder.compile(["bone", "bore"], weights))[0][0]
        assert found.text == winner


@pytest.mark.parametrize("method", METHODS)
def test_weight_of_nothing_changes_nothing(method, subwords):
    rng = np.random.default_rng(3)
    decoder = search(subwords, method=method)
    phrases = random_phrases(3, 30)
    none = decoder.compile(phrases, [0.0] * len(phrases))
    for _ in range(20):
        log_probs = random_log_probs(rng, 30, subwords.size, peak=2.0)
        assert decoder.decode(log_probs[None], lists=none)[0][0].tokens == decoder.decode(log_probs[None])[0][0].tokens


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("seed", range(20))
def test_bonus_paid_is_bonus_kept(method, beam_size, seed, subwords, characters):
    """The score is the prefix's own log-probability plus the bonuses of entities that stand in the text as whole words."""
    rng = np.random.default_rng(seed)
    vocabulary = (subwords, characters)[seed % 2]
    phrases = random_phrases(seed, 60)
    weights = rng.uniform(0.2, 2.0, len(phrases)).tolist()
    decoder = search(vocabulary, method=method, beam_size=beam_size, arcs=EASY)
    entities = decoder.compile(phrases, weights)
    log_probs = random_log_probs(rng, 24, vocabulary.size, peak=2.0)
    for transcript in decoder.decode(log_probs[None], lists=entities, nbest=beam_size)[0]:
        assert collapse(transcript.path, vocabulary.blank) == transcript.tokens
        assert transcript.score == pytest.approx(transcript.log_prob + sum(s.bonus for s in transcript.spans))
        words_before = 0
        for span in transcript.spans:
            inside = collapse(transcript.path[span.start : span.end + 1], vocabulary.blank)
            assert vocabulary.text(inside) == span.phrase
            words = transcript.text.split()
            length = len(span.phrase.split())
            words_before = next(k for k in range(words_before, len(words)) if words[k : k + length] == span.phrase.split())
            words_before += length
            assert span.bonus >= 0
        ends = [s.end for s in transcript.spans]
        assert all(start > end for start, end in zip([s.start for s in transcript.spans][1:], ends, strict=False))


@pytest.mark.parametrize("seed", range(10))
def test_exact_masses_do_not_change_with_a_list(seed):
    """Arcs add bonuses, never probability."""
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary(("▁a", "b", "▁b"), 3)
    log_probs = random_log_probs(rng, 6, 4)
    expected = prefix_probabilities(log_probs, 3)
    decoder = BiasedBeamSearch(vocabulary, BeamSearchConfig(beam_size=2000, token_margin=1e9, arcs=EASY), threads=1)
    found = decoder.decode(log_probs[None], lists=decoder.compile(["ab", "b", "b ab"]), nbest=3000)[0]
    assert any(t.spans for t in found)
    for transcript in found:
        assert transcript.log_prob == pytest.approx(expected[transcript.tokens], abs=1e-4)


def test_arcs_outlive_the_beam(subwords):
    """An entity whose first tokens no prefix of a narrow beam holds is found all the same."""
    pieces = ["▁b", "o", "r", "n", "e", "s", "t", "o", "n"]
    heard = {0: ("▁t", 0.5), 2: ("s", 0.5), 4: ("a", 0.5)}
    log_probs = speak(subwords, pieces, heard=heard, sure=0.97)
    decoder = search(subwords, beam_size=2)
    assert "borneston" not in decoder.decode(log_probs[None])[0][0].text
    assert decoder.decode(log_probs[None], lists=decoder.compile(["borneston"]))[0][0].text.endswith("borneston")


def test_arc_scores_are_path_scores(subwords):
    rng = np.random.default_rng(5)
    decoder = search(subwords)
    entities = decoder.compile(random_phrases(5, 40))
    seen = 0
    for _ in range(20):
        log_probs = random_log_probs(rng, 20, subwords.size, peak=2.0)
        best = log_probs.max(axis=1)
        near = near_tokens(log_probs, best, subwords.blank, 8.0, 16)
        arcs = find_arcs(log_probs, best, near, subwords.blank, entities.automaton, entities.weights, EASY)
        assert (np.diff(arcs.start) >= 0).all()
        for a in range(len(arcs.entity)):
            tokens = arcs.tokens[arcs.first_token[a] : arcs.first_token[a + 1]]
            assert subwords.text(tokens) == entities.phrases[arcs.entity[a]]
            part = log_probs[arcs.start[a] : arcs.end[a] + 1]
            assert arcs.log_prob[a] <= part.max(axis=1).sum() + 1e-4
            assert arcs.log_prob[a] == pytest.approx(best_path(part, tokens, subwords.blank), abs=1e-3)
            seen += 1
    assert seen > 20


def best_path(log_probs, tokens, blank) -> float:
    """Score of the best path that starts with the first token and ends where the last token starts."""
    scores = {(0, False): float(log_probs[0, tokens[0]])}
    for t in range(1, len(log_probs)):
        following: dict[tuple[int, bool], float] = {}
        for (k, rests), score in scores.items():
            steps = [((k, True), blank)] + ([] if rests else [((k, False), tokens[k])])
            if k + 1 < len(tokens) and (rests or tokens[k + 1] != tokens[k]):
                steps.append(((k + 1, False), tokens[k + 1]))
            for state, label in steps:
                value = score + float(log_probs[t, label])
                following[state] = max(value, following.get(state, -np.inf))
        scores = following
    return scores.get((len(tokens) - 1, False), -np.inf)


# ---- batches


def test_lists_differ_within_a_batch(subwords):
    rng = np.random.default_rng(7)
    decoder = search(subwords, arcs=EASY)
    lists = [decoder.compile(random_phrases(k, 30)) if k % 3 else None for k in range(9)]
    lengths = rng.integers(0, 30, 9)
    log_probs = np.stack([random_log_probs(rng, 30, subwords.size, peak=2.0) for _ in range(9)])
    together = decoder.decode(log_probs, lengths, lists)
    threaded = BiasedBeamSearch(subwords, decoder.config, threads=3).decode(log_probs, lengths, lists)
    for b in range(9):
        (alone,) = decoder.decode(log_probs[b : b + 1, : lengths[b]], lists=lists[b])[0]
        for other in (together[b][0], threaded[b][0]):
            assert (other.text, other.score, other.spans) == (alone.text, alone.score, alone.spans)


def test_joined_lists_find_what_either_finds(subwords):
    log_probs = speak(subwords, ["▁b", "o", "r", "n", "▁to", "a", "st"], heard={1: ("a", 0.7), 5: ("e", 0.7)})
    decoder = search(subwords)
    both = decoder.compile(["born", "tar"]).joined(decoder.compile(["toast"]))
    (transcript,) = decoder.decode(log_probs[None], lists=both)[0]
    assert [s.phrase for s in transcript.spans] == ["born", "toast"]


# ---- odd input


def test_no_frames_and_one_frame(subwords):
    decoder = search(subwords)
    entities = decoder.compile(["a"])
    log_probs = speak(subwords, ["▁a"])[:1]
    (empty,), (one,) = decoder.decode(np.stack([log_probs, log_probs]), [0, 1], entities)
    assert (empty.text, empty.tokens, len(empty.path)) == ("", (), 0)
    assert one.text == "a"
    assert decoder.decode(np.zeros((0, 5, subwords.size), np.float32)) == []
    assert decoder.decode(np.zeros((1, 0, subwords.size), np.float32))[0][0].text == ""


@pytest.mark.parametrize("method", METHODS)
def test_impossible_tokens_are_never_taken(method, subwords):
    rng = np.random.default_rng(11)
    for seed in range(20):
        log_probs = random_log_probs(rng, 20, subwords.size, peak=2.0)
        log_probs[rng.random(log_probs.shape) < 0.5] = -np.inf
        log_probs[np.arange(20), rng.integers(0, subwords.size, 20)] = -0.5
        decoder = search(subwords, method=method, arcs=EASY)
        (transcript,) = decoder.decode(log_probs[None], lists=decoder.compile(random_phrases(seed, 20)))[0]
        assert np.isfinite(transcript.log_prob)
        assert all(log_probs[t, label] > -np.inf for t, label in enumerate(transcript.path))


@pytest.mark.parametrize(("value", "message"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "no finite log-prob")])
def test_broken_log_probs_are_refused(value, message, subwords):
    log_probs = random_log_probs(np.random.default_rng(0), 10, subwords.size)[None].repeat(3, axis=0)
    if value == -np.inf:
        log_probs[1, 4] = value
    else:
        log_probs[1, 4, 2] = value
    decoder = search(subwords)
    with pytest.raises(ValueError, match=rf"utterance 1, frame 4 has .*{message}"):
        decoder.decode(log_probs)
    assert len(decoder.decode(log_probs, [10, 4, 10])) == 3  # beyond an utterance's length anything may stand


def test_wrong_shapes_are_refused(subwords):
    decoder = search(subwords)
    good = np.zeros((2, 5, subwords.size), np.float32)
    for arguments, message in (
        ((good[0],), "expected \\[B, T, 21\\]"),
        ((good[..., :-1],), "expected \\[B, T, 21\\]"),
        ((good, [5, 6]), "values from 0 to 5"),
        ((good, [5]), "expected 2 values"),
        ((good, None, [None]), "1 entity lists for 2 utterances"),
    ):
        with pytest.raises(ValueError, match=message):
            decoder.decode(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"method": "magic"}, "arcs, adaptive"), ({"beam_size": 0}, "beam_size is 0"), ({"boost": -1.0}, "boost is -1.0")],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BeamSearchConfig(**options)


def test_long_random_run_is_stable(subwords):
    """Many arcs, many prefixes: the memory that the search sets aside is enough."""
    draw = random.Random(2)
    decoder = search(subwords, arcs=ArcScoring(threshold=-60.0))
    entities = decoder.compile(random_phrases(2, 400))
    log_probs = random_log_probs(np.random.default_rng(2), 200, subwords.size, peak=0.5 + draw.random())
    (transcript,) = decoder.decode(log_probs[None], lists=entities)[0]
    assert transcript.spans
