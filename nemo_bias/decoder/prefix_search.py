"""CTC prefix beam search, plain or with adaptive subword boosting.

A *prefix* is a token sequence; its mass is the probability, summed over all paths, that the frames so far write it
(Graves 2012; Hannun et al. 2014, arXiv 1408.2873). Every frame keeps the `beam_size` best prefixes. They are ranked by mass
plus bonus, and the two are never mixed: masses merge as probabilities do, a bonus belongs to the entities of the prefix.

*Adaptive subword boosting* raises a prefix token by token while it follows the entity automaton, and gives back what was
raised when the match breaks off. A match starts at a word boundary only (see `nemo_bias.decoder.vocabulary`). The bonus of
an entity that has been written is *closed*: it counts while the text ends there or goes on after a word boundary; a token
that continues the word gives it back.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.automaton import ENTITY, FIRST_EDGE, NO_ENTITY, TARGET, EntityAutomaton, first_edge_of
from nemo_bias.decoder.frames import NEVER, NearTokens
from nemo_bias.decoder.vocabulary import EDGE, Boundaries


class SearchSettings(NamedTuple):
    """What a search needs to know besides the log-probs.

    Attributes:
        blank: id of the blank.
        boundaries: where words may begin and end.
        beam_size: prefixes kept after each frame; 1 keeps the best path instead, as greedy decoding does.
        margin: tokens further below a frame's best than this many nats do not extend a prefix in it.
        boost: adaptive boosting: the most that a token of an entity is raised, in nats; 0 for none.
        boost_floor: the part of `boost` that such a token gets even if it is the frame's best.
    """

    blank: int
    boundaries: Boundaries
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
        spans: [all spans, 3] phrase, first token in the prefix, token after the last.
        span_bonus: [all spans] what the phrase adds; a prefix's bonus is their sum.
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
    reals: Any  # [rows, 3] float64, columns below
    hashes: Any  # [rows] uint64, of the prefix
    before: Any  # [rows] uint64, of the prefix without its last token
    size: Any  # [1] int64


# NODE: the prefix's last node in the tree of prefixes; LAST: its last token, -1 if empty; LENGTH: tokens.
# KEPT: the last of the entity spans that the prefix has whatever follows; CLOSED: the same if the word ends here.
# AT: the automaton node that the prefix has reached (0: none); FIRST: the token with which that match began; BASE: the last
# span before it.
NODE, LAST, LENGTH, KEPT, CLOSED, AT, FIRST, BASE = range(8)
# IN_BLANK, IN_TOKEN: log mass of the paths that end in a blank, in the last token.
# OPEN: what the match has been raised by, before it is multiplied by an entity's weight.
IN_BLANK, IN_TOKEN, OPEN = range(3)


class _Memory(NamedTuple):
    """What outlives a frame, in arrays that are large enough from the start. Span 0 stands for no span."""

    tree: Any  # [nodes, 2] token, parent: all prefixes that were ever kept
    spans: Any  # [spans, 4] phrase, first token, token after the last, span before
    bonus: Any  # [spans] what the span adds
    total: Any  # [spans] what it and all spans before it add
    used: Any  # [2] how many nodes and spans there are


NODES, SPANS = range(2)


class _Candidates(NamedTuple):
    """The best candidates for the next beam, best first."""

    what: Any  # [rows, 2] row of the beam, token that extends it or STAY
    rank: Any  # [rows] mass + bonus
    mass: Any  # [rows]
    size: Any  # [1]


STAY = -1


@njit
def prefix_search(  # type: ignore[no-untyped-def]
    log_probs,
    best,
    near: NearTokens,
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
        settings: see there.
        automaton: the phrases, for adaptive boosting.
        weights: [phrases] weight of each phrase, for adaptive boosting.
        node_weight: [nodes] highest weight of a phrase at the node or below it, as `node_weights` finds it.

    Returns:
        The final beam.
    """
    beam, stayed, following = _new_beam(settings.beam_size), _new_beam(settings.beam_size), _new_beam(settings.beam_size)
    beam.size[0] = 1
    memory = _new_memory(len(log_probs), settings)
    candidates = _Candidates(
        np.empty((settings.beam_size, 2), np.int32),
        np.empty(settings.beam_size),
        np.empty(settings.beam_size),
        np.zeros(1, np.int64),
    )
    stamps = np.zeros(log_probs.shape[1] + 1, np.int64)  # the last one counts
    for t in range(len(log_probs)):
        row, top = log_probs[t], best[t]
        tokens = near.tokens[t, : near.counts[t]]
        _stay(beam, stayed, row, settings)
        candidates.size[0] = 0
        _offer_stays(beam, stayed, candidates, memory, node_weight, settings)
        for i in range(beam.size[0]):
            _stamp_taken(i, beam, stamps)
            _offer_extensions(i, beam, candidates, memory, row, top, tokens, stamps, settings, automaton, node_weight)
        for c in range(candidates.size[0]):
            i, token = candidates.what[c]
            if token == STAY:
                _keep(stayed, i, following, c)
                continue
            _extend(beam, i, token, following, c, candidates.mass[c], memory, settings.boundaries)
            if settings.boost > 0:
                _boost(beam, i, token, following, c, memory, settings, automaton, weights, top - row[token])
        following.size[0] = candidates.size[0]
        beam, following = following, beam
    return _results(beam, memory)  # type: ignore[no-any-return]


