"""What speaks for and against an entity arc: the facts that its probability is made of.

An arc is compared with what greedy decoding writes there. The *replaced* words are those that share a frame with the arc.
What it would cost to keep what the arc leaves of them is evidence, too: tokens before the arc cost nothing, since the entity
begins a word of its own; of those after it, the first that stays becomes a word start, or all become blanks, whatever costs
less. What stays in the end is another question (`rewriting`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.frames import NEVER
from nemo_bias.decoder.spotter import EntityArcs
from nemo_bias.decoder.vocabulary import EDGE, SPACE, WORD_START, Vocabulary
from nemo_bias.decoder.words import GreedyWords

SPACE_CODE = np.uint32(ord(WORD_START))

# Columns of the facts.
(
    GAP,  # nats that the arc's frames lose against their best labels
    WORST,  # nats that the worst of its frames loses
    CHARACTERS,  # of the phrase
    TOKENS,  # of the arc
    HITS,  # tokens that are the best label of a frame of theirs
    LEFTOVER,  # nats lost by what becomes of the leftover frames of the replaced words
    EDITS,  # edit distance between the phrase and what it replaces
    WORDS,  # of the phrase
    BEST,  # log-probability of the best labels of its frames
    CONFIDENCE,  # log-probability of the least sure frame of the replaced tokens
    LIFT,  # nats by which an adapter raises the arc against the best labels
    VARIANT,  # nats that the variant of the entity costs that was found; 0 for the entity as it is listed
) = range(12)
FACTS = 12  # how many there are


class Pieces(NamedTuple):
    """The text of tokens as numbers: token ``v`` has the characters ``code[offset[v]:offset[v + 1]]``."""

    code: NDArray[np.uint32]
    offset: NDArray[np.int32]


class Places(NamedTuple):
    """Where arcs would stand in greedy paths; all arrays are [arcs].

    Attributes:
        low: the first greedy token that shares a frame with the arc.
        high: the token after the last such one; `low` if the arc lies between tokens.
        whole_low: the first token of the replaced words.
        whole_high: the token after their last; `low` and `high` if there are no such words.
        end: last frame of the arc; frames that repeat its last token belong to it.
        after: nats lost by what becomes of the tokens of the replaced words that come after the arc, see `settle`.
        allowed: whether the entity would stand there as whole words, and not just delete what is around it.
    """

    low: NDArray[np.int32]
    high: NDArray[np.int32]
    whole_low: NDArray[np.int32]
    whole_high: NDArray[np.int32]
    end: NDArray[np.int32]
    after: NDArray[np.float32]
    allowed: NDArray[np.bool_]


class Reading(NamedTuple):
    """What stands in the frames of some utterances, and where arcs would stand in it."""

    words: GreedyWords
    places: Places


def pieces_of(vocabulary: Vocabulary) -> Pieces:
    """The text of a vocabulary's tokens as numbers, in lower case: a capital letter makes no other word."""
    pieces = [piece.lower() for piece in (*vocabulary.pieces, "")][: vocabulary.size]
    offset = np.zeros(vocabulary.size + 1, np.int32)
    offset[1 : len(pieces) + 1] = np.cumsum([len(piece) for piece in pieces])
    offset[len(pieces) + 1 :] = offset[len(pieces)]
    return Pieces(np.frombuffer("".join(pieces).encode("utf-32-le"), np.uint32), offset)


