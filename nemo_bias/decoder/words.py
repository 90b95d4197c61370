"""What greedy decoding writes, by words: the text that an entity has to win against."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit


class GreedyWords(NamedTuple):
    """The words of a greedy label path, and their tokens.

    A *word* here is what no word boundary divides (see `nemo_bias.decoder.vocabulary`), so punctuation marks, an ending
    after an apostrophe, and the letters of scripts without spaces are words of their own.

    Attributes:
        token: [tokens] ids.
        token_start: [tokens] first frame of each token.
        token_end: [tokens] its last frame.
        first_token: [words + 1]; the tokens of word ``w`` are ``token[first_token[w]:first_token[w + 1]]``.
    """

    token: NDArray[np.int32]
    token_start: NDArray[np.int32]
    token_end: NDArray[np.int32]
    first_token: NDArray[np.int32]


@njit
def greedy_words(labels, blank, boundaries):  # type: ignore[no-untyped-def]
    """Splits a label path into words.

    Args:
        labels: [T] the best label of each frame.
        blank: id of the blank.
        boundaries: the `Boundaries` of the vocabulary.

    Returns:
        A `GreedyWords`.
    """
    frames = len(labels)
    token, start, end = np.empty(frames, np.int32), np.empty(frames, np.int32), np.empty(frames, np.int32)
    first_token = np.zeros(frames + 1, np.int32)
    tokens = words = 0
    for t in range(frames):
        label = labels[t]
        if label == blank:
            continue
        if t > 0 and labels[t - 1] == label:
            end[tokens - 1] = t
            continue
        if tokens == 0 or boundaries.opens[boundaries.last[token[tokens - 1]], boundaries.first[label]]:
            first_token[words] = tokens
            words += 1
        token[tokens], start[tokens], end[tokens] = label, t, t
        tokens += 1
    first_token[words] = tokens
    return GreedyWords(token[:tokens], start[:tokens], end[:tokens], first_token[: words + 1])
