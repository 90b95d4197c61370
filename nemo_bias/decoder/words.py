"""What greedy decoding writes, by words: the texts that entities have to win against."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit


class GreedyWords(NamedTuple):
    """The words of the greedy label paths of some utterances, one after the other, and their tokens.

    A *word* here is what no word boundary divides (see `nemo_bias.decoder.vocabulary`), so punctuation marks, an ending
    after an apostrophe, and the letters of scripts without spaces are words of their own.

    Attributes:
        token: [tokens] ids.
        token_start: [tokens] first frame of each token.
        token_end: [tokens] its last frame.
        first_token: [words + 1]; the tokens of word ``w`` are ``token[first_token[w]:first_token[w + 1]]``.
        first_word: [utterances + 1]; the words of utterance ``u`` are from ``first_word[u]`` on.
    """

    token: NDArray[np.int32]
    token_start: NDArray[np.int32]
    token_end: NDArray[np.int32]
    first_token: NDArray[np.int32]
    first_word: NDArray[np.int32]

    @property
    def first_of_utterance(self) -> NDArray[np.int32]:
        """[utterances + 1] the first token of each utterance."""
        return self.first_token[self.first_word]

    def utterance(self, number: int, first_frame: int) -> GreedyWords:
        """The words of one of the utterances.

        Args:
            number: of the utterance.
            first_frame: of the utterance; the words' frames are counted from it.
        """
        begin, end = self.first_word[number : number + 2].tolist()
        first_token = self.first_token[begin : end + 1]
        own = slice(first_token[0], first_token[-1])
        return GreedyWords(
            self.token[own],
            self.token_start[own] - np.int32(first_frame),
            self.token_end[own] - np.int32(first_frame),
            first_token - first_token[0],
            np.array([0, end - begin], np.int32),
        )


@njit
def greedy_words(labels, bounds, blank, boundaries):  # type: ignore[no-untyped-def]
    """Splits label paths into words.

    Args:
        labels: [F] the label of each frame.
        bounds: [U, 2] of the utterances, see `BatchFrames`.
        blank: id of the blank.
        boundaries: the `Boundaries` of the vocabulary.

    Returns:
        A `GreedyWords`.
    """
    frames = len(labels)
    token, start, end = np.empty(frames, np.int32), np.empty(frames, np.int32), np.empty(frames, np.int32)
    first_token, first_word = np.zeros(frames + 1, np.int32), np.zeros(len(bounds) + 1, np.int32)
    tokens = words = 0
    for u in range(len(bounds)):
        begin = tokens
        for t in range(bounds[u, 0], bounds[u, 1]):
            label = labels[t]
            if label == blank:
                continue
            if t > bounds[u, 0] and labels[t - 1] == label:
                end[tokens - 1] = t
                continue
            if tokens == begin or boundaries.opens[boundaries.last[token[tokens - 1]], boundaries.first[label]]:
                first_token[words] = tokens
                words += 1
            token[tokens], start[tokens], end[tokens] = label, t, t
            tokens += 1
        first_word[u + 1] = words
    first_token[words] = tokens
    return GreedyWords(token[:tokens], start[:tokens], end[:tokens], first_token[: words + 1], first_word)