@njit
def places_of(log_probs, best, labels, bounds, words, arcs, blank, boundaries, pieces):  # type: ignore[no-untyped-def]
    """Finds where arcs would stand in greedy paths.

    Args:
        log_probs: [F, V] natural logarithms.
        best: [F] the highest of each frame.
        labels: [F] the greedy paths.
        bounds: [U, 2] of the utterances, see `BatchFrames`.
        words: their `GreedyWords`.
        arcs: of `find_arcs`.
        blank: id of the blank.
        boundaries: of the vocabulary.
        pieces: of the vocabulary.

    Returns:
        `Places`.
    """
    count = len(arcs.phrase)
    ints = np.zeros((5, count), np.int32)
    places = Places(ints[0], ints[1], ints[2], ints[3], ints[4], np.zeros(count, np.float32), np.zeros(count, np.bool_))
    word_of = _word_of_tokens(words)
    token_at = _first_token_from(words, len(labels))
    utterance = np.searchsorted(bounds[:, 0], arcs.start, side="right") - 1
    first = words.first_token[words.first_word]
    for a in range(count):
        tokens = arcs.tokens[arcs.first_token[a] : arcs.first_token[a + 1]]
        start, end, u = arcs.start[a], arcs.end[a], utterance[a]
        while end + 1 < bounds[u, 1] and labels[end + 1] == tokens[-1]:
            end += 1
        low, high = token_at[start], token_at[end]
        if high < first[u + 1] and words.token_start[high] <= end:
            high += 1
        whole_low, whole_high = low, high
        if low < high:
            whole_low, whole_high = words.first_token[word_of[low]], words.first_token[word_of[high - 1] + 1]
        places.low[a], places.high[a], places.end[a] = low, high, end
        places.whole_low[a], places.whole_high[a] = whole_low, whole_high
        following = words.token[whole_high] if whole_high < first[u + 1] else blank
        lost, restart = settle(log_probs, best, words, high, whole_high, tokens[-1], following, blank, boundaries)
        places.after[a] = lost
        after = SPACE if restart < whole_high else boundaries.first[following]
        before = boundaries.last[words.token[low - 1]] if low > first[u] else EDGE
        if (
            boundaries.between[before, boundaries.first[tokens[0]]]
            and boundaries.between[boundaries.last[tokens[-1]], after]
            and not (start > bounds[u, 0] and labels[start - 1] == tokens[0] and words.token_end[low - 1] == start - 1)
        ):
            whole, phrase = text_of(words.token[whole_low:whole_high], pieces), text_of(tokens, pieces)
            places.allowed[a] = len(whole) <= len(phrase) or not _holds(whole, phrase)
    return places


@njit
def of_utterance(arcs, places, number, first_frame, first_token):  # type: ignore[no-untyped-def]
    """Takes some arcs of one utterance out of a batch.

    Args:
        arcs: of the batch.
        places: of the arcs.
        number: [n] which of them.
        first_frame: of the utterance; its frames are counted from there.
        first_token: of the utterance, in the words of the batch; likewise.

    Returns:
        `EntityArcs` and `Places`, [n].
    """
    lengths = arcs.first_token[number + 1] - arcs.first_token[number]
    offsets = np.zeros(len(number) + 1, np.int32)
    offsets[1:] = np.cumsum(lengths)
    tokens = np.empty(offsets[-1], np.int32)
    for k in range(len(number)):
        begin = arcs.first_token[number[k]]
        tokens[offsets[k] : offsets[k + 1]] = arcs.tokens[begin : begin + lengths[k]]
    frame, token = np.int32(first_frame), np.int32(first_token)
    own = EntityArcs(
        arcs.phrase[number], arcs.start[number] - frame, arcs.end[number] - frame, arcs.gap[number], offsets, tokens
    )
    return own, Places(
        places.low[number] - token,
        places.high[number] - token,
        places.whole_low[number] - token,
        places.whole_high[number] - token,
        places.end[number] - frame,
        places.after[number],
        places.allowed[number],
    )


