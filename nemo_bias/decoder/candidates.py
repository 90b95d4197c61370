"""The arcs of an utterance that may be written, and how likely each of them is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.entity_list import CompiledList
from nemo_bias.decoder.evidence import (
    CHARACTERS,
    CONFIDENCE,
    EDITS,
    VARIANT,
    Places,
    pieces_of,
    places_of,
)
from nemo_bias.decoder.frames import UtteranceFrames
from nemo_bias.decoder.frequencies import commonness, word_frequencies
from nemo_bias.decoder.language_model import LanguageModel
from nemo_bias.decoder.lm_evidence import LANGUAGE_TERMS, WrittenSentence
from nemo_bias.decoder.lookup import look_up
from nemo_bias.decoder.phone_evidence import phone_terms_of
from nemo_bias.decoder.probability import (
    DEFAULT_FILE,
    OF_LANGUAGE,
    OF_PHONES,
    OF_STAKES,
    OF_TEXTS,
    STAKES,
    TERM_COUNT,
    UNINTELLIGIBLE,
    certainty_of,
    log_odds_of,
    read_weights,
)
from nemo_bias.decoder.risk import log_odds_asked_for, risks_of
from nemo_bias.decoder.selection import Slots, best_of_entities, slots_of
from nemo_bias.decoder.soundalikes import ordinary_words
from nemo_bias.decoder.sounds import sound_distances, word_sounds
from nemo_bias.decoder.spotter import NO_ARCS, EntityArcs, find_arcs
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.decoder.weighing import weigh, worth_comparing
from nemo_bias.decoder.word_pairs import SpacedWords, strongest_tie, word_ties
from nemo_bias.decoder.words import GreedyWords, greedy_words
from nemo_bias.decoder.writing import as_written
from nemo_bias.pronunciation.distance import packed
from nemo_bias.pronunciation.phones import Phones


class Candidates(NamedTuple):
    """The n arcs of an utterance that may be written.

    Attributes:
        frames: of the utterance.
        words: what is written without entities.
        certainty: of the utterance, from 0 to 1.
        arcs: [n] with the tokens that are written.
        places: [n] of the arcs, in `words`.
        slots: [n] what they take up there.
        phrase: [n] position of each one's phrase in the list.
        shown: [n] what is written if it is taken.
        written: [n] whether that is written without entities, too.
        replaces: [n] whether other words stand there than the arc writes.
        looked_up: [n] whether each was looked up, not spotted.
        terms: [n, terms] in the order of `probability.TERMS`.
        weights: [2, terms] of arcs that were spotted, and looked up.
        stakes: [n, STAKES] what tells the risk.
        risk: [n] the probability that right words would be lost, if the arc is not the entity.
        log_odds: [n] with the weights of the list.
        asked_for: [n] log-odds from which on each may be taken.
    """

    frames: UtteranceFrames
    words: GreedyWords
    certainty: float
    arcs: EntityArcs
    places: Places
    slots: Slots
    phrase: NDArray[np.int32]
    shown: tuple[str, ...]
    written: NDArray[np.bool_]
    replaces: NDArray[np.bool_]
    looked_up: NDArray[np.bool_]
    terms: NDArray[np.float32]
    weights: NDArray[np.float32]
    stakes: NDArray[np.float32]
    risk: NDArray[np.float32]
    log_odds: NDArray[np.float32]
    asked_for: NDArray[np.float32]

    @property
    def gain(self) -> NDArray[np.float32]:
        """[n] log-odds above those that are asked for."""
        return self.log_odds - self.asked_for

    @property
    def shares(self) -> NDArray[np.float32]:
        """[n, terms] what each term adds to the log-odds."""
        return self.terms * self.weights[self.looked_up.astype(np.int64)]


class _Placed(NamedTuple):
    """All arcs of an utterance with a list, among the words that stand there without entities.

    The evidence compares an arc with what the log-probs that it was found in spell. That is something else than what is
    written if an adapter biased them, or a language model chose what is written; else `heard` is `words`.
    """

    frames: UtteranceFrames
    entities: CompiledList
    arcs: EntityArcs  # those that were spotted, then those that were looked up
    spotted: int  # how many of them were spotted
    words: GreedyWords
    places: Places  # in `words`
    heard: GreedyWords
    heard_places: Places  # in `heard`
    texts: GreedyWords  # whose texts are compared with the entities': `heard` with a language model, else `words`
    text_places: Places  # in `texts`


class _Weighed(NamedTuple):
    """Arcs that may be taken, and what their log-odds are made of; all arrays are [n]."""

    number: NDArray[np.int64]  # which of the arcs
    facts: NDArray[np.float32]  # [n, FACTS]
    looked_up: NDArray[np.bool_]
    terms: NDArray[np.float32]  # [n, terms]
    offset: NDArray[np.float32]  # what the weights of the list add

    def only(self, kept: NDArray[np.int64]) -> _Weighed:
        return _Weighed(self.number[kept], self.facts[kept], self.looked_up[kept], self.terms[kept], self.offset[kept])

    def log_odds(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        log_odds: NDArray[np.float32] = log_odds_of(self.terms, weights, self.looked_up) + self.offset
        return log_odds


class CandidateFinder:
    """Finds the arcs of an utterance and collects what speaks for and against them.

    Args:
        vocabulary: the model's tokens.
        options: how to decode.
        language_model: it chose what is written without entities; None: greedy decoding did.

    Attributes:
        frequencies: of ordinary words; None: without.
        sounds: how words are said; None: without.

    Raises:
        ValueError: `evidence_file` or `word_frequencies` cannot be used.
    """

    def __init__(self, vocabulary: Vocabulary, options: DecodingOptions, language_model: LanguageModel | None) -> None:
        self.frequencies = word_frequencies(options.frequency_source) if options.frequency_source else None
        self._word_ties = word_ties(options.frequency_source) if options.frequency_source else None
        self.sounds = word_sounds(options.pronunciation_source) if options.pronunciation_source else None
        self._vocabulary = vocabulary
        self._options = options
        self._language_model = language_model
        self._pieces = pieces_of(vocabulary)
        self._weights = read_weights(
            options.evidence_file or DEFAULT_FILE,
            with_frequencies=self.frequencies is not None,
            with_sounds=self.sounds is not None,
        )

    def likeness(self, phrases: Sequence[str], pronunciations: Sequence[Sequence[Phones]]) -> NDArray[np.float32] | None:
        """[phrases] how common the ordinary words are that each sounds like; None if nobody knows, or asks.

        Args:
            phrases: of a list.
            pronunciations: those of each phrase.
        """
        frequencies, sounds = self._options.frequency_source, self._options.pronunciation_source
        if frequencies is None or sounds is None or not phrases or self._options.method != "arcs":
            return None
        return ordinary_words(frequencies, sounds).likeness(phrases, pronunciations)

    def find(self, frames: UtteranceFrames, entities: CompiledList, worth_keeping: float) -> Candidates:
        """The candidates of an utterance.

        Args:
            frames: of the utterance.
            entities: the list.
            worth_keeping: log-odds below which an arc is none.
        """
        certainty = certainty_of(frames.labels, frames.plain_best, self._vocabulary.blank)
        placed = self._placed(frames, entities, certainty >= UNINTELLIGIBLE)
        weights = self._weights.at(certainty, frames.biased, self._listens(frames), self._language_model is not None)
        weighed = self._weighed(placed)
        compared = weighed.number, placed.text_places, placed.texts.first_token, worth_keeping
        weighed = weighed.only(worth_comparing(weighed.terms, weights, weighed.offset, weighed.looked_up, *compared))
        self._compare_texts(placed, weighed)
        weighed = weighed.only(np.flatnonzero(weighed.log_odds(weights) >= worth_keeping))
        if not len(weighed.number):
            return _no_candidates(frames, placed.words, certainty, weights)
        log_odds, number = weighed.log_odds(weights), weighed.number
        replaced = self._texts_under(placed.words, placed.places, number)
        replaces, stakes, risk = self._at_risk(placed, weighed, replaced)
        asked_for = log_odds_asked_for(self._options.min_probability, risk)

        phrase = entities.phrase_of[placed.arcs.phrase[number]]
        span = placed.arcs.start[number], placed.places.end[number]
        best = np.flatnonzero(best_of_entities(*span, phrase, log_odds - asked_for))
        writing = as_written(placed.arcs, placed.places, number[best], frames, placed.words, entities, self._vocabulary)
        kept = best[writing.taken]
        written = np.array([replaced[k] == text for k, text in zip(kept, writing.shown, strict=True)], np.bool_)
        return Candidates(
            frames=frames,
            words=placed.words,
            certainty=certainty,
            arcs=writing.arcs,
            places=writing.places,
            slots=slots_of(written, writing.arcs, writing.places, placed.words),
            phrase=phrase[kept],
            shown=writing.shown,
            written=written,
            replaces=replaces[kept],
            looked_up=weighed.looked_up[kept],
            terms=weighed.terms[kept],
            weights=weights,
            stakes=stakes[kept],
            risk=risk[kept],
            log_odds=log_odds[kept],
            asked_for=asked_for[kept],
        )

    def _listens(self, frames: UtteranceFrames) -> bool:
        """Whether a phone head's log-probs can be compared with how entities are said."""
        return frames.phones is not None and self.sounds is not None

    def _placed(self, frames: UtteranceFrames, entities: CompiledList, intelligible: bool) -> _Placed:
        """The arcs of an utterance, of which there are none unless it is intelligible."""
        blank, boundaries = self._vocabulary.blank, self._vocabulary.boundaries
        labels, heard_labels = frames.labels, frames.labels
        words = heard = own = greedy_words(labels, blank, boundaries)
        if frames.biased or self._language_model is not None:
            heard_labels = frames.log_probs.argmax(axis=1).astype(np.int32)
            heard = greedy_words(heard_labels, blank, boundaries)
        if self._language_model is not None:  # it replaces what sounds like a name by words that it knows
            own = greedy_words(frames.plain.argmax(axis=1).astype(np.int32), blank, boundaries) if frames.biased else heard
        arcs, spotted = self._arcs(frames, own, entities) if intelligible else (NO_ARCS, 0)
        tokens = arcs, blank, boundaries, self._pieces
        places = heard_places = places_of(frames.plain, frames.plain_best, labels, words, *tokens)
        if heard is not words:
            heard_places = places_of(frames.log_probs, frames.best, heard_labels, heard, *tokens)
            if frames.biased:
                places.allowed[:] &= heard_places.allowed
        texts = (words, places) if self._language_model is None else (heard, heard_places)
        return _Placed(frames, entities, arcs, spotted, words, places, heard, heard_places, *texts)

    def _arcs(self, frames: UtteranceFrames, own: GreedyWords, entities: CompiledList) -> tuple[EntityArcs, int]:
        """The arcs that are spotted, then those looked up for the recogniser's own words, and how many are spotted."""
        log_probs, best, options = frames.log_probs, frames.best, self._options
        arcs = find_arcs(
            log_probs, best, self._vocabulary.blank, options.token_margin, options.most_tokens, entities.automaton
        )
        spotted = len(arcs.phrase)
        if self.sounds is not None and options.lookup_distance is not None:
            context = entities, self.sounds, self._vocabulary, frames.phones, options.lookup_distance
            arcs = look_up(arcs, log_probs, best, frames.plain_best, own, *context)
        return arcs, spotted

    def _weighed(self, placed: _Placed) -> _Weighed:
        """The arcs that may be taken, with all terms but those of texts."""
        frames, entities, arcs = placed.frames, placed.entities, placed.arcs
        number, facts, terms = weigh(
            *(frames.log_probs, frames.best, frames.plain, frames.plain_best, arcs, placed.places),
            *(placed.heard, placed.heard_places, entities.form_facts, len(entities), self._vocabulary.blank, self._pieces),
        )
        if self._listens(frames):
            terms[:, OF_PHONES] = self._phone_terms(placed, number)
        if self._language_model is not None and len(number):
            terms[:, OF_LANGUAGE] = self._language_terms(self._language_model, placed, number)
        trust = math.log(self._options.weight) if self._options.weight else -np.inf
        return _Weighed(number, facts, number >= placed.spotted, terms, trust + entities.log_weights[arcs.phrase[number]])

    def _phone_terms(self, placed: _Placed, number: NDArray[np.int64]) -> NDArray[np.float32]:
        """[n, 3] what a phone head says about arcs."""
        frames, arcs, entities = placed.frames, placed.arcs, placed.entities
        assert frames.phones is not None
        sub_frames = len(frames.phones) // len(frames.labels)
        phrase = entities.phrase_of[arcs.phrase[number]]
        terms: NDArray[np.float32] = phone_terms_of(
            frames.phones, sub_frames, arcs.start[number], placed.places.end[number], phrase, entities.phones
        )
        return terms

    def _language_terms(
        self, language_model: LanguageModel, placed: _Placed, number: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """[n, 1] what the language model says about arcs."""
        arcs, places, entities = placed.arcs, placed.places, placed.entities
        terms = np.zeros((len(number), len(LANGUAGE_TERMS)), np.float32)
        sentence = WrittenSentence(language_model, self._vocabulary, placed.words.token.tolist())
        for k, arc in enumerate(number.tolist()):
            phrase = entities.phrase_of[arcs.phrase[arc]]
            boost = self._options.class_boosts.get(entities.classes[phrase], self._options.entity_boost)
            terms[k, 0] = sentence.gain(
                int(places.low[arc]),
                int(places.whole_high[arc]),
                entities.phrases[phrase],
                bool(self._vocabulary.starts_word[arcs.tokens[arcs.first_token[arc]]]),
                language_model.chance + boost,
            )
        return terms

    def _texts_under(self, words: GreedyWords, places: Places, number: NDArray[np.int64]) -> list[str]:
        """[n] the whole words that arcs replace."""
        runs = list(zip(places.whole_low[number].tolist(), places.whole_high[number].tolist(), strict=True))
        texts = {run: self._vocabulary.text(words.token[slice(*run)].tolist()) for run in set(runs)}
        return [texts[run] for run in runs]

    def _compare_texts(self, placed: _Placed, weighed: _Weighed) -> None:
        """Fills in the terms that are told by the texts that arcs replace; 0 where they change nothing, or nobody knows."""
        if not len(weighed.number):
            return
        heard = self._texts_under(placed.texts, placed.text_places, weighed.number)
        facts, forms = weighed.facts, placed.arcs.phrase[weighed.number]
        changes = (facts[:, EDITS] > 0) | (facts[:, VARIANT] > 0)
        sound = self._sound_distances(facts, heard, placed.entities.phrase_of[forms], placed.entities)
        common = self._commonness(heard, forms, placed.entities, changes)
        sure = common * np.exp(facts[:, CONFIDENCE])
        more = np.array([max(0, len(text.split()) - 1) for text in heard], np.float32)
        ties = self._ties(placed.texts, placed.text_places, weighed.number, forms, placed.entities, changes)
        weighed.terms[:, OF_TEXTS] = np.stack([sound, common, sure, sure * more, ties], axis=1)

    def _sound_distances(
        self, facts: NDArray[np.float32], replaced: Sequence[str], phrase: NDArray[np.int32], entities: CompiledList
    ) -> NDArray[np.float32]:
        """[n] distances of what phrases replace, by how both are said; by letters where nobody knows how they are said."""
        if self.sounds is None:
            return np.zeros(len(facts), np.float32)
        heard = self.sounds.heard(replaced)
        distances: NDArray[np.float32] = sound_distances(*packed(heard), phrase, entities.phones, self.sounds.costs)
        characters = np.maximum(facts[:, CHARACTERS], np.array([len(text) for text in replaced], np.float32))
        heard_nothing = [text != "" and not len(phones) for text, phones in zip(replaced, heard, strict=True)]
        unknown = np.array(heard_nothing, np.bool_) | np.isinf(distances)
        return np.where(unknown, facts[:, EDITS] / characters, distances)

    def _commonness(
        self, replaced: Sequence[str], forms: NDArray[np.int32], entities: CompiledList, asked: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """[n] how common what arcs of some forms replace is; 0 where that is not asked, or nobody knows."""
        common = np.zeros(len(forms), np.float32)
        if self.frequencies is not None:
            for k in np.flatnonzero(asked).tolist():
                common[k] = commonness(replaced[k], entities.written_as[forms[k]], self.frequencies)
        return common

    def _ties(
        self,
        words: GreedyWords,
        places: Places,
        number: NDArray[np.int64],
        forms: NDArray[np.int32],
        entities: CompiledList,
        asked: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """[n] the strongest tie that arcs of some forms part; 0 where that is not asked, or without ties."""
        tied = np.zeros(len(number), np.float32)
        if self._word_ties is not None and asked.any():
            text = SpacedWords([self._vocabulary.pieces[token] for token in words.token.tolist()])
            for k in np.flatnonzero(asked).tolist():
                low, high = text.of_tokens(int(places.whole_low[number[k]]), int(places.whole_high[number[k]]))
                tied[k] = strongest_tie(text.words, low, high, entities.written_as[forms[k]], self._word_ties)
        return tied

    def _at_risk(
        self, placed: _Placed, weighed: _Weighed, replaced: Sequence[str]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
        """[n] whether arcs replace other words than they write, [n, STAKES] what tells the risk then, and [n] the risk."""
        forms = placed.arcs.phrase[weighed.number]
        adds = np.array([text == "" for text in replaced], np.bool_)
        writes = [placed.entities.written_as[form].lower() for form in forms.tolist()]
        replaces = ~adds & np.array([text.lower() != own for text, own in zip(replaced, writes, strict=True)], np.bool_)
        stakes = weighed.terms[:, OF_STAKES]
        if placed.heard is not placed.words:  # then the evidence compares with other words than would be lost
            own = forms, placed.entities, replaces
            stakes[:, STAKES.index("common")] = self._commonness(replaced, *own)
            stakes[:, STAKES.index("tie")] = self._ties(placed.words, placed.places, weighed.number, *own)
        return replaces, stakes, np.where(replaces, risks_of(stakes, self._weights.risk), adds.astype(np.float32))


def _no_candidates(
    frames: UtteranceFrames, words: GreedyWords, certainty: float, weights: NDArray[np.float32]
) -> Candidates:
    """Those of an utterance in which no entity may stand."""
    ints, floats, flags = np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.bool_)
    return Candidates(
        *(frames, words, certainty, NO_ARCS),
        places=Places(ints, ints, ints, ints, ints, floats, flags),
        slots=Slots(ints, ints, ints, ints, ints, ints, ints),
        phrase=ints,
        shown=(),
        written=flags,
        replaces=flags,
        looked_up=flags,
        terms=np.zeros((0, TERM_COUNT), np.float32),
        weights=weights,
        stakes=np.zeros((0, len(STAKES)), np.float32),
        risk=floats,
        log_odds=floats,
        asked_for=floats,
    )
