"""Suppression: phrases with a weight below 0 are kept out of the text, where the evidence allows another reading.

Where such a phrase stands as whole words, outside the entities that were found, the best other reading of its frames is
sought by a CTC prefix beam search. It takes the phrase's place if it is at most `NATS` times the size of the weight less
probable, begins a word of its own, and does not hold the phrase; so nothing is left bare, and what the recogniser is sure
of stays. The rule is ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.alignment import align
from nemo_bias.decoder.automaton import compile_automaton
from nemo_bias.decoder.frames import near_tokens, whole
from nemo_bias.decoder.prefix_search import SearchSettings, node_weights, prefix_search
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.decoder.words import greedy_words

NATS = 3.0  # by which another reading may be less probable than a phrase of weight -1
READINGS = 16  # that are tried


class Suppressor:
    """Replaces suppressed phrases in label paths.

    Args:
        vocabulary: the model's tokens.
        margin: tokens further below a frame's best than this many nats are not tried.
        most: nor are tokens that are not among this many best of a frame.
    """

    def __init__(self, vocabulary: Vocabulary, margin: float, most: int) -> None:
        self.vocabulary = vocabulary
        self._margin, self._most = margin, most
        self._nothing = compile_automaton((), vocabulary)

    def __call__(
        self,
        path: NDArray[np.int32],
        log_probs: NDArray[np.float32],
        suppressed: Mapping[str, float],
        entities: Iterable[tuple[int, int]],
    ) -> NDArray[np.int32]:
        """The path without the suppressed phrases that another reading can replace.

        Args:
            path: [T] labels.
            log_probs: [T, V] natural logarithms.
            suppressed: phrases in lower case, with their weights, below 0.
            entities: first and last frames of the entities that were found; they stay.
        """
        words = greedy_words(path, whole(len(path)), self.vocabulary.blank, self.vocabulary.boundaries)
        taken = np.zeros(len(path), np.bool_)
        for start, end in entities:
            taken[start : end + 1] = True
        count, word = len(words.first_token) - 1, 0
        longest = max(map(len, suppressed))
        while word < count:
            following, low = word + 1, words.first_token[word]
            texts = (self.vocabulary.text(words.token[low:high].tolist()) for high in words.first_token[word + 1 :])
            for end, text in reversed(list(enumerate(takewhile(lambda text: len(text) <= longest, texts), word + 1))):
                high, weight = words.first_token[end], suppressed.get(text.lower())
                first, last = words.token_start[low], words.token_end[high - 1]
                if weight is None or taken[first : last + 1].any():
                    continue
                limit = words.token_start[high] if high < len(words.token) else len(path)
                other = self._other(log_probs[first:limit], words.token[low:high], suppressed, -weight * NATS)
                if other is not None:
                    path = path.copy()
                    path[first:limit] = other
                    following = end
                    break
            word = following
        return path

    def _other(
        self, log_probs: NDArray[np.float32], own: NDArray[np.int32], suppressed: Mapping[str, float], allowed: float
    ) -> NDArray[np.int32] | None:
        """The path of the best other reading of some frames; None if it is too improbable."""
        blank, boundaries = self.vocabulary.blank, self.vocabulary.boundaries
        best = log_probs.max(axis=1)
        settings = SearchSettings(blank, boundaries, READINGS, self._margin, np.inf, 0.0, 0.0, False)
        none = np.zeros(0, np.float32)
        near = near_tokens(log_probs, best, blank, self._margin, self._most)
        found = prefix_search(log_probs, best, near, settings, self._nothing, none, node_weights(self._nothing, none))
        readings = [found.tokens[found.first_token[k] : found.first_token[k + 1]] for k in range(len(found.mass))]
        for tokens, other in zip(readings, found.mass, strict=True):
            text = f" {self.vocabulary.text(tokens.tolist()).lower()} "
            begins = len(tokens) > 0 and boundaries.first[tokens[0]] == boundaries.first[own[0]]
            holds = any(f" {phrase} " in text for phrase in suppressed)
            if text.strip() and begins and not holds and found.mass[0] - other <= allowed:
                other_path: NDArray[np.int32] = align(log_probs, tokens, blank)
                return other_path
        return None