@njit
def facts_of(log_probs, best, plain, plain_best, words, arcs, places, allowed, variant_cost, blank, pieces):  # type: ignore[no-untyped-def]
    """Collects the facts on the arcs that are allowed.

    Args:
        log_probs: [T, V] in which the arcs were found; with an adapter's bias, if there is one.
        best: [T] the highest of each frame.
        plain: [T, V] without bias; the same array if there is none.
        plain_best: [T] the highest of each frame.
        words: the `GreedyWords` of `log_probs`.
        arcs: of `find_arcs`.
        places: of the arcs in `words`.
        allowed: [arcs] whether they are, see `Places`.
        variant_cost: [arcs] nats.
        blank: id of the blank.
        pieces: of the vocabulary.

    Returns:
        [arcs, FACTS], 0 for arcs that are not allowed.
    """
    facts = np.zeros((len(arcs.phrase), FACTS), np.float32)
    for a in np.flatnonzero(allowed):
        fact = facts[a]
        tokens = arcs.tokens[arcs.first_token[a] : arcs.first_token[a + 1]]
        start, end, low, high = arcs.start[a], places.end[a], places.low[a], places.high[a]
        phrase, written = text_of(tokens, pieces), text_of(words.token[low:high], pieces)
        fact[GAP], fact[TOKENS], fact[CHARACTERS] = -arcs.gap[a], len(tokens), len(phrase)
        fact[VARIANT] = variant_cost[a]
        fact[EDITS], fact[WORDS] = _edits(written, phrase), 1 + np.sum(phrase == SPACE_CODE)
        _compare_path(log_probs, best, plain, plain_best, tokens, start, arcs.end[a], blank, fact)
        for k in range(low, high):
            for t in range(words.token_start[k], words.token_end[k] + 1):
                fact[CONFIDENCE] = min(fact[CONFIDENCE], best[t])
                if t < start or t > end:  # of a token that the arc cuts
                    fact[LEFTOVER] += best[t] - log_probs[t, blank]
        fact[LEFTOVER] += places.after[a]
    return facts


@njit
def _word_of_tokens(words):  # type: ignore[no-untyped-def]
    word_of = np.empty(len(words.token), np.int32)
    for w in range(len(words.first_token) - 1):
        word_of[words.first_token[w] : words.first_token[w + 1]] = w
    return word_of


@njit
def _first_token_from(words, frames):  # type: ignore[no-untyped-def]
    """[F] the first greedy token that ends in a frame or later."""
    at = np.empty(frames, np.int32)
    token = 0
    for t in range(frames):
        while token < len(words.token) and words.token_end[token] < t:
            token += 1
        at[t] = token
    return at


@njit
def _compare_path(log_probs, best, plain, plain_best, tokens, start, end, blank, fact):  # type: ignore[no-untyped-def]
    """Fills in what follows from the best path of an arc: WORST, HITS, BEST and LIFT."""
    path = token_path(log_probs, tokens, start, end, blank)
    hit = False
    for t in range(start, end + 1):
        label = path[t - start]
        gap = best[t] - log_probs[t, label]
        fact[WORST] = max(fact[WORST], gap)
        fact[BEST] += best[t]
        fact[LIFT] += plain_best[t] - plain[t, label] - gap
        if label != blank:
            if t == start or path[t - start - 1] != label:
                hit = False
            if gap == 0 and not hit:
                hit = True
                fact[HITS] += 1


@njit
def token_path(log_probs, tokens, start, end, blank):  # type: ignore[no-untyped-def]
    """The most probable path over the frames start..end that begins with the first token and writes all tokens.

    Args:
        log_probs: [T, V] natural logarithms.
        tokens: [n] ids.
        start: first frame.
        end: last frame.
        blank: id of the blank.

    Returns:
        [end - start + 1] labels; all are blanks if there are too few frames.
    """
    frames, states = end - start + 1, 2 * len(tokens)  # state 2k: in token k, 2k + 1: in the blank after it
    score, following = np.full(states, NEVER, np.float64), np.empty(states, np.float64)
    steps = np.zeros((frames, states), np.int8)
    score[0] = log_probs[start, tokens[0]]
    for t in range(1, frames):
        row = log_probs[start + t]
        for s in range(states):
            reach, step = score[s], 0
            if s > 0 and score[s - 1] > reach:
                reach, step = score[s - 1], 1
            if s > 1 and s % 2 == 0 and tokens[s >> 1] != tokens[(s >> 1) - 1] and score[s - 2] > reach:
                reach, step = score[s - 2], 2
            following[s] = max(np.float64(NEVER), reach + (row[blank] if s % 2 else row[tokens[s >> 1]]))
            steps[t, s] = step
        score, following = following, score
    path = np.full(frames, blank, np.int32)
    state = states - 1 if score[states - 1] > score[states - 2] else states - 2
    if score[state] <= NEVER:
        return path
    for t in range(frames - 1, -1, -1):
        path[t] = blank if state % 2 else tokens[state >> 1]
        state -= steps[t, state]
    return path


