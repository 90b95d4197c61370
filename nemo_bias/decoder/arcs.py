"""Method ``arcs``: the greedy text of an utterance, with the entities in it that are likely enough."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.candidates import CandidateFinder, Candidates
from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.entity_list import CompiledList
from nemo_bias.decoder.frames import BatchFrames
from nemo_bias.decoder.probability import UNINTELLIGIBLE, probability_of
from nemo_bias.decoder.rewriting import Rewriter
from nemo_bias.decoder.risk import log_odds_asked_for
from nemo_bias.decoder.selection import choose
from nemo_bias.decoder.transcript import LOOKED_UP, SPOTTED, EntitySpan, Transcript, collapsed
from nemo_bias.decoder.vocabulary import Boundaries, Vocabulary

LEAST_ALTERNATIVE = -3.9  # log-odds of an entity that the n-best list still tries, a probability of 0.02
DECISIVE = 1e6  # a gain that no other entities outweigh
FIRST_UTTERANCES = 20  # after so many it is told if the recogniser understands hardly any of them
LOG = logging.getLogger(__name__)


class ArcEvidence(NamedTuple):
    """What speaks for and against the arcs of an utterance that may be taken.

    Attributes:
        found: the arcs.
        greedy_text: what is written without entities.
        text_with: the text of the utterance with one arc alone in it, given by its position.
    """

    found: Candidates
    greedy_text: str
    text_with: Callable[[int], str]


class ArcDecoder:
    """Chooses among the candidates of an utterance and writes them.

    Args:
        finder: finds and weighs them.
        vocabulary: the model's tokens.
        options: how to decode.
    """

    def __init__(self, finder: CandidateFinder, vocabulary: Vocabulary, options: DecodingOptions) -> None:
        self._finder = finder
        self._vocabulary = vocabulary
        self._rewriter = Rewriter(vocabulary, finder.frequencies)
        self._least_log_odds = float(log_odds_asked_for(options.min_probability, np.zeros(1, np.float32))[0])
        self._lock = threading.Lock()
        self._decoded = self._unintelligible = 0

    def decode(self, frames: BatchFrames, entities: CompiledList | None, nbest: int) -> list[list[Transcript]]:
        """The greedy text of each utterance with the entities in it, and at most ``nbest - 1`` alternatives."""
        if entities is None or not len(entities):
            return [[self._greedy(frames.utterance(u).labels)] for u in range(len(frames.bounds))]
        worth_keeping = min(self._least_log_odds, LEAST_ALTERNATIVE if nbest > 1 else np.inf) - 1e-3
        return [self._chosen(found, entities, nbest) for found in self._finder.find(frames, entities, worth_keeping)]

    def _chosen(self, found: Candidates, entities: CompiledList, nbest: int) -> list[Transcript]:
        """The transcripts of an utterance with the best candidates, best first."""
        self._note_certainty(found)
        if not len(found.shown):
            return [self._greedy(found.frames.labels)]
        chosen = choose(found.slots, found.gain, self._vocabulary.boundaries)
        transcripts = [self._transcript(found, chosen, entities, 0.0)]
        if nbest > 1:
            for loss, other in _alternatives(found, chosen, self._vocabulary.boundaries):
                transcript = self._transcript(found, other, entities, -loss)
                if transcript.text not in {t.text for t in transcripts}:
                    transcripts.append(transcript)
                if len(transcripts) == nbest:
                    break
        return transcripts

    def _note_certainty(self, found: Candidates) -> None:
        """Tells, once, if most of the first utterances are unintelligible to the recogniser; empty ones do not count."""
        if not len(found.frames.labels):
            return
        with self._lock:
            self._decoded += 1
            self._unintelligible += found.certainty < UNINTELLIGIBLE
            decoded, unintelligible = self._decoded, self._unintelligible
        if decoded == FIRST_UTTERANCES and unintelligible > FIRST_UTTERANCES / 2:
            LOG.warning(
                f"nemo_bias: the list has no effect in {unintelligible} of the first {FIRST_UTTERANCES} utterances, "
                f"as the recogniser is hardly sure of a word in them (certainty below {UNINTELLIGIBLE:g}); is it of another "
                "language, or the audio broken?"
            )

    def evidence(self, frames: BatchFrames, entities: CompiledList) -> ArcEvidence:
        """What speaks for and against all arcs that may be taken, of the only utterance."""
        (found,) = self._finder.find(frames, entities, -np.inf)
        greedy_text = self._greedy(found.frames.labels).text
        return ArcEvidence(found, greedy_text, lambda k: self._transcript(found, np.array([k]), entities, 0.0).text)

    def _greedy(self, labels: NDArray[np.int32]) -> Transcript:
        tokens = collapsed(labels, self._vocabulary.blank)
        return Transcript(self._vocabulary.text(tokens), tokens, 0.0, (), labels)

    def _transcript(self, found: Candidates, chosen: NDArray[np.int64], entities: CompiledList, score: float) -> Transcript:
        """The transcript in which some candidates, given by their positions, are written."""
        frames = found.frames
        path = frames.labels
        changes = chosen[~found.written[chosen]]
        if len(changes):
            path = self._rewriter(frames, found.words, found.arcs, found.places, changes)
        spans = []
        for k in chosen:
            name = entities.names[found.phrase[k]]
            start, end = int(found.slots.start[k]), int(found.slots.end[k])
            probability = probability_of(float(found.log_odds[k]))
            technique = LOOKED_UP if found.looked_up[k] else SPOTTED
            asked_for = probability_of(float(found.asked_for[k]))
            spans.append(EntitySpan(name, found.shown[k], start, end, probability, technique, asked_for))
        tokens = collapsed(path, self._vocabulary.blank)
        return Transcript(self._vocabulary.text(tokens), tokens, score, tuple(spans), path)


def _alternatives(
    found: Candidates, chosen: NDArray[np.int64], boundaries: Boundaries
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
