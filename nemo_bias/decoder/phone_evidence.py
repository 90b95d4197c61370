"""What a phone head says about entity arcs: terms of their probability, beside those of the token log-probs.

An arc's frames tell where its entity may have been said. The entity's pronunciations are aligned with the phone log-probs
there, and what the best of them loses against a free phone loop (`segment_losses`) is evidence, by itself and compared with
the other entities that may stand there. The formulas are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.frames import BatchFrames
from nemo_bias.pronunciation.alignment import segment_losses

SLACK = 1.5  # encoder frames by which a pronunciation may begin and end before or after the frames of its tokens
WORST_LOSS = np.float32(4.0)  # nats a phone; more tells nothing more
WIDEST_MARGIN = np.float32(2.0)  # likewise

PHONE_TERMS = {
    "phone_loss": "nats that the entity's best pronunciation loses against a free phone loop, by its phones; at most 4",
    "phones": "of that pronunciation",
    "phone_margin": "phone_loss, less the least of overlapping arcs of other entities; from -2 (none is near) to 2",
}


class PhrasePhones(NamedTuple):
    """The pronunciations of phrases.

    Attributes:
        phone: ids, those of all pronunciations one after the other.
        first_phone: [pronunciations + 1].
        first_pronunciation: [phrases + 1]; those of phrase ``k`` are from ``first_pronunciation[k]`` on.
    """

    phone: NDArray[np.int32]
    first_phone: NDArray[np.int32]
    first_pronunciation: NDArray[np.int32]


def phrase_phones(pronunciations: Sequence[Sequence[NDArray[np.int32]]]) -> PhrasePhones:
    """Packs pronunciations [phones], for each phrase any number of them."""
    each = [phones for own in pronunciations for phones in own if len(phones)]
    counts = [sum(len(phones) > 0 for phones in own) for own in pronunciations]
    return PhrasePhones(
        np.concatenate([*each, np.zeros(0, np.int32)]),
        np.cumsum([0, *map(len, each)]).astype(np.int32),
        np.cumsum([0, *counts]).astype(np.int32),
    )


def phone_terms(
    frames: BatchFrames,
    utterance: NDArray[np.int64],
    start: NDArray[np.int32],
    end: NDArray[np.int32],
    phrase: NDArray[np.int32],
    phones: PhrasePhones,
) -> NDArray[np.float32]:
    """The terms of arcs of some utterances, as `phone_terms_of` gives them for those of one.

    Args:
        frames: of the utterances, with phones.
        utterance: [n] of each arc, rising.
        start: [n] its first frame, rising.
        end: [n] its last frame.
        phrase: [n] its phrase.
        phones: of the list.
    """
    terms = np.zeros((len(utterance), len(PHONE_TERMS)), np.float32)
    for u in np.unique(utterance).tolist():
        rows, own, first = utterance == u, frames.utterance(u).phones, frames.bounds[u, 0]
        spans = start[rows] - first, end[rows] - first
        terms[rows] = phone_terms_of(own, frames.sub_frames, *spans, phrase[rows], phones)
    return terms


@njit
def phone_terms_of(log_probs, sub_frames, start, end, phrase, phones):  # type: ignore[no-untyped-def]
    """The terms of arcs of one utterance.

    Args:
        log_probs: [T * sub_frames, P + 1] of the phone head, natural logarithms, blank last.
        sub_frames: of each encoder frame.
        start: [n] first frame of each arc, rising.
        end: [n] its last frame.
        phrase: [n] its phrase.
        phones: the `PhrasePhones` of the list.

    Returns:
        [n, 3] in the order of `PHONE_TERMS`. An arc whose phrase has no pronunciation has the worst.
    """
    n, blank = len(start), log_probs.shape[1] - 1
    terms = np.zeros((n, 3), np.float32)
    first = np.zeros(n + 1, np.int64)  # pronunciation of each arc
    for k in range(n):
        own = phones.first_pronunciation[phrase[k] : phrase[k] + 2]
        first[k + 1] = first[k] + own[1] - own[0]
    starts, ends = np.empty(first[n], np.int64), np.empty(first[n], np.int64)
    offsets = np.zeros(first[n] + 1, np.int64)
    for k in range(n):
        begin = phones.first_pronunciation[phrase[k]]
        for v in range(first[k], first[k + 1]):
            starts[v], ends[v] = start[k] * sub_frames, (end[k] + 1) * sub_frames - 1
            own = phones.first_phone[begin + v - first[k] : begin + v - first[k] + 2]
            offsets[v + 1] = offsets[v] + own[1] - own[0]
    joined = np.empty(offsets[first[n]], np.int32)
    for k in range(n):
        low = phones.first_phone[phones.first_pronunciation[phrase[k]]]
        joined[offsets[first[k]] : offsets[first[k + 1]]] = phones.phone[
            low : low + offsets[first[k + 1]] - offsets[first[k]]
        ]
    losses = segment_losses(log_probs, starts, ends, joined, offsets, int(SLACK * sub_frames + 0.5), blank)
    for k in range(n):
        terms[k, 0] = WORST_LOSS
        for v in range(first[k], first[k + 1]):
            length = offsets[v + 1] - offsets[v]
            if terms[k, 1] == 0 or losses[v] / length < terms[k, 0]:
                terms[k, 0], terms[k, 1] = min(WORST_LOSS, losses[v] / length), length
    for k in range(n):
        rival = WORST_LOSS + WIDEST_MARGIN
        for j in range(n):
            if start[j] > end[k]:
                break
            if end[j] >= start[k] and phrase[j] != phrase[k]:
                rival = min(rival, terms[j, 0])
        terms[k, 2] = max(-WIDEST_MARGIN, min(WIDEST_MARGIN, terms[k, 0] - rival))
    return terms
