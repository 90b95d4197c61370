"""Method ``arcs``: the greedy text of an utterance, with the entities in it that are likely enough."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.entity_list import CompiledList
from nemo_bias.decoder.evidence import CHARACTERS, CONFIDENCE, EDITS, VARIANT, Places, facts_of, pieces_of, places_of
from nemo_bias.decoder.frequencies import commonness, word_frequencies
from nemo_bias.decoder.language_model import LanguageModel
from nemo_bias.decoder.lm_evidence import LANGUAGE_TERMS, WrittenSentence
from nemo_bias.decoder.lookup import joined_arcs, look_up
from nemo_bias.decoder.phone_evidence import phone_terms_of
from nemo_bias.decoder.probability import (
    DEFAULT_FILE,
    OF_LANGUAGE,
    OF_PHONES,
    OF_STAKES,
    OF_TEXTS,
    STAKES,
    UNINTELLIGIBLE,
    certainty_of,
    fact_terms_of,
    log_odds_of,
    most_of_texts,
    probability_of,
    read_weights,
)
from nemo_bias.decoder.rewriting import rewrite
from nemo_bias.decoder.risk import log_odds_asked_for, risks_of
from nemo_bias.decoder.selection import Slots, best_of_entities, candidates_of, choose, slots_of
from nemo_bias.decoder.sounds import sound_distances, word_sounds
from nemo_bias.decoder.spotter import NO_ARCS, EntityArcs, find_arcs
from nemo_bias.decoder.suppression import Suppressor
from nemo_bias.decoder.transcript import LOOKED_UP, SPOTTED, EntitySpan, Transcript, collapsed
from nemo_bias.decoder.vocabulary import Boundaries, Vocabulary
from nemo_bias.decoder.words import GreedyWords, greedy_words
from nemo_bias.decoder.writing import as_written
from nemo_bias.pronunciation.distance import packed

LEAST_ALTERNATIVE = -3.9  # log-odds of an entity that the n-best list still tries, a probability of 0.02
DECISIVE = 1e6  # a gain that no other entities outweigh
FIRST_UTTERANCES = 20  # after so many it is told if the recogniser understands hardly any of them
LOG = logging.getLogger(__name__)


class UtteranceFrames(NamedTuple):
    """The frames of one utterance.

    Attributes:
        log_probs: [T, V] natural logarithms, in which entities are looked for.
        best: [T] the highest of each frame.
        plain: [T, V] without the bias that an adapter gave `log_probs`; the same array if there is none.
        plain_best: [T] the highest of each frame.
        labels: [T] what is written without entities: the greedy path of `plain`, or that which a language model chose.
        phones: [T * sub_frames, phones + 1] log-probs of phones, the blank last; None if no phone head listened.
    """

    log_probs: NDArray[np.float32]
    best: NDArray[np.float32]
    plain: NDArray[np.float32]
    plain_best: NDArray[np.float32]
    labels: NDArray[np.int32]
    phones: NDArray[np.float32] | None = None

    @property
    def biased(self) -> bool:
        """Whether an adapter biased `log_probs`."""
        return self.plain is not self.log_probs


@dataclass(frozen=True)
class ArcEvidence:
    """What speaks for and against the arcs of an utterance that may be taken.

    Attributes:
        frames: of the utterance.
        phrase: [n] position of each arc's phrase in the list.
        shown: [n] what is written if it is taken.
        start: [n] first frame of each arc.
        end: [n] its last frame.
        looked_up: [n] whether each arc was looked up, not spotted.
        terms: [n, terms] in the order of `probability.TERMS`.
        shares: [n, terms] what each adds to the log-odds.
        log_odds: [n] with the weights of the list.
        asked_for: [n] log-odds from which on each arc may be taken.
        risk: [n] the probability that right words would be lost, if the arc is not the entity.
        stakes: [n, STAKES] what tells the risk.
        replaces: [n] whether other words stand there than the arc writes.
        certainty: of the utterance, from 0 to 1.
        adapter: whether an adapter biased the log-probs.
        greedy_text: what is written without entities.
        text_with: the text of the utterance with one arc alone in it, given by its position.
    """

    frames: UtteranceFrames
    phrase: NDArray[np.int32]
    shown: tuple[str, ...]
    start: NDArray[np.int32]
    end: NDArray[np.int32]
    looked_up: NDArray[np.bool_]
    terms: NDArray[np.float32]
    shares: NDArray[np.float32]
    log_odds: NDArray[np.float32]
    asked_for: NDArray[np.float32]
    risk: NDArray[np.float32]
    stakes: NDArray[np.float32]
    replaces: NDArray[np.bool_]
    certainty: float
    adapter: bool
    greedy_text: str
    text_with: Callable[[int], str]


class _Candidates(NamedTuple):
    """The arcs of an utterance that may be taken, and what is needed to write them."""

    frames: UtteranceFrames
    words: GreedyWords
    arcs: EntityArcs  # [n] with the tokens that are written
    places: Places  # [n]
    shown: tuple[str, ...]  # [n] what is written
    looked_up: NDArray[np.bool_]  # [n] whether the arc was looked up, not spotted
    terms: NDArray[np.float32]  # [n, terms]
    weights: NDArray[np.float32]  # [2, terms] of arcs that were spotted, and looked up
    certainty: float
    log_odds: NDArray[np.float32]  # [n]
    asked_for: NDArray[np.float32]  # [n] log-odds from which on the arc may be taken
    risk: NDArray[np.float32]  # [n] the probability that right words would be lost, if the arc is not the entity
    stakes: NDArray[np.float32]  # [n, STAKES] what tells the risk
    replaces: NDArray[np.bool_]  # [n] whether other words stand there than the arc writes
    written: NDArray[np.bool_]  # [n] whether greedy decoding writes that, too
    slots: Slots

    @property
    def gain(self) -> NDArray[np.float32]:
        """[n] log-odds above those that are asked for."""
        return self.log_odds - self.asked_for


class ArcDecoder:
    """Finds, weighs and writes entity arcs, one utterance at a time.

    Args:
        vocabulary: the model's tokens.
        options: how to decode.
        language_model: it chose what is written without entities; None: greedy decoding did.

    Raises:
        ValueError: `evidence_file` or `word_frequencies` cannot be used.
    """

    def __init__(
        self, vocabulary: Vocabulary, options: DecodingOptions, language_model: LanguageModel | None = None
    ) -> None:
        self.vocabulary = vocabulary
        self.options = options
        self._language_model = language_model
        self._pieces = pieces_of(vocabulary)
        self._least_log_odds = float(log_odds_asked_for(options.min_probability, np.zeros(1, np.float32))[0])
        self._lock = threading.Lock()
        self._decoded = self._unintelligible = 0
        self._suppressor = Suppressor(vocabulary, options.token_margin, options.most_tokens)
        self.frequencies = word_frequencies(options.frequency_source) if options.frequency_source else None
        self.sounds = word_sounds(options.pronunciation_source) if options.pronunciation_source else None
        self._weights = read_weights(
            options.evidence_file or DEFAULT_FILE,
            with_frequencies=self.frequencies is not None,
            with_sounds=self.sounds is not None,
        )

    def decode(self, frames: UtteranceFrames, entities: CompiledList | None, nbest: int) -> list[Transcript]:
        """The greedy text of an utterance with the entities in it, and at most ``nbest - 1`` alternatives."""
        if entities is None or not len(frames.labels):
            return [self._greedy(frames.labels)]
        transcripts = self._with_entities(frames, entities, nbest) if len(entities) else [self._greedy(frames.labels)]
        return [self._suppressed(each, frames, entities) for each in transcripts] if entities.suppressed else transcripts

    def _with_entities(self, frames: UtteranceFrames, entities: CompiledList, nbest: int) -> list[Transcript]:
        worth_keeping = min(self._least_log_odds, LEAST_ALTERNATIVE if nbest > 1 else np.inf) - 1e-3
        found = self._candidates(frames, entities, worth_keeping)
        self._note_certainty(found.certainty)
        if not len(found.shown):
            return [self._greedy(frames.labels)]
        chosen = choose(found.slots, found.gain, self.vocabulary.boundaries)
        transcripts = [self._transcript(found, chosen, entities, 0.0)]
        if nbest > 1:
            for loss, other in _alternatives(found, chosen, self.vocabulary.boundaries):
                transcript = self._transcript(found, other, entities, -loss)
                if transcript.text not in {t.text for t in transcripts}:
                    transcripts.append(transcript)
                if len(transcripts) == nbest:
                    break
        return transcripts

    def _note_certainty(self, certainty: float) -> None:
        """Tells, once, if most of the first utterances are unintelligible to the recogniser."""
        with self._lock:
            self._decoded += 1
            self._unintelligible += certainty < UNINTELLIGIBLE
            decoded, unintelligible = self._decoded, self._unintelligible
        if decoded == FIRST_UTTERANCES and unintelligible > FIRST_UTTERANCES / 2:
            LOG.warning(
                f"nemo_bias: the list has no effect in {unintelligible} of the first {FIRST_UTTERANCES} utterances, "
                f"as the recogniser is hardly sure of a word in them (certainty below {UNINTELLIGIBLE:g}); is it of another "
                "language, or the audio broken?"
            )

    def evidence(self, frames: UtteranceFrames, entities: CompiledList) -> ArcEvidence:
        """What speaks for and against all arcs of an utterance that may be taken."""
        found = self._candidates(frames, entities, -np.inf)
        return ArcEvidence(
            frames,
            entities.phrase_of[found.arcs.phrase],
            found.shown,
            *(found.slots.start, found.slots.end),
            found.looked_up,
            found.terms,
            found.terms * found.weights[found.looked_up.astype(np.int64)],
            found.log_odds,
            found.asked_for,
            found.risk,
            found.stakes,
            found.replaces,
            found.certainty,
            frames.biased,
            self._greedy(frames.labels).text,
            lambda k: self._transcript(found, np.array([k]), entities, 0.0).text,
        )

    def _candidates(self, frames: UtteranceFrames, entities: CompiledList, worth_keeping: float) -> _Candidates:
        """The arcs that may be taken, if their log-odds are worth keeping."""
        log_probs, best, plain, plain_best, labels, phones = frames
        blank, boundaries, pieces = self.vocabulary.blank, self.vocabulary.boundaries, self._pieces
        words = greedy_words(labels, blank, boundaries)
        certainty = certainty_of(labels, plain_best, blank)
        heard_labels, heard_words = labels, words  # what the recogniser writes by itself, if that is not `labels`
        if frames.biased or self._language_model is not None:
            heard_labels = log_probs.argmax(axis=1).astype(np.int32)
            heard_words = greedy_words(heard_labels, blank, boundaries)
        unsure = words
        if self._language_model is not None:  # it replaces what sounds like a name by words that it knows
            unsure = greedy_words(plain.argmax(axis=1).astype(np.int32), blank, boundaries) if frames.biased else heard_words
        arcs, spotted = self._found(frames, unsure, entities) if certainty >= UNINTELLIGIBLE else (NO_ARCS, 0)
        places = heard_places = places_of(plain, plain_best, labels, words, arcs, blank, boundaries, pieces)
        if heard_words is not words:
            heard_places = places_of(log_probs, best, heard_labels, heard_words, arcs, blank, boundaries, pieces)
            if frames.biased:
                places.allowed[:] &= heard_places.allowed
        facts = facts_of(
            *(log_probs, best, plain, plain_best, heard_words, arcs, heard_places),
            *(entities.variant_costs, blank, boundaries, pieces),
        )
        number, rivals = candidates_of(arcs, places, facts, entities.phrase_of[arcs.phrase], entities.respelled[arcs.phrase])
        listened = phones is not None and self.sounds is not None
        looked_up = number >= spotted
        weights = self._weights.at(certainty, frames.biased, listened, self._language_model is not None)
        trust = math.log(self.options.weight) if self.options.weight else -np.inf
        offset = trust + entities.log_weights[arcs.phrase[number]]
        terms = fact_terms_of(facts, number, rivals, len(entities))
        if listened:
            terms[:, OF_PHONES] = self._phone_terms(frames, arcs, places, number, entities)
        if self._language_model is not None and len(number):
            terms[:, OF_LANGUAGE] = self._language_terms(self._language_model, words, arcs, places, number, entities)
        # Texts cost the most to compare, and most arcs are too unlikely, whatever they replace.
        log_odds = log_odds_of(terms, weights, looked_up) + offset
        hopeful = np.flatnonzero(log_odds + most_of_texts(terms, weights, looked_up) >= worth_keeping)
        number, terms, looked_up, offset = number[hopeful], terms[hopeful], looked_up[hopeful], offset[hopeful]
        replaced = self._texts_under(words, places, number)
        heard = replaced if self._language_model is None else self._texts_under(heard_words, heard_places, number)
        forms = arcs.phrase[number]
        phrase = entities.phrase_of[forms]
        terms[:, OF_TEXTS] = self._text_terms(facts[number], heard, forms, entities)
        log_odds = log_odds_of(terms, weights, looked_up) + offset
        adds = np.array([text == "" for text in replaced], np.bool_)
        writes = [entities.written_as[form].lower() for form in forms.tolist()]
        replaces = ~adds & np.array([text.lower() != own for text, own in zip(replaced, writes, strict=True)], np.bool_)
        stakes = terms[:, OF_STAKES]
        if heard_words is not words:  # then the evidence compares with other words than would be lost
            stakes[:, STAKES.index("common")] = self._commonness(replaced, forms, entities, replaces)
        risk = np.where(replaces, risks_of(stakes, self._weights.risk), adds.astype(np.float32))
        asked_for = log_odds_asked_for(self.options.min_probability, risk)
        kept = np.flatnonzero(log_odds >= worth_keeping)
        gain = log_odds[kept] - asked_for[kept]
        kept = kept[best_of_entities(arcs.start[number[kept]], places.end[number[kept]], phrase[kept], gain)]
        writing = as_written(arcs, places, number[kept], log_probs, labels, words, entities, self.vocabulary)
        kept = kept[writing.taken]
        written = np.array([replaced[k] == text for k, text in zip(kept, writing.shown, strict=True)], np.bool_)
        return _Candidates(
            *(frames, words, writing.arcs, writing.places, writing.shown, looked_up[kept]),
            *(terms[kept], weights, certainty, log_odds[kept]),
            *(asked_for[kept], risk[kept], stakes[kept]),
            *(replaces[kept], written),
            slots_of(np.arange(len(kept)), written, writing.arcs, writing.places, words),
        )

    def _found(self, frames: UtteranceFrames, words: GreedyWords, entities: CompiledList) -> tuple[EntityArcs, int]:
        """The arcs that are spotted, then those that are looked up, and how many are spotted."""
        log_probs, best, own = frames.log_probs, frames.best, self.options
        arcs = find_arcs(log_probs, best, self.vocabulary.blank, own.token_margin, own.most_tokens, entities.automaton)
        spotted = len(arcs.phrase)
        if self.sounds is not None and own.lookup_distance is not None:
            context = entities, self.sounds, self.vocabulary, frames.phones, own.lookup_distance
            arcs = joined_arcs(arcs, look_up(log_probs, best, frames.plain_best, words, *context))
        return arcs, spotted

    def _texts_under(self, words: GreedyWords, places: Places, number: NDArray[np.int64]) -> list[str]:
        """[n] the whole words that arcs replace."""
        runs = list(zip(places.whole_low[number].tolist(), places.whole_high[number].tolist(), strict=True))
        texts = {run: self.vocabulary.text(words.token[slice(*run)].tolist()) for run in set(runs)}
        return [texts[run] for run in runs]

    def _text_terms(
        self, facts: NDArray[np.float32], replaced: Sequence[str], forms: NDArray[np.int32], entities: CompiledList
    ) -> NDArray[np.float32]:
        """[n, 3] what is told by the texts that arcs of some forms replace; 0 where they change nothing, or nobody knows."""
        if not len(forms):
            return np.zeros((0, 3), np.float32)
        sound = self._sound_distances(facts, replaced, entities.phrase_of[forms], entities)
        changes = (facts[:, EDITS] > 0) | (facts[:, VARIANT] > 0)
        common = self._commonness(replaced, forms, entities, changes)
        return np.stack([sound, common, common * np.exp(facts[:, CONFIDENCE])], axis=1)

    def _commonness(
        self, replaced: Sequence[str], forms: NDArray[np.int32], entities: CompiledList, asked: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """[n] how common what arcs of some forms replace is; 0 where that is not asked, or nobody knows."""
        common = np.zeros(len(forms), np.float32)
        if self.frequencies is not None:
            for k in np.flatnonzero(asked).tolist():
                common[k] = commonness(replaced[k], entities.written_as[forms[k]], self.frequencies)
        return common

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

    def _phone_terms(
        self, frames: UtteranceFrames, arcs: EntityArcs, places: Places, number: NDArray[np.int64], entities: CompiledList
    ) -> NDArray[np.float32]:
        """[n, 3] what a phone head says about arcs."""
        assert frames.phones is not None
        sub_frames = len(frames.phones) // len(frames.labels)
        phrase = entities.phrase_of[arcs.phrase[number]]
        terms: NDArray[np.float32] = phone_terms_of(
            frames.phones, sub_frames, arcs.start[number], places.end[number], phrase, entities.phones
        )
        return terms

    def _suppressed(self, transcript: Transcript, frames: UtteranceFrames, entities: CompiledList) -> Transcript:
        """A transcript without the phrases that the list keeps out of it."""
        spans = [(span.start, span.end) for span in transcript.spans]
        path = self._suppressor(transcript.path, frames.plain, entities.suppressed, spans)
        if path is transcript.path:
            return transcript
        tokens = collapsed(path, self.vocabulary.blank)
        return replace(transcript, text=self.vocabulary.text(tokens), tokens=tokens, path=path)

    def _language_terms(
        self,
        language_model: LanguageModel,
        words: GreedyWords,
        arcs: EntityArcs,
        places: Places,
        number: NDArray[np.int64],
        entities: CompiledList,
    ) -> NDArray[np.float32]:
        """[n, 1] what the language model says about arcs."""
        terms = np.zeros((len(number), len(LANGUAGE_TERMS)), np.float32)
        sentence = WrittenSentence(language_model, self.vocabulary, words.token.tolist())
        for k, arc in enumerate(number.tolist()):
            phrase = entities.phrase_of[arcs.phrase[arc]]
            boost = self.options.class_boosts.get(entities.classes[phrase], self.options.entity_boost)
            terms[k, 0] = sentence.gain(
                int(places.low[arc]),
                int(places.whole_high[arc]),
                entities.phrases[phrase],
                bool(self.vocabulary.starts_word[arcs.tokens[arcs.first_token[arc]]]),
                language_model.chance + boost,
            )
        return terms

    def _greedy(self, labels: NDArray[np.int32]) -> Transcript:
        tokens = collapsed(labels, self.vocabulary.blank)
        return Transcript(self.vocabulary.text(tokens), tokens, 0.0, (), labels)

    def _transcript(self, found: _Candidates, chosen: NDArray[np.int64], entities: CompiledList, score: float) -> Transcript:
        """The transcript in which some candidates, given by their positions, are written."""
        frames = found.frames
        path = frames.labels
        changes = chosen[~found.written[chosen]]
        if len(changes):
            path = rewrite(
                *(frames.labels, frames.log_probs, frames.plain, frames.plain_best, found.words, found.arcs, found.places),
                *(changes, self.vocabulary.blank, self.vocabulary.boundaries),
            )
        spans = []
        for k in chosen:
            name = entities.names[entities.phrase_of[found.arcs.phrase[k]]]
            start, end = int(found.slots.start[k]), int(found.slots.end[k])
            probability = probability_of(float(found.log_odds[k]))
            technique = LOOKED_UP if found.looked_up[k] else SPOTTED
            asked_for = probability_of(float(found.asked_for[k]))
            spans.append(EntitySpan(name, found.shown[k], start, end, probability, technique, asked_for))
        tokens = collapsed(path, self.vocabulary.blank)
        return Transcript(self.vocabulary.text(tokens), tokens, score, tuple(spans), path)


def _alternatives(
    found: _Candidates, chosen: NDArray[np.int64], boundaries: Boundaries
) -> list[tuple[float, NDArray[np.int64]]]:
    """The best choice without each candidate that was chosen and with each other, and what it loses; least first."""
    gains = found.gain
    best = float(gains[chosen].sum())
    ways = []
    for k in np.flatnonzero(found.log_odds > LEAST_ALTERNATIVE).tolist():
        gain = gains.copy()
        gain[k] = -1.0 if k in chosen else DECISIVE
        other = choose(found.slots, gain, boundaries)
        ways.append((best - float(gains[other].sum()), other))
    return sorted(ways, key=lambda way: way[0])
