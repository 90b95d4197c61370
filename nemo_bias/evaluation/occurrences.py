"""Where the phrases of a list occur in a text, and where a recognised text says the same as a reference.

The docstring of `nemo_bias.evaluation.metrics` defines the terms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import kaldialign

Words = tuple[str, ...]
AlignedPair = tuple[int | None, int | None]  # positions in reference and hypothesis; None: no word there

_NO_WORD = ""  # the aligner's epsilon: splitting at white space never yields an empty word


class Occurrence(NamedTuple):
    """A listed phrase at a position of a text.

    Attributes:
        start: position of its first word.
        words: the words of the phrase.
    """

    start: int
    words: Words

    @property
    def positions(self) -> range:
        """Positions of its words in the text."""
        return range(self.start, self.start + len(self.words))


class PhraseIndex:
    """Finds the occurrences of many phrases; the work per word does not grow with the size of the list.

    Args:
        phrases: phrases of one or more words; one given twice counts once.

    Raises:
        ValueError: a phrase has no words.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self._phrases: set[Words] = set()
        self._lengths_by_first_word: dict[str, set[int]] = defaultdict(set)
        for number, phrase in enumerate(phrases, start=1):
            words = tuple(phrase.split())
            if not words:
                raise ValueError(f"phrase {number} of the list, {phrase!r}, has no words; remove it")
            self._phrases.add(words)
            self._lengths_by_first_word[words[0]].add(len(words))

    def occurrences(self, words: Words) -> list[Occurrence]:
        """All occurrences of listed phrases in a text, by start; nested and overlapping ones included."""
        found = []
        for start, word in enumerate(words):
            for length in sorted(self._lengths_by_first_word.get(word, ())):
                candidate = words[start : start + length]
                if len(candidate) == length and candidate in self._phrases:
                    found.append(Occurrence(start, candidate))
        return found


def align(reference: Words, hypothesis: Words) -> list[AlignedPair]:
    """Align two texts at minimum edit distance (kaldialign, all errors cost 1); returns positions instead of words."""
    pairs: list[AlignedPair] = []
    at_reference = at_hypothesis = 0
    for reference_word, hypothesis_word in kaldialign.align(reference, hypothesis, _NO_WORD):
        in_reference, in_hypothesis = reference_word != _NO_WORD, hypothesis_word != _NO_WORD
        pairs.append((at_reference if in_reference else None, at_hypothesis if in_hypothesis else None))
        at_reference += in_reference
        at_hypothesis += in_hypothesis
    return pairs


def right_words(reference: Words, hypothesis: Words, pairs: Sequence[AlignedPair]) -> dict[int, int]:
    """Positions of the reference words that are aligned to an equal word, each with the position of that word."""
    return {r: h for r, h in pairs if r is not None and h is not None and reference[r] == hypothesis[h]}


def hits(
    said: Sequence[Occurrence],
    recognised: Sequence[Occurrence],
    pairs: Sequence[AlignedPair],
    reference: Words,
    hypothesis: Words,
) -> dict[Occurrence, Occurrence]:
    """Reference occurrences which the hypothesis holds at the same place, each with a hypothesis occurrence of its own."""
    partner = right_words(reference, hypothesis, pairs)
    free = set(recognised)
    found = {}
    for occurrence in said:
        for offset, position in enumerate(occurrence.positions):
            candidate = Occurrence(partner[position] - offset, occurrence.words) if position in partner else None
            if candidate in free:
                free.remove(candidate)
                found[occurrence] = candidate
                break
    return found
