"""Finds entities in the log-probs of a CTC model: token passing through the entity automaton.

A path starts at any frame in the automaton's root, reads one token or blank a frame, and is kept while it is not too much
worse than the best token of each frame. Where it ends an entity it makes an *entity arc*: these frames may be this
entity. Paths compete with each other only. Whether an arc is the entity is asked afterwards (`nemo_bias.decoder.evidence`);
here nothing is lost that may be.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.automaton import DEPTH, ENTITY, FIRST_EDGE, TARGET, TOKEN, first_edge_of
from nemo_bias.decoder.frames import NEVER, near_tokens_of


class EntityArcs(NamedTuple):
    """The arcs of an utterance, sorted by phrase and start frame; all arrays are [arcs] unless they say otherwise.

    Attributes:
        phrase: index of the phrase in the automaton.
        start: frame of the first token.
        end: frame in which the last token starts.
        gap: log-probability of the best path through the arc's frames, less that of each frame's best label; never positive.
        first_token: [arcs + 1]; the tokens of arc ``a`` are ``tokens[first_token[a]:first_token[a + 1]]``.
        tokens: [tokens of all arcs].
    """

    phrase: NDArray[np.int32]
    start: NDArray[np.int32]
    end: NDArray[np.int32]
    gap: NDArray[np.float32]
    first_token: NDArray[np.int32]
    tokens: NDArray[np.int32]


NO_ARCS = EntityArcs(
    *(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)),
    *(np.zeros(1, np.int32), np.zeros(0, np.int32)),
)

# A path is dropped when it lies more than SLACK + SLACK_PER_CHARACTER * characters below the best labels of its frames, or
# is not among the MAX_ACTIVE best of a frame.
SLACK = np.float32(1.0)
SLACK_PER_CHARACTER = np.float32(2.0)
RANK_PER_CHARACTER = np.float32(1.5)
MAX_ACTIVE = 100
CAPACITY = 1024  # paths that may be open before the best are chosen
MAX_SAME = 2  # alternative times kept for one phrase at one place


@njit
def _grown(array):  # type: ignore[no-untyped-def]
    return np.concatenate((array, np.empty_like(array)))


class _Paths(NamedTuple):
    """The paths of a frame, a record for each edge of the automaton that a path has just read.

    A record holds the best path that ends in the edge's token and the best that ends in a blank after it. Scores are
    relative to the best label of each frame, so they are never positive.
    """

    edge: Any  # [records] int32
    in_token: Any  # [records] float32 score
    in_blank: Any  # [records] float32 score
    trace: Any  # [records] int32 history entry of the path in the token
    trace_blank: Any  # [records] int32 history entry of the path in the blank
    entered: Any  # [records] bool: the token was read in this frame, and `trace` is still the entry before
    table: Any  # edge -> record, by open addressing; -1 is empty
    place: Any  # [records] int32 where a record stands in the table


@njit
def _new_paths(capacity):  # type: ignore[no-untyped-def]
    ints = np.zeros((4, capacity), np.int32)
    floats = np.empty((2, capacity), np.float32)
    table = np.full(4 * capacity, -1, np.int32)  # a power of two
    return _Paths(ints[0], floats[0], floats[1], ints[1], ints[2], np.zeros(capacity, np.bool_), table, ints[3])


@njit
def _record(paths, count, edge):  # type: ignore[no-untyped-def]
    """The record of an edge, made if there is none, and the number of records; -1 for the record if all are in use."""
    mask = len(paths.table) - 1
    k = (edge * 40503) & mask
    while paths.table[k] >= 0 and paths.edge[paths.table[k]] != edge:
        k = (k + 1) & mask
    if paths.table[k] >= 0:
        return paths.table[k], count
    if count == len(paths.edge):
        return -1, count
    paths.table[k], paths.place[count], paths.edge[count] = count, k, edge
    paths.in_token[count], paths.in_blank[count], paths.entered[count] = NEVER, NEVER, False
    return count, count + 1


@njit
def find_arcs(log_probs, best, blank, margin, most, automaton):  # type: ignore[no-untyped-def]
    """Finds the entities that may be spoken in an utterance.

    Args:
        log_probs: [T, V] natural logarithms.
        best: [T] the highest log-prob of each frame.
        blank: id of the blank.
        margin: tokens further below a frame's best than this many nats are not read.
        most: nor are tokens that are not among this many best of the frame.
        automaton: the phrases.

    Returns:
        `EntityArcs`. Their number, and the time it takes, depend on the speech, not on the length of the list.
    """
    frames, width = log_probs.shape
    now, following = _new_paths(CAPACITY), _new_paths(CAPACITY)
    history = np.empty((1024, 4), np.int32)  # token, entry before, start frame, number of tokens
    written = 0
    found = np.empty((64, 4), np.int32)  # phrase, start, end, history entry
    found_gap = np.empty(64, np.float32)
    count_found = 0
    gap = np.full(width, NEVER, np.float32)  # of the near tokens to the frame's best
    rank = np.empty(CAPACITY, np.float32)
    near = np.empty(min(most, width), np.int32)
    active = 0
    for t in range(frames):
        blank_gap = log_probs[t, blank] - best[t]
        tokens = near[: near_tokens_of(log_probs[t], best[t], blank, margin, near)]
        if len(tokens) == 0:
            active = _rest(now, active, blank_gap, automaton)
            continue
        for v in tokens:
            gap[v] = log_probs[t, v] - best[t]
        count = _advance(now, active, following, gap, tokens, blank_gap, automaton)
        for v in tokens:
            gap[v] = NEVER
        lowest = NEVER
        if count > MAX_ACTIVE:
            for r in range(count):
                score = max(following.in_token[r], following.in_blank[r])
                rank[r] = score + RANK_PER_CHARACTER * automaton.nodes[automaton.edges[following.edge[r], TARGET], DEPTH]
            lowest = np.partition(rank[:count], count - MAX_ACTIVE)[count - MAX_ACTIVE]
        active = 0
        for r in range(count):
            if count > MAX_ACTIVE and rank[r] < lowest:
                continue
            edge, trace = following.edge[r], following.trace[r]
            if following.entered[r]:
                if written == len(history):
                    history = _grown(history)
                history[written, 0], history[written, 1] = automaton.edges[edge, TOKEN], trace
                history[written, 2] = history[trace, 2] if trace >= 0 else t
                history[written, 3] = history[trace, 3] + 1 if trace >= 0 else 1
                trace = written
                written += 1
                phrase = automaton.nodes[automaton.edges[edge, TARGET], ENTITY]
                if phrase >= 0:
                    if count_found == len(found):
                        found, found_gap = _grown(found), _grown(found_gap)
                    found[count_found, 0], found[count_found, 1] = phrase, history[trace, 2]
                    found[count_found, 2], found[count_found, 3] = t, trace
                    found_gap[count_found] = following.in_token[r]
                    count_found += 1
            now.edge[active], now.in_token[active], now.in_blank[active] = edge, following.in_token[r], following.in_blank[r]
            now.trace[active], now.trace_blank[active] = trace, following.trace_blank[r]
            active += 1
    return _best_arcs(found[:count_found], found_gap[:count_found], frames, history)


@njit
def _rest(now, active, blank_gap, automaton):  # type: ignore[no-untyped-def]
    """Lets every path read a blank, in a frame that has nothing else; returns how many are left."""
    left = 0
    for i in range(active):
        edge, score, trace = now.edge[i], now.in_blank[i], now.trace_blank[i]
        if now.in_token[i] >= score:
            score, trace = now.in_token[i], now.trace[i]
        score += blank_gap
        if score > -(SLACK + SLACK_PER_CHARACTER * automaton.nodes[automaton.edges[edge, TARGET], DEPTH]):
            now.edge[left], now.in_token[left], now.in_blank[left] = edge, NEVER, score
            now.trace[left], now.trace_blank[left] = trace, trace
            left += 1
    return left


@njit
def _advance(now, active, following, gap, tokens, blank_gap, automaton):  # type: ignore[no-untyped-def]
    """Lets every path, and a new one at the root, read a token or a blank; returns how many records there are then."""
    nodes, edges, piece_length = automaton.nodes, automaton.edges, automaton.piece_length
    count = 0
    for i in range(-1, active):
        node, token = 0, -1
        either, either_trace = np.float32(0.0), -1
        after_blank, after_blank_trace = np.float32(0.0), -1
        slack = SLACK
        if i >= 0:
            edge = now.edge[i]
            node, token = edges[edge, TARGET], edges[edge, TOKEN]
            slack = SLACK + SLACK_PER_CHARACTER * nodes[node, DEPTH]
            after_blank, after_blank_trace = now.in_blank[i], now.trace_blank[i]
            either, either_trace = after_blank, after_blank_trace
            if now.in_token[i] >= now.in_blank[i]:
                either, either_trace = now.in_token[i], now.trace[i]
            repeated, rested = now.in_token[i] + gap[token], either + blank_gap
            if max(repeated, rested) > -slack:
                r, count = _record(following, count, edge)
                if r >= 0:
                    if repeated >= following.in_token[r]:
                        following.in_token[r], following.trace[r], following.entered[r] = repeated, now.trace[i], False
                    following.in_blank[r], following.trace_blank[r] = rested, either_trace
        begin, end = nodes[node, FIRST_EDGE], nodes[node + 1, FIRST_EDGE]
        one_by_one = end - begin <= len(tokens)  # else look for each near token among the sorted edges
        for k in range(end - begin if one_by_one else len(tokens)):
            reads = edges[begin + k, TOKEN] if one_by_one else tokens[k]
            score = (after_blank if reads == token else either) + gap[reads]
            if score <= -(slack + SLACK_PER_CHARACTER * piece_length[reads]):
                continue
            edge = begin + k if one_by_one else first_edge_of(edges, begin, end, reads)
            while edge >= 0 and edge < end and edges[edge, TOKEN] == reads:
                r, count = _record(following, count, edge)
                if r >= 0 and score > following.in_token[r]:
                    following.in_token[r], following.entered[r] = score, True
                    following.trace[r] = after_blank_trace if reads == token else either_trace
                if one_by_one:
                    break
                edge += 1  # the root of joined lists may repeat a token
    for r in range(count):
        following.table[following.place[r]] = -1
    return count


@njit
def _best_arcs(found, gap, frames, history):  # type: ignore[no-untyped-def]
    """Of the arcs of a phrase that overlap in a row, keeps the MAX_SAME best; writes out their tokens."""
    order = np.argsort(found[:, 0].astype(np.int64) * frames + found[:, 1], kind="mergesort")
    keep = np.zeros(len(found), np.bool_)
    kept = tokens = begin = 0
    while begin < len(order):  # order[begin:end] is a row of overlapping arcs of one phrase
        end, reach = begin + 1, found[order[begin], 2]
        while end < len(order) and found[order[end], 0] == found[order[begin], 0] and found[order[end], 1] <= reach:
            reach = max(reach, found[order[end], 2])
            end += 1
        row = order[begin:end]
        for a in row[np.argsort(-gap[row], kind="mergesort")]:
            same = 0
            for b in row:
                if keep[b] and found[b, 1] <= found[a, 2] and found[a, 1] <= found[b, 2]:
                    same += 1
            if same < MAX_SAME:
                keep[a] = True
                kept += 1
                tokens += history[found[a, 3], 3]
        begin = end
    arcs = EntityArcs(
        np.empty(kept, np.int32),
        np.empty(kept, np.int32),
        np.empty(kept, np.int32),
        np.empty(kept, np.float32),
        np.zeros(kept + 1, np.int32),
        np.empty(tokens, np.int32),
    )
    n = 0
    for a in order:
        if keep[a]:
            arcs.phrase[n], arcs.start[n], arcs.end[n], arcs.gap[n] = found[a, 0], found[a, 1], found[a, 2], gap[a]
            entry = found[a, 3]
            arcs.first_token[n + 1] = arcs.first_token[n] + history[entry, 3]
            for k in range(arcs.first_token[n + 1] - 1, arcs.first_token[n] - 1, -1):
                arcs.tokens[k] = history[entry, 0]
                entry = history[entry, 1]
            n += 1
    return arcs
