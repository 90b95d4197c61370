"""How common words are in ordinary text: where greedy decoding writes a common word, a similar name is less likely."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

from nemo_bias.decoder.word_pairs import plain, text_counts
from nemo_bias.languages import known_frequencies, splits_words

# From a word in lower case to its frequency on the Zipf scale: the decimal logarithm of how often it occurs in a billion
# words; 0 for a word that is not known.
Frequencies = Callable[[str], float]

# Words of a text that tell how common each is. A shorter text counts as so long: what occurs in it once need not be common.
SHORTEST_TEXT = 1_000_000


@lru_cache(maxsize=4)
def word_frequencies(source: str) -> Frequencies:
    """Word frequencies of a language, or of a text.

    Args:
        source: a language code of the package wordfreq (Speer 2022), such as ``en``; or a file of ordinary text in UTF-8,
            a million words or more, separated by spaces, see `SHORTEST_TEXT`.

    Raises:
        ValueError: the source is neither.
    """
    if Path(source).is_file():
        counts = text_counts(source)
        total = max(SHORTEST_TEXT, counts.total)
        known = {word: max(0.0, math.log10(count / total * 1e9)) for word, count in counts.words.items()}
        return lambda word: known.get(plain(word), 0.0)
    import wordfreq

    if source not in known_frequencies():
        languages = ", ".join(sorted(known_frequencies()))
        raise ValueError(f"word_frequencies is {source!r}: no file, and none of the languages {languages}")
    if not splits_words(source):
        raise ValueError(
            f"word_frequencies is {source!r}: wordfreq needs more packages for that; pip install 'wordfreq[cjk]'"
        )
    return lru_cache(maxsize=100_000)(lambda word: wordfreq.zipf_frequency(word, source))


@lru_cache(maxsize=8)
def frequent_words(source: str, least: float) -> frozenset[str]:
    """The words with at least a frequency on the Zipf scale, in lower case.

    Args:
        source: as for `word_frequencies`.
        least: the frequency, at least 3.

    Raises:
        ValueError: the source is neither.
    """
    frequency = word_frequencies(source)
    if Path(source).is_file():
        words: Iterable[str] = text_counts(source).words
    else:
        import wordfreq

        words = wordfreq.iter_wordlist(source)  # the most frequent first
        words = takewhile(lambda word: frequency(word) >= least, words)
    return frozenset(word for word in words if frequency(word) >= least)


def commonness(replaced: str, phrase: str, frequencies: Frequencies) -> float:
    """The frequency of the rarest word that a phrase replaces and does not hold itself; 0 if there is none."""
    own = set(phrase.lower().split())
    return min((frequencies(word) for word in replaced.lower().split() if word not in own), default=0.0)
