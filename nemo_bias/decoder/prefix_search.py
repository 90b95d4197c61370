"""CTC prefix beam search, plain or with adaptive subword boosting.

A *prefix* is a token sequence; its mass is the probability, summed over all paths, that the frames so far write it
(Graves 2012; Hannun et al. 2014, arXiv 1408.2873). Every frame keeps the `beam_size` best prefixes, unless they lie far
below the best. They are ranked by mass plus bonus, and the two are never mixed: masses merge as probabilities do, a bonus
belongs to the entities of the prefix.

*Adaptive subword boosting* raises a prefix token by token while it follows the entity automaton, and gives back what was
raised when the match breaks off. A match starts at a word boundary only (see `nemo_bias.decoder.vocabulary`). The bonus of
an entity that has been written is *closed*: it counts while the text ends there or goes on after a word boundary; a token
that continues the word gives it back.

*A language model* adds what it says of the words that have ended, and foresees of the one that has begun (see
`nemo_bias.decoder.language_model`). If only the best text is wanted, prefixes that it makes no difference between, whatever
follows, are recombined: the best of them is kept. They have the same last words, as many as it looks back on, and the same
letters since. So the beam holds what is worth telling apart. The compiled search stops at a frame in which it needs a score
that the cache does not hold, Python asks the model for all that this frame needs, and the search goes on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.automaton import ENTITY, FIRST_EDGE, NO_ENTITY, TARGET, EntityAutomaton, first_edge_of
from nemo_bias.decoder.frames import NEVER, NearTokens, doubt
from nemo_bias.decoder.language_model import NO_SCORES, LanguageModel, finished, foreseen
from nemo_bias.decoder.prefix_beam import (
    AFTER,
    AT,
    BASE,
    CLOSED,
    CONTEXT,
    ENDED,
    FIRST,
    FORESEEN,
    FRAME,
    IN_BLANK,
    IN_TOKEN,
    KEPT,
    LAST,
    LENGTH,
    NODE,
    OPEN,
    SPANS,
    STAY,
    TURN,
    WORD,
    Search,
    Successors,
    drop_hopeless,
    extend,
    keep,
    least_rank,
    log_add,
    mass_before,
    new_beam,
    new_memory,
    offer,
    stay,
    word_ends,
)
from nemo_bias.decoder.prefix_words import any_starts, before_word, end_sentences, end_words, future_of, most_said, note_word
from nemo_bias.decoder.vocabulary import Boundaries
from nemo_bias.decoder.word_trie import ROOT


class SearchSettings(NamedTuple):
    """What a search needs to know besides the log-probs.

    Attributes:
        blank: id of the blank.
        boundaries: where words may begin and end.
        beam_size: prefixes kept after each frame; 1 keeps the best path instead, as greedy decoding does.
        margin: tokens further below a frame's best than this many nats do not extend a prefix in it.
        spread: prefixes this many nats below the best one are dropped.
        boost: adaptive boosting: the most that a token of an entity is raised, in nats; 0 for none.
        boost_floor: the part of `boost` that such a token gets even if it is the frame's best.
        recombine: with a language model: whether only the best is kept of prefixes that it makes no difference between.
    """

    blank: int
    boundaries: Boundaries
    beam_size: int
    margin: float
    spread: float
    boost: float
    boost_floor: float
    recombine: bool


class Found(NamedTuple):
    """The final prefixes of an utterance, best first.

    Attributes:
        mass: [n] log-probability of each prefix.
        bonus: [n] what its entities add.
        language: [n] what the language model adds.
        first_token: [n + 1]; the tokens of prefix ``k`` are ``tokens[first_token[k]:first_token[k + 1]]``.
        tokens: [all tokens].
        reached: [all tokens] the frame in which the search took each.
        first_span: [n + 1]; likewise for the spans.
        spans: [all spans, 3] phrase, first token in the prefix, token after the last.
        span_bonus: [all spans] what the phrase adds; a prefix's bonus is their sum.
    """

    mass: NDArray[np.float64]
    bonus: NDArray[np.float64]
    language: NDArray[np.float64]
    first_token: NDArray[np.int32]
    tokens: NDArray[np.int32]
    reached: NDArray[np.int32]
    first_span: NDArray[np.int32]
    spans: NDArray[np.int32]
    span_bonus: NDArray[np.float64]


def prefix_search(
    log_probs: NDArray[np.float32],
    best: NDArray[np.float32],
    near: NearTokens,
    settings: SearchSettings,
    automaton: EntityAutomaton,
    weights: NDArray[np.float32],
    node_weight: NDArray[np.float32],
    language_model: LanguageModel | None = None,
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
        language_model: scores words; None: there is none.

    Returns:
        The final beam.
    """
    search = _new_search(log_probs, settings)
    arguments = search, log_probs, best, near, settings, automaton, weights, node_weight
    if language_model is None:
        _advance(*arguments, NO_SCORES)
        return _results(search, NO_SCORES)  # type: ignore[no-any-return]
    cache, doubted = language_model.cache(), doubt(log_probs, best, near, settings.blank)
    while missing := _advance(*arguments, language_model.scores(cache, doubted)):
        cache.fill(search.missing[:missing])
    return _results(search, language_model.scores(cache, doubted))  # type: ignore[no-any-return]


