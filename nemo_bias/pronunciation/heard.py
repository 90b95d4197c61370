"""What a phone head hears in runs of words: queries for a lookup of entities by their pronunciation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.pronunciation.alignment import align_words

LONGEST_RUN = 3  # words


class HeardRun(NamedTuple):
    """Some words in a row, and the phones that are heard in their place.

    Attributes:
        first_word: number of the first word.
        last_word: number of the last.
        start: first sub-frame.
        end: last sub-frame.
        phones: ids.
    """

    first_word: int
    last_word: int
    start: int
    end: int
    phones: tuple[int, ...]


def greedy_phones(log_probs: NDArray[np.float32], blank: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """What greedy decoding of phone log-probs writes.

    Args:
        log_probs: [S, P + 1] natural logarithms.
        blank: id of the blank.

    Returns:
        [n] phones, and [n] the first sub-frame of each.
    """
    labels = log_probs.argmax(axis=1).astype(np.int32)
    first = np.flatnonzero((labels != blank) & np.append(True, labels[1:] != labels[:-1])[: len(labels)]).astype(np.int32)
    return labels[first], first


def heard_runs(
    log_probs: NDArray[np.float32], words: Sequence[Sequence[Sequence[int]]], blank: int, longest: int = LONGEST_RUN
) -> list[HeardRun]:
    """The phones heard in all runs of one to `longest` words of a text.

    The text is aligned with the phone log-probs (`align_words`). Phones that are heard between two words belong to the
    nearer one.

    Args:
        log_probs: [S, P + 1] natural logarithms.
        words: the pronunciations of each word of the text, as phone ids; a word that has none may be anything.
        blank: id of the blank.
        longest: words of the longest runs.

    Returns:
        The runs in which any phone is heard, by their first words; none if there are too few sub-frames for the text.
    """
    alignment = align_words(log_probs, words, blank)
    if alignment is None or not len(words):
        return []
    phones, at = greedy_phones(log_probs, blank)
    between = (alignment.end[:-1] + alignment.start[1:] + 1) // 2  # the first sub-frame of each word but the first
    edges = np.concatenate([[0], between, [len(log_probs)]])
    first = np.searchsorted(at, edges)  # phone of each word
    return [
        HeardRun(a, b, int(edges[a]), int(edges[b + 1]) - 1, tuple(phones[first[a] : first[b + 1]].tolist()))
        for a in range(len(words))
        for b in range(a, min(a + longest, len(words)))
        if first[a] < first[b + 1]
    ]