@njit
def settle(log_probs, best, words, high, whole_high, last, following, blank, boundaries):  # type: ignore[no-untyped-def]
    """Decides what becomes of the tokens of a replaced word that come after the arc.

    Args:
        log_probs: [T, V] natural logarithms.
        best: [T] the highest of each frame.
        words: the greedy words.
        high: the first of the tokens.
        whole_high: the token after their last.
        last: the arc's last token.
        following: the token after those words; the blank if there is none.
        blank: id of the blank.
        boundaries: of the vocabulary.

    Returns:
        Nats lost, and the first token that stays, as the start of a word; `whole_high`: all become blanks.
    """
    cost, restart = np.float32(np.inf), whole_high
    blanks = np.float32(0.0)
    for k in range(high, whole_high):
        start, end = words.token_start[k], words.token_end[k]
        before, after = last if k == high else blank, words.token[k + 1] if k + 1 < whole_high else following
        token = word_start_in(log_probs, start, before, after, boundaries)
        rest = np.float32(0.0)
        for t in range(start + 1, end + 1):
            rest += best[t] - log_probs[t, blank]
        if token >= 0 and blanks + best[start] - log_probs[start, token] + rest < cost:
            cost, restart = blanks + best[start] - log_probs[start, token] + rest, k
        blanks += best[start] - log_probs[start, blank] + rest
    return (blanks, whole_high) if blanks <= cost else (cost, restart)


@njit
def word_start_in(log_probs, frame, before, after, boundaries):  # type: ignore[no-untyped-def]
    """The best token of a frame that starts a word and holds letters of it; -1 if there is none.

    It is neither of its neighbours, with which it would be read as one.
    """
    found = -1
    for v in range(len(boundaries.first)):
        if (
            boundaries.first[v] == SPACE
            and boundaries.last[v] != SPACE
            and v != before
            and v != after
            and (found < 0 or log_probs[frame, v] > log_probs[frame, found])
        ):
            found = v
    return found


@njit
def text_of(tokens, pieces):  # type: ignore[no-untyped-def]
    """The characters of tokens, without a space at the start or the end."""
    length = 0
    for token in tokens:
        length += pieces.offset[token + 1] - pieces.offset[token]
    text = np.empty(length, np.uint32)
    at = 0
    for token in tokens:
        for k in range(pieces.offset[token], pieces.offset[token + 1]):
            text[at] = pieces.code[k]
            at += 1
    begin, end = 0, length
    while begin < end and text[begin] == SPACE_CODE:
        begin += 1
    while end > begin and text[end - 1] == SPACE_CODE:
        end -= 1
    return text[begin:end]


@njit
def _edits(a, b):  # type: ignore[no-untyped-def]
    """Edit distance of two texts."""
    row = np.arange(len(b) + 1)
    for i in range(len(a)):
        diagonal, row[0] = row[0], i + 1
        for j in range(len(b)):
            diagonal, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, diagonal + (a[i] != b[j]))
    return row[-1]


@njit
def _holds(text, part):  # type: ignore[no-untyped-def]
    """Whether one text stands in another."""
    found = False
    for begin in range(len(text) - len(part) + 1):
        found = found or (text[begin : begin + len(part)] == part).all()
    return found
