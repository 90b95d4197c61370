"""Prefix beam search: exact without a list; boosted prefixes pay back what is not a whole entity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from conftest import MARKS, PIECES, greedy_tokens, prefix_probabilities, random_log_probs, speak
from test_automaton import random_phrases

from nemo_bias.decoder.automaton import ENTITY, NO_ENTITY, TARGET, compile_automaton
from nemo_bias.decoder.frames import near_tokens
from nemo_bias.decoder.prefix_search import SearchSettings, node_weights, prefix_search
from nemo_bias.decoder.vocabulary import Vocabulary

EXACT = {"beam_size": 2000, "margin": 1e9, "most_tokens": 1000}
FLOOR = 0.5


class Hypothesis(NamedTuple):
    tokens: tuple[int, ...]
    mass: float
    bonus: float
    spans: list[tuple[int, int, int]]  # phrase, first token, token after the last
    span_bonus: list[float]


def search(
    vocabulary, log_probs, phrases=(), weights=None, beam_size=8, margin=8.0, most_tokens=16, boost=2.0, spread=np.inf
) -> list[Hypothesis]:
    """The final beam, best first; log_probs: [T, V]."""
    automaton = compile_automaton(phrases, vocabulary)
    weight = np.ones(len(phrases), np.float32) if weights is None else np.asarray(weights, np.float32)
    best = log_probs.max(axis=1)
    near = near_tokens(log_probs, best, vocabulary.blank, margin + boost, most_tokens)
    settings = SearchSettings(vocabulary.blank, vocabulary.boundaries, beam_size, margin, spread, boost, FLOOR, False)
    found = prefix_search(log_probs, best, near, settings, automaton, weight, node_weights(automaton, weight))
    beam = []
    for k in range(len(found.mass)):
        tokens = found.tokens[found.first_token[k] : found.first_token[k + 1]]
        spans = slice(found.first_span[k], found.first_span[k + 1])
        beam.append(
            Hypothesis(
                tuple(tokens.tolist()),
                float(found.mass[k]),
                float(found.bonus[k]),
                [tuple(span) for span in found.spans[spans].tolist()],
                found.span_bonus[spans].tolist(),
            )
        )
    return beam


def ctc_log_prob(log_probs, tokens, blank) -> float:
    """Log-probability of all paths that write the tokens."""
    labels = [blank]
    for token in tokens:
        labels += [token, blank]
    alpha = np.full(len(labels), -np.inf)
    alpha[0] = 0.0  # before the first frame
    for row in log_probs.astype(np.float64):
        before = alpha
        alpha = before.copy()
        alpha[1:] = np.logaddexp(alpha[1:], before[:-1])
        for k in range(3, len(labels), 2):
            if labels[k] != labels[k - 2]:
                alpha[k] = np.logaddexp(alpha[k], before[k - 2])
        alpha += row[labels]
    return float(np.logaddexp.reduce(alpha[-2:]))


def rows(vocabulary, *probabilities: dict[str, float]) -> np.ndarray:
    """[T, V] log-probs; "" is the blank, and what is not given shares the rest."""
    log_probs = np.empty((len(probabilities), vocabulary.size), np.float32)
    for row, given in zip(log_probs, probabilities, strict=True):
        row[:] = np.log((1 - sum(given.values())) / (vocabulary.size - len(given)))
        for piece, probability in given.items():
            row[vocabulary.pieces.index(piece) if piece else vocabulary.blank] = np.log(probability)
    return log_probs


# ---- plain search


@pytest.mark.parametrize("seed", range(30))
def test_prefix_probabilities_are_exact(seed):
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary(("▁a", "b", "▁"), 3)
    log_probs = random_log_probs(rng, int(rng.integers(1, 7)), 4)
    expected = prefix_probabilities(log_probs, vocabulary.blank)
    found = search(vocabulary, log_probs, boost=0.0, **EXACT)
    assert {h.tokens for h in found} == set(expected)
    for hypothesis in found:
        assert hypothesis.mass == pytest.approx(expected[hypothesis.tokens], abs=1e-4)
        assert hypothesis.mass == pytest.approx(ctc_log_prob(log_probs, hypothesis.tokens, vocabulary.blank), abs=1e-4)
        assert (hypothesis.bonus, hypothesis.spans) == (0.0, [])
    assert [h.mass for h in found] == sorted((h.mass for h in found), reverse=True)


@pytest.mark.parametrize("seed", range(30))
def test_beam_of_one_is_greedy(seed, subwords):
    log_probs = random_log_probs(np.random.default_rng(seed), 40, subwords.size, peak=2.0)
    (best,) = search(subwords, log_probs, beam_size=1, boost=0.0)
    assert best.tokens == greedy_tokens(log_probs, subwords.blank)
    assert best.mass == pytest.approx(log_probs.max(axis=1).sum(), abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_hopeless_prefixes_are_dropped(seed, subwords):
    log_probs = random_log_probs(np.random.default_rng(seed), 5, subwords.size, peak=5.0)
    every = search(subwords, log_probs, boost=0.0)
    near = search(subwords, log_probs, boost=0.0, spread=1.5)
    assert max(hypothesis.mass for hypothesis in near) - min(hypothesis.mass for hypothesis in near) < 1.5
    assert len(near) < len(every) or every[0].mass - every[-1].mass < 1.5


@pytest.mark.parametrize("boost", [0.0, 2.0])
def test_empty_list_is_plain_search(boost, subwords):
    """And so is a list that is not boosted."""
    log_probs = random_log_probs(np.random.default_rng(1), 50, subwords.size)
    phrases = [] if boost else random_phrases(1, 30)
    plain, listed = search(subwords, log_probs, boost=0.0), search(subwords, log_probs, phrases, boost=boost)
    assert [h.tokens for h in plain] == [h.tokens for h in listed]
    assert [h.mass for h in plain] == pytest.approx([h.mass for h in listed])


def test_no_frames(subwords):
    log_probs = np.zeros((0, subwords.size), np.float32)
    near = near_tokens(log_probs, np.zeros(0, np.float32), subwords.blank, 8.0, 16)
    automaton, weights = compile_automaton(["a"], subwords), np.ones(1, np.float32)
    settings = SearchSettings(subwords.blank, subwords.boundaries, 8, 8.0, np.inf, 2.0, FLOOR, False)
    highest = node_weights(automaton, weights)
    found = prefix_search(log_probs, np.zeros(0, np.float32), near, settings, automaton, weights, highest)
    assert (found.mass.tolist(), found.bonus.tolist(), found.first_token.tolist()) == ([0.0], [0.0], [0, 0])


# ---- adaptive boosting


def test_an_entity_replaces_what_sounds_alike(subwords):
    log_probs = speak(subwords, ["▁no", "▁b", "o", "r", "n", "▁a", "r", "t"], heard={2: ("a", 0.7)})
    assert subwords.text(search(subwords, log_probs)[0].tokens) == "no barn art"
    best = search(subwords, log_probs, ["toast", "born"])[0]
    assert subwords.text(best.tokens) == "no born art"
    assert best.spans == [(1, 1, 5)]
    assert best.bonus == pytest.approx(5.0, abs=0.1)  # half of the boost for sure tokens, all of it for `o`


@pytest.mark.parametrize("pieces", [["▁a", "▁b", "o", "r", "n", "e", "▁a"], ["▁a", "b", "o", "r", "n", "▁a"]])
@pytest.mark.parametrize("marks", [(), MARKS])
def test_entities_are_whole_words(pieces, marks):
    """`born` is neither found in a sure `borne` nor in a sure `aborn`, nor where `o` is unsure."""
    vocabulary = Vocabulary((*PIECES, *marks), len(PIECES) + len(marks))
    unsure = pieces.index("o")
    for log_probs in (speak(vocabulary, pieces, sure=1 - 1e-7), speak(vocabulary, pieces, {unsure: ("a", 0.7)}, sure=0.999)):
        best = search(vocabulary, log_probs, ["born"], boost=3.0)[0]
        assert best.spans == []
        assert best.tokens == greedy_tokens(log_probs, vocabulary.blank)


@pytest.mark.parametrize(
    ("pieces", "unsure", "text"),
    [
        (["▁b", "o", "r", "n", "'", "s"], 1, "born's"),
        (["▁no", "▁b", "o", "r", "n", "'", "s", "▁a"], 2, "no born's a"),
        (["▁b", "o", "r", "n", ",", "▁no"], 1, "born, no"),
        (["▁b", "o", "r", "n", "-", "t", "o"], 1, "born-to"),
        (["▁(", "b", "o", "r", "n", ",", "▁a"], 2, "(born, a"),
        (["▁no", "-", "b", "o", "r", "n"], 3, "no-born"),
        (["▁'", "b", "o", "r", "n", "'", "▁a"], 2, "'born' a"),
        (["▁a", "▁", "b", "o", "r", "n", "▁a"], 3, "a born a"),
        (["b", "o", "r", "n", "▁a"], 1, "born a"),
    ],
)
def test_entities_stand_beside_punctuation(pieces, unsure, text, marked):
    log_probs = speak(marked, pieces, heard={unsure: ("a", 0.7)})
    assert marked.text(search(marked, log_probs)[0].tokens) == text.replace("born", "barn")
    best = search(marked, log_probs, ["born"], boost=3.0)[0]
    assert marked.text(best.tokens) == text
    ((_, first, end),) = best.spans
    assert marked.text(best.tokens[first:end]) == "born"


@pytest.mark.parametrize(
    ("pieces", "unsure"),
    [
        (["▁a", "'", "b", "o", "r", "n"], 3),  # no boundary after an apostrophe within a word
        (["▁b", "o", "r", "n", "e", "'", "s"], 1),
        (["▁(", "a", "b", "o", "r", "n", ","], 3),
    ],
)
def test_entities_are_whole_words_beside_punctuation(pieces, unsure, marked):
    log_probs = speak(marked, pieces, heard={unsure: ("a", 0.7)}, sure=0.999)
    best = search(marked, log_probs, ["born"], boost=3.0)[0]
    assert best.tokens == greedy_tokens(log_probs, marked.blank)
    assert (best.spans, best.bonus) == ([], 0.0)


def test_scripts_without_spaces():
    vocabulary = Vocabulary(("▁", "東", "凍", "京", "都", "に", "は"), 7)
    log_probs = speak(vocabulary, ["は", "東", "京", "に"], heard={1: ("凍", 0.6)})
    assert vocabulary.text(search(vocabulary, log_probs)[0].tokens) == "は凍京に"
    best = search(vocabulary, log_probs, ["京都", "東京"], boost=3.0)[0]
    assert vocabulary.text(best.tokens) == "は東京に"
    assert best.spans == [(1, 1, 3)]


def test_character_models(characters):
    log_probs = speak(characters, list("toast▁no▁born"), heard={2: ("e", 0.6), 10: ("a", 0.6)})
    phrases = ["toast", "born", "orn"]
    best = search(characters, log_probs, phrases, boost=3.0)[0]
    assert characters.text(best.tokens) == "toast no born"
    assert [phrases[phrase] for phrase, _, _ in best.spans] == ["toast", "born"]


def test_the_longer_entity_replaces_the_shorter(subwords):
    log_probs = speak(subwords, ["▁to", "▁b", "o", "r", "n"])
    assert search(subwords, log_probs, ["to", "to born", "born"])[0].spans in ([(1, 0, 5)], [(0, 0, 1), (2, 1, 5)])
    assert search(subwords, log_probs, ["to", "to born"])[0].spans == [(1, 0, 5)]
    assert search(subwords, log_probs, ["to", "to bone"])[0].spans == [(0, 0, 1)]


def test_neighbours_are_both_paid(subwords):
    best = search(subwords, speak(subwords, ["▁to", "▁b", "o", "r", "n"]), ["to", "born"])[0]
    assert best.spans == [(0, 0, 1), (1, 1, 5)]
    assert best.span_bonus == pytest.approx([1.0, 4.0])


BORN = [{"▁b": 0.9}, {"o": 0.9}, {"r": 0.9}, {"n": 0.9}]


@pytest.mark.parametrize(
    ("phrases", "frames", "text"),
    [
        (["born"], [*BORN, {"e": 0.6, "": 0.3}], "born"),  # `borne` would give back 4 nats
        (["born"], [*BORN, {"▁a": 0.6, "": 0.3}], "born a"),
        (["born"], [*BORN[:2], {"▁a": 0.6, "": 0.3}, *BORN[2:]], "born"),  # `bo a` would
        (["to", "to born"], [{"▁to": 0.9}, {"": 0.8, "▁b": 0.8 * np.exp(-1.8)}, *BORN[1:]], "to born"),
        (["to", "to born"], [{"▁to": 0.9}, {"": 0.8, "▁b": 0.8 * np.exp(-2.5)}], "to"),  # further below than the boost
    ],
)
def test_ranks_within_the_search(phrases, frames, text, subwords):
    """A beam of one shows what a prefix is worth in the middle of the search: `born` in part counts, `to` not twice."""
    best = search(subwords, rows(subwords, *frames), phrases, beam_size=1)[0]
    assert subwords.text(best.tokens) == text


def test_only_entities_reach_beyond_the_margin(subwords):
    log_probs = rows(subwords, {"": 0.7, "▁a": 0.7 * np.exp(-3.0), "▁b": 0.7 * np.exp(-2.0)})
    found = search(subwords, log_probs, ["a"], margin=1.0, boost=2.5)
    assert [subwords.text(h.tokens) for h in found] == ["", "a"]


def test_weights_decide_between_entities(subwords):
    log_probs = speak(subwords, ["▁b", "o", "n", "e"], heard={2: ("t", 0.3)})
    for weights, winner in (([1.0, 0.0], "bone"), ([0.0, 1.0], "bore")):
        best = search(subwords, log_probs, ["bone", "bore"], weights)[0]
        assert subwords.text(best.tokens) == winner


def test_weight_of_nothing_changes_nothing(subwords):
    rng = np.random.default_rng(3)
    phrases = random_phrases(3, 30)
    for _ in range(20):
        log_probs = random_log_probs(rng, 30, subwords.size, peak=2.0)
        best = search(subwords, log_probs, phrases, [0.0] * len(phrases))[0]
        assert best.tokens == search(subwords, log_probs, boost=0.0)[0].tokens
        assert (best.bonus, best.spans) == (0.0, [])


@pytest.mark.parametrize("seed", range(10))
def test_exact_masses_do_not_change_with_a_list(seed):
    """Boosting adds bonuses, never probability."""
    log_probs = random_log_probs(np.random.default_rng(seed), 6, 4)
    expected = prefix_probabilities(log_probs, 3)
    found = search(Vocabulary(("▁a", "b", "▁b"), 3), log_probs, ["ab", "b", "b ab"], **EXACT)
    assert {h.tokens for h in found} == set(expected)
    assert any(h.spans for h in found)
    for hypothesis in found:
        assert hypothesis.mass == pytest.approx(expected[hypothesis.tokens], abs=1e-4)


@pytest.mark.parametrize("beam_size", [1, 4, 16])
@pytest.mark.parametrize("seed", range(30))
def test_bonus_paid_is_bonus_kept(beam_size, seed, subwords, characters, marked):
    """Ranks are a prefix's own log-probability plus the bonuses of entities that stand in the text as whole words."""
    rng = np.random.default_rng(seed)
    vocabulary = (subwords, characters, marked)[seed % 3]
    phrases = random_phrases(seed, 60)
    weights = rng.uniform(0.2, 2.0, len(phrases))
    log_probs = random_log_probs(rng, 24, vocabulary.size, peak=2.0)
    found = search(vocabulary, log_probs, phrases, weights, beam_size=beam_size)
    ranks = [h.mass + h.bonus for h in found]
    assert ranks == sorted(ranks, reverse=True)
    assert len({h.tokens for h in found}) == len(found)
    for hypothesis in found:
        assert hypothesis.mass <= ctc_log_prob(log_probs, hypothesis.tokens, vocabulary.blank) + 1e-4
        assert hypothesis.bonus == pytest.approx(sum(hypothesis.span_bonus))
        last_end = 0
        for (phrase, first, end), bonus in zip(hypothesis.spans, hypothesis.span_bonus, strict=True):
            assert last_end <= first < end <= len(hypothesis.tokens)
            last_end = end
            assert stands_as_words(vocabulary, hypothesis.tokens, first, end, phrases[phrase])
            least = 2.0 * FLOOR * (end - first) * weights[phrase]
            assert least * 0.999 <= bonus <= least / FLOOR * 1.001


