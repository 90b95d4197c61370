"""What decoding gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPOTTED, LOOKED_UP = "spotted", "looked up"


@dataclass(frozen=True)
class EntitySpan:
    """An entity in a transcript.

    Attributes:
        entity: the entity as the list's author wrote it.
        phrase: what stands in the transcript.
        start: first frame of its first token.
        end: last frame of its last token.
        probability: that it is spoken there; None with method ``adaptive``, which does not ask.
        technique: how it was found: ``spotted`` by its tokens, or ``looked up`` by its pronunciation.
        asked_for: the probability from which on it is written there, see `risk`; None with method ``adaptive``.
    """

    entity: str
    phrase: str
    start: int
    end: int
    probability: float | None
    technique: str
    asked_for: float | None = None


@dataclass(frozen=True)
class Transcript:
    """One hypothesis of an utterance.

    Attributes:
        text: what it says.
        tokens: its token ids.
        score: in nats, for the order of an n-best list: the log-odds of its entities against those of the best choice
            (method ``arcs``), or its log-probability and bonuses (``adaptive``); less its phonetic cost, where a phone head
            listens (see `rescoring`).
        spans: its entities, in order.
        path: [T] the label of each frame, blanks included.
    """

    text: str
    tokens: tuple[int, ...]
    score: float
    spans: tuple[EntitySpan, ...]
    path: NDArray[np.int32]


def collapsed(labels: NDArray[np.integer], blank: int) -> tuple[int, ...]:
    """The tokens that a label path writes."""
    changed = np.ones(len(labels), np.bool_)
    changed[1:] = labels[1:] != labels[:-1]
    return tuple(labels[changed & (labels != blank)].tolist())
