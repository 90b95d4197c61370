"""How strongly neighbouring words belong together in ordinary text: words that do are mostly right.

The *tie* of two words is their pointwise mutual information: the logarithm of how much more often the second comes after the
first than by chance, at least 0. A name that a recogniser does not know is heard as words that have nothing to do with
their neighbours.
"""

from __future__ import annotations

import importlib.resources
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from nemo_bias.languages import ENGLISH

# From two words in lower case, of which the second comes next, to their tie in nats; 0 for a pair that is not known.
Ties = Callable[[str, str], float]

STRONGEST = 30.0  # nats; none is as strong in fewer than 10 ** 13 words
TYPICAL = 1.0  # stands for ties of which nothing is known
FEWEST = 2  # times that a pair must occur in a text of the user's; once may be chance


class _Counts(NamedTuple):
    words: Mapping[str, int]
    pairs: Mapping[tuple[str, str], int]
    total: int  # of all words

    def tie(self, first: str, second: str) -> float:
        together = self.pairs.get((first, second), 0)
        if not together or first not in self.words or second not in self.words:
            return 0.0
        by_chance = self.words[first] * self.words[second] / self.total
        return min(STRONGEST, max(0.0, math.log(together / by_chance)))


def word_ties(source: str) -> Ties | None:
    """The ties of words in a language, or in a text.

    Args:
        source: as for `frequencies.word_frequencies`. Of languages only English is known: by the Google Books n-grams that
            the package symspellpy (Garbe 2017) holds. They are read when the first pair is asked for.

    Returns:
        None if nothing is known of the language.
    """
    if Path(source).is_file():
        return _counted(source).tie
    return (lambda first, second: _english().tie(first, second)) if source == ENGLISH else None


def strongest_tie(words: Sequence[str], low: int, high: int, phrase: str, ties: Ties) -> float:
    """The strongest tie of two neighbours that a phrase parts, or of which it replaces one.

    Args:
        words: what is written, each word as `plain` makes it.
        low: the first word that is replaced.
        high: the word after the last; the same as `low`: the phrase comes before that word, and replaces none.
        phrase: what takes their place; words that it holds itself are not replaced.
        ties: of words.

    Returns:
        Nats, from 0 to `STRONGEST`.
    """
    own = set(map(plain, phrase.split()))
    gone = [low <= k < high and word not in own for k, word in enumerate(words)]
    parted = [k for k in range(max(1, low), min(len(words), high + 1)) if low == high or gone[k - 1] or gone[k]]
    return max((ties(words[k - 1], words[k]) for k in parted), default=0.0)


def plain(word: str) -> str:
    """A word in lower case without marks of punctuation."""
    return "".join(character for character in word.lower() if character.isalnum() or character == "'")


@lru_cache(maxsize=4)
def _counted(path: str) -> _Counts:
    words: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    with Path(path).open(encoding="utf-8") as lines:
        for line in lines:
            own = [word for word in map(plain, line.split()) if word]
            words.update(own)
            pairs.update(pairwise(own))
    return _Counts(words, {pair: count for pair, count in pairs.items() if count >= FEWEST}, max(1, words.total()))


@lru_cache(maxsize=1)
def _english() -> _Counts:
    words = {word: count for (word,), count in _entries("frequency_dictionary_en_82_765.txt")}
    pairs = {(first, second): count for (first, second), count in _entries("frequency_bigramdictionary_en_243_342.txt")}
    return _Counts(words, pairs, sum(words.values()))


def _entries(name: str) -> Iterator[tuple[list[str], int]]:
    """The lines of a file of symspellpy: one word or two, and how often they occur."""
    file = importlib.resources.files("symspellpy") / name
    for line in file.read_text(encoding="utf-8-sig").splitlines():
        *words, count = line.split()
        yield words, int(count)
