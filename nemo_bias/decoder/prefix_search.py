"""CTC prefix beam search that takes entity arcs beside tokens.

A *prefix* is a token sequence; its mass is the probability, summed over all paths, that the frames so far write it
(Graves 2012; Hannun et al. 2014, arXiv 1408.2873). Every frame keeps the `beam_size` best prefixes. They are ranked by mass
plus bonus, and the two are never mixed: masses merge as probabilities do, a bonus belongs to the entities of the prefix.

An entity arc leaves the beam at its start frame, from every prefix there, and comes back at its end frame as the prefix
with the entity's tokens. In between it cannot be pruned. Its bonus is *closed*: it counts while the text ends there or goes
on with a new word; a token that continues the word gives it back.

*Adaptive subword boosting* works inside the beam instead: a prefix that follows the entity automaton is raised token by
token, and what was raised is given back when the match breaks off.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.automaton import ENTITY, FIRST_EDGE, TARGET, EntityAutomaton, first_edge_of
from nemo_bias.decoder.frames import NEVER, NearTokens
from nemo_bias.decoder.spotter import EntityArcs


class SearchSettings(NamedTuple):
    """What a search needs to know besides the log-probs.

    Attributes:
        blank: id of the blank.
        starts_word: [V] whether the word before a token ends with it.
        delimited: whether words are separated by a token of their own.
        beam_size: prefixes kept after each frame; 1 keeps the best path instead, as greedy decoding does.
        margin: tokens further below a frame's best than this many nats do not extend a prefix in it.
        boost: adaptive boosting: the most that a token of an entity is raised, in nats; 0 for none.
        boost_floor: the part of `boost` that such a token gets even if it is the frame's best.
    """

    blank: int
    starts_word: NDArray[np.bool_]
    delimited: bool
    beam_size: int
    margin: float
    boost: float
    boost_floor: float


class Found(NamedTuple):
    """The final prefixes of an utterance, best first.

    Attributes:
        mass: [n] log-probability of each prefix.
        bonus: [n] what its entities add.
        first_token: [n + 1]; the tokens of prefix ``k`` are ``tokens[first_token[k]:first_token[k + 1]]``.
        tokens: [all tokens].
        first_span: [n + 1]; likewise for the spans.
        spans: [all spans, 3] entity, first token in the prefix, token after the last.
        span_bonus: [all spans] what the entity adds; a prefix's bonus is their sum.
    """

    mass: NDArray[np.float64]
    bonus: NDArray[np.float64]
    first_token: NDArray[np.int32]
    tokens: NDArray[np.int32]
    first_span: NDArray[np.int32]
    spans: NDArray[np.int32]
    span_bonus: NDArray[np.float64]


class _Beam(NamedTuple):
    """The prefixes of one frame, a row each."""

    ints: Any  # [rows, 8] int32, columns below
    reals: Any  # [rows, 6] float64, columns below
    hashes: Any  # [rows] uint64, of the prefix
    before: Any  # [rows] uint64, of the prefix without its last token
    size: Any  # [1] int64


# NODE: the prefix's last node in the tree of prefixes; LAST: its last token, -1 if empty; LENGTH: tokens.
# IN_BLANK, IN_TOKEN: log mass of the paths that end in a blank, in the last token.
# KEPT, SPAN: bonus and entity spans that the prefix has whatever follows; CLOSED, CLOSED_SPAN: if the word ends here.
# AT, FIRST, OPEN: adaptive boosting: the automaton node that the prefix has reached (0: none), the token with which that
# match began, and what it was raised on the way; BASE, BASE_SPAN: bonus and spans before the match.
NODE, LAST, LENGTH, SPAN, CLOSED_SPAN, AT, FIRST, BASE_SPAN = range(8)
IN_BLANK, IN_TOKEN, KEPT, CLOSED, BASE, OPEN = range(6)


class _Memory(NamedTuple):
    """What outlives a frame, in arrays that are large enough from the start."""

    tree: Any  # [nodes, 2] token, parent: all prefixes that were ever kept
    spans: Any  # [spans, 4] entity, first token, token after the last, span before
    span_bonus: Any  # [spans]
    way: Any  # [arcs on their way, 5]: columns below
    way_mass: Any  # [arcs on their way, 2] mass, bonus of the prefix with the arc
    way_hash: Any  # [arcs on their way, 2] hash of that prefix, and of it without its last token
    used: Any  # [3] how many nodes, spans and arcs on their way there are


WAY_END, WAY_ARC, WAY_NODE, WAY_LENGTH, WAY_SPAN = range(5)
NODES, SPANS, WAYS = range(3)


class _Candidates(NamedTuple):
    """The best candidates for the next beam, best first."""

    what: Any  # [rows, 3] kind, row of the beam or arc on its way, token
    rank: Any  # [rows] mass + bonus
    mass: Any  # [rows]
    size: Any  # [1]


STAY, EXTEND, ARRIVE = range(3)


@numba.njit(cache=True, nogil=True)
def prefix_search(  # type: ignore[no-untyped-def]
    log_probs,
    best,
    near: NearTokens,
    arcs: EntityArcs,
    settings: SearchSettings,
    automaton: EntityAutomaton,
    weights,
    node_weight,
) -> Found:
    """Searches one utterance.

    Args:
        log_probs: [T, V] natural logarithms, each frame with at least one finite value.
        best: [T] the highest log-prob of each frame.
        near: the tokens that may extend a prefix in each frame.
        arcs: entity arcs to take, sorted by start frame.
        settings: see there.
        automaton: the entities, for adaptive boosting.
        weights: [entities] weight of each entity, for adaptive boosting.
        node_weight: [nodes] highest weight of an entity below the node.

    Returns:
        The final beam.
    """
    beam, following = _new_beam(settings.beam_size), _new_beam(settings.beam_size)
    beam.size[0] = 1
    memory = _new_memory(len(log_probs), settings, arcs)
    candidates = _Candidates(
        np.empty((settings.beam_size, 3), np.int32),
        np.empty(settings.beam_size),
        np.empty(settings.beam_size),
        np.zeros(1, np.int64),
    )
    stamps = np.zeros(log_probs.shape[1] + 1, np.int64)  # the last one counts
    stayed = _new_beam(settings.beam_size)
    next_arc = 0
    for t in range(len(log_probs)):
        row, top = log_probs[t], best[t]
        while next_arc < len(arcs.start) and arcs.start[next_arc] == t:
            _send(beam, memory, arcs, next_arc, settings)
            next_arc += 1
        _stay(beam, stayed, row, settings)
        waiting = _meet(t, beam, stayed, memory)
        candidates.size[0] = 0
        _offer_stays(beam, stayed, candidates, node_weight, settings)
        _offer_arrivals(beam, memory, waiting, arcs, candidates, row)
        tokens = near.tokens[t, : near.counts[t]]
        for i in range(beam.size[0]):
            _stamp_taken(i, beam, memory, waiting, arcs, stamps)
            _offer_extensions(i, beam, candidates, row, top, tokens, stamps, settings, automaton, node_weight)
        for c in range(candidates.size[0]):
            kind, i, token = candidates.what[c]
            if kind == STAY:
                _keep(stayed, i, following, c)
            elif kind == EXTEND:
                _extend(beam, i, token, following, c, memory, settings)
                if settings.boost > 0:
                    _boost(beam, i, token, following, c, memory, settings, automaton, weights, top - row[token])
            else:
                _arrive(i, following, c, memory, arcs)
            if kind != STAY:
                following.reals[c, IN_BLANK], following.reals[c, IN_TOKEN] = NEVER, candidates.mass[c]
        following.size[0] = candidates.size[0]
        beam, following = following, beam
        memory.used[WAYS] = waiting
    return _results(beam, memory)  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True, inline="always")
def _log_add(a, b):  # type: ignore[no-untyped-def]
    if a < b:
        a, b = b, a
    return a + np.log1p(np.exp(b - a)) if b - a > -30.0 else a


@numba.njit(cache=True, nogil=True)
def _hash(prefix, token):  # type: ignore[no-untyped-def]
    """Hash of a prefix with one more token; equal hashes are taken for equal prefixes (64 bits)."""
    h = (prefix ^ np.uint64(token + 1)) * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(29))


@numba.njit(cache=True, nogil=True)
def _new_beam(size):  # type: ignore[no-untyped-def]
    """A beam without prefixes, whose first row is the empty prefix."""
    ints, reals = np.zeros((size, 8), np.int32), np.zeros((size, 6), np.float64)
    ints[:, LAST] = ints[:, SPAN] = ints[:, CLOSED_SPAN] = ints[:, BASE_SPAN] = -1
    reals[:, IN_TOKEN] = NEVER
    return _Beam(ints, reals, np.full(size, 0x51ED270B, np.uint64), np.zeros(size, np.uint64), np.zeros(1, np.int64))


@numba.njit(cache=True, nogil=True)
def _new_memory(frames, settings, arcs):  # type: ignore[no-untyped-def]
    """At most beam_size extensions a frame, and beam_size prefixes that take an arc."""
    extensions, taken = frames * settings.beam_size, len(arcs.entity) * settings.beam_size
    spans = taken + (extensions if settings.boost > 0 else 0)
    tree = np.empty((1 + extensions + settings.beam_size * len(arcs.tokens), 2), np.int32)
    tree[0, 0], tree[0, 1] = -1, -1
    used = np.zeros(3, np.int64)
    used[NODES] = 1
    return _Memory(
        tree,
        np.empty((spans, 4), np.int32),
        np.empty(spans, np.float64),
        np.empty((taken, 5), np.int32),
        np.empty((taken, 2), np.float64),
        np.empty((taken, 2), np.uint64),
        used,
    )


@numba.njit(cache=True, nogil=True)
def _mass_before(beam, i, token):  # type: ignore[no-untyped-def]
    """Mass of the paths of a prefix that the token may follow as a new token (a repeated token needs a blank before)."""
    if beam.ints[i, LAST] == token:
        return beam.reals[i, IN_BLANK]
    return _log_add(beam.reals[i, IN_BLANK], beam.reals[i, IN_TOKEN])


@numba.njit(cache=True, nogil=True)
def _may_start(beam, i, token, settings):  # type: ignore[no-untyped-def]
    """Whether an entity may start with this token after the prefix: only at a word boundary."""
    if settings.delimited:
        return beam.ints[i, LENGTH] == 0 or settings.starts_word[beam.ints[i, LAST]]
    return settings.starts_word[token]


# ---- arcs


@numba.njit(cache=True, nogil=True)
def _send(beam, memory, arcs, arc, settings):  # type: ignore[no-untyped-def]
    """Sends an arc on its way from every prefix of the beam that it may follow."""
    begin, end = arcs.first_token[arc], arcs.first_token[arc + 1]
    for i in range(beam.size[0]):
        if not _may_start(beam, i, arcs.tokens[begin], settings):
            continue
        mass = _mass_before(beam, i, arcs.tokens[begin])
        if mass <= NEVER:
            continue
        w, s, length = memory.used[WAYS], memory.used[SPANS], beam.ints[i, LENGTH]
        memory.spans[s, 0], memory.spans[s, 1], memory.spans[s, 2] = arcs.entity[arc], length, length + end - begin
        memory.spans[s, 3], memory.span_bonus[s] = beam.ints[i, CLOSED_SPAN], arcs.bonus[arc]
        memory.way[w, WAY_END], memory.way[w, WAY_ARC], memory.way[w, WAY_NODE] = arcs.end[arc], arc, beam.ints[i, NODE]
        memory.way[w, WAY_LENGTH], memory.way[w, WAY_SPAN] = length + end - begin, s
        memory.way_mass[w, 0] = mass + arcs.log_prob[arc]
        memory.way_mass[w, 1] = beam.reals[i, CLOSED] + arcs.bonus[arc]
        before = beam.hashes[i]
        for k in range(begin, end - 1):
            before = _hash(before, arcs.tokens[k])
        memory.way_hash[w, 0], memory.way_hash[w, 1] = _hash(before, arcs.tokens[end - 1]), before
        memory.used[SPANS] += 1
        memory.used[WAYS] += 1


@numba.njit(cache=True, nogil=True)
def _meet(t, beam, stayed, memory):  # type: ignore[no-untyped-def]
    """Merges the arcs that end in this frame into equal prefixes of the beam, and into each other.

    The arc's path is one of the paths that an equal prefix sums over, so the larger mass is taken, not the sum.

    Returns:
        How many arcs are still on their way; those after them in `memory.way` are new prefixes of this frame.
    """
    waiting = memory.used[WAYS]
    w = 0
    while w < waiting:
        if memory.way[w, WAY_END] != t:
            w += 1
            continue
        waiting -= 1
        _swap_ways(memory, w, waiting)
        mass, bonus = memory.way_mass[waiting]
        merged = False
        for i in range(beam.size[0]):
            if beam.hashes[i] == memory.way_hash[waiting, 0]:
                merged = True
                stayed.reals[i, IN_TOKEN] = max(stayed.reals[i, IN_TOKEN], mass)
                if bonus > stayed.reals[i, CLOSED]:
                    stayed.reals[i, CLOSED], stayed.ints[i, CLOSED_SPAN] = bonus, memory.way[waiting, WAY_SPAN]
        for k in range(waiting + 1, memory.used[WAYS]):
            if not merged and memory.way_hash[k, 0] == memory.way_hash[waiting, 0]:
                merged = True
                mass = max(mass, memory.way_mass[k, 0])
                if bonus > memory.way_mass[k, 1]:
                    _swap_ways(memory, k, waiting)
                memory.way_mass[k, 0] = mass
        if merged:
            memory.used[WAYS] -= 1
            _swap_ways(memory, waiting, memory.used[WAYS])
    return waiting


@numba.njit(cache=True, nogil=True)
def _swap_ways(memory, a, b):  # type: ignore[no-untyped-def]
    for column in range(5):
        memory.way[a, column], memory.way[b, column] = memory.way[b, column], memory.way[a, column]
    for column in range(2):
        x, y = memory.way_mass[a, column], memory.way_mass[b, column]
        memory.way_mass[a, column], memory.way_mass[b, column] = y, x
        p, q = memory.way_hash[a, column], memory.way_hash[b, column]
        memory.way_hash[a, column], memory.way_hash[b, column] = q, p


@numba.njit(cache=True, nogil=True)
def _offer_arrivals(beam, memory, waiting, arcs, candidates, row):  # type: ignore[no-untyped-def]
    for w in range(waiting, memory.used[WAYS]):
        token = arcs.tokens[arcs.first_token[memory.way[w, WAY_ARC] + 1] - 1]
        mass = memory.way_mass[w, 0]
        for i in range(beam.size[0]):
            if beam.hashes[i] == memory.way_hash[w, 1]:  # the beam reaches the same prefix by its last token
                mass = max(mass, _mass_before(beam, i, token) + row[token])
        _offer(candidates, ARRIVE, w, token, mass + memory.way_mass[w, 1], mass)


@numba.njit(cache=True, nogil=True)
def _arrive(w, following, c, memory, arcs):  # type: ignore[no-untyped-def]
    """Row `c` of the next beam becomes the prefix with the arc."""
    arc, node, span = memory.way[w, WAY_ARC], memory.way[w, WAY_NODE], memory.way[w, WAY_SPAN]
    for k in range(arcs.first_token[arc], arcs.first_token[arc + 1]):
        node = _add_node(memory, arcs.tokens[k], node)
    following.ints[c] = 0
    following.ints[c, NODE], following.ints[c, LAST] = node, memory.tree[node, 0]
    following.ints[c, LENGTH], following.ints[c, BASE_SPAN] = memory.way[w, WAY_LENGTH], -1
    following.ints[c, CLOSED_SPAN], following.ints[c, SPAN] = span, memory.spans[span, 3]
    following.reals[c] = 0.0
    following.reals[c, CLOSED] = memory.way_mass[w, 1]
    following.reals[c, KEPT] = memory.way_mass[w, 1] - memory.span_bonus[span]
    following.hashes[c], following.before[c] = memory.way_hash[w]


# ---- tokens


@numba.njit(cache=True, nogil=True)
def _stay(beam, stayed, row, settings):  # type: ignore[no-untyped-def]
    """The prefixes of the beam one frame later: a blank, the last token again, or that token after another prefix."""
    for i in range(beam.size[0]):
        _keep(beam, i, stayed, i)
        last = beam.ints[i, LAST]
        stayed.reals[i, IN_BLANK] = _log_add(beam.reals[i, IN_BLANK], beam.reals[i, IN_TOKEN]) + row[settings.blank]
        stayed.reals[i, IN_TOKEN] = NEVER
        if last < 0:
            continue
        stayed.reals[i, IN_TOKEN] = beam.reals[i, IN_TOKEN] + row[last]
        for p in range(beam.size[0]):
            if beam.hashes[p] != beam.before[i]:
                continue
            stayed.reals[i, IN_TOKEN] = _log_add(stayed.reals[i, IN_TOKEN], _mass_before(beam, p, last) + row[last])
            if settings.starts_word[last] and beam.reals[p, CLOSED] > beam.reals[i, KEPT]:  # an arc came in there since
                stayed.reals[i, KEPT], stayed.ints[i, SPAN] = beam.reals[p, CLOSED], beam.ints[p, CLOSED_SPAN]
                if stayed.reals[i, KEPT] > stayed.reals[i, CLOSED]:
                    stayed.reals[i, CLOSED], stayed.ints[i, CLOSED_SPAN] = stayed.reals[i, KEPT], stayed.ints[i, SPAN]


@numba.njit(cache=True, nogil=True)
def _keep(beam, i, following, c):  # type: ignore[no-untyped-def]
    following.ints[c], following.reals[c] = beam.ints[i], beam.reals[i]
    following.hashes[c], following.before[c] = beam.hashes[i], beam.before[i]


@numba.njit(cache=True, nogil=True)
def _offer_stays(beam, stayed, candidates, node_weight, settings):  # type: ignore[no-untyped-def]
    for i in range(beam.size[0]):
        if settings.beam_size == 1:
            if stayed.reals[i, IN_BLANK] >= stayed.reals[i, IN_TOKEN]:
                stayed.reals[i, IN_TOKEN] = NEVER
            else:
                stayed.reals[i, IN_BLANK] = NEVER
        mass = _log_add(stayed.reals[i, IN_BLANK], stayed.reals[i, IN_TOKEN])
        bonus = stayed.reals[i, CLOSED]
        if stayed.ints[i, AT] > 0:
            bonus = max(bonus, stayed.reals[i, BASE] + stayed.reals[i, OPEN] * node_weight[stayed.ints[i, AT]])
        _offer(candidates, STAY, i, 0, mass + bonus, mass)


@numba.njit(cache=True, nogil=True)
def _stamp_taken(i, beam, memory, waiting, arcs, stamps):  # type: ignore[no-untyped-def]
    """Marks the tokens that lead from a prefix to another candidate, which has their mass already."""
    stamps[-1] += 1
    for q in range(beam.size[0]):
        if beam.ints[q, LAST] >= 0 and beam.before[q] == beam.hashes[i]:
            stamps[beam.ints[q, LAST]] = stamps[-1]
    for w in range(waiting, memory.used[WAYS]):
        if memory.way_hash[w, 1] == beam.hashes[i]:
            stamps[arcs.tokens[arcs.first_token[memory.way[w, WAY_ARC] + 1] - 1]] = stamps[-1]


@numba.njit(cache=True, nogil=True)
def _offer_extensions(i, beam, candidates, row, top, tokens, stamps, settings, automaton, node_weight):  # type: ignore[no-untyped-def]
    """Offers a prefix with one more token, for each token near the frame's best (best first)."""
    for token in tokens:
        if row[token] < top - settings.margin - settings.boost:
            break
        if stamps[token] == stamps[-1]:
            continue
        mass = _mass_before(beam, i, token) + row[token]
        bonus = beam.reals[i, CLOSED] if settings.starts_word[token] else beam.reals[i, KEPT]
        if settings.boost > 0:
            edge, starts = _match(beam, i, token, settings, automaton)
            if edge >= 0:
                raised = _raised(beam, i, starts, top - row[token], settings) * node_weight[automaton.edges[edge, TARGET]]
                bonus = max(bonus, (bonus if starts else beam.reals[i, BASE]) + raised)
            elif row[token] < top - settings.margin:
                continue
        elif candidates.size[0] == settings.beam_size and mass + beam.reals[i, CLOSED] <= candidates.rank[-1]:
            if token != beam.ints[i, LAST]:
                break  # no later token can do better
            continue
        if mass > NEVER:
            _offer(candidates, EXTEND, i, token, mass + bonus, mass)