@njit
def node_weights(automaton, weights):  # type: ignore[no-untyped-def]
    """-> [nodes] float32: the highest weight of a phrase at each node of the automaton or below it; weights: [phrases]."""
    nodes, edges = automaton.nodes, automaton.edges
    highest = np.zeros(len(nodes) - 1, np.float32)
    for node in range(len(highest) - 1, -1, -1):  # edges lead to higher nodes
        if nodes[node, ENTITY] != NO_ENTITY:
            highest[node] = weights[nodes[node, ENTITY]]
        for edge in range(nodes[node, FIRST_EDGE], nodes[node + 1, FIRST_EDGE]):
            highest[node] = max(highest[node], highest[edges[edge, TARGET]])
    return highest


@njit(inline="always")
def _log_add(a, b):  # type: ignore[no-untyped-def]
    if a < b:
        a, b = b, a
    return a + np.log1p(np.exp(b - a)) if b - a > -30.0 else a


@njit
def _hash(prefix, token):  # type: ignore[no-untyped-def]
    """Hash of a prefix with one more token; equal hashes are taken for equal prefixes (64 bits)."""
    h = (prefix ^ np.uint64(token + 1)) * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(29))


@njit
def _new_beam(size):  # type: ignore[no-untyped-def]
    """A beam without prefixes, whose first row is the empty prefix."""
    ints, reals = np.zeros((size, 8), np.int32), np.zeros((size, 3), np.float64)
    ints[:, LAST] = -1
    reals[:, IN_TOKEN] = NEVER
    return _Beam(ints, reals, np.full(size, 0x51ED270B, np.uint64), np.zeros(size, np.uint64), np.zeros(1, np.int64))


@njit
def _new_memory(frames, settings):  # type: ignore[no-untyped-def]
    """Room for beam_size extensions a frame, each of which may end an entity."""
    extensions = frames * settings.beam_size
    spans = 1 + (extensions if settings.boost > 0 else 0)
    tree = np.empty((1 + extensions, 2), np.int32)
    tree[0, 0], tree[0, 1] = -1, -1
    return _Memory(tree, np.zeros((spans, 4), np.int32), np.zeros(spans), np.zeros(spans), np.ones(2, np.int64))


@njit
def _mass_before(beam, i, token):  # type: ignore[no-untyped-def]
    """Mass of the paths of a prefix that the token may follow as a new token (a repeated token needs a blank before)."""
    if beam.ints[i, LAST] == token:
        return beam.reals[i, IN_BLANK]
    return _log_add(beam.reals[i, IN_BLANK], beam.reals[i, IN_TOKEN])


@njit
def _word_ends(beam, i, token, boundaries):  # type: ignore[no-untyped-def]
    """Whether a word boundary lies between a prefix and the token that follows."""
    last = beam.ints[i, LAST]
    return boundaries.between[boundaries.last[last] if last >= 0 else EDGE, boundaries.first[token]]


