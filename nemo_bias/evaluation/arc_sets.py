"""Arcs to fit and check the weights of evidence with: what speaks for them, and whether they are right.

A *regime* is a kind of log-probs: those of a strong recogniser, of a weak one, of one with an adapter. An *experiment* is
one source of utterances with one list. Each regime and experiment make one *set* of arcs. Nothing here imports NeMo; regimes
of checkpoints are in `nemo_bias.evaluation.regimes`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.arcs import ArcEvidence
from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.probability import EvidenceWeights, log_odds_of, probabilities
from nemo_bias.decoder.risk import risks_of
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.evaluation.comparison import ExperimentList, LogProbs, Utterances, experiment_list
from nemo_bias.evaluation.metrics import BiasingScore
from nemo_bias.evaluation.occurrences import PhraseIndex, Words, align, hits, right_words
from nemo_bias.evaluation.recogniser import greedy_texts

PLAUSIBLE = 0.02  # probability from which on it is asked of an arc what it would lose; below it hardly any is taken


@dataclass(frozen=True)
class Experiment:
    """Utterances of one source, and the list that they are decoded with.

    Attributes:
        source: the folder that their audio paths start with.
        items: lines of the manifest with `text`, `duration` (seconds) and `entities`.
        numbers: their places in the manifest, from 0.
        listed: the list.
    """

    source: str
    items: Sequence[Mapping[str, Any]]
    numbers: Sequence[int]
    listed: ExperimentList


class Outputs(NamedTuple):
    """What a recogniser makes of the utterances of an experiment.

    Attributes:
        log_probs: [T, V] of each; with an adapter, biased by the list.
        plain: [T, V] without bias; None without an adapter.
        phones: [T * sub_frames, phones + 1] of each; None without a phone head.
    """

    log_probs: Sequence[LogProbs]
    plain: Sequence[LogProbs] | None = None
    phones: Sequence[LogProbs] | None = None

    def of(self, utterance: int) -> tuple[LogProbs, LogProbs | None, LogProbs | None]:
        """Those of one utterance."""
        return (
            self.log_probs[utterance],
            None if self.plain is None else self.plain[utterance],
            None if self.phones is None else self.phones[utterance],
        )


class Regime(ABC):
    """A kind of log-probs.

    Attributes:
        name: what tables call it.
        weight: how much its sets count in the fit; 1 is usual.
        vocabulary: the recogniser's tokens.
    """

    name: str
    weight: float
    vocabulary: Vocabulary

    @abstractmethod
    def outputs(self, experiment: Experiment) -> Outputs:
        """What the recogniser makes of each utterance."""


class FixedRegime(Regime):
    """Log-probs that do not depend on the list.

    Args:
        name: what tables call it.
        weight: how much its sets count in the fit.
        vocabulary: the recogniser's tokens.
        log_probs: [T, V] of each line of the manifest.
    """

    def __init__(self, name: str, weight: float, vocabulary: Vocabulary, log_probs: Sequence[LogProbs]) -> None:
        self.name, self.weight, self.vocabulary = name, weight, vocabulary
        self._log_probs = log_probs

    def outputs(self, experiment: Experiment) -> Outputs:
        """The log-probs of the experiment's utterances."""
        return Outputs([self._log_probs[k] for k in experiment.numbers])


