"""The terms that a phone head adds to the evidence on arcs."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import random_log_probs
from test_rescoring import BLANK, ids, spoken

from nemo_bias.decoder.phone_evidence import PHONE_TERMS, SLACK, phone_terms_of, phrase_phones
from nemo_bias.pronunciation.alignment import segment_losses


def terms(log_probs, sub_frames, arcs, pronunciations):
    start, end, phrase = np.array(arcs, np.int32).reshape(-1, 3).T
    found = phone_terms_of(log_probs, sub_frames, start, end, phrase, phrase_phones(pronunciations))
    assert found.shape == (len(arcs), len(PHONE_TERMS))
    return found


def test_what_is_heard_loses_nothing_and_beats_its_rivals():
    log_probs = spoken("N OW B AO R N T OW S T AH")  # two sub-frames a phone: 11 frames
    pronunciations = [[ids("B AO R N")], [ids("T OW S T"), ids("T AO S T")], [ids("B AA R N"), ids("B ER N")]]
    born, barn, toast = terms(log_probs, 2, [(2, 5, 0), (2, 5, 2), (6, 9, 1)], pronunciations)
    nats = float(log_probs.max() - log_probs.min())
    assert born == pytest.approx([0, 4, -min(2, nats / 4)], abs=1e-5)
    assert toast == pytest.approx([0, 4, -2], abs=1e-5)  # nothing else may stand there
    assert barn == pytest.approx([nats / 4, 4, min(2, nats / 4)], abs=1e-5)


def test_phones_may_lie_a_little_beside_the_frames_of_the_tokens():
    log_probs = spoken("N OW N OW B AO R N T OW N OW")
    for shift, near in ((-1, True), (1, True), (-3, False), (3, False)):
        ((loss, _, _),) = terms(log_probs, 2, [(4 + shift, 7 + shift, 0)], [[ids("B AO R N")]])
        assert (loss < 1e-5) == near


def test_phrases_without_pronunciation_and_arcs_without_room_are_worst():
    log_probs = spoken("B AO R N")
    assert terms(log_probs, 2, [(0, 3, 0)], [[]]).tolist() == [[4, 0, -2]]
    assert terms(log_probs[:2], 2, [(0, 0, 0)], [[ids("B AO R N")]]).tolist() == [[4, 4, -2]]
    assert terms(log_probs, 2, [], [[ids("B AO R N")]]).shape == (0, 3)


def test_the_terms_are_those_of_each_arc_by_itself():
    rng = np.random.default_rng(0)
    sub_frames, frames, phrases = 3, 20, 6
    log_probs = random_log_probs(rng, frames * sub_frames, BLANK + 1, peak=2)
    heard = log_probs.argmax(axis=1)
    pronunciations = []
    for _ in range(phrases):
        at = rng.integers(0, 50)
        clear = [p for p in heard[at : at + 8] if p != BLANK]
        pronunciations.append([tuple(clear[: rng.integers(1, 6)]) for _ in range(rng.integers(0, 3))])
    arcs = sorted(
        (int(s), int(min(frames - 1, s + rng.integers(0, 6))), int(rng.integers(0, phrases)))
        for s in rng.integers(0, frames, 40)
    )
    found = terms(log_probs, sub_frames, arcs, pronunciations)
    least = []
    for (start, end, phrase), (loss, length, _) in zip(arcs, found.tolist(), strict=True):
        per_phone = []
        for phones in filter(None, pronunciations[phrase]):
            window = np.array([start * sub_frames]), np.array([(end + 1) * sub_frames - 1])
            losses = segment_losses(
                log_probs, *window, np.array(phones), np.array([0, len(phones)]), int(SLACK * sub_frames + 0.5), BLANK
            )
            per_phone.append(min(4.0, float(losses[0]) / len(phones)))
        least.append(min(per_phone, default=4.0))
        assert loss == pytest.approx(least[-1], abs=1e-4)
        assert length in {len(phones) for phones in pronunciations[phrase]} or (length == 0 and not per_phone)
    for k, (start, end, phrase) in enumerate(arcs):
        rivals = [least[j] for j, (s, e, other) in enumerate(arcs) if s <= end and e >= start and other != phrase]
        assert found[k, 2] == pytest.approx(max(-2, min(2, least[k] - min(rivals, default=9))), abs=1e-4)
