"""What a phone head hears in stretches of an utterance: queries for a lookup of entities by their pronunciation."""

from __future__ import annotations

import numpy as np

from nemo_bias.compiled import njit


@njit
def greedy_phones(log_probs, blank):  # type: ignore[no-untyped-def]
    """What greedy decoding of phone log-probs writes.

    Args:
        log_probs: [S, P + 1] natural logarithms.
        blank: id of the blank.

    Returns:
        [n] phones, and [n] the first sub-frame of each.
    """
    phones, at = np.empty(len(log_probs), np.int32), np.empty(len(log_probs), np.int32)
    n, previous = 0, blank
    for s in range(len(log_probs)):
        label = np.argmax(log_probs[s])
        if label != blank and label != previous:
            phones[n], at[n] = label, s
            n += 1
        previous = label
    return phones[:n], at[:n]


@njit
def heard_phones(log_probs, starts, ends, blank):  # type: ignore[no-untyped-def]
    """The phones that a phone head hears in some stretches.

    A run of words lies, as well as a forced alignment of the whole text tells, from the first frame of its first token up to
    that of the next word (measured by how often the entity that was said is among the nearest to what is heard there).

    Args:
        log_probs: [S, P + 1] natural logarithms.
        starts: [n] first sub-frame of each stretch.
        ends: [n] the sub-frame after its last.
        blank: id of the blank.

    Returns:
        The phones of all stretches, one after the other, and [n + 1] offsets: those of stretch ``k`` are
        ``phones[offsets[k]:offsets[k + 1]]``. A phone belongs to the stretch in which it begins.
    """
    phones, at = greedy_phones(log_probs, blank)
    offsets = np.zeros(len(starts) + 1, np.int32)
    first, last = np.searchsorted(at, starts), np.searchsorted(at, ends)
    for k in range(len(starts)):
        offsets[k + 1] = offsets[k] + max(0, last[k] - first[k])
    heard = np.empty(offsets[-1], np.int32)
    for k in range(len(starts)):
        heard[offsets[k] : offsets[k + 1]] = phones[first[k] : first[k] + offsets[k + 1] - offsets[k]]
    return heard, offsets
