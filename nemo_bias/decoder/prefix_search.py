"""CTC prefix beam search, plain or with adaptive subword boosting.

A *prefix* is a token sequence; its mass is the probability, summed over all paths, that the frames so far write it
(Graves 2012; Hannun et al. 2014, arXiv 1408.2873). Every frame keeps the `beam_size` best prefixes. They are ranked by mass
plus bonus, and the two are never mixed: masses merge as probabilities do, a bonus belongs to the entities of the prefix.

*Adaptive subword boosting* raises a prefix token by token while it follows the entity automaton, and gives back what was
raised when the match breaks off. A match starts at a word boundary only (see `nemo_bias.decoder.vocabulary`). The bonus of
an entity that has been written is *closed*: it counts while the text ends there or goes on after a word boundary; a token
that continues the word gives it back.

*A language model* adds what it says of the words that have ended, and foresees of the one that has begun (see
`nemo_bias.decoder.language_model`). The compiled search stops at a frame in which it needs a score that the cache does not
hold, Python asks the model for all that this frame needs, and the search goes on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.automaton import ENTITY, FIRST_EDGE, NO_ENTITY, TARGET, EntityAutomaton, first_edge_of
from nemo_bias.decoder.frames import NEVER, NearTokens
from nemo_bias.decoder.language_model import NO_SCORES, LanguageModel, ended, finished, follow, foreseen
from nemo_bias.decoder.vocabulary import EDGE, Boundaries
from nemo_bias.decoder.word_trie import END, ROOT


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


class _Beam(NamedTuple):
    """The prefixes of one frame, a row each."""

    ints: Any  # [rows, 11] int32, columns below
    reals: Any  # [rows, 6] float64, columns below
    hashes: Any  # [rows] uint64, of the prefix
    before: Any  # [rows] uint64, of the prefix without its last token
    size: Any  # [1] int64


# NODE: the prefix's last node in the tree of prefixes; LAST: its last token, -1 if empty; LENGTH: tokens.
# KEPT: the last of the entity spans that the prefix has whatever follows; CLOSED: the same if the word ends here.
# AT: the automaton node that the prefix has reached (0: none); FIRST: the token with which that match began; BASE: the last
# span before it. WORD: the trie node of its last word; CONTEXT: the language model's state before that word; AFTER: and
# after it, if it ends here.
NODE, LAST, LENGTH, KEPT, CLOSED, AT, FIRST, BASE, WORD, CONTEXT, AFTER = range(11)
# IN_BLANK, IN_TOKEN: log mass of the paths that end in a blank, in the last token.
# OPEN: what the match has been raised by, before it is multiplied by an entity's weight.
# SAID: what the language model adds for the words before the last; FORESEEN: that, and what it foresees for the last;
# ENDED: that, if the last ends here; NaN until it is asked for.
IN_BLANK, IN_TOKEN, OPEN, SAID, FORESEEN, ENDED = range(6)


class _Memory(NamedTuple):
    """What outlives a frame, in arrays that are large enough from the start. Span 0 stands for no span."""

    tree: Any  # [nodes, 3] token, parent, frame: all prefixes that were ever kept
    spans: Any  # [spans, 4] phrase, first token, token after the last, span before
    bonus: Any  # [spans] what the span adds
    total: Any  # [spans] what it and all spans before it add
    used: Any  # [2] how many nodes and spans there are


NODES, SPANS = range(2)


class _Search(NamedTuple):
    """A search that may stop between frames."""

    beams: Any  # the beam, and room for the next one; they change places
    stayed: Any
    memory: Any
    candidates: Any
    stamps: Any  # [V + 1]; the last one counts
    at: Any  # [2] the next frame, and which of the beams is the beam
    missing: Any  # [rows, 2] contexts and words whose scores the search needs to go on


FRAME, TURN = range(2)


class _Candidates(NamedTuple):
    """The best candidates for the next beam, best first."""

    what: Any  # [rows, 2] row of the beam, token that extends it or STAY
    rank: Any  # [rows] mass + bonus + what the language model adds
    mass: Any  # [rows]
    size: Any  # [1]


STAY = -1


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
    cache = language_model.cache()
    while missing := _advance(*arguments, language_model.scores(cache)):
        cache.fill(search.missing[:missing])
    return _results(search, language_model.scores(cache))  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)
def _new_search(log_probs, settings):  # type: ignore[no-untyped-def]
    size = settings.beam_size
    beams = (_new_beam(size), _new_beam(size))
    beams[0].size[0] = 1
    candidates = _Candidates(np.empty((size, 2), np.int32), np.empty(size), np.empty(size), np.zeros(1, np.int64))
    stamps = np.zeros(log_probs.shape[1] + 1, np.int64)
    missing = np.empty((size, 2), np.int32)
    return _Search(
        beams, _new_beam(size), _new_memory(len(log_probs), settings), candidates, stamps, np.zeros(2, np.int64), missing
    )


@numba.njit(cache=True, nogil=True)
def _advance(search, log_probs, best, near, settings, automaton, weights, node_weight, scores):  # type: ignore[no-untyped-def]
    """Goes on to the last frame; returns how many scores are missing, if there are any."""
    stayed, memory, candidates, stamps = search.stayed, search.memory, search.candidates, search.stamps
    for t in range(search.at[FRAME], len(log_probs)):
        beam, following = search.beams[search.at[TURN]], search.beams[1 - search.at[TURN]]
        row, top = log_probs[t], best[t]
        tokens = near.tokens[t, : near.counts[t]]
        if scores.on and _any(scores.starts, tokens):
            missing = _end_words(beam, scores, search.missing)
            if missing:
                return missing
        _stay(beam, stayed, row, settings)
        candidates.size[0] = 0
        _offer_stays(beam, stayed, candidates, memory, node_weight, settings)
        for i in range(beam.size[0]):
            _stamp_taken(i, beam, stamps)
            _offer_extensions(
                i, beam, candidates, memory, row, top, tokens, stamps, settings, automaton, node_weight, scores
            )
        for c in range(candidates.size[0]):
            i, token = candidates.what[c]
            if token == STAY:
                _keep(stayed, i, following, c)
                continue
            _extend(beam, i, token, following, c, candidates.mass[c], memory, settings.boundaries, t)
            if settings.boost > 0:
                _boost(beam, i, token, following, c, memory, settings, automaton, weights, top - row[token])
            if scores.on:
                _note_word(beam, i, token, following, c, scores)
        following.size[0] = candidates.size[0]
        search.at[FRAME], search.at[TURN] = t + 1, 1 - search.at[TURN]
    return _end_sentences(search.beams[search.at[TURN]], scores, search.missing) if scores.on else 0


@numba.njit(cache=True, nogil=True)
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
    ints, reals = np.zeros((size, 11), np.int32), np.zeros((size, 6), np.float64)
    ints[:, LAST] = -1
    reals[:, IN_TOKEN] = NEVER
    return _Beam(ints, reals, np.full(size, 0x51ED270B, np.uint64), np.zeros(size, np.uint64), np.zeros(1, np.int64))


@numba.njit(cache=True, nogil=True)
def _new_memory(frames, settings):  # type: ignore[no-untyped-def]
    """Room for beam_size extensions a frame, each of which may end an entity."""
    extensions = frames * settings.beam_size
    spans = 1 + (extensions if settings.boost > 0 else 0)
    tree = np.full((1 + extensions, 3), -1, np.int32)
    return _Memory(tree, np.zeros((spans, 4), np.int32), np.zeros(spans), np.zeros(spans), np.ones(2, np.int64))


@numba.njit(cache=True, nogil=True)
def _mass_before(beam, i, token):  # type: ignore[no-untyped-def]
    """Mass of the paths of a prefix that the token may follow as a new token (a repeated token needs a blank before)."""
    if beam.ints[i, LAST] == token:
        return beam.reals[i, IN_BLANK]
    return _log_add(beam.reals[i, IN_BLANK], beam.reals[i, IN_TOKEN])


@numba.njit(cache=True, nogil=True)
def _word_ends(beam, i, token, boundaries):  # type: ignore[no-untyped-def]
    """Whether a word boundary lies between a prefix and the token that follows."""
    last = beam.ints[i, LAST]
    return boundaries.between[boundaries.last[last] if last >= 0 else EDGE, boundaries.first[token]]


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
            if beam.hashes[p] == beam.before[i]:
                stayed.reals[i, IN_TOKEN] = _log_add(stayed.reals[i, IN_TOKEN], _mass_before(beam, p, last) + row[last])


@numba.njit(cache=True, nogil=True)
def _keep(beam, i, following, c):  # type: ignore[no-untyped-def]
    following.ints[c], following.reals[c] = beam.ints[i], beam.reals[i]
    following.hashes[c], following.before[c] = beam.hashes[i], beam.before[i]


@numba.njit(cache=True, nogil=True)
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
        _offer(candidates, i, STAY, mass + bonus + stayed.reals[i, FORESEEN], mass)


@numba.njit(cache=True, nogil=True)
def _stamp_taken(i, beam, stamps):  # type: ignore[no-untyped-def]
    """Marks the tokens that lead from a prefix to another one of the beam, which has their mass already."""
    stamps[-1] += 1
    for q in range(beam.size[0]):
        if beam.ints[q, LAST] >= 0 and beam.before[q] == beam.hashes[i]:
            stamps[beam.ints[q, LAST]] = stamps[-1]


@numba.njit(cache=True, nogil=True)
def _offer_extensions(  # type: ignore[no-untyped-def]
    i, beam, candidates, memory, row, top, tokens, stamps, settings, automaton, node_weight, scores
):
    """Offers a prefix with one more token, for each token near the frame's best (best first)."""
    bonus = said = most = 0.0
    if scores.on:
        most = _most_said(beam, i, scores)
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
        elif candidates.size[0] == settings.beam_size and mass + most <= candidates.rank[-1]:
            if token != beam.ints[i, LAST]:
                break  # no later token can do better
            continue
        if mass > NEVER:
            if scores.on:
                before, _, node = _before_word(beam, i, token, scores)
                said = before + foreseen(scores, node)
            _offer(candidates, i, token, mass + bonus + said, mass)


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
def _extend(beam, i, token, following, c, mass, memory, boundaries, frame):  # type: ignore[no-untyped-def]
    """Row `c` of the next beam becomes prefix `i` with one more token."""
    node = memory.used[NODES]
    memory.used[NODES] += 1
    memory.tree[node, 0], memory.tree[node, 1], memory.tree[node, 2] = token, beam.ints[i, NODE], frame
    span = beam.ints[i, CLOSED if _word_ends(beam, i, token, boundaries) else KEPT]
    following.ints[c], following.reals[c] = 0, 0.0
    following.ints[c, NODE], following.ints[c, LAST], following.ints[c, LENGTH] = node, token, beam.ints[i, LENGTH] + 1
    following.ints[c, KEPT], following.ints[c, CLOSED] = span, span
    following.reals[c, IN_BLANK], following.reals[c, IN_TOKEN] = NEVER, mass
    following.hashes[c], following.before[c] = _hash(beam.hashes[i], token), beam.hashes[i]


