"""Biased decoding of a batch of log-probs: the decoder's public face.

By default (method ``arcs``) the text is what greedy decoding writes, but for the entities: arcs are spotted over the whole
utterance (`spotter`), compared with what greedy decoding writes there (`evidence`), given a probability (`probability`), and
those that are likely enough are written in its place (`selection`, `rewriting`). CTC's frames are independent of each other,
so everything else stays, to the label.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.alignment import align, token_frames
from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.entity_list import CompiledList, compile_list
from nemo_bias.decoder.evidence import EDITS, Pieces, Places, facts_of, pieces_of, places_of, token_path
from nemo_bias.decoder.frames import near_tokens
from nemo_bias.decoder.frequencies import commonness, word_frequencies
from nemo_bias.decoder.prefix_search import Found, SearchSettings, node_weights, prefix_search
from nemo_bias.decoder.probability import DEFAULT_FILE, read_weights, terms_of
from nemo_bias.decoder.rewriting import rewrite
from nemo_bias.decoder.selection import Slots, candidates_of, choose, slots_of
from nemo_bias.decoder.spotter import EntityArcs, find_arcs
from nemo_bias.decoder.vocabulary import WORD_START, Boundaries, Vocabulary
from nemo_bias.decoder.words import GreedyWords, greedy_words

BOOST_FLOOR = 0.5  # of `boost`: what a token of an entity gets even if it is its frame's best (method adaptive)
LEAST_ALTERNATIVE = 0.02  # probability of an entity that the n-best list still tries
DECISIVE = 1e6  # a gain that no other entities outweigh
SENTENCE_ENDS = ".?!"


@dataclass(frozen=True)
class EntitySpan:
    """An entity in a transcript.

    Attributes:
        entity: the entity as the list's author wrote it.
        phrase: what stands in the transcript.
        start: first frame of its first token.
        end: last frame of its last token.
        probability: that it is spoken there; None with method ``adaptive``, which does not ask.
    """

    entity: str
    phrase: str
    start: int
    end: int
    probability: float | None


@dataclass(frozen=True)
class Transcript:
    """One hypothesis of an utterance.

    Attributes:
        text: what it says.
        tokens: its token ids.
        score: in nats, for the order of an n-best list: the log-odds of its entities against those of the best choice
            (method ``arcs``), or its log-probability and bonuses (``adaptive``).
        spans: its entities, in order.
        path: [T] the label of each frame, blanks included.
    """

    text: str
    tokens: tuple[int, ...]
    score: float
    spans: tuple[EntitySpan, ...]
    path: NDArray[np.int32]


@dataclass(frozen=True)
class ArcEvidence:
    """What speaks for and against the arcs of an utterance that may be taken, before it is weighed.

    Attributes:
        phrase: [n] position of each arc's phrase in the list.
        terms: [n, terms] in the order of `probability.TERMS`.
        certainty: of the utterance, from 0 to 1.
        adapter: whether an adapter biased the log-probs.
        text_with: the text of the utterance with one arc alone in it, given by its position.
    """

    phrase: NDArray[np.int32]
    terms: NDArray[np.float32]
    certainty: float
    adapter: bool
    text_with: Callable[[int], str]


class _Candidates(NamedTuple):
    """The arcs of an utterance that may be taken, and what is needed to write them."""

    log_probs: NDArray[np.float32]  # [T, V] in which they were found
    plain: NDArray[np.float32]  # [T, V] without an adapter's bias
    best: NDArray[np.float32]  # [T] of `plain`
    labels: NDArray[np.int32]  # [T] greedy path
    words: GreedyWords
    arcs: EntityArcs
    places: Places
    number: NDArray[np.int64]  # [n] which arcs
    terms: NDArray[np.float32]  # [n, terms]
    certainty: float
    log_odds: NDArray[np.float32]  # [n]
    gain: NDArray[np.float32]  # [n] log-odds above those that are asked for
    written: NDArray[np.bool_]  # [n] whether greedy decoding writes the entity as it is listed
    slots: Slots


class BiasedBeamSearch:
    """Decodes CTC log-probs with entity lists; one object serves any number of batches and lists.

    Args:
        vocabulary: the model's tokens.
        options: how to decode.
        threads: utterances decoded at a time; by default one a core.

    Raises:
        ValueError: an option has a wrong value.
    """

    def __init__(self, vocabulary: Vocabulary, options: DecodingOptions | None = None, threads: int | None = None) -> None:
        self.vocabulary = vocabulary
        self.options = options or DecodingOptions()
        self.options.check()
        source = self.options.word_frequencies
        self._frequencies = word_frequencies(source) if source else None
        self._weights = read_weights(self.options.evidence_file or DEFAULT_FILE, with_frequencies=source is not None)
        self.threads = threads or len(os.sched_getaffinity(0))

    def compile(
        self, phrases: Sequence[str], weights: Sequence[float] | None = None, names: Sequence[str] | None = None
    ) -> CompiledList:
        """Compiles distinct phrases, written in the model's characters; see `compile_list`."""
        return compile_list(phrases, self.vocabulary, weights, names)

    def decode(
        self,
        log_probs: NDArray[np.float32],
        lengths: Sequence[int] | NDArray[np.integer] | None = None,
        lists: CompiledList | Sequence[CompiledList | None] | None = None,
        nbest: int = 1,
        plain: NDArray[np.float32] | None = None,
        labels: Sequence[NDArray[np.integer]] | None = None,
    ) -> list[list[Transcript]]:
        """Decodes a batch.

        Args:
            log_probs: [B, T, V] natural logarithms.
            lengths: [B] frames of each utterance; all T by default.
            lists: entities, for all utterances or one entry an utterance; None for none.
            nbest: hypotheses wanted for each utterance, distinct texts.
            plain: [B, T, V] without the bias that an adapter gave `log_probs`; None if there is none. Entities are looked
                for in `log_probs`; everything else is written as greedy decoding of `plain` writes it.
            labels: [B] greedy paths of `plain`, [T] each, where they are known: frames may have several best labels.

        Returns:
            For each utterance, at most `nbest` transcripts, best first.

        Raises:
            ValueError: a shape does not fit, or a frame has NaN, +inf or no finite log-prob.
        """
        log_probs = self._checked(log_probs, "log_probs")
        plain = log_probs if plain is None else self._checked(plain, "plain")
        if plain.shape != log_probs.shape:
            raise ValueError(f"plain has shape {plain.shape}, but log_probs {log_probs.shape}")
        batch, frames = log_probs.shape[:2]
        sizes = np.full(batch, frames) if lengths is None else np.asarray(lengths).reshape(-1).astype(np.int64)
        if len(sizes) != batch or (batch and (sizes.min() < 0 or sizes.max() > frames)):
            raise ValueError(f"lengths is {sizes.tolist()}; expected {batch} values from 0 to {frames}")
        each = list(lists) if isinstance(lists, Sequence) else [lists] * batch
        if len(each) != batch:
            raise ValueError(f"{len(each)} entity lists for {batch} utterances")

        def one(b: int) -> list[Transcript]:
            own = log_probs[b, : sizes[b]]
            own_plain = own if plain is log_probs else plain[b, : sizes[b]]
            best = _best_of(own, b)
            entities = each[b] if self.options.method != "greedy" else None
            if self.options.method == "adaptive" and entities:
                return self._beam(own, best, entities, nbest)
            plain_best = best if own_plain is own else _best_of(own_plain, b)
            greedy = own_plain.argmax(axis=1) if labels is None else np.asarray(labels[b])[: sizes[b]]
            return self._rewritten(own, best, own_plain, plain_best, greedy.astype(np.int32), entities, nbest)

        if self.threads == 1 or batch == 1:
            return [one(b) for b in range(batch)]
        with ThreadPoolExecutor(min(self.threads, batch)) as pool:
            return list(pool.map(one, range(batch)))

    def evidence(
        self, log_probs: NDArray[np.float32], entities: CompiledList, plain: NDArray[np.float32] | None = None
    ) -> ArcEvidence:
        """Collects the evidence on one utterance with method ``arcs``, to fit or check the weights of its terms.

        Args:
            log_probs: [T, V] natural logarithms.
            entities: the list.
            plain: [T, V] without an adapter's bias, as in `decode`.

        Raises:
            ValueError: as `decode` does.
        """
        log_probs = self._checked(log_probs[None], "log_probs")[0]
        plain = log_probs if plain is None else self._checked(plain[None], "plain")[0]
        best = _best_of(log_probs, 0)
        plain_best = best if plain is log_probs else _best_of(plain, 0)
        labels = plain.argmax(axis=1).astype(np.int32)
        found = self._candidates(log_probs, best, plain, plain_best, labels, entities, -np.inf)
        return ArcEvidence(
            entities.phrase_of[found.arcs.phrase[found.number]],
            found.terms,
            found.certainty,
            plain is not log_probs,
            lambda k: self._transcript(found, np.array([k]), entities, 0.0).text,
        )

    def _checked(self, log_probs: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        log_probs = np.asarray(log_probs)
        if log_probs.ndim != 3 or log_probs.shape[2] != self.vocabulary.size:
            raise ValueError(f"{name} has shape {log_probs.shape}; expected [B, T, {self.vocabulary.size}]")
        return log_probs.astype(np.float32, copy=False)

    @cached_property
    def _pieces(self) -> Pieces:
        return pieces_of(self.vocabulary)

    # Method arcs

    def _rewritten(
        self,
        log_probs: NDArray[np.float32],
        best: NDArray[np.float32],
        plain: NDArray[np.float32],
        plain_best: NDArray[np.float32],
        labels: NDArray[np.int32],
        entities: CompiledList | None,
        nbest: int,
    ) -> list[Transcript]:
        """The greedy text with the entities in it."""
        if entities is None or not len(entities) or not len(labels):
            return [self._greedy(labels)]
        worth_keeping = _log_odds(min(self.options.min_probability, LEAST_ALTERNATIVE if nbest > 1 else 1.0)) - 1e-3
        found = self._candidates(log_probs, best, plain, plain_best, labels, entities, worth_keeping)
        if not len(found.number):
            return [self._greedy(labels)]
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

    def _candidates(
        self,
        log_probs: NDArray[np.float32],
        best: NDArray[np.float32],
        plain: NDArray[np.float32],
        plain_best: NDArray[np.float32],
        labels: NDArray[np.int32],
        entities: CompiledList,
        worth_keeping: float,
    ) -> _Candidates:
        """The arcs that may be taken, if their log-odds are worth keeping."""
        blank, boundaries, pieces = self.vocabulary.blank, self.vocabulary.boundaries, self._pieces
        margin, most = self.options.token_margin, self.options.most_tokens
        arcs = find_arcs(log_probs, best, blank, margin, most, entities.automaton)
        words = greedy_words(labels, blank, boundaries)
        places = places_of(plain, plain_best, labels, words, arcs, blank, boundaries, pieces)
        biased_words, biased_places = words, places
        if plain is not log_probs and len(arcs.phrase):
            biased_labels = log_probs.argmax(axis=1).astype(np.int32)
            biased_words = greedy_words(biased_labels, blank, boundaries)
            biased_places = places_of(log_probs, best, biased_labels, biased_words, arcs, blank, boundaries, pieces)
            places.allowed[:] &= biased_places.allowed
        facts = facts_of(log_probs, best, plain, plain_best, biased_words, arcs, biased_places, blank, boundaries, pieces)
        number, rivals = candidates_of(arcs, places, facts, entities.phrase_of[arcs.phrase])
        spoken = labels != blank
        certainty = math.exp(plain_best[spoken].mean()) if spoken.any() else 1.0
        weights = self._weights.at(certainty, adapter=plain is not log_probs)
        changing = facts[number, EDITS] > 0
        common = np.zeros(len(number), np.float32)
        common[changing] = self._commonness(arcs, places, words, number[changing], entities)
        terms = terms_of(facts[number], rivals, common, len(entities))
        trust = math.log(self.options.weight) if self.options.weight else -np.inf
        log_odds = terms @ weights + trust + entities.log_weights[arcs.phrase[number]]
        kept = log_odds >= worth_keeping
        number, terms, log_odds = number[kept], terms[kept], log_odds[kept]
        listed = (entities.phrases[k] for k in entities.phrase_of[arcs.phrase[number]])
        replaced = (self._text_of(words, places.whole_low[arc], places.whole_high[arc]) for arc in number)
        written = np.array([a == b for a, b in zip(listed, replaced, strict=True)], np.bool_)
        slots = slots_of(number, written, arcs, places, words)
        gain = log_odds - np.float32(_log_odds(self.options.min_probability))
        return _Candidates(
            *(log_probs, plain, plain_best, labels, words, arcs, places, number, terms, certainty, log_odds, gain),
            *(written, slots),
        )

    def _text_of(self, words: GreedyWords, low: int, high: int) -> str:
        return self.vocabulary.text(words.token[low:high].tolist())

    def _commonness(
        self, arcs: EntityArcs, places: Places, words: GreedyWords, number: NDArray[np.int64], entities: CompiledList
    ) -> NDArray[np.float32]:
        """[n] how common the words are that some arcs replace."""
        common = np.zeros(len(number), np.float32)
        if self._frequencies is not None:
            for k, arc in enumerate(number):
                replaced = self._text_of(words, places.whole_low[arc], places.whole_high[arc])
                phrase = entities.phrases[entities.phrase_of[arcs.phrase[arc]]]
                common[k] = commonness(replaced, phrase, self._frequencies)
        return common

    def _greedy(self, labels: NDArray[np.int32]) -> Transcript:
        tokens = _collapsed(labels, self.vocabulary.blank)
        return Transcript(self.vocabulary.text(tokens), tokens, 0.0, (), labels)

    def _transcript(self, found: _Candidates, chosen: NDArray[np.int64], entities: CompiledList, score: float) -> Transcript:
        """The transcript in which some candidates, given by their positions, are written."""
        path = found.labels
        changes = found.number[chosen[~found.written[chosen]]]
        if len(changes):
            path = rewrite(
                *(found.labels, found.log_probs, found.plain, found.best, found.words, found.arcs, found.places),
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
            spans.append(EntitySpan(entities.names[phrase], shown, start, end, probability))
        tokens = _collapsed(path, self.vocabulary.blank)
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
        written = token_path(found.log_probs, np.array(tokens, np.int32), start, last, blank)
        if last - start + 1 < needed or merges or (written == blank).all():
            return end, form
        path[start : last + 1] = written
        return last, phrase

    # Method adaptive

    def _beam(
        self, log_probs: NDArray[np.float32], best: NDArray[np.float32], entities: CompiledList, nbest: int
    ) -> list[Transcript]:
        """Prefix beam search with adaptive boosting."""
        boost = self.options.boost * self.options.weight
        margin = self.options.token_margin
        settings = SearchSettings(
            self.vocabulary.blank, self.vocabulary.boundaries, self.options.beam_size, margin, boost, BOOST_FLOOR
        )
        weights = entities.weights[entities.phrase_of]
        near = near_tokens(log_probs, best, self.vocabulary.blank, margin + boost, self.options.most_tokens)
        found = prefix_search(
            log_probs, best, near, settings, entities.automaton, weights, node_weights(entities.automaton, weights)
        )
        return [self._beam_transcript(log_probs, found, k, entities) for k in range(min(nbest, len(found.mass)))]

    def _beam_transcript(self, log_probs: NDArray[np.float32], found: Found, k: int, entities: CompiledList) -> Transcript:
        tokens = found.tokens[found.first_token[k] : found.first_token[k + 1]]
        path = align(log_probs, tokens, self.vocabulary.blank)
        starts, ends = token_frames(path, len(tokens), self.vocabulary.blank)
        spans = tuple(
            EntitySpan(
                entities.names[entities.phrase_of[form]],
                entities.forms[form],
                int(starts[first]),
                int(ends[last - 1]),
                None,
            )
            for form, first, last in found.spans[found.first_span[k] : found.first_span[k + 1]].tolist()
        )
        ids = tuple(tokens.tolist())
        return Transcript(self.vocabulary.text(ids), ids, float(found.mass[k] + found.bonus[k]), spans, path)


def _best_of(log_probs: NDArray[np.float32], utterance: int) -> NDArray[np.float32]:
    """[T] the highest log-prob of each frame [T, V]."""
    if not len(log_probs):
        return np.zeros(0, np.float32)
    best: NDArray[np.float32] = log_probs.max(axis=1)
    wrong = np.flatnonzero(~np.isfinite(best))
    if len(wrong):
        value = best[wrong[0]]
        what = "no finite log-prob" if value == -np.inf else f"a log-prob of {value}"
        raise ValueError(f"log_probs: utterance {utterance}, frame {wrong[0]} has {what}")
    return best


def _collapsed(labels: NDArray[np.int32], blank: int) -> tuple[int, ...]:
    """The tokens that a label path writes."""
    changed = np.ones(len(labels), np.bool_)
    changed[1:] = labels[1:] != labels[:-1]
    return tuple(labels[changed & (labels != blank)].tolist())


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