@numba.njit(cache=True, nogil=True)
def _offer(candidates, kind, i, token, rank, mass):  # type: ignore[no-untyped-def]
    """Puts a candidate in its place if it is among the best."""
    size = candidates.size[0]
    if size == len(candidates.rank):
        if rank <= candidates.rank[size - 1]:
            return
        size -= 1
    k = size
    while k > 0 and candidates.rank[k - 1] < rank:
        candidates.rank[k], candidates.mass[k] = candidates.rank[k - 1], candidates.mass[k - 1]
        candidates.what[k] = candidates.what[k - 1]
        k -= 1
    candidates.rank[k], candidates.mass[k] = rank, mass
    candidates.what[k, 0], candidates.what[k, 1], candidates.what[k, 2] = kind, i, token
    candidates.size[0] = size + 1


@numba.njit(cache=True, nogil=True)
def _add_node(memory, token, parent):  # type: ignore[no-untyped-def]
    node = memory.used[NODES]
    memory.tree[node, 0], memory.tree[node, 1] = token, parent
    memory.used[NODES] += 1
    return node


@numba.njit(cache=True, nogil=True)
def _extend(beam, i, token, following, c, memory, settings):  # type: ignore[no-untyped-def]
    """Row `c` of the next beam becomes prefix `i` with one more token."""
    bonus, span = beam.reals[i, KEPT], beam.ints[i, SPAN]
    if settings.starts_word[token]:
        bonus, span = beam.reals[i, CLOSED], beam.ints[i, CLOSED_SPAN]
    following.ints[c] = 0
    following.ints[c, NODE], following.ints[c, LAST] = _add_node(memory, token, beam.ints[i, NODE]), token
    following.ints[c, LENGTH], following.ints[c, BASE_SPAN] = beam.ints[i, LENGTH] + 1, -1
    following.ints[c, SPAN], following.ints[c, CLOSED_SPAN] = span, span
    following.reals[c] = 0.0
    following.reals[c, KEPT], following.reals[c, CLOSED] = bonus, bonus
    following.hashes[c], following.before[c] = _hash(beam.hashes[i], token), beam.hashes[i]