@dataclass(frozen=True)
class ArcSet:
    """The n arcs that may be taken in the U utterances of an experiment, in the log-probs of a regime.

    Attributes:
        regime: its name.
        source: the utterances' source.
        listed: the list's name.
        weight: the regime's.
        adapter: whether an adapter biased the log-probs.
        phones: whether a phone head listened.
        sounds: whether with pronunciations.
        language_model: whether a language model chose what is written.
        terms: [n, terms] in the order of `probability.TERMS`, with word frequencies if there are any.
        looked_up: [n] whether the arc was looked up, not spotted.
        right: [n] whether the arc, alone in the greedy text, makes its phrase a hit.
        stakes: [n, STAKES] what tells the risk.
        replaces: [n] whether other words stand there than the arc writes.
        plausible: [n] whether its probability was at least `PLAUSIBLE` when it was collected.
        loses: [n] whether the arc, alone in the greedy text, makes right words wrong; False where it is not plausible.
        utterance: [n] in which each arc was found, from 0, rising.
        certainty: [U] of each utterance.
        shares: [U] how much each utterance counts, see `shares_of`.
    """

    regime: str
    source: str
    listed: str
    weight: float
    adapter: bool
    phones: bool
    sounds: bool
    language_model: bool
    terms: NDArray[np.float32]
    looked_up: NDArray[np.bool_]
    right: NDArray[np.bool_]
    stakes: NDArray[np.float32]
    replaces: NDArray[np.bool_]
    plausible: NDArray[np.bool_]
    loses: NDArray[np.bool_]
    utterance: NDArray[np.int64]
    certainty: NDArray[np.float64]
    shares: NDArray[np.float64]

    @property
    def name(self) -> str:
        """What error messages call it."""
        return f"{self.regime}, {self.source}, {self.listed} distractors"

    def log_odds(self, weights: Sequence[EvidenceWeights]) -> NDArray[np.float64]:
        """[n] of the arcs, as the decoder computes them; utterance u is weighed with weights u % len(weights)."""
        log_odds = np.zeros(len(self.right))
        for k, own in enumerate(weights):
            rows = self.utterance % len(weights) == k
            context = self.adapter, self.phones, self.language_model
            own_weights = own.of_arcs(self.certainty[self.utterance[rows]], self.looked_up[rows], *context)
            log_odds[rows] = log_odds_of(self.terms[rows], own_weights)
        return log_odds

    def risks(self, weights: Sequence[EvidenceWeights]) -> NDArray[np.float32]:
        """[n] of the arcs that replace other words, as the decoder computes them, with weights as for `log_odds`."""
        return risks_of(self.stakes, np.stack([each.risk for each in weights])[self.utterance % len(weights)])

    @property
    def may_lose(self) -> NDArray[np.bool_]:
        """[n] whether the arc is one that the risk is asked of: it is wrong, plausible, and replaces other words."""
        return ~self.right & self.plausible & self.replaces


def experiments_of(
    items: Sequence[Mapping[str, Any]],
    sources: Mapping[str, Sequence[int]],
    distractors: Sequence[str],
    sizes: Sequence[int],
    near: Mapping[str, Sequence[str]] | None = None,
    most_utterances: int | None = None,
) -> list[Experiment]:
    """One experiment for each source and list.

    Args:
        items: lines of a manifest with `audio_filepath`, `text`, `duration` and `entities`.
        sources: the places of the items of each source, as `by_source` gives them.
        distractors: phrases in a fixed order.
        sizes: a list for each: every entity of the source, and so many of the distractors.
        near: by source, the phrases of one more list that sound near what is said; None: there is no such list.
        most_utterances: of each source; None: all.

    Raises:
        ValueError: there are not enough distractors.
    """
    experiments = []
    for source, places in sources.items():
        numbers = list(places[:most_utterances])
        own = [items[k] for k in numbers]
        lists = [experiment_list(own, distractors, size) for size in sizes]
        if near is not None:
            lists.append(experiment_list(own, near[source]))
        experiments += [Experiment(source, own, numbers, listed) for listed in lists]
    return experiments


def collect_arcs(regime: Regime, experiment: Experiment, options: DecodingOptions) -> ArcSet:
    """Finds the arcs that the decoder would weigh, and whether they are right.

    Args:
        regime: gives the log-probs.
        experiment: the utterances and the list.
        options: how to decode.
    """
    search = BiasedBeamSearch(regime.vocabulary, options, threads=1)
    phrases = experiment.listed.phrases
    entities = search.compile(phrases)
    index = PhraseIndex(tuple(dict.fromkeys(entities.written_as)))
    outputs = regime.outputs(experiment)
    all_evidence, right, loses = [], [], []
    for k, item in enumerate(experiment.items):
        log_probs, plain, phones = outputs.of(k)
        evidence = search.evidence(log_probs, entities, plain, phones)
        reference = tuple(item["text"].split())
        all_evidence.append(evidence)
        right.append(right_arcs(evidence, reference, index))
        loses.append(losing_arcs(evidence, reference))
    return ArcSet(
        regime.name,
        experiment.source,
        experiment.listed.name,
        regime.weight,
        adapter=outputs.plain is not None,
        phones=outputs.phones is not None and options.pronunciation_source is not None,
        sounds=options.pronunciation_source is not None,
        language_model=options.lm_file is not None,
        terms=np.concatenate([each.found.terms for each in all_evidence]),
        looked_up=np.concatenate([each.found.looked_up for each in all_evidence]),
        right=np.concatenate(right),
        stakes=np.concatenate([each.found.stakes for each in all_evidence]),
        replaces=np.concatenate([each.found.replaces for each in all_evidence]),
        plausible=np.concatenate([_plausible(each) for each in all_evidence]),
        loses=np.concatenate(loses),
        utterance=np.repeat(np.arange(len(all_evidence)), [len(each.found.phrase) for each in all_evidence]),
        certainty=np.array([each.found.certainty for each in all_evidence]),
        shares=shares_of([item["entities"] for item in experiment.items]),
    )


