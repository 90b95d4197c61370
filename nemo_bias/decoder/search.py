"""Biased decoding of a batch of log-probs: the decoder's public face."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numba
import numpy as np
from numpy.typing import NDArray

from nemo_bias.decoder.alignment import align, token_frames
from nemo_bias.decoder.automaton import (
    ENTITY,
    FIRST_EDGE,
    NO_ENTITY,
    TARGET,
    EntityAutomaton,
    compile_automaton,
    join_automata,
)
from nemo_bias.decoder.config import BeamOptions
from nemo_bias.decoder.frames import near_tokens
from nemo_bias.decoder.prefix_search import Found, SearchSettings, prefix_search
from nemo_bias.decoder.spotter import ArcScoring, EntityArcs, find_arcs
from nemo_bias.decoder.vocabulary import Vocabulary

METHODS = ("arcs", "adaptive")


@dataclass
class BeamSearchConfig(BeamOptions):
    """How to search.

    Attributes:
        method: ``arcs`` finds entities over the whole utterance and lets the beam choose among them; ``adaptive`` boosts
            the tokens of entities inside the beam (adaptive subword boosting).
        arcs: what an entity arc is worth.
        boost_floor: adaptive boosting: the part of `boost` that a token gets even if it is the frame's best; one that
            lies ``gap`` nats below it gets ``min(boost, boost_floor * boost + gap)``. The formula is ours.
    """

    method: str = "arcs"
    arcs: ArcScoring = field(default_factory=ArcScoring)
    boost_floor: float = 0.5

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}; choose one of {', '.join(METHODS)}")
        for name in ("beam_size", "most_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("token_margin", "boost", "boost_floor"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if not self.arcs.weight >= 0:
            raise ValueError(f"weight is {self.arcs.weight}; it must not be negative")


@dataclass(frozen=True)
class CompiledList:
    """Phrases that the decoder can look for.

    Attributes:
        phrases: what is written if an entity is recognised.
        names: the entities as the list's author wrote them.
        weights: [phrases] each multiplies what a match of the phrase is worth.
        automaton: the phrases in a model's tokens.
    """

    phrases: tuple[str, ...]
    names: tuple[str, ...]
    weights: NDArray[np.float32]
    automaton: EntityAutomaton

    def __len__(self) -> int:
        return len(self.phrases)

    def joined(self, other: CompiledList) -> CompiledList:
        """Both lists as one. Where a phrase is in both, its better weight counts."""
        if not len(self) or not len(other):
            return self if len(self) else other
        return CompiledList(
            self.phrases + other.phrases,
            self.names + other.names,
            np.concatenate([self.weights, other.weights]),
            join_automata(self.automaton, other.automaton),
        )

    @cached_property
    def node_weights(self) -> NDArray[np.float32]:
        """[nodes] the highest weight of an entity at the node or below it."""
        return _node_weights(self.automaton, self.weights)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class EntitySpan:
    """An entity in a transcript.

    Attributes:
        entity: the entity as the list's author wrote it.
        phrase: what stands in the transcript.
        start: first frame of its first token.
        end: last frame of its last token.
        bonus: what it added to the transcript's score, in nats.
    """

    entity: str
    phrase: str
    start: int
    end: int
    bonus: float


@dataclass(frozen=True)
class Transcript:
    """One hypothesis of an utterance.

    Attributes:
        text: what it says.
        tokens: its token ids.
        log_prob: log-probability of the tokens given the audio, without bonuses, in nats.
        spans: its entities, in order.
        path: [T] the label of each frame, blanks included; the most probable path that writes the tokens.
    """

    text: str
    tokens: tuple[int, ...]
    log_prob: float
    spans: tuple[EntitySpan, ...]
    path: NDArray[np.int32]

    @property
    def score(self) -> float:
        """Log-probability plus the bonuses of the entities."""
        return self.log_prob + sum(s.bonus for s in self.spans)


class BiasedBeamSearch:
    """Decodes CTC log-probs with entity lists; one object serves any number of batches and lists.

    Args:
        vocabulary: the model's tokens.
        config: how to search.
        threads: utterances decoded at a time; by default one a core.
    """

    def __init__(self, vocabulary: Vocabulary, config: BeamSearchConfig | None = None, threads: int | None = None) -> None:
        self.vocabulary = vocabulary
        self.config = config or BeamSearchConfig()
        self.threads = threads or len(os.sched_getaffinity(0))
        boost = self.config.boost if self.config.method == "adaptive" else 0.0
        self._settings = SearchSettings(
            vocabulary.blank,
            vocabulary.starts_word,
            vocabulary.delimited,
            self.config.beam_size,
            self.config.token_margin,
            boost,
            self.config.boost_floor,
        )

    def compile(
        self, phrases: Sequence[str], weights: Sequence[float] | None = None, names: Sequence[str] | None = None
    ) -> CompiledList:
        """Compiles distinct phrases, written in the model's characters.

        Args:
            phrases: what the decoder shall recognise.
            weights: [phrases] each multiplies what a match of the phrase is worth; 1 by default.
            names: [phrases] the entities as their author wrote them; by default the phrases.

        Raises:
            ValueError: a phrase is empty or occurs twice, or the numbers differ.
        """
        automaton = compile_automaton(phrases, self.vocabulary)
        array = np.ones(len(phrases), np.float32) if weights is None else np.asarray(weights, np.float32)
        shown = tuple(phrases if names is None else names)
        if array.shape != (len(phrases),) or len(shown) != len(phrases):
            raise ValueError(f"{len(phrases)} phrases, but {array.size} weights and {len(shown)} names")
        return CompiledList(tuple(phrases), shown, array, automaton)

    @cached_property
    def _nothing(self) -> CompiledList:
        return self.compile([])

    def decode(
        self,
        log_probs: NDArray[np.float32],
        lengths: Sequence[int] | NDArray[np.integer] | None = None,
        lists: CompiledList | Sequence[CompiledList | None] | None = None,
        nbest: int = 1,
    ) -> list[list[Transcript]]:
        """Decodes a batch.

        Args:
            log_probs: [B, T, V] natural logarithms.
            lengths: [B] frames of each utterance; all T by default.
            lists: entities, for all utterances or one entry an utterance; None for plain beam search.
            nbest: hypotheses wanted for each utterance.

        Returns:
            For each utterance, at most `nbest` transcripts, best first.

        Raises:
            ValueError: a shape does not fit, or a frame has NaN, +inf or no finite log-prob.
        """
        log_probs = np.asarray(log_probs)
        if log_probs.ndim != 3 or log_probs.shape[2] != self.vocabulary.size:
            raise ValueError(f"log_probs has shape {log_probs.shape}; expected [B, T, {self.vocabulary.size}]")
        if log_probs.dtype != np.float32:
            log_probs = log_probs.astype(np.float32)
        batch, frames = log_probs.shape[:2]
        sizes = np.full(batch, frames) if lengths is None else np.asarray(lengths).reshape(-1).astype(np.int64)
        if len(sizes) != batch or (batch and (sizes.min() < 0 or sizes.max() > frames)):
            raise ValueError(f"lengths is {sizes.tolist()}; expected {batch} values from 0 to {frames}")
        each = list(lists) if isinstance(lists, Sequence) else [lists] * batch
        if len(each) != batch:
            raise ValueError(f"{len(each)} entity lists for {batch} utterances")
        best = log_probs.max(axis=2) if frames else np.zeros((batch, 0), np.float32)
        for b, size in enumerate(sizes):
            wrong = np.flatnonzero(~np.isfinite(best[b, :size]))
            if len(wrong):
                value = best[b, wrong[0]]
                what = "no finite log-prob" if value == -np.inf else f"a log-prob of {value}"
                raise ValueError(f"log_probs: utterance {b}, frame {wrong[0]} has {what}")

        def one(b: int) -> list[Transcript]:
            return self._decode_one(log_probs[b, : sizes[b]], best[b, : sizes[b]], each[b] or self._nothing, nbest)

        if self.threads == 1 or batch == 1:
            return [one(b) for b in range(batch)]
        with ThreadPoolExecutor(min(self.threads, batch)) as pool:
            return list(pool.map(one, range(batch)))

    def _decode_one(
        self,
        log_probs: NDArray[np.float32],
        best: NDArray[np.float32],
        entities: CompiledList,
        nbest: int,
    ) -> list[Transcript]:
        spots = self.config.method == "arcs" and len(entities) > 0
        blank, automaton = self.vocabulary.blank, entities.automaton
        margin = self.config.token_margin + self._settings.boost
        near = near_tokens(log_probs, best, blank, margin, self.config.most_tokens)
        arcs = _NO_ARCS
        if spots:
            arcs = find_arcs(log_probs, best, near, blank, automaton, entities.weights, self.config.arcs)
        found = prefix_search(
            log_probs, best, near, arcs, self._settings, automaton, entities.weights, entities.node_weights
        )
        return [self._transcript(log_probs, found, k, entities) for k in range(min(nbest, len(found.mass)))]

    def _transcript(self, log_probs: NDArray[np.float32], found: Found, k: int, entities: CompiledList) -> Transcript:
        tokens = found.tokens[found.first_token[k] : found.first_token[k + 1]]
        path = align(log_probs, tokens, self.vocabulary.blank)
        starts, ends = token_frames(path, len(tokens), self.vocabulary.blank)
        spans = tuple(
            EntitySpan(
                entities.names[name],
                entities.phrases[name],
                int(starts[first]),
                int(ends[last - 1]),
                float(found.span_bonus[s]),
            )
            for s, (name, first, last) in enumerate(
                found.spans[found.first_span[k] : found.first_span[k + 1]].tolist(), start=int(found.first_span[k])
            )
        )
        ids = tuple(tokens.tolist())
        return Transcript(self.vocabulary.text(ids), ids, float(found.mass[k]), spans, path)


_EMPTY = np.zeros(0, np.int32)
_NO_ARCS = EntityArcs(
    _EMPTY, _EMPTY, _EMPTY, np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros(1, np.int32), _EMPTY
)


@numba.njit(cache=True, nogil=True)
def _node_weights(automaton, weights):  # type: ignore[no-untyped-def]
    nodes, edges = automaton.nodes, automaton.edges
    highest = np.zeros(len(nodes) - 1, np.float32)
    for node in range(len(highest) - 1, -1, -1):  # edges lead to higher nodes
        if nodes[node, ENTITY] != NO_ENTITY:
            highest[node] = weights[nodes[node, ENTITY]]
        for edge in range(nodes[node, FIRST_EDGE], nodes[node + 1, FIRST_EDGE]):
            highest[node] = max(highest[node], highest[edges[edge, TARGET]])
    return highest