# ---- adaptive boosting


@numba.njit(cache=True, nogil=True)
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


# ---- language model


@numba.njit(cache=True, nogil=True)
def _any(starts, tokens):  # type: ignore[no-untyped-def]
    found = False
    for token in tokens:
        found = found or starts[token]
    return found


@numba.njit(cache=True, nogil=True)
def _end_words(beam, scores, missing):  # type: ignore[no-untyped-def]
    """Notes what each prefix counts if its last word ends; returns how many scores are missing for that."""
    count = 0
    for i in range(beam.size[0]):
        if not np.isnan(beam.reals[i, ENDED]):
            continue
        score, beam.ints[i, AFTER] = ended(scores, beam.ints[i, CONTEXT], beam.ints[i, WORD])
        beam.reals[i, ENDED] = beam.reals[i, SAID] + score
        if np.isnan(score):
            missing[count, 0], missing[count, 1] = beam.ints[i, CONTEXT], scores.trie.word[beam.ints[i, WORD]]
            count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _end_sentences(beam, scores, missing):  # type: ignore[no-untyped-def]
    """How many scores are missing to end all sentences."""
    count = _end_words(beam, scores, missing)
    if count == 0:
        for i in range(beam.size[0]):
            if np.isnan(finished(scores, beam.ints[i, AFTER])):
                missing[count, 0], missing[count, 1] = beam.ints[i, AFTER], END
                count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _before_word(beam, i, token, scores):  # type: ignore[no-untyped-def]
    """Of a prefix with one more token: what its words before the last count, their context, the node of the last word."""
    if scores.starts[token]:
        return beam.reals[i, ENDED], beam.ints[i, AFTER], follow(scores, ROOT, token)
    return beam.reals[i, SAID], beam.ints[i, CONTEXT], follow(scores, beam.ints[i, WORD], token)