# ---- adaptive boosting


@numba.njit(cache=True, nogil=True)
def _match(beam, i, token, settings, automaton):  # type: ignore[no-untyped-def]
    """The automaton edge that the token takes after a prefix, or -1, and whether a match starts with it.

    A match that can go on goes on; else one may start.
    """
    if beam.ints[i, AT] > 0:
        edge = _edge(automaton, beam.ints[i, AT], token)
        if edge >= 0:
            return edge, False
    if _may_start(beam, i, token, settings):
        return _edge(automaton, 0, token), True
    return -1, False


@numba.njit(cache=True, nogil=True)
def _edge(automaton, node, token):  # type: ignore[no-untyped-def]
    begin, end = automaton.nodes[node, FIRST_EDGE], automaton.nodes[node + 1, FIRST_EDGE]
    return first_edge_of(automaton.edges, begin, end, token)


@numba.njit(cache=True, nogil=True)
def _raised(beam, i, starts, gap, settings):  # type: ignore[no-untyped-def]
    """What the match has been raised by after a token that lies `gap` nats below the frame's best."""
    lift = min(settings.boost, settings.boost * settings.boost_floor + gap)
    return lift if starts else beam.reals[i, OPEN] + lift


@numba.njit(cache=True, nogil=True)
def _boost(beam, i, token, following, c, memory, settings, automaton, weights, gap):  # type: ignore[no-untyped-def]
    """Notes in row `c` of the next beam, which extends prefix `i`, where its match stands."""
    edge, starts = _match(beam, i, token, settings, automaton)
    if edge < 0:
        return
    at, open_bonus = automaton.edges[edge, TARGET], _raised(beam, i, starts, gap, settings)
    base, base_span, first = beam.reals[i, BASE], beam.ints[i, BASE_SPAN], beam.ints[i, FIRST]
    if starts:
        base, base_span, first = following.reals[c, KEPT], following.ints[c, SPAN], beam.ints[i, LENGTH]
    following.ints[c, AT], following.ints[c, BASE_SPAN], following.ints[c, FIRST] = at, base_span, first
    following.reals[c, BASE], following.reals[c, OPEN] = base, open_bonus
    entity = automaton.nodes[at, ENTITY]
    if entity < 0 or base + open_bonus * weights[entity] <= following.reals[c, CLOSED]:
        return
    span = memory.used[SPANS]
    memory.spans[span, 0], memory.spans[span, 1] = entity, first
    memory.spans[span, 2], memory.spans[span, 3] = following.ints[c, LENGTH], base_span
    memory.span_bonus[span] = open_bonus * weights[entity]
    memory.used[SPANS] += 1
    following.reals[c, CLOSED], following.ints[c, CLOSED_SPAN] = base + memory.span_bonus[span], span


