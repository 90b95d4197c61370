"""The arcs of utterances that may be written, and how likely each of them is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.entity_list import CompiledList
from nemo_bias.decoder.evidence import Places, Reading, of_utterance, pieces_of, places_of
from nemo_bias.decoder.frames import BatchFrames, UtteranceFrames, best_labels
from nemo_bias.decoder.frequencies import word_frequencies
from nemo_bias.decoder.language_model import LanguageModel
from nemo_bias.decoder.lm_evidence import LANGUAGE_TERMS, WrittenSentence
from nemo_bias.decoder.lookup import look_up
from nemo_bias.decoder.phone_evidence import phone_terms
from nemo_bias.decoder.probability import (
    DEFAULT_FILE,
    OF_LANGUAGE,
    OF_PHONES,
    OF_STAKES,
    OF_TEXTS,
    STAKES,
    TERM_COUNT,
    UNINTELLIGIBLE,
    certainties_of,
    log_odds_of,
    read_weights,
)
from nemo_bias.decoder.risk import log_odds_asked_for, risks_of
from nemo_bias.decoder.selection import Slots, best_of_entities, slots_of
from nemo_bias.decoder.soundalikes import ordinary_words
from nemo_bias.decoder.sounds import word_sounds
from nemo_bias.decoder.spotter import NO_ARCS, EntityArcs, find_arcs
from nemo_bias.decoder.text_evidence import ArcRows, TextEvidence
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.decoder.weighing import weigh, worth_comparing
from nemo_bias.decoder.word_pairs import word_ties
from nemo_bias.decoder.words import GreedyWords, greedy_words
from nemo_bias.decoder.writing import as_written
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
        weights: [n, terms] of the terms.
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
        return self.terms * self.weights


class _Placed(NamedTuple):
    """All arcs of some utterances with a list, and what stands there without entities.

    The evidence compares an arc with what the log-probs that it was found in spell. That is something else than what is
    written if an adapter biased them, or a language model chose what is written:

    - `written` is the greedy path of the unbiased log-probs, or what a language model chose;
    - `heard` is the greedy path of the log-probs in which arcs are found, the same as `written` if it reads the same frames;
    - `compared` is whose texts are compared with the entities': `heard` with a language model, else `written`.
    """

    frames: BatchFrames
    entities: CompiledList
    arcs: EntityArcs  # those that were spotted, then those that were looked up
    spotted: int  # how many of them were spotted
    written: Reading
    heard: Reading
    compared: Reading


class _Weighed(NamedTuple):
    """Arcs that may be taken, and what their log-odds are made of; all arrays are [n]."""

    rows: ArcRows
    facts: NDArray[np.float32]  # [n, FACTS]
    looked_up: NDArray[np.bool_]
    terms: NDArray[np.float32]  # [n, terms]
    weights: NDArray[np.float32]  # [n, terms]
    offset: NDArray[np.float32]  # what the weights of the list add

    def only(self, kept: NDArray[np.int64]) -> _Weighed:
        arrays = self.facts[kept], self.looked_up[kept], self.terms[kept], self.weights[kept], self.offset[kept]
        return _Weighed(self.rows.only(kept), *arrays)

    def log_odds(self) -> NDArray[np.float32]:
        log_odds: NDArray[np.float32] = log_odds_of(self.terms, self.weights) + self.offset
        return log_odds


class _Judged(NamedTuple):
    """Arcs that are likely enough, and what is at risk; all are [n]."""

    weighed: _Weighed
    replaced: list[str]  # the words that each takes the place of
    replaces: NDArray[np.bool_]  # see `Candidates`, like what follows
    stakes: NDArray[np.float32]
    risk: NDArray[np.float32]
    log_odds: NDArray[np.float32]
    asked_for: NDArray[np.float32]


class CandidateFinder:
    """Finds the arcs of utterances and collects what speaks for and against them.

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
        self.sounds = word_sounds(options.pronunciation_source) if options.pronunciation_source else None
        ties = word_ties(options.frequency_source) if options.frequency_source else None
        self._texts = TextEvidence(vocabulary, self.frequencies, ties, self.sounds)
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

    def find(self, frames: BatchFrames, entities: CompiledList, worth_keeping: float) -> list[Candidates]:
        """The candidates of each of some utterances.

        Args:
            frames: of the utterances.
            entities: the list.
            worth_keeping: log-odds below which an arc is none.
        """
        certainty = certainties_of(frames.labels, frames.plain_best, frames.bounds, self._vocabulary.blank)
        placed = self._placed(frames, entities, certainty >= UNINTELLIGIBLE)
        weighed = self._weighed(placed, certainty)
        compared = weighed.rows.number, placed.compared.places, placed.compared.words.first_token, worth_keeping
        weighed = weighed.only(worth_comparing(weighed.terms, weighed.weights, weighed.offset, *compared))
        if len(weighed.facts):
            weighed.terms[:, OF_TEXTS] = self._texts.terms(placed.compared, weighed.rows, weighed.facts, entities)
        judged = self._judged(placed, weighed.only(np.flatnonzero(weighed.log_odds() >= worth_keeping)))
        numbers, arcs = judged.weighed.rows.number, placed.arcs
        span = arcs.start[numbers], placed.written.places.end[numbers]
        phrase = entities.phrase_of[judged.weighed.rows.form]
        best = np.flatnonzero(best_of_entities(*span, phrase, judged.log_odds - judged.asked_for))
        first = np.searchsorted(judged.weighed.rows.utterance[best], np.arange(len(certainty) + 1)).tolist()
        return [
            self._of_utterance(u, placed, judged, best[first[u] : first[u + 1]], float(certainty[u]))
            for u in range(len(certainty))
        ]

    def _of_utterance(
        self, number: int, placed: _Placed, judged: _Judged, kept: NDArray[np.int64], certainty: float
    ) -> Candidates:
        """The candidates of one utterance: those at some positions."""
        frames, entities, weighed = placed.frames.utterance(number), placed.entities, judged.weighed
        first_frame = placed.frames.bounds[number, 0]
        words = placed.written.words.utterance(number, first_frame)
        if not len(kept):
            return _no_candidates(frames, words, certainty)
        first_token = placed.written.words.first_of_utterance[number]
        arcs, places = of_utterance(placed.arcs, placed.written.places, weighed.rows.number[kept], first_frame, first_token)
        writing = as_written(arcs, places, frames, words, entities, self._vocabulary)
        kept = kept[writing.taken]
        written = np.array([judged.replaced[k] == text for k, text in zip(kept, writing.shown, strict=True)], np.bool_)
        return Candidates(
            frames=frames,
            words=words,
            certainty=certainty,
            arcs=writing.arcs,
            places=writing.places,
            slots=slots_of(written, writing.arcs, writing.places, words),
            phrase=entities.phrase_of[weighed.rows.form[kept]],
            shown=writing.shown,
            written=written,
            replaces=judged.replaces[kept],
            looked_up=weighed.looked_up[kept],
            terms=weighed.terms[kept],
            weights=weighed.weights[kept],
            stakes=judged.stakes[kept],
            risk=judged.risk[kept],
            log_odds=judged.log_odds[kept],
            asked_for=judged.asked_for[kept],
        )

    def _listens(self, frames: BatchFrames) -> bool:
        """Whether a phone head's log-probs can be compared with how entities are said."""
        return frames.phones is not None and self.sounds is not None

    def _placed(self, frames: BatchFrames, entities: CompiledList, intelligible: NDArray[np.bool_]) -> _Placed:
        """The arcs of utterances, of which there are none in those that are not intelligible."""
        bounds, blank, boundaries = frames.bounds, self._vocabulary.blank, self._vocabulary.boundaries
        labels, heard_labels = frames.labels, frames.labels
        words = heard = own = greedy_words(labels, bounds, blank, boundaries)
        if frames.biased or self._language_model is not None:
            heard_labels = best_labels(frames.log_probs, bounds)
            heard = greedy_words(heard_labels, bounds, blank, boundaries)
        if self._language_model is not None:  # it replaces what sounds like a name by words that it knows
            plain_labels = best_labels(frames.plain, bounds) if frames.biased else heard_labels
            own = greedy_words(plain_labels, bounds, blank, boundaries) if frames.biased else heard
        arcs, spotted = self._arcs(frames, own, entities, intelligible)
        tokens = arcs, blank, boundaries, self._pieces
        written = Reading(words, places_of(frames.plain, frames.plain_best, labels, bounds, words, *tokens))
        if heard is words:
            return _Placed(frames, entities, arcs, spotted, written, written, written)
        places = places_of(frames.log_probs, frames.best, heard_labels, bounds, heard, *tokens)
        if frames.biased:
            written.places.allowed[:] &= places.allowed
        other = Reading(heard, places)
        compared = written if self._language_model is None else other
        return _Placed(frames, entities, arcs, spotted, written, other, compared)

    def _arcs(
        self, frames: BatchFrames, own: GreedyWords, entities: CompiledList, asked: NDArray[np.bool_]
    ) -> tuple[EntityArcs, int]:
        """The arcs that are spotted, then those looked up for the recogniser's own words, and how many are spotted."""
        options = self._options
        arcs = find_arcs(
            *(frames.log_probs, frames.best, frames.bounds[asked], self._vocabulary.blank),
            *(options.token_margin, options.most_tokens, entities.automaton),
        )
        spotted = len(arcs.phrase)
        if self.sounds is not None and options.lookup_distance is not None:
            context = entities, self.sounds, self._vocabulary, options.lookup_distance
            arcs = look_up(arcs, frames, own, asked, *context)
        return arcs, spotted

    def _weighed(self, placed: _Placed, certainty: NDArray[np.float64]) -> _Weighed:
        """The arcs that may be taken, with all terms but those of texts."""
        frames, entities, arcs, listens = placed.frames, placed.entities, placed.arcs, self._listens(placed.frames)
        number, utterance, facts, terms = weigh(
            *(frames.log_probs, frames.best, frames.plain, frames.plain_best, frames.bounds, arcs, placed.written.places),
            *(placed.heard.words, placed.heard.places, entities.form_facts, len(entities)),
            *(self._vocabulary.blank, self._pieces),
        )
        rows, looked_up = ArcRows(number, utterance, arcs.phrase[number]), number >= placed.spotted
        if listens:
            span = arcs.start[number], placed.written.places.end[number]
            terms[:, OF_PHONES] = phone_terms(frames, utterance, *span, entities.phrase_of[rows.form], entities.phones)
        if self._language_model is not None and len(number):
            terms[:, OF_LANGUAGE] = self._language_terms(self._language_model, placed, rows)
        context = frames.biased, listens, self._language_model is not None
        weights = self._weights.of_arcs(certainty[utterance], looked_up, *context)
        trust = math.log(self._options.weight) if self._options.weight else -np.inf
        return _Weighed(rows, facts, looked_up, terms, weights, trust + entities.log_weights[rows.form])

    def _language_terms(self, language_model: LanguageModel, placed: _Placed, rows: ArcRows) -> NDArray[np.float32]:
        """[n, 1] what the language model says about arcs."""
        arcs, (words, places), entities = placed.arcs, placed.written, placed.entities
        terms = np.zeros((len(rows.number), len(LANGUAGE_TERMS)), np.float32)
        first, sentences = words.first_of_utterance, dict[int, WrittenSentence]()
        for k, (arc, u) in enumerate(zip(rows.number.tolist(), rows.utterance.tolist(), strict=True)):
            if u not in sentences:
                own = words.token[first[u] : first[u + 1]].tolist()
                sentences[u] = WrittenSentence(language_model, self._vocabulary, own)
            phrase = entities.phrase_of[arcs.phrase[arc]]
            boost = self._options.class_boosts.get(entities.classes[phrase], self._options.entity_boost)
            terms[k, 0] = sentences[u].gain(
                int(places.low[arc] - first[u]),
                int(places.whole_high[arc] - first[u]),
                entities.phrases[phrase],
                bool(self._vocabulary.starts_word[arcs.tokens[arcs.first_token[arc]]]),
                language_model.chance + boost,
            )
        return terms

    def _judged(self, placed: _Placed, weighed: _Weighed) -> _Judged:
        """Arcs, with what would be lost by each and what is asked for, therefore."""
        rows, entities = weighed.rows, placed.entities
        replaced = self._texts.texts_under(placed.written, rows.number)
        adds = np.array([text == "" for text in replaced], np.bool_)
        writes = [entities.written_as[form].lower() for form in rows.form.tolist()]
        replaces = ~adds & np.array([text.lower() != own for text, own in zip(replaced, writes, strict=True)], np.bool_)
        stakes = weighed.terms[:, OF_STAKES]
        if placed.heard is not placed.written:  # then the evidence compares with other words than would be lost
            stakes[:, STAKES.index("common")] = self._texts.commonness(replaced, rows, entities, replaces)
            stakes[:, STAKES.index("tie")] = self._texts.ties(placed.written, rows, entities, replaces)
        risk = np.where(replaces, risks_of(stakes, self._weights.risk), adds.astype(np.float32))
        asked_for = log_odds_asked_for(self._options.min_probability, risk)
        return _Judged(weighed, replaced, replaces, stakes, risk, weighed.log_odds(), asked_for)


def _no_candidates(frames: UtteranceFrames, words: GreedyWords, certainty: float) -> Candidates:
    """Those of an utterance in which no entity may stand."""
    ints, floats, flags = np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.bool_)
    terms = np.zeros((0, TERM_COUNT), np.float32)
    return Candidates(
        *(frames, words, certainty, NO_ARCS),
        places=Places(ints, ints, ints, ints, ints, floats, flags),
        slots=Slots(ints, ints, ints, ints, ints, ints, ints),
        phrase=ints,
        shown=(),
        written=flags,
        replaces=flags,
        looked_up=flags,
        terms=terms,
        weights=terms,
        stakes=np.zeros((0, len(STAKES)), np.float32),
        risk=floats,
        log_odds=floats,
        asked_for=floats,
    )
