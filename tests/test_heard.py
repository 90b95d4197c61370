"""What a phone head hears in stretches, and what it confuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import collapse
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rescoring import BLANK, ids, spoken

from nemo_bias.pronunciation import PHONES, Pronunciation
from nemo_bias.pronunciation.confusions import (
    NOTHING,
    confusion_costs,
    confusions_markdown,
    count_confusions,
    read_costs,
    write_costs,
)
from nemo_bias.pronunciation.distance import feature_costs, phone_distance
from nemo_bias.pronunciation.heard import greedy_phones, heard_phones

# ---- heard


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


# ---- confusions


def pronounce(words):
    lexicon = {"toast": ["T OW S T"], "born": ["B AA R N", "B AO R N"]}
    return [tuple(Pronunciation(ids(p), 0.5, "lexicon") for p in lexicon.get(word, ())) for word in words]


def test_confusions_are_counted_by_what_was_meant():
    heard = [spoken("T OW Z T B AO R N"), spoken("T OW S B AO R N D")]
    counts = count_confusions(heard, ["toast born", "toast born"], pronounce)
    z, s, t, d = (PHONES.index(phone) for phone in ("Z", "S", "T", "D"))
    assert counts[z, s] == 1 and counts[s, s] == 1
    assert counts[NOTHING, t] == 1 and counts[t, t] == 3
    assert counts[d, NOTHING] == 1
    assert counts[PHONES.index("AO"), PHONES.index("AO")] == 2  # the variant that fits
    assert counts.sum() == 17
    table = confusions_markdown(counts).splitlines()[2:]
    assert sorted(table) == ["| - | T | 1 | 25.0 % |", "| D | - | 1 | - |", "| Z | S | 1 | 50.0 % |"]


def test_utterances_that_cannot_be_aligned_are_left_out():
    assert count_confusions([spoken("T OW S T"), spoken("T")], ["toast x", "toast"], pronounce).sum() == 0


def test_without_counts_the_costs_follow_the_features():
    costs, alike = confusion_costs(np.zeros((40, 40), np.int64)), feature_costs()
    assert (np.diag(costs) == 0).all() and (costs >= 0).all()
    p, b, aa = (PHONES.index(phone) for phone in ("P", "B", "AA"))
    assert costs[p, b] < costs[p, aa]
    assert costs[NOTHING, :NOTHING].mean() == pytest.approx(alike[NOTHING, :NOTHING].mean(), rel=1e-5)


def test_what_is_confused_more_often_costs_less():
    counts = np.zeros((40, 40), np.int64)
    np.fill_diagonal(counts[:NOTHING, :NOTHING], 1000)
    z, s, n = (PHONES.index(phone) for phone in ("Z", "S", "N"))
    counts[z, s], counts[NOTHING, n], counts[s, NOTHING] = 300, 100, 200
    costs = confusion_costs(counts)
    assert costs[z, s] == costs[s, z] < costs[z, n]
    assert costs[NOTHING, n] < costs[NOTHING, z]
    assert costs[s, NOTHING] < costs[z, NOTHING]
    assert phone_distance(np.array([z]), np.array([s]), costs) < phone_distance(np.array([z]), np.array([n]), costs)


def test_costs_come_back_from_their_file(tmp_path):
    counts = np.random.default_rng(0).integers(0, 100, (40, 40))
    np.fill_diagonal(counts, 1000)
    costs = confusion_costs(counts)
    write_costs(tmp_path / "costs.json", costs)
    assert read_costs(tmp_path / "costs.json") == pytest.approx(costs, abs=6e-4)


def test_a_head_that_hears_nothing_has_no_costs():
    counts = np.zeros((40, 40), np.int64)
    counts[NOTHING, :NOTHING] = 100
    with pytest.raises(ValueError, match="hears nothing where most phones are meant"):
        confusion_costs(counts)


@pytest.mark.parametrize("content", ["", "[]", '{"AA": {}}', '{"AA": 1}'])
def test_files_of_other_kinds_are_refused(tmp_path, content):
    (tmp_path / "costs.json").write_text(content)
    with pytest.raises(ValueError, match=r"costs.json: no confusion costs .*scripts/learn_confusions.py"):
        read_costs(tmp_path / "costs.json")


def test_negative_costs_are_refused(tmp_path):
    write_costs(tmp_path / "costs.json", -feature_costs())
    with pytest.raises(ValueError, match="costs must be 0 or more"):
        read_costs(tmp_path / "costs.json")
