"""Finds entities in the log-probs of a CTC model: token passing through the entity automaton.

A path starts at any frame in the automaton's root, reads one token or blank a frame, and is kept while it is not too much
worse than the best token of each frame. Where it ends an entity it makes an *entity arc*: these frames may be this
entity. Paths compete with each other only. Whether an arc is the entity is asked afterwards (`nemo_bias.decoder.evidence`);
here nothing is lost that may be.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.automaton import DEPTH, ENTITY, FIRST_EDGE, TARGET, TOKEN, first_edge_of
from nemo_bias.decoder.frames import NEVER, frames_of, near_tokens_of


class EntityArcs(NamedTuple):
    """The arcs of some utterances; all arrays are [arcs] unless they say otherwise.

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
ONE_BY_ONE = 16  # edges that are looked at in the time that it takes to find one
CAPACITY = 1024  # paths that may be open before the best are chosen
MAX_SAME = 2  # alternative times kept for one phrase at one place


@njit
def _grown(array):  # type: ignore[no-untyped-def]
    return np.concatenate((array, np.empty_like(array)))


# The paths of a frame: a record for each edge of the automaton that one has just read. It holds the best path that ends in
# the edge's token and the best that ends in a blank after it. Scores are relative to the best label of each frame, so never
# positive.
_PATH = np.dtype(
    (
        np.record,
        [
            ("edge", np.int32),
            ("in_token", np.float32),  # score
            ("in_blank", np.float32),  # score
            ("entry", np.int32),  # of the history, of the path in the token
            ("entry_blank", np.int32),  # likewise of the path in the blank
            ("entered", np.bool_),  # the token was read in this frame, and `entry` is still the one before
            ("place", np.int32),  # where the record stands in the table
        ],
    )
)


@njit
def _record(paths, table, count, edge):  # type: ignore[no-untyped-def]
    """The record of an edge, made if there is none, and the number of records; -1 for the record if all are in use.

    Args:
        paths: the records.
        table: edge -> record, by open addressing; -1 is empty. Its length is a power of two.
        count: records in use.
        edge: of the automaton.
    """
    mask = len(table) - 1
    k = (edge * 40503) & mask
    while table[k] >= 0 and paths[table[k]].edge != edge:
        k = (k + 1) & mask
    if table[k] >= 0:
        return table[k], count
    if count == len(paths):
        return -1, count
    table[k] = count
    path = paths[count]
    path.place, path.edge = k, edge
    path.in_token, path.in_blank, path.entered = NEVER, NEVER, False
    return count, count + 1


@njit
def find_arcs(log_probs, best, bounds, blank, margin, most, automaton):  # type: ignore[no-untyped-def]
    """Finds the entities that may be spoken in some utterances.

    Args:
        log_probs: [F, V] natural logarithms.
        best: [F] the highest log-prob of each frame.
        bounds: [U, 2] of the utterances, see `BatchFrames`.
        blank: id of the blank.
        margin: tokens further below a frame's best than this many nats are not read.
        most: nor are tokens that are not among this many best of the frame.
        automaton: the phrases.

    Returns:
        `EntityArcs`, sorted by phrase and start frame. Their number, and the time it takes, depend on the speech, not on
        the length of the list.
    """
    width = log_probs.shape[1]
    now, following = np.empty(CAPACITY, _PATH), np.empty(CAPACITY, _PATH)
    table = np.full(4 * CAPACITY, -1, np.int32)
    history = np.empty((1024, 4), np.int32)  # token, entry before, start frame, number of tokens
    written = 0
    found = np.empty((64, 4), np.int32)  # phrase, start, end, history entry
    found_gap = np.empty(64, np.float32)
    count_found = 0
    gap = np.full(width, NEVER, np.float32)  # of the near tokens to the frame's best
    worth = np.full(width, NEVER, np.float32)  # these and the slack that their characters bring
    rank = np.empty(CAPACITY, np.float32)
    near = np.empty(width, np.int32)
    opening = _first_edges(automaton, width)
    frames, opens = frames_of(bounds)
    active = 0
    for k in range(len(frames)):
        t = frames[k]
        if opens[k]:
            active = 0
        blank_gap = log_probs[t, blank] - best[t]
        tokens = near[: near_tokens_of(log_probs[t], best[t], blank, margin, most, near)]
        if len(tokens) == 0:
            active = _rest(now[:active], blank_gap, automaton)
            continue
        for v in tokens:
            gap[v] = log_probs[t, v] - best[t]
            worth[v] = gap[v] + SLACK_PER_CHARACTER * automaton.piece_length[v]
        count = _advance(now[:active], following, table, gap, worth, tokens, blank_gap, automaton, opening)
        for v in tokens:
            gap[v] = worth[v] = NEVER
        lowest = NEVER
        if count > MAX_ACTIVE:
            for r in range(count):
                path = following[r]
                depth = automaton.nodes[automaton.edges[path.edge, TARGET], DEPTH]
                rank[r] = max(path.in_token, path.in_blank) + RANK_PER_CHARACTER * depth
            lowest = np.partition(rank[:count], count - MAX_ACTIVE)[count - MAX_ACTIVE]
        active = 0
        for r in range(count):
            if count > MAX_ACTIVE and rank[r] < lowest:
                continue
            path = following[r]
            if path.entered:
                if written == len(history):
                    history = _grown(history)
                entry = path.entry
                history[written, 0], history[written, 1] = automaton.edges[path.edge, TOKEN], entry
                history[written, 2] = history[entry, 2] if entry >= 0 else t
                history[written, 3] = history[entry, 3] + 1 if entry >= 0 else 1
                path.entry = written
                phrase = automaton.nodes[automaton.edges[path.edge, TARGET], ENTITY]
                if phrase >= 0:
                    if count_found == len(found):
                        found, found_gap = _grown(found), _grown(found_gap)
                    found[count_found, 0], found[count_found, 1] = phrase, history[written, 2]
                    found[count_found, 2], found[count_found, 3] = t, written
                    found_gap[count_found] = path.in_token
                    count_found += 1
                written += 1
            now[active] = path
            active += 1
    return _best_arcs(found[:count_found], found_gap[:count_found], len(best), history)