@njit
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
            if beam.hashes[p] == beam.before[i]:
                stayed.reals[i, IN_TOKEN] = _log_add(stayed.reals[i, IN_TOKEN], _mass_before(beam, p, last) + row[last])


@njit
def _keep(beam, i, following, c):  # type: ignore[no-untyped-def]
    following.ints[c], following.reals[c] = beam.ints[i], beam.reals[i]
    following.hashes[c], following.before[c] = beam.hashes[i], beam.before[i]


@njit
def _offer_stays(beam, stayed, candidates, memory, node_weight, settings):  # type: ignore[no-untyped-def]
    for i in range(beam.size[0]):
        if settings.beam_size == 1:
            if stayed.reals[i, IN_BLANK] >= stayed.reals[i, IN_TOKEN]:
                stayed.reals[i, IN_TOKEN] = NEVER
            else:
                stayed.reals[i, IN_BLANK] = NEVER
        mass = _log_add(stayed.reals[i, IN_BLANK], stayed.reals[i, IN_TOKEN])
        bonus = memory.total[stayed.ints[i, CLOSED]]
        if stayed.ints[i, AT] > 0:
            raised = stayed.reals[i, OPEN] * node_weight[stayed.ints[i, AT]]
            bonus = max(bonus, memory.total[stayed.ints[i, BASE]] + raised)
        _offer(candidates, i, STAY, mass + bonus, mass)


@njit
def _stamp_taken(i, beam, stamps):  # type: ignore[no-untyped-def]
    """Marks the tokens that lead from a prefix to another one of the beam, which has their mass already."""
    stamps[-1] += 1
    for q in range(beam.size[0]):
        if beam.ints[q, LAST] >= 0 and beam.before[q] == beam.hashes[i]:
            stamps[beam.ints[q, LAST]] = stamps[-1]


@njit
def _offer_extensions(  # type: ignore[no-untyped-def]
    i, beam, candidates, memory, row, top, tokens, stamps, settings, automaton, node_weight
):
    """Offers a prefix with one more token, for each token near the frame's best (best first)."""
    bonus = 0.0
    for token in tokens:
        if row[token] < top - settings.margin - settings.boost:
            break
        if stamps[token] == stamps[-1]:
            continue
        mass = _mass_before(beam, i, token) + row[token]
        if settings.boost > 0:
            ends = _word_ends(beam, i, token, settings.boundaries)
            bonus = memory.total[beam.ints[i, CLOSED if ends else KEPT]]
            edge, starts = _match(beam, i, token, ends, automaton)
            if edge >= 0:
                raised = _raised(beam, i, starts, top - row[token], settings) * node_weight[automaton.edges[edge, TARGET]]
                bonus = max(bonus, memory.total[beam.ints[i, CLOSED if starts else BASE]] + raised)
            elif row[token] < top - settings.margin:
                continue
        elif candidates.size[0] == settings.beam_size and mass <= candidates.rank[-1]:
            if token != beam.ints[i, LAST]:
                break  # no later token can do better
            continue
        if mass > NEVER:
            _offer(candidates, i, token, mass + bonus, mass)


@njit
def _offer(candidates, i, token, rank, mass):  # type: ignore[no-untyped-def]
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
    candidates.what[k, 0], candidates.what[k, 1] = i, token
    candidates.size[0] = size + 1


@njit
def _extend(beam, i, token, following, c, mass, memory, boundaries):  # type: ignore[no-untyped-def]
    """Row `c` of the next beam becomes prefix `i` with one more token."""
    node = memory.used[NODES]
    memory.used[NODES] += 1
    memory.tree[node, 0], memory.tree[node, 1] = token, beam.ints[i, NODE]
    span = beam.ints[i, CLOSED if _word_ends(beam, i, token, boundaries) else KEPT]
    following.ints[c] = 0
    following.ints[c, NODE], following.ints[c, LAST], following.ints[c, LENGTH] = node, token, beam.ints[i, LENGTH] + 1
    following.ints[c, KEPT], following.ints[c, CLOSED] = span, span
    following.reals[c, IN_BLANK], following.reals[c, IN_TOKEN], following.reals[c, OPEN] = NEVER, mass, 0.0
    following.hashes[c], following.before[c] = _hash(beam.hashes[i], token), beam.hashes[i]


