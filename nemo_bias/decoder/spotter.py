"""Finds entities in the log-probs of a CTC model: token passing through the entity automaton.

A path starts at any frame in the automaton's root, reads one token or blank a frame, and is kept while it is not too much
worse than the best token of each frame. Where it ends an entity it makes an *entity arc*: these frames may be this
entity. Paths compete with each other only, never with the rest of the sentence: that is decided later, by the beam
search, which takes arcs beside tokens.

An arc is weighed by its likelihood ratio. CTC gives the posterior P(tokens | frames); dividing it by the probability of
the same tokens in any speech, P(tokens), leaves the evidence of the frames alone. The prior is a constant for each
character and each token, and one more constant and the logarithm of the list's size stand for choosing one entity among
all. The constants are ours, fitted by logistic regression on development data; `ArcScoring` holds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.automaton import EntityAutomaton

NEVER = np.float32(-1e30)


@dataclass(frozen=True)
class ArcScoring:
    """What the match of an entity is worth, in nats.

    ``evidence = weight * (per_character * characters + per_token * tokens) + certainty * best - choice * ln(entities)
    - threshold``, where ``best`` is the log-probability of the best token of each frame, summed over the arc's frames
    (so an arc in frames that could be anything counts less). An arc is accepted if evidence plus its log-probability
    exceeds ``best``.

    Attributes:
        weight: multiplies what characters and tokens are worth; the one figure to tune. Entities have weights of their
            own, which multiply it.
        per_character: nats a character.
        per_token: nats a token.
        certainty: 0: judge an arc against the frames' best tokens; 1: judge it by its posterior probability alone.
        choice: nats per unit of the natural logarithm of the list's size (at least ``SHORT_LIST``).
        threshold: nats that any arc must earn.
    """

    weight: float = 1.0
    per_character: float = 1.2
    per_token: float = 2.4
    certainty: float = 0.9
    choice: float = 1.6
    threshold: float = -2.5


class EntityArcs(NamedTuple):
    """The accepted arcs of an utterance, sorted by start frame; all arrays are [arcs] unless they say otherwise.

    Attributes:
        entity: index of the entity in the automaton.
        start: frame of the first token.
        end: frame in which the last token starts.
        log_prob: log-probability of the best path through the arc's frames.
        bonus: what the arc adds to the score of a hypothesis that takes it, in nats, never negative.
        first_token: [arcs + 1]; the tokens of arc ``a`` are ``tokens[first_token[a]:first_token[a + 1]]``.
        tokens: [tokens of all arcs].
    """

    entity: NDArray[np.int32]
    start: NDArray[np.int32]
    end: NDArray[np.int32]
    log_prob: NDArray[np.float32]
    bonus: NDArray[np.float32]
    first_token: NDArray[np.int32]
    tokens: NDArray[np.int32]


# A path is dropped when it lies more than SLACK + SLACK_PER_CHARACTER * characters below the best tokens of its frames, or
# is not among the MAX_ACTIVE best of a frame. Wider limits found no more entities on the development data.
SLACK = 3.0
SLACK_PER_CHARACTER = 1.0
MAX_ACTIVE = 200
# Shorter lists are weighed as if they had this many entities; none was measured.
SHORT_LIST = 100
# Alternative times kept for one entity at one place.
MAX_SAME = 2


def find_arcs(
    log_probs: NDArray[np.float32],
    best: NDArray[np.float32],
    blank: int,
    automaton: EntityAutomaton,
    entity_weight: NDArray[np.float32],
    scoring: ArcScoring,
) -> EntityArcs:
    """Finds the entities that may be spoken in an utterance.

    Args:
        log_probs: [T, V] natural logarithms.
        best: [T] the highest log-prob of each frame.
        blank: id of the blank.
        automaton: the entities.
        entity_weight: [entities] weight of each entity.
        scoring: what a match is worth.

    Returns:
        The accepted arcs. Their number, and the time it takes, depend on the speech, not on the length of the list.
    """
    entities = len(entity_weight)
    need = scoring.choice * np.log(max(SHORT_LIST, entities)) + scoring.threshold
    worth = np.array([scoring.per_character, scoring.per_token]) * scoring.weight
    arrays = _find_arcs(
        log_probs,
        best,
        blank,
        automaton.first_edge,
        automaton.edge_token,
        automaton.edge_node,
        automaton.entity,
        automaton.depth,
        entity_weight,
        np.float32(worth[0]),
        np.float32(worth[1]),
        np.float32(scoring.certainty),
        np.float32(need),
    )
    return EntityArcs(*arrays)


@numba.njit(cache=True, nogil=True)
def _grown(array):  # type: ignore[no-untyped-def]
    return np.concatenate((array, np.empty_like(array)))


@numba.njit(cache=True, nogil=True)
def _find_arcs(  # type: ignore[no-untyped-def]
    log_probs, best, blank, first_edge, edge_token, edge_node, entity, depth, entity_weight, per_char, per_token, certainty, need
):
    frames, width = log_probs.shape
    # A path record is one edge of the automaton: its score ending in the edge's token, and ending in a blank after it.
    # `trace` points into the history of tokens that the path has read; each entry is (token, entry before, start frame).
    capacity = 2048
    edge, edge_next = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
    in_token, in_token_next = np.empty(capacity, np.float32), np.empty(capacity, np.float32)
    in_blank, in_blank_next = np.empty(capacity, np.float32), np.empty(capacity, np.float32)
    trace, trace_next = np.empty(capacity, np.int32), np.empty(capacity, np.int32)  # of the path that ends in the token
    trace_b, trace_b_next = np.empty(capacity, np.int32), np.empty(capacity, np.int32)  # of the path that ends in a blank
    entered = np.empty(capacity, np.bool_)  # the token was read in this frame, `trace` is still that of the edge before
    table = np.full(8 * capacity, -1, np.int32)  # edge -> record, by open addressing
    mask = len(table) - 1
    place = np.empty(capacity, np.int32)
    rank = np.empty(capacity, np.float32)
    history = np.empty((1024, 4), np.int32)  # token, entry before, start frame, number of tokens
    written = 0
    found_entity = np.empty((64, 4), np.int32)  # entity, start, end, history entry
    found_score = np.empty((64, 2), np.float32)  # distance from the best tokens (<= 0), bonus
    found = 0
    total = np.zeros(frames + 1)  # of the best tokens, up to a frame
    near = np.empty(width, np.int32)
    active = 0
    longest = np.float32(0.0)
    for e in range(first_edge[0], first_edge[1]):
        longest = max(longest, np.float32(depth[edge_node[e]]))
    for t in range(frames):
        total[t + 1] = total[t] + best[t]
        top = best[t]
        nears = 0
        limit = top - np.float32(SLACK + SLACK_PER_CHARACTER * longest)
        for v in range(width):
            if log_probs[t, v] > limit and v != blank:
                near[nears] = v
                nears += 1
        count = 0
        blank_gap = log_probs[t, blank] - top
        for i in range(-1, active):
            if i < 0:
                node, token = 0, -1
                either, either_trace = np.float32(0.0), -1
                after_blank, after_blank_trace = np.float32(0.0), -1
            else:
                e = edge[i]
                node, token = edge_node[e], edge_token[e]
                after_blank, after_blank_trace = in_blank[i], trace_b[i]
                if in_token[i] >= in_blank[i]:
                    either, either_trace = in_token[i], trace[i]
                else:
                    either, either_trace = in_blank[i], trace_b[i]
                repeated = in_token[i] + (log_probs[t, token] - top)
                rested = either + blank_gap
                if max(repeated, rested) > -np.float32(SLACK + SLACK_PER_CHARACTER * depth[node]):
                    k = (e * 40503) & mask
                    while table[k] >= 0 and edge_next[table[k]] != e:
                        k = (k + 1) & mask
                    if table[k] < 0:
                        if count == capacity:
                            continue
                        table[k], place[count], edge_next[count] = count, k, e
                        in_token_next[count], in_blank_next[count] = NEVER, NEVER
                        entered[count] = False
                        count += 1
                    r = table[k]
                    if repeated >= in_token_next[r]:
                        in_token_next[r], trace_next[r], entered[r] = repeated, trace[i], False
                    in_blank_next[r], trace_b_next[r] = rested, either_trace
            begin, end = first_edge[node], first_edge[node + 1]
            few = end - begin <= 3 * nears  # else look for each near token among the sorted edges
            position = begin
            j = 0
            while True:
                if few:
                    if position >= end:
                        break
                    e = position
                    position += 1
                    reads = edge_token[e]
                else:
                    if j >= nears:
                        break
                    if position < end and edge_token[position] == near[j]:  # a root of joined lists may repeat a token
                        e = position
                        position += 1
                    else:
                        low, high = position, end
                        while low < high:
                            middle = (low + high) >> 1
                            if edge_token[middle] < near[j]:
                                low = middle + 1
                            else:
                                high = middle
                        position = low
                        if low < end and edge_token[low] == near[j]:
                            e = low
                            position += 1
                        else:
                            j += 1
                            continue
                    reads = edge_token[e]
                score = (after_blank if reads == token else either) + (log_probs[t, reads] - top)
                if score > -np.float32(SLACK + SLACK_PER_CHARACTER * depth[edge_node[e]]):
                    k = (e * 40503) & mask
                    while table[k] >= 0 and edge_next[table[k]] != e:
                        k = (k + 1) & mask
                    if table[k] < 0:
                        if count == capacity:
                            continue
                        table[k], place[count], edge_next[count] = count, k, e
                        in_token_next[count], in_blank_next[count] = NEVER, NEVER
                        count += 1
                    r = table[k]
                    if score > in_token_next[r]:
                        in_token_next[r], entered[r] = score, True
                        trace_next[r] = after_blank_trace if reads == token else either_trace
        for r in range(count):
            table[place[r]] = -1
        lowest = NEVER
        if count > MAX_ACTIVE:
            for r in range(count):
                rank[r] = max(in_token_next[r], in_blank_next[r]) + SLACK_PER_CHARACTER * depth[edge_node[edge_next[r]]]
            lowest = np.partition(rank[:count], count - MAX_ACTIVE)[count - MAX_ACTIVE]
        active = 0
        for r in range(count):
            if count > MAX_ACTIVE and rank[r] < lowest:
                continue
            e = edge_next[r]
            edge[active], in_token[active], in_blank[active] = e, in_token_next[r], in_blank_next[r]
            trace[active], trace_b[active] = trace_next[r], trace_b_next[r]
            if entered[r]:
                if written == len(history):
                    history = _grown(history)
                before = trace_next[r]
                start = history[before, 2] if before >= 0 else t
                tokens = history[before, 3] + 1 if before >= 0 else 1
                history[written, 0], history[written, 1], history[written, 2] = edge_token[e], before, start
                history[written, 3] = tokens
                trace[active] = written
                name = entity[edge_node[e]]
                if name >= 0:
                    worth = per_char * depth[edge_node[e]] + per_token * tokens
                    bonus = worth * entity_weight[name] + certainty * np.float32(total[t + 1] - total[start]) - need
                    bonus = max(np.float32(0.0), bonus)
                    if in_token[active] + bonus > 0:
                        if found == len(found_entity):
                            found_entity, found_score = _grown(found_entity), _grown(found_score)
                        found_entity[found, 0], found_entity[found, 1] = name, start
                        found_entity[found, 2], found_entity[found, 3] = t, written
                        found_score[found, 0], found_score[found, 1] = in_token[active], bonus
                        found += 1
                written += 1
            active += 1
    return _best_arcs(found_entity[:found], found_score[:found], total, history)


@numba.njit(cache=True, nogil=True)
def _best_arcs(found, score, total, history):  # type: ignore[no-untyped-def]
    """Keeps the MAX_SAME best of the arcs of one entity that overlap, and writes out their tokens, by start frame."""
    keep = np.zeros(len(found), np.bool_)
    kept = 0
    for a in np.argsort(-(score[:, 0] + score[:, 1]), kind="mergesort"):
        same = 0
        for b in range(len(found)):
            if keep[b] and found[b, 0] == found[a, 0] and found[b, 1] <= found[a, 2] and found[a, 1] <= found[b, 2]:
                same += 1
        if same < MAX_SAME:
            keep[a] = True
            kept += 1
    entity, start, end = np.empty(kept, np.int32), np.empty(kept, np.int32), np.empty(kept, np.int32)
    log_prob, bonus = np.empty(kept, np.float32), np.empty(kept, np.float32)
    first_token = np.zeros(kept + 1, np.int32)
    row = 0
    order = np.argsort(found[:, 1], kind="mergesort")
    for a in order:
        if keep[a]:
            entity[row], start[row], end[row] = found[a, 0], found[a, 1], found[a, 2]
            log_prob[row] = score[a, 0] + (total[found[a, 2] + 1] - total[found[a, 1]])
            bonus[row] = score[a, 1]
            first_token[row + 1] = first_token[row] + history[found[a, 3], 3]
            row += 1
    tokens = np.empty(first_token[kept], np.int32)
    row = 0
    for a in order:
        if keep[a]:
            entry = found[a, 3]
            for k in range(first_token[row + 1] - 1, first_token[row] - 1, -1):
                tokens[k] = history[entry, 0]
                entry = history[entry, 1]
            row += 1
    return entity, start, end, log_prob, bonus, first_token, tokens
