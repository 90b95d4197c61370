"""Phonetic rescoring: the hypotheses of an n-best list, by how well they fit what a phone head hears.

Each hypothesis is aligned with the phone log-probs, every word in its best pronunciation (`align_words`). Its phonetic cost
is the sum over its words of

    (nats that the word loses against a free phone loop) / (phones of the word),

and its score falls by the weight times what it costs more than the cheapest hypothesis. The first hypothesis is aligned as a
whole, the others where they differ from it, with one more word on each side. (The technique is that of Dingliwal
et al. 2022, arXiv 2210.09510; the formula, which they do not give, is ours.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.transcript import Transcript
from nemo_bias.pronunciation import Pronunciation
from nemo_bias.pronunciation.alignment import align_words

ROUNDING = 1e-4  # of probabilities

Said = list[tuple[int, ...]]  # as phone ids


class PhoneticRescorer:
    """Rescores n-best lists; one object serves any number of batches.

    Hypotheses with an entity that is less likely than is asked for stay behind the others.

    Args:
        pronounce: gives the pronunciations of each of some words, as `Pronouncer.words` does.
        weight: of a nat of phonetic cost in a hypothesis's score.
        threads: utterances rescored at a time; by default one a core.
    """

    def __init__(
        self,
        pronounce: Callable[[Sequence[str]], Sequence[Sequence[Pronunciation]]],
        weight: float,
        threads: int | None = None,
    ) -> None:
        self.weight = weight
        self.threads = threads or len(os.sched_getaffinity(0))
        self._pronounce = pronounce

    def rescore(
        self,
        nbest: Sequence[Sequence[Transcript]],
        phones: Sequence[NDArray[np.float32]],
        entities: Sequence[Mapping[str, Sequence[Iterable[int]]]] | None = None,
    ) -> list[list[Transcript]]:
        """Sorts the hypotheses of each utterance of a batch by their scores, less the phonetic cost.

        Args:
            nbest: [B] hypotheses of each utterance, distinct texts, at least one.
            phones: [B] log-probs [S, P + 1] of each utterance, natural logarithms, blank last.
            entities: [B] pronunciations, as phone ids, of phrases of the utterance's list, where they are not those of
                their words.

        Returns:
            [B] the same hypotheses with their new scores, best first. Those of an utterance that has too few sub-frames
            for one of them stay as they are.
        """
        own = entities if entities is not None else [{}] * len(nbest)
        units = [[_units(each, known) for each in some] for some, known in zip(nbest, own, strict=True)]
        words = sorted({unit for some in units if len(some) > 1 for each in some for unit in each if isinstance(unit, str)})
        readings = self._pronounce(words) if words else ()
        sounds = {word: [each.phones for each in of_word] for word, of_word in zip(words, readings, strict=True)}

        def one(b: int) -> list[Transcript]:
            if len(nbest[b]) < 2:
                return list(nbest[b])
            said = [[sounds[unit] if isinstance(unit, str) else unit for unit in each] for each in units[b]]
            return self._rescored(nbest[b], phonetic_costs(phones[b], said))

        if self.threads == 1 or len(nbest) == 1:
            return [one(b) for b in range(len(nbest))]
        with ThreadPoolExecutor(min(self.threads, max(1, len(nbest)))) as pool:
            return list(pool.map(one, range(len(nbest))))

    def _rescored(self, hypotheses: Sequence[Transcript], costs: NDArray[np.float64]) -> list[Transcript]:
        if not np.isfinite(costs).all():
            return list(hypotheses)
        falls = self.weight * (costs - costs.min())
        rescored = [replace(each, score=each.score - fall) for each, fall in zip(hypotheses, falls.tolist(), strict=True)]
        return sorted(rescored, key=lambda each: (_unlikely(each), -each.score))


def _unlikely(hypothesis: Transcript) -> bool:
    """Whether it has an entity that is less likely than is asked for."""
    known = [(span.probability, span.asked_for) for span in hypothesis.spans]
    return any(p is not None and asked is not None and p < asked - ROUNDING for p, asked in known)


def phonetic_costs(
    log_probs: NDArray[np.float32], hypotheses: Sequence[Sequence[Sequence[Sequence[int]]]]
) -> NDArray[np.float64]:
    """What hypotheses cost more than the first of them.

    Args:
        log_probs: [S, P + 1] natural logarithms, blank last.
        hypotheses: at least one; for each of their words its pronunciations, as phone ids. A word that has none may be
            anything, and costs nothing.

    Returns:
        [hypotheses] differences of the costs that the module defines; infinite for what has too few sub-frames, and NaN if
        that is true of the first hypothesis.
    """
    blank, first = log_probs.shape[1] - 1, hypotheses[0]
    alignment = align_words(log_probs, first, blank)
    if alignment is None:
        return np.full(len(hypotheses), np.nan)
    costs = np.zeros(len(hypotheses))
    for k, other in enumerate(hypotheses):
        begin = max(0, _shared(first, other) - 1)  # words at the start that are left out
        end = max(0, _shared(first[begin:][::-1], other[begin:][::-1]) - 1)  # and at the end
        low = int(alignment.end[begin - 1]) + 1 if begin else 0
        high = int(alignment.start[len(first) - end]) if end else len(log_probs)
        here = log_probs[low:high]
        costs[k] = _cost(here, other[begin : len(other) - end], blank) - _cost(here, first[begin : len(first) - end], blank)
    return costs


def _shared(first: Sequence[object], other: Sequence[object]) -> int:
    """How many items two sequences begin with alike."""
    return next((k for k, (a, b) in enumerate(zip(first, other, strict=False)) if a != b), min(len(first), len(other)))


def _cost(log_probs: NDArray[np.float32], words: Sequence[Sequence[Sequence[int]]], blank: int) -> float:
    if not words:
        return float((log_probs.max(axis=1) - log_probs[:, blank]).sum())
    alignment = align_words(log_probs, words, blank)
    if alignment is None:
        return float("inf")
    lengths = [len(word[variant]) if word else 1 for word, variant in zip(words, alignment.variant, strict=True)]
    return float((alignment.loss / lengths).sum())


def _units(transcript: Transcript, entities: Mapping[str, Sequence[Iterable[int]]]) -> list[str | Said]:
    """The words of a transcript; in place of entities that have pronunciations of their own, these."""
    words, units, at = transcript.text.split(), list[str | Said](), 0
    for span in transcript.spans:
        phrase = span.phrase.split()
        places = [k for k in range(at, len(words) - len(phrase) + 1) if words[k : k + len(phrase)] == phrase]
        if span.phrase in entities and places:
            units += [*words[at : places[0]], [tuple(map(int, phones)) for phones in entities[span.phrase]]]
            at = places[0] + len(phrase)
    return units + words[at:]
