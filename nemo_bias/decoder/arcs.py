"""Method ``arcs``: the greedy text of an utterance, with the entities in it that are likely enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.entity_list import CompiledList
from nemo_bias.decoder.evidence import CHARACTERS, EDITS, Places, facts_of, pieces_of, places_of, token_path
from nemo_bias.decoder.frequencies import commonness, word_frequencies
from nemo_bias.decoder.language_model import LanguageModel
from nemo_bias.decoder.lm_evidence import LANGUAGE_TERMS, WrittenSentence
from nemo_bias.decoder.lookup import joined_arcs, look_up
from nemo_bias.decoder.phone_evidence import PHONE_TERMS, phone_terms_of
from nemo_bias.decoder.probability import DEFAULT_FILE, read_weights, terms_of
from nemo_bias.decoder.rewriting import rewrite
from nemo_bias.decoder.selection import Slots, candidates_of, choose, slots_of
from nemo_bias.decoder.sounds import packed, sound_distances, word_sounds
from nemo_bias.decoder.spotter import EntityArcs, find_arcs
from nemo_bias.decoder.transcript import LOOKED_UP, SPOTTED, EntitySpan, Transcript, collapsed
from nemo_bias.decoder.vocabulary import WORD_START, Boundaries, Vocabulary
from nemo_bias.decoder.words import GreedyWords, greedy_words

LEAST_ALTERNATIVE = 0.02  # probability of an entity that the n-best list still tries
DECISIVE = 1e6  # a gain that no other entities outweigh
SENTENCE_ENDS = ".?!"


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
    """What speaks for and against the arcs of an utterance that may be taken, before it is weighed.

    Attributes:
        phrase: [n] position of each arc's phrase in the list.
        looked_up: [n] whether each arc was looked up, not spotted.
        terms: [n, terms] in the order of `probability.TERMS`.
        certainty: of the utterance, from 0 to 1.
        adapter: whether an adapter biased the log-probs.
        text_with: the text of the utterance with one arc alone in it, given by its position.
    """

    phrase: NDArray[np.int32]
    looked_up: NDArray[np.bool_]
    terms: NDArray[np.float32]
    certainty: float
    adapter: bool
    text_with: Callable[[int], str]


class _Candidates(NamedTuple):
    """The arcs of an utterance that may be taken, and what is needed to write them."""

    frames: UtteranceFrames
    words: GreedyWords
    arcs: EntityArcs
    spotted: int  # how many of the arcs were spotted; the others were looked up
    places: Places
    number: NDArray[np.int64]  # [n] which arcs
    terms: NDArray[np.float32]  # [n, terms]
    certainty: float
    log_odds: NDArray[np.float32]  # [n]
    gain: NDArray[np.float32]  # [n] log-odds above those that are asked for
    written: NDArray[np.bool_]  # [n] whether greedy decoding writes the entity as it is listed
    slots: Slots


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
        self._frequencies = word_frequencies(options.word_frequencies) if options.word_frequencies else None
        self.sounds = word_sounds(options.pronunciations) if options.pronunciations else None
        self._weights = read_weights(
            options.evidence_file or DEFAULT_FILE,
            with_frequencies=self._frequencies is not None,
            with_sounds=self.sounds is not None,
        )

    def decode(self, frames: UtteranceFrames, entities: CompiledList | None, nbest: int) -> list[Transcript]:
        """The greedy text of an utterance with the entities in it, and at most ``nbest - 1`` alternatives."""
        if entities is None or not len(entities) or not len(frames.labels):
            return [self._greedy(frames.labels)]
        worth_keeping = _log_odds(min(self.options.min_probability, LEAST_ALTERNATIVE if nbest > 1 else 1.0)) - 1e-3
        found = self._candidates(frames, entities, worth_keeping)
        if not len(found.number):
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

    def evidence(self, frames: UtteranceFrames, entities: CompiledList) -> ArcEvidence:
        """What speaks for and against all arcs of an utterance that may be taken."""
        found = self._candidates(frames, entities, -np.inf)
        return ArcEvidence(
            entities.phrase_of[found.arcs.phrase[found.number]],
            found.number >= found.spotted,
            found.terms,
            found.certainty,
            frames.biased,
            lambda k: self._transcript(found, np.array([k]), entities, 0.0).text,
        )

    def _candidates(self, frames: UtteranceFrames, entities: CompiledList, worth_keeping: float) -> _Candidates:
        """The arcs that may be taken, if their log-odds are worth keeping."""
        log_probs, best, plain, plain_best, labels, phones = frames
        blank, boundaries, pieces = self.vocabulary.blank, self.vocabulary.boundaries, self._pieces
        margin, most = self.options.token_margin, self.options.most_tokens
        arcs = find_arcs(log_probs, best, blank, margin, most, entities.automaton)
        spotted = len(arcs.phrase)
        words = greedy_words(labels, blank, boundaries)
        if self.sounds is not None and self.options.lookup_distance is not None:
            context = entities, self.sounds, self.vocabulary
            looked_up = look_up(log_probs, best, plain_best, words, *context, phones, self.options.lookup_distance)
            arcs = joined_arcs(arcs, looked_up)
        places = places_of(plain, plain_best, labels, words, arcs, blank, boundaries, pieces)
        biased_words, biased_places = words, places
        if frames.biased and len(arcs.phrase):
            biased_labels = log_probs.argmax(axis=1).astype(np.int32)
            biased_words = greedy_words(biased_labels, blank, boundaries)
            biased_places = places_of(log_probs, best, biased_labels, biased_words, arcs, blank, boundaries, pieces)
            places.allowed[:] &= biased_places.allowed
        facts = facts_of(log_probs, best, plain, plain_best, biased_words, arcs, biased_places, blank, boundaries, pieces)
        number, rivals = candidates_of(arcs, places, facts, entities.phrase_of[arcs.phrase])
        spoken = labels != blank
        certainty = math.exp(plain_best[spoken].mean()) if spoken.any() else 1.0
        listened = frames.phones is not None and self.sounds is not None
        weights = self._weights.at(certainty, frames.biased, listened, self._language_model is not None)
        listed = [entities.phrases[k] for k in entities.phrase_of[arcs.phrase[number]]]
        replaced = [self._text_of(words, places.whole_low[arc], places.whole_high[arc]) for arc in number]
        common = self._commonness(facts[number, EDITS] > 0, replaced, listed)
        sound = self._sound_distances(facts[number], replaced, entities.phrase_of[arcs.phrase[number]], entities)
        heard = self._phone_terms(frames, arcs, places, number, entities)
        terms = terms_of(facts[number], rivals, common, sound, heard, len(entities))
        terms = np.hstack([terms, self._language_terms(words, arcs, places, number, entities)])
        trust = math.log(self.options.weight) if self.options.weight else -np.inf
        log_odds = terms @ weights + trust + entities.log_weights[arcs.phrase[number]]
        log_odds += (number >= spotted) * (terms @ self._weights.looked_up)
        kept = log_odds >= worth_keeping
        written = np.array([a == b for a, b in zip(listed, replaced, strict=True)], np.bool_)[kept]
        number, terms, log_odds = number[kept], terms[kept], log_odds[kept]
        slots = slots_of(number, written, arcs, places, words)
        gain = log_odds - np.float32(_log_odds(self.options.min_probability))
        return _Candidates(frames, words, arcs, spotted, places, number, terms, certainty, log_odds, gain, written, slots)

    def _text_of(self, words: GreedyWords, low: int, high: int) -> str:
        return self.vocabulary.text(words.token[low:high].tolist())

    def _commonness(
        self, changing: NDArray[np.bool_], replaced: Sequence[str], listed: Sequence[str]
    ) -> NDArray[np.float32]:
        """[n] how common the words are that phrases replace, where that changes the text."""
        common = np.zeros(len(changing), np.float32)
        if self._frequencies is not None:
            for k in np.flatnonzero(changing).tolist():
                common[k] = commonness(replaced[k], listed[k], self._frequencies)
        return common

    def _sound_distances(
        self, facts: NDArray[np.float32], replaced: Sequence[str], phrase: NDArray[np.int32], entities: CompiledList
    ) -> NDArray[np.float32]:
        """[n, 2] distances of what phrases replace, by how both are said, and the phones of the longer.

        Where nobody knows how they are said, letters stand for phones.
        """
        if self.sounds is None:
            return np.zeros((len(facts), 2), np.float32)
        heard = self.sounds.heard(replaced)
        distances: NDArray[np.float32] = sound_distances(*packed(heard), phrase, entities.phones, self.sounds.costs)
        characters = np.maximum(facts[:, CHARACTERS], np.array([len(text) for text in replaced], np.float32))
        letters = np.stack([facts[:, EDITS] / characters, characters], axis=1)
        heard_nothing = [text != "" and not len(phones) for text, phones in zip(replaced, heard, strict=True)]
        unknown = np.array(heard_nothing, np.bool_) | np.isinf(distances[:, 0])
        return np.where(unknown[:, None], letters, distances)

    def _phone_terms(
        self, frames: UtteranceFrames, arcs: EntityArcs, places: Places, number: NDArray[np.int64], entities: CompiledList
    ) -> NDArray[np.float32]:
        """[n, 3] what a phone head says about arcs; all 0 without one."""
        if frames.phones is None or self.sounds is None:
            return np.zeros((len(number), len(PHONE_TERMS)), np.float32)
        sub_frames = len(frames.phones) // len(frames.labels)
        phrase = entities.phrase_of[arcs.phrase[number]]
        terms: NDArray[np.float32] = phone_terms_of(
            frames.phones, sub_frames, arcs.start[number], places.end[number], phrase, entities.phones
        )
        return terms

    def _language_terms(
        self,
        words: GreedyWords,
        arcs: EntityArcs,
        places: Places,
        number: NDArray[np.int64],
        entities: CompiledList,
    ) -> NDArray[np.float32]:
        """[n, 1] what the language model says about arcs; all 0 without one."""
        terms = np.zeros((len(number), len(LANGUAGE_TERMS)), np.float32)
        if self._language_model is None or not len(number):
            return terms
        sentence = WrittenSentence(self._language_model, self.vocabulary, words.token.tolist())
        for k, arc in enumerate(number.tolist()):
            phrase = entities.phrase_of[arcs.phrase[arc]]
            boost = self.options.class_boosts.get(entities.classes[phrase], self.options.entity_boost)
            terms[k, 0] = sentence.gain(
                int(places.low[arc]),
                int(places.whole_high[arc]),
                entities.phrases[phrase],
                bool(self.vocabulary.starts_word[arcs.tokens[arcs.first_token[arc]]]),
                self._language_model.chance + boost,
            )
        return terms

    def _greedy(self, labels: NDArray[np.int32]) -> Transcript:
        tokens = collapsed(labels, self.vocabulary.blank)
        return Transcript(self.vocabulary.text(tokens), tokens, 0.0, (), labels)

    def _transcript(self, found: _Candidates, chosen: NDArray[np.int64], entities: CompiledList, score: float) -> Transcript:
        """The transcript in which some candidates, given by their positions, are written."""
        frames = found.frames
        path = frames.labels
        changes = found.number[chosen[~found.written[chosen]]]
        if len(changes):
            path = rewrite(
                *(frames.labels, frames.log_probs, frames.plain, frames.plain_best, found.words, found.arcs, found.places),
                *(changes, self.vocabulary.blank, self.vocabulary.boundaries),
            )
        spans = []
        for k in chosen:
            n = found.number[k]
            phrase = entities.phrase_of[found.arcs.phrase[n]]
            start, end, shown = int(found.slots.start[k]), int(found.slots.end[k]), entities.phrases[phrase]
            if not found.written[k] and entities.forms[found.arcs.phrase[n]] != shown:
                shown = entities.forms[found.arcs.phrase[n]]
                if not self._starts_sentence(found, n, entities):
                    end, shown = self._write_as_listed(path, found, n, entities)
            probability = _probability(float(found.log_odds[k]))
            technique = SPOTTED if n < found.spotted else LOOKED_UP
            spans.append(EntitySpan(entities.names[phrase], shown, start, end, probability, technique))
        tokens = collapsed(path, self.vocabulary.blank)
        return Transcript(self.vocabulary.text(tokens), tokens, score, tuple(spans), path)

    def _starts_sentence(self, found: _Candidates, arc: int, entities: CompiledList) -> bool:
        """Whether an arc is the listed phrase with a capital letter, at the start of a sentence."""
        form = entities.forms[found.arcs.phrase[arc]]
        phrase = entities.phrases[entities.phrase_of[found.arcs.phrase[arc]]]
        if form != phrase[:1].upper() + phrase[1:]:
            return False
        before = found.words.token[: found.places.whole_low[arc]]
        texts = (self.vocabulary.text([token]) for token in before[::-1])  # of a space and unknown tokens it is empty
        return next(filter(None, texts), SENTENCE_ENDS)[-1] in SENTENCE_ENDS

    def _write_as_listed(
        self, path: NDArray[np.int32], found: _Candidates, arc: int, entities: CompiledList
    ) -> tuple[int, str]:
        """Writes the listed phrase over a form of it, if it fits between its neighbours; returns its last frame and text."""
        arcs, blank = found.arcs, self.vocabulary.blank
        form = entities.forms[arcs.phrase[arc]]
        phrase = entities.phrases[entities.phrase_of[arcs.phrase[arc]]]
        first = arcs.tokens[arcs.first_token[arc]]
        marked = phrase.replace(" ", WORD_START)
        if self.vocabulary.pieces[first].startswith(WORD_START):
            marked = WORD_START + marked
        tokens = self.vocabulary.shortest(marked)
        start, end = int(arcs.start[arc]), int(found.places.end[arc])
        if tokens is None:
            return end, form
        needed = len(tokens) + sum(a == b for a, b in pairwise(tokens))
        last = end
        while last - start + 1 < needed and last + 1 < len(path) and path[last + 1] == blank:
            last += 1
        merges = (start > 0 and path[start - 1] == tokens[0]) or (last + 1 < len(path) and path[last + 1] == tokens[-1])
        written = token_path(found.frames.log_probs, np.array(tokens, np.int32), start, last, blank)
        if last - start + 1 < needed or merges or (written == blank).all():
            return end, form
        path[start : last + 1] = written
        return last, phrase


def _log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability)) if probability < 1 else math.inf


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, log_odds)))


def _alternatives(
    found: _Candidates, chosen: NDArray[np.int64], boundaries: Boundaries
) -> list[tuple[float, NDArray[np.int64]]]:
    """The best choice without each candidate that was chosen and with each other, and what it loses; least first."""
    best = float(found.gain[chosen].sum())
    ways = []
    for k in np.flatnonzero(found.log_odds > _log_odds(LEAST_ALTERNATIVE)).tolist():
        gain = found.gain.copy()
        gain[k] = -1.0 if k in chosen else DECISIVE
        other = choose(found.slots, gain, boundaries)
        ways.append((best - float(found.gain[other].sum()), other))
    return sorted(ways, key=lambda way: way[0])