# ---- results


@numba.njit(cache=True, nogil=True)
def _results(beam, memory):  # type: ignore[no-untyped-def]
    count = beam.size[0]
    mass, bonus = np.empty(count), np.empty(count)
    for i in range(count):
        mass[i], bonus[i] = _log_add(beam.reals[i, IN_BLANK], beam.reals[i, IN_TOKEN]), beam.reals[i, CLOSED]
    order = np.argsort(-(mass + bonus), kind="mergesort")
    first_token, first_span = np.zeros(count + 1, np.int32), np.zeros(count + 1, np.int32)
    for k in range(count):
        first_token[k + 1] = first_token[k] + beam.ints[order[k], LENGTH]
        first_span[k + 1] = first_span[k]
        span = beam.ints[order[k], CLOSED_SPAN]
        while span >= 0:
            first_span[k + 1] += 1
            span = memory.spans[span, 3]
    tokens = np.empty(first_token[count], np.int32)
    spans, span_bonus = np.empty((first_span[count], 3), np.int32), np.empty(first_span[count])
    for k in range(count):
        node, span = beam.ints[order[k], NODE], beam.ints[order[k], CLOSED_SPAN]
        for position in range(first_token[k + 1] - 1, first_token[k] - 1, -1):
            tokens[position] = memory.tree[node, 0]
            node = memory.tree[node, 1]
        for position in range(first_span[k + 1] - 1, first_span[k] - 1, -1):
            spans[position] = memory.spans[span, :3]
            span_bonus[position] = memory.span_bonus[span]
            span = memory.spans[span, 3]
    return Found(mass[order], bonus[order], first_token, tokens, first_span, spans, span_bonus)
