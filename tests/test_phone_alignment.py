"""Phone alignment and the losses of segments, against every path there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import collapse, random_log_probs
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_bias.pronunciation.alignment import align_words, segment_losses

PHONES = 3
BLANK = PHONES
phone = st.integers(0, PHONES - 1)
pronunciation = st.lists(phone, min_size=1, max_size=3)
word = st.lists(pronunciation, min_size=1, max_size=2)


def loss_of(path, log_probs) -> float:
    return float(sum(row.max() - row[label] for row, label in zip(log_probs, path, strict=True)))


def losses_of_all(log_probs) -> dict[tuple[int, ...], float]:
    """The least loss of every phone sequence, by trying every path."""
    least: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(PHONES + 1), repeat=len(log_probs)):
        phones = collapse(path, BLANK)
        least[phones] = min(least.get(phones, np.inf), loss_of(path, log_probs))
    return least


def heard(*labels: int, sure: float = 0.9) -> np.ndarray:
    """Log-probs in which each label is likely in a frame."""
    probs = np.full((len(labels), PHONES + 1), (1 - sure) / PHONES)
    probs[np.arange(len(labels)), labels] = sure
    return np.log(probs).astype(np.float32)


# ---- words


@settings(deadline=None)  # compiling
@given(st.integers(0, 1000), st.integers(1, 6), st.lists(word, min_size=1, max_size=3))
def test_the_alignment_is_the_best_of_all_paths(seed, frames, words):
    log_probs = random_log_probs(np.random.default_rng(seed), frames, PHONES + 1, peak=3)
    least = losses_of_all(log_probs)
    combinations = list(itertools.product(*(range(len(variants)) for variants in words)))
    said = [tuple(itertools.chain(*(words[w][v] for w, v in enumerate(chosen)))) for chosen in combinations]
    best = min(least.get(phones, np.inf) for phones in said)
    alignment = align_words(log_probs, words, BLANK)
    if alignment is None:
        assert best == np.inf
        return
    assert alignment.loss.sum() == pytest.approx(best, abs=1e-4)
    chosen = tuple(alignment.variant.tolist())
    assert least[said[combinations.index(chosen)]] == pytest.approx(best, abs=1e-4)
    assert (alignment.start <= alignment.end).all() and (alignment.end[:-1] < alignment.start[1:]).all()
    assert alignment.start[0] >= 0 and alignment.end[-1] < frames


def test_words_lie_where_their_phones_are_heard():
    log_probs = heard(BLANK, 0, BLANK, 1, 1, BLANK, BLANK, 2, 1, BLANK)
    alignment = align_words(log_probs, [[(0, 1)], [(0, 1), (2, 1)]], BLANK)
    assert alignment.start.tolist() == [1, 7] and alignment.end.tolist() == [4, 8]
    assert alignment.variant.tolist() == [0, 1]
    assert alignment.loss == pytest.approx([0, 0])


def test_losses_belong_to_the_word_that_has_them():
    log_probs = heard(0, BLANK, 2, BLANK, 1, 0)
    nats = float(log_probs.max() - log_probs.min())
    alignment = align_words(log_probs, [[(0,)], [(1,)], [(1,)]], BLANK)  # 2 is heard as 1, and what follows is too much
    assert alignment.loss == pytest.approx([0, nats, nats], rel=1e-5)


def test_a_phone_twice_in_a_row_needs_a_blank_between_within_words_and_across_them():
    log_probs = heard(0, 0, sure=0.5)
    assert align_words(log_probs, [[(0,)], [(0,)]], BLANK) is None
    assert align_words(log_probs, [[(0, 0)]], BLANK) is None
    assert align_words(heard(0, BLANK, 0), [[(0,)], [(0,)]], BLANK).loss.sum() == pytest.approx(0)


def test_a_word_without_pronunciation_may_be_anything():
    log_probs = heard(0, 1, BLANK, 2, 2, 0, 1)
    alignment = align_words(log_probs, [[(0, 1)], [], [(0, 1)]], BLANK)
    assert alignment.loss == pytest.approx([0, 0, 0])
    assert (alignment.start[2], alignment.end[2]) == (5, 6)


def test_nothing_to_align():
    assert len(align_words(heard(0), [], BLANK).start) == 0
    assert align_words(heard(0)[:0], [[(0,)]], BLANK) is None


# ---- segments


def segment(log_probs, start, end, phones, slack=0):
    losses = segment_losses(
        log_probs, np.array([start]), np.array([end]), np.array(phones), np.array([0, len(phones)]), slack, BLANK
    )
    return float(losses[0])


def least_loss(log_probs, start, end, phones, slack) -> float:
    """By trying all ends and paths: blanks stand where a path does not reach to within the slack of an edge."""
    frames, least = len(log_probs), np.inf
    for first in range(max(0, start - slack), frames):
        for last in range(first, min(frames, end + slack + 1)):
            before = range(max(0, start + slack), first)
            after = range(last + 1, min(frames, end - slack + 1))
            blanks = sum(float(log_probs[t].max() - log_probs[t, BLANK]) for t in [*before, *after])
            inside = losses_of_all(log_probs[first : last + 1]).get(tuple(phones), np.inf)
            least = min(least, blanks + inside)
    return least


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.data(), pronunciation, st.integers(0, 2))
def test_segment_losses_are_the_least_of_all_paths(seed, frames, data, phones, slack):
    log_probs = random_log_probs(np.random.default_rng(seed), frames, PHONES + 1, peak=3)
    start = data.draw(st.integers(0, frames - 1))
    end = data.draw(st.integers(start, frames - 1))
    total = segment(log_probs, start, end, phones, slack)
    assert total == pytest.approx(least_loss(log_probs, start, end, phones, slack), abs=1e-4)


def test_what_lies_in_the_slack_costs_nothing_and_what_lies_outside_does():
    log_probs = heard(2, 0, 1, 2)
    assert segment(log_probs, 1, 2, [0, 1]) == pytest.approx(0)
    assert segment(log_probs, 0, 3, [0, 1], slack=1) == pytest.approx(0)
    assert segment(log_probs, 2, 2, [0, 1], slack=1) == pytest.approx(0)
    assert segment(log_probs, 0, 3, [0, 1]) > 2
    assert segment(log_probs, 2, 2, [0, 1]) == np.inf


def test_many_segments_are_each_as_if_alone():
    rng = np.random.default_rng(0)
    log_probs = random_log_probs(rng, 30, PHONES + 1, peak=3)
    starts = rng.integers(0, 20, 50)
    ends = starts + rng.integers(0, 10, 50)
    words = [rng.integers(0, PHONES, rng.integers(1, 5)) for _ in starts]
    losses = segment_losses(log_probs, starts, ends, np.concatenate(words), np.cumsum([0, *map(len, words)]), 1, BLANK)
    for k, phones in enumerate(words):
        assert segment(log_probs, starts[k], ends[k], phones, 1) == float(losses[k])
