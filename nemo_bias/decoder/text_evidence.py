"""What the words that arcs replace say for and against them: terms of the probability that are told by texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.entity_list import CompiledList
from nemo_bias.decoder.evidence import CHARACTERS, CONFIDENCE, EDITS, VARIANT, Reading
from nemo_bias.decoder.frequencies import Frequencies, commonness
from nemo_bias.decoder.sounds import Sounds, sound_distances
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.decoder.word_pairs import SpacedWords, Ties, strongest_tie
from nemo_bias.pronunciation.distance import packed


class ArcRows(NamedTuple):
    """Some of the arcs of a batch; all arrays are [n].

    Attributes:
        number: which of all arcs each is.
        utterance: the utterance that it lies in.
        form: the form of the list that it is.
    """

    number: NDArray[np.int64]
    utterance: NDArray[np.int64]
    form: NDArray[np.int32]

    def only(self, kept: NDArray[np.int64]) -> ArcRows:
        """Those at some positions."""
        return ArcRows(self.number[kept], self.utterance[kept], self.form[kept])


class TextEvidence:
    """Compares entities with the words that they would replace.

    Args:
        vocabulary: the model's tokens.
        frequencies: of ordinary words; None: without.
        ties: of ordinary words; None: without.
        sounds: how words are said; None: without.
    """

    def __init__(
        self, vocabulary: Vocabulary, frequencies: Frequencies | None, ties: Ties | None, sounds: Sounds | None
    ) -> None:
        self._vocabulary = vocabulary
        self._frequencies = frequencies
        self._word_ties = ties
        self._sounds = sounds

    def texts_under(self, reading: Reading, number: NDArray[np.int64]) -> list[str]:
        """[n] the whole words that arcs replace."""
        places, token = reading.places, reading.words.token
        runs = list(zip(places.whole_low[number].tolist(), places.whole_high[number].tolist(), strict=True))
        texts = {run: self._vocabulary.text(token[slice(*run)].tolist()) for run in set(runs)}
        return [texts[run] for run in runs]

    def terms(
        self, reading: Reading, rows: ArcRows, facts: NDArray[np.float32], entities: CompiledList
    ) -> NDArray[np.float32]:
        """[n, 5] the terms `probability.OF_TEXTS` of arcs; 0 where they change nothing, or nobody knows.

        Args:
            reading: what they are compared with.
            rows: the arcs.
            facts: [n, FACTS] of them.
            entities: the list.
        """
        replaced = self.texts_under(reading, rows.number)
        changes = (facts[:, EDITS] > 0) | (facts[:, VARIANT] > 0)
        sound = self._sound_distances(facts, replaced, entities.phrase_of[rows.form], entities)
        common = self.commonness(replaced, rows, entities, changes)
        sure = common * np.exp(facts[:, CONFIDENCE])
        more = np.array([max(0, len(text.split()) - 1) for text in replaced], np.float32)
        ties = self.ties(reading, rows, entities, changes)
        return np.stack([sound, common, sure, sure * more, ties], axis=1)

    def _sound_distances(
        self, facts: NDArray[np.float32], replaced: Sequence[str], phrase: NDArray[np.int32], entities: CompiledList
    ) -> NDArray[np.float32]:
        """[n] distances of what phrases replace, by how both are said; by letters where nobody knows how they are said."""
        if self._sounds is None:
            return np.zeros(len(facts), np.float32)
        heard = self._sounds.heard(replaced)
        distances: NDArray[np.float32] = sound_distances(*packed(heard), phrase, entities.phones, self._sounds.costs)
        characters = np.maximum(facts[:, CHARACTERS], np.array([len(text) for text in replaced], np.float32))
        heard_nothing = [text != "" and not len(phones) for text, phones in zip(replaced, heard, strict=True)]
        unknown = np.array(heard_nothing, np.bool_) | np.isinf(distances)
        return np.where(unknown, facts[:, EDITS] / characters, distances)

    def commonness(
        self, replaced: Sequence[str], rows: ArcRows, entities: CompiledList, asked: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """[n] how common what arcs replace is in ordinary text; 0 where that is not asked, or without frequencies."""
        common = np.zeros(len(asked), np.float32)
        if self._frequencies is not None:
            for k in np.flatnonzero(asked).tolist():
                common[k] = commonness(replaced[k], entities.written_as[rows.form[k]], self._frequencies)
        return common

    def ties(self, reading: Reading, rows: ArcRows, entities: CompiledList, asked: NDArray[np.bool_]) -> NDArray[np.float32]:
        """[n] the strongest tie of words that arcs part; 0 where that is not asked, or without ties."""
        tied = np.zeros(len(asked), np.float32)
        if self._word_ties is None:
            return tied
        words, places, pieces = reading.words, reading.places, self._vocabulary.pieces
        first, texts = words.first_of_utterance, dict[int, SpacedWords]()
        for k in np.flatnonzero(asked).tolist():
            number, u = rows.number[k], int(rows.utterance[k])
            if u not in texts:
                texts[u] = SpacedWords([pieces[token] for token in words.token[first[u] : first[u + 1]].tolist()])
            low, high = texts[u].of_tokens(
                int(places.whole_low[number] - first[u]), int(places.whole_high[number] - first[u])
            )
            tied[k] = strongest_tie(texts[u].words, low, high, entities.written_as[rows.form[k]], self._word_ties)
        return tied
