"""Which arcs are candidates, and which of those that overlap are taken."""

from __future__ import annotations

import numba
import numpy as np

from nemo_bias.decoder.evidence import BEST, CHARACTERS, GAP, LEFTOVER, TOKENS

# Nats by which a rival may fit worse than an arc and still count. How well an arc fits: 2 nats for each character and each
# token, less what it loses, more the certainty of its frames.
RIVALRY = np.float32(3.0)


@numba.njit(cache=True, nogil=True)
def candidates_of(arcs, places, facts, entity):  # type: ignore[no-untyped-def]
    """The arcs that may be taken: those that are allowed, of overlapping arcs of one entity only the best.

    Args:
        arcs: of `find_arcs`.
        places: of the arcs.
        facts: [arcs, FACTS].
        entity: [arcs] the entity of each arc's phrase.

    Returns:
        The arcs' numbers, sorted by start frame, and for each of them the number of its rivals: arcs of other entities that
        overlap it and fit nearly as well or better.
    """
    cost = facts[:, GAP] + facts[:, LEFTOVER]
    order = np.argsort(
        entity.astype(np.int64) * (np.max(places.end) + 1 if len(places.end) else 1) + arcs.start, kind="mergesort"
    )
    keep = np.zeros(len(order), np.bool_)
    begin = 0
    while begin < len(order):  # order[begin:end] is a row of overlapping arcs of one entity
        end, reach = begin + 1, places.end[order[begin]]
        while end < len(order) and entity[order[end]] == entity[order[begin]] and arcs.start[order[end]] <= reach:
            reach = max(reach, places.end[order[end]])
            end += 1
        row = order[begin:end]
        for a in row[np.argsort(cost[row], kind="mergesort")]:
            free = places.allowed[a]
            for b in row:
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
            rivals[i] += fit[kept[j]] > fit[kept[i]] - RIVALRY
            rivals[j] += fit[kept[i]] > fit[kept[j]] - RIVALRY
    return kept, rivals


@numba.njit(cache=True, nogil=True)
def choose(start, end, gain):  # type: ignore[no-untyped-def]
    """Arcs that do not overlap, with the highest sum of gains.

    Args:
        start: [n] first frame of each arc.
        end: [n] its last frame.
        gain: [n] of each arc; those below 0 are never chosen.

    Returns:
        Positions of the chosen arcs, by time.
    """
    order = np.argsort(end, kind="mergesort")
    order = order[gain[order] >= 0]
    ends = end[order]
    total = np.zeros(len(order) + 1)
    for k in range(len(order)):
        a = order[k]
        before = np.searchsorted(ends[:k], start[a])  # arcs that end before it starts
        total[k + 1] = max(total[k], total[before] + gain[a])
    chosen = np.empty(len(order), np.int64)
    count, k = 0, len(order)
    while k > 0:
        if total[k] > total[k - 1]:
            chosen[count] = order[k - 1]
            count += 1
            k = np.searchsorted(ends[: k - 1], start[order[k - 1]])
        else:
            k -= 1
    return chosen[:count][::-1]
