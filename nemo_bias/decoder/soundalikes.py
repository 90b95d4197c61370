"""How common the ordinary words are that a phrase sounds like: who hears "reelly" has mostly heard "really".

Such words stand in no list, but they are rivals of an entity wherever it is found, like its neighbours in the list. A word
counts by its frequency on the Zipf scale, less `PER_DISTANCE` times its distance in sound, and the strongest of the
`MOST_NEAREST` nearest tells. That depends on the phrase alone, so it is computed once for a list.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.frequencies import Frequencies, frequent_words, word_frequencies
from nemo_bias.decoder.sounds import Sounds, word_sounds
from nemo_bias.pronunciation.distance import packed
from nemo_bias.pronunciation.index import index_of, nearest
from nemo_bias.pronunciation.phones import Phones

LEAST_FREQUENCY = 4.0  # on the Zipf scale; English has 7,000 words that are as common
PER_DISTANCE = 20.0  # what a distance of 1 takes off the frequency; chosen on development data
MOST_NEAREST = 24  # words that are looked at for each phrase
FARTHEST = 0.45  # distance; no word is common enough to count beyond it


class OrdinaryWords:
    """The sounds of words that are common in ordinary text; for several threads.

    Args:
        words: in lower case.
        frequencies: on the Zipf scale.
        sounds: how they are said.
    """

    def __init__(self, words: Sequence[str], frequencies: Frequencies, sounds: Sounds) -> None:
        self._words = list(words)
        self._frequency = np.array([frequencies(word) for word in self._words], np.float32)
        said = sounds.words(self._words)
        self._index = index_of([[own[0].phones] if own else [] for own in said])

    def likeness(self, phrases: Sequence[str], pronunciations: Sequence[Sequence[Phones]]) -> NDArray[np.float32]:
        """How common the words are that phrases sound like, on the Zipf scale.

        Args:
            phrases: of any case. A word that a phrase holds is none that it only sounds like. Nor is a word that is said the
                same, if it is the phrase without accents ("cafe") or the phrase has marks or digits ("e-mail", "1st"): so
                is it read.
            pronunciations: those of each phrase, of which the first counts.

        Returns:
            [phrases] the highest frequency of a word less what its distance takes off it; 0 if no word is so near.
        """
        likeness = np.zeros(len(phrases), np.float32)
        # Sounds that begin alike cost less one after the other.
        sounds = sorted((own[0], k) for k, own in enumerate(pronunciations) if own)
        heard = packed([np.array(phones, np.int32) for phones, _ in sounds])
        found, distances = nearest(self._index, *heard, MOST_NEAREST, np.float32(FARTHEST))
        for (_, k), words, own_distances in zip(sounds, found.tolist(), distances.tolist(), strict=True):
            held = phrases[k].lower().split()
            only_letters = all(word.replace("'", "").isalpha() for word in held)
            bare = [without_accents(word) for word in held]
            for word, distance in zip(words, own_distances, strict=True):
                if word < 0 or self._words[word] in held:
                    continue
                if distance > 0 or (only_letters and without_accents(self._words[word]) not in bare):
                    likeness[k] = max(likeness[k], self._frequency[word] - PER_DISTANCE * distance)
        return likeness


def without_accents(word: str) -> str:
    """A word without the marks on its letters."""
    return "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))


_READING = threading.Lock()


def ordinary_words(frequency_source: str, pronunciation_source: str) -> OrdinaryWords:
    """The common words of a language or a text, pronounced once.

    Args:
        frequency_source: as for `frequencies.word_frequencies`.
        pronunciation_source: as for `sounds.word_sounds`.

    Raises:
        ValueError: a source cannot be used.
    """
    with _READING:
        return _pronounced(frequency_source, pronunciation_source)


@lru_cache(maxsize=4)
def _pronounced(frequency_source: str, pronunciation_source: str) -> OrdinaryWords:
    frequent = frequent_words(frequency_source, LEAST_FREQUENCY)
    words = sorted(word for word in frequent if word.replace("'", "").isalpha())
    return OrdinaryWords(words, word_frequencies(frequency_source), word_sounds(pronunciation_source))