def stands_as_words(vocabulary, tokens, first, end, phrase) -> bool:
    """Whether the tokens first..end write the phrase, and no letter follows or precedes it."""
    before, inside, after = ("".join(vocabulary.pieces[t] for t in part) for part in np.split(tokens, [first, end]))
    starts = inside[0] == "▁" or before[-1:] in ("", "▁", *MARKS[1:7]) or before[-2:] == "▁'"
    return inside.removeprefix("▁").replace("▁", " ") == phrase and starts and after[:1] in ("", "▁", *MARKS)


def test_impossible_tokens_are_never_taken(subwords):
    rng = np.random.default_rng(11)
    for seed in range(20):
        log_probs = random_log_probs(rng, 20, subwords.size, peak=2.0)
        log_probs[rng.random(log_probs.shape) < 0.5] = -np.inf
        log_probs[np.arange(20), rng.integers(0, subwords.size, 20)] = -0.5
        for phrases, boost in (([], 0.0), (random_phrases(seed, 20), 4.0)):
            best = search(subwords, log_probs, phrases, boost=boost)[0]
            assert best.mass > -1e3
            assert np.isfinite(ctc_log_prob(log_probs, best.tokens, subwords.blank))


def test_long_random_run_is_stable(subwords):
    """Many prefixes, many spans: the memory that the search sets aside is enough."""
    log_probs = random_log_probs(np.random.default_rng(2), 400, subwords.size, peak=1.0)
    found = search(subwords, log_probs, random_phrases(2, 400), beam_size=16, boost=8.0)
    assert len(found) == 16
    assert len(found[0].spans) > 20


def test_node_weights_are_the_highest_below(marked):
    phrases = random_phrases(4, 50)
    weights = np.random.default_rng(4).uniform(0.0, 2.0, len(phrases)).astype(np.float32)
    automaton = compile_automaton(phrases, marked)

    def below(node: int) -> set[int]:
        entity, begin, end = automaton.nodes[node, ENTITY], automaton.nodes[node, 0], automaton.nodes[node + 1, 0]
        own = set() if entity == NO_ENTITY else {int(entity)}
        return own.union(*(below(target) for target in automaton.edges[begin:end, TARGET].tolist()))

    highest = node_weights(automaton, weights)
    assert highest.tolist() == [weights[list(below(node))].max() for node in range(len(automaton.nodes) - 1)]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 9])
def test_near_tokens_are_the_best_of_a_frame_and_of_equal_ones_the_first(most):
    log_probs = np.array([[-1, -2, -3, -3, -3, -0.5, -9], [-3, -3, -3, -3, -3, -3, -3]], np.float32)
    near = near_tokens(log_probs, log_probs.max(axis=1), 5, 4.0, most)
    expected = [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 6]]
    assert [row[:count].tolist() for row, count in zip(near.tokens, near.counts, strict=True)] == [
        e[:most] for e in expected
    ]
