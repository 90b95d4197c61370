"""Which arcs are candidates, and which of those that overlap are taken."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.evidence import BEST, CHARACTERS, GAP, LEFTOVER, TOKENS, VARIANT
from nemo_bias.decoder.vocabulary import LETTER

# Nats by which a rival may fit worse than an arc and still count. How well an arc fits: 2 nats for each character and each
# token, less what it loses, more the certainty of its frames.
RIVALRY = np.float32(3.0)


@njit
def candidates_of(arcs, places, facts, entity, respelled):  # type: ignore[no-untyped-def]
    """The arcs that may be taken: those that are allowed, of overlapping arcs of one entity only the best, and the best of
    those of its other spellings; which of these two is likelier is another question.

    Args:
        arcs: of `find_arcs`.
        places: of the arcs.
        facts: [arcs, FACTS].
        entity: [arcs] the entity of each arc's phrase.
        respelled: [arcs] whether it is one of the entity's other spellings.

    Returns:
        The arcs' numbers, sorted by start frame, and for each of them the number of its rivals: arcs of other entities that
        overlap it and fit nearly as well or better. Other spellings, a few of which fit anywhere, are no rivals.
    """
    cost = facts[:, GAP] + facts[:, LEFTOVER] + facts[:, VARIANT]
    kind = 2 * entity.astype(np.int64) + respelled
    order = np.flatnonzero(places.allowed)
    order = order[np.argsort((kind * (np.max(places.end) + 1 if len(order) else 1) + arcs.start)[order], kind="mergesort")]
    keep = np.zeros(len(cost), np.bool_)
    begin = 0
    while begin < len(order):  # order[begin:end] is a row of overlapping arcs of one kind
        end, reach = begin + 1, places.end[order[begin]]
        while end < len(order) and kind[order[end]] == kind[order[begin]] and arcs.start[order[end]] <= reach:
            reach = max(reach, places.end[order[end]])
            end += 1
        row = order[begin:end]
        if len(row) > 1:
            row = row[np.argsort(cost[row], kind="mergesort")]
        for k in range(len(row)):
            a, free = row[k], True
            for b in row[:k]:
                if keep[b] and arcs.start[b] <= places.end[a] and arcs.start[a] <= places.end[b]:
                    free = False
            keep[a] = free
        begin = end
    kept = np.flatnonzero(keep)
    kept = kept[np.argsort(arcs.start[kept], kind="mergesort")]
    fit = 2 * facts[:, CHARACTERS] + 2 * facts[:, TOKENS] + facts[:, BEST] - cost
    rivals = np.zeros(len(kept), np.int64)
    for i in range(len(kept)):
        for j in range(i + 1, len(kept)):
            if arcs.start[kept[j]] > places.end[kept[i]]:
                break
            if entity[kept[i]] != entity[kept[j]]:
                rivals[i] += not respelled[kept[j]] and fit[kept[j]] > fit[kept[i]] - RIVALRY
                rivals[j] += not respelled[kept[i]] and fit[kept[i]] > fit[kept[j]] - RIVALRY
    return kept, rivals


@njit
def best_of_entities(start, end, entity, gain):  # type: ignore[no-untyped-def]
    """[n] whether each arc is the best of the overlapping arcs of its entity, of equal ones the first.

    Args:
        start: [n] first frames, rising.
        end: [n] last frames.
        entity: [n].
        gain: [n] log-odds above those that are asked for.
    """
    is_best = np.ones(len(start), np.bool_)
    for i in range(len(start)):
        for j in range(i + 1, len(start)):
            if start[j] > end[i]:
                break
            if entity[i] == entity[j]:
                is_best[i if gain[j] > gain[i] else j] = False
    return is_best


class Slots(NamedTuple):
    """What candidates take up in the greedy path; all arrays are [candidates].

    An entity that greedy decoding writes itself keeps its greedy tokens, so it takes up the words that these are.

    Attributes:
        start: first frame.
        end: last frame.
        low: the first greedy token that is replaced or kept as the entity.
        high: the token after the last such one.
        whole_high: the token after the last of the words that are touched.
        first: the entity's first token.
        last: its last token.
    """

    start: NDArray[np.int32]
    end: NDArray[np.int32]
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    whole_high: NDArray[np.int32]
    first: NDArray[np.int32]
    last: NDArray[np.int32]


@njit
def slots_of(written, arcs, places, words):  # type: ignore[no-untyped-def]
    """What candidates take up.

    Args:
        written: [n] whether greedy decoding writes the entity itself.
        arcs: [n] that they are.
        places: [n] of the arcs.
        words: of the greedy path.

    Returns:
        `Slots`.
    """
    ints = np.empty((7, len(written)), np.int32)
    slots = Slots(ints[0], ints[1], ints[2], ints[3], ints[4], ints[5], ints[6])
    for k in range(len(written)):
        if written[k]:
            low, high = places.whole_low[k], places.whole_high[k]
            slots.start[k], slots.end[k] = words.token_start[low], words.token_end[high - 1]
            slots.first[k], slots.last[k] = words.token[low], words.token[high - 1]
        else:
            low, high = places.low[k], places.high[k]
            slots.start[k], slots.end[k] = arcs.start[k], places.end[k]
            slots.first[k], slots.last[k] = arcs.tokens[arcs.first_token[k]], arcs.tokens[arcs.first_token[k + 1] - 1]
        slots.low[k], slots.high[k], slots.whole_high[k] = low, high, places.whole_high[k]
    return slots


@njit
def follows(slots, a, b, boundaries):  # type: ignore[no-untyped-def]
    """Whether candidate `b` can be the next after `a`: as whole words both, and its first token read as a new one."""
    if slots.start[b] <= slots.end[a] or (slots.start[b] == slots.end[a] + 1 and slots.first[b] == slots.last[a]):
        return False
    if slots.low[b] > slots.whole_high[a]:  # a word between them stays
        return True
    begins = boundaries.first[slots.first[b]]
    leftover = slots.high[a] < slots.low[b]  # letters that may or may not stay
    if leftover and not boundaries.between[LETTER, begins]:
        return False
    return boundaries.between[boundaries.last[slots.last[a]], begins]


@njit
def choose(slots, gain, boundaries):  # type: ignore[no-untyped-def]
    """Candidates that can stand one after the other, with the highest sum of gains.

    Args:
        slots: of the candidates.
        gain: [n] of each; those below 0 are never chosen.
        boundaries: of the vocabulary.

    Returns:
        Positions of the chosen candidates, by time.
    """
    order = np.argsort(slots.end, kind="mergesort")
    order = order[gain[order] >= 0]
    count = len(order)
    # Of the candidates that end up to each one: the farthest word that one reaches into, the best total, and which ends it.
    reach, best, best_at = np.empty(count, np.int32), np.zeros(count), np.empty(count, np.int64)
    total, before = np.empty(count), np.full(count, -1)
    for k in range(count):
        a = order[k]
        clear = np.searchsorted(reach[:k], slots.low[a])  # the first `clear` leave a word before `a` as it is
        if clear > 0:
            total[k], before[k] = best[clear - 1], best_at[clear - 1]
        else:
            total[k] = 0.0
        for j in range(clear, k):
            if total[j] > total[k] and follows(slots, order[j], a, boundaries):
                total[k], before[k] = total[j], j
        total[k] += gain[a]
        reach[k], best[k], best_at[k] = slots.whole_high[a], total[k], k
        if k > 0:
            reach[k] = max(reach[k], reach[k - 1])
            if best[k - 1] >= best[k]:
                best[k], best_at[k] = best[k - 1], best_at[k - 1]
    chosen = np.empty(count, np.int64)
    n, k = 0, best_at[count - 1] if count else -1
    while k >= 0:
        chosen[n] = order[k]
        n, k = n + 1, before[k]
    return chosen[:n][::-1]