@numba.njit(cache=True, nogil=True)
def _most_said(beam, i, scores):  # type: ignore[no-untyped-def]
    """The most that the language model can add for a prefix with one more token: `WordTrie.best` never rises in a word."""
    first_letter = max(0.0, scores.weight * scores.trie.best[ROOT] + scores.bonus)
    most = beam.reals[i, FORESEEN] + (first_letter if beam.ints[i, WORD] == ROOT else 0.0)
    return most if np.isnan(beam.reals[i, ENDED]) else max(most, beam.reals[i, ENDED] + first_letter)


@numba.njit(cache=True, nogil=True)
def _note_word(beam, i, token, following, c, scores):  # type: ignore[no-untyped-def]
    """Notes in row `c` of the next beam, which extends prefix `i`, where its words stand."""
    before, context, node = _before_word(beam, i, token, scores)
    following.reals[c, SAID], following.ints[c, CONTEXT], following.ints[c, WORD] = before, context, node
    following.reals[c, FORESEEN] = before + foreseen(scores, node)
    following.reals[c, ENDED], following.ints[c, AFTER] = (before, context) if node == ROOT else (np.nan, 0)


# ---- results


@numba.njit(cache=True, nogil=True)
def _results(search, scores):  # type: ignore[no-untyped-def]
    beam, memory = search.beams[search.at[TURN]], search.memory
    count = beam.size[0]
    mass, bonus, language = np.empty(count), np.empty(count), np.zeros(count)
    for i in range(count):
        mass[i] = _log_add(beam.reals[i, IN_BLANK], beam.reals[i, IN_TOKEN])
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