# ---- adaptive boosting


@njit
def _match(beam, i, token, word_ends, automaton):  # type: ignore[no-untyped-def]
    """The automaton edge that the token takes after a prefix, or -1, and whether a match starts with it.

    A match that can go on goes on; else one may start where the prefix's last word ends.
    """
    if beam.ints[i, AT] > 0:
        edge = _edge(automaton, beam.ints[i, AT], token)
        if edge >= 0:
            return edge, False
    if word_ends:
        return _edge(automaton, 0, token), True
    return -1, False


@njit
def _edge(automaton, node, token):  # type: ignore[no-untyped-def]
    begin, end = automaton.nodes[node, FIRST_EDGE], automaton.nodes[node + 1, FIRST_EDGE]
    return first_edge_of(automaton.edges, begin, end, token)


@njit
def _raised(beam, i, starts, gap, settings):  # type: ignore[no-untyped-def]
    """What the match has been raised by after a token that lies `gap` nats below the frame's best."""
    lift = min(settings.boost, settings.boost * settings.boost_floor + gap)
    return lift if starts else beam.reals[i, OPEN] + lift


@njit
def _boost(beam, i, token, following, c, memory, settings, automaton, weights, gap):  # type: ignore[no-untyped-def]
    """Notes in row `c` of the next beam, which extends prefix `i`, where its match stands."""
    edge, starts = _match(beam, i, token, _word_ends(beam, i, token, settings.boundaries), automaton)
    if edge < 0:
        return
    at, raised = automaton.edges[edge, TARGET], _raised(beam, i, starts, gap, settings)
    base, first = beam.ints[i, BASE], beam.ints[i, FIRST]
    if starts:
        base, first = beam.ints[i, CLOSED], beam.ints[i, LENGTH]
    following.ints[c, AT], following.ints[c, BASE], following.ints[c, FIRST] = at, base, first
    following.reals[c, OPEN] = raised
    phrase = automaton.nodes[at, ENTITY]
    if phrase == NO_ENTITY:
        return
    bonus = raised * weights[phrase]
    total = memory.total[base] + bonus
    if total <= memory.total[following.ints[c, CLOSED]]:
        return
    span = memory.used[SPANS]
    memory.used[SPANS] += 1
    memory.spans[span, 0], memory.spans[span, 1] = phrase, first
    memory.spans[span, 2], memory.spans[span, 3] = following.ints[c, LENGTH], base
    memory.bonus[span], memory.total[span] = bonus, total
    following.ints[c, CLOSED] = span


# ---- results


@njit
def _results(beam, memory):  # type: ignore[no-untyped-def]
    count = beam.size[0]
    mass, bonus = np.empty(count), np.empty(count)
    for i in range(count):
        mass[i] = _log_add(beam.reals[i, IN_BLANK], beam.reals[i, IN_TOKEN])
        bonus[i] = memory.total[beam.ints[i, CLOSED]]
    order = np.argsort(-(mass + bonus), kind="mergesort")
    first_token, first_span = np.zeros(count + 1, np.int32), np.zeros(count + 1, np.int32)
    for k in range(count):
        first_token[k + 1] = first_token[k] + beam.ints[order[k], LENGTH]
        first_span[k + 1] = first_span[k]
        span = beam.ints[order[k], CLOSED]
        while span > 0:
            first_span[k + 1] += 1
            span = memory.spans[span, 3]
    tokens = np.empty(first_token[count], np.int32)
    spans, span_bonus = np.empty((first_span[count], 3), np.int32), np.empty(first_span[count])
    for k in range(count):
        node, span = beam.ints[order[k], NODE], beam.ints[order[k], CLOSED]
        for position in range(first_token[k + 1] - 1, first_token[k] - 1, -1):
            tokens[position] = memory.tree[node, 0]
            node = memory.tree[node, 1]
        for position in range(first_span[k + 1] - 1, first_span[k] - 1, -1):
            spans[position] = memory.spans[span, :3]
            span_bonus[position] = memory.bonus[span]
            span = memory.spans[span, 3]
    return Found(mass[order], bonus[order], first_token, tokens, first_span, spans, span_bonus)
