"""Where words lie in the output of a phone head, and how well pronunciations fit stretches of it.

Everything is measured as a *loss*: the nats by which the log-probs of a path lie below the best labels of its frames, which
are the best path of a free phone loop. What the head hears has a loss of 0, so losses of different stretches compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit

ANYTHING = -1  # a phone that any label may be, at no loss
NEVER = 1e30  # loss of what cannot be


class WordAlignment(NamedTuple):
    """Where the words of a text lie; all arrays are [words].

    Attributes:
        start: first sub-frame of each word's first phone.
        end: last sub-frame of its last phone.
        loss: nats lost from the end of the word before (or the start) to its own end; those after the last word count to
            it as well.
        variant: which of its pronunciations fits best.
    """

    start: NDArray[np.int32]
    end: NDArray[np.int32]
    loss: NDArray[np.float64]
    variant: NDArray[np.int32]


class _States(NamedTuple):
    """What a path may go through: for each word the blank before it, and for each of its pronunciations the phones and the
    blanks between them; at last the blank after the last word.

    Attributes:
        label: [states].
        word: [states] to which the losses of a state count.
        variant: [states] the pronunciation; -1 for the blank before a word and after the last.
        before: the states from which a path may enter state ``s`` are ``before[first_before[s]:first_before[s + 1]]``.
        first_before: [states + 1].
        opens: [states] whether a path may begin there.
        closes: [states] whether it may end there.
    """

    label: NDArray[np.int32]
    word: NDArray[np.int32]
    variant: NDArray[np.int32]
    before: NDArray[np.int32]
    first_before: NDArray[np.int32]
    opens: NDArray[np.bool_]
    closes: NDArray[np.bool_]


def align_words(
    log_probs: NDArray[np.float32], words: Sequence[Sequence[Sequence[int]]], blank: int
) -> WordAlignment | None:
    """The most probable path that writes a pronunciation of each word: CTC forced alignment (Viterbi).

    Args:
        log_probs: [S, P + 1] natural logarithms.
        words: the pronunciations of each word, as phone ids; a word that has none may be any phone or phones, at no loss.
        blank: id of the blank.

    Returns:
        The alignment; None if there are too few sub-frames.
    """
    variants = [phones for word in words for phones in (word or ((ANYTHING,),))]
    first_phone = np.cumsum([0, *map(len, variants)]).astype(np.int32)
    first_variant = np.cumsum([0, *(max(1, len(word)) for word in words)]).astype(np.int32)
    phones = np.fromiter((phone for each in variants for phone in each), np.int32, int(first_phone[-1]))
    found, start, end, loss, variant = _align(log_probs, phones, first_phone, first_variant, blank)
    return WordAlignment(start, end, loss, variant) if found else None


@njit
def _align(log_probs, phones, first_phone, first_variant, blank):  # type: ignore[no-untyped-def]
    """As `align_words`; word ``w`` has the pronunciations from ``first_variant[w]`` on. First of all: is there a path?"""
    frames, words = len(log_probs), len(first_variant) - 1
    start, end = np.full(words, -1, np.int32), np.full(words, -1, np.int32)
    loss, variant = np.zeros(words), np.zeros(words, np.int32)
    if frames == 0 or words == 0:
        return words == 0, start, end, loss, variant
    states = _states_of(phones, first_phone, first_variant, blank)
    count = len(states.label)
    total, following = np.where(states.opens, 0.0, NEVER), np.empty(count)
    steps = np.empty((frames, count), np.int32)
    for t in range(frames):
        row, best = log_probs[t], log_probs[t].max()
        for s in range(count):
            reach, step = total[s], s
            if t > 0:
                for k in range(states.first_before[s], states.first_before[s + 1]):
                    if total[states.before[k]] < reach:
                        reach, step = total[states.before[k]], states.before[k]
            label = states.label[s]
            following[s] = min(NEVER, reach + (best - row[label] if label != ANYTHING else 0.0))
            steps[t, s] = step
        total, following = following, total
    state = count - 1
    for s in range(count):
        if states.closes[s] and total[s] < total[state]:
            state = s
    if total[state] >= NEVER:
        return False, start, end, loss, variant
    for t in range(frames - 1, -1, -1):
        w, label = states.word[state], states.label[state]
        if label != ANYTHING:
            loss[w] += log_probs[t].max() - log_probs[t, label]
        if states.variant[state] >= 0:
            start[w], end[w], variant[w] = t, max(t, end[w]), states.variant[state]
        state = steps[t, state]
    return True, start, end, loss, variant


@njit
def _states_of(phones, first_phone, first_variant, blank):  # type: ignore[no-untyped-def]
    words, variants = len(first_variant) - 1, len(first_phone) - 1
    count = words + 1 + 2 * len(phones) - variants
    ints = np.full((3, count), -1, np.int32)
    label, word, variant = ints[0], ints[1], ints[2]
    most = 3 * len(phones)
    for w in range(words):
        following = first_variant[w + 2] - first_variant[w + 1] if w + 1 < words else 0
        most += (first_variant[w + 1] - first_variant[w]) * (1 + following)
    before, first_before = np.empty(most, np.int32), np.zeros(count + 1, np.int32)
    opens, closes = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    ends = np.zeros(variants, np.int32)  # the state of each pronunciation's last phone
    s = edges = 0
    for w in range(words + 1):
        entry, low = s, first_variant[max(0, w - 1)]
        ended = ends[low : first_variant[w]]  # of the word before
        label[s], word[s], opens[s], closes[s] = blank, min(w, words - 1), w == 0, w == words
        for e in ended:
            before[edges] = e
            edges += 1
        s += 1
        first_before[s] = edges
        if w == words:
            closes[ended] = True
            break
        for v in range(first_variant[w], first_variant[w + 1]):
            for i in range(first_phone[v], first_phone[v + 1]):
                label[s], word[s], variant[s] = phones[i], w, v - first_variant[w]
                before[edges] = s - 1
                if i == first_phone[v]:
                    before[edges], opens[s] = entry, w == 0
                    edges += 1
                    for e in ended:
                        if label[e] != phones[i] or phones[i] == ANYTHING:
                            before[edges] = e
                            edges += 1
                else:
                    edges += 1
                    if phones[i - 1] != phones[i]:
                        before[edges] = s - 2
                        edges += 1
                s += 1
                first_before[s] = edges
                if i + 1 < first_phone[v + 1]:
                    label[s], word[s], variant[s] = blank, w, v - first_variant[w]
                    before[edges] = s - 1
                    edges += 1
                    s += 1
                    first_before[s] = edges
            ends[v] = s - 1
    return _States(label, word, variant, before[:edges], first_before, opens, closes)


@njit
def segment_losses(log_probs, starts, ends, phones, offsets, slack, blank):  # type: ignore[no-untyped-def]
    """How much worse pronunciations fit stretches than the best labels there: the loss of each one's best path (Viterbi).

    A path may begin and end up to `slack` sub-frames from the edges of its stretch, inside or outside, and loses nothing
    where it does not reach: a token's frame and those of its phones are not in step.

    Args:
        log_probs: [S, P + 1] natural logarithms.
        starts: [n] first sub-frame of each stretch.
        ends: [n] its last.
        phones: the ids of all pronunciations, one after the other, none of them empty.
        offsets: [n + 1]; stretch ``k`` is compared with ``phones[offsets[k]:offsets[k + 1]]``.
        slack: sub-frames.
        blank: id of the blank.

    Returns:
        [n] nats lost; infinite where there are too few sub-frames.
    """
    n, frames = len(starts), len(log_probs)
    losses = np.full(n, np.inf, np.float32)
    best = np.empty(frames, np.float32)
    for t in range(frames):
        best[t] = log_probs[t].max()
    longest = 0
    for k in range(n):
        longest = max(longest, offsets[k + 1] - offsets[k])
    total, following = np.empty(2 * longest + 1), np.empty(2 * longest + 1)
    for k in range(n):
        word = phones[offsets[k] : offsets[k + 1]]
        low, high = max(0, starts[k] - slack), min(frames - 1, ends[k] + slack)
        count = 2 * len(word) + 1  # state 2i + 1: in phone i; 2i: in the blank before it
        total[:count] = NEVER
        total[0] = 0.0
        for t in range(low, high + 1):
            row = log_probs[t]
            for s in range(count):
                reach = total[s]
                if s > 0:
                    reach = min(reach, total[s - 1])
                if s > 1 and s & 1 and word[s >> 1] != word[(s >> 1) - 1]:
                    reach = min(reach, total[s - 2])
                if not (s == 0 and t < starts[k] + slack) and not (s == count - 1 and t > ends[k] - slack):
                    reach += best[t] - row[word[s >> 1] if s & 1 else blank]
                following[s] = min(NEVER, reach)
            total, following = following, total
        least = min(total[count - 1], total[count - 2])
        if least < NEVER:
            losses[k] = least
    return losses