@njit
def _new_search(log_probs, settings):  # type: ignore[no-untyped-def]
    size = settings.beam_size
    beams = (new_beam(size), new_beam(size))
    beams[0].size[0] = 1
    successors = Successors(
        np.empty((size, 2), np.int32), np.empty(size), np.empty(size), np.zeros(size, np.uint64), np.zeros(1, np.int64)
    )
    stamps = np.zeros(log_probs.shape[1] + 1, np.int64)
    missing = np.empty((size, 2), np.int32)
    return Search(
        beams, new_beam(size), new_memory(len(log_probs), settings), successors, stamps, np.zeros(2, np.int64), missing
    )


@njit
def _advance(search, log_probs, best, near, settings, automaton, weights, node_weight, scores):  # type: ignore[no-untyped-def]
    """Goes on to the last frame; returns how many scores are missing, if there are any."""
    stayed, memory, successors, stamps = search.stayed, search.memory, search.successors, search.stamps
    for t in range(search.at[FRAME], len(log_probs)):
        beam, following = search.beams[search.at[TURN]], search.beams[1 - search.at[TURN]]
        row, top = log_probs[t], best[t]
        tokens = near.tokens[t, : near.counts[t]]
        if scores.on and any_starts(scores.starts, tokens):
            missing = end_words(beam, scores, search.missing)
            if missing:
                return missing
        stay(beam, stayed, row, settings)
        successors.size[0] = 0
        _offer_stays(beam, stayed, successors, memory, node_weight, settings)
        for i in range(beam.size[0]):
            _stamp_taken(i, beam, stamps)
            _offer_extensions(
                i, beam, successors, memory, row, top, tokens, stamps, settings, automaton, node_weight, scores
            )
        drop_hopeless(successors, settings.spread)
        for c in range(successors.size[0]):
            i, token = successors.what[c]
            if token == STAY:
                keep(stayed, i, following, c)
                continue
            extend(beam, i, token, following, c, successors.mass[c], memory, settings.boundaries, t)
            if settings.boost > 0:
                _boost(beam, i, token, following, c, memory, settings, automaton, weights, top - row[token])
            if scores.on:
                note_word(beam, i, token, following, c, scores)
        following.size[0] = successors.size[0]
        search.at[FRAME], search.at[TURN] = t + 1, 1 - search.at[TURN]
    return end_sentences(search.beams[search.at[TURN]], scores, search.missing) if scores.on else 0


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


@njit
def _offer_stays(beam, stayed, successors, memory, node_weight, settings):  # type: ignore[no-untyped-def]
    for i in range(beam.size[0]):
        if settings.beam_size == 1:
            if stayed.reals[i, IN_BLANK] >= stayed.reals[i, IN_TOKEN]:
                stayed.reals[i, IN_TOKEN] = NEVER
            else:
                stayed.reals[i, IN_BLANK] = NEVER
        mass = log_add(stayed.reals[i, IN_BLANK], stayed.reals[i, IN_TOKEN])
        bonus = memory.total[stayed.ints[i, CLOSED]]
        if stayed.ints[i, AT] > 0:
            raised = stayed.reals[i, OPEN] * node_weight[stayed.ints[i, AT]]
            bonus = max(bonus, memory.total[stayed.ints[i, BASE]] + raised)
        future = future_of(stayed.ints[i, CONTEXT], stayed.ints[i, WORD], settings)
        offer(successors, i, STAY, mass + bonus + stayed.reals[i, FORESEEN], mass, future, settings.spread)