@njit
def _first_edges(automaton, width):  # type: ignore[no-untyped-def]
    """[V] the first edge of the root that reads each token, -1 if there is none."""
    first = np.full(width, -1, np.int32)
    for edge in range(automaton.nodes[1, FIRST_EDGE] - 1, automaton.nodes[0, FIRST_EDGE] - 1, -1):
        first[automaton.edges[edge, TOKEN]] = edge
    return first


@njit
def _rest(paths, blank_gap, automaton):  # type: ignore[no-untyped-def]
    """Lets every path read a blank, in a frame that has nothing else; returns how many are left."""
    left = 0
    for i in range(len(paths)):
        path = paths[i]
        edge, score, entry = path.edge, path.in_blank, path.entry_blank
        if path.in_token >= score:
            score, entry = path.in_token, path.entry
        score += blank_gap
        if score > -(SLACK + SLACK_PER_CHARACTER * automaton.nodes[automaton.edges[edge, TARGET], DEPTH]):
            path = paths[left]
            path.edge, path.in_token, path.in_blank = edge, NEVER, score
            path.entry, path.entry_blank = entry, entry
            left += 1
    return left


@njit
def _advance(now, following, table, gap, worth, tokens, blank_gap, automaton, opening):  # type: ignore[no-untyped-def]
    """Lets every path, and a new one at the root, read a token or a blank; returns how many records there are then."""
    nodes, edges = automaton.nodes, automaton.edges
    count = 0
    for reads in tokens:
        edge, score = opening[reads], gap[reads]
        if edge < 0 or worth[reads] <= -SLACK:
            continue
        while edge < nodes[1, FIRST_EDGE] and edges[edge, TOKEN] == reads:  # the root of joined lists may repeat a token
            r, count = _record(following, table, count, edge)
            if r >= 0:
                path = following[r]
                path.in_token, path.entry, path.entered = score, -1, True
            edge += 1
    for i in range(len(now)):
        before = now[i]
        node, token = edges[before.edge, TARGET], edges[before.edge, TOKEN]
        limit = SLACK + SLACK_PER_CHARACTER * np.float32(nodes[node, DEPTH])
        either, either_entry = before.in_blank, before.entry_blank
        if before.in_token >= before.in_blank:
            either, either_entry = before.in_token, before.entry
        repeated, rested = before.in_token + gap[token], either + blank_gap
        if max(repeated, rested) > -limit:
            r, count = _record(following, table, count, before.edge)
            if r >= 0:
                path = following[r]
                if repeated >= path.in_token:
                    path.in_token, path.entry, path.entered = repeated, before.entry, False
                path.in_blank, path.entry_blank = rested, either_entry
        begin, end = nodes[node, FIRST_EDGE], nodes[node + 1, FIRST_EDGE]
        one_by_one = end - begin <= ONE_BY_ONE * len(tokens)  # else look for each near token among the sorted edges
        for k in range(end - begin if one_by_one else len(tokens)):
            edge = begin + k if one_by_one else first_edge_of(edges, begin, end, tokens[k])
            if edge < 0:
                continue
            reads = edges[edge, TOKEN]
            so_far = before.in_blank if reads == token else either
            if so_far + worth[reads] > -limit:
                score = so_far + gap[reads]
                r, count = _record(following, table, count, edge)
                if r >= 0 and score > following[r].in_token:
                    path = following[r]
                    path.in_token, path.entered = score, True
                    path.entry = before.entry_blank if reads == token else either_entry
    for r in range(count):
        table[following[r].place] = -1
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
