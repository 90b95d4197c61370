"""How strongly neighbouring words belong together in ordinary text: words that do are mostly right.

The *tie* of two words is their pointwise mutual information: the logarithm of how much more often the second comes after the
first than by chance, at least 0. A name that a recogniser does not know is heard as words that have nothing to do with
their neighbours.
"""

from __future__ import annotations

import importlib.resources
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

from nemo_bias.decoder.language_model import Speller
from nemo_bias.decoder.vocabulary import WORD_START
from nemo_bias.languages import ENGLISH
from nemo_bias.messages import readable

# From two words, as `plain` makes them, of which the second comes next, to their tie in nats; 0 for an unknown pair.
Ties = Callable[[str, str], float]

STRONGEST = 30.0  # nats; none is as strong in fewer than 10 ** 13 words
TYPICAL = 0.3  # nats, the mean on English development data; stands for all ties of other languages
FEWEST = 2  # times that a pair must occur in a text of the user's; once may be chance
# SymSpell's counts are of a text with so many words; those of pairs are this many times too high.
ENGLISH_WORDS, PAIR_SCALE = 1_024_908_267_229, 64

_SPELLER = Speller(cased=False, apostrophes=True)
_READING = threading.Lock()


class WordCounts(NamedTuple):
    """How often words, as `plain` makes them, and pairs of neighbours occur in a text."""

    words: Mapping[str, int]
    pairs: Mapping[str, int]  # of words with a space between
    total: int  # of all words

    def tie(self, first: str, second: str) -> float:
        """How strongly two words belong together, see `Ties`."""
        together = self.pairs.get(f"{first} {second}")
        if together is None or first not in self.words or second not in self.words:
            return 0.0
        return min(STRONGEST, max(0.0, math.log(together * self.total / (self.words[first] * self.words[second]))))


def knows_pairs(source: str | None) -> bool:
    """Whether the pairs of words of a source, as for `word_ties`, are known; None: there is no source."""
    return source is not None and (source == ENGLISH or Path(source).is_file())


def word_ties(source: str) -> Ties:
    """The ties of words in a language, or in a text.

    Args:
        source: as for `frequencies.word_frequencies`. Of languages only English is known, by the counts that the package
            symspellpy (Garbe 2017) holds; they are read when the first pair is asked for. All ties of others are `TYPICAL`.
    """
    if not knows_pairs(source):
        return lambda first, second: TYPICAL
    return _english_tie if source == ENGLISH else text_counts(source).tie


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

    def gone(k: int) -> bool:
        return low <= k < high and words[k] not in own

    parted = (k for k in range(max(1, low), min(len(words), high + 1)) if low == high or gone(k - 1) or gone(k))
    return max((ties(words[k - 1], words[k]) for k in parted), default=0.0)


class SpacedWords:
    """The words of a text as they stand between spaces; those without letters are none.

    Args:
        pieces: of the text's tokens.

    Attributes:
        words: each as `plain` makes it.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        written = [plain(word) for word in "".join(pieces).split(WORD_START)]
        self.words = [word for word in written if word]
        self._before = [0, *accumulate(int(word != "") for word in written)]
        self._spaces = [0, *accumulate(piece.count(WORD_START) for piece in pieces)]
        self._pieces = pieces

    def of_tokens(self, low: int, high: int) -> tuple[int, int]:
        """The words in which some tokens lie: the first, and the one after the last; without tokens, the next word twice."""
        opens = low < len(self._pieces) and self._pieces[low].startswith(WORD_START)
        begin = self._before[self._spaces[low] + (opens or low == len(self._pieces))]
        return begin, self._before[self._spaces[high] + 1] if low < high else begin


@lru_cache(maxsize=1 << 17)
def plain(word: str) -> str:
    """A word in lower case without marks of punctuation."""
    return _SPELLER.key(word)


@lru_cache(maxsize=4)
def text_counts(path: str) -> WordCounts:
    """The counts of a file of ordinary text in UTF-8, a sentence a line.

    Raises:
        ValueError: it cannot be read, or has no words.
    """
    words: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    with readable("word_frequencies", path), Path(path).open(encoding="utf-8") as lines:
        for line in lines:
            own = [word for word in map(plain, line.split()) if word]
            words.update(own)
            pairs.update(map(" ".join, pairwise(own)))
    if not words:
        raise ValueError(f"word_frequencies {path}: it has no words; give a text")
    return WordCounts(words, {pair: count for pair, count in pairs.items() if count >= FEWEST}, words.total())


@lru_cache(maxsize=1 << 17)
def _english_tie(first: str, second: str) -> float:
    with _READING:  # else each thread would read the files
        counts = _english()
    return counts.tie(first, second)


@lru_cache(maxsize=1)
def _english() -> WordCounts:
    words = _counts_in("frequency_dictionary_en_82_765.txt")
    pairs = _counts_in("frequency_bigramdictionary_en_243_342.txt")
    return WordCounts(words, {pair: count // PAIR_SCALE for pair, count in pairs.items()}, ENGLISH_WORDS)


def _counts_in(name: str) -> dict[str, int]:
    """A file of symspellpy: on each line one word or two, and how often they occur."""
    lines = (importlib.resources.files("symspellpy") / name).read_text(encoding="utf-8-sig").splitlines()
    return {text: int(count) for text, _, count in (line.rpartition(" ") for line in lines)}