@njit
def _stamp_taken(i, beam, stamps):  # type: ignore[no-untyped-def]
    """Marks the tokens that lead from a prefix to another one of the beam, which has their mass already."""
    stamps[-1] += 1
    for q in range(beam.size[0]):
        if beam.ints[q, LAST] >= 0 and beam.before[q] == beam.hashes[i]:
            stamps[beam.ints[q, LAST]] = stamps[-1]


@njit
def _offer_extensions(  # type: ignore[no-untyped-def]
    i, beam, successors, memory, row, top, tokens, stamps, settings, automaton, node_weight, scores
):
    """Offers a prefix with one more token, for each token near the frame's best (best first)."""
    bonus = said = most = 0.0
    if scores.on:
        most = most_said(beam, i, scores)
    for token in tokens:
        if row[token] < top - settings.margin - settings.boost:
            break
        if stamps[token] == stamps[-1]:
            continue
        mass = mass_before(beam, i, token) + row[token]
        if settings.boost > 0:
            ends = word_ends(beam, i, token, settings.boundaries)
            bonus = memory.total[beam.ints[i, CLOSED if ends else KEPT]]
            edge, starts = _match(beam, i, token, ends, automaton)
            if edge >= 0:
                raised = _raised(beam, i, starts, top - row[token], settings) * node_weight[automaton.edges[edge, TARGET]]
                bonus = max(bonus, memory.total[beam.ints[i, CLOSED if starts else BASE]] + raised)
            elif row[token] < top - settings.margin:
                continue
        elif mass + most <= least_rank(successors, settings.spread):
            if token != beam.ints[i, LAST]:
                break  # no later token can do better
            continue
        if mass > NEVER:
            context, node = 0, ROOT
            if scores.on:
                before, context, node = before_word(beam, i, token, scores)
                said = before + foreseen(scores, node)
            offer(successors, i, token, mass + bonus + said, mass, future_of(context, node, settings), settings.spread)


# ---- adaptive boosting


@njit
def _match(beam, i, token, ends, automaton):  # type: ignore[no-untyped-def]
    """The automaton edge that the token takes after a prefix, or -1, and whether a match starts with it.

    A match that can go on goes on; else one may start where the prefix's last word ends.
    """
    if beam.ints[i, AT] > 0:
        edge = _edge(automaton, beam.ints[i, AT], token)
        if edge >= 0:
            return edge, False
    if ends:
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
    edge, starts = _match(beam, i, token, word_ends(beam, i, token, settings.boundaries), automaton)
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
def _results(search, scores):  # type: ignore[no-untyped-def]
    beam, memory = search.beams[search.at[TURN]], search.memory
    count = beam.size[0]
    mass, bonus, language = np.empty(count), np.empty(count), np.zeros(count)
    for i in range(count):
        mass[i] = log_add(beam.reals[i, IN_BLANK], beam.reals[i, IN_TOKEN])
        bonus[i] = memory.total[beam.ints[i, CLOSED]]
        if scores.on:
            language[i] = beam.reals[i, ENDED] + finished(scores, beam.ints[i, AFTER])
    order = np.argsort(-(mass + bonus + language), kind="mergesort")
    first_token, first_span = np.zeros(count + 1, np.int32), np.zeros(count + 1, np.int32)
    for k in range(count):
        first_token[k + 1] = first_token[k] + beam.ints[order[k], LENGTH]
        first_span[k + 1] = first_span[k]
        span = beam.ints[order[k], CLOSED]
        while span > 0:
            first_span[k + 1] += 1
            span = memory.spans[span, 3]
    tokens, reached = np.empty(first_token[count], np.int32), np.empty(first_token[count], np.int32)
    spans, span_bonus = np.empty((first_span[count], 3), np.int32), np.empty(first_span[count])
    for k in range(count):
        node, span = beam.ints[order[k], NODE], beam.ints[order[k], CLOSED]
        for position in range(first_token[k + 1] - 1, first_token[k] - 1, -1):
            tokens[position], reached[position] = memory.tree[node, 0], memory.tree[node, 2]
            node = memory.tree[node, 1]
        for position in range(first_span[k + 1] - 1, first_span[k] - 1, -1):
            spans[position] = memory.spans[span, :3]
            span_bonus[position] = memory.bonus[span]
            span = memory.spans[span, 3]
    return Found(mass[order], bonus[order], language[order], first_token, tokens, reached, first_span, spans, span_bonus)
