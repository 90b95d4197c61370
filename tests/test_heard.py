"""What a phone head hears in stretches."""

from __future__ import annotations

import itertools

import numpy as np
from conftest import collapse
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rescoring import BLANK, ids, spoken

from nemo_bias.pronunciation.heard import greedy_phones, heard_phones


def test_greedy_phones_and_where_they_begin():
    log_probs = spoken("N OW OW")
    phones, at = greedy_phones(np.repeat(log_probs, 2, axis=0), BLANK)
    assert tuple(phones.tolist()) == ids("N OW OW")
    assert at.tolist() == [0, 4, 8]
    assert len(greedy_phones(log_probs[:0], BLANK)[0]) == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, BLANK), min_size=1, max_size=20))
def test_greedy_phones_are_those_of_ctc(labels):
    log_probs = np.full((len(labels), BLANK + 1), -9, np.float32)
    log_probs[np.arange(len(labels)), labels] = 0
    phones, at = greedy_phones(log_probs, BLANK)
    assert tuple(phones.tolist()) == collapse(labels, BLANK)
    assert [labels[s] for s in at] == phones.tolist()
    assert all(s == 0 or labels[s - 1] != labels[s] for s in at)


def heard(log_probs, *stretches: tuple[int, int]) -> list[tuple[int, ...]]:
    starts, ends = np.array(stretches, np.int64).reshape(-1, 2).T
    phones, offsets = heard_phones(log_probs, starts, ends, BLANK)
    assert len(offsets) == len(stretches) + 1 and offsets[-1] == len(phones)
    return [tuple(phones[a:b].tolist()) for a, b in itertools.pairwise(offsets)]


def test_phones_belong_to_the_stretches_in_which_they_begin():
    log_probs = np.repeat(spoken("S AH M F IY L D"), 2, axis=0)  # each phone takes two sub-frames, and so does the blank
    assert heard(log_probs, (0, 12), (12, 28), (8, 13), (0, 28), (1, 4), (5, 5)) == [
        *(ids("S AH M"), ids("F IY L D"), ids("M F"), ids("S AH M F IY L D"), (), ()),
    ]
    assert heard(log_probs) == []
    assert heard(log_probs[:0], (0, 0)) == [()]
