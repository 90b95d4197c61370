"""Biased decoding of a batch of log-probs: the decoder's public face.

By default (method ``arcs``) the text is what greedy decoding writes, but for the entities: arcs are spotted over the whole
utterance (`spotter`), compared with what greedy decoding writes there (`evidence`), given a probability (`probability`), and
those that are likely enough are written in its place (`selection`, `rewriting`); `arcs` puts these steps together. CTC's
frames are independent of each other, so everything else stays, to the label.

With a language model (`lm_file`), the text without entities is that of a beam search with it (`prefix_search`), without the
list; entities are then found, judged and written as before. So a list changes the same with a language model as without one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.alignment import align_near, token_frames
from nemo_bias.decoder.arcs import ArcDecoder, ArcEvidence
from nemo_bias.decoder.candidates import CandidateFinder
from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.entity_list import CompiledList, compile_list
from nemo_bias.decoder.frames import BatchFrames, UtteranceFrames, best_labels, near_tokens
from nemo_bias.decoder.language_model import LanguageModel
from nemo_bias.decoder.lm_file import read_lm
from nemo_bias.decoder.prefix_search import Found, SearchSettings, node_weights, prefix_search
from nemo_bias.decoder.rescoring import PhoneticRescorer
from nemo_bias.decoder.suppression import Suppressor
from nemo_bias.decoder.transcript import SPOTTED, EntitySpan, Transcript, collapsed
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.entities import Entity
from nemo_bias.variants import VariantList, VariantSettings, generate_variants

RESCORED = 8  # hypotheses of an utterance that phonetic rescoring chooses among, at least
LOG = logging.getLogger(__name__)
SPREAD = 10.0  # nats below the best hypothesis, beyond which the beam search drops one
BOOST_FLOOR = 0.5  # of `boost`: what a token of an entity gets even if it is its frame's best (method adaptive)


class BiasedBeamSearch:
    """Decodes CTC log-probs with entity lists; one object serves any number of batches and lists.

    Args:
        vocabulary: the model's tokens.
        options: how to decode.
        threads: parts of a batch decoded at a time; by default one a core.

    Raises:
        ValueError: an option has a wrong value.
    """

    def __init__(self, vocabulary: Vocabulary, options: DecodingOptions | None = None, threads: int | None = None) -> None:
        self.vocabulary = vocabulary
        self.options = options or DecodingOptions()
        self.options.check()
        self._language_model = self._read_language_model() if self.options.lm_file else None
        self._finder = CandidateFinder(vocabulary, self.options, self._language_model)
        self._arcs = ArcDecoder(self._finder, vocabulary, self.options)
        self._suppressor = Suppressor(vocabulary, self.options.token_margin, self.options.most_tokens)
        self._no_entities = compile_list([], vocabulary)
        self.threads = threads or len(os.sched_getaffinity(0))
        self._rescorer = None
        if self._finder.sounds is not None and self.options.phone_weight > 0:
            self._rescorer = PhoneticRescorer(self._finder.sounds.words, self.options.phone_weight, self.threads)

    def _read_language_model(self) -> LanguageModel:
        own = self.options
        assert own.lm_file is not None
        model = LanguageModel(read_lm(own.lm_file), self.vocabulary, own.lm_weight, own.word_bonus, own.oov_boost)
        if note := model.unwritable():
            LOG.warning(note)
        return model

    def compile(
        self,
        phrases: Sequence[str],
        weights: Sequence[float] | None = None,
        names: Sequence[str] | None = None,
        entities: Sequence[Entity] | None = None,
    ) -> CompiledList:
        """Compiles distinct phrases, written in the model's characters; see `compile_list`.

        Args:
            phrases: what shall be recognised.
            weights: [phrases] each multiplies the odds of its phrase; 1 by default. Phrases of weight 0 are left out, and
                those below 0 are suppressed.
            names: [phrases] the entities as their author wrote them; by default the phrases.
            entities: [phrases] what else the author says of them, above all how they are said; by default nothing.

        Raises:
            ValueError: the list does not fit, or a pronunciation in it cannot be read.
        """
        known = list(entities or [Entity(phrase) for phrase in phrases])
        if weights is not None and min(weights, default=1.0) <= 0:
            found = [k for k, weight in enumerate(weights) if weight > 0]
            compiled = self.compile(
                [phrases[k] for k in found],
                [weights[k] for k in found],
                None if names is None else [names[k] for k in found],
                [known[k] for k in found],
            )
            below = {phrase.lower(): weight for phrase, weight in zip(phrases, weights, strict=True) if weight < 0}
            return replace(compiled, suppressed=below)
        pronunciations = None if self._finder.sounds is None else self._finder.sounds.entities(known)
        likeness = None if pronunciations is None else self._finder.likeness(phrases, pronunciations)
        variants = self.variants(known, phrases).variants if self.options.variants else None
        classes = [entity.entity_class for entity in known]
        return compile_list(phrases, self.vocabulary, weights, names, pronunciations, variants, classes, likeness)

    def variants(self, entities: Sequence[Entity], phrases: Sequence[str]) -> VariantList:
        """The variants that entities are also found as, see `generate_variants`; none for methods other than ``arcs``.

        Args:
            entities: the list.
            phrases: [entities] in the model's characters.
        """
        names = self.options.variants if self.options.method == "arcs" else []
        settings = VariantSettings(
            self.vocabulary.alphabet,
            self.options.language,
            self.options.pronunciation_source,
            self.options.frequency_source,
            self.options.g2g_file,
        )
        return generate_variants(names, entities, phrases, settings, self._finder.frequencies)

    def decode(
        self,
        log_probs: NDArray[np.float32],
        lengths: Sequence[int] | NDArray[np.integer] | None = None,
        lists: CompiledList | Sequence[CompiledList | None] | None = None,
        nbest: int = 1,
        plain: NDArray[np.float32] | None = None,
        labels: Sequence[NDArray[np.integer]] | None = None,
        phones: NDArray[np.float32] | None = None,
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
            phones: [B, T * sub_frames, phones + 1] log-probs of phones, the blank last; None if no phone head listened.

        Returns:
            For each utterance, at most `nbest` transcripts, best first.

        Raises:
            ValueError: a shape does not fit, or a frame has NaN, +inf or no finite log-prob.
        """
        given, log_probs = log_probs, self._checked(log_probs, "log_probs")
        plain = log_probs if plain is None or plain is given else self._checked(plain, "plain")
        if plain.shape != log_probs.shape:
            raise ValueError(f"plain has shape {plain.shape}, but log_probs {log_probs.shape}")
        batch, frames = log_probs.shape[:2]
        sizes = np.full(batch, frames) if lengths is None else np.asarray(lengths).reshape(-1).astype(np.int64)
        if len(sizes) != batch or (batch and (sizes.min() < 0 or sizes.max() > frames)):
            raise ValueError(f"lengths is {sizes.tolist()}; expected {batch} values from 0 to {frames}")
        if phones is not None and (phones.ndim != 3 or len(phones) != batch or (frames and phones.shape[1] % frames)):
            raise ValueError(f"phones has shape {phones.shape}; expected [{batch}, {frames} * sub-frames, phones + 1]")
        each: list[CompiledList | None] = list(lists) if isinstance(lists, Sequence) else [lists] * batch
        if len(each) != batch:
            raise ValueError(f"{len(each)} entity lists for {batch} utterances")
        rescorer = self._rescorer if phones is not None else None
        wanted = nbest if rescorer is None else max(nbest, RESCORED)
        all_frames = _frames(log_probs, plain, sizes, labels, phones)
        transcripts = self._decoded(all_frames, each if self.options.method != "greedy" else [None] * batch, wanted)
        if rescorer is None or phones is None:
            return transcripts
        sub_frames = all_frames.sub_frames
        own_phones = [phones[b, : sizes[b] * sub_frames] for b in range(batch)]
        said = [_said(some, entities) for some, entities in zip(transcripts, each, strict=True)]
        return [some[:nbest] for some in rescorer.rescore(transcripts, own_phones, said)]

    def _decoded(self, frames: BatchFrames, lists: Sequence[CompiledList | None], nbest: int) -> list[list[Transcript]]:
        """The transcripts of each utterance, before they are rescored."""
        numbers = range(len(lists))
        found: list[list[Transcript]] = [[] for _ in numbers]
        if self.options.method == "adaptive":
            boosted = [b for b, entities in enumerate(lists) if entities is not None and len(entities)]
            distinct = {id(entities): entities for entities in lists if entities is not None}
            one = {key: entities.with_one_automaton(self.vocabulary) for key, entities in distinct.items()}
            searched = self._in_threads(lambda b: self._boosted(frames.utterance(b), one[id(lists[b])], nbest), boosted)
            for b, own in zip(boosted, searched, strict=True):
                found[b] = own
        if self._language_model is not None:
            self._note_unfamiliar(self._language_model, frames)
            wanted = [1 if entities else nbest for entities in lists]
            rest = [b for b in numbers if not found[b]]
            searched = self._in_threads(lambda b: self._with_language_model(frames.utterance(b), wanted[b]), rest)
            for b, own in zip(rest, searched, strict=True):
                frames.labels[slice(*frames.bounds[b])] = own[0].path  # entities are written into what the model chose
                found[b] = [] if lists[b] else own
        jobs = _jobs([b for b in numbers if not found[b]], lists, self.threads)
        written = self._in_threads(lambda job: self._arcs.decode(frames.only(job), lists[job[0]], nbest), jobs)
        for job, some in zip(jobs, written, strict=True):
            for b, own in zip(job, some, strict=True):
                found[b] = own
        return [self._suppressed(own, frames.utterance(b), lists[b]) for b, own in enumerate(found)]

    def _in_threads(self, function: Callable[[Any], Any], jobs: Sequence[Any]) -> list[Any]:
        """What a function makes of each of some jobs."""
        if self.threads == 1 or len(jobs) < 2:
            return [function(job) for job in jobs]
        with ThreadPoolExecutor(min(self.threads, len(jobs))) as pool:
            return list(pool.map(function, jobs))

    def _note_unfamiliar(self, language_model: LanguageModel, frames: BatchFrames) -> None:
        """Tells, once, if the language model knows few of the words that the recogniser writes."""
        greedy = (frames.labels[start:end] for start, end in frames.bounds.tolist())
        texts = (self.vocabulary.text(collapsed(path, self.vocabulary.blank)) for path in greedy)
        if note := language_model.unfamiliar(texts):
            LOG.warning(note)

    def _suppressed(
        self, transcripts: list[Transcript], frames: UtteranceFrames, entities: CompiledList | None
    ) -> list[Transcript]:
        """Transcripts without the phrases that the list keeps out of them, each text once."""
        if entities is None or not entities.suppressed:
            return transcripts
        texts = dict[str, Transcript]()
        for transcript in transcripts:
            spans = [(span.start, span.end) for span in transcript.spans]
            path = self._suppressor(transcript.path, frames.plain, entities.suppressed, spans)
            if path is not transcript.path:
                tokens = collapsed(path, self.vocabulary.blank)
                transcript = replace(transcript, text=self.vocabulary.text(tokens), tokens=tokens, path=path)
            texts.setdefault(transcript.text, transcript)
        return list(texts.values())

    def evidence(
        self,
        log_probs: NDArray[np.float32],
        entities: CompiledList,
        plain: NDArray[np.float32] | None = None,
        phones: NDArray[np.float32] | None = None,
    ) -> ArcEvidence:
        """Collects the evidence on one utterance with method ``arcs``: to explain what it led to, or to fit its weights.

        Args:
            log_probs: [T, V] natural logarithms.
            entities: the list.
            plain: [T, V] without an adapter's bias, as in `decode`.
            phones: [T * sub_frames, phones + 1] of a phone head, as in `decode`.

        Raises:
            ValueError: as `decode` does.
        """
        own = self._checked(log_probs[None], "log_probs")
        own_plain = own if plain is None or plain is log_probs else self._checked(plain[None], "plain")
        frames = _frames(own, own_plain, np.array([len(log_probs)]), None, None if phones is None else phones[None])
        if self._language_model is not None:
            frames = frames._replace(labels=self._with_language_model(frames.utterance(0), 1)[0].path)
        return self._arcs.evidence(frames, entities)

    def _checked(self, log_probs: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        log_probs = np.asarray(log_probs)
        if log_probs.ndim != 3 or log_probs.shape[2] != self.vocabulary.size:
            raise ValueError(f"{name} has shape {log_probs.shape}; expected [B, T, {self.vocabulary.size}]")
        return np.ascontiguousarray(log_probs, np.float32)

    def _boosted(self, frames: UtteranceFrames, entities: CompiledList, nbest: int) -> list[Transcript]:
        """Prefix beam search with adaptive boosting of entities."""
        return self._beam(frames.log_probs, frames.best, entities, self.options.boost * self.options.weight, nbest)

    def _with_language_model(self, frames: UtteranceFrames, nbest: int) -> list[Transcript]:
        """Prefix beam search with the language model."""
        return self._beam(frames.plain, frames.plain_best, self._no_entities, 0.0, nbest)

    def _beam(
        self,
        log_probs: NDArray[np.float32],
        best: NDArray[np.float32],
        entities: CompiledList,
        boost: float,
        nbest: int,
    ) -> list[Transcript]:
        margin = self.options.token_margin
        settings = SearchSettings(
            *(self.vocabulary.blank, self.vocabulary.boundaries, self.options.beam_size, margin, SPREAD + boost),
            *(boost, BOOST_FLOOR, self._language_model is not None and nbest == 1 and boost == 0),
        )
        weights = entities.weights[entities.phrase_of]
        near = near_tokens(log_probs, best, self.vocabulary.blank, margin + boost, self.options.most_tokens)
        found = prefix_search(
            *(log_probs, best, near, settings, entities.automaton, weights, node_weights(entities.automaton, weights)),
            self._language_model,
        )
        return [self._beam_transcript(log_probs, found, k, entities) for k in range(min(nbest, len(found.mass)))]

    def _beam_transcript(self, log_probs: NDArray[np.float32], found: Found, k: int, entities: CompiledList) -> Transcript:
        own = slice(found.first_token[k], found.first_token[k + 1])
        tokens = found.tokens[own]
        path = align_near(log_probs, tokens, found.reached[own], self.vocabulary.blank)
        starts, ends = token_frames(path, len(tokens), self.vocabulary.blank)
        spans = tuple(
            EntitySpan(
                entities.names[entities.phrase_of[form]],
                entities.forms[form],
                int(starts[first]),
                int(ends[last - 1]),
                None,
                SPOTTED,
            )
            for form, first, last in found.spans[found.first_span[k] : found.first_span[k + 1]].tolist()
        )
        ids = tuple(tokens.tolist())
        return Transcript(
            self.vocabulary.text(ids), ids, float(found.mass[k] + found.bonus[k] + found.language[k]), spans, path
        )


def _said(transcripts: Sequence[Transcript], entities: CompiledList | None) -> dict[str, tuple[NDArray[np.int32], ...]]:
    """The pronunciations of the entities in some transcripts, by what is written."""
    written = {(span.entity, span.phrase) for transcript in transcripts for span in transcript.spans}
    if entities is None or not written:
        return {}
    return {phrase: own for entity, phrase in written if (own := entities.pronunciations_of(entity))}


def _frames(
    log_probs: NDArray[np.float32],
    plain: NDArray[np.float32],
    sizes: NDArray[np.int64],
    labels: Sequence[NDArray[np.integer]] | None,
    phones: NDArray[np.float32] | None,
) -> BatchFrames:
    """The frames of a batch; without `labels`, greedy paths are those of the first best labels.

    `plain` is the very array `log_probs` if there is no bias.
    """
    batch, longest, width = log_probs.shape
    starts = np.arange(batch, dtype=np.int64) * longest
    bounds = np.stack([starts, starts + sizes], axis=1)
    own = log_probs.reshape(-1, width)
    own_labels, best = _best_of(own, bounds)
    own_plain, plain_labels, plain_best = own, own_labels, best
    if plain is not log_probs:
        own_plain = plain.reshape(-1, width)
        plain_labels, plain_best = _best_of(own_plain, bounds)
    if labels is not None:
        plain_labels = np.zeros(len(own), np.int32)
        for (start, end), path in zip(bounds.tolist(), labels, strict=True):
            plain_labels[start:end] = path[: end - start]
    all_phones = None if phones is None else phones.reshape(-1, phones.shape[2])
    return BatchFrames(own, best, own_plain, plain_best, plain_labels, all_phones, bounds)


def _best_of(log_probs: NDArray[np.float32], bounds: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The first best label of each frame [F, V] of the utterances, and its log-prob."""
    labels = best_labels(log_probs, bounds)
    best: NDArray[np.float32] = log_probs[np.arange(len(labels)), labels]
    for utterance, (start, end) in enumerate(bounds.tolist()):
        if not np.isfinite(best[start:end].sum(dtype=np.float64)):
            wrong = np.flatnonzero(~np.isfinite(best[start:end]))
            value = best[start + wrong[0]]
            what = "no finite log-prob" if value == -np.inf else f"a log-prob of {value}"
            raise ValueError(f"log_probs: utterance {utterance}, frame {wrong[0]} has {what}")
    return labels, best


def _jobs(numbers: Sequence[int], lists: Sequence[CompiledList | None], threads: int) -> list[list[int]]:
    """Utterances that share a list, in as many parts as there are threads."""
    by_list: dict[int, list[int]] = {}
    for number in numbers:
        by_list.setdefault(id(lists[number]), []).append(number)
    return [own[k::threads] for own in by_list.values() for k in range(min(threads, len(own)))]