def shares_of(entities: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """How much utterances count, so that those that say the same entities count as one.

    Args:
        entities: [U] of each utterance.

    Returns:
        [U] one by the number of utterances in which its entities are said, on average. Those without entities count as much
        as others do on average, so that entities are as frequent as they were.
    """
    said = Counter(entity for own in entities for entity in set(own))
    shares = np.array([len(set(own)) / sum(said[entity] for entity in set(own)) if own else np.nan for own in entities])
    shares[np.isnan(shares)] = np.nanmean(shares) if said else 1.0
    return shares


def right_arcs(evidence: ArcEvidence, reference: Words, index: PhraseIndex) -> NDArray[np.bool_]:
    """[n] whether each arc of an utterance, alone in the greedy text, makes what it writes a hit.

    An arc that only writes again what greedy decoding writes elsewhere is not right.

    Args:
        evidence: on the arcs.
        reference: what was said.
        index: of all that the arcs of the list may write.
    """
    right = np.zeros(len(evidence.found.phrase), np.bool_)
    said = index.occurrences(reference)
    for k, shown in enumerate(evidence.found.shown):
        words = tuple(shown.split())
        if any(occurrence.words == words for occurrence in said):
            text = tuple(evidence.text_with(k).split())
            recognised = index.occurrences(text)
            found = hits(said, recognised, align(reference, text), reference, text)
            hit = sum(occurrence.words == words for occurrence in found)
            right[k] = 0 < hit == sum(occurrence.words == words for occurrence in recognised)
    return right


def losing_arcs(evidence: ArcEvidence, reference: Words) -> NDArray[np.bool_]:
    """[n] whether each plausible arc of an utterance, alone in the greedy text, makes words wrong that are right there.

    Args:
        evidence: on the arcs.
        reference: what was said.
    """
    loses = np.zeros(len(evidence.found.phrase), np.bool_)
    greedy = tuple(evidence.greedy_text.split())
    right = right_words(reference, greedy, align(reference, greedy)).keys()
    for k in np.flatnonzero(_plausible(evidence) & evidence.found.replaces).tolist():
        text = tuple(evidence.text_with(k).split())
        loses[k] = bool(right - right_words(reference, text, align(reference, text)).keys())
    return loses


def _plausible(evidence: ArcEvidence) -> NDArray[np.bool_]:
    return probabilities(evidence.found.log_odds) >= PLAUSIBLE


def decoding_score(
    regime: Regime, experiment: Experiment, options: DecodingOptions, evidence_files: Sequence[str | Path]
) -> BiasingScore:
    """Decodes an experiment, utterance u with the weights of file u % len(evidence_files)."""
    own_options = [replace(options, evidence_file=str(file)) for file in evidence_files]
    searches = [BiasedBeamSearch(regime.vocabulary, each, threads=1) for each in own_options]
    entities = searches[0].compile(experiment.listed.phrases)
    outputs = regime.outputs(experiment)
    texts = []
    for k in range(len(experiment.items)):
        log_probs, plain, phones = (None if each is None else each[None] for each in outputs.of(k))
        assert log_probs is not None
        ((transcript,),) = searches[k % len(searches)].decode(log_probs, lists=entities, plain=plain, phones=phones)
        texts.append(transcript.text)
    unbiased = outputs.log_probs if outputs.plain is None else outputs.plain
    if options.lm_file is None:
        baseline = greedy_texts(unbiased, regime.vocabulary)
    else:
        baseline = [searches[0].decode(each[None])[0][0].text for each in unbiased]
    return Utterances(experiment.items, outputs.log_probs, baseline).score(texts, experiment.listed.phrases)
